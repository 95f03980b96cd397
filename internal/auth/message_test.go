package auth

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func netipOf(b byte) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, b}) }

func TestParseClientFirst(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]clientFirst{
		"n,,n=user,r=abc":              {gs2: "n,,", flag: 'n', user: "user", nonce: "abc", bare: "n=user,r=abc"},
		"y,a=x=2Cy,n=a=3Db,r=!~,x=1":   {gs2: "y,a=x=2Cy,", flag: 'y', authz: "x,y", user: "a=b", nonce: "!~", bare: "n=a=3Db,r=!~,x=1"},
		"p=tls-exporter,,n=ü,r=q":      {gs2: "p=tls-exporter,,", flag: 'p', cbName: "tls-exporter", user: "ü", nonce: "q", bare: "n=ü,r=q"},
		"n,,n=u\u0308,r=q":             {gs2: "n,,", flag: 'n', user: "ü", nonce: "q", bare: "n=u\u0308,r=q"},
		"n,,n=" + long(100) + ",r=abc": {gs2: "n,,", flag: 'n', user: long(100), nonce: "abc", bare: "n=" + long(100) + ",r=abc"},
	} {
		got, err := parseClientFirst([]byte(in))
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "n", "n,", "n,,", "n,,n=user", "n,,n=,r=abc", "n,,r=abc,n=user", "n,,n=user,r=", "n,,n=us=er,r=abc", "n,,n=user=2c,r=abc",
		"x,,n=user,r=abc", "p=,,n=user,r=abc", "p=a b,,n=user,r=abc", "p,,n=user,r=abc", "nn,,n=user,r=abc", "F,n,,n=user,r=abc",
		"n,user,n=user,r=abc", "n,a=,n=user,r=abc", "n,,m=x,n=user,r=abc", "n,,n=user,r=abc,m=x", "n,,n=user,r=abc,", "n,,n=user,r=abc,x", "n,,n=user,r=abc,1=x", "n,,n=user,r=abc,x=",
		"n,,n=user,r=a\x7f", "n,,n=user,r=a b", "n,,n=us\x00er,r=abc", "n,,n=\xff,r=abc", "n,,n=" + long(maxScram) + ",r=abc",
	} {
		if got, err := parseClientFirst([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.40q: got %+v, %v; want ErrMalformed", in, got, err)
		}
	}
}

func TestParseClientFinal(t *testing.T) {
	t.Parallel()
	m, err := parseClientFinal([]byte("c=biws,r=abc,x=y,p=AAECAw=="))
	if err != nil || string(m.binding) != "n,," || m.nonce != "abc" || string(m.proof) != "\x00\x01\x02\x03" || m.withoutProof != "c=biws,r=abc,x=y" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, in := range []string{
		"", "c=biws,r=abc", "p=AAAA", ",p=AAAA", "c=biws,p=AAAA", "c=biws,r=abc,p=AAAA,x=y", "c=biws,r=abc,p=!", "c=!,r=abc,p=AAAA", "r=abc,c=biws,p=AAAA",
		"c=biws,r=,p=AAAA", "c=biws,r=a b,p=AAAA", "c=biws,r=abc,m=x,p=AAAA", "c=biws,r=abc,,p=AAAA", "c=biws,r=abc,p=AAECAx==", "c=biws,r=abc,p=AA\n==",
		"c=biws,r=" + long(maxScram) + ",p=AAAA", "c=biws,r=\x00,p=AAAA",
	} {
		if m, err := parseClientFinal([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.40q: got %+v, %v; want ErrMalformed", in, m, err)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// What is taken out of a message has to be in it, in the form it claims.
func FuzzClientFirst(f *testing.F) {
	for _, s := range []string{"n,,n=user,r=abc", "y,a=x=2Cy,n=a=3Db,r=!~,x=1", "p=tls-exporter,,n=\u00fc,r=q", "n,,m=x,n=user,r=abc", "n,,n==,r=,"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseClientFirst(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v", err)
			}
			return
		}
		if m.gs2+m.bare != string(b) || m.user == "" || m.nonce == "" || strings.ContainsAny(m.nonce, ", \r\n\x00") || !strings.Contains(m.bare, ",r="+m.nonce) {
			t.Fatalf("%q: %+v", b, m)
		}
		if strings.Count(m.gs2, ",") != 2 || (m.flag == 'p') != (m.cbName != "") {
			t.Fatalf("%q: %+v", b, m)
		}
	})
}

func FuzzClientFinal(f *testing.F) {
	for _, s := range []string{"c=biws,r=abc,p=AAECAw==", "c=biws,r=abc,x=y,p=", "c=,r=,p=", "c=biws,r=abc,p=AAAA,p=AAAA"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseClientFinal(b)
		if err == nil && (!strings.HasPrefix(string(b), m.withoutProof+",p=") || !strings.Contains(m.withoutProof, ",r="+m.nonce)) {
			t.Fatalf("%q: %+v", b, m)
		}
	})
}

// Whatever somebody sends who knows no password, nobody is logged in.
func FuzzScram(f *testing.F) {
	w := newWorld(f)
	c := client{user: alice, password: "wrong", gs2: "n"}
	f.Add(c.first(), []byte("c=biws,r=abc,p=AAECAw=="), []byte{}, false)
	f.Add([]byte("y,,n=carol@example.org,r=x"), []byte("c=eSws,r=x,p="), []byte{}, false)
	f.Add([]byte("p=tls-exporter,,n=alice@example.org,r=x"), []byte("c=cD10bHMtZXhwb3J0ZXIsLA==,r=x,p="), []byte("x"), true)
	f.Fuzz(func(t *testing.T, first, final, last []byte, plus bool) {
		w.clock.Advance(maxWait)
		s := w.SCRAM(t.Context(), ip("192.0.2.1"), nil, plus)
		s.nonces = func() (string, error) { return "", nil } // so that a guess of the nonce can be right
		for _, b := range [][]byte{first, final, last, last} {
			if _, done, _ := s.Next(b); done || s.Identity() != (Identity{}) {
				t.Fatalf("%q, %q, %q: somebody is logged in", first, final, last)
			}
		}
	})
}
