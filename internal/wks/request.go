package wks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
	"postern/keydir"
)

var (
	errNotEncrypted = mail.Refuse(550, "5.7.10", "encrypt it to the key of this address, which the Web Key Directory has")
	errCannotOpen   = mail.Refuse(550, "5.7.5", "it cannot be opened with the key of this address")
	errNothing      = mail.Refuse(550, "5.6.0", "it holds neither a key (application/pgp-keys) nor an answer (application/vnd.gnupg.wks)")
	errAnswer       = mail.Refuse(550, "5.6.0", "the answer cannot be read")
	errAuthor       = mail.Refuse(550, "5.6.0", "the From field has to name the one address that the key is for")
	errNoAccount    = mail.Refuse(550, "5.7.1", "only addresses with an account on this server can publish keys here")
	errNotYours     = mail.Refuse(550, "5.7.1", "log in as the account that the key is for")
	errTooMany      = mail.Refuse(450, "4.7.1", "too many requests for this address, try again in an hour")
	errStale        = mail.Refuse(550, "5.7.1", "nothing waits for this answer (any more): send the key again")
)

// The media types of the parts that matter.
const (
	typeKeys = "application/pgp-keys"
	typeWKS  = "application/vnd.gnupg.wks"
)

// take does what a message to the service asks for. When it returns without an error,
// that is done.
func (d *Door) take(ctx context.Context, source mail.Source, domain string, raw []byte) error {
	text, err := d.open(domain, raw)
	if err != nil {
		return err
	}
	kind, content := find(text)
	switch kind {
	case typeKeys:
		return d.request(ctx, source, domain, raw, content)
	case typeWKS:
		return d.confirm(ctx, content)
	}
	return errNothing
}

// open returns what is encrypted in a message of the form of RFC 3156 4.
func (d *Door) open(domain string, raw []byte) ([]byte, error) {
	r := bytes.NewReader(raw)
	candidate, ok, err := message.FindEncrypted(message.ScanBytes(raw, message.Limits{}), r)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	if !ok || candidate.Kind != message.PGPMIME {
		return nil, errNotEncrypted
	}
	opened, err := d.Requests.OpenRequest(domain, candidate.Reader(r), maxOpened)
	if err != nil {
		return nil, errCannotOpen.Because(err)
	}
	return io.ReadAll(opened)
}

// find returns the first part of a kind that matters, with its transfer encoding undone.
// GnuPG ends lines with LF alone inside.
func find(text []byte) (kind string, content []byte) {
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	message.ScanBytes(text, message.Limits{}).Walk(func(p *message.Part) {
		is := p.Type + "/" + p.Subtype
		if kind != "" || is != typeKeys && is != typeWKS {
			return
		}
		b, err := io.ReadAll(message.Decode(p.Encoding, bytes.NewReader(text[p.BodyStart:p.BodyEnd])))
		if err == nil {
			kind, content = is, b
		}
	})
	return kind, content
}

// request answers a certificate with the question whether it is really wanted.
func (d *Door) request(ctx context.Context, source mail.Source, domain string, raw, keys []byte) error {
	address, err := author(raw, domain)
	if err != nil {
		return err
	}
	if source.Kind == mail.KindSubmission && source.Account.Key() != address.Key() {
		return errNotYours
	}
	ok, err := d.Accounts(ctx, address)
	if err != nil {
		return fmt.Errorf("look up account: %w", err)
	}
	if !ok {
		return errNoAccount
	}
	c, err := certificate(keys, address)
	if err == nil {
		err = c.Usable(d.Now())
	}
	if err != nil {
		return mail.Refuse(550, "5.7.5", "the key cannot be used: "+err.Error()).Because(err)
	}
	if !d.Cache.Take("wks:"+address.Key(), requestsPerHour, hour) {
		return errTooMany
	}
	return d.ask(ctx, domain, address, c)
}

// author returns the only address of the only From field, in the domain of the service.
func author(raw []byte, domain string) (mail.Address, error) {
	h, _, err := message.ParseHeader(raw)
	if err != nil {
		return mail.Address{}, errAuthor.Because(err)
	}
	fields := h.Values("From")
	if len(fields) != 1 {
		return mail.Address{}, errAuthor
	}
	all := message.Addresses(fields[0])
	if len(all) != 1 {
		return mail.Address{}, errAuthor
	}
	a, err := mail.ParseAddress(mail.Address{Local: all[0].Local, Domain: all[0].Domain}.String())
	if err != nil {
		return mail.Address{}, errAuthor.Because(err)
	}
	if a.Domain != domain {
		return mail.Address{}, errNoAccount
	}
	return a, nil
}

// certificate reads the only certificate for an address.
func certificate(data []byte, address mail.Address) (*pgp.Certificate, error) {
	certs, err := pgp.ParseFor(data, address.Key(), pgp.AllowNoUserID)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("there are %d for this address, and only one can be", len(certs))
	}
	return certs[0], nil
}

// confirm takes the certificate that an answer is about.
func (d *Door) confirm(ctx context.Context, content []byte) error {
	fields := parseFields(content)
	address, err := mail.ParseAddress(fields["address"])
	if err != nil || fields["type"] != "confirmation-response" || fields["nonce"] == "" {
		return errAnswer.Because(err)
	}
	nonce := fields["nonce"]
	data, ok := d.Cache.Get(ctx, cacheKey(nonce))
	if !ok || !d.holds(nonce, address, data) {
		return errStale
	}
	c, err := certificate(data, address)
	if err == nil {
		_, err = d.Enrol.Take(ctx, address, c, keydir.SourceWKS)
	}
	switch {
	case errors.Is(err, keydir.ErrUnusable):
		return mail.Refuse(550, "5.7.5", "the key cannot be used any more").Because(err)
	case errors.Is(err, store.ErrNotFound):
		return errNoAccount.Because(err)
	case err != nil:
		return fmt.Errorf("take a confirmed certificate: %w", err)
	}
	d.Cache.Invalidate(ctx, cacheKey(nonce))
	d.Log.Info("a certificate was confirmed by Web Key Service", telemetry.KeyFingerprint, c.Fingerprint())
	return nil
}

// parseFields reads lines "name: value", where a line that begins with white space goes
// on with the value before it, and one with "#" is a comment. Of several of a name the
// first counts.
func parseFields(b []byte) map[string]string {
	fields := make(map[string]string)
	last := ""
	for line := range strings.SplitSeq(string(b), "\n") {
		line = strings.TrimRight(line, "\r \t")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += strings.TrimLeft(line, " \t")
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if last = strings.ToLower(strings.TrimSpace(name)); !ok || fields[last] != "" {
				last = ""
				continue
			}
			fields[last] = strings.TrimSpace(value)
		}
	}
	return fields
}
