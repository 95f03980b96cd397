package cluster

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// quantiles measures each call by itself and reports how long most of them take.
func quantiles(b *testing.B, do func(i int)) {
	b.Helper()
	took := make([]time.Duration, 0, 1<<16)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		do(i)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	for _, q := range []struct {
		part float64
		name string
	}{{0.5, "p50-ns"}, {0.99, "p99-ns"}} {
		b.ReportMetric(float64(took[int(float64(len(took)-1)*q.part)]), q.name)
	}
}

func BenchmarkRedisGet(b *testing.B) {
	n := node(b, startServer(b).addr(), unhurried())
	for i := range 1000 {
		n.Set(b.Context(), key(i), make([]byte, 2048), time.Hour)
	}
	b.Run("hit 2 KiB", func(b *testing.B) {
		quantiles(b, func(i int) {
			if _, ok := n.Get(b.Context(), key(i%1000)); !ok {
				b.Fatal("a miss")
			}
		})
	})
	b.Run("miss", func(b *testing.B) {
		quantiles(b, func(int) { n.Get(b.Context(), "none") })
	})
}

func BenchmarkRedisSet(b *testing.B) {
	n := node(b, startServer(b).addr(), unhurried())
	value := make([]byte, 2048)
	quantiles(b, func(i int) { n.Set(b.Context(), key(i%1000), value, time.Hour) })
}

func BenchmarkRedisTake(b *testing.B) {
	n := node(b, startServer(b).addr(), unhurried())
	quantiles(b, func(i int) { n.Take(key(i%1000), 1<<30, time.Minute) })
}

func BenchmarkRedisLease(b *testing.B) {
	n := node(b, startServer(b).addr(), unhurried())
	quantiles(b, func(i int) {
		release, ok := n.Lease(b.Context(), key(i%1000), time.Minute)
		if !ok {
			b.Fatal("no lease")
		}
		release()
	})
}

// From a wake-up on one node to the watcher on another.
func BenchmarkRedisWakeToWatch(b *testing.B) {
	s := startServer(b)
	from, to := node(b, s.addr(), unhurried()), node(b, s.addr(), unhurried())
	woken, end := to.Watch("topic")
	defer end()
	quantiles(b, func(int) {
		from.Wake("topic")
		<-woken
	})
}

// What a wake-up costs the one who says it; how many of them share a notice.
func BenchmarkRedisWake(b *testing.B) {
	s := startServer(b)
	from, to := node(b, s.addr(), unhurried()), node(b, s.addr(), unhurried())
	woken, end := to.Watch("last")
	defer end()
	topics := make([]string, 1000)
	for i := range topics {
		topics[i] = key(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		from.Wake(topics[i%1000])
	}
	from.Wake("last")
	<-woken
}

// What it costs while Redis is down.
func BenchmarkRedisDown(b *testing.B) {
	s := startServer(b)
	n := node(b, s.addr(), defaultLimits())
	s.kill()
	eventually(b, "down", func() bool { return n.breaker.open.Load() })
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n.Get(b.Context(), "k")
		}
	})
	b.Run("take", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n.Take("k", 1<<30, time.Minute)
		}
	})
}

// With 16 at once on each core.
func BenchmarkRedisGetAtOnce(b *testing.B) {
	n := node(b, startServer(b).addr(), unhurried())
	for i := range 1000 {
		n.Set(b.Context(), key(i), make([]byte, 2048), time.Hour)
	}
	b.ReportAllocs()
	b.SetParallelism(16)
	var i atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := n.Get(b.Context(), key(int(i.Add(1)%1000))); !ok {
				b.Error("a miss")
			}
		}
	})
}
