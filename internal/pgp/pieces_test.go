package pgp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func testBlock(t testing.TB) cipher.Block {
	t.Helper()
	block, err := aes.NewCipher(randomOctets(32))
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// TestCFB compares with the standard library, in place and not, in calls of any
// number of blocks.
func TestCFB(t *testing.T) {
	t.Parallel()
	block := testBlock(t)
	for _, size := range []int{0, 1, 15, 16, 17, 31, 32, 1000, 4096, 40007} {
		data := randomOctets(size)
		want := make([]byte, size)
		//lint:ignore SA1019 the format prescribes CFB
		cipher.NewCFBEncrypter(block, make([]byte, 16)).XORKeyStream(want, data)
		for _, step := range []int{16, 48, 4096, 65536} {
			ours := cfbEncrypter{block: block}
			got, place := make([]byte, size), bytes.Clone(data)
			inPlace := cfbEncrypter{block: block}
			for i := 0; i < size; i += step {
				end := min(i+step, size)
				ours.encrypt(got[i:end], data[i:end])
				inPlace.encrypt(place[i:end], place[i:end])
			}
			if !bytes.Equal(got, want) || !bytes.Equal(place, want) {
				t.Fatalf("%d octets in steps of %d differ", size, step)
			}
		}
	}
}

// TestCRC24 checks against a bit-by-bit computation (RFC 9580 6.1.1) and a known value.
func TestCRC24(t *testing.T) {
	t.Parallel()
	slow := func(crc uint32, p []byte) uint32 {
		for _, v := range p {
			crc ^= uint32(v) << 16
			for range 8 {
				if crc <<= 1; crc&0x1000000 != 0 {
					crc ^= 0x1864CFB
				}
			}
		}
		return crc
	}
	if got := crc24Update(crc24Init, []byte("123456789")); got != 0x21CF02 {
		t.Errorf("check value %06X", got)
	}
	for size := range 100 {
		data := randomOctets(size * 7)
		if got, want := crc24Update(crc24Init, data), slow(crc24Init, data); got != want {
			t.Fatalf("%d octets: %06X, want %06X", len(data), got, want)
		}
	}
}

func TestCRC24Combine(t *testing.T) {
	t.Parallel()
	for _, sizes := range [][2]int{{0, 0}, {0, 5}, {5, 0}, {1, 1}, {96, 1000}, {399, 65536}, {12345, 1 << 20}} {
		a, b := randomOctets(sizes[0]), randomOctets(sizes[1])
		got := crc24Combine(crc24Update(crc24Init, a), crc24Update(crc24Init, b), int64(len(b)))
		if want := crc24Update(crc24Init, append(a, b...)); got != want {
			t.Errorf("%v: %06X, want %06X", sizes, got, want)
		}
	}
}

// TestArmorWriter compares with encoding/base64, for writes of any size.
func TestArmorWriter(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 2, 3, 47, 48, 49, 96, 97, 5000, 100_000} {
		data := randomOctets(size)
		var want strings.Builder
		for text := base64.StdEncoding.EncodeToString(data); text != ""; {
			n := min(64, len(text))
			want.WriteString(text[:n] + "\r\n")
			text = text[n:]
		}
		if got := string(appendLines([]byte("x"), data)); got != "x"+want.String() {
			t.Errorf("appendLines of %d octets", size)
		}
		for _, step := range []int{1, 7, 48, 50, 4096, 1 << 20} {
			var out bytes.Buffer
			a := &armorWriter{w: &out, out: make([]byte, armorBatchLines*lineWidth), withCRC: true, crc: crc24Init}
			for i := 0; i < size; i += step {
				a.Write(data[i:min(i+step, size)])
			}
			a.Close()
			if out.String() != want.String() || a.octets != int64(size) || a.crc != crc24Update(crc24Init, data) {
				t.Errorf("%d octets in steps of %d differ", size, step)
			}
		}
	}
}

// TestArmorReader reads what others write: other line lengths, LF, white space at
// the end of lines, no checksum or a wrong one.
func TestArmorReader(t *testing.T) {
	t.Parallel()
	data := randomOctets(30_001)
	text := base64.StdEncoding.EncodeToString(data)
	wrap := func(width int, end string) string {
		var b strings.Builder
		for rest := text; rest != ""; {
			n := min(width, len(rest))
			b.WriteString(rest[:n] + end)
			rest = rest[n:]
		}
		return b.String()
	}
	const begin, end = "-----BEGIN PGP MESSAGE-----", "-----END PGP MESSAGE-----"
	tests := []struct {
		name string
		text string
		ok   bool
	}{
		{"ours", string(armored(typeMessage, data, 4)), true},
		{"LF, 76", begin + "\n\n" + wrap(76, "\n") + end + "\n", true},
		{"width not of quanta", begin + "\n\n" + wrap(61, "\n") + end, true},
		{"short lines", begin + "\n\n" + wrap(1, "\n") + end, true},
		{"long lines", begin + "\n\n" + wrap(7000, "\n") + end, true},
		{"white space at line ends", begin + " \r\n\t\r\n" + wrap(64, " \r\n") + end + "  \r\n\r\n \n", true},
		{"empty lines before", "\r\n\n" + begin + "\n\n" + wrap(64, "\n") + end, true},
		{"header lines", begin + "\nVersion: GnuPG v2\nComment: hello\n\n" + wrap(64, "\n") + end, true},
		{"wrong checksum", begin + "\n\n" + wrap(64, "\n") + "=AAAA\n" + end, true},
		{"text before", "hello\n" + begin + "\n\n" + wrap(64, "\n") + end, false},
		{"text behind", begin + "\n\n" + wrap(64, "\n") + end + "\nhello", false},
		{"text behind the checksum", begin + "\n\n" + wrap(64, "\n") + "=AAAA\nhello\n" + end, false},
		{"text in an unknown header", begin + "\nSubject: hello\n\n" + wrap(64, "\n") + end, false},
		{"header lines of Mailvelope", begin + "\nVersion: Mailvelope v5.2.0\nComment: https://mailvelope.com\n\n" + wrap(64, "\n") + end, true},
		{"header lines of Enigmail", begin + "\nCharset: utf-8\nVersion: GnuPG v2.0.22 (GNU/Linux)\nComment: Using GnuPG with Mozilla - https://www.enigmail.net/\n\n" + wrap(64, "\n") + end, true},
		{"header lines of FlowCrypt", begin + "\nVersion: FlowCrypt Email Encryption 8.5.7\nComment: Seamlessly send and receive encrypted email\n\n" + wrap(64, "\n") + end, true},
		{"a text in header lines", begin + strings.Repeat("\nComment: a short line of clear text", 6) + "\n\n" + wrap(64, "\n") + end, false},
		{"much text in a header", begin + "\nComment: " + strings.Repeat("hello ", 400) + "\n\n" + wrap(64, "\n") + end, false},
		{"no header, no empty line", begin + "\n" + wrap(64, "\n") + end, false},
		{"no end", begin + "\n\n" + wrap(64, "\n"), false},
		{"other end", begin + "\n\n" + wrap(64, "\n") + "-----END PGP SIGNATURE-----", false},
		{"other kind", "-----BEGIN PGP SIGNATURE-----\n\n" + wrap(64, "\n") + "-----END PGP SIGNATURE-----", false},
		{"padding within", begin + "\n\nAAA=\n" + wrap(64, "\n") + end, false},
		{"padding at the end of a batch", begin + "\n\n" + strings.Repeat(strings.Repeat("A", 64)+"\n", armorBuffer/64-1) +
			strings.Repeat("A", 62) + "==\n" + wrap(64, "\n") + end, false},
		{"not base64", begin + "\n\n" + wrap(64, "\n") + "a b?\n" + end, false},
		{"a quarter of a quantum", begin + "\n\nA\n" + end, false},
		{"a line over the buffer", begin + "\n\n" + wrap(10_000, "\n") + end, false},
		{"empty", "", false},
	}
	for _, test := range tests {
		for name, r := range map[string]io.Reader{"": strings.NewReader(test.text), " by octets": iotest.OneByteReader(strings.NewReader(test.text))} {
			got, err := readArmor(r)
			if (err == nil) != test.ok || test.ok && !bytes.Equal(got, data) {
				t.Errorf("%s%s: %d octets, %v", test.name, name, len(got), err)
			}
		}
	}
}

func readArmor(r io.Reader) ([]byte, error) {
	a, err := newArmorReader(bufferedFor(r), typeMessage)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(a)
}
