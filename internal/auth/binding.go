package auth

import (
	"crypto"
	_ "crypto/sha256" // linked for crypto.Hash.New
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
)

// The channel bindings.
const (
	tlsExporter       = "tls-exporter"         // RFC 9266
	tlsServerEndPoint = "tls-server-end-point" // RFC 5929 4
)

// Binds says whether SCRAM-SHA-256-PLUS may be offered on a connection: TLS has
// to end in this process, and one of the channel bindings has to exist.
func (a *Authenticator) Binds(cs *tls.ConnectionState) bool {
	return len(a.bindings(cs)) > 0
}

// bindings returns the channel bindings of a connection by name.
func (a *Authenticator) bindings(cs *tls.ConnectionState) map[string][]byte {
	if cs == nil || !cs.HandshakeComplete {
		return nil
	}
	found := make(map[string][]byte, 2)
	// Only TLS 1.3: in older versions the exporter is bound to the connection only
	// under conditions that RFC 9266 4.2 leaves to the two ends.
	if cs.Version >= tls.VersionTLS13 {
		if ekm, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err == nil {
			found[tlsExporter] = ekm
		}
	}
	if a.o.Certificate != nil {
		if cert := a.o.Certificate(cs); cert != nil {
			if h := endPointHash(cert.SignatureAlgorithm); h != 0 {
				w := h.New()
				w.Write(cert.Raw)
				found[tlsServerEndPoint] = w.Sum(nil)
			}
		}
	}
	return found
}

// endPointHash is the hash of the certificate's signature, but never one weaker
// than SHA-256. For Ed25519 the binding is not defined (RFC 5929 4.1).
func endPointHash(alg x509.SignatureAlgorithm) crypto.Hash {
	switch alg {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		return crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512
	}
	return 0
}
