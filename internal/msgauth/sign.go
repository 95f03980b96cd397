package msgauth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync/atomic"

	"postern/internal/message"
)

// SigningKey is a key that signs mail of a domain (RFC 6376). Key is an RSA key or an
// Ed25519 key (RFC 8463); its public half is published at Selector._domainkey.Domain.
type SigningKey struct {
	Domain, Selector string // the domain in lower case with A-labels
	Key              crypto.Signer
}

// Signer signs mail that leaves. It may be used by many at once.
type Signer struct {
	keys atomic.Pointer[map[string][]SigningKey]
}

// NewSigner returns a signer with keys.
func NewSigner(keys ...SigningKey) *Signer {
	s := new(Signer)
	s.Set(keys...)
	return s
}

// Set replaces all keys; what was begun is signed with the old ones.
func (s *Signer) Set(keys ...SigningKey) {
	domains := make(map[string][]SigningKey)
	for _, k := range keys {
		domains[k.Domain] = append(domains[k.Domain], k)
	}
	s.keys.Store(&domains)
}

// Begin starts the signatures of one message for the domain in its From, exactly. It is
// nil if there is no key for the domain.
func (s *Signer) Begin(domain string) *Signing {
	keys := (*s.keys.Load())[domain]
	if len(keys) == 0 {
		return nil
	}
	return &Signing{keys: keys, body: relaxedBody{hash: sha256.New()}}
}

// Signing is the signatures of one message in the making. What is written to it is the
// body as it leaves, once; it is hashed and not kept. A nil Signing signs nothing.
type Signing struct {
	keys []SigningKey
	body relaxedBody
}

// Write implements io.Writer. It never fails.
func (s *Signing) Write(p []byte) (int, error) {
	if s == nil {
		return len(p), nil
	}
	s.body.write(p)
	return len(p), nil
}

// Fields returns the DKIM-Signature fields, one for each key, to be put on top of a
// header section once all of the body was written. header is that section as it leaves,
// with or without the blank line behind it. A key that cannot sign is an error.
func (s *Signing) Fields(header []byte) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	h, _, err := message.ParseHeader(header)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	bodyHash := base64.StdEncoding.EncodeToString(s.body.sum())
	names, fields := signedFields(h)
	var all []byte
	for _, k := range s.keys {
		field, err := k.sign(names, fields, bodyHash)
		if err != nil {
			return nil, fmt.Errorf("sign with %s of %s: %w", k.Selector, k.Domain, err)
		}
		all = append(all, field...)
	}
	return all, nil
}

// oversigned are the fields that are signed once more often than they are there, so that
// none can be added on the way (RFC 6376 8.15).
func oversigned() []string {
	return []string{
		"From", "To", "Cc", "Subject", "Date", "Reply-To", "Message-ID", "MIME-Version", "Content-Type",
		"Content-Transfer-Encoding", "Autocrypt", "In-Reply-To", "References",
	}
}

// signedFields returns the names for the tag h=, and the fields that they stand for in
// relaxed form, in the same order: the last of a name comes first (RFC 6376 5.4.2).
func signedFields(h message.Header) (names []string, fields []byte) {
	for _, name := range oversigned() {
		for _, f := range slices.Backward(h.Fields) {
			if f.Is(name) {
				names = append(names, name)
				fields = append(appendRelaxed(fields, f.Raw), crlf...)
			}
		}
		names = append(names, name)
	}
	return names, fields
}

// sign makes one field (RFC 6376 3.5). It is folded, which relaxed form undoes.
func (k SigningKey) sign(names []string, fields []byte, bodyHash string) ([]byte, error) {
	algorithm := "rsa-sha256"
	if _, ok := k.Key.Public().(ed25519.PublicKey); ok {
		algorithm = "ed25519-sha256"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: v=1; a=%s; c=relaxed/relaxed;\r\n\td=%s;\r\n\ts=%s;\r\n\th=", signatureName, algorithm, k.Domain, k.Selector)
	line := len("\th=")
	for i, name := range names {
		if i > 0 {
			b.WriteByte(':')
			line++
		}
		if line+len(name)+1 > lineLength {
			b.WriteString("\r\n\t ")
			line = 2
		}
		b.WriteString(name)
		line += len(name)
	}
	fmt.Fprintf(&b, ";\r\n\tbh=%s;\r\n\tb=", bodyHash)
	digest := sha256.Sum256(appendRelaxed(slices.Clone(fields), []byte(b.String())))
	sig, err := k.signDigest(digest[:])
	if err != nil {
		return nil, err
	}
	for text := base64.StdEncoding.EncodeToString(sig); text != ""; {
		n := min(len(text), lineLength-4)
		b.WriteString(text[:n])
		if text = text[n:]; text != "" {
			b.WriteString("\r\n\t ")
		}
	}
	b.WriteString(crlf)
	return []byte(b.String()), nil
}

func (k SigningKey) signDigest(digest []byte) ([]byte, error) {
	switch public := k.Key.Public().(type) {
	case *rsa.PublicKey:
		return k.Key.Sign(rand.Reader, digest, crypto.SHA256)
	case ed25519.PublicKey:
		return k.Key.Sign(rand.Reader, digest, crypto.Hash(0)) // RFC 8463 3: PureEdDSA over the hash
	default:
		return nil, fmt.Errorf("%T cannot sign mail", public)
	}
}

// appendRelaxed appends a field in relaxed form, without its line ending (RFC 6376
// 3.4.2): its name in lower case, white space as one space, none at the ends.
func appendRelaxed(b, raw []byte) []byte {
	colon := slices.Index(raw, ':')
	for _, c := range raw[:colon] {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != ' ' && c != '\t' {
			b = append(b, c)
		}
	}
	b = append(b, ':')
	blank, empty := false, true
	for _, c := range raw[colon+1:] {
		switch c {
		case '\r', '\n':
		case ' ', '\t':
			blank = true
		default:
			if blank && !empty {
				b = append(b, ' ')
			}
			b = append(b, c)
			blank, empty = false, false
		}
	}
	return b
}

// relaxedBody hashes a body in relaxed form (RFC 6376 3.4.4) while it goes through:
// white space as one space, none at the ends of lines, no empty lines at the end.
type relaxedBody struct {
	hash  hash.Hash
	buf   [4096]byte
	n     int
	ends  int  // line endings that are nothing if nothing follows
	blank bool // white space that is nothing if the line ends
	cr    bool // a CR that may begin a line ending
	any   bool
}

func (r *relaxedBody) write(p []byte) {
	for i := 0; i < len(p); {
		c := p[i]
		switch {
		case c == '\n':
			r.cr, r.blank = false, false
			r.ends++
			i++
			continue
		case r.cr:
			r.cr = false
			r.text([]byte{'\r'})
			continue
		case c == '\r':
			r.cr = true
		case c == ' ' || c == '\t':
			r.blank = true
		default:
			end := i + 1
			for end < len(p) && (p[end] > ' ' || !special(p[end])) {
				end++
			}
			r.text(p[i:end])
			i = end
			continue
		}
		i++
	}
}

func special(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// text is octets that stand for themselves.
func (r *relaxedBody) text(p []byte) {
	for ; r.ends > 0; r.ends-- {
		r.put([]byte(crlf))
	}
	if r.blank {
		r.put([]byte{' '})
		r.blank = false
	}
	r.put(p)
	r.any = true
}

// put gathers octets: the hash is fast with many, and slow with few.
func (r *relaxedBody) put(p []byte) {
	if len(p) > len(r.buf)-r.n {
		r.hash.Write(r.buf[:r.n])
		r.n = 0
		if len(p) > len(r.buf) {
			r.hash.Write(p)
			return
		}
	}
	r.n += copy(r.buf[r.n:], p)
}

// sum ends the body. A body that has nothing but empty lines is none.
func (r *relaxedBody) sum() []byte {
	if r.cr {
		r.cr = false
		r.text([]byte{'\r'})
	}
	if r.any {
		r.ends, r.blank = 0, false
		r.put([]byte(crlf))
	}
	r.hash.Write(r.buf[:r.n])
	r.n = 0
	return r.hash.Sum(nil)
}
