package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"postern/internal/mail"
)

// BenchmarkSubmit measures a submission to durable: 2 KB sealed to one correspondent
// with a Curve25519 certificate that the directory knows, several at once.
func BenchmarkSubmit(b *testing.B) {
	signer, _ := withSigner(b)
	o := newOutbound(b, signer)
	o.correspondent("bob@there.test")
	data := []byte(letter("", "bob@there.test"))
	data = append(data, bytes.Repeat([]byte(strings.Repeat("x", 78)+"\r\n"), (2000-len(data))/80)...)
	to := mail.Rcpt{Address: parse(b, "bob@there.test")}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.SetParallelism(5)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tr, err := o.Begin(b.Context(), submissionSource())
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
	data := letter("", to...) + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 375)
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
