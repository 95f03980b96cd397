package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// addUserID gives an entity another user ID.
func addUserID(t testing.TB, e *openpgp.Entity, name, address string, at time.Time) {
	t.Helper()
	if err := e.AddUserId(name, "", address, testConfig("curve25519", at)); err != nil {
		t.Fatal(err)
	}
}

// revokeUserID revokes one that is there.
func revokeUserID(t testing.TB, e *openpgp.Entity, name string, at time.Time) {
	t.Helper()
	id := e.Identities[name]
	reason := packet.UserIDNotValid
	sig := &packet.Signature{Version: e.PrimaryKey.Version, SigType: packet.SigTypeCertificationRevocation, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo,
		Hash: id.SelfCertifications[0].Packet.Hash, CreationTime: at, IssuerKeyId: &e.PrimaryKey.KeyId, RevocationReason: &reason}
	if err := sig.SignUserId(id.Name, e.PrimaryKey, e.PrivateKey, testConfig("curve25519", at)); err != nil {
		t.Fatal(err)
	}
	id.Revocations = append(id.Revocations, packet.NewVerifiableSig(sig))
}

// fullEntity has some of everything: three user IDs, one of them revoked and one
// certified by somebody else, four encryption subkeys, a signing subkey, a
// direct-key signature.
func fullEntity(t *testing.T) *openpgp.Entity {
	t.Helper()
	e, _ := certificateWith(t, "curve25519", 100*day,
		plan{age: 90 * day, flags: 0x0C, rebound: 50 * day},
		plan{age: 80 * day, flags: 0x0C, revoked: "retired", revAge: 40 * day},
		plan{age: 70 * day, flags: 0x04, life: 10 * day},
		plan{age: 60 * day, flags: 0x0C})
	addUserID(t, e, "Alice", "alice@example.com", testNow.Add(-99*day))
	addUserID(t, e, "Old Alice", "old@example.org", testNow.Add(-98*day))
	revokeUserID(t, e, "Old Alice <old@example.org>", testNow.Add(-97*day))
	other := testEntity(t, "curve25519", testNow.Add(-200*day))
	if err := e.SignIdentity("Alice <alice@example.org>", other, testConfig("curve25519", testNow.Add(-10*day))); err != nil {
		t.Fatal(err)
	}
	if err := e.AddSigningSubkey(testConfig("curve25519", testNow.Add(-65*day))); err != nil {
		t.Fatal(err)
	}
	directSignature(t, e, 0)
	return e
}

// own are the packets that belong in a certificate that was restricted or merged, by
// what makes them one.
func own(t testing.TB, c *Certificate, userID func(text string) bool) []string {
	t.Helper()
	parts, err := c.components()
	if err != nil {
		t.Fatal(err)
	}
	v := &verifier{primary: c.primary, version: c.material.version}
	var ids []string
	for _, p := range parts {
		if p.tag == tagUserID && !userID(string(p.body)) || p.tag != tagPublicKey && p.tag != tagUserID && p.tag != tagPublicSubkey {
			continue
		}
		ids = append(ids, fmt.Sprint(p.tag, p.body))
		for _, s := range p.ownSignatures(v) {
			ids = append(ids, fmt.Sprintf("%v on %v", []byte(signatureID(s.body)), p.body))
		}
	}
	slices.Sort(ids)
	return ids
}

func everyUserID(string) bool { return true }

func TestRestrict(t *testing.T) {
	t.Parallel()
	c := parseOne(t, publicOctets(t, fullEntity(t)))
	noise := slices.Concat(c.Data(), packetOf(17, randomOctets(100)), packetOf(60, nil), packetOf(tagTrust, nil))
	for _, address := range []string{"alice@example.org", "alice@example.com"} {
		got, err := parseOne(t, noise).Restrict(address)
		if err != nil {
			t.Fatal(err)
		}
		if ids := got.UserIDs(); len(ids) != 1 || ids[0] != "Alice <"+address+">" {
			t.Errorf("user IDs %q", ids)
		}
		if bytes.Contains(got.Data(), []byte("old@")) || got.Fingerprint() != c.Fingerprint() {
			t.Error("something of the others is left")
		}
		want := own(t, c, func(text string) bool { return addressKey(text) == address })
		if !slices.Equal(own(t, got, everyUserID), want) {
			t.Errorf("%s: not exactly what belongs to it", address)
		}
		all := packetsOf(t, c.Data())
		for _, p := range packetsOf(t, got.Data()) {
			if !slices.ContainsFunc(all, func(q rawPacket) bool { return bytes.Equal(p.raw, q.raw) }) {
				t.Errorf("packet %d is not one of the original's", p.tag)
			}
		}
		// The same subkey is chosen, and doing it again changes nothing.
		a, errA := c.choose(testNow)
		b, errB := got.choose(testNow)
		if errA != nil || errB != nil || a.key.KeyId != b.key.KeyId {
			t.Errorf("%v, %v", errA, errB)
		}
		again, err := got.Restrict(address)
		if err != nil || !bytes.Equal(again.Data(), got.Data()) {
			t.Errorf("again: %v", err)
		}
	}
}

func TestRestrictRefuses(t *testing.T) {
	t.Parallel()
	full := parseOne(t, publicOctets(t, fullEntity(t)))
	alice := packetsOf(t, publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day))))
	// Somebody else's user ID, as anybody could add it: with no signature, with one
	// that is for another user ID, and behind the subkeys.
	bob := packetOf(tagUserID, []byte("Bob <bob@example.org>"))
	stapled := [][]byte{
		slices.Concat(alice[0].raw, bob, alice[1].raw, alice[2].raw, alice[3].raw, alice[4].raw),
		slices.Concat(alice[0].raw, bob, alice[2].raw, alice[1].raw, alice[2].raw, alice[3].raw, alice[4].raw),
		slices.Concat(alice[0].raw, alice[1].raw, alice[2].raw, alice[3].raw, alice[4].raw, bob, alice[2].raw),
	}
	for _, data := range stapled {
		c := parseOne(t, data)
		if _, err := c.Restrict("bob@example.org"); !errors.Is(err, ErrOtherAddress) {
			t.Errorf("an address that was added: %v", err)
		}
		got, err := c.Restrict("alice@example.org")
		if err != nil || bytes.Contains(got.Data(), []byte("bob@")) {
			t.Errorf("the right one: %v", err)
		}
	}
	for address, want := range map[string]error{
		"bob@example.org": ErrOtherAddress, "": ErrOtherAddress, "alice": ErrOtherAddress,
		"Alice@example.org": ErrOtherAddress, // not a look-up key
		"old@example.org":   ErrRevoked,
	} {
		if _, err := full.Restrict(address); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", address, err, want)
		}
		if _, err := full.Restrict(address, AllowNoUserID); !errors.Is(err, want) {
			t.Errorf("%q, where no user ID is needed: %v, want %v", address, err, want)
		}
	}
}

func TestRestrictNoUserID(t *testing.T) {
	t.Parallel()
	parts := packetsOf(t, publicOctets(t, testEntity(t, "v6", testNow.Add(-day))))
	var bare []byte
	userID := false
	for _, p := range parts {
		if p.tag == tagUserID {
			userID = true
		} else if p.tag == tagPublicSubkey {
			userID = false
		}
		if !userID {
			bare = append(bare, p.raw...)
		}
	}
	c := parseOne(t, bare)
	if _, err := c.Restrict("alice@example.org"); !errors.Is(err, ErrOtherAddress) {
		t.Errorf("not allowed: %v", err)
	}
	got, err := c.Restrict("alice@example.org", AllowNoUserID)
	if err != nil || got.Usable(testNow) != nil || !bytes.Equal(got.Data(), bare) {
		t.Errorf("allowed: %v", err)
	}
	// With a user ID that nobody signed it is not one without user IDs.
	c = parseOne(t, slices.Concat(bare, packetOf(tagUserID, []byte("bob@example.org"))))
	if _, err := c.Restrict("alice@example.org", AllowNoUserID); !errors.Is(err, ErrOtherAddress) {
		t.Errorf("with a user ID: %v", err)
	}
}

// TestRestrictUnknownSubkey: what we cannot read beside what we can.
func TestRestrictUnknownSubkey(t *testing.T) {
	t.Parallel()
	parts := packetsOf(t, publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day))))
	unknown := packetOf(tagPublicSubkey, []byte{4, 0, 0, 0, 0, 99, 1, 2, 3})
	unbound := packetOf(tagPublicSubkey, keyBody(algoECDH))
	data := slices.Concat(parts[0].raw, parts[1].raw, parts[2].raw, unknown, parts[4].raw, unbound, parts[3].raw, parts[4].raw)
	got, err := parseOne(t, data).Restrict("alice@example.org")
	if err != nil || got.Usable(testNow) != nil {
		t.Fatalf("%v, %v", err, got)
	}
	if !bytes.Contains(got.Data(), unknown) {
		t.Error("a subkey of an unknown algorithm that seems to be bound is lost")
	}
	if bytes.Contains(got.Data(), unbound) {
		t.Error("a subkey without a signature is kept")
	}
}

// TestRestrictRevoked: that the key is revoked or expired stays visible.
func TestRestrictRevoked(t *testing.T) {
	t.Parallel()
	e := fullEntity(t)
	if err := e.Revoke(packet.KeyCompromised, "", testConfig("curve25519", testNow)); err != nil {
		t.Fatal(err)
	}
	got, err := parseOne(t, publicOctets(t, e)).Restrict("alice@example.org")
	if err != nil || !errors.Is(got.Usable(testNow), ErrRevoked) {
		t.Errorf("%v", err)
	}
	_, expired := certificateWith(t, "curve25519", 100*day, plan{age: 90 * day, flags: 0x0C, life: 10 * day})
	if got, err := expired.Restrict("alice@example.org"); err != nil || !errors.Is(got.Usable(testNow), ErrExpired) {
		t.Errorf("%v", err)
	}
}

// TestRestrictAnything mixes packets of several certificates at random: whatever
// comes out names the address in every user ID, and nothing that was not signed.
func TestRestrictAnything(t *testing.T) {
	t.Parallel()
	pool := packetsOf(t, publicOctets(t, fullEntity(t)))
	pool = append(pool, packetsOf(t, publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day))))[1:]...)
	pool = append(pool, rawPacket{raw: packetOf(tagUserID, []byte("mallory <alice@example.org>"))})
	passed, differ := 0, 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		data := slices.Clone(pool[0].raw)
		for _, p := range pool[1:] {
			if random.IntN(4) > 0 {
				data = append(data, p.raw...)
			}
			if random.IntN(4) == 0 {
				data = append(data, pool[1+random.IntN(len(pool)-1)].raw...)
			}
		}
		direct, errDirect := ParseFor(data, "alice@example.org")
		certs, err := ParseCertificates(data)
		if err != nil {
			if errDirect == nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("seed %d: %v only in one way", seed, err)
			}
			continue
		}
		got, err := certs[0].Restrict("alice@example.org")
		if (err == nil) != (errDirect == nil) {
			t.Errorf("seed %d: %v, and directly %v", seed, err, errDirect)
		}
		if err != nil {
			continue
		}
		if !bytes.Equal(direct[0].Data(), got.Data()) {
			differ++
		}
		passed++
		parts, err := got.components()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			if p.tag == tagUserID && string(p.body) != "Alice <alice@example.org>" {
				t.Errorf("seed %d: user ID %q", seed, p.body)
			}
		}
		if len(got.UserIDs()) == 0 || !got.HasAddress("alice@example.org") {
			t.Errorf("seed %d: %q", seed, got.UserIDs())
		}
	}
	if differ > 0 {
		t.Errorf("%d differ from what is read directly", differ)
	}
	if passed < 50 {
		t.Errorf("only %d of 300 passed: the test does not see much", passed)
	}
}

func TestParseFor(t *testing.T) {
	t.Parallel()
	good := publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day)))
	parts := packetsOf(t, good)
	bob, err := openpgp.NewEntity("Bob", "", "bob@example.org", testConfig("curve25519", testNow.Add(-day)))
	if err != nil {
		t.Fatal(err)
	}
	weak := slices.Concat(packetOf(tagPublicKey, keyBody(algoRSA, 1024, 17)), parts[1].raw)
	unsigned := slices.Concat(parts[0].raw, parts[1].raw, parts[3].raw, parts[4].raw)
	full := publicOctets(t, fullEntity(t))
	for _, c := range []struct {
		name string
		data []byte
		want error
		n    int
	}{
		{"good", good, nil, 1},
		{"in armor", armored(typePublicKey, good, 4), nil, 1},
		{"several", slices.Concat(good, publicOctets(t, bob), full), nil, 2},
		{"a weak one before", slices.Concat(weak, good), nil, 1},
		{"somebody else's", publicOctets(t, bob), ErrOtherAddress, 0},
		{"nothing", nil, ErrNoCertificate, 0},
		{"cut off", good[:len(good)-1], ErrNoCertificate, 0},
		{"weak", weak, ErrWeak, 0},
		{"unknown algorithm", selfSigned([]byte{4, 0, 0, 0, 0, 99, 1}, 99), ErrAlgorithm, 0},
		{"unsigned", unsigned, ErrUnsigned, 0},
		{"unsigned before somebody else's", slices.Concat(unsigned, publicOctets(t, bob)), ErrUnsigned, 0},
		{"somebody else's before unsigned", slices.Concat(publicOctets(t, bob), unsigned), ErrUnsigned, 0},
		{"secret", testKey(t, "curve25519").data, ErrSecretKey, 0},
		{"10,000 user IDs", slices.Concat(good, bytes.Repeat(packetOf(tagUserID, []byte("x")), 10_000)), ErrTooLarge, 0},
		{"1 MiB", make([]byte, maxInput+1), ErrTooLarge, 0},
	} {
		certs, err := ParseFor(c.data, "alice@example.org")
		if len(certs) != c.n || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, len(certs), err, c.n, c.want)
		}
	}
	if _, err := ParseFor(full, "old@example.org"); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked user ID: %v", err)
	}
}

// TestParseForBombs: answers made to keep us busy are refused before anything is
// computed. Each would take seconds.
func TestParseForBombs(t *testing.T) {
	t.Parallel()
	slow := packetsOf(t, slowestCertificate(t))
	forAlice := slices.Clone(slow[0].raw)
	for range 4 {
		forAlice = append(forAlice, packetOf(tagUserID, []byte("<alice@example.org>"))...)
		for range 50 {
			forAlice = append(forAlice, slow[2].raw...)
		}
	}
	// A user ID of 200 KB, hashed for each of its signatures.
	parts := packetsOf(t, publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day))))
	long := slices.Concat(parts[0].raw, packetOf(tagUserID, append(bytes.Repeat([]byte("a"), 200<<10), "<alice@example.org>"...)), bytes.Repeat(parts[2].raw, 240))
	for name, data := range map[string][]byte{
		"RSA": forAlice, "four times RSA": bytes.Repeat(forAlice, 4), "long user ID": long, "four of them": bytes.Repeat(long, 4),
	} {
		start := time.Now()
		_, err := ParseFor(data, "alice@example.org")
		if took := time.Since(start); !errors.Is(err, ErrTooLarge) || took > 3*time.Second {
			t.Errorf("%s: %v, took %v", name, err, took)
		}
	}
	// What is for others costs nothing.
	if _, err := ParseFor(slowestCertificate(t), "alice@example.org"); !errors.Is(err, ErrOtherAddress) {
		t.Errorf("for others: %v", err)
	}
}

// TestCheckMicros: real keys are far from the limit.
func TestCheckMicros(t *testing.T) {
	t.Parallel()
	for _, kind := range testKinds {
		c := testKey(t, kind).Certificate()
		parts := packetsOf(t, c.Data())
		if n := checkMicros(parts[0].body); n < 50 || n > 2000 {
			t.Errorf("%s: %d µs", kind, n)
		}
	}
	if n := checkMicros(keyBody(algoRSA, 8192, 17)); n < 1000 || n > 5000 {
		t.Errorf("RSA of 8,192 bits: %d µs", n)
	}
}

func FuzzParseFor(f *testing.F) {
	for _, kind := range []string{"curve25519", "p256", "v6", "rsa2048"} {
		f.Add(testKey(f, kind).Certificate().Data())
	}
	f.Add(testKey(f, "curve25519").Certificate().Armor())
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParseFor(data, "alice@example.org")
		if (err == nil) == (len(certs) == 0) {
			t.Fatalf("%d certificates and %v", len(certs), err)
		}
		for _, c := range certs {
			if !c.HasAddress("alice@example.org") {
				t.Error("without the address")
			}
			again, err := parseOne(t, c.Data()).Restrict("alice@example.org")
			if err != nil || !bytes.Equal(again.Data(), c.Data()) {
				t.Errorf("again: %v", err)
			}
		}
	})
}

func BenchmarkRestrict(b *testing.B) {
	c := testKey(b, "curve25519").Certificate()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Restrict("alice@example.org"); err != nil {
			b.Fatal(err)
		}
	}
}
