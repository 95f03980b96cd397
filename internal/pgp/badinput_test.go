package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// keyBody is a version 4 public key packet of numbers with the given lengths.
func keyBody(algorithm byte, numberBits ...int) []byte {
	body := []byte{4, 0x60, 0, 0, 0, algorithm}
	for _, n := range numberBits {
		number := randomOctets((n + 7) / 8)
		number[0] = number[0]>>1 | 0x80
		number[0] >>= (8 - n%8) % 8
		number[len(number)-1] |= 1
		body = append(append(body, byte(n>>8), byte(n)), number...)
	}
	return body
}

// dsaBody is a DSA key whose prime has the given length; the largest the format
// allows keeps a naive reader busy for minutes with a single signature.
func dsaBody(bits int) []byte { return keyBody(algoDSA, bits, 256, bits, bits) }

// selfSigned puts a user ID and a plausible self-signature behind a primary key.
func selfSigned(primary []byte, sigAlgorithm byte) []byte {
	sig := []byte{4, 0x13, sigAlgorithm, 8, 0, 6, 5, 2, 0x60, 0, 0, 1, 0, 0, 0xAB, 0xCD}
	sig = append(append(sig, 1, 0), randomOctets(32)...)
	sig = append(append(sig, 1, 0), randomOctets(32)...)
	return slices.Concat(packetOf(tagPublicKey, primary), packetOf(tagUserID, []byte("<bomb@example.org>")), packetOf(tagSignature, sig))
}

// TestBadInput is the table of the package comment: what comes in, what comes out,
// and that it takes no time.
func TestBadInput(t *testing.T) {
	t.Parallel()
	good := publicOctets(t, testEntity(t, "curve25519", testNow.Add(-100*day)))
	parts := packetsOf(t, good)
	repeat := func(n int, p []byte) []byte { return slices.Concat(parts[0].raw, bytes.Repeat(p, n)) }
	userIDs := slices.Clone(parts[0].raw)
	for i := range 10_000 {
		userIDs = append(userIDs, packetOf(tagUserID, fmt.Appendf(nil, "<u%d@example.org>", i))...)
	}
	rsa := packetsOf(t, publicOctets(t, testEntity(t, "rsa2048", testNow.Add(-day))))
	_, expired := certificateWith(t, "curve25519", 100*day, plan{age: 90 * day, flags: 0x0C, life: 10 * day})
	_, bare := certificateWith(t, "curve25519", 100*day)
	_, rotating := certificateWith(t, "curve25519", 100*day, plan{age: day, flags: 0x04, life: 10 * day})
	_, future := certificateWith(t, "curve25519", -day, plan{age: -day, flags: 0x0C})
	revoked := testEntity(t, "curve25519", testNow.Add(-100*day))
	if err := revoked.Revoke(packet.KeyCompromised, "", testConfig("curve25519", testNow)); err != nil {
		t.Fatal(err)
	}
	elgamal := slices.Concat(good, packetOf(tagPublicSubkey, keyBody(algoElGamal, 65535, 8, 65535)), parts[4].raw)
	unknown := slices.Concat(good, packetOf(tagPublicSubkey, []byte{4, 0, 0, 0, 0, 99, 1, 2, 3}), parts[4].raw)
	brainpool := keyBody(algoECDSA)
	brainpool = append(brainpool, 9, 0x2B, 0x24, 3, 3, 2, 8, 1, 1, 0x0D)
	secp256k1 := append(keyBody(algoECDSA), 5, 0x2B, 0x81, 4, 0, 10)
	evenRSA := keyBody(algoRSA, 2048, 17)
	evenRSA[6+2+255] &^= 1

	tests := []struct {
		name   string
		data   []byte
		parse  error // of ParseCertificates
		usable error // of Usable, if it parses
	}{
		{"good", good, nil, nil},
		{"nothing", nil, ErrNoCertificate, nil},
		{"garbage text", []byte("Dear Sir or Madam"), ErrNoCertificate, nil},
		{"garbage octets", randomOctets(5000), ErrNoCertificate, nil},
		{"garbage in armor", armored(typePublicKey, []byte("this is no packet"), 4), ErrNoCertificate, nil},
		{"armor not base64", []byte(armorBegin + typePublicKey + armorDash + "\n\n!!!\n" + armorEnd + typePublicKey + armorDash), ErrNoCertificate, nil},
		{"armor cut off", armored(typePublicKey, good, 4)[:300], ErrNoCertificate, nil},
		{"cut off", good[:len(good)-5], ErrNoCertificate, nil},
		{"a message", sealTo(t, []byte("text"), 9, parseOne(t, good)), ErrNoCertificate, nil},
		{"user ID first", slices.Concat(parts[1].raw, good), ErrNoCertificate, nil},
		{"secret key", testKey(t, "curve25519").data, ErrSecretKey, nil},
		{"secret key in armor", testKey(t, "curve25519").Armor(), ErrSecretKey, nil},
		{"secret key labelled public", armored(typePublicKey, testKey(t, "curve25519").data, 4), ErrSecretKey, nil},
		{"secret key behind a certificate", slices.Concat(good, testKey(t, "curve25519").data), ErrSecretKey, nil},
		{"both in armor", slices.Concat(armored(typePublicKey, good, 4), testKey(t, "curve25519").Armor()), ErrSecretKey, nil},
		{"over 1 MiB", make([]byte, 1<<20+1), ErrTooLarge, nil},
		{"over 256 KiB", repeat(1, packetOf(17, make([]byte, 256<<10))), ErrTooLarge, nil},
		{"10,000 user IDs", userIDs, ErrTooLarge, nil},
		{"101 user IDs", repeat(101, packetOf(tagUserID, []byte("x"))), ErrTooLarge, nil},
		{"65 subkeys", repeat(65, parts[3].raw), ErrTooLarge, nil},
		{"1,001 signatures", repeat(1001, parts[2].raw), ErrTooLarge, nil},
		{"251 checks", slices.Concat(good, bytes.Repeat(slices.Concat(parts[1].raw, bytes.Repeat(parts[2].raw, 10)), 26)), ErrTooLarge, nil},
		{"201 odd packets", repeat(201, packetOf(60, nil)), ErrTooLarge, nil},
		{"257 certificates", bytes.Repeat(packetOf(tagPublicKey, []byte{4}), 257), ErrTooLarge, nil},
		{"RSA of 10,000 bits", selfSigned(keyBody(algoRSA, 10000, 17), algoRSA), ErrAlgorithm, nil},
		{"RSA of 65,535 bits", selfSigned(keyBody(algoRSA, 65535, 17), algoRSA), ErrAlgorithm, nil},
		{"RSA of 1,024 bits", selfSigned(keyBody(algoRSA, 1024, 17), algoRSA), ErrWeak, nil},
		{"RSA with zeros in front", selfSigned(slices.Concat(keyBody(algoRSA), []byte{8, 0}, make([]byte, 200), randomOctets(56), []byte{0, 2, 3}), algoRSA), ErrWeak, nil},
		{"RSA with a huge exponent", selfSigned(keyBody(algoRSA, 2048, 2048), algoRSA), ErrAlgorithm, nil},
		{"RSA with exponent 1", selfSigned(keyBody(algoRSA, 2048, 1), algoRSA), ErrAlgorithm, nil},
		{"RSA with an even modulus", selfSigned(evenRSA, algoRSA), ErrAlgorithm, nil},
		{"RSA of 10,000 bits as subkey", slices.Concat(parts[0].raw, parts[1].raw, parts[2].raw, packetOf(tagPublicSubkey, keyBody(algoRSA, 10000, 17)), parts[4].raw), nil, ErrAlgorithm},
		{"RSA of 1,024 bits as subkey", slices.Concat(parts[0].raw, parts[1].raw, parts[2].raw, packetOf(tagPublicSubkey, keyBody(algoRSA, 1024, 17)), parts[4].raw), nil, ErrWeak},
		{"DSA bomb", selfSigned(dsaBody(65535), algoDSA), ErrAlgorithm, nil},
		{"DSA bomb as subkey", slices.Concat(good, packetOf(tagPublicSubkey, dsaBody(65535)), parts[4].raw), nil, nil},
		{"ElGamal subkey", elgamal, nil, nil},
		{"unknown subkey", unknown, nil, nil},
		{"Brainpool", selfSigned(brainpool, algoECDSA), ErrAlgorithm, nil},
		{"secp256k1", selfSigned(secp256k1, algoECDSA), ErrAlgorithm, nil},
		{"post-quantum", selfSigned(slices.Concat([]byte{6, 0, 0, 0, 0, 30, 0, 0, 0, 0}), 30), ErrAlgorithm, nil},
		{"X25519 as primary", selfSigned(slices.Concat(keyBody(algoX25519), randomOctets(32)), algoX25519), ErrAlgorithm, nil},
		{"version 3", selfSigned(append([]byte{3}, keyBody(algoRSA, 2048, 17)[1:]...), algoRSA), ErrAlgorithm, nil},
		{"no self-signature", slices.Concat(parts[0].raw, parts[1].raw, parts[3].raw, parts[4].raw), ErrUnsigned, nil},
		{"forged self-signature", selfSigned(keyBody(algoRSA, 2048, 17), algoRSA), ErrUnsigned, nil},
		{"signature of somebody else", slices.Concat(parts[0].raw, parts[1].raw, rsa[2].raw), ErrUnsigned, nil},
		{"expired", expired.Data(), nil, ErrExpired},
		{"revoked", publicOctets(t, revoked), nil, ErrRevoked},
		{"from the future", future.Data(), nil, ErrNotYetValid},
		{"without an encryption subkey", bare.Data(), nil, ErrNoEncryptionSubkey},
		{"only a rotating subkey", rotating.Data(), nil, ErrNoEncryptionSubkey},
	}
	for _, test := range tests {
		start := time.Now()
		certs, err := ParseCertificates(test.data)
		if took := time.Since(start); took > 5*time.Second { // they take microseconds; the bombs would take minutes
			t.Errorf("%s: took %v", test.name, took)
		}
		if !errors.Is(err, test.parse) || (err == nil) != (test.parse == nil) || (err == nil) == (len(certs) == 0) {
			t.Errorf("%s: %d certificates, %v; want %v", test.name, len(certs), err, test.parse)
			continue
		}
		if err == nil {
			if err := certs[0].Usable(testNow); !errors.Is(err, test.usable) || (err == nil) != (test.usable == nil) {
				t.Errorf("%s: usable %v; want %v", test.name, err, test.usable)
			}
		}
	}
}

// slowestCertificate is the one that costs most within the limits: all the checks
// allowed, of the longest RSA key allowed, all in vain.
func slowestCertificate(t testing.TB) []byte {
	t.Helper()
	body := keyBody(algoRSA, maxRSABits, 24)
	key, err := packet.Read(bytes.NewReader(packetOf(tagPublicKey, body)))
	if err != nil {
		t.Fatal(err)
	}
	// Issuer fingerprint and creation time, then a number as long as the modulus.
	sig := []byte{4, 0x13, algoRSA, 8, 0, 29, 22, 33, 4}
	sig = append(append(sig, key.(*packet.PublicKey).Fingerprint...), 5, 2, 0x60, 0, 0, 1, 0, 0, 0xAB, 0xCD, 0x1F, 0xF0)
	sig = append(append(sig, 1), randomOctets(1021)...)
	data := packetOf(tagPublicKey, body)
	for range 23 {
		data = append(data, packetOf(tagUserID, []byte("x"))...)
		for range 10 {
			data = append(data, packetOf(tagSignature, sig)...)
		}
	}
	return data
}

// TestAdvice: every error a person meets at import says what to do.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, err := range []error{ErrNoCertificate, ErrSecretKey, ErrTooLarge, ErrAlgorithm, ErrWeak, ErrUnsigned,
		ErrExpired, ErrRevoked, ErrNotYetValid, ErrNoEncryptionSubkey} {
		what, advice, ok := bytes.Cut([]byte(err.Error()), []byte(": "))
		if !ok || len(what) == 0 || len(advice) < 10 {
			t.Errorf("%q gives no advice", err)
		}
	}
}

func FuzzParseCertificates(f *testing.F) {
	for _, kind := range []string{"curve25519", "p256", "v6", "rsa2048"} {
		c := testKey(f, kind).Certificate()
		f.Add(c.Data())
		f.Add(c.Armor())
	}
	f.Add(selfSigned(dsaBody(1024), algoDSA))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParseCertificates(data)
		if (err == nil) == (len(certs) == 0) {
			t.Fatalf("%d certificates and %v", len(certs), err)
		}
		for _, c := range certs {
			c.UserIDs()
			c.Expires()
			c.SubkeyExpires(testNow)
			if c.Usable(testNow) != nil {
				continue
			}
			s, err := NewSealing([]*Certificate{c}, 1, testNow)
			if err != nil {
				t.Fatal(err)
			}
			s.Wrap([]*Certificate{c}, testNow) // a point on the curve of low order may fail, but not panic
			again := parseOne(t, c.Data())
			if again.Fingerprint() != c.Fingerprint() {
				t.Fatal("Data is another certificate")
			}
		}
	})
}
