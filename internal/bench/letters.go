package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// Correspondents: some domains get most of the mail.
const (
	correspondentDomains = 50
	perDomain            = 20 // correspondents
	perConnection        = 100
)

// correspondent is the i-th address that mail is sent to.
func correspondent(i int) mail.Address {
	return mail.Address{Local: fmt.Sprint("r", i/correspondentDomains), Domain: fmt.Sprintf("there%d.test", i%correspondentDomains)}
}

// introduce lets a gateway know a certificate for each correspondent, as if it had found
// them in their domains' directories.
func introduce(ctx context.Context, s *store.Store, n int) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			a := correspondent(i)
			key, err := pgp.GenerateKey(a.String(), time.Now().Add(-time.Minute))
			if err == nil {
				err = s.Learn(ctx, knownRow(a, key.Certificate(), mail.Found, time.Now(), 24*time.Hour))
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// letter is a message with a header section as mail programs write it.
func letter(n uint64, to []mail.Address, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: Bench <%s>\r\nTo: ", owner)
	for i, a := range to {
		if i > 0 {
			b.WriteString(",\r\n ")
		}
		b.WriteString(a.String())
	}
	fmt.Fprintf(&b, "\r\nSubject: Letter %d\r\nDate: %s\r\nMessage-ID: <%d.%d@y.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
		n, time.Now().Format(time.RFC1123Z), time.Now().UnixNano(), n)
	const line = "The quick brown fox jumps over the lazy dog, again and again and again.\r\n"
	for b.Len()+len(line) < size {
		b.WriteString(line)
	}
	return b.String()
}

// sender sends letters: one connection after the other, over each of which it logs in
// once, if it has to, and sends perConnection messages.
type sender struct {
	connect func() (*smtp.Client, error)
	client  *smtp.Client
	sent    int // over client
}

// connect connects to a gateway as a mail program does: with TLS from the start, and
// its password.
func (p *postern) connect() (*smtp.Client, error) {
	c, err := smtp.DialTLS(p.at(465), &tls.Config{InsecureSkipVerify: true}) // the certificate is the test's own
	if err != nil {
		return nil, err
	}
	if err := c.Auth(sasl.NewPlainClient("", owner, p.setup.Password)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// connect connects to Postfix, which lets loopback relay.
func (p *postfix) connect() (*smtp.Client, error) { return smtp.Dial(p.Addr()) }

func (s *sender) send(to []mail.Address, text string) (err error) {
	if s.client == nil {
		if s.client, err = s.connect(); err != nil {
			return err
		}
	}
	names := make([]string, len(to))
	for i, a := range to {
		names[i] = a.String()
	}
	if err := s.client.SendMail(owner, names, strings.NewReader(text)); err != nil {
		return err
	}
	if s.sent++; s.sent == perConnection {
		return s.end()
	}
	return nil
}

func (s *sender) end() error {
	if s.client == nil {
		return nil
	}
	err := s.client.Quit()
	s.client, s.sent = nil, 0
	return err
}

// submit sends the load, each message to one correspondent: which one, is the same every
// time.
func submit(ctx context.Context, l load, connect func() (*smtp.Client, error)) error {
	random := rand.New(rand.NewPCG(1, 2))
	domains := rand.NewZipf(random, 1.1, 2, correspondentDomains-1)
	to := make([]mail.Address, l.count)
	for i := range to {
		to[i] = correspondent(int(domains.Uint64()) + correspondentDomains*random.IntN(perDomain))
	}
	var next atomic.Int64
	errs := make([]error, l.conns)
	var all sync.WaitGroup
	for c := range l.conns {
		all.Go(func() {
			s := sender{connect: connect}
			for i := next.Add(1) - 1; i < int64(l.count) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if errs[c] = s.send(to[i:i+1], letter(uint64(i), to[i:i+1], l.size)); errs[c] != nil {
					return
				}
			}
			errs[c] = s.end()
		})
	}
	all.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}
