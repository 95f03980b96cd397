package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"postern/internal/mail"
)

// BenchmarkData measures the whole path of a message, several at once, to durable.
func BenchmarkData(b *testing.B) {
	for _, size := range []int{2000, 30_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := newFixture(b)
			f.account("alice@here.test", true)
			data := []byte(plainMail + strings.Repeat(strings.Repeat("x", 78)+"\r\n", (size-len(plainMail))/80))
			to := mail.Rcpt{Address: parse(b, "alice@here.test")}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			b.SetParallelism(5)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					tr, err := f.Begin(b.Context(), source())
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
		})
	}
}
