package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/msgauth"
	"postern/internal/pgp"
)

// arrival is a message that is being worked on: its octets and what was found in
// them.
type arrival struct {
	*spool
	// raw is the header section as it came, the empty line included.
	raw []byte
	// header is the header section without the fields that only we may write.
	header message.Header
	// bodyStart is the offset of the body, behind the empty line.
	bodyStart int64
	// bodyDigest is the SHA-256 of all octets from bodyStart on.
	bodyDigest [sha256.Size]byte
	content    mail.Content
	// from are the addresses in the From fields, null for one that cannot be read; only
	// of what came by SMTP.
	from    []mail.Address
	verdict msgauth.Results
	// eightBit says that there is an octet above 127 in the body.
	eightBit bool
	// candidate and found are the ciphertext, if content is mail.ContentEncrypted.
	candidate message.Candidate
	found     pgp.Inspection
	// introduction are fields of ours for every copy of what was submitted, and gossip those
	// for the payload of what is sealed for elsewhere.
	introduction []message.Field
	gossip       []byte
}

// introduced is the header section with the fields of ours that every copy has.
func (m *arrival) introduced() message.Header {
	if len(m.introduction) == 0 {
		return m.header
	}
	return m.header.With(m.introduction...)
}

// receive is step 1: the octets, at most size of them and maxHeader before the body, never
// in clear on disk, and in the same pass the digest of the body.
func (b *Bridge) receive(r io.Reader, size, maxHeader int64) (*arrival, error) {
	body := bodyHash{hash: sha256.New(), maxHeader: maxHeader}
	sp, err := b.spools.fill(r, size, body.write)
	if err != nil {
		return nil, err
	}
	m := &arrival{spool: sp, bodyStart: body.end.Len(), eightBit: body.eightBit}
	body.hash.Sum(m.bodyDigest[:0])
	return m, nil
}

// bodyHash finds the body in what streams by and hashes it.
type bodyHash struct {
	end       message.HeaderEnd
	maxHeader int64
	hash      hash.Hash
	eightBit  bool
}

func (b *bodyHash) write(p []byte) error {
	if !b.end.Found() {
		n, _ := b.end.Feed(p)
		if b.end.Len() > b.maxHeader {
			return errHeaderTooBig
		}
		p = p[n:]
	}
	b.eightBit = b.eightBit || message.EightBit(p)
	b.hash.Write(p)
	return nil
}

// parse is step 2: the header section, without what only we may say, and whether
// the message is encrypted already.
func (t *transaction) parse(m *arrival) error {
	raw, err := m.Prefix(m.bodyStart)
	if err != nil {
		return fmt.Errorf("read header section: %w", err)
	}
	h, _, err := message.ParseHeader(raw)
	if errors.Is(err, message.ErrHeaderTooLarge) {
		return errHeaderTooBig.Because(err)
	}
	if err != nil {
		return fmt.Errorf("parse header section: %w", err)
	}
	m.header = h
	switch t.source.Kind {
	case mail.KindMX:
		if message.CountReceived(h) > maxReceived {
			return errLoop
		}
		m.header = message.StripMarks(message.Strip(h, t.Hostname))
	case mail.KindImport:
		m.header = message.Strip(h, t.Hostname)
	case mail.KindSubmission:
		if m.header, err = t.submitted(h); err != nil {
			return err
		}
	}
	m.raw = raw
	m.content, err = t.inspect(m)
	return err
}

// inspect finds out whether the message is ciphertext already. Its own claim is not
// enough: the packets must parse. When in doubt it is clear, and will be sealed.
func (t *transaction) inspect(m *arrival) (mail.Content, error) {
	if t.source.Kind == mail.KindNotice {
		return mail.ContentNotice, nil
	}
	if !claimsEncryption(m.header) {
		return mail.ContentClear, nil
	}
	top, err := message.Scan(m, m.Size(), message.Limits{})
	if err != nil {
		return 0, fmt.Errorf("scan: %w", err)
	}
	if boundary, _ := top.Params.Get("boundary"); t.source.Kind == mail.KindSubmission && strings.HasPrefix(boundary, sealedBoundary) {
		// The sender's program hands on as it is what a gateway has sealed, maybe this one:
		// that must never be called end-to-end (P5).
		return mail.ContentClear, nil
	}
	candidate, ok, err := message.FindEncrypted(top, m)
	if err != nil {
		return 0, fmt.Errorf("look for ciphertext: %w", err)
	}
	if !ok {
		return mail.ContentClear, nil
	}
	m.candidate = candidate
	encrypted := false
	switch data := candidate.Reader(m); candidate.Kind {
	case message.PGPMIME:
		m.found, err = pgp.Inspect(data)
		encrypted = err == nil && m.found.Encrypted
	case message.CMS:
		encrypted, err = message.InspectCMS(data)
		encrypted = encrypted && err == nil
	}
	if encrypted {
		return mail.ContentEncrypted, nil
	}
	return mail.ContentClear, nil
}

// sealedBoundary begins the boundary of all that a gateway seals.
const sealedBoundary = "postern_"

// claimsEncryption says whether it is worth looking into the body.
func claimsEncryption(h message.Header) bool {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(mediaType)) {
	case "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	}
	return false
}

// verify is step 3: SPF, DKIM and DMARC over the untouched octets. What fails is a
// result, never an error.
func (t *transaction) verify(ctx context.Context, m *arrival) msgauth.Results {
	if t.source.Kind != mail.KindMX {
		return msgauth.Results{}
	}
	for _, value := range m.header.Values("From") {
		for _, a := range message.Addresses(value) {
			// One that cannot be read counts too, as nobody's: a reader may show it
			// where a check saw only the other.
			parsed, err := mail.ParseAddress(mail.Address{Local: a.Local, Domain: a.Domain}.String())
			if err != nil {
				parsed = mail.Address{}
			}
			m.from = append(m.from, parsed)
		}
	}
	verdict := t.Verifier.Verify(ctx, msgauth.Request{
		IP: t.source.RemoteIP, Helo: t.source.Helo, From: t.source.From,
		HeaderFrom: m.from, Header: m.raw,
		Body: func() io.Reader { return io.NewSectionReader(m, m.bodyStart, m.Size()-m.bodyStart) },
	})
	spf, dkim, dmarc := verdict.Summary()
	t.Metrics.MsgauthResult("spf", spf)
	t.Metrics.MsgauthResult("dkim", dkim)
	t.Metrics.MsgauthResult("dmarc", dmarc)
	return verdict
}

// trace returns the fields that this server adds on top of a message that came in by
// SMTP, in the order in which they stand.
func (t *transaction) trace(m *arrival, r recipient) []byte {
	switch t.source.Kind {
	case mail.KindMX:
	case mail.KindSubmission:
		return append([]byte("Return-Path: <"+t.submission.sender.String()+">\r\n"), t.received()...)
	default:
		return nil
	}
	trace := []byte("Return-Path: <" + t.source.From.String() + ">\r\n")
	trace = append(trace, message.ReceivedField(message.Received{
		Helo: t.source.Helo, IP: t.source.RemoteIP, By: t.Hostname,
		With: t.source.Protocol, ID: t.source.ID, TLS: tlsWords(t.source.TLS),
		For: t.only(), Time: t.source.Time,
	})...)
	return append(trace, m.verdict.Field(t.Hostname)...)
}

// received is the trace field of a submitted message. It does not say where the client
// is.
func (t *transaction) received() []byte {
	return message.ReceivedField(message.Received{
		By: t.Hostname, With: t.source.Protocol, ID: t.source.ID, TLS: tlsWords(t.source.TLS),
		For: t.only(), Time: t.source.Time,
	})
}

// only is the recipient if there is one alone; several must not learn of each other.
func (t *transaction) only() string {
	if len(t.to) != 1 {
		return ""
	}
	return t.to[0].rcpt.Address.String()
}

func tlsWords(tls *mail.TLS) string {
	if tls == nil {
		return ""
	}
	return tls.Version + " " + tls.Cipher
}

// provenance is the gateway's statement of how the message arrived, without the
// digests, which depend on the payload.
func (t *transaction) provenance(m *arrival) message.Provenance {
	p := message.Provenance{ID: t.source.ID, Time: t.source.Time, Class: "clear"}
	switch t.source.Kind {
	case mail.KindAppend:
		p.Extra = []message.Attribute{{Name: "via", Value: "imap"}}
	case mail.KindImport:
		p.Extra = []message.Attribute{{Name: "via", Value: "import"}}
	case mail.KindNotice:
		p.Extra = []message.Attribute{{Name: "via", Value: "notice"}}
	case mail.KindDSN:
		p.Extra = []message.Attribute{{Name: "via", Value: "dsn"}}
	case mail.KindSubmission:
		p.Extra = []message.Attribute{{Name: "via", Value: "submission"}}
		if t.source.TLS != nil {
			p.TLS = t.source.TLS.Version
		}
	default:
		if t.source.TLS != nil {
			p.TLS = t.source.TLS.Version
		}
		p.SPF, p.DKIM, p.DMARC = m.verdict.Summary()
	}
	return p
}
