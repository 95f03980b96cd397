package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func TestParseSecretKey(t *testing.T) {
	t.Parallel()
	word := []byte("correct horse")
	locked := testEntity(t, "curve25519", testNow.Add(-day))
	if err := locked.EncryptPrivateKeys(word, &packet.Config{S2KConfig: &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, S2KCount: 65536}}); err != nil {
		t.Fatal(err)
	}
	data := secretOctets(t, locked)
	tell := func(w []byte, err error) func() ([]byte, error) { return func() ([]byte, error) { return w, err } }

	k, err := ParseSecretKey(armored(typePrivateKey, data, 4), tell(word, nil))
	if err != nil {
		t.Fatal(err)
	}
	if string(opened(t, k, sealTo(t, []byte("text"), 9, k.Certificate()))) != "text" {
		t.Error("does not open")
	}
	if again, err := ParseSecretKey(k.Armor(), tell(word, nil)); err != nil || again.Certificate().Fingerprint() != k.Certificate().Fingerprint() {
		t.Errorf("its own armor: %v", err)
	}
	if _, err := ParseSecretKey(k.Armor(), nil); !errors.Is(err, ErrPassphrase) {
		t.Errorf("its own armor must stay locked: %v", err)
	}
	plain := testKey(t, "curve25519")
	tests := []struct {
		name string
		data []byte
		ask  func() ([]byte, error)
		want error
	}{
		{"wrong passphrase", data, tell([]byte("wrong"), nil), ErrPassphrase},
		{"nobody to ask", data, nil, ErrPassphrase},
		{"asking fails", data, tell(nil, io.ErrClosedPipe), io.ErrClosedPipe},
		{"not locked", plain.data, tell(nil, io.ErrClosedPipe), nil},
		{"a certificate", plain.Certificate().Data(), nil, ErrNoSecretKey},
		{"a certificate in armor", plain.Certificate().Armor(), nil, ErrNoSecretKey},
		{"text", []byte("hello"), nil, ErrNoSecretKey},
		{"nothing", nil, nil, ErrNoSecretKey},
		{"cut off", plain.data[:len(plain.data)-3], nil, ErrNoSecretKey},
		{"too large", make([]byte, maxInput+1), nil, ErrTooLarge},
		{"two keys, the first is taken", slices.Concat(plain.data, testKey(t, "p256").data), nil, nil},
	}
	for _, test := range tests {
		k, err := ParseSecretKey(test.data, test.ask)
		if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err == nil && k.Certificate().Fingerprint() != plain.Certificate().Fingerprint() {
			t.Errorf("%s: another key", test.name)
		}
	}
}

// libraryMessage encrypts with the library, which does what we never do.
func libraryMessage(t *testing.T, text string, hidden bool, config *packet.Config, keys ...*SecretKey) []byte {
	t.Helper()
	var to []*openpgp.Entity
	for _, k := range keys {
		e, err := openpgp.ReadKeyRing(bytes.NewReader(k.data))
		if err != nil {
			t.Fatal(err)
		}
		to = append(to, e...)
	}
	params := &openpgp.EncryptParams{Config: config, Signers: to[:1]}
	var open, closed []*openpgp.Entity = to, nil
	if hidden {
		open, closed = nil, to
	}
	var b bytes.Buffer
	w, err := openpgp.EncryptWithParams(&b, open, closed, params)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compressedMessage encrypts compressed data, as GnuPG does.
func compressedMessage(t *testing.T, text string, algorithm packet.CompressionAlgo, k *SecretKey) []byte {
	t.Helper()
	r, err := k.Certificate().choose(testNow)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	key := randomOctets(32)
	if err := packet.SerializeEncryptedKeyAEAD(&b, r.key, packet.CipherAES256, false, key, nil); err != nil {
		t.Fatal(err)
	}
	data, err := packet.SerializeSymmetricallyEncrypted(&b, packet.CipherAES256, false, packet.CipherSuite{}, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := packet.SerializeCompressed(data, algorithm, nil)
	if err != nil {
		t.Fatal(err)
	}
	literal, err := packet.SerializeLiteral(packed, true, "name.txt", 1)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(literal, text)
	if err := literal.Close(); err != nil { // closes everything below it
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOpenCompressed(t *testing.T) {
	t.Parallel()
	k := testKey(t, "curve25519")
	text := strings.Repeat("some text ", 10_000)
	for _, algorithm := range []packet.CompressionAlgo{packet.CompressionZIP, packet.CompressionZLIB} {
		message := compressedMessage(t, text, algorithm, k)
		if len(message) > len(text)/5 || string(opened(t, k, message)) != text {
			t.Errorf("algorithm %d: %d octets, opened to something else", algorithm, len(message))
		}
	}
}

// TestOpenOthers opens what others write: signed, anonymous, binary, partial
// lengths, several recipients, SEIPD version 2 for a v4 key.
func TestOpenOthers(t *testing.T) {
	t.Parallel()
	alice, bob, rsa, six := testKey(t, "curve25519"), testKey(t, "p256"), testKey(t, "rsa2048"), testKey(t, "v6gcm")
	text := strings.Repeat("some text ", 10_000)
	for _, hidden := range []bool{false, true} {
		for _, keys := range [][]*SecretKey{{alice}, {bob, alice}, {rsa, bob, alice}, {six}, {six, alice}} {
			config := &packet.Config{Time: testConfig("v6", testNow).Time, AEADConfig: &packet.AEADConfig{}}
			message := libraryMessage(t, text, hidden, config, keys...)
			for _, k := range keys {
				for _, form := range [][]byte{message, armored(typeMessage, message, 4)} {
					if string(opened(t, k, form)) != text {
						t.Errorf("hidden %v: something else", hidden)
					}
				}
			}
			if got, err := Inspect(bytes.NewReader(message)); err != nil || !got.Encrypted || hidden != (got.Anonymous == len(keys)) {
				t.Errorf("hidden %v: %+v, %v", hidden, got, err)
			}
		}
	}
}

// TestOpenRefuses: nothing of a message comes out unless all of it is sound.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	k, other, six := testKey(t, "curve25519"), testKey(t, "p256"), testKey(t, "v6")
	good := dearmored(t, sealTo(t, []byte(strings.Repeat("text", 500)), 9999, k.Certificate()))
	goodSix := dearmored(t, sealTo(t, []byte(strings.Repeat("text", 500)), 9999, six.Certificate()))
	parts := packetsOf(t, good)
	sed := slices.Concat(parts[0].raw, packetOf(tagSED, parts[1].body[1:]))
	tests := []struct {
		name string
		data []byte
		want error
	}{
		{"text", []byte("hello"), ErrNotEncrypted},
		{"nothing", nil, ErrNotEncrypted},
		{"armor of nothing", armored(typeMessage, nil, 4), ErrNotEncrypted},
		{"a certificate", k.Certificate().Armor(), ErrNotEncrypted},
		{"no session key", parts[1].raw, ErrNotEncrypted},
		{"session key only", parts[0].raw, ErrNotEncrypted},
		{"for somebody else", sealTo(t, []byte("text"), 9, other.Certificate()), ErrNotForKey},
		{"no integrity protection", sed, ErrNoIntegrity},
		{"octets behind", append(slices.Clone(good), "hello"...), ErrIntegrity},
		{"a second message behind", slices.Concat(good, good), ErrIntegrity},
		{"PKESK 3 with SEIPD 2", slices.Concat(parts[0].raw, packetsOf(t, goodSix)[1].raw), ErrNotForKey},
	}
	for _, test := range tests {
		checkRefused(t, test.name, k, test.data, test.want)
	}
	for name, message := range map[string]struct {
		k    *SecretKey
		data []byte
	}{"MDC": {k, good}, "AEAD": {six, goodSix}} {
		head := len(packetsOf(t, message.data)[0].raw) + 4
		for i := head; i < len(message.data); i += 13 {
			bad := slices.Clone(message.data)
			bad[i] ^= 1
			r, err := message.k.Decrypt(bytes.NewReader(bad))
			if err == nil || r != nil {
				t.Fatalf("%s: octet %d changed and it opened", name, i)
			}
		}
		for _, n := range []int{1, 16, 22, 23, 500} {
			checkRefused(t, name+" cut off", message.k, message.data[:len(message.data)-n], nil)
			p := packetsOf(t, message.data)
			short := slices.Concat(p[0].raw, packetOf(tagSEIPD, p[1].body[:len(p[1].body)-n]))
			checkRefused(t, name+" cut short", message.k, short, ErrIntegrity)
		}
	}
}

func checkRefused(t *testing.T, name string, k *SecretKey, data []byte, want error) {
	t.Helper()
	r, err := k.Decrypt(bytes.NewReader(data))
	if err == nil || r != nil || want != nil && !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
}

// TestOpenLimit: size and decompression are limited, and the reader's errors are told.
func TestOpenLimit(t *testing.T) {
	t.Parallel()
	k := testKey(t, "curve25519")
	message := sealTo(t, make([]byte, 10_000), 9999, k.Certificate())
	if _, err := k.DecryptLimit(bytes.NewReader(message), 10_000); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := k.DecryptLimit(bytes.NewReader(message), 9_999); !errors.Is(err, ErrMessageTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	bomb := compressedMessage(t, strings.Repeat("\x00", 10<<20), packet.CompressionZLIB, k)
	if len(bomb) > 100_000 {
		t.Fatal("this is no bomb")
	}
	if _, err := k.DecryptLimit(bytes.NewReader(bomb), 1<<20); !errors.Is(err, ErrMessageTooLarge) {
		t.Errorf("bomb: %v", err)
	}
	for n := 0; n < len(message); n += 997 {
		r := io.MultiReader(bytes.NewReader(message[:n]), iotest.ErrReader(io.ErrClosedPipe))
		if _, err := k.Decrypt(r); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("after %d octets: %v", n, err)
		}
	}
}

// TestSecretStaysIn: printing a key by mistake shows nothing of it.
func TestSecretStaysIn(t *testing.T) {
	t.Parallel()
	k := testKey(t, "curve25519")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, k); got != "secret key "+k.Certificate().Fingerprint() {
			t.Errorf("%s: %.100s", verb, got)
		}
	}
}

func dearmored(t *testing.T, message []byte) []byte {
	t.Helper()
	octets, _, ok, err := cutArmor(message, typeMessage)
	if !ok || err != nil {
		t.Fatal(err)
	}
	return octets
}

func FuzzDecrypt(f *testing.F) {
	k := testKey(f, "curve25519")
	six := testKey(f, "v6")
	for _, key := range []*SecretKey{k, six} {
		message := sealTo(f, []byte("some text"), 99, key.Certificate())
		f.Add(message)
		octets, _, _, _ := cutArmor(message, typeMessage)
		f.Add(octets)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, key := range []*SecretKey{k, six} {
			if r, err := key.DecryptLimit(bytes.NewReader(data), 1<<16); (r == nil) == (err == nil) {
				t.Fatal(r, err)
			}
		}
	})
}
