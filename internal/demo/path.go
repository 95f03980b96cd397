package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"postern/internal/device"
)

// send delivers bob's mails by SMTP, in clear, as any mail server would.
func (d *demo) send(context.Context) error {
	d.title(3, "Bob's mail server delivers three mails by SMTP, as mail is delivered everywhere.")
	var err error
	if d.mails, err = mails(d.key.Certificate, time.Now()); err != nil {
		return err
	}
	c, err := smtp.Dial(d.running.Addrs.MX.String())
	if err != nil {
		return err
	}
	defer c.Close()
	for _, m := range d.mails {
		err := c.SendMail(sender, []string{owner}, bytes.NewReader(m.data))
		d.check(err == nil, "%s, %d octets: %s", m.what, len(m.data), accepted(err))
	}
	if err := c.Quit(); err != nil {
		return fmt.Errorf("quit: %w", err)
	}
	return nil
}

func accepted(err error) string {
	if err != nil {
		return err.Error()
	}
	return "250, so it is on disk"
}

// lookAtDisk searches everything the server has for the words of the mails.
func (d *demo) lookAtDisk(context.Context) error {
	d.title(4, "What the server has.")
	f, err := d.scan(canary)
	if err != nil {
		return err
	}
	d.printf("   %d files, %d octets\n", f.files, f.octets)
	d.check(len(f.encrypted) == len(d.mails), "%d OpenPGP messages", len(f.encrypted))
	d.check(f.words == 0, "the words %q are in none of the files, also not in base64", canary)
	return nil
}

// found is what a search of the server's folder found.
type found struct {
	files, words int // words: files that have one of them
	octets       int64
	// encrypted are the OpenPGP messages, by how they begin: the database keeps some of
	// what it holds in a second place.
	encrypted map[string]bool
}

// scan searches everything the server has for words.
func (d *demo) scan(words ...string) (found, error) {
	f, needles := found{encrypted: make(map[string]bool)}, needles(words...)
	err := filepath.WalkDir(d.serverDir(), func(path string, e fs.DirEntry, err error) error {
		var b []byte
		if err == nil && e.Type().IsRegular() {
			b, err = os.ReadFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the running server has removed it
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f.files++
		f.octets += int64(len(b))
		for _, m := range bytes.SplitAfter(b, []byte("-----BEGIN PGP MESSAGE-----"))[1:] {
			f.encrypted[string(m[:min(len(m), 200)])] = true
		}
		if containsAny(b, needles) {
			f.words++
		}
		return nil
	})
	return f, err
}

// needles are words as they may stand in a file: also in capitals and in base64 at each
// of its three alignments.
func needles(words ...string) (all [][]byte) {
	for _, w := range words {
		all = append(all, []byte(w), []byte(strings.ToUpper(w)))
		for i := range 3 {
			coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", i) + w))
			all = append(all, []byte(coded[4:len(coded)-8]))
		}
	}
	return all
}

func containsAny(b []byte, needles [][]byte) bool {
	return slices.ContainsFunc(needles, func(n []byte) bool { return bytes.Contains(b, n) })
}

// read fetches the mails by IMAP over TLS.
func (d *demo) read(context.Context) error {
	d.title(5, "Alice's mail program reads them by IMAP.")
	trust, err := d.trust()
	if err != nil {
		return err
	}
	c, err := imapclient.DialTLS(d.running.Addrs.IMAPS.String(), &imapclient.Options{TLSConfig: trust})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(owner, d.setup.Password).Wait(); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		return fmt.Errorf("select: %w", err)
	}
	d.check(int(selected.NumMessages) == len(d.mails), "INBOX has %d messages", selected.NumMessages)
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{Envelope: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for _, m := range got {
		d.received = append(d.received, m.FindBodySection(whole))
		if len(m.Envelope.From) > 0 {
			d.printf("   from %s, subject %q: the server knows no more\n", m.Envelope.From[0].Addr(), m.Envelope.Subject)
		}
	}
	return c.Logout().Wait()
}

// trust is what the owner of a self-signed server tells a mail program to trust.
func (d *demo) trust() (*tls.Config, error) {
	pem, err := os.ReadFile(filepath.Join(d.serverDir(), "tls", "cert.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the server's TLS certificate cannot be read")
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}, nil
}

// open decrypts with the device's key and checks what the provenance proves.
func (d *demo) open(context.Context) error {
	d.title(6, "Alice's device opens them with its secret key.")
	for i, raw := range d.received {
		if i == len(d.mails) {
			break // more than were sent: a check of the step before has failed
		}
		sent := d.mails[i]
		if err := os.WriteFile(filepath.Join(d.deviceDir(), fmt.Sprintf("%d.eml", i+1)), raw, 0o600); err != nil {
			return err
		}
		o, err := device.Open(bytes.NewReader(raw), d.key.Secret, nil, d.gateway)
		if err != nil {
			d.check(false, "%s: %v", sent.what, err)
			continue
		}
		if !sent.sealed {
			d.check(bytes.Contains(o.Original, []byte(canary)), "%s: opened; end-to-end, so the gateway states nothing", sent.what)
			continue
		}
		d.check(bytes.Equal(o.Original, sent.data), "%s: exactly the %d octets that bob sent", sent.what, len(sent.data))
		d.check(o.Signature == device.Verified, "%s", o.Report().Statement)
	}
	return nil
}
