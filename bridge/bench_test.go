package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"postern/internal/mail"
)

// filled is a message with lines behind it, of about size octets.
func filled(text string, size int) []byte {
	return append([]byte(text), strings.Repeat(strings.Repeat("x", 78)+"\r\n", (size-len(text))/80)...)
}

// throughput measures the whole path of a message to one recipient, several at once, to
// durable.
func throughput(b *testing.B, f *fixture, src func() mail.Source, data []byte, recipient string) {
	to := mail.Rcpt{Address: parse(b, recipient)}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.SetParallelism(5)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tr, err := f.Begin(b.Context(), src())
			if err == nil {
				err = tr.Rcpt(b.Context(), to)
			}
			if err == nil {
				_, err = tr.Data(b.Context(), bytes.NewReader(data))
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkData measures mail to an account.
func BenchmarkData(b *testing.B) {
	for _, size := range []int{2000, 30_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := newFixture(b)
			f.account("alice@here.test", true)
			throughput(b, f, source, filled(plainMail, size), "alice@here.test")
		})
	}
}

// BenchmarkSubmit measures a submission: 2 KB sealed to one correspondent with a Curve25519
// certificate that the directory knows.
func BenchmarkSubmit(b *testing.B) {
	signer, _ := withSigner(b)
	o := newOutbound(b, signer)
	o.correspondent("bob@there.test")
	throughput(b, o.fixture, submissionSource, filled(letter("", "bob@there.test"), 2000), "bob@there.test")
}

// BenchmarkSubmitMany measures one message of 30 KB to 1,000 correspondents, whose
// certificates the directory knows: one encryption and 1,000 key wraps.
func BenchmarkSubmitMany(b *testing.B) {
	signer, _ := withSigner(b)
	o := newOutbound(b, signer)
	var to []string
	for i := range 1000 {
		to = append(to, fmt.Sprintf("r%d@d%d.test", i, i%50))
		o.correspondent(to[i])
	}
	data := string(filled(letter("", to...), 30_000+len(letter("", to...))))
	if _, err := o.submit(data, to...); err != nil { // the directory learns them
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := o.submit(data, to...); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if n := len(o.queued()[0].to); n == 0 {
		b.Fatal("nothing waits")
	}
}
