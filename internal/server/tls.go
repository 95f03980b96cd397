package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"

	"postern/internal/config"
)

// certificates serves the TLS certificate that was loaded last.
type certificates struct {
	current atomic.Pointer[tls.Certificate]
}

// load reads the configured files. If that fails the certificate stays what it was.
func (s *certificates) load(c config.TLS) error {
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return fmt.Errorf("load TLS certificate: %w", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("parse TLS certificate: %w", err)
		}
	}
	s.current.Store(&pair)
	return nil
}

// config returns the TLS configuration of all front ends.
func (s *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
	}
}

// leaf is what auth binds a channel to. A connection that was made before a reload and
// logs in after it is refused where it binds to the certificate, and may come again.
func (s *certificates) leaf(*tls.ConnectionState) *x509.Certificate { return s.current.Load().Leaf }
