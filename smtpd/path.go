package smtpd

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/internal/mail"
)

var (
	errSyntaxMail = mail.Refuse(501, "5.5.4", "syntax: MAIL FROM:<address>")
	errSyntaxRcpt = mail.Refuse(501, "5.5.4", "syntax: RCPT TO:<address>")
	errBadMail    = mail.Refuse(501, "5.1.7", "bad sender address syntax")
	errBadRcpt    = mail.Refuse(501, "5.1.3", "bad recipient address syntax")
	errNeedUTF8   = mail.Refuse(553, "5.6.7", "address not in ASCII, but no SMTPUTF8")
	errBadParam   = mail.Refuse(501, "5.5.4", "bad parameter syntax")
	errTwice      = mail.Refuse(501, "5.5.4", "parameter given twice")
	errParam      = mail.Refuse(555, "5.5.4", "parameter not recognized or not implemented")
)

var errPath = errors.New("not a path")

// cutPath splits what follows "FROM:" or "TO:" into the mailbox between the angle
// brackets and the parameters behind them. A source route is dropped (RFC 5321
// 4.1.1.3 and C). Spaces before the path are tolerated: many clients send one.
func cutPath(s string) (mailbox, params string, err error) {
	s, ok := strings.CutPrefix(strings.TrimLeft(s, " "), "<")
	if !ok {
		return "", "", errPath
	}
	if strings.HasPrefix(s, "@") {
		if s, ok = cutRoute(s); !ok {
			return "", "", errPath
		}
	}
	end := mailboxEnd(s)
	if end < 0 {
		return "", "", errPath
	}
	mailbox, params = s[:end], s[end+1:]
	if params != "" && params[0] != ' ' {
		return "", "", errPath
	}
	return mailbox, params, nil
}

// cutRoute drops the A-d-l ":" at the front of s (RFC 5321 4.1.2).
func cutRoute(s string) (string, bool) {
	for {
		s = s[1:] // the "@"
		n := strings.IndexAny(s, ",:<>\"@ ")
		if strings.HasPrefix(s, "[") { // the colons of an IPv6 address
			if n = strings.IndexByte(s, ']') + 1; n == len(s) {
				return "", false
			}
		}
		if n <= 0 {
			return "", false
		}
		if _, err := mail.ParseDomain(s[:n]); err != nil {
			return "", false
		}
		switch {
		case s[n] == ':':
			return s[n+1:], true
		case s[n] == ',' && strings.HasPrefix(s[n+1:], "@"):
			s = s[n+1:]
		default:
			return "", false
		}
	}
}

// mailboxEnd finds the ">" that is not inside a quoted local-part.
func mailboxEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}

// offer is what parameters a front end offers beyond those that all have.
type offer struct{ submission, requireTLS bool }

// parseMail reads the argument of MAIL (RFC 5321 4.1.1.2).
func parseMail(arg string, o offer) (mail.Address, smtp.MailOptions, *mail.Error) {
	var opts smtp.MailOptions
	rest, ok := cutPrefixFold(arg, "FROM:")
	if !ok {
		return mail.Address{}, opts, errSyntaxMail
	}
	box, params, err := cutPath(rest)
	if err != nil {
		return mail.Address{}, opts, errSyntaxMail
	}
	if e := parseMailParams(params, &opts, o); e != nil {
		return mail.Address{}, opts, e
	}
	if box == "" {
		return mail.Address{}, opts, nil
	}
	if !opts.UTF8 && !ascii(box) {
		return mail.Address{}, opts, errNeedUTF8
	}
	a, err := mail.ParseAddress(box)
	if err != nil {
		return mail.Address{}, opts, errBadMail
	}
	return a, opts, nil
}

// parseRcpt reads the argument of RCPT (RFC 5321 4.1.1.3). The bare <Postmaster> is
// one of domain.
func parseRcpt(arg, domain string, utf8 bool, o offer) (r mail.Rcpt, _ *mail.Error) {
	rest, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		return r, errSyntaxRcpt
	}
	box, params, err := cutPath(rest)
	if err != nil {
		return r, errSyntaxRcpt
	}
	if e := parseRcptParams(params, &r, o); e != nil {
		return r, e
	}
	if strings.EqualFold(box, "postmaster") {
		r.Address = mail.Address{Local: "postmaster", Domain: domain}
		return r, nil
	}
	if !utf8 && !ascii(box) {
		return r, errNeedUTF8
	}
	if r.Address, err = mail.ParseAddress(box); err != nil {
		return r, errBadRcpt
	}
	return r, nil
}

// parseRcptParams reads the parameters of RCPT: those of DSN, and only where it is offered.
func parseRcptParams(params string, r *mail.Rcpt, o offer) *mail.Error {
	return eachParam(params, func(key, value string, _ bool) *mail.Error {
		var twice, ok bool
		switch {
		case !o.submission:
			return errParam
		case strings.EqualFold(key, "NOTIFY"): // RFC 3461 4.1
			twice = r.Notify != 0
			r.Notify, ok = parseNotify(value)
		case strings.EqualFold(key, "ORCPT"): // RFC 3461 4.2
			twice = r.Original != ""
			r.Original, ok = parseORCPT(value)
		default:
			return errParam
		}
		return judge(ok, twice)
	})
}

// judge is the answer to a parameter.
func judge(ok, twice bool) *mail.Error {
	switch {
	case !ok:
		return errBadParam
	case twice:
		return errTwice
	}
	return nil
}

// parseMailParams reads the parameters of MAIL that we offer.
func parseMailParams(params string, opts *smtp.MailOptions, o offer) *mail.Error {
	var size bool
	return eachParam(params, func(key, value string, given bool) *mail.Error {
		var twice bool
		switch {
		case strings.EqualFold(key, "SIZE"): // RFC 1870 4
			n, ok := parseSize(value)
			if !ok {
				return errBadParam
			}
			twice, size, opts.Size = size, true, n
		case strings.EqualFold(key, "BODY"): // RFC 6152 2
			twice = opts.Body != ""
			opts.Body = smtp.BodyType(strings.ToUpper(value))
			if value == "" {
				return errBadParam
			}
			if opts.Body != smtp.Body7Bit && opts.Body != smtp.Body8BitMIME {
				return errParam
			}
		case strings.EqualFold(key, "SMTPUTF8"): // RFC 6531 3.4
			if given {
				return errBadParam
			}
			twice, opts.UTF8 = opts.UTF8, true
		case o.requireTLS && strings.EqualFold(key, "REQUIRETLS"): // RFC 8689 2
			if given {
				return errBadParam
			}
			twice, opts.RequireTLS = opts.RequireTLS, true
		case o.submission:
			return parseSubmissionParam(key, value, opts)
		default:
			return errParam
		}
		return judge(true, twice)
	})
}

// parseSubmissionParam reads the parameters of MAIL that only submission offers.
func parseSubmissionParam(key, value string, opts *smtp.MailOptions) *mail.Error {
	var twice, ok bool
	switch {
	case strings.EqualFold(key, "RET"): // RFC 3461 4.3
		twice = opts.Return != ""
		opts.Return, ok = parseReturn(value)
	case strings.EqualFold(key, "ENVID"): // RFC 3461 4.4
		twice = opts.EnvelopeID != ""
		opts.EnvelopeID, ok = parseEnvID(value)
	case strings.EqualFold(key, "AUTH"):
		// RFC 4954 5: who wrote it, as the client says. Who logged in is what counts.
		identity, decoded := decodeXtext(value)
		twice, ok = opts.Auth != nil, decoded && identity != ""
		opts.Auth = &identity
	default:
		return errParam
	}
	return judge(ok, twice)
}

// parseSize reads 1*20DIGIT. What does not fit is the largest number: too big.
func parseSize(s string) (int64, bool) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// eachParam calls f for every esmtp-param (RFC 5321 4.1.2); given says whether
// there was a "=".
func eachParam(s string, f func(key, value string, given bool) *mail.Error) *mail.Error {
	for {
		s = strings.TrimLeft(s, " ")
		if s == "" {
			return nil
		}
		param := s
		if i := strings.IndexByte(s, ' '); i >= 0 {
			param, s = s[:i], s[i:]
		} else {
			s = ""
		}
		key, value, given := strings.Cut(param, "=")
		if !keyword(key) || given && !paramValue(value) {
			return errBadParam
		}
		if e := f(key, value, given); e != nil {
			return e
		}
	}
}

func keyword(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (c != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

func paramValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == '=' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
