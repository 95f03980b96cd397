package main

import (
	"errors"
	"io"
	"os"

	"postern/internal/admin"
	"postern/internal/device"
)

type openCmd struct {
	jsonFlag
	File           string `arg:"" help:"The message as IMAP gave it; - for standard input."`
	Key            string `required:"" type:"path" placeholder:"FILE" help:"Your secret key."`
	PassphraseFile string `name:"passphrase-file" type:"path" placeholder:"FILE" help:"A file whose first line is the secret key's passphrase. Default: ask, if there is one."`
	GatewayKey     string `name:"gateway-key" type:"path" placeholder:"FILE" help:"The gateway's published provenance key, to verify who vouches. A statement that does not hold is a failure."`
	Original       string `type:"path" placeholder:"FILE" help:"Write the message as it arrived, octet by octet, to this new file; - for standard output."`
}

func (c *openCmd) Run(e *env) error {
	secret, err := readFile(e, c.Key)
	if err != nil {
		return err
	}
	var gateway []byte
	if c.GatewayKey != "" {
		if gateway, err = readFile(e, c.GatewayKey); err != nil {
			return err
		}
	}
	in := e.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	opened, err := device.Open(in, secret, func() ([]byte, error) { return c.passphrase(e) }, gateway)
	if err != nil {
		return err
	}
	return errors.Join(c.write(e, opened), opened.Err())
}

// passphrase is asked for only if the key is locked.
func (c *openCmd) passphrase(e *env) ([]byte, error) {
	if c.PassphraseFile == "" && (c.File == "-" || c.Key == "-") {
		return nil, errors.New("standard input is taken: give --passphrase-file")
	}
	if c.PassphraseFile == "" {
		line, err := readSecret(e, "Passphrase: ")
		return []byte(line), err
	}
	f, err := os.Open(c.PassphraseFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := firstLine(f, c.PassphraseFile)
	return []byte(line), err
}

// write prints the report and the message, or writes the message to where it is wanted.
func (c *openCmd) write(e *env, o *device.Opened) error {
	report := e.stdout
	switch c.Original {
	case "":
	case "-":
		report = e.stderr
		if _, err := e.stdout.Write(o.Original); err != nil {
			return err
		}
	default:
		if err := admin.WriteNew(c.Original, o.Original, 0o600); err != nil {
			return err
		}
	}
	if err := show(report, c.JSON, o.Report()); err != nil || c.JSON || c.Original != "" {
		return err
	}
	_, err := io.WriteString(report, "\n"+o.Printable())
	return err
}
