package deliver

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"

	"postern/internal/testkit"
)

// TestOldTLS: an ordinary copy takes what TLS an old server has, before it goes in clear;
// where TLS has to be proven, it has to be good.
func TestOldTLS(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: timeIn(-1), NotAfter: timeIn(1), DNSNames: []string{"mx.example.test"},
	}
	for name, c := range map[string]struct {
		version, suite uint16
		want           string
	}{
		"RSA key exchange": {tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_CBC_SHA, "delivered 250 2.0.0 TLS1.2"},
		"3DES":             {tls.VersionTLS12, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, "delivered 250 2.0.0 TLS1.2"},
		"TLS 1.0":          {tls.VersionTLS10, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "delivered 250 2.0.0 TLS1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			der, err := x509.CreateCertificate(rand.Reader, template, w.ca.cert, key.Public(), w.ca.key)
			if err != nil {
				t.Fatal(err)
			}
			m := w.mta(1, &testkit.MTA{TLS: &tls.Config{
				Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
				MinVersion:   tls.VersionTLS10, MaxVersion: c.version, CipherSuites: []uint16{c.suite},
			}})
			want(t, "ordinary", deliver(t, w.carrier()), c.want)
			w.policy(enforce)
			before := len(m.Messages())
			if deliver(t, w.carrier()) == c.want || len(m.Messages()) != before {
				t.Error("it was good enough under enforce")
			}
		})
	}
}
