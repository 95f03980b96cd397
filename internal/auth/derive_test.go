package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// The example of RFC 7677 3: password "pencil".
func TestDerive(t *testing.T) {
	t.Parallel()
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	stored, server := Derive("pencil", salt, 4096)
	if got := base64.StdEncoding.EncodeToString(stored); got != "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=" {
		t.Errorf("StoredKey %s", got)
	}
	if got := base64.StdEncoding.EncodeToString(server); got != "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=" {
		t.Errorf("ServerKey %s", got)
	}
}

// Two ways to type the same characters are the same password (RFC 8265 4.2).
func TestDerivePrepares(t *testing.T) {
	t.Parallel()
	a, _ := Derive("cafe\u0301 cre\u0301me", []byte("sixteen octets.."), 1)
	b, _ := Derive("café\u00a0créme", []byte("sixteen octets.."), 1)
	if !bytes.Equal(a, b) {
		t.Error("composed and decomposed characters differ")
	}
	c, _ := Derive("Café\u00a0créme", []byte("sixteen octets.."), 1)
	if bytes.Equal(b, c) {
		t.Error("case is lost")
	}
}

func TestNewAppPassword(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^([a-z2-7]{5}-){4}[a-z2-7]{6}$`)
	seen := map[string]bool{}
	for range 1000 {
		p := NewAppPassword()
		if !form.MatchString(p) || seen[p] {
			t.Fatalf("bad or repeated: %q", p)
		}
		seen[p] = true
		for _, typed := range []string{p, strings.ToUpper(p), strings.ReplaceAll(p, "-", ""), strings.ReplaceAll(p, "-", " ") + " "} {
			if got, ok := appForm(typed); !ok || got != p {
				t.Fatalf("appForm(%q) = %q, %v; want %q", typed, got, ok, p)
			}
		}
	}
	for _, s := range []string{"", "short", strings.Repeat("a", 25), strings.Repeat("a", 27), strings.Repeat("1", 26), strings.Repeat("-", 100), "k3v7q-x2mzn-4hdwa-tjb6e-y5rcpé"} {
		if got, ok := appForm(s); ok {
			t.Errorf("appForm(%q) = %q", s, got)
		}
	}
}

func TestSharedSalt(t *testing.T) {
	t.Parallel()
	human := Credential{Human: true, Salt: bytes.Repeat([]byte{1}, saltSize)}
	first := AppCredential(alice, NewAppPassword(), []Credential{human})
	if bytes.Equal(first.Salt, human.Salt) || len(first.Salt) != saltSize {
		t.Errorf("salt of the first app password: %x", first.Salt)
	}
	second := AppCredential(alice, NewAppPassword(), []Credential{human, first})
	if !bytes.Equal(second.Salt, first.Salt) {
		t.Error("app passwords do not share a salt")
	}
	if bytes.Equal(second.StoredKey, first.StoredKey) {
		t.Error("two passwords, one key")
	}
	if second.Iterations != 4096 || second.Human || second.Account != alice {
		t.Errorf("%+v", second)
	}
	all := []Credential{human, first, second}
	if another := stretched(alice, aliceHuman, all, AppIterations); !bytes.Equal(another.Salt, human.Salt) {
		t.Error("chosen passwords do not share a salt")
	}
	if other := AppCredential(bob, NewAppPassword(), nil); bytes.Equal(other.Salt, first.Salt) {
		t.Error("two accounts, one salt")
	}
}

func TestHumanCredential(t *testing.T) {
	t.Parallel()
	c, err := HumanCredential(alice, aliceHuman, nil)
	if err != nil || !c.Human || c.Iterations < 600_000 || len(c.Salt) != saltSize {
		t.Fatalf("%+v, %v", c, err)
	}
	c = stretched(alice, aliceHuman, nil, AppIterations) // as above, but quickly
	if stored, server := Derive(aliceHuman, c.Salt, AppIterations); !bytes.Equal(stored, c.StoredKey) || !bytes.Equal(server, c.ServerKey) {
		t.Error("keys do not belong to the password")
	}
	if _, err := HumanCredential(alice, "short", nil); !errors.Is(err, ErrWeak) {
		t.Errorf("got %v, want ErrWeak", err)
	}
}

func TestCheckHuman(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		aliceHuman, carolHuman, "Tr0ub4dor&3 or so", "zwölf Böcke!", "密码密码不是这个密码但是可以", "alice likes geese", "%&/()=?!§$%_;:<>|",
		"password of my aunt", NewAppPassword(),
	} {
		if err := CheckHuman(good, alice, "Alice Example"); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "short", "elevenchars", "äöüäöüäöüäö", // 11 characters, 22 octets
		"aaaaaaaaaaaa", "abababababab", "abcabcabcabc", "123123123123", "123456789012", "abcdefghijkl", "zyxwvutsrqponm", "............",
		"Password1234", "password-2026", "qwertyuiop123", "correct horse battery staple", "Passw0rd!Passw0rd", "letmein12345", "1qaz2wsx3edc4rfv",
		"alice@example.org", "Alice@Example.ORG", "alice.example1", "Alice.Example.2026",
		"with\x00control char", "line\nbreak in it", "\xff\xfe\xfd\xfc not UTF-8", strings.Repeat("long ", 300),
	} {
		if err := CheckHuman(bad, alice, "alice.example"); !errors.Is(err, ErrWeak) {
			t.Errorf("%q: got %v, want ErrWeak", bad, err)
		}
	}
	// An error must not repeat the password.
	if err := CheckHuman("Password1234"); strings.Contains(err.Error(), "1234") {
		t.Errorf("the error gives the password away: %v", err)
	}
}

func BenchmarkDerive(b *testing.B) {
	salt := randomBytes(saltSize)
	for name, n := range map[string]int{"app": AppIterations, "human": HumanIterations} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Derive("k3v7q-x2mzn-4hdwa-tjb6e-y5rcpu", salt, n)
			}
		})
	}
}
