package keydir

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"postern/internal/cluster"
)

// answerWriter throws an answer away without making anything.
type answerWriter struct {
	header http.Header
	status int
}

func (w *answerWriter) Header() http.Header         { return w.header }
func (w *answerWriter) WriteHeader(status int)      { w.status = status }
func (w *answerWriter) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkWKD is the handler alone, without HTTP and TLS.
func BenchmarkWKD(b *testing.B) {
	d := newDesk(b, func(o *PublishOptions) { o.Rate, o.Rates = 1<<40, cluster.NewMemory(nil) })
	d.shelf.put(b, "alice@here.test", false, newCertificate(b, "alice@here.test"))
	d.read()
	for _, c := range []struct {
		name, target string
		status       int
	}{
		{"found", advanced("here.test", "alice") + "?l=alice", http.StatusOK},
		{"absent", advanced("here.test", "nobody") + "?l=nobody", http.StatusNotFound},
		{"by-email", "keys.here.test/vks/v1/by-email/alice%40here.test", http.StatusOK},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "https://"+c.target, nil)
			r.TLS = &tls.ConnectionState{}
			b.ReportAllocs()
			for b.Loop() {
				w := &answerWriter{header: make(http.Header, 8)}
				d.publisher.ServeHTTP(w, r)
				if w.status != c.status {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// BenchmarkPublicationMillion reads a million accounts, and then asks.
func BenchmarkPublicationMillion(b *testing.B) {
	p := NewPublication(&million{}, nil, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if err := p.read(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Run("absent", func(b *testing.B) {
		i := 0
		hashes := make([]string, 1000)
		for i := range hashes {
			hashes[i] = WKDHash(fmt.Sprint("nobody", i))
		}
		for b.Loop() {
			if _, err := p.byHash(b.Context(), "here.test", hashes[i%len(hashes)]); err != errAbsent {
				b.Fatal(err)
			}
			i++
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
	})
}
