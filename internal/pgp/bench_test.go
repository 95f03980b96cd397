package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// BenchmarkSeal is one message for one recipient from session key to end line.
func BenchmarkSeal(b *testing.B) {
	for _, size := range []struct {
		name   string
		octets int
	}{{"2KB", 2 << 10}, {"30KB", 30 << 10}, {"1MB", 1 << 20}} {
		data := randomOctets(size.octets)
		for _, kind := range []string{"curve25519", "rsa3072", "v6", "v6gcm"} {
			certs := []*Certificate{testKey(b, kind).Certificate()}
			b.Run(size.name+"/"+kind, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					s, err := NewSealing(certs, int64(len(data)), testNow)
					if err != nil {
						b.Fatal(err)
					}
					pkesk, err := s.Wrap(certs, testNow)
					if err != nil {
						b.Fatal(err)
					}
					w, err := s.Encrypt(io.Discard)
					if err != nil {
						b.Fatal(err)
					}
					w.Write(data)
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
					s.Head(pkesk)
					s.Tail(pkesk)
				}
			})
		}
	}
}

// BenchmarkWrap is what every further recipient of a message costs.
func BenchmarkWrap(b *testing.B) {
	for _, kind := range testKinds {
		certs := []*Certificate{testKey(b, kind).Certificate()}
		s, err := NewSealing(certs, 1, testNow)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Wrap(certs, testNow)
			}
		})
	}
}

// BenchmarkParse is parsing and verifying one certificate.
func BenchmarkParse(b *testing.B) {
	for _, kind := range testKinds {
		data := testKey(b, kind).Certificate().Data()
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseCertificates(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	slowest := slowestCertificate(b)
	b.Run("slowest", func(b *testing.B) {
		for b.Loop() {
			if _, err := ParseCertificates(slowest); !errors.Is(err, ErrUnsigned) {
				b.Fatal(err) // the signatures were not looked at
			}
		}
	})
}

func BenchmarkInspect(b *testing.B) {
	for _, size := range []int{2 << 10, 1 << 20} {
		message := sealTo(b, randomOctets(size), 1<<20, testKey(b, "curve25519").Certificate())
		b.Run(fmt.Sprint(size>>10, "KB"), func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if got, err := Inspect(bytes.NewReader(message)); err != nil || !got.Encrypted {
					b.Fatal(got, err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	k := testKey(b, "curve25519")
	for _, size := range []int{2 << 10, 1 << 20} {
		message := sealTo(b, randomOctets(size), 1<<20, k.Certificate())
		b.Run(fmt.Sprint(size>>10, "KB"), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Decrypt(bytes.NewReader(message)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPieces is what a sealed octet is made of.
func BenchmarkPieces(b *testing.B) {
	data := randomOctets(sealChunk)
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				f()
			}
		})
	}
	c := cfbEncrypter{block: testBlock(b)}
	run("cfb", func() { c.encrypt(data, data) })
	var crc uint32
	run("crc24", func() { crc = crc24Update(crc, data) })
	a := &armorWriter{w: io.Discard, out: make([]byte, armorBatchLines*lineWidth)}
	run("armor", func() { a.Write(data) })
	a.withCRC = true
	run("armor+crc24", func() { a.Write(data) })
}
