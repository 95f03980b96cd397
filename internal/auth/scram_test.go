package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
)

var _ sasl.Server = (*ScramServer)(nil)

// The example exchange of RFC 7677 3.
func TestScramVector(t *testing.T) {
	t.Parallel()
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	cred := Credential{ID: 7, Account: "user", Salt: salt, Iterations: 4096}
	cred.StoredKey, cred.ServerKey = Derive("pencil", salt, 4096)
	a := New(Options{Directory: &directory{creds: map[string][]Credential{"user": {cred}}}})
	s := a.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)
	s.nonces = func() (string, error) { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", nil }
	for _, step := range [][2]string{
		{
			"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
			"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		},
		{
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
		{"", ""},
	} {
		challenge, done, err := s.Next([]byte(step[0]))
		if err != nil || string(challenge) != step[1] || done != (step[0] == "") {
			t.Fatalf("%q: got %q, %v, %v; want %q", step[0], challenge, done, err, step[1])
		}
	}
	if got := s.Identity(); got != (Identity{Login: "user", Credential: 7}) {
		t.Errorf("identity %+v", got)
	}
	if _, _, err := s.Next([]byte("n,,n=user,r=x")); !errors.Is(err, ErrMalformed) || s.Identity() != (Identity{}) {
		t.Errorf("after the end: %v, %+v", err, s.Identity())
	}
}

func TestScram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	comma := "o=brien,jr@example.org"
	w.dir.creds[comma] = []Credential{AppCredential(comma, "weak but odd: =2C,", nil)}
	for name, tt := range map[string]struct {
		client client
		want   error
		who    string
	}{
		"first app password":    {client{user: alice, password: w.alice[0]}, nil, alice},
		"second app password":   {client{user: alice, password: w.alice[1]}, nil, alice},
		"in another spelling":   {client{user: "ALICE+x@example.org", password: w.alice[1]}, nil, alice},
		"client knows no -PLUS": {client{user: alice, password: w.alice[1], gs2: "y"}, nil, alice}, // nor do we, without TLS
		"own authzid":           {client{user: alice, password: w.alice[1], authz: alice}, nil, alice},
		"somebody's authzid":    {client{user: alice, password: w.alice[1], authz: bob}, ErrRejected, ""},
		"escapes in the name":   {client{user: comma, password: "weak but odd: =2C,"}, nil, comma},
		"somebody's password":   {client{user: alice, password: w.bob}, ErrRejected, ""},
		"wrong":                 {client{user: alice, password: "wrong"}, ErrRejected, ""},
		"unknown":               {client{user: "nobody@example.org", password: w.alice[0]}, ErrRejected, ""},
		// SCRAM has room for one salt, and app passwords come first.
		"chosen beside app":         {client{user: alice, password: aliceHuman}, ErrRejected, ""},
		"chosen alone":              {client{user: carol, password: carolHuman}, nil, carol},
		"chosen alone, wrong":       {client{user: carol, password: aliceHuman}, ErrRejected, ""},
		"binding without -PLUS":     {client{user: alice, password: w.alice[0], binding: []byte("x")}, ErrRejected, ""},
		"-PLUS flag, not asked":     {client{user: alice, password: w.alice[0], gs2: "p=tls-exporter"}, ErrMalformed, ""},
		"empty proof":               {client{user: alice, password: w.alice[0], tamper: proofOf(nil)}, ErrRejected, ""},
		"short proof":               {client{user: alice, password: w.alice[0], tamper: proofOf(make([]byte, 31))}, ErrRejected, ""},
		"nonce of another exchange": {client{user: alice, password: w.alice[0], otherNonce: "fyko+d2lbbFgONRv9qkxdawLreplayed"}, ErrRejected, ""},
		"changed nonce": {client{user: alice, password: w.alice[0], tamper: func(s string, p []byte) (string, []byte) {
			return s + "x", p
		}}, ErrRejected, ""},
		"added extension": {client{user: alice, password: w.alice[0], tamper: func(s string, p []byte) (string, []byte) {
			return s + ",x=y", p
		}}, ErrRejected, ""},
	} {
		if tt.client.gs2 == "" {
			tt.client.gs2 = "n"
		}
		w.clock.Advance(time.Hour)
		s := w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)
		err := tt.client.login(s)
		if !errors.Is(err, tt.want) || s.Identity().Login != tt.who {
			t.Errorf("%s: got %v, %+v; want %v, %q", name, err, s.Identity(), tt.want, tt.who)
		}
	}
}

func proofOf(p []byte) func(string, []byte) (string, []byte) {
	return func(s string, _ []byte) (string, []byte) { return s, p }
}

// What a login that does not exist is told is like what one is told that does.
func TestScramUnknownLooksAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := func(login string) string {
		c := client{user: login, gs2: "n"}
		challenge, _, err := w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false).Next(c.first())
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(challenge), ",")
		return rest
	}
	if a, b := first(alice), first("alice+x@EXAMPLE.org"); a != b {
		t.Errorf("known login: %s and %s", a, b)
	}
	if a, b := first("nobody@example.org"), first("Nobody+x@EXAMPLE.org"); a != b {
		t.Errorf("unknown login: %s and %s", a, b)
	}
	if first("nobody@example.org") == first("somebody@example.org") {
		t.Error("two unknown logins have one salt")
	}
	if len(strings.SplitN(first(alice), ",", 2)[0]) != len(strings.SplitN(first("nobody@example.org"), ",", 2)[0]) {
		t.Error("the length of the salt gives it away")
	}
	// Both iteration counts occur among those that do not exist.
	high := 0
	for i := range 400 {
		if strings.HasSuffix(first("n"+strings.Repeat("x", i%40)+strings.Repeat("y", i/40)+"@example.org"), "i=600000") {
			high++
		}
	}
	if high < 50 || high > 150 {
		t.Errorf("%d of 400 unknown logins have the high count, want about 100", high)
	}
	// The salt survives a restart with the same secret.
	before := first("nobody@example.org")
	w.restart(Options{Secret: w.o.Secret})
	if first("nobody@example.org") != before {
		t.Error("the salt of an unknown login changed")
	}
}

// Even if somebody knew the invented credential of a login that does not exist.
func TestScramFakeNeverSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)
	c := client{user: "nobody@example.org", password: "guessed", gs2: "n"}
	for w.fakeIterations(c.user) != AppIterations { // quickly
		c.user = "x" + c.user
	}
	challenge, _, err := s.Next(c.first())
	if err != nil {
		t.Fatal(err)
	}
	final, err := c.final(challenge)
	if err != nil {
		t.Fatal(err)
	}
	s.creds[0].StoredKey, s.creds[0].ServerKey = Derive("guessed", s.creds[0].Salt, s.creds[0].Iterations)
	if _, _, err := s.Next(final); !errors.Is(err, ErrRejected) {
		t.Errorf("got %v, want ErrRejected", err)
	}
}

func TestScramFailsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dir.err = errors.New("database is gone")
	c := client{user: alice, password: w.alice[0], gs2: "n"}
	s := w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)
	if err := c.login(s); !errors.Is(err, w.dir.err) || errors.Is(err, ErrRejected) {
		t.Errorf("got %v, want the directory's error", err)
	}
	w.dir.err = nil
	w.o.Rand = strings.NewReader("too short")
	if err := c.login(w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the random source's error", err)
	}
}

func TestScramIsThrottled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var throttled *ErrThrottled
	for i := range freeFailures + 1 {
		c := client{user: alice, password: "wrong", gs2: "n"}
		if err := c.login(w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)); !errors.Is(err, ErrRejected) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	c := client{user: alice, password: w.alice[0], gs2: "n"}
	if err := c.login(w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)); !errors.As(err, &throttled) || throttled.Wait != time.Second {
		t.Fatalf("got %v, want a wait of 1 s", err)
	}
	// Exchanges that were begun before do not get round it.
	w.clock.Advance(time.Second)
	open := make([]*ScramServer, 10)
	finals := make([][]byte, len(open))
	for i := range open {
		open[i] = w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)
		c := client{user: strconv.Itoa(i) + "@example.org", gs2: "n"}
		challenge, _, err := open[i].Next(c.first())
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(string(challenge), ",")
		finals[i] = []byte("c=biws," + nonce + ",p=" + base64.StdEncoding.EncodeToString(make([]byte, sha256.Size)))
	}
	for i := range open {
		_, _, err := open[i].Next(finals[i])
		if i == 0 && !errors.Is(err, ErrRejected) || i > 0 && !errors.As(err, &throttled) {
			t.Errorf("exchange %d: %v", i, err)
		}
	}
	// Malformed messages are nobody's guess.
	w.clock.Advance(time.Hour)
	for range 50 {
		if _, _, err := w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false).Next([]byte("rubbish")); !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	}
	if err := c.login(w.SCRAM(t.Context(), ip("192.0.2.1"), nil, false)); err != nil {
		t.Error(err)
	}
	// A chosen password waits where an app password does not.
	for i := range freeFailures + 1 {
		c := client{user: carol, password: "wrong", gs2: "n"}
		_ = c.login(w.SCRAM(t.Context(), netipOf(byte(i)), nil, false))
	}
	c = client{user: carol, password: carolHuman, gs2: "n"}
	if err := c.login(w.SCRAM(t.Context(), ip("198.51.100.1"), nil, false)); !errors.As(err, &throttled) {
		t.Errorf("got %v, want a wait", err)
	}
}

// connect makes a TLS connection and returns both ends' states and the server's certificate.
func connect(t testing.TB, version uint16, key any, public any) (srv, cli tls.ConnectionState, leaf *x509.Certificate) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mail.example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, public, key)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	server := tls.Server(a, &tls.Config{MaxVersion: version, SessionTicketsDisabled: true, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	peer := tls.Client(b, &tls.Config{MaxVersion: version, RootCAs: pool, ServerName: "mail.example.org"})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- server.HandshakeContext(ctx) }()
	if err := errors.Join(peer.HandshakeContext(ctx), <-failed); err != nil {
		t.Fatal(err)
	}
	return server.ConnectionState(), peer.ConnectionState(), leaf
}

func TestScramPlus(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	srv, cli, leaf := connect(t, tls.VersionTLS13, ec, &ec.PublicKey)
	old, _, oldLeaf := connect(t, tls.VersionTLS12, ec, &ec.PublicKey)
	exporter, err := cli.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	var shown *x509.Certificate
	w.o.Certificate = func(*tls.ConnectionState) *x509.Certificate { return shown }
	endPoint := func(c *x509.Certificate) []byte { h := sha256.Sum256(c.Raw); return h[:] }

	for name, tt := range map[string]struct {
		state   *tls.ConnectionState
		leaf    *x509.Certificate
		offered bool
		plus    bool
		gs2     string
		binding []byte
		want    error
	}{
		"exporter":                       {&srv, nil, true, true, "p=tls-exporter", exporter, nil},
		"exporter, certificate known":    {&srv, leaf, true, true, "p=tls-exporter", exporter, nil},
		"end point on TLS 1.3":           {&srv, leaf, true, true, "p=tls-server-end-point", endPoint(leaf), nil},
		"end point on TLS 1.2":           {&old, oldLeaf, true, true, "p=tls-server-end-point", endPoint(oldLeaf), nil},
		"end point, certificate unknown": {&srv, nil, true, true, "p=tls-server-end-point", endPoint(leaf), ErrRejected},
		"end point of another":           {&old, oldLeaf, true, true, "p=tls-server-end-point", endPoint(leaf), ErrDowngrade},
		"exporter of another":            {&srv, leaf, true, true, "p=tls-exporter", make([]byte, 32), ErrDowngrade},
		"exporter missing":               {&srv, leaf, true, true, "p=tls-exporter", nil, ErrDowngrade},
		"exporter on TLS 1.2":            {&old, oldLeaf, true, true, "p=tls-exporter", exporter, ErrRejected},
		"tls-unique":                     {&srv, leaf, true, true, "p=tls-unique", exporter, ErrRejected},
		"-PLUS without a flag":           {&srv, leaf, true, true, "n", nil, ErrMalformed},
		"-PLUS and y":                    {&srv, leaf, true, true, "y", nil, ErrMalformed},
		"client cannot":                  {&srv, leaf, true, false, "n", nil, nil},
		"downgrade":                      {&srv, leaf, true, false, "y", nil, ErrDowngrade},
		"downgrade on TLS 1.2":           {&old, oldLeaf, true, false, "y", nil, ErrDowngrade},
		"y, nothing was offered":         {&old, nil, false, false, "y", nil, nil},
		"y, no TLS":                      {nil, leaf, false, false, "y", nil, nil},
		"-PLUS, not offered":             {nil, leaf, false, true, "p=tls-exporter", exporter, ErrRejected},
		"-PLUS before the handshake":     {&tls.ConnectionState{Version: tls.VersionTLS13}, leaf, false, true, "p=tls-exporter", exporter, ErrRejected},
	} {
		w.clock.Advance(time.Hour)
		shown = tt.leaf
		if got := w.Binds(tt.state); got != tt.offered {
			t.Errorf("%s: offered %v, want %v", name, got, tt.offered)
		}
		s := w.SCRAM(t.Context(), ip("192.0.2.1"), tt.state, tt.plus)
		c := client{user: alice, password: w.alice[1], gs2: tt.gs2, binding: tt.binding}
		err := c.login(s)
		if !errors.Is(err, tt.want) || (err == nil) != (s.Identity().Login == alice) {
			t.Errorf("%s: got %v, %+v; want %v", name, err, s.Identity(), tt.want)
		}
		if errors.Is(err, ErrDowngrade) && !errors.Is(err, ErrRejected) {
			t.Errorf("%s: a downgrade is not a rejection: %v", name, err)
		}
	}
}

func TestEndPointHash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	public, ed, _ := ed25519.GenerateKey(rand.Reader)
	state, _, leaf := connect(t, tls.VersionTLS12, p384, &p384.PublicKey)
	w.o.Certificate = func(*tls.ConnectionState) *x509.Certificate { return leaf }
	want := sha512.Sum384(leaf.Raw)
	if got := w.bindings(&state)[tlsServerEndPoint]; string(got) != string(want[:]) {
		t.Errorf("P-384: %x, want SHA-384 %x", got, want)
	}
	// RFC 5929 does not say what the binding of an Ed25519 certificate is.
	state, _, leaf = connect(t, tls.VersionTLS12, ed, public)
	if w.Binds(&state) {
		t.Error("Ed25519 has a binding")
	}
	for alg, h := range map[x509.SignatureAlgorithm]int{
		x509.SHA1WithRSA: 32, x509.SHA256WithRSA: 32, x509.SHA384WithRSAPSS: 48, x509.SHA512WithRSA: 64, x509.PureEd25519: 0, x509.UnknownSignatureAlgorithm: 0,
	} {
		if got := endPointHash(alg); got == 0 && h != 0 || got != 0 && got.Size() != h {
			t.Errorf("%v: %v", alg, got)
		}
	}
}
