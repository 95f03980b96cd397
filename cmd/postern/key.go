package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"postern/internal/admin"
	"postern/internal/device"
)

type keyCmd struct {
	New keyNewCmd `cmd:"" help:"Make a secret key and its certificate. Nothing is sent anywhere."`
}

type keyNewCmd struct {
	jsonFlag
	Address string `arg:"" help:"Your address."`
	Out     string `type:"path" placeholder:"FILE" help:"Where the secret key goes. The certificate goes beside it. Default: <address>.key.asc in this directory."`
}

func (c *keyNewCmd) Run(e *env) error {
	key, err := device.NewKey(c.Address, time.Now())
	if err != nil {
		return fmt.Errorf("%w: %w", admin.ErrUsage, err)
	}
	made := newKey{Fingerprint: key.Fingerprint}
	made.SecretKey, made.Certificate = device.KeyFiles(c.Address, c.Out)
	if err := admin.WriteNew(made.SecretKey, key.Secret, 0o600); err != nil {
		return err
	}
	if err := admin.WriteNew(made.Certificate, key.Certificate, 0o644); err != nil {
		return errors.Join(err, os.Remove(made.SecretKey))
	}
	return show(e.stdout, c.JSON, made)
}

// newKey says where a new key went.
type newKey struct {
	Fingerprint string `json:"fingerprint"`
	SecretKey   string `json:"secret_key"`
	Certificate string `json:"certificate"`
}

// WriteText implements the human form.
func (k newKey) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, `Secret key:   %s   no passphrase protects it: keep it on your own devices, and keep a copy
Certificate:  %s   this is what the server gets
Fingerprint:  %s
`, k.SecretKey, k.Certificate, k.Fingerprint)
	return err
}
