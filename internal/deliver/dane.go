package deliver

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/internal/dns"
)

// Fields of TLSA records (RFC 6698 2.1). SMTP knows only these usages (RFC 7672 3.1).
const (
	usageTA, usageEE         = 2, 3
	selectCert, selectSPKI   = 0, 1
	matchFull                = 0
	matchSHA256, matchSHA512 = 1, 2
	maxTLSA                  = 16 // records of a host that are looked at
)

// errNotDANE is a certificate that no TLSA record names.
var errNotDANE = errors.New("the certificate is not one that the TLSA records name")

// planDANE looks for TLSA records, if the way to the host is signed so far (RFC 7672
// 2.2). It leaves p as it is if there is no DANE.
func (d *delivery) planDANE(h hop, found addresses, p *plan) *failure {
	if !d.Resolver.Validates() || !h.secure {
		return nil
	}
	bases, f := d.daneBases(h, found)
	if f != nil {
		return f
	}
	for _, base := range bases {
		a, f := d.query(fmt.Sprintf("_%d._tcp.%s", h.port, base), dns.TypeTLSA)
		if f != nil {
			return later("4.7.5", "whether mail server %s has TLSA records cannot be found out", h.host).because(f)
		}
		if !a.Secure || len(a.Records) == 0 {
			continue
		}
		p.need, p.key.need = needTLS, needTLS
		if p.tlsa = usable(a.Records); len(p.tlsa) > 0 {
			p.need, p.name = needDANE, base
			p.names = append([]string{base}, h.names...)
			p.key.need, p.key.proof = needDANE, proof(p)
		}
		return nil
	}
	return nil
}

// daneBases are the names at which TLSA records count (RFC 7672 2.2.2, 2.2.3): where
// aliases lead, if all the way is signed, and then the host's own name.
func (d *delivery) daneBases(h hop, found addresses) ([]string, *failure) {
	switch {
	case found.secure && found.name != h.host:
		return []string{found.name, h.host}, nil
	case found.secure:
		return []string{h.host}, nil
	case found.name == h.host:
		return nil, nil
	}
	// The alias may be signed although what it leads to is not.
	a, f := d.query(h.host, dns.TypeCNAME)
	if f != nil || !a.Secure {
		return nil, f
	}
	return []string{h.host}, nil
}

// usable are the records that can be obeyed (RFC 7672 3.1).
func usable(records []dns.RR) (all []*dns.TLSA) {
	for _, rr := range records {
		t, ok := rr.(*dns.TLSA)
		if !ok || len(all) == maxTLSA {
			continue
		}
		data, err := hex.DecodeString(t.Certificate)
		good := err == nil && (t.Usage == usageTA || t.Usage == usageEE) && (t.Selector == selectCert || t.Selector == selectSPKI)
		switch t.MatchingType {
		case matchFull:
			good = good && len(data) > 0
			if good && t.Selector == selectCert {
				_, err := x509.ParseCertificate(data)
				good = err == nil
			} else if good {
				_, err := x509.ParsePKIXPublicKey(data)
				good = err == nil
			}
		case matchSHA256:
			good = good && len(data) == sha256.Size
		case matchSHA512:
			good = good && len(data) == sha512.Size
		default:
			good = false
		}
		if good {
			all = append(all, t)
		}
	}
	return all
}

// proof tells connections that were proven by different records or for different
// names from each other.
func proof(p *plan) string {
	var all []string
	for _, t := range p.tlsa {
		all = append(all, fmt.Sprint(t.Usage, t.Selector, t.MatchingType, t.Certificate))
	}
	slices.Sort(all)
	return strings.Join(append(all, p.names...), " ")
}

// matches reports whether a record names a certificate.
func matches(t *dns.TLSA, cert *x509.Certificate) bool {
	data := cert.Raw
	if t.Selector == selectSPKI {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch t.MatchingType {
	case matchSHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case matchSHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	want, err := hex.DecodeString(t.Certificate)
	return err == nil && bytes.Equal(want, data)
}

// verifyDANE proves the host by its chain (RFC 7672 3.1): DANE-EE by its key alone,
// without names and dates; DANE-TA by a chain that leads from the named authority to
// a certificate that is valid and for one of the names.
func verifyDANE(records []*dns.TLSA, names []string, chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errNotDANE
	}
	anchors, between := x509.NewCertPool(), x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	for _, t := range records {
		if t.Usage == usageEE {
			if matches(t, chain[0]) {
				return nil
			}
			continue
		}
		for _, cert := range chain {
			if matches(t, cert) {
				anchors.AddCert(cert)
			}
		}
		if t.Selector == selectCert && t.MatchingType == matchFull {
			if der, err := hex.DecodeString(t.Certificate); err == nil {
				if cert, err := x509.ParseCertificate(der); err == nil {
					anchors.AddCert(cert) // it need not be in the chain
				}
			}
		}
	}
	for _, name := range names {
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: anchors, Intermediates: between, DNSName: name, CurrentTime: now})
		if err == nil {
			return nil
		}
	}
	return errNotDANE
}
