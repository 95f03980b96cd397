package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ProvenanceName is the name of the first field of every sealed payload.
const ProvenanceName = fieldPrefix + "Arrival"

// provenanceLabel separates this use of the signing key from every other.
const provenanceLabel = "Postern-Arrival v1\x00"

// Limits of a provenance field.
const (
	maxProvenance = 16 << 10
	maxExtra      = 64
)

// ErrProvenance is wrapped by every error of ParseProvenance and Restore that
// says the payload is not one that a gateway made.
var ErrProvenance = errors.New("invalid provenance")

// Provenance is the gateway's statement of how a message arrived.
type Provenance struct {
	// ID is the transaction's.
	ID string
	// Recipient is the addr-spec this copy is for. It is empty if several share
	// the copy: they must not learn of each other.
	Recipient string
	// Time of arrival; whole seconds of UTC are kept.
	Time time.Time
	// TLS is the version, "TLS1.3", or empty for a connection in clear.
	TLS string
	// SPF, DKIM and DMARC are results in the words of RFC 8601; empty if not
	// asked.
	SPF, DKIM, DMARC string
	// Class is what the message was on arrival: "clear".
	Class string
	// ContentType is what PayloadHeader did.
	ContentType ContentTypeChange
	// Head and Body are the SHA-256 of PayloadHeader's result, and of the octets
	// that follow it.
	Head, Body [32]byte
	// Key names the key of the signature.
	Key string
	// Extra are attributes this version does not know, as they came: their names
	// are letters, digits and "-". They are covered by the signature.
	Extra []Attribute
}

// Attribute is a name and its value.
type Attribute struct{ Name, Value string }

// Field returns the whole field, folded and with its CRLF. sign gets what
// ParseProvenance returns as signed, and returns the signature.
//
// The form is "; " between attributes, v first and sig last, empty attributes
// left out. In values everything but visible ASCII, and ";" and "%", is
// percent-encoded; digests and the signature are base64.
func (p Provenance) Field(sign func(signed []byte) []byte) []byte {
	attrs := p.attributes()
	sig := base64.StdEncoding.EncodeToString(sign([]byte(provenanceLabel + attrs)))
	b := make([]byte, 0, len(attrs)+len(sig)+64)
	b = append(b, ProvenanceName+":"...)
	line := len(b)
	for _, a := range strings.Split(attrs, "; ") {
		if line+len(a)+2 > 78 {
			b, line = append(b, '\r', '\n'), 0
		}
		b = append(append(append(b, ' '), a...), ';')
		line += len(a) + 2
	}
	// The signature is longer than a line; it alone is folded inside.
	const width = 70
	a := "sig=" + sig
	for len(a) > 0 {
		n := min(width, len(a))
		b = append(append(b, "\r\n "...), a[:n]...)
		a = a[n:]
	}
	return append(b, '\r', '\n')
}

// attributes is the canonical form of everything but the signature.
func (p Provenance) attributes() string {
	var b strings.Builder
	b.Grow(512)
	b.WriteString("v=1")
	add := func(name, value string) {
		if value != "" {
			b.WriteString("; ")
			b.WriteString(name)
			b.WriteByte('=')
			escape(&b, value)
		}
	}
	add("id", p.ID)
	add("rcpt", p.Recipient)
	add("t", p.Time.UTC().Format(time.RFC3339))
	add("tls", p.TLS)
	add("spf", p.SPF)
	add("dkim", p.DKIM)
	add("dmarc", p.DMARC)
	add("class", p.Class)
	add("ct", string(p.ContentType))
	add("head", base64.StdEncoding.EncodeToString(p.Head[:]))
	add("body", base64.StdEncoding.EncodeToString(p.Body[:]))
	add("key", p.Key)
	for _, x := range p.Extra {
		add(x.Name, x.Value)
	}
	return b.String()
}

// ParseProvenance reads a whole field with its name. signed is what the
// signature is over, ready for verification; sig is the signature. Nothing is
// verified here. It accepts exactly what Field writes, folded anywhere between
// attributes, and unknown attributes behind the known ones.
func ParseProvenance(field []byte) (p Provenance, signed, sig []byte, err error) {
	if len(field) > maxProvenance {
		return Provenance{}, nil, nil, fmt.Errorf("%w: over %d octets", ErrProvenance, maxProvenance)
	}
	attrs, sig, err := splitProvenance(field)
	if err != nil {
		return Provenance{}, nil, nil, err
	}
	for i, a := range strings.Split(attrs, "; ") {
		name, value, _ := strings.Cut(a, "=")
		if value, err = unescape(value); err != nil {
			return Provenance{}, nil, nil, err
		}
		if i == 0 {
			if a != "v=1" {
				return Provenance{}, nil, nil, fmt.Errorf("%w: unknown version", ErrProvenance)
			}
			continue
		}
		if err = p.set(name, value); err != nil {
			return Provenance{}, nil, nil, err
		}
	}
	// One form only: an attribute that is missing, repeated, out of order or
	// written in another way changes the text.
	if p.attributes() != attrs {
		return Provenance{}, nil, nil, fmt.Errorf("%w: not in canonical form", ErrProvenance)
	}
	if p.ID == "" || p.Class == "" || p.Key == "" || p.ContentType == "" {
		return Provenance{}, nil, nil, fmt.Errorf("%w: attribute missing", ErrProvenance)
	}
	return p, []byte(provenanceLabel + attrs), sig, nil
}

// splitProvenance unfolds the field and takes the signature off.
func splitProvenance(field []byte) (attrs string, sig []byte, err error) {
	n := nameLen(field)
	if !equalFold(ProvenanceName, field[:n]) || len(field) == n || field[n] != ':' {
		return "", nil, fmt.Errorf("%w: not that field", ErrProvenance)
	}
	text := strings.TrimPrefix(unfold(field[n+1:]), " ")
	attrs, encoded, found := strings.Cut(text, "; sig=")
	if !found {
		return "", nil, fmt.Errorf("%w: no signature", ErrProvenance)
	}
	sig, err = base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(encoded, " ", ""))
	if err != nil || len(sig) == 0 {
		return "", nil, fmt.Errorf("%w: bad signature encoding", ErrProvenance)
	}
	return attrs, sig, nil
}

// set stores one attribute.
func (p *Provenance) set(name, value string) (err error) {
	switch name {
	case "id":
		p.ID = value
	case "rcpt":
		p.Recipient = value
	case "t":
		if p.Time, err = time.Parse("2006-01-02T15:04:05Z", value); err != nil {
			return fmt.Errorf("%w: bad time", ErrProvenance)
		}
	case "tls":
		p.TLS = value
	case "spf":
		p.SPF = value
	case "dkim":
		p.DKIM = value
	case "dmarc":
		p.DMARC = value
	case "class":
		p.Class = value
	case "ct":
		p.ContentType = ContentTypeChange(value)
		if _, err = p.ContentType.parse(); err != nil {
			return fmt.Errorf("%w: unknown ct", ErrProvenance)
		}
	case "head":
		return setDigest(&p.Head, value)
	case "body":
		return setDigest(&p.Body, value)
	case "key":
		p.Key = value
	default:
		return p.setExtra(name, value)
	}
	return nil
}

func (p *Provenance) setExtra(name, value string) error {
	if len(p.Extra) == maxExtra || !validName(name) {
		return fmt.Errorf("%w: bad attribute", ErrProvenance)
	}
	for _, x := range p.Extra {
		if x.Name == name {
			return fmt.Errorf("%w: attribute repeated", ErrProvenance)
		}
	}
	p.Extra = append(p.Extra, Attribute{name, value})
	return nil
}

func validName(name string) bool {
	for i := 0; i < len(name); i++ {
		c := lower(name[i])
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return name != "" && name != "v" && name != "sig"
}

func setDigest(d *[32]byte, value string) error {
	b, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(b) != len(d) {
		return fmt.Errorf("%w: bad digest", ErrProvenance)
	}
	copy(d[:], b)
	return nil
}

// plain reports whether c may stand in a value as it is.
func plain(c byte) bool { return c > ' ' && c < 0x7f && c != ';' && c != '%' }

func escape(b *strings.Builder, value string) {
	const digits = "0123456789ABCDEF"
	from := 0
	for i := 0; i < len(value); i++ {
		if c := value[i]; !plain(c) {
			b.WriteString(value[from:i])
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			from = i + 1
		}
	}
	b.WriteString(value[from:])
}

func unescape(value string) (string, error) {
	if strings.IndexByte(value, '%') < 0 {
		return value, nil
	}
	out := bytes.NewBuffer(make([]byte, 0, len(value)))
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			out.WriteByte(value[i])
			continue
		}
		if i+2 >= len(value) {
			return "", fmt.Errorf("%w: bad escape", ErrProvenance)
		}
		hi, ok1 := unhex(value[i+1])
		lo, ok2 := unhex(value[i+2])
		if !ok1 || !ok2 {
			return "", fmt.Errorf("%w: bad escape", ErrProvenance)
		}
		out.WriteByte(hi<<4 | lo)
		i += 2
	}
	return out.String(), nil
}
