package keydir

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"postern/internal/dns"
	"postern/internal/mail"
)

// maxKeys bounds the OPENPGPKEY records of a name that are looked at.
const maxKeys = 8

// DANE finds certificates in the OPENPGPKEY records of an address's own domain (RFC
// 7929). It is safe for concurrent use.
//
// The local-part is asked for as it is, and then, if there is nothing and it has
// upper-case letters, in lower case. Only an answer that a name server which we
// trust has validated counts, be it that there is a certificate or that there is
// none:
//
//	what DNS says                                    outcome
//	records that are secure, for the address         Found
//	records that are secure, none of which survives  None or Unknown, see survivors
//	securely none                                    None
//	anything, in a zone that is not signed           None, "not signed"
//	bogus, SERVFAIL, no answer                       Unknown
//	an answer from a server that does not validate   Unknown
//	we have no server that validates                 None, nobody is asked
//
// An unsigned zone gives None, because the standard knows no records there: what is
// in them could be anybody's, and never gives a certificate. A signed zone cannot be
// made to look unsigned without the validating server noticing, which is bogus.
// Without a validating server this source does not exist; it then says so instead
// of holding up all mail.
type DANE struct {
	resolver Resolver
	hosts    *Hosts
	wait     time.Duration
}

// NewDANE returns the source. Hosts may be shared with a Fetcher: a domain whose
// name servers are slow is asked only a few questions at once. timeout is for all
// the questions of a look-up; zero means DefaultFetchTimeout.
func NewDANE(r Resolver, h *Hosts, timeout time.Duration) *DANE {
	if h == nil {
		h = NewHosts(HostsOptions{})
	}
	if timeout <= 0 {
		timeout = DefaultFetchTimeout
	}
	return &DANE{resolver: r, hosts: h, wait: timeout}
}

// Name implements Source.
func (*DANE) Name() string { return "dane" }

// Trust implements Source.
func (*DANE) Trust() Trust { return Published }

// Lookup implements Source.
func (d *DANE) Lookup(ctx context.Context, address mail.Address) (Finding, error) {
	if isLiteral(address) {
		return Finding{Detail: "an address literal has no records"}, nil
	}
	if !d.resolver.Validates() {
		return Finding{Detail: "not asked: no name server that validates DNSSEC is configured"}, nil
	}
	locals := []string{address.Local}
	if lower := strings.ToLower(address.Local); lower != address.Local {
		locals = append(locals, lower)
	}
	var f Finding
	ctx, cancel := context.WithTimeout(ctx, d.wait)
	defer cancel()
	err := d.hosts.Do(ctx, "_openpgpkey."+address.Domain, func(ctx context.Context) error {
		for _, local := range locals {
			a, err := d.resolver.Query(ctx, DANEName(local, address.Domain), dns.TypeOPENPGPKEY)
			if err != nil {
				return dnsError(ctx, err)
			}
			if f, err = readDANE(a, address); err != nil || len(a.Records) > 0 {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Finding{}, err
	}
	return f, nil
}

// readDANE decides what an answer says.
func readDANE(a dns.Answer, address mail.Address) (Finding, error) {
	f := Finding{Lifetime: a.TTL}
	switch {
	case !a.Validated:
		return Finding{}, unknown(CauseDNS, nil, "the name server that validates DNSSEC does not answer")
	case len(a.Records) == 0 && a.Secure:
		f.Detail = "no record"
		return f, nil
	case len(a.Records) == 0:
		f.Detail = "no record, not signed"
		return f, nil
	case !a.Secure:
		f.Detail = "there are records, but not signed: they do not count"
		return f, nil
	}
	var failed error
	for _, rr := range a.Records[:min(len(a.Records), maxKeys)] {
		key, ok := rr.(*dns.OPENPGPKEY)
		if !ok {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(key.PublicKey)
		if err != nil || isArmored(data) {
			failed = unknown(CauseContent, err, "the record holds no binary certificate")
			continue
		}
		certs, detail, err := survivors(data, address)
		if err != nil {
			failed = err
			continue
		}
		f.Certificates = append(f.Certificates, certs...)
		f.Detail = detail
	}
	if len(f.Certificates) > 0 {
		f.Detail = "found, signed"
		return f, nil
	}
	if failed != nil {
		return Finding{}, failed
	}
	return f, nil
}

// DANEName is where the OPENPGPKEY records of an address are (RFC 7929 3): the
// first 28 octets of the SHA-256 of the local-part, which is taken as it is.
func DANEName(local, domain string) string {
	sum := sha256.Sum256([]byte(local))
	return hex.EncodeToString(sum[:28]) + "._openpgpkey." + domain
}
