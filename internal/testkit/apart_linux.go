package testkit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// apart tells a test that it runs in namespaces of its own.
const apart = "POSTERN_TEST_APART"

// Apart runs a top-level test again, alone, in a network and a mount namespace of its
// own, and returns true there: for programs that take names from /etc/resolv.conf and
// trust the system's authorities. Outside it returns false when that run has ended, and
// has failed the test if that one failed. Where there are no namespaces to be had, it is
// a part that is missing.
func Apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apart) == "1" {
		return true
	}
	if testing.Short() {
		t.Skip("starts other programs")
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), apart+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		Missing(t, "namespaces of its own: "+err.Error())
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out.String())
	}
	return false
}

// Authority is a private certificate authority, and a TLS certificate by it.
type Authority struct {
	CA, Cert, Key string // files, PEM
}

// Furnish makes the namespaces of Apart habitable: the loopback interface is up and has
// ip too, names are asked of 127.0.0.1, and the system trusts one authority, which has
// certified the given names.
func Furnish(t *testing.T, ip string, names ...string) Authority {
	t.Helper()
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", ip + "/32", "dev", "lo"}} {
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	// What is mounted here must not be seen outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a := newAuthority(t, dir, names)
	for target, text := range map[string]string{
		"/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
		"/etc/hosts":       "127.0.0.1 localhost\n",
	} {
		file := filepath.Join(dir, filepath.Base(target))
		writeFile(t, file, []byte(text))
		cover(t, file, target)
	}
	cover(t, a.CA, "/etc/ssl/certs/ca-certificates.crt")
	return a
}

// cover lets a file be seen in place of another.
func cover(t *testing.T, file, target string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(target)
	if err != nil {
		Missing(t, target)
	}
	if err := syscall.Mount(file, real, "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("mount over %s: %v", target, err)
	}
}

func newAuthority(t *testing.T, dir string, names []string) Authority {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	a := Authority{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	writeFile(t, a.CA, block("CERTIFICATE", caDER))
	writeFile(t, a.Cert, append(block("CERTIFICATE", der), block("CERTIFICATE", caDER)...))
	writeFile(t, a.Key, block("PRIVATE KEY", secret))
	return a
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
