package demo

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/internal/admin"
	"postern/internal/config"
)

func TestRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Run(t.Context(), &out, true); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	last := regexp.MustCompile(`(?m)^demo: (\d+) of (\d+) checks passed\n\z`).FindStringSubmatch(out.String())
	if last == nil || last[1] != last[2] {
		t.Fatalf("the end:\n%s", out.String())
	}
	if n := strings.Count(out.String(), "\n   ok "); fmt.Sprint(n) != last[1] || strings.Contains(out.String(), "FAILED") {
		t.Errorf("%d checks are printed as passed:\n%s", n, out.String())
	}
	for _, want := range []string{"3 OpenPGP messages", "exactly the", "verified: arrived in clear", "INBOX has 3 messages", `subject "[...]"`,
		"1 sealed, 1 insecure (carol@elsewhere.test)", "550 5.7.5 not sent to anybody, because of dave@partner.test (mail to partners goes",
		"451 4.7.1 greylisted", "marked: Postern-Delivery: insecure; reason=no-certificate", `bob's device opens it: subject "Where the owls`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
}

// Each promise that is not kept is seen: one check fails and the demo with it.
func TestRunFailsWhenACheckFails(t *testing.T) {
	t.Parallel()
	const started, sent, searched, fetched, explained, submitted, delivered = 1, 2, 3, 4, 6, 7, 9
	for name, row := range map[string]struct {
		after int // the step of the story
		spoil func(*demo) error
		said  string
	}{
		"clear text on the server's disk": {sent, func(d *demo) error {
			return os.WriteFile(filepath.Join(d.serverDir(), "data", "log"), []byte("xx"+canary+"yy"), 0o600)
		}, "FAILED the words"},
		"the same in base64": {sent, func(d *demo) error {
			text := base64.StdEncoding.EncodeToString([]byte("a" + canary + "b"))
			return os.WriteFile(filepath.Join(d.serverDir(), "data", "log"), []byte(text), 0o600)
		}, "FAILED the words"},
		"a message too many": {searched, func(d *demo) error {
			c, err := smtp.Dial(d.running.Addrs.MX.String())
			if err != nil {
				return err
			}
			defer c.Close()
			return c.SendMail(sender, []string{owner}, bytes.NewReader(d.mails[0].data))
		}, "FAILED INBOX has 4 messages"},
		"another text than was sent": {fetched, func(d *demo) error {
			d.mails[0].data = append(d.mails[0].data, '!')
			return nil
		}, "FAILED plain text: exactly"},
		"a statement that is not the gateway's": {fetched, func(d *demo) error {
			other := &demo{out: new(bytes.Buffer), dir: filepath.Join(d.dir, "other")}
			if err := os.Mkdir(other.dir, 0o700); err != nil {
				return err
			}
			if err := other.run(context.Background(), []step{other.makeKey, other.startServer}); err != nil {
				return err
			}
			d.gateway = other.gateway
			return nil
		}, "FAILED the statement is not signed"},
		"a rule that is not there": {started, func(d *demo) error {
			cfg, err := config.Load(d.setup.Config)
			if err != nil {
				return err
			}
			cfg.Policy.File = ""
			return errors.Join(os.WriteFile(d.setup.Config, config.Render(cfg), 0o600), d.running.Reload(cfg))
		}, "FAILED to dave: 250"},
		"a certificate that was forgotten": {explained, func(d *demo) error {
			return d.manage(t.Context(), func(a *admin.Admin) error { return a.UnpinCertificate(t.Context(), sender) })
		}, "FAILED to bob and carol"},
		"a subject in the queue": {submitted, func(d *demo) error {
			return os.WriteFile(filepath.Join(d.serverDir(), "data", "queue"), []byte(subject), 0o600)
		}, "FAILED the words and the subject"},
		"clear text for bob": {delivered, func(d *demo) error {
			d.world.got[sender] = d.world.got[keyless]
			return nil
		}, "FAILED for bob"},
		"another key of bob's": {delivered, func(d *demo) error {
			d.bob = d.key
			return nil
		}, "FAILED bob's device"},
		"clear text without a mark": {delivered, func(d *demo) error {
			d.world.got[keyless] = bytes.Replace(d.world.got[keyless], []byte("Postern-Delivery"), []byte("X-Delivery"), 1)
			return nil
		}, "FAILED for carol"},
		"mail for dave": {delivered, func(d *demo) error {
			d.world.got[partner] = d.world.got[sender]
			return nil
		}, "FAILED for dave"},
		"a damaged message": {fetched, func(d *demo) error {
			m := d.received[1]
			at := bytes.LastIndex(m, []byte("-----END PGP")) - 100
			m[at] ^= 1
			return nil
		}, "FAILED HTML with an attachment"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			d := &demo{out: &out, dir: t.TempDir()}
			story := d.story()
			before := story[row.after]
			story[row.after] = func(ctx context.Context) error {
				if err := before(ctx); err != nil {
					return err
				}
				return row.spoil(d)
			}
			err := d.run(t.Context(), story)
			if err == nil || !strings.Contains(err.Error(), "checks failed") || !strings.Contains(out.String(), row.said) {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// A step that cannot be done ends the demo, and the server with it.
func TestRunFailsWhenAStepFails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := &demo{out: &out, dir: t.TempDir()}
	err := d.run(t.Context(), []step{d.makeKey, d.startServer, func(context.Context) error { return os.ErrPermission }, d.send})
	if err == nil || strings.Contains(out.String(), "checks passed") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if _, err := smtp.Dial(d.running.Addrs.MX.String()); err == nil {
		t.Error("the server is still there")
	}
}

// Without --once it serves until it is told to end, and says how to look around.
func TestRunStays(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &watched{cond: "until Ctrl-C", then: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, out, false) }()
	select {
	case <-out.then:
	case err := <-ended:
		t.Fatalf("ended: %v\n%s", err, out.String())
	}
	found := regexp.MustCompile(`swaks --server (\S+) `).FindStringSubmatch(out.String())
	if found == nil {
		t.Fatalf("no way to send more:\n%s", out.String())
	}
	c, err := smtp.Dial(found[1])
	if err != nil {
		t.Fatalf("it does not serve: %v", err)
	}
	c.Close()
	folder := regexp.MustCompile(`The server's folder: (\S+)`).FindStringSubmatch(out.String())
	cancel()
	if err := <-ended; err != nil || !strings.HasSuffix(out.String(), "checks passed\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if _, err := os.Stat(folder[1]); !os.IsNotExist(err) {
		t.Errorf("%s is left behind: %v", folder[1], err)
	}
}

// watched is an output that tells when it has been given cond.
type watched struct {
	mu   sync.Mutex
	b    strings.Builder
	cond string
	then chan struct{}
	done bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if !w.done && strings.Contains(w.b.String(), w.cond) {
		w.done = true
		close(w.then)
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
