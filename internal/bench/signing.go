package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// openDKIM is the configuration of opendkim: it signs what owner's domain sends, with an
// RSA key of 2,048 bits as Postern's.
const openDKIM = `Mode s
Domain %s
Selector bench
KeyFile %s
Canonicalization relaxed/relaxed
OversignHeaders From
Socket inet:%d@127.0.0.1
RequireSafeKeys no
Syslog no
`

// signingPostfix is a Postfix that relays, with a milter that signs.
type signingPostfix struct {
	*postfix
	milter *exec.Cmd
}

// newSigningPostfix starts both.
func (b *bench) newSigningPostfix(ctx context.Context, main string) (*signingPostfix, error) {
	dir, err := os.MkdirTemp(b.dir, "opendkim-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	key, conf := filepath.Join(dir, "key.pem"), filepath.Join(dir, "opendkim.conf")
	domain := owner[strings.IndexByte(owner, '@')+1:]
	if err := errors.Join(
		exec.CommandContext(ctx, "openssl", "genrsa", "-out", key, "2048").Run(),
		os.WriteFile(conf, fmt.Appendf(nil, openDKIM, domain, key, port), 0o600)); err != nil {
		return nil, fmt.Errorf("set opendkim up: %w", err)
	}
	s := &signingPostfix{milter: exec.Command("opendkim", "-f", "-x", conf)}
	s.milter.Stderr = os.Stderr
	if err := s.milter.Start(); err != nil {
		return nil, err
	}
	if err := waitPort(ctx, net.JoinHostPort("127.0.0.1", fmt.Sprint(port))); err != nil {
		return nil, errors.Join(err, s.stopMilter())
	}
	s.postfix, err = b.newPostfix(fmt.Sprintf("%ssmtpd_milters = inet:127.0.0.1:%d\nmilter_default_action = tempfail\n", main, port), "")
	if err != nil {
		return nil, errors.Join(err, s.stopMilter())
	}
	return s, nil
}

func (s *signingPostfix) cpu() (time.Duration, error) {
	own, err := s.postfix.cpu()
	if err != nil {
		return 0, err
	}
	milter, err := cpuOfTree(s.milter.Process.Pid)
	return own + milter, err
}

func (s *signingPostfix) stop() error { return errors.Join(s.postfix.stop(), s.stopMilter()) }

func (s *signingPostfix) stopMilter() error {
	err := s.milter.Process.Signal(syscall.SIGTERM)
	_ = s.milter.Wait() // it ends by the signal, which is no error here
	return err
}
