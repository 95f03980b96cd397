package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/keydir"
)

// web is other people's part of the Internet: Web Key Directories of many domains, each
// on an address of its own, a DNS that knows them, and an authority that they have
// certificates of.
type web struct {
	dns, caFile string

	ca      *x509.Certificate
	key     *ecdsa.PrivateKey // of the authority and of all hosts
	dnsConn net.PacketConn
	servers []*http.Server

	mu      sync.RWMutex
	address map[string][4]byte // by name
	files   map[string][]byte  // by path
}

// newWeb makes one without hosts; it keeps a file in dir.
func newWeb(dir string) (*web, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	w := &web{key: key, caFile: filepath.Join(dir, "ca.pem"), address: make(map[string][4]byte), files: make(map[string][]byte)}
	template := webTemplate("Test CA")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if w.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if err := os.WriteFile(w.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return nil, err
	}
	if w.dnsConn, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	w.dns = w.dnsConn.LocalAddr().String()
	go w.serveDNS()
	return w, nil
}

func webTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func (w *web) close() error {
	errs := []error{w.dnsConn.Close()}
	for _, s := range w.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// host adds a domain whose directory takes a while for each answer. It listens on port
// 443, for which the program has to be root.
func (w *web) host(domain string, delay time.Duration) error {
	n := len(w.servers) + 1
	ip := [4]byte{127, 77, byte(n >> 8), byte(n)}
	name := "openpgpkey." + domain
	template := webTemplate(name)
	template.DNSNames = []string{name}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, w.key.Public(), w.key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(net.IP(ip[:]).String(), "443"))
	if err != nil {
		return err
	}
	s := &http.Server{
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: w.key}}},
		Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			if !pause(r.Context(), delay) {
				return
			}
			w.mu.RLock()
			file, ok := w.files[r.URL.Path]
			w.mu.RUnlock()
			if !ok {
				http.NotFound(out, r)
				return
			}
			_, _ = out.Write(file) // whoever hung up has no answer
		}),
	}
	go s.ServeTLS(l, "", "")
	w.servers = append(w.servers, s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.address[name+"."] = ip
	return nil
}

// pause waits, and reports whether somebody still wants the answer.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// add puts a new certificate for an address into its domain's directory.
func (w *web) add(a mail.Address) error {
	key, err := pgp.GenerateKey(a.String(), time.Now().Add(-time.Minute))
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files["/.well-known/openpgpkey/"+a.Domain+"/hu/"+keydir.WKDHash(a.Local)] = key.Certificate().Data()
	return nil
}

// serveDNS answers until the socket is closed.
func (w *web) serveDNS() {
	buf := make([]byte, 1500)
	for {
		n, from, err := w.dnsConn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := w.answerDNS(buf[:n]); err == nil {
			_, _ = w.dnsConn.WriteTo(answer, from) // whoever asked asks again
		}
	}
}

// answerDNS knows one address of each host, and that there is nothing else.
func (w *web) answerDNS(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	w.mu.RLock()
	ip, ok := w.address[strings.ToLower(q.Name.String())]
	w.mu.RUnlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, RecursionDesired: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	switch {
	case !ok:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: ip},
		}}
		return m.Pack()
	}
	zone := dnsmessage.MustNewName("test.")
	m.Authorities = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: zone, Type: dnsmessage.TypeSOA, Class: q.Class, TTL: 60},
		Body:   &dnsmessage.SOAResource{NS: zone, MBox: zone, Serial: 1, MinTTL: 60},
	}}
	return m.Pack()
}
