package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// script is what many have behind Postfix: one gpg process for each message.
const script = `#!/bin/sh
umask 077
t=%[1]s/mail/box/tmp/$$.$(date +%%N)
gpg --homedir %[1]s/gnupg --batch --quiet --trust-model always --compress-algo none -e -a -r b@y.test > "$t" || exit 75
mv "$t" "%[1]s/mail/box/new/$(basename "$t")"
`

// gpg measures the same delivery with one gpg process per message.
func (b *bench) gpg(ctx context.Context) error {
	l := load{"2 KB, 10 connections, one gpg process per message", 2000, 10, b.count(200)}
	var theirs, ours []float64
	for range b.pairs {
		p, err := b.gpgPostfix(ctx)
		if err != nil {
			return err
		}
		r, err := drive(ctx, p, l)
		if err := errors.Join(err, p.stop()); err != nil {
			return err
		}
		theirs = append(theirs, r.rate)
		s, err := b.startPostern(ctx)
		if err != nil {
			return err
		}
		fast := l
		fast.count = b.count(6000)
		r, err = drive(ctx, s, fast)
		if err := errors.Join(err, s.stop()); err != nil {
			return err
		}
		ours = append(ours, r.rate)
	}
	fmt.Printf("| 2 KB, 10 connections | one gpg process per message | Postern | rate |\n|---|---|---|---|\n| sealed | %.0f/s | %.0f/s | %.0f × |\n\n",
		median(theirs), median(ours), median(ours)/median(theirs))
	return nil
}

// gpgPostfix is a Postfix that pipes each message through the script.
func (b *bench) gpgPostfix(ctx context.Context) (*postfix, error) {
	p, err := b.newPostfix("virtual_transport = seal\nseal_destination_recipient_limit = 1",
		"seal unix - n n - 10 pipe user=nobody argv="+filepath.Join(b.dir, "seal"))
	if err != nil {
		return nil, err
	}
	home := filepath.Join(p.dir, "gnupg")
	for _, d := range []string{home, filepath.Join(p.Maildir(), "new"), filepath.Join(p.Maildir(), "tmp")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	cert := filepath.Join(p.dir, "b.cert.asc")
	if _, err := b.run(ctx, "key", "new", owner, "--out", filepath.Join(p.dir, "b.key.asc")); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "gpg", "--homedir", home, "--batch", "--quiet", "--import", cert).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("gpg --import: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "chown", "-R", "65534:65534", home, filepath.Join(p.dir, "mail")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("chown: %w: %s", err, out)
	}
	return p, os.WriteFile(filepath.Join(b.dir, "seal"), fmt.Appendf(nil, script, p.dir), 0o755)
}
