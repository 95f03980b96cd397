package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// TestSealOpen: what was sealed opens to the same octets, for every kind of key,
// sizes around every boundary, and writes of any size.
func TestSealOpen(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, 2, 15, 16, 17, 45, 46, 47, 48, 49, 183, 184, 185, 2048, 8376, 8377,
		sealChunk - 40, sealChunk - 30, sealChunk - 26, sealChunk - 24, sealChunk - 12, sealChunk - 11, sealChunk - 10, sealChunk, sealChunk + 1,
		2*sealChunk - 30, 2*sealChunk - 11, 3*sealChunk + 7, 1<<18 + 5}
	for _, kind := range testKinds {
		k := testKey(t, kind)
		for _, size := range sizes {
			for _, piece := range []int{1 << 20, 32 << 10, 5000, 77} {
				if piece < 1000 && size > 10000 || kind != "curve25519" && kind != "v6" && kind != "v6gcm" && piece != 1<<20 {
					continue
				}
				data := randomOctets(size)
				message := sealTo(t, data, piece, k.Certificate())
				if got := opened(t, k, message); !bytes.Equal(got, data) {
					t.Fatalf("%s, %d octets in pieces of %d: opened to something else", kind, size, piece)
				}
			}
		}
	}
}

// TestSealForLibrary: the library, whose reader is strict about packets and AEAD
// chunks, opens it too and agrees about the checksum.
func TestSealForLibrary(t *testing.T) {
	t.Parallel()
	for _, kind := range testKinds {
		k := testKey(t, kind)
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(k.data))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 100, sealChunk - 11, 100_000} {
			data := randomOctets(size)
			block, err := armor.Decode(bytes.NewReader(sealTo(t, data, 4096, k.Certificate())))
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			md, err := openpgp.ReadMessage(block.Body, keys, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			got, err := io.ReadAll(md.UnverifiedBody)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s, %d octets: %v", kind, size, err)
			}
			if l := md.LiteralData; !l.IsBinary || l.FileName != "" || l.Time != 0 {
				t.Errorf("%s: literal packet tells %q %d", kind, l.FileName, l.Time)
			}
		}
	}
}

// TestShared: one encryption, many mailboxes, each opens its own message with its
// own session key packets and cannot be told from one that was sealed alone.
func TestShared(t *testing.T) {
	t.Parallel()
	kinds := []string{"curve25519", "rsa2048", "rsa3072", "p256", "p384", "p521", "v6", "v6x448"}
	var all []*Certificate
	for _, kind := range kinds {
		all = append(all, testKey(t, kind).Certificate())
	}
	data := randomOctets(50_000)
	s, err := NewSealing(all, int64(len(data)), testNow)
	if err != nil {
		t.Fatal(err)
	}
	if s.Version() != 1 {
		t.Fatalf("SEIPD version %d for mixed certificates", s.Version())
	}
	var body bytes.Buffer
	w, err := s.Encrypt(&body)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i, kind := range kinds {
		// Each alone, and together with its neighbour: another length of PKESKs.
		for _, certs := range [][]*Certificate{all[i : i+1], {all[i], all[(i+1)%len(all)]}} {
			pkesk, err := s.Wrap(certs, testNow)
			if err != nil {
				t.Fatal(err)
			}
			if len(pkesk)%3 != 0 {
				t.Errorf("%s: %d octets of session keys are no whole quantum", kind, len(pkesk))
			}
			message := bytes.Join([][]byte{s.Head(pkesk), body.Bytes(), s.Tail(pkesk)}, nil)
			if !bytes.Equal(opened(t, testKey(t, kind), message), data) {
				t.Errorf("%s: opened to something else", kind)
			}
			checkArmor(t, message, true)
			got, err := Inspect(bytes.NewReader(message))
			if err != nil || !got.Encrypted || len(got.Recipients) != len(certs) || got.SEIPDVersion != 1 {
				t.Errorf("%s: inspection %+v, %v", kind, got, err)
			}
		}
	}
	pkesk, err := s.Wrap(all, testNow)
	if err != nil {
		t.Fatal(err)
	}
	message := bytes.Join([][]byte{s.Head(pkesk), body.Bytes(), s.Tail(pkesk)}, nil)
	if _, err := testKey(t, "v6gcm").Decrypt(bytes.NewReader(message)); !errors.Is(err, ErrNotForKey) {
		t.Errorf("opened by somebody else: %v", err)
	}
}

// checkArmor checks what RFC 9580 6 and strict readers want of our armor.
func checkArmor(t *testing.T, message []byte, withCRC bool) {
	t.Helper()
	text := string(message)
	if !strings.HasPrefix(text, "-----BEGIN PGP MESSAGE-----\r\n\r\n") || !strings.HasSuffix(text, "\r\n-----END PGP MESSAGE-----\r\n") {
		t.Error("begin or end line is wrong")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
	for _, l := range lines {
		if len(l) > lineChars || strings.ContainsAny(l, "\r\n") {
			t.Errorf("line %q", l)
		}
	}
	crc := lines[len(lines)-2]
	if !withCRC {
		if strings.HasPrefix(crc, "=") {
			t.Error("checksum where there must be none")
		}
		return
	}
	octets, _, _, err := cutArmor(message, typeMessage)
	if err != nil {
		t.Fatal(err)
	}
	want := string(appendArmorTail(nil, typeMessage, true, crc24Update(crc24Init, octets)))
	if crc != want[:5] {
		t.Errorf("checksum %q, want %q", crc, want[:5])
	}
	for i := 0; i < len(octets); {
		if octets[i]&0xC0 != 0xC0 {
			t.Fatalf("old-format header at %d", i)
		}
		p, rest, err := cutPacket(octets[i:])
		if err != nil {
			t.Fatal(err)
		}
		i = len(octets) - len(rest)
		if p.tag != tagMarker && p.tag != tagPKESK && p.tag != tagSEIPD {
			t.Errorf("packet of type %d", p.tag)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		kinds   string
		version int
		suite   string
	}{
		{"curve25519", 1, ""},
		{"v6", 2, "9/2"},
		{"v6gcm", 2, "9/3"},
		{"v6 v6gcm", 2, "9/2"},
		{"v6gcm v6x448", 2, "9/3"},
		{"v6 curve25519", 1, ""},
		{"v6plain", 1, ""},    // does not ask for it
		{"v6plain v6", 1, ""}, // not everyone asks
		{"rsa2048 v6", 1, ""},
	}
	for _, test := range tests {
		var certs []*Certificate
		for kind := range strings.FieldsSeq(test.kinds) {
			certs = append(certs, testKey(t, kind).Certificate())
		}
		s, err := NewSealing(certs, 10, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if s.Version() != test.version {
			t.Errorf("%s: SEIPD version %d", test.kinds, s.Version())
		}
		if suite := fmt.Sprintf("%d/%d", s.suite.Cipher, s.suite.Mode); s.version == 2 && suite != test.suite {
			t.Errorf("%s: suite %s", test.kinds, suite)
		}
		message := sealTo(t, []byte("ten octets"), 10, certs...)
		checkArmor(t, message, test.version == 1)
		got, _ := Inspect(bytes.NewReader(message))
		if !got.Encrypted || got.SEIPDVersion != test.version {
			t.Errorf("%s: %+v", test.kinds, got)
		}
		if want := certs[0].subkeys[0].key.KeyIdString(); test.version == 2 {
			want = fingerprintHex(certs[0].subkeys[0].key.Fingerprint)
			if got.Recipients[0] != want {
				t.Errorf("%s: recipient %s, want %s", test.kinds, got.Recipients[0], want)
			}
		} else if got.Recipients[0] != want {
			t.Errorf("%s: recipient %s, want %s", test.kinds, got.Recipients[0], want)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	c := testKey(t, "curve25519").Certificate()
	v6 := testKey(t, "v6").Certificate()
	if _, err := NewSealing(nil, 1, testNow); !errors.Is(err, ErrNoRecipients) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := NewSealing([]*Certificate{c}, maxPacket, testNow); !errors.Is(err, ErrSize) {
		t.Errorf("over 4 GiB: %v", err)
	}
	if _, err := NewSealing([]*Certificate{c}, 1, testNow.Add(-48*time.Hour)); !errors.Is(err, ErrNotYetValid) {
		t.Errorf("before it was made: %v", err)
	}
	s, err := NewSealing([]*Certificate{v6}, 5, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wrap([]*Certificate{c}, testNow); !errors.Is(err, ErrVersion) {
		t.Errorf("v4 certificate in a v6 sealing: %v", err)
	}
	if _, err := s.Wrap(nil, testNow); !errors.Is(err, ErrNoRecipients) {
		t.Errorf("wrap for nobody: %v", err)
	}
	for _, size := range []int{4, 6} {
		s, _ := NewSealing([]*Certificate{c}, 5, testNow)
		w, _ := s.Encrypt(io.Discard)
		_, err := w.Write(make([]byte, size))
		if size > 5 && !errors.Is(err, ErrSize) {
			t.Errorf("too much: %v", err)
		}
		if err := w.Close(); !errors.Is(err, ErrSize) {
			t.Errorf("%d instead of 5 octets: %v", size, err)
		}
		if err := w.Close(); !errors.Is(err, ErrSize) {
			t.Errorf("closed twice: %v", err)
		}
		if _, err := s.Encrypt(io.Discard); err == nil {
			t.Error("Encrypt twice")
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("Tail of an unfinished message did not panic")
				}
			}()
			s.Tail(nil)
		}()
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// TestSealWriteFails: an error of the writer comes back, at whatever octet.
func TestSealWriteFails(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"curve25519", "v6"} {
		c := testKey(t, kind).Certificate()
		for room := 0; room < 130_000; room += 6500 {
			s, _ := NewSealing([]*Certificate{c}, 100_000, testNow)
			w, err := s.Encrypt(&failingWriter{left: room})
			if err == nil {
				w.Write(make([]byte, 100_000))
				err = w.Close()
			}
			if !errors.Is(err, io.ErrClosedPipe) {
				t.Fatalf("%s, fails after %d: %v", kind, room, err)
			}
		}
	}
}

// TestConcurrent shares certificates between sealings, for the race detector.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	var certs []*Certificate
	for _, kind := range []string{"curve25519", "p256", "rsa2048", "v6"} {
		certs = append(certs, parseOne(t, testKey(t, kind).Certificate().Data()))
	}
	s, err := NewSealing(certs, 3, testNow)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, c := range certs {
				if _, err := s.Wrap([]*Certificate{c}, testNow); err != nil {
					t.Error(err)
				}
				c.Usable(testNow)
				c.UserIDs()
				c.HasAddress("alice@example.org")
			}
		})
	}
	wg.Wait()
}

// TestWrapOnce: two copies of one certificate are one recipient.
func TestWrapOnce(t *testing.T) {
	t.Parallel()
	c := testKey(t, "curve25519").Certificate()
	got, err := Inspect(bytes.NewReader(sealTo(t, []byte("x"), 1, c, parseOne(t, c.Data()))))
	if err != nil || len(got.Recipients) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
