package pgp

import (
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const aliceID = "Alice <alice@example.org>"

// certify lets signer's key make a signature about a user ID of e. The changes, if any,
// are made to it before it is signed.
func certify(t *testing.T, e *openpgp.Entity, id string, signer *openpgp.Entity, change ...func(*packet.Signature)) {
	t.Helper()
	sig := &packet.Signature{Version: signer.PrimaryKey.Version, SigType: packet.SigTypeGenericCert, PubKeyAlgo: signer.PrimaryKey.PubKeyAlgo,
		Hash: e.Identities[id].SelfCertifications[0].Packet.Hash, CreationTime: testNow.Add(-day), IssuerKeyId: &signer.PrimaryKey.KeyId}
	for _, c := range change {
		c(sig)
	}
	if err := sig.SignUserId(id, e.PrimaryKey, signer.PrivateKey, testConfig("curve25519", sig.CreationTime)); err != nil {
		t.Fatal(err)
	}
	identity := e.Identities[id]
	if sig.SigType == packet.SigTypeCertificationRevocation {
		identity.Revocations = append(identity.Revocations, packet.NewVerifiableSig(sig))
		return
	}
	identity.OtherCertifications = append(identity.OtherCertifications, packet.NewVerifiableSig(sig))
}

// revokeKey revokes a whole key.
func revokeKey(t *testing.T, e *openpgp.Entity, reason packet.ReasonForRevocation, age time.Duration) {
	t.Helper()
	if err := e.Revoke(reason, "", testConfig("curve25519", testNow.Add(-age))); err != nil {
		t.Fatal(err)
	}
}

func TestCertifiedBy(t *testing.T) {
	t.Parallel()
	made := func(age time.Duration) func(*packet.Signature) {
		return func(s *packet.Signature) { s.CreationTime = testNow.Add(-age) }
	}
	lasts := func(d time.Duration) func(*packet.Signature) {
		return func(s *packet.Signature) {
			seconds := uint32(d / time.Second)
			s.SigLifetimeSecs = &seconds
		}
	}
	life := uint32(60 * day / time.Second)
	expiring := testConfig("curve25519", testNow.Add(-100*day))
	expiring.KeyLifetimeSecs = life // ended 40 days ago
	for name, c := range map[string]struct {
		sign func(t *testing.T, next, old *openpgp.Entity)
		want bool
	}{
		"nothing":   {func(*testing.T, *openpgp.Entity, *openpgp.Entity) {}, false},
		"certified": {func(t *testing.T, next, old *openpgp.Entity) { certify(t, next, aliceID, old) }, true},
		"as persona": {func(t *testing.T, next, old *openpgp.Entity) {
			certify(t, next, aliceID, old, func(s *packet.Signature) { s.SigType = packet.SigTypePersonaCert })
		}, true},
		"by somebody else": {func(t *testing.T, next, _ *openpgp.Entity) {
			certify(t, next, aliceID, testEntity(t, "curve25519", testNow.Add(-100*day)))
		}, false},
		"forged": {func(t *testing.T, next, old *openpgp.Entity) {
			forger := testEntity(t, "curve25519", testNow.Add(-100*day))
			certify(t, next, aliceID, forger, func(s *packet.Signature) { s.IssuerKeyId = &old.PrimaryKey.KeyId })
		}, false},
		"of another user ID": {func(t *testing.T, next, old *openpgp.Entity) {
			addUserID(t, next, "Mallory", "mallory@example.org", testNow.Add(-50*day))
			certify(t, next, "Mallory <mallory@example.org>", old)
		}, false},
		"of another key": {func(t *testing.T, next, old *openpgp.Entity) {
			friend := testEntity(t, "curve25519", testNow.Add(-100*day))
			certify(t, friend, aliceID, old)
			next.Identities[aliceID].OtherCertifications = friend.Identities[aliceID].OtherCertifications
		}, false},
		"expired": {func(t *testing.T, next, old *openpgp.Entity) {
			certify(t, next, aliceID, old, made(10*day), lasts(9*day))
		}, false},
		"not yet expired": {func(t *testing.T, next, old *openpgp.Entity) {
			certify(t, next, aliceID, old, made(10*day), lasts(11*day))
		}, true},
		"from the future":   {func(t *testing.T, next, old *openpgp.Entity) { certify(t, next, aliceID, old, made(-day)) }, false},
		"before the signer": {func(t *testing.T, next, old *openpgp.Entity) { certify(t, next, aliceID, old, made(200*day)) }, false},
		"taken back": {func(t *testing.T, next, old *openpgp.Entity) {
			certify(t, next, aliceID, old)
			certify(t, next, aliceID, old, func(s *packet.Signature) { s.SigType = packet.SigTypeCertificationRevocation })
		}, false},
		"signer superseded after": {func(t *testing.T, next, old *openpgp.Entity) {
			certify(t, next, aliceID, old, made(10*day))
			revokeKey(t, old, packet.KeySuperseded, 9*day)
		}, true},
		"signer superseded before": {func(t *testing.T, next, old *openpgp.Entity) {
			revokeKey(t, old, packet.KeySuperseded, 11*day)
			certify(t, next, aliceID, old, made(10*day))
		}, false},
		"signer compromised after": {func(t *testing.T, next, old *openpgp.Entity) {
			certify(t, next, aliceID, old, made(10*day))
			revokeKey(t, old, packet.KeyCompromised, 9*day)
		}, false},
		"signer expired after": {func(t *testing.T, next, old *openpgp.Entity) {
			expire(t, old, expiring)
			certify(t, next, aliceID, old, made(50*day))
		}, true},
		"signer expired before": {func(t *testing.T, next, old *openpgp.Entity) {
			expire(t, old, expiring)
			certify(t, next, aliceID, old, made(30*day))
		}, false},
		"behind many of others": {func(t *testing.T, next, old *openpgp.Entity) {
			stranger := testEntity(t, "curve25519", testNow.Add(-100*day))
			for range 3 * maxSuccession {
				certify(t, next, aliceID, stranger)
			}
			certify(t, next, aliceID, old)
		}, true},
		"behind many that are forged": {func(t *testing.T, next, old *openpgp.Entity) {
			friend := testEntity(t, "curve25519", testNow.Add(-100*day))
			for range maxSuccession {
				certify(t, friend, aliceID, old)
			}
			next.Identities[aliceID].OtherCertifications = friend.Identities[aliceID].OtherCertifications
			certify(t, next, aliceID, old)
		}, false}, // nobody makes us verify without end
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, next := testEntity(t, "curve25519", testNow.Add(-100*day)), testEntity(t, "curve25519", testNow.Add(-90*day))
			c.sign(t, next, old)
			found, err := ParseFor(publicOctets(t, next), "alice@example.org")
			if err != nil || len(found) != 1 {
				t.Fatalf("%d certificates, %v", len(found), err)
			}
			known := parseOne(t, publicOctets(t, old))
			if got := found[0].CertifiedBy(known, testNow); got != c.want {
				t.Errorf("certified: %v, want %v", got, c.want)
			}
			if known.CertifiedBy(found[0], testNow) {
				t.Error("the new one certifies the old one")
			}
			if restricted, err := known.Restrict("alice@example.org"); err != nil || found[0].CertifiedBy(restricted, testNow) != c.want {
				t.Errorf("by what is left of the old one: not %v, %v", c.want, err)
			}
		})
	}
}

// expire makes an entity's own signatures again, with an end.
func expire(t *testing.T, e *openpgp.Entity, c *packet.Config) {
	t.Helper()
	id := e.Identities[aliceID]
	seconds := c.KeyLifetimeSecs
	for _, s := range id.SelfCertifications {
		s.Packet.KeyLifetimeSecs = &seconds
	}
	if err := id.ReSign(c); err != nil {
		t.Fatal(err)
	}
}

// TestVersionsDoNotSucceedEachOther: a version 4 key's signature about a version 6 key
// is not one of those that RFC 9580 5.2.4 knows.
func TestVersionsDoNotSucceedEachOther(t *testing.T) {
	t.Parallel()
	old, next := testEntity(t, "curve25519", testNow.Add(-100*day)), testEntity(t, "v6", testNow.Add(-90*day))
	if parseOne(t, publicOctets(t, next)).CertifiedBy(parseOne(t, publicOctets(t, old)), testNow) {
		t.Error("certified")
	}
}

// TestGnuPGSuccession: a certification that GnuPG made.
func TestGnuPGSuccession(t *testing.T) {
	gpg := needPart(t, "gpg")
	t.Parallel()
	env := gpgHome(t)
	batch := []string{"--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback", "--yes"}
	certificates := map[string]*Certificate{}
	for _, id := range []string{"old", "new"} {
		run(t, env, nil, gpg, append(batch, "--quick-gen-key", id+" <alice@example.org>", "ed25519", "cert,sign", "0")...)
		certificates[id] = parseOne(t, run(t, env, nil, gpg, "--batch", "--export", "="+id+" <alice@example.org>"))
	}
	export := func() *Certificate {
		t.Helper()
		certs, err := ParseFor(run(t, env, nil, gpg, "--batch", "--export", certificates["new"].Fingerprint()), "alice@example.org")
		if err != nil || len(certs) != 1 {
			t.Fatal(err)
		}
		return certs[0]
	}
	if export().CertifiedBy(certificates["old"], time.Now()) {
		t.Error("certified before it was")
	}
	run(t, env, nil, gpg, append(batch, "--local-user", certificates["old"].Fingerprint(), "--quick-sign-key", certificates["new"].Fingerprint())...)
	if !export().CertifiedBy(certificates["old"], time.Now().Add(time.Second)) {
		t.Error("not certified")
	}
	run(t, env, nil, gpg, append(batch, "--local-user", certificates["old"].Fingerprint(), "--quick-revoke-sig", certificates["new"].Fingerprint(), certificates["old"].Fingerprint())...)
	if export().CertifiedBy(certificates["old"], time.Now().Add(time.Second)) {
		t.Error("certified after it was taken back")
	}
}
