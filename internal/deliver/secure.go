package deliver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"postern/internal/dns"
	"postern/internal/telemetry"
)

// need is what a connection has to be before anything is said over it.
type need uint8

const (
	needNothing need = iota // TLS if it is offered and works
	needTLS                 // TLS, with whomever
	needPKIX                // TLS with a certificate for the host, from an authority (MTA-STS)
	needDANE                // TLS with a key that the TLSA records name
)

// plan is how to connect to a host.
type plan struct {
	need  need
	key   poolKey
	name  string      // the server name that is asked for
	tlsa  []*dns.TLSA // of needDANE
	names []string    // any of which a certificate may be for, of needDANE
}

// plan decides what a host has to prove. The table is in the package's comment.
func (d *delivery) plan(h hop, found addresses) (plan, *failure) {
	p := plan{key: poolKey{host: h.host, port: h.port}, name: h.host}
	if h.literal.IsValid() {
		p.name = ""
		if d.verified() {
			return p, noProof(h)
		}
		return p, nil
	}
	if f := d.planDANE(h, found, &p); f != nil || p.need == needDANE {
		return p, f
	}
	if f := d.planPolicy(h, &p); f != nil || p.need == needPKIX {
		return p, f
	}
	p.key.need = p.need
	if d.verified() {
		return p, noProof(h)
	}
	return p, nil
}

func noProof(h hop) *failure {
	return never("5.7.10", "mail server %s publishes neither DANE nor MTA-STS, so it cannot be reached over verified TLS", h.host)
}

// planPolicy obeys the MTA-STS policy of the domain.
func (d *delivery) planPolicy(h hop, p *plan) *failure {
	if !h.exchanger {
		return nil
	}
	policy, f := d.domainPolicy()
	switch {
	case f != nil:
		return f
	case policy.unknown && d.verified():
		return later("4.7.5", "the domain's MTA-STS policy cannot be fetched")
	case policy.policy == nil:
		return nil
	}
	mode, named := policy.policy.mode, policy.policy.names(h.host)
	enforced := mode == modeEnforce || mode == modeTesting && d.verified()
	switch {
	case enforced && !named:
		d.mismatch = true
		return later("4.7.5", "mail server %s is not one that the domain's MTA-STS policy names", h.host)
	case enforced:
		p.need = needPKIX
		p.key.need = needPKIX
	case mode == modeTesting && !named:
		d.Log.Info("MTA-STS in testing would have stopped this", telemetry.KeyDomain, d.Domain, telemetry.KeyReason, "host not named")
	}
	return nil
}

// domainPolicy asks for the domain's policy once.
func (d *delivery) domainPolicy() (*domainPolicy, *failure) {
	if d.policy == nil {
		p, f := d.policies.get(d.ctx, strings.ToLower(d.Domain))
		if f != nil {
			d.own = true
			return nil, f
		}
		d.policy = p
	}
	return d.policy, nil
}

// renewPolicy fetches the policy once more after a host did not keep it (RFC 8461
// 5.2): it may have changed without a new id. It says whether it did.
func (d *delivery) renewPolicy() bool {
	if d.policy == nil || d.policy.fresh {
		return false
	}
	renewed, changed := d.policies.renew(d.ctx, strings.ToLower(d.Domain), d.policy)
	d.policy = renewed
	return changed
}

// config is the TLS that a plan asks for. Its handshake fails if the host does not
// prove what it has to.
func (d *delivery) config(p plan) *tls.Config {
	c := &tls.Config{ServerName: p.name, MinVersion: tls.VersionTLS12, RootCAs: d.RootCAs, Time: d.Now}
	switch p.need {
	case needNothing:
		c.MinVersion = tls.VersionTLS10 // old TLS is better than none (RFC 7435)
		c.CipherSuites = everyCipherSuite()
		c.InsecureSkipVerify = true
	case needTLS:
		c.InsecureSkipVerify = true
	case needDANE:
		c.InsecureSkipVerify = true // it is verified otherwise
		c.VerifyConnection = func(state tls.ConnectionState) error {
			return verifyDANE(p.tlsa, p.names, state.PeerCertificates, d.Now())
		}
	}
	return c
}

// everyCipherSuite are those of TLS up to 1.2 that the library knows: without them old
// servers would get the copy in clear. It prefers the good ones by itself.
func everyCipherSuite() (ids []uint16) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, s.ID)
	}
	return ids
}

// label names a connection's TLS in results.
func (p plan) label(state tls.ConnectionState) string {
	version := strings.ReplaceAll(tls.VersionName(state.Version), " ", "")
	switch p.need {
	case needDANE:
		return version + " dane"
	case needPKIX:
		return version + " mta-sts"
	}
	return version
}

// handshakeFailure says what was wrong with a host's TLS, without quoting it.
func handshakeFailure(p plan, host string, err error) *failure {
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		detail    = "the handshake failed"
	)
	switch {
	case errors.Is(err, errNotDANE):
		detail = "its certificate is not the one that its TLSA records name"
	case errors.As(err, &name):
		detail = "its certificate is for another name"
	case errors.As(err, &authority):
		detail = "its certificate is from an unknown authority"
	case errors.As(err, &invalid):
		detail = "its certificate is expired or otherwise not valid"
	}
	return later("4.7.5", "no %s with mail server %s: %s", p.wants(), host, detail).because(fmt.Errorf("TLS handshake: %w", err))
}

func (p plan) wants() string {
	switch p.need {
	case needDANE:
		return "TLS verified by DANE"
	case needPKIX:
		return "TLS verified by MTA-STS"
	}
	return "TLS"
}
