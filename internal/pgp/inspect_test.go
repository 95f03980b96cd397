package pgp

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// Bodies of packets as other programs write them, filled with noise.
func pkesk3(id string) []byte {
	return slices.Concat([]byte{3}, []byte(id), []byte{18}, randomOctets(84))
}

func pkesk6(fingerprint []byte) []byte {
	if fingerprint == nil {
		return slices.Concat([]byte{6, 0, 25}, randomOctets(73))
	}
	return slices.Concat([]byte{6, byte(len(fingerprint) + 1), 6}, fingerprint, []byte{25}, randomOctets(73))
}

// skesk6 is what Delta Chat puts in front of a message for a group secret.
func skesk6() []byte {
	return slices.Concat([]byte{6, 31, 9, 2, 10, 3, 8}, randomOctets(8), []byte{0x60}, randomOctets(15), randomOctets(48))
}

func seipd1(n int) []byte { return append([]byte{1}, randomOctets(n)...) }
func seipd2(n int) []byte {
	return slices.Concat([]byte{2, 9, 2, 6}, randomOctets(32), randomOctets(n))
}

// partialPacket splits a body into parts of 512 octets and a rest (RFC 9580 4.2.1.4).
func partialPacket(tag byte, body []byte) []byte {
	b := []byte{0xC0 | tag}
	for len(body) > 512 {
		b = append(append(b, 0xE0|9), body[:512]...)
		body = body[512:]
	}
	return append(append(b, byte(len(body)%192)), body[:len(body)%192]...)
}

// oldPacket has an old-format header with a two-octet length, as GnuPG writes PKESKs.
func oldPacket(tag byte, body []byte) []byte {
	return append([]byte{0x80 | tag<<2 | 1, byte(len(body) >> 8), byte(len(body))}, body...)
}

func TestInspect(t *testing.T) {
	t.Parallel()
	id, fingerprint := "\x01\x23\x45\x67\x89\xAB\xCD\xEF", bytes.Repeat([]byte{0xAB}, 32)
	const idHex = "0123456789ABCDEF"
	fpHex := strings.Repeat("AB", 32)
	pk, anonymous := packetOf(tagPKESK, pkesk3(id)), packetOf(tagPKESK, pkesk3(strings.Repeat("\x00", 8)))
	s1, s2 := packetOf(tagSEIPD, seipd1(500)), packetOf(tagSEIPD, seipd2(500))
	literal := packetOf(tagLiteral, append([]byte{'b', 0, 0, 0, 0, 0}, "clear text"...))
	join := func(p ...[]byte) []byte { return slices.Concat(p...) }
	no := Inspection{}
	want := func(recipients []string, anonymous, symmetric, version int) Inspection {
		return Inspection{Encrypted: true, Recipients: recipients, Anonymous: anonymous, Symmetric: symmetric, SEIPDVersion: version}
	}

	tests := []struct {
		name string
		data []byte
		want Inspection
	}{
		{"PKESK 3, SEIPD 1", join(pk, s1), want([]string{idHex}, 0, 0, 1)},
		{"old-format header", join(oldPacket(tagPKESK, pkesk3(id)), s1), want([]string{idHex}, 0, 0, 1)},
		{"partial lengths", join(pk, partialPacket(tagSEIPD, seipd1(5*512+100))), want([]string{idHex}, 0, 0, 1)},
		{"five-octet length", join(pk, append([]byte{0xD2, 255, 0, 0, 1, 0xF5}, seipd1(500)...)), want([]string{idHex}, 0, 0, 1)},
		{"all anonymous", join(anonymous, anonymous, s1), want(nil, 2, 0, 1)},
		{"PKESK 6, SEIPD 2", join(packetOf(tagPKESK, pkesk6(fingerprint)), packetOf(tagPKESK, pkesk6(nil)), s2), want([]string{fpHex}, 1, 0, 2)},
		{"SKESK 6 and SEIPD 2 of Delta Chat", join(packetOf(tagSKESK, skesk6()), s2), want(nil, 0, 1, 2)},
		{"passphrase", join(packetOf(tagSKESK, append([]byte{4, 9, 3, 8}, randomOctets(9)...)), s1), want(nil, 0, 1, 1)},
		{"both", join(packetOf(tagSKESK, []byte{4, 9, 0, 8}), pk, s1), want([]string{idHex}, 0, 1, 1)},
		{"unknown PKESK version", join(packetOf(tagPKESK, []byte{9, 1, 2}), s1), want(nil, 0, 0, 1)},
		{"marker and padding", join(marker[:], pk, packetOf(tagPadding, randomOctets(50)), marker[:], s1), want([]string{idHex}, 0, 0, 1)},

		{"nothing", nil, no},
		{"text", []byte("Dear Sir or Madam"), no},
		{"text that begins like armor", []byte("-----BEGIN PGP MESSAGE-----\r\nhello\r\n"), no},
		{"garbage octets", append([]byte{0xC1}, randomOctets(2000)...), no},
		{"no session key", s1, no},
		{"no data", pk, no},
		{"clear text alone", literal, no},
		{"clear text behind the session key", join(pk, literal), no},
		{"clear text behind the data", join(pk, s1, literal), no},
		{"clear text before", join(literal, pk, s1), no},
		{"octets behind the data", join(pk, s1, []byte("hello")), no},
		{"padding behind the data", join(pk, s1, packetOf(tagPadding, []byte("hello"))), no},
		{"two data packets", join(pk, s1, s1), no},
		{"session key behind the data", join(pk, s1, pk), no},
		{"SED", join(pk, packetOf(tagSED, randomOctets(500))), no},
		{"type 20", join(pk, packetOf(20, append([]byte{1, 9, 2, 16}, randomOctets(500)...))), no},
		{"unknown SEIPD version", join(pk, packetOf(tagSEIPD, append([]byte{3}, randomOctets(500)...))), no},
		{"SEIPD 1 too short", join(pk, packetOf(tagSEIPD, seipd1(30))), no},
		{"SEIPD 2 too short", join(pk, packetOf(tagSEIPD, seipd2(20))), no},
		{"empty SEIPD", join(pk, packetOf(tagSEIPD, nil)), no},
		{"cut off in the data", join(pk, s1)[:300], no},
		{"cut off in the session key", pk[:50], no},
		{"cut off in a header", join(pk, []byte{0xD2, 255, 0}), no},
		{"session key with partial lengths", join(partialPacket(tagPKESK, append(pkesk3(id), make([]byte, 1000)...)), s1), no},
		{"long session key", join(packetOf(tagPKESK, append(pkesk3(id), make([]byte, maxSessionKey)...)), s1), no},
		{"much padding", join(pk, packetOf(tagPadding, make([]byte, maxLoose+1)), s1), no},
		{"empty session key", join(packetOf(tagPKESK, nil), s1), no},
		{"too many session keys", join(bytes.Repeat(pk, maxSessionKeys+1), s1), no},
		{"old format without length", append([]byte{0x84 | 3}, randomOctets(500)...), no},
		{"a certificate", testKey(t, "curve25519").Certificate().Data(), no},
		{"a certificate in armor", testKey(t, "curve25519").Certificate().Armor(), no},
		{"signed only", join(packetOf(4, randomOctets(13)), literal, packetOf(tagSignature, randomOctets(70))), no},
	}
	for _, test := range tests {
		inputs := map[string][]byte{"binary": test.data}
		if len(test.data) > 0 && test.data[0]&0x80 != 0 {
			inputs["armor"] = armored(typeMessage, test.data, 4)
		}
		for form, input := range inputs {
			for _, r := range []io.Reader{bytes.NewReader(input), iotest.OneByteReader(bytes.NewReader(input)), iotest.DataErrReader(bytes.NewReader(input))} {
				got, err := Inspect(r)
				if err != nil || got.Encrypted != test.want.Encrypted || got.Anonymous != test.want.Anonymous || got.Symmetric != test.want.Symmetric ||
					got.SEIPDVersion != test.want.SEIPDVersion || !slices.Equal(got.Recipients, test.want.Recipients) {
					t.Errorf("%s, %s: %+v, %v", test.name, form, got, err)
				}
			}
		}
	}
}

// TestInspectReader: an error of the reader is an error, wherever it comes, not "no".
func TestInspectReader(t *testing.T) {
	t.Parallel()
	message := sealTo(t, randomOctets(20_000), 1<<20, testKey(t, "curve25519").Certificate())
	for n := 0; n < len(message); n += 499 {
		r := io.MultiReader(bytes.NewReader(message[:n]), iotest.ErrReader(io.ErrClosedPipe))
		if got, err := Inspect(r); !errors.Is(err, io.ErrClosedPipe) || got.Encrypted {
			t.Fatalf("after %d octets: %+v, %v", n, got, err)
		}
	}
	// What is clearly not encrypted is not read to its end.
	r := io.MultiReader(strings.NewReader(strings.Repeat("hello\n", 10_000)), iotest.ErrReader(io.ErrClosedPipe))
	if got, err := Inspect(r); err != nil || got.Encrypted {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzInspect: it never panics, never believes clear text, and says the same about
// armor as about the octets inside.
func FuzzInspect(f *testing.F) {
	c := testKey(f, "curve25519").Certificate()
	f.Add(sealTo(f, []byte("text"), 9, c))
	f.Add(sealTo(f, []byte("text"), 9, testKey(f, "v6").Certificate()))
	f.Add(slices.Concat(packetOf(tagPKESK, pkesk6(nil)), packetOf(tagSKESK, skesk6()), packetOf(tagSEIPD, seipd2(100))))
	f.Add(slices.Concat(oldPacket(tagPKESK, pkesk3("01234567")), partialPacket(tagSEIPD, seipd1(1000))))
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\nVersion: 1\n\nAAAA\n=AAAA\n-----END PGP MESSAGE-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Inspect(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if slow, _ := Inspect(iotest.OneByteReader(bytes.NewReader(data))); slow.Encrypted != got.Encrypted {
			t.Fatal("depends on the sizes of the reads")
		}
		if !got.Encrypted {
			return
		}
		if got.SEIPDVersion != 1 && got.SEIPDVersion != 2 {
			t.Fatalf("%+v", got)
		}
		octets := data
		if data[0]&0x80 == 0 {
			var ok bool
			if octets, _, ok, err = cutArmor(data, typeMessage); !ok || err != nil {
				return // more tolerant of line ends here than there
			}
		}
		if more, _ := Inspect(bytes.NewReader(slices.Concat(octets, []byte("x")))); more.Encrypted {
			t.Fatal("believes in an octet behind the message")
		}
	})
}
