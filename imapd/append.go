package imapd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"

	"postern/internal/mail"
	"postern/internal/store"
)

// Append implements imapserver.Session: the message goes through the one door, as mail
// does, and is sealed there. It streams; nothing of it is kept here. If the client
// breaks off, the guard ends the connection, so that nothing of the message can be
// taken for a command.
func (s *session) Append(name string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	placed, err := s.append(name, r, o)
	if err != nil {
		return nil, s.response("APPEND", err)
	}
	if placed.UID == 0 {
		return nil, nil // held until its owner has a certificate: there is no UID yet
	}
	return &imap.AppendData{UIDValidity: placed.UIDValidity, UID: imap.UID(placed.UID)}, nil
}

func (s *session) append(name string, r imap.LiteralReader, o *imap.AppendOptions) (placed mail.Placed, err error) {
	if r.Size() == 0 {
		return placed, errEmptyMessage
	}
	flags, keywords, err := splitFlags(o.Flags)
	if err != nil {
		return placed, err
	}
	to, err := s.server.o.Store.MailboxByName(s.ctx, s.account.ID, name)
	if errors.Is(err, store.ErrNotFound) {
		return placed, errTryCreate
	}
	if err != nil {
		return placed, fmt.Errorf("find mailbox: %w", err)
	}
	target := &mail.Target{Mailbox: to.Name, InternalDate: o.Time}
	for _, f := range flagList(flags, "") {
		target.Flags = append(target.Flags, string(f))
	}
	target.Flags = append(target.Flags, keywords...)
	receipt, err := s.accept(r, target)
	if err != nil {
		return placed, err
	}
	s.changed(to.ID)
	if len(receipt.Placed) > 0 {
		placed = receipt.Placed[0]
	}
	return placed, nil
}

// accept brings a message through the door.
func (s *session) accept(r imap.LiteralReader, target *mail.Target) (mail.Receipt, error) {
	source := mail.Source{
		Kind: mail.KindAppend, ID: s.server.o.NewID(), From: s.account.Address,
		RemoteIP: s.guard.ip, Protocol: "IMAP", TLS: describeTLS(s.guard.secure),
		Size: r.Size(), Time: s.server.o.Now(),
	}
	t, err := s.server.o.Acceptor.Begin(s.ctx, source)
	if err != nil {
		return mail.Receipt{}, fmt.Errorf("begin: %w", err)
	}
	defer t.Abort()
	if err := t.Rcpt(s.ctx, mail.Rcpt{Address: s.account.Address, Into: target}); err != nil {
		return mail.Receipt{}, fmt.Errorf("recipient: %w", err)
	}
	return t.Data(s.ctx, &wholeLiteral{r: r, left: r.Size()})
}

// wholeLiteral makes sure that a literal that ends early is an error and not a
// shorter message.
type wholeLiteral struct {
	r    io.Reader
	left int64
}

func (w *wholeLiteral) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if err == io.EOF && w.left > 0 {
		err = fmt.Errorf("%w: %w", errHungUp, io.ErrUnexpectedEOF)
	}
	return n, err
}

// describeTLS is what the trace fields say of a connection.
func describeTLS(cs *tls.ConnectionState) *mail.TLS {
	if cs == nil {
		return nil
	}
	return &mail.TLS{
		Version: map[uint16]string{tls.VersionTLS12: "TLS1.2", tls.VersionTLS13: "TLS1.3"}[cs.Version],
		Cipher:  tls.CipherSuiteName(cs.CipherSuite),
	}
}
