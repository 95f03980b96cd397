package pgp

import (
	"bytes"
	"crypto"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const day = 24 * time.Hour

// plan describes a subkey of a test certificate. Ages are before testNow.
type plan struct {
	age     time.Duration
	life    time.Duration // of the key; 0 is for ever
	flags   byte
	noFlags bool
	revoked string // "", "compromised", "retired", "no reason"
	revAge  time.Duration
	rebound time.Duration // age of a second, newer binding; 0 is none
	sigLife time.Duration // of the binding
	kind    string        // algorithm, default Curve25519
}

// certificateWith makes a certificate whose only subkeys are as planned.
func certificateWith(t *testing.T, kind string, age time.Duration, plans ...plan) (*openpgp.Entity, *Certificate) {
	t.Helper()
	e := testEntity(t, kind, testNow.Add(-age))
	e.Subkeys = nil
	for _, p := range plans {
		addPlanned(t, e, p, kind)
	}
	return e, parseOne(t, publicOctets(t, e))
}

func addPlanned(t *testing.T, e *openpgp.Entity, p plan, kind string) {
	t.Helper()
	if p.kind != "" {
		kind = p.kind
	}
	config := testConfig(kind, testNow.Add(-p.age))
	config.KeyLifetimeSecs = uint32(p.life / time.Second)
	if err := e.AddEncryptionSubkey(config); err != nil {
		t.Fatal(err)
	}
	s := &e.Subkeys[len(e.Subkeys)-1]
	sign := func(at time.Duration, life time.Duration) {
		sig := s.Bindings[0].Packet
		fresh := *sig
		fresh.CreationTime = testNow.Add(-at)
		fresh.FlagsValid = !p.noFlags
		fresh.FlagEncryptCommunications = p.flags&flagEncryptCommunications != 0
		fresh.FlagEncryptStorage = p.flags&flagEncryptStorage != 0
		if life > 0 {
			secs := uint32(life / time.Second)
			fresh.SigLifetimeSecs = &secs
		}
		if err := fresh.SignKey(s.PublicKey, e.PrivateKey, config); err != nil {
			t.Fatal(err)
		}
		s.Bindings = append(s.Bindings, packet.NewVerifiableSig(&fresh))
	}
	sign(p.age, p.sigLife)
	if p.rebound > 0 {
		sign(p.rebound, 0)
	}
	s.Bindings = s.Bindings[1:]
	if p.revoked != "" {
		reason := map[string]packet.ReasonForRevocation{"compromised": packet.KeyCompromised,
			"retired": packet.KeyRetired, "no reason": packet.NoReason}[p.revoked]
		if err := s.Revoke(reason, "", testConfig(kind, testNow.Add(-p.revAge))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSubkeyRules: one case for every rule of choose.
func TestSubkeyRules(t *testing.T) {
	t.Parallel()
	const both, comm, store = 0x0C, 0x04, 0x08
	tests := []struct {
		name  string
		plans []plan
		want  int // index of the plan; -1 with err
		err   error
	}{
		{"one for both", []plan{{age: 10 * day, flags: both}}, 0, nil},
		{"only storage", []plan{{age: 10 * day, flags: store}}, 0, nil},
		{"newest wins", []plan{{age: 20 * day, flags: both}, {age: 10 * day, flags: both}, {age: 15 * day, flags: both}}, 1, nil},
		{"storage before a newer rotating one", []plan{{age: 100 * day, flags: both}, {age: day, flags: comm, life: 10 * day}}, 0, nil},
		{"storage before a newer eternal one", []plan{{age: 100 * day, flags: store}, {age: day, flags: comm}}, 0, nil},
		{"only a rotating one", []plan{{age: day, flags: comm, life: 10 * day}}, -1, ErrNoEncryptionSubkey},
		{"communications for ever", []plan{{age: day, flags: comm}}, 0, nil},
		{"communications for two years", []plan{{age: day, flags: comm, life: 730 * day}}, 0, nil},
		{"communications for 364 more days", []plan{{age: day, flags: comm, life: 365 * day}}, -1, ErrNoEncryptionSubkey},
		{"a rotating one does not hide a lasting one", []plan{{age: 50 * day, flags: comm}, {age: day, flags: comm, life: 10 * day}}, 0, nil},
		{"expired", []plan{{age: 100 * day, flags: both, life: 50 * day}}, -1, ErrExpired},
		{"newest is expired", []plan{{age: 100 * day, flags: both}, {age: 60 * day, flags: both, life: 50 * day}}, 0, nil},
		{"extended by a newer binding", []plan{{age: 100 * day, flags: both, sigLife: 50 * day, rebound: 10 * day}}, 0, nil},
		{"binding has expired", []plan{{age: 100 * day, flags: both, sigLife: 50 * day}}, -1, ErrExpired},
		{"extending the old one does not bring it back", []plan{{age: 100 * day, flags: both, rebound: day}, {age: 50 * day, flags: both}}, 1, nil},
		{"from the future", []plan{{age: 10 * day, flags: both}, {age: -day, flags: both}}, 0, nil},
		{"only from the future", []plan{{age: -day, flags: both}}, -1, ErrNotYetValid},
		{"retired", []plan{{age: 20 * day, flags: both, revoked: "retired", revAge: 5 * day}}, -1, ErrRevoked},
		{"retired, the older one counts", []plan{{age: 30 * day, flags: both}, {age: 20 * day, flags: both, revoked: "retired", revAge: 5 * day}}, 0, nil},
		{"will be retired", []plan{{age: 20 * day, flags: both, revoked: "retired", revAge: -day}}, 0, nil},
		{"retired and bound again", []plan{{age: 20 * day, flags: both, revoked: "retired", revAge: 5 * day, rebound: day}}, 0, nil},
		{"compromised", []plan{{age: 20 * day, flags: both, revoked: "compromised", revAge: 5 * day}}, -1, ErrRevoked},
		{"compromised in the future counts backwards", []plan{{age: 20 * day, flags: both, revoked: "compromised", revAge: -day}}, -1, ErrRevoked},
		{"compromised and bound again stays revoked", []plan{{age: 20 * day, flags: both, revoked: "compromised", revAge: 5 * day, rebound: day}}, -1, ErrRevoked},
		{"no reason counts as compromised", []plan{{age: 20 * day, flags: both, revoked: "no reason", revAge: -day}}, -1, ErrRevoked},
		{"no flag for encryption", []plan{{age: 20 * day, flags: 0}}, -1, ErrNoEncryptionSubkey},
		{"no flags at all, but it can only encrypt", []plan{{age: 20 * day, noFlags: true}}, 0, nil},
		{"no subkey", nil, -1, ErrNoEncryptionSubkey},
		{"other algorithms", []plan{{age: 20 * day, flags: both, kind: "rsa2048"}, {age: 30 * day, flags: both, kind: "p384"}}, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, c := certificateWith(t, "curve25519", 1000*day, test.plans...)
			checkChoice(t, e, c, test.want, test.err)
		})
		if strings.Contains(test.name, "other algorithms") {
			continue
		}
		t.Run(test.name+", v6", func(t *testing.T) {
			t.Parallel()
			e, c := certificateWith(t, "v6", 1000*day, test.plans...)
			checkChoice(t, e, c, test.want, test.err)
		})
	}
}

func checkChoice(t *testing.T, e *openpgp.Entity, c *Certificate, want int, wantErr error) {
	t.Helper()
	got, err := c.choose(testNow)
	if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	if usable := c.Usable(testNow); (usable == nil) != (err == nil) {
		t.Errorf("Usable: %v", usable)
	}
	if err == nil && !bytes.Equal(got.key.Fingerprint, e.Subkeys[want].PublicKey.Fingerprint) {
		for i := range e.Subkeys {
			if bytes.Equal(got.key.Fingerprint, e.Subkeys[i].PublicKey.Fingerprint) {
				t.Fatalf("chose subkey %d, want %d", i, want)
			}
		}
		t.Fatalf("chose another key, want subkey %d", want)
	}
}

// setPrimaryFlags signs the user ID again with other flags and lifetime.
func setPrimaryFlags(t *testing.T, e *openpgp.Entity, flags byte, life, age time.Duration) {
	t.Helper()
	for _, id := range e.Identities {
		sig := *id.SelfCertifications[0].Packet
		sig.CreationTime = testNow.Add(-age)
		sig.FlagEncryptCommunications = flags&flagEncryptCommunications != 0
		sig.FlagEncryptStorage = flags&flagEncryptStorage != 0
		secs := uint32(life / time.Second)
		sig.KeyLifetimeSecs = &secs
		if err := sig.SignUserId(id.Name, e.PrimaryKey, e.PrivateKey, testConfig("rsa2048", testNow)); err != nil {
			t.Fatal(err)
		}
		id.SelfCertifications = []*packet.VerifiableSignature{packet.NewVerifiableSig(&sig)}
	}
}

// TestPrimaryEncrypts: an RSA primary key with encryption flags is sealed to, in
// its place in the order.
func TestPrimaryEncrypts(t *testing.T) {
	t.Parallel()
	base := testEntity(t, "rsa2048", testNow.Add(-100*day))
	tests := []struct {
		name    string
		flags   byte
		life    time.Duration
		plans   []plan
		primary bool
		err     error
	}{
		{"for both", 0x0C, 0, nil, true, nil},
		{"only communications, for ever", 0x04, 0, nil, true, nil},
		{"only communications, for a year", 0x04, 300 * day, nil, false, ErrNoEncryptionSubkey},
		{"no encryption", 0, 0, nil, false, ErrNoEncryptionSubkey},
		{"a storage subkey goes first", 0x0C, 0, []plan{{age: 90 * day, flags: 0x0C, kind: "curve25519"}}, false, nil},
		{"before a subkey for communications", 0x08, 0, []plan{{age: day, flags: 0x04, kind: "curve25519"}}, true, nil},
		{"expired", 0x0C, 50 * day, nil, false, ErrExpired},
	}
	for _, test := range tests {
		e := *base
		e.Subkeys = nil
		setPrimaryFlags(t, &e, test.flags, test.life, 90*day)
		for _, p := range test.plans {
			addPlanned(t, &e, p, "rsa2048")
		}
		c := parseOne(t, publicOctets(t, &e))
		got, err := c.choose(testNow)
		if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if err == nil && (got.key.KeyId == c.primary.KeyId) != test.primary {
			t.Errorf("%s: chose %s", test.name, got.key.KeyIdString())
		}
		if err == nil {
			k, err := ParseSecretKey(secretOctets(t, &e), nil)
			if err != nil {
				t.Fatal(err)
			}
			if string(opened(t, k, sealTo(t, []byte("text"), 9, c))) != "text" {
				t.Errorf("%s: does not open", test.name)
			}
		}
	}
}

// TestPrimaryState: the certificate as a whole.
func TestPrimaryState(t *testing.T) {
	t.Parallel()
	revoke := func(reason packet.ReasonForRevocation, age time.Duration) func(*openpgp.Entity) {
		return func(e *openpgp.Entity) {
			if err := e.Revoke(reason, "", testConfig("curve25519", testNow.Add(-age))); err != nil {
				t.Fatal(err)
			}
		}
	}
	lifetime := func(life time.Duration) func(*openpgp.Entity) {
		return func(e *openpgp.Entity) { setPrimaryFlags(t, e, 0, life, 90*day) }
	}
	tests := []struct {
		name   string
		change func(*openpgp.Entity)
		at     time.Time
		err    error
	}{
		{"valid", func(*openpgp.Entity) {}, testNow, nil},
		{"before it was made", func(*openpgp.Entity) {}, testNow.Add(-101 * day), ErrNotYetValid},
		{"expired", lifetime(20 * day), testNow, ErrExpired},
		{"not expired then", lifetime(20 * day), testNow.Add(-85 * day), nil},
		{"expires later", lifetime(200 * day), testNow, nil},
		{"retired", revoke(packet.KeyRetired, day), testNow, ErrRevoked},
		{"not retired then", revoke(packet.KeyRetired, day), testNow.Add(-2 * day), nil},
		{"compromised", revoke(packet.KeyCompromised, day), testNow, ErrRevoked},
		{"compromised, seen from before", revoke(packet.KeyCompromised, day), testNow.Add(-2 * day), ErrRevoked},
		{"no reason, seen from before", revoke(packet.NoReason, day), testNow.Add(-2 * day), ErrRevoked},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := testEntity(t, "curve25519", testNow.Add(-100*day))
			test.change(e)
			c := parseOne(t, publicOctets(t, e))
			if err := c.Usable(test.at); !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("%v, want %v", err, test.err)
			}
			if _, err := NewSealing([]*Certificate{c}, 1, test.at); (err == nil) != (test.err == nil) {
				t.Errorf("NewSealing: %v", err)
			}
		})
	}
}

// TestExpiry: what the owner is warned of.
func TestExpiry(t *testing.T) {
	t.Parallel()
	e, c := certificateWith(t, "curve25519", 100*day, plan{age: 90 * day, flags: 0x0C, life: 120 * day})
	want := testNow.Add(30 * day)
	if got, ok := c.SubkeyExpires(testNow); !ok || !got.Equal(want) {
		t.Errorf("subkey expires %v %v, want %v", got, ok, want)
	}
	if _, ok := c.Expires(); ok {
		t.Error("the certificate does not expire")
	}
	setPrimaryFlags(t, e, 0, 110*day, 80*day)
	c = parseOne(t, publicOctets(t, e))
	want = testNow.Add(10 * day)
	if got, ok := c.SubkeyExpires(testNow); !ok || !got.Equal(want) {
		t.Errorf("subkey of an expiring certificate: %v %v, want %v", got, ok, want)
	}
	if got, ok := c.Expires(); !ok || !got.Equal(want) {
		t.Errorf("certificate expires %v %v, want %v", got, ok, want)
	}
	if _, ok := c.SubkeyExpires(testNow.Add(200 * day)); ok {
		t.Error("an expired certificate has no subkey")
	}
}

// directSignature adds a direct-key signature that says when a v4 key expires.
func directSignature(t *testing.T, e *openpgp.Entity, life time.Duration) {
	t.Helper()
	secs := uint32(life / time.Second)
	sig := &packet.Signature{Version: 4, SigType: packet.SigTypeDirectSignature, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo,
		Hash: crypto.SHA256, CreationTime: testNow.Add(-50 * day), IssuerKeyId: &e.PrimaryKey.KeyId, KeyLifetimeSecs: &secs}
	if err := sig.SignDirectKeyBinding(e.PrimaryKey, e.PrivateKey, testConfig("curve25519", testNow)); err != nil {
		t.Fatal(err)
	}
	e.DirectSignatures = append(e.DirectSignatures, packet.NewVerifiableSig(sig))
}

// TestDirectSignature: in a v4 certificate it counts beside the user IDs, and alone
// where there are none.
func TestDirectSignature(t *testing.T) {
	t.Parallel()
	for _, withUserID := range []bool{true, false} {
		for life, want := range map[time.Duration]error{0: nil, 200 * day: nil, 70 * day: ErrExpired} {
			e := testEntity(t, "curve25519", testNow.Add(-100*day))
			directSignature(t, e, life)
			if !withUserID {
				e.Identities = nil
			}
			c := parseOne(t, publicOctets(t, e))
			if err := c.Usable(testNow); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("user ID %v, life %v: %v, want %v", withUserID, life, err, want)
			}
			if _, ok := c.SubkeyExpires(testNow); ok != (life == 200*day) {
				t.Errorf("user ID %v, life %v: SubkeyExpires", withUserID, life)
			}
		}
	}
}
