package pgp

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func TestCertificate(t *testing.T) {
	t.Parallel()
	for _, kind := range testKinds {
		c := testKey(t, kind).Certificate()
		version, digits := 4, 40
		if strings.HasPrefix(kind, "v6") {
			version, digits = 6, 64
		}
		if c.Version() != version || len(c.Fingerprint()) != digits || len(c.KeyID()) != 16 ||
			strings.ToUpper(c.Fingerprint()) != c.Fingerprint() || !strings.Contains(c.Fingerprint(), c.KeyID()) {
			t.Errorf("%s: version %d, fingerprint %s, key id %s", kind, c.Version(), c.Fingerprint(), c.KeyID())
		}
		if !slices.Equal(c.UserIDs(), []string{"Alice <alice@example.org>"}) {
			t.Errorf("%s: user IDs %q", kind, c.UserIDs())
		}
		if !c.HasAddress("alice@example.org") || c.HasAddress("bob@example.org") || c.HasAddress("") {
			t.Errorf("%s: HasAddress", kind)
		}
		if err := c.Usable(testNow); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		again := parseOne(t, c.Armor())
		if !bytes.Equal(again.Data(), c.Data()) || again.Fingerprint() != c.Fingerprint() {
			t.Errorf("%s: armor does not give the same certificate", kind)
		}
	}
	names := map[string]string{"rsa2048": "RSA 2048", "curve25519": "Ed25519", "p256": "NIST P-256", "v6": "Ed25519", "v6x448": "Ed448"}
	for kind, want := range names {
		if got := testKey(t, kind).Certificate().Algorithm(); got != want {
			t.Errorf("%s: algorithm %q", kind, got)
		}
	}
}

// TestGenerateKey: what our own keys look like to others.
func TestGenerateKey(t *testing.T) {
	t.Parallel()
	k, err := GenerateKey("alice@example.org", testNow)
	if err != nil {
		t.Fatal(err)
	}
	c := k.Certificate()
	if c.Version() != 4 || c.Algorithm() != "Ed25519" || !slices.Equal(c.UserIDs(), []string{"<alice@example.org>"}) || !c.Created().Equal(testNow) {
		t.Errorf("version %d, %s, %q, %v", c.Version(), c.Algorithm(), c.UserIDs(), c.Created())
	}
	if len(c.subkeys) != 1 || c.subkeys[0].material.name != "Curve25519" || c.subkeys[0].bindings[0].flags != 0x0C || c.subkeys[0].bindings[0].aead || c.userIDs[0].certs[0].aead {
		t.Errorf("subkeys %+v", c.subkeys)
	}
	if _, ok := c.Expires(); ok {
		t.Error("expires")
	}
	e, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(k.Armor()))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range e[0].Identities {
		sig := id.SelfCertifications[0].Packet
		if sig.PreferredSymmetric[0] != uint8(packet.CipherAES256) || !sig.SEIPDv1 || sig.SEIPDv2 {
			t.Errorf("preferences %v, features %v %v", sig.PreferredSymmetric, sig.SEIPDv1, sig.SEIPDv2)
		}
	}
	if _, err := ParseCertificates(k.Armor()); !errors.Is(err, ErrSecretKey) {
		t.Errorf("importing it as a certificate: %v", err)
	}
	if _, err := GenerateKey("a<b>@example.org", testNow); err == nil {
		t.Error("a user ID with brackets")
	}
}

// TestSeveral: several certificates in one input, binary and in armor, and a bad
// one among good ones.
func TestSeveral(t *testing.T) {
	t.Parallel()
	a, b := testKey(t, "curve25519").Certificate(), testKey(t, "v6").Certificate()
	dsa := packetOf(tagPublicKey, dsaBody(1024))
	inputs := map[string][]byte{
		"binary":                slices.Concat(a.Data(), b.Data()),
		"two blocks":            slices.Concat([]byte("Hello,\nhere they are:\n"), a.Armor(), []byte("\nand\n"), b.Armor(), []byte("Regards\n")),
		"one block":             armored(typePublicKey, slices.Concat(a.Data(), b.Data()), 4),
		"a bad one between":     slices.Concat(a.Data(), dsa, packetOf(tagUserID, []byte("x")), b.Data()),
		"a bad one at the end":  slices.Concat(a.Data(), b.Data(), dsa),
		"a bad one first":       slices.Concat(dsa, a.Data(), b.Data()),
		"marker before":         slices.Concat(marker[:], a.Data(), b.Data()),
		"bare LF":               bytes.ReplaceAll(slices.Concat(a.Armor(), b.Armor()), []byte("\r\n"), []byte("\n")),
		"headers, no checksum":  slices.Concat([]byte(armorBegin+typePublicKey+armorDash+"\nVersion: x\nComment: y:z\n\n"), appendLines(nil, slices.Concat(a.Data(), b.Data())), []byte(armorEnd+typePublicKey+armorDash)),
		"byte order mark first": slices.Concat([]byte("\xEF\xBB\xBF"), a.Armor(), b.Armor()),
	}
	for name, input := range inputs {
		certs, err := ParseCertificates(input)
		if err != nil || len(certs) != 2 || certs[0].Fingerprint() != a.Fingerprint() || certs[1].Fingerprint() != b.Fingerprint() {
			t.Errorf("%s: %d certificates, %v", name, len(certs), err)
			continue
		}
		if !bytes.Equal(certs[0].Data(), a.Data()) || !bytes.Equal(certs[1].Data(), b.Data()) {
			t.Errorf("%s: not the original octets", name)
		}
	}
}

// TestUnknownParts: what we do not know in a certificate is kept in Data and
// harms nothing.
func TestUnknownParts(t *testing.T) {
	t.Parallel()
	e := testEntity(t, "curve25519", testNow.Add(-day))
	parts := packetsOf(t, publicOctets(t, e))
	noise := slices.Concat(
		packetOf(17, randomOctets(100)),                 // user attribute
		packetOf(tagSignature, []byte{4, 0x10, 99, 99}), // unreadable signature
		packetOf(tagTrust, []byte{1, 2}),
		packetOf(60, []byte("private")),
	)
	data := slices.Concat(parts[0].raw, parts[1].raw, parts[2].raw, noise, parts[3].raw, parts[4].raw, packetOf(tagTrust, []byte{3}))
	c := parseOne(t, data)
	if !bytes.Equal(c.Data(), data) || c.Usable(testNow) != nil || len(c.UserIDs()) != 1 {
		t.Errorf("usable: %v", c.Usable(testNow))
	}
	// A signature of somebody else, and the right one in the wrong place.
	other := packetsOf(t, publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day))))
	c = parseOne(t, slices.Concat(parts[0].raw, parts[4].raw, parts[1].raw, other[2].raw, parts[2].raw, parts[3].raw, other[4].raw, parts[4].raw))
	if c.Usable(testNow) != nil {
		t.Error(c.Usable(testNow))
	}
}

// TestForged: user IDs and subkeys that the primary key did not sign are not there.
func TestForged(t *testing.T) {
	t.Parallel()
	mine := packetsOf(t, publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day))))
	theirs := packetsOf(t, publicOctets(t, testEntity(t, "curve25519", testNow.Add(-day))))
	c := parseOne(t, slices.Concat(mine[0].raw, mine[1].raw, mine[2].raw,
		packetOf(tagUserID, []byte("<mallory@example.org>")), mine[2].raw,
		theirs[3].raw, theirs[4].raw, mine[4].raw))
	if c.HasAddress("mallory@example.org") || len(c.UserIDs()) != 1 {
		t.Error("a user ID without a signature was believed")
	}
	if !errors.Is(c.Usable(testNow), ErrNoEncryptionSubkey) {
		t.Errorf("a subkey of somebody else was believed: %v", c.Usable(testNow))
	}
}

// TestUserIDRevoked: a revoked user ID is gone; if it was the only one, so is the
// certificate.
func TestUserIDRevoked(t *testing.T) {
	t.Parallel()
	for _, only := range []bool{true, false} {
		e := testEntity(t, "curve25519", testNow.Add(-10*day))
		if !only {
			if err := e.AddUserId("Alice", "", "alice@example.com", testConfig("curve25519", testNow.Add(-9*day))); err != nil {
				t.Fatal(err)
			}
		}
		id := e.Identities["Alice <alice@example.org>"]
		reason := packet.UserIDNotValid
		sig := &packet.Signature{Version: 4, SigType: packet.SigTypeCertificationRevocation, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo,
			Hash: id.SelfCertifications[0].Packet.Hash, CreationTime: testNow.Add(-day), IssuerKeyId: &e.PrimaryKey.KeyId, RevocationReason: &reason}
		if err := sig.SignUserId(id.Name, e.PrimaryKey, e.PrivateKey, testConfig("curve25519", testNow)); err != nil {
			t.Fatal(err)
		}
		id.Revocations = append(id.Revocations, packet.NewVerifiableSig(sig))
		c := parseOne(t, publicOctets(t, e))
		if c.HasAddress("alice@example.org") {
			t.Error("still has the revoked address")
		}
		if err := c.Usable(testNow); only != errors.Is(err, ErrRevoked) || !only && err != nil {
			t.Errorf("only one: %v, usable: %v", only, err)
		}
		if !only && !c.HasAddress("alice@example.com") {
			t.Error("lost the other address")
		}
	}
}

func TestAddressKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Alice (work) <Alice@Example.ORG>":     "alice@example.org",
		"alice@example.org":                    "alice@example.org",
		"  <alice@example.org> ":               "alice@example.org",
		"Alice <x> <alice@example.org>":        "alice@example.org",
		"Jörg <jörg@bücher.example>":           "jörg@xn--bcher-kva.example",
		"Alice":                                "",
		"Alice <alice>":                        "",
		"Alice alice@example.org":              "",
		"<@example.org>":                       "",
		"<alice@>":                             "",
		"alice@example.org>":                   "",
		"":                                     "",
		"<\"odd local\"@example.org>":          "",
		"<alice@example.org>, <b@example.org>": "b@example.org",
	} {
		if got := addressKey(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := printable("A\x1b[31m\u202eb\xff\n"); got != "A[31mb\uFFFD" {
		t.Errorf("printable: %q", got)
	}
}

// packetsOf cuts data into packets.
func packetsOf(t testing.TB, data []byte) []rawPacket {
	t.Helper()
	var packets []rawPacket
	for len(data) > 0 {
		p, rest, err := cutPacket(data)
		if err != nil {
			t.Fatal(err)
		}
		packets, data = append(packets, p), rest
	}
	return packets
}

func packetOf(tag byte, body []byte) []byte {
	return append(appendHeader(nil, tag, int64(len(body))), body...)
}
