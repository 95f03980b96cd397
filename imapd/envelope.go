package imapd

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"

	"postern/internal/message"
)

// What stands for the absent half of an address: NIL would make it a group
// (RFC 9051 7.5.2).
const (
	missingLocal  = "MISSING_MAILBOX"
	missingDomain = "MISSING_DOMAIN"
)

// envelopeOf reads a recorded envelope. Values are handed on as they came: ASCII with
// encoded words passes the engine unchanged, and raw 8-bit text becomes UTF-8, which
// the engine encodes. The engine writes dates anew; one that cannot be read is NIL.
func envelopeOf(recorded []byte) (*imap.Envelope, error) {
	e, err := message.ParseEnvelope(recorded)
	if err != nil {
		return nil, fmt.Errorf("read envelope: %w", err)
	}
	return convertEnvelope(&e), nil
}

func convertEnvelope(e *message.Envelope) *imap.Envelope {
	out := &imap.Envelope{
		Subject:   clean(e.Subject),
		MessageID: bareID(e.MessageID),
		From:      addresses(e.From),
		To:        addresses(e.To),
		Cc:        addresses(e.Cc),
		Bcc:       addresses(e.Bcc),
	}
	out.Sender, out.ReplyTo = out.From, out.From
	if !sameAddresses(e.Sender, e.From) {
		out.Sender = addresses(e.Sender)
	}
	if !sameAddresses(e.ReplyTo, e.From) {
		out.ReplyTo = addresses(e.ReplyTo)
	}
	if id := bareID(e.InReplyTo); id != "" {
		out.InReplyTo = []string{id}
	}
	out.Date, _ = parseDate(e.Date)
	return out
}

func sameAddresses(a, b []message.Address) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// bareID takes the outer brackets off, which the engine puts on again: a list of
// message identifiers stays as it is in between.
func bareID(s string) string {
	return clean(strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">"))
}

func addresses(list []message.Address) []imap.Address {
	if len(list) == 0 {
		return nil
	}
	out := make([]imap.Address, len(list))
	for i := range list {
		a := &list[i]
		switch a.Kind {
		case message.GroupStart:
			out[i] = imap.Address{Mailbox: orElse(clean(a.Local), missingLocal)}
		case message.GroupEnd:
		default:
			out[i] = imap.Address{
				Name:    clean(a.Name),
				Mailbox: orElse(clean(a.Local), missingLocal),
				Host:    orElse(clean(a.Domain), missingDomain),
			}
		}
	}
	return out
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// clean makes text of whatever a sender wrote: octets that are not UTF-8 are taken for
// Latin-1, and NUL, which no IMAP string can hold, is dropped.
func clean(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// structureOf converts a recorded structure for BODYSTRUCTURE, with its extension data.
func structureOf(p *message.Part) imap.BodyStructure {
	if p.IsMultipart() {
		m := &imap.BodyStructureMultiPart{Subtype: clean(p.Subtype), Extended: &imap.BodyStructureMultiPartExt{
			Params: params(p.Params), Disposition: disposition(p), Language: p.Language, Location: clean(p.Location),
		}}
		for _, c := range p.Children {
			m.Children = append(m.Children, structureOf(c))
		}
		return m
	}
	s := &imap.BodyStructureSinglePart{
		Type: clean(p.Type), Subtype: clean(p.Subtype), Params: params(p.Params),
		ID: clean(p.ID), Description: clean(p.Description), Encoding: clean(p.Encoding),
		Size: uint32(min(p.Size(), math.MaxUint32)),
		Extended: &imap.BodyStructureSinglePartExt{
			Disposition: disposition(p), Language: p.Language, Location: clean(p.Location),
		},
	}
	switch {
	case p.Message != nil && p.Envelope != nil:
		s.MessageRFC822 = &imap.BodyStructureMessageRFC822{
			Envelope: convertEnvelope(p.Envelope), BodyStructure: structureOf(p.Message), NumLines: p.Lines,
		}
	case p.Type == "text":
		s.Text = &imap.BodyStructureText{NumLines: p.Lines}
	}
	return s
}

func params(list message.Params) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string, len(list))
	for i := range list {
		if _, ok := m[list[i].Name]; !ok {
			m[clean(list[i].Name)] = clean(list[i].Value)
		}
	}
	return m
}

func disposition(p *message.Part) *imap.BodyStructureDisposition {
	if p.Disposition == "" {
		return nil
	}
	return &imap.BodyStructureDisposition{Value: clean(p.Disposition), Params: params(p.DispositionParams)}
}
