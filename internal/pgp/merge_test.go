package pgp

import (
	"bytes"
	"crypto"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// someOf leaves parts and signatures of a certificate out at random, in a way that
// it can still be read.
func someOf(t *testing.T, c *Certificate, random *rand.Rand) *Certificate {
	t.Helper()
	parts, err := c.components()
	if err != nil {
		t.Fatal(err)
	}
	for {
		var data []byte
		for i, p := range parts {
			if i > 0 && random.IntN(3) == 0 {
				continue
			}
			data = append(data, p.raw...)
			for _, s := range p.signatures {
				if random.IntN(3) > 0 {
					data = append(data, s.raw...)
				}
			}
		}
		if certs, err := ParseCertificates(data); err == nil {
			return certs[0]
		}
	}
}

// TestMergeProperties: the merged certificate says what both say, each once, in
// whatever order they come, and once it does they add nothing to it any more.
func TestMergeProperties(t *testing.T) {
	t.Parallel()
	e := fullEntity(t)
	if err := e.Revoke(packet.KeySuperseded, "", testConfig("curve25519", testNow.Add(-day))); err != nil {
		t.Fatal(err)
	}
	full, err := parseOne(t, publicOctets(t, e)).Restrict("alice@example.org") // drops what merging would not keep
	if err != nil {
		t.Fatal(err)
	}
	full, err = Merge(parseOne(t, publicOctets(t, e)), full)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 2))
		a, b := someOf(t, full, random), someOf(t, full, random)
		ab, errAB := Merge(a, b)
		ba, errBA := Merge(b, a)
		if errAB != nil || errBA != nil {
			t.Fatalf("seed %d: %v, %v", seed, errAB, errBA)
		}
		want := slices.Compact(slices.Sorted(slices.Values(slices.Concat(bound(t, a), bound(t, b)))))
		if !slices.Equal(bound(t, ab), want) {
			t.Errorf("seed %d: not the union: %d of %d", seed, len(bound(t, ab)), len(want))
		}
		if !slices.Equal(bound(t, ab), bound(t, ba)) {
			t.Errorf("seed %d: depends on the order", seed)
		}
		for _, c := range []*Certificate{a, b, ab} {
			if again, err := Merge(ab, c); err != nil || again != ab {
				t.Errorf("seed %d: merging again changed something: %v", seed, err)
			}
		}
		if revoked(a.revoked, time.Time{}, testNow) || revoked(b.revoked, time.Time{}, testNow) {
			if !errors.Is(ab.Usable(testNow), ErrRevoked) {
				t.Errorf("seed %d: the revocation is lost", seed)
			}
		}
	}
}

// bound are the packets of c that count, without parts that no signature binds.
func bound(t *testing.T, c *Certificate) []string {
	t.Helper()
	m := &merger{}
	if err := m.take(c); err != nil {
		t.Fatal(err)
	}
	if len(m.parts) == 1 {
		return own(t, c, func(string) bool { return false })
	}
	return own(t, parseOne(t, m.octets()), everyUserID)
}

// TestMergeNews: what a correspondent's new form of a certificate may bring.
func TestMergeNews(t *testing.T) {
	t.Parallel()
	e, before := certificateWith(t, "curve25519", 100*day, plan{age: 90 * day, flags: 0x0C, revoked: "retired", revAge: 80 * day})
	if !errors.Is(before.Usable(testNow), ErrRevoked) {
		t.Fatal(before.Usable(testNow))
	}
	merged := func(name string, want error) *Certificate {
		t.Helper()
		after := parseOne(t, publicOctets(t, e))
		c, err := Merge(before, after)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Usable(testNow); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: usable %v, want %v", name, err, want)
		}
		before = c
		return c
	}
	addPlanned(t, e, plan{age: 20 * day, flags: 0x0C}, "curve25519")
	merged("a new subkey", nil)
	addUserID(t, e, "Alice", "alice@example.com", testNow.Add(-10*day))
	if c := merged("a new user ID", nil); !c.HasAddress("alice@example.com") || !c.HasAddress("alice@example.org") {
		t.Errorf("%q", c.UserIDs())
	}
	delete(e.Identities, "Alice <alice@example.org>")
	if c := merged("a user ID that is not shown any more", nil); !c.HasAddress("alice@example.org") {
		t.Errorf("%q", c.UserIDs())
	}
	if err := e.Subkeys[1].Revoke(packet.KeyCompromised, "", testConfig("curve25519", testNow)); err != nil {
		t.Fatal(err)
	}
	merged("a revoked subkey", ErrRevoked)
	e.Subkeys[1].Revocations = nil
	merged("a form without the revocation", ErrRevoked)
	addPlanned(t, e, plan{age: day, flags: 0x0C}, "curve25519")
	merged("another new subkey", nil)
	if err := e.Revoke(packet.NoReason, "", testConfig("curve25519", testNow)); err != nil {
		t.Fatal(err)
	}
	merged("revoked", ErrRevoked)
	e.Revocations = nil
	merged("a form without the revocation of it all", ErrRevoked)
}

func TestMergeOthers(t *testing.T) {
	t.Parallel()
	a, b := testKey(t, "curve25519").Certificate(), testKey(t, "v6").Certificate()
	if _, err := Merge(a, b); !errors.Is(err, ErrOtherKey) {
		t.Errorf("other keys: %v", err)
	}
	for _, kind := range testKinds {
		c := testKey(t, kind).Certificate()
		if m, err := Merge(c, parseOne(t, c.Data())); err != nil || m != c {
			t.Errorf("%s with itself: %v", kind, err)
		}
	}
}

// TestMergeForged: what anybody could put into a certificate gets nowhere, and
// cannot keep a revocation out.
func TestMergeForged(t *testing.T) {
	t.Parallel()
	e, c := certificateWith(t, "curve25519", 100*day, plan{age: 90 * day, flags: 0x0C})
	parts := packetsOf(t, c.Data())
	mallory, _ := certificateWith(t, "curve25519", 100*day, plan{age: 90 * day, flags: 0x0C})
	theirs := packetsOf(t, publicOctets(t, mallory))
	flipped := bytes.Clone(parts[2].raw)
	flipped[len(flipped)-1] ^= 1
	forged := slices.Concat(c.Data(),
		theirs[3].raw, theirs[4].raw, // a subkey bound by somebody else
		theirs[3].raw, parts[4].raw, // bound by a signature for another
		packetOf(tagUserID, []byte("<mallory@example.org>")), parts[2].raw, flipped)
	if m, err := Merge(c, parseOne(t, forged)); err != nil || m != c {
		t.Errorf("forgeries were added: %v", err)
	}

	// One good signature, a hundred times with other unhashed subpackets: the
	// revocation comes through.
	var flood []byte
	for i := range 100 {
		flood = append(flood, withUnhashed(t, parts[2], byte(i))...)
	}
	flooded := parseOne(t, slices.Concat(parts[0].raw, parts[1].raw, flood, parts[3].raw, parts[4].raw))
	if err := e.Revoke(packet.KeyCompromised, "", testConfig("curve25519", testNow)); err != nil {
		t.Fatal(err)
	}
	revokedForm := parseOne(t, publicOctets(t, e))
	for _, order := range [][2]*Certificate{{flooded, revokedForm}, {revokedForm, flooded}} {
		m, err := Merge(order[0], order[1])
		if err != nil || !errors.Is(m.Usable(testNow), ErrRevoked) {
			t.Errorf("flooded: %v", err)
		} else if n := len(packetsOf(t, m.Data())); n != 6 {
			t.Errorf("flooded: %d packets", n)
		}
	}
}

// withUnhashed replaces the unhashed subpackets of a signature by the issuer's key
// id and a notation-like private one.
func withUnhashed(t *testing.T, p rawPacket, n byte) []byte {
	t.Helper()
	head, rest, ok := cutSubpackets(p.body, 4, 2)
	unhashed, tail, ok2 := cutSubpackets(rest, 0, 2)
	if !ok || !ok2 {
		t.Fatal("not a signature of version 4")
	}
	subpackets := slices.Concat(unhashed[2:], []byte{3, 100, n, n})
	body := slices.Concat(head, []byte{0, byte(len(subpackets))}, subpackets, tail)
	return packetOf(tagSignature, body)
}

// TestMergeLimits: two forms that are within the limits may not be together; then
// what matters least goes first, and never a revocation.
func TestMergeLimits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes many signatures")
	}
	form := func(e *openpgp.Entity) *Certificate { return parseOne(t, publicOctets(t, e)) }
	e, _ := certificateWith(t, "curve25519", 1000*day, plan{age: 900 * day, flags: 0x0C, revoked: "retired", revAge: day})
	s := &e.Subkeys[0]
	bind := func(n int, from time.Duration) {
		s.Bindings = nil
		for i := range n {
			sig := &packet.Signature{Version: 4, SigType: packet.SigTypeSubkeyBinding, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA256,
				CreationTime: testNow.Add(-from - time.Duration(i)*time.Hour), IssuerKeyId: &e.PrimaryKey.KeyId,
				FlagsValid: true, FlagEncryptCommunications: true, FlagEncryptStorage: true}
			if err := sig.SignKey(s.PublicKey, e.PrivateKey, testConfig("curve25519", testNow)); err != nil {
				t.Fatal(err)
			}
			s.Bindings = append(s.Bindings, packet.NewVerifiableSig(sig))
		}
	}
	bind(200, 100*day)
	older := form(e)
	bind(200, 50*day)
	s.Revocations = nil
	newer := form(e)
	for _, order := range [][2]*Certificate{{older, newer}, {newer, older}} {
		m, err := Merge(order[0], order[1])
		if err != nil {
			t.Fatal(err)
		}
		sub := m.subkeys[0]
		if len(sub.bindings) != keptSignatures || len(sub.revoked) != 1 {
			t.Errorf("%d bindings and %d revocations", len(sub.bindings), len(sub.revoked))
		}
		if got, want := sub.bindings[0].created, testNow.Add(-50*day); !got.Equal(want) {
			t.Errorf("the newest binding is of %v, want %v", got, want)
		}
	}

	// More subkeys than any certificate may have.
	many := func(n int) *Certificate {
		e.Subkeys = e.Subkeys[:0]
		for range n {
			addPlanned(t, e, plan{age: 10 * day, flags: 0x0C}, "curve25519")
		}
		return form(e)
	}
	if _, err := Merge(many(40), many(40)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("80 subkeys: %v", err)
	}
}

func TestSignatureID(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{nil, {4}, {6}, {4, 0, 0, 0, 0xFF, 0xFF}, {6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF}, {4, 0, 0, 0, 0, 0, 0, 9}, {4, 0, 0, 0, 0}} {
		if signatureID(body) != string(body) {
			t.Errorf("% x: not as it is", body)
		}
	}
	if got := signatureID([]byte{4, 1, 2, 3, 0, 1, 9, 0, 2, 7, 7, 5, 6}); got != "\x04\x01\x02\x03\x00\x01\x09\x05\x06" {
		t.Errorf("% x", got)
	}
	if got := signatureID([]byte{6, 1, 2, 3, 0, 0, 0, 1, 9, 0, 0, 0, 2, 7, 7, 5, 6}); got != "\x06\x01\x02\x03\x00\x00\x00\x01\x09\x05\x06" {
		t.Errorf("% x", got)
	}
}

func FuzzMerge(f *testing.F) {
	c := testKey(f, "curve25519").Certificate()
	f.Add(c.Data(), c.Data())
	f.Add(c.Data(), testKey(f, "v6").Certificate().Data())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		first, errA := ParseCertificates(a)
		second, errB := ParseCertificates(b)
		if errA != nil || errB != nil {
			return
		}
		m, err := Merge(first[0], second[0])
		if err != nil {
			return
		}
		for _, form := range []*Certificate{first[0], second[0]} {
			if errors.Is(form.Usable(testNow), ErrRevoked) && revoked(form.revoked, time.Time{}, testNow) && m.Usable(testNow) == nil {
				t.Error("a revocation was lost")
			}
			if again, err := Merge(m, form); err != nil || again != m {
				t.Errorf("merging again: %v", err)
			}
		}
	})
}
