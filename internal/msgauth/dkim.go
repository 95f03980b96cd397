package msgauth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"postern/internal/mail"
)

// maxKeySize is the size in octets of an RSA key of 8192 bits as it is published
// (SubjectPublicKeyInfo, exponent 65537): a larger one costs more to use than a
// sender may ask of us.
const maxKeySize = 1062

// lookUpKey fetches the public key of an undecided signature (RFC 6376 6.1.2).
func (s *signature) lookUpKey(ctx context.Context, resolver Resolver) {
	records, err := resolver.LookupTXT(ctx, s.keyName)
	switch {
	case isNotFound(err) || err == nil && len(records) == 0:
		*s = s.is(PermError, "no key")
	case err != nil:
		*s = s.is(TempError, "key not available")
	case len(records) > 1:
		*s = s.is(PermError, "more than one key")
	default:
		*s = s.withKey(records[0])
	}
}

// withKey checks what the library does not: the size from above, and the flag
// that forbids signing for subdomains (RFC 6376 3.6.1, t=s).
func (s signature) withKey(record string) signature {
	s.key = record
	var tags [2]string
	if !tagList(record, []string{"p", "t"}, tags[:]) {
		return s // revoked or malformed, which the library tells apart
	}
	if base64.StdEncoding.DecodedLen(len(noSpace(tags[0]))) > maxKeySize+2 {
		return s.is(Policy, "key too large")
	}
	_, at, ok := strings.Cut(s.identity, "@")
	if !ok {
		return s
	}
	for flag := range strings.SplitSeq(tags[1], ":") {
		if strings.TrimSpace(flag) == "s" && !strings.EqualFold(at, s.rawDomain) {
			return s.is(PermError, "key is not for subdomains")
		}
	}
	return s
}

// verifySignatures decides the signatures that have a key. It reads the body
// once, and not at all if there is no such signature.
func verifySignatures(ctx context.Context, req *Request, signatures []signature) {
	pending := 0
	for i := range signatures {
		if signatures[i].Result == "" {
			pending++
		}
	}
	if pending == 0 {
		return
	}
	body := &quietReader{ctx: ctx}
	if req.Body != nil {
		body.r = req.Body()
	}
	checked, err := dkim.VerifyWithOptions(
		io.MultiReader(bytes.NewReader(req.Header), endOfHeader(req.Header), body),
		&dkim.VerifyOptions{
			MaxVerifications: MaxSignatures,
			LookupTXT:        func(name string) ([]string, error) { return keyFor(signatures, name) },
		})
	sound := len(checked) == len(signatures) && (err == nil || errors.Is(err, dkim.ErrTooManySignatures))
	for i := range signatures {
		s := &signatures[i]
		switch {
		case s.Result != "":
		case body.err != nil:
			*s = s.is(TempError, "message could not be read")
		case !sound:
			*s = s.is(PermError, "malformed header section")
		case !sameDomain(checked[i].Domain, s.Domain):
			*s = s.is(PermError, "malformed signature") // the library reads more tags
		default:
			*s = s.verified(checked[i].Err)
		}
	}
}

// keyFor hands the library the key records that were looked up before it ran.
func keyFor(signatures []signature, name string) ([]string, error) {
	for i := range signatures {
		s := &signatures[i]
		if s.Result == "" && name == s.rawSelector+"._domainkey."+s.rawDomain {
			return []string{s.key}, nil
		}
	}
	return nil, notFound(name)
}

func sameDomain(raw, domain string) bool {
	d, err := mail.ParseDomain(raw)
	return err == nil && d == domain
}

// verified takes the library's verdict over, in our words: its texts may hold
// text of the peer.
func (s signature) verified(err error) signature {
	switch {
	case err == nil:
		return s.is(Pass, "")
	case !dkim.IsPermFail(err) && !dkim.IsTempFail(err):
		if strings.Contains(err.Error(), "body hash") {
			return s.is(Fail, "body was changed")
		}
		return s.is(Fail, "signature is wrong")
	case strings.Contains(err.Error(), "key is too short"): // RFC 8301 3.2
		return s.is(Policy, "key too small")
	case strings.Contains(err.Error(), "key"):
		return s.is(PermError, "unusable key")
	}
	return s.is(PermError, "malformed signature")
}

// endOfHeader is the empty line that ends the header section, if header lacks it.
func endOfHeader(header []byte) io.Reader {
	missing := crlf + crlf
	switch h := string(header[max(0, len(header)-4):]); {
	case h == crlf || strings.HasSuffix(h, crlf+crlf):
		missing = ""
	case h == "" || strings.HasSuffix(h, crlf):
		missing = crlf
	}
	return strings.NewReader(missing)
}

// quietReader reads a body to its end or to its first error, which it keeps to
// itself: the library would leave goroutines behind. A nil r is an empty body.
type quietReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (q *quietReader) Read(p []byte) (int, error) {
	if q.r == nil || q.err != nil {
		return 0, io.EOF
	}
	if q.err = q.ctx.Err(); q.err != nil {
		return 0, io.EOF
	}
	n, err := q.r.Read(p)
	if err != nil && err != io.EOF {
		q.err, err = err, io.EOF
	}
	return n, err
}
