package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// postfix is a private Postfix with a Maildir of its own.
type postfix struct {
	dir    string
	port   int
	master *exec.Cmd
}

// The configuration: everything that is not needed to take mail and write it to a
// Maildir is left at Postfix's defaults.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.y.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = y.test
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = static:b/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
message_size_limit = 0
smtpd_client_connection_count_limit = 0
maillog_file = %[1]s/data/maillog
maillog_file_prefixes = %[1]s
alias_maps =
%[2]s
`

const masterCF = `127.0.0.1:%d inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
%s
`

// startPostfix starts Postfix as it delivers in clear.
func (b *bench) startPostfix(ctx context.Context) (served, error) {
	return b.newPostfix(ctx, "", "")
}

// newPostfix starts a Postfix with more lines in its two files.
func (b *bench) newPostfix(ctx context.Context, main, master string) (*postfix, error) {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return nil, fmt.Errorf("install postfix: %w", err)
	}
	drop, err := user.LookupGroup("postdrop")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(drop.Gid)
	dir, err := os.MkdirTemp(b.dir, "postfix-")
	if err != nil {
		return nil, err
	}
	p := &postfix{dir: dir}
	if p.port, err = freePort(); err != nil {
		return nil, err
	}
	type made struct {
		path     string
		mode     os.FileMode
		uid, gid int
	}
	dirs := []made{{"", 0o755, 0, 0}, {"conf", 0o755, 0, 0}, {"queue", 0o755, 0, 0}, {"data", 0o755, uid, 0}, {"mail", 0o755, 65534, 65534},
		{"queue/pid", 0o755, 0, 0}, {"queue/public", 0o710, uid, gid}, {"queue/maildrop", 0o730, uid, gid}}
	for _, q := range []string{"incoming", "active", "deferred", "defer", "bounce", "trace", "hold", "flush", "saved", "corrupt", "private"} {
		dirs = append(dirs, made{"queue/" + q, 0o700, uid, 0})
	}
	for _, d := range dirs {
		path := filepath.Join(dir, d.path)
		if err := errors.Join(os.MkdirAll(path, d.mode), os.Chmod(path, d.mode), os.Chown(path, d.uid, d.gid)); err != nil {
			return nil, err
		}
	}
	conf := filepath.Join(dir, "conf")
	err = errors.Join(
		os.WriteFile(filepath.Join(conf, "main.cf"), fmt.Appendf(nil, mainCF, dir, main), 0o644),
		os.WriteFile(filepath.Join(conf, "master.cf"), fmt.Appendf(nil, masterCF, p.port, master), 0o644))
	if err != nil {
		return nil, err
	}
	p.master = exec.Command("/usr/lib/postfix/sbin/master", "-c", conf, "-d")
	p.master.Env = append(os.Environ(), "MAIL_CONFIG="+conf)
	if err := p.master.Start(); err != nil {
		return nil, err
	}
	return p, waitPort(ctx, p.addr())
}

func (p *postfix) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }
func (p *postfix) rcpt() string { return "b@y.test" }

func (p *postfix) stored(context.Context) (int, error) {
	d, err := os.Open(filepath.Join(p.dir, "mail", "b", "new"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return len(names), err
}

func (p *postfix) cpu() (time.Duration, error) { return cpuOfTree(p.master.Process.Pid) }

func (p *postfix) stop() error {
	err := p.master.Process.Signal(os.Interrupt)
	_ = p.master.Wait() // it ends by the signal, which is no error here
	return errors.Join(err, os.RemoveAll(p.dir))
}
