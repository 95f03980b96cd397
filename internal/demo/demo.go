// Package demo shows the whole path of a message on loopback, in and out: a real server,
// real SMTP and IMAP connections, and two folders that stand for two machines. What the
// "server" folder holds is all the server ever has; the secret key is only in "device".
//
//	demo.go      the story, and what it takes
//	mails.go     the mails that come in
//	path.go      the way in: send, search the disk, read, open
//	outbound.go  the way out: explain, submit, wait, deliver, open
//	world.go     the other mail server
//
// It needs nothing but itself, and never leaves the loopback interface and its own
// temporary directory.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"postern/internal/admin"
	"postern/internal/config"
	"postern/internal/device"
	"postern/internal/server"
	"postern/internal/telemetry"
)

// The people of the demo.
const (
	owner  = "alice@demo.test"
	sender = "bob@elsewhere.test"
)

// demo is one run.
type demo struct {
	out      io.Writer
	dir      string // of everything
	setup    *admin.Setup
	world    *world
	running  *server.Running
	key      *device.Key // the device's
	gateway  []byte      // the gateway's public key
	mails    []mail
	received [][]byte // as IMAP gave them
	bob      *device.Key

	checks, passed int
}

// Run shows the path and, unless once, keeps serving until ctx ends. It fails if one
// of the checks that it prints failed.
func Run(ctx context.Context, out io.Writer, once bool) error {
	dir, err := os.MkdirTemp("", "postern-demo-")
	if err != nil {
		return err
	}
	d := &demo{out: out, dir: dir}
	steps := d.story()
	if !once {
		steps = append(steps, d.stay)
	}
	return errors.Join(d.run(ctx, steps), os.RemoveAll(dir))
}

// step is one part of the story.
type step func(context.Context) error

// story is what the demo shows.
func (d *demo) story() []step {
	return []step{
		d.makeKey, d.startServer, d.send, d.lookAtDisk, d.read, d.open,
		d.explain, d.submit, d.wait, d.deliver, d.arrived,
	}
}

// run goes through the steps, stops the server and sums up.
func (d *demo) run(ctx context.Context, steps []step) error {
	var err error
	for _, do := range steps {
		if err = do(ctx); err != nil {
			break
		}
	}
	if d.running != nil {
		err = errors.Join(err, d.running.Stop())
	}
	if d.world != nil {
		err = errors.Join(err, d.world.close())
	}
	if err != nil {
		return err
	}
	d.printf("demo: %d of %d checks passed\n", d.passed, d.checks)
	if d.passed < d.checks {
		return fmt.Errorf("%d of %d checks failed", d.checks-d.passed, d.checks)
	}
	return nil
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

func (d *demo) title(n int, text string) { d.printf("\n%d. %s\n", n, text) }

// check prints one fact and whether it holds.
func (d *demo) check(ok bool, format string, args ...any) {
	d.checks++
	word := "ok    "
	if ok {
		d.passed++
	} else {
		word = "FAILED"
	}
	d.printf("   %s %s\n", word, fmt.Sprintf(format, args...))
}

func (d *demo) serverDir() string  { return filepath.Join(d.dir, "server") }
func (d *demo) deviceDir() string  { return filepath.Join(d.dir, "device") }
func (d *demo) secretFile() string { return filepath.Join(d.deviceDir(), "secret-key.asc") }

// makeKey is what the owner does on their own device.
func (d *demo) makeKey(context.Context) error {
	d.title(1, "On alice's device: make a key. The secret half never leaves the device.")
	if err := os.Mkdir(d.deviceDir(), 0o700); err != nil {
		return err
	}
	key, err := device.NewKey(owner, time.Now())
	if err != nil {
		return err
	}
	d.key = key
	d.printf("   %s\n", key.Fingerprint)
	return os.WriteFile(d.secretFile(), key.Secret, 0o600)
}

// startServer sets up a gateway and serves it on free loopback ports.
func (d *demo) startServer(ctx context.Context) error {
	d.title(2, "On the server: set up a gateway for "+owner+", with alice's certificate.")
	setup, err := admin.Quickstart(ctx, admin.QuickstartOptions{
		Address: owner, Dir: d.serverDir(), Listen: "127.0.0.1", Certificate: d.key.Certificate,
	})
	if err != nil {
		return err
	}
	d.setup = setup
	if d.gateway, err = os.ReadFile(setup.GatewayKey); err != nil {
		return err
	}
	if d.world, err = openWorld(); err != nil {
		return err
	}
	cfg, err := d.configure()
	if err != nil {
		return err
	}
	g, err := server.Open(ctx, cfg, telemetry.Discard())
	if err != nil {
		return err
	}
	if d.running, err = g.Start(ctx); err != nil {
		return errors.Join(err, g.Close())
	}
	a := d.running.Addrs
	d.printf("   SMTP %v   submission %v (STARTTLS), %v (TLS)\n   IMAP %v (STARTTLS), %v (TLS)   health and metrics http://%v\n", a.MX, a.Submission, a.Submissions, a.IMAP, a.IMAPS, a.HTTP)
	return nil
}

// configure changes what quickstart wrote: free ports, a name server and a world that are
// on loopback, and a policy.
func (d *demo) configure() (*config.Config, error) {
	cfg, err := config.Load(d.setup.Config)
	if err != nil {
		return nil, err
	}
	cfg.HTTPS.Listen = ""
	for _, listen := range []*string{
		&cfg.SMTP.Listen, &cfg.IMAP.Listen, &cfg.IMAP.ListenTLS, &cfg.HTTP.Listen, &cfg.Submission.Listen, &cfg.Submission.ListenTLS,
	} {
		*listen = "127.0.0.1:0"
	}
	// Nothing of the demo is in the DNS: a resolver that is not there gives temperror
	// at once instead of a wait.
	cfg.DNS.Servers = []string{"127.0.0.1:1"}
	// Of a source that does not answer nobody knows what it has, and then nothing goes in
	// clear: only what needs no DNS is asked.
	cfg.Directory.Sources = []string{"autocrypt"}
	cfg.Delivery.Routes = []string{"*=" + d.world.addr.String()}
	cfg.Policy.File = filepath.Join(d.serverDir(), "policy.toml")
	if err := os.WriteFile(cfg.Policy.File, []byte(rules), 0o600); err != nil {
		return nil, err
	}
	return cfg, os.WriteFile(d.setup.Config, config.Render(cfg), 0o600)
}

// stay keeps serving until ctx ends and says how to look around.
func (d *demo) stay(ctx context.Context) error {
	a := d.running.Addrs
	d.printf(`
The server keeps running until Ctrl-C. To look around with a mail program:
   IMAP       %v with TLS (its certificate is self-signed), or %v with STARTTLS
   user       %s
   password   %s
   secret key %s   (import it into the mail program or GnuPG)
   sending    %v with TLS, or %v with STARTTLS; whatever leaves ends in the demo
To send more mail to alice: SMTP to %v, for example
   swaks --server %v --to %s --from %s
The server's folder: %s
   postern explain --config %s --from %s somebody@example.net
`, a.IMAPS, a.IMAP, owner, d.setup.Password, d.secretFile(), a.Submissions, a.Submission, a.MX, a.MX, owner, sender, d.serverDir(), d.setup.Config, owner)
	select {
	case <-ctx.Done():
	case <-d.running.Done():
	}
	d.printf("\n")
	return nil
}
