package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/mail"
)

// BenchmarkCommit delivers messages of 2 KB, of which the blob store would hold
// the body, from several writers, and reports fsyncs per commit.
func BenchmarkCommit(b *testing.B) {
	for _, accounts := range []int{1, 20} {
		for _, writers := range []int{1, 10, 64} {
			b.Run(fmt.Sprintf("accounts=%d/writers=%d", accounts, writers), func(b *testing.B) {
				benchmarkCommit(b, writers, accounts)
			})
		}
	}
}

func benchmarkCommit(b *testing.B, writers, accounts int) {
	ctx := context.Background()
	s := openBench(b)
	var owners []Account
	for i := range accounts {
		owners = append(owners, newAccount(b, s, fmt.Sprintf("user%d@example.org", i)))
	}
	head, summary := make([]byte, 1200), make([]byte, 350)
	rand.Read(head)
	rand.Read(summary)
	before, cpu := s.Stats(), cpuTime(b)
	var next, refs atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				m := &Message{
					ID: s.NewID(), Account: owners[n%int64(len(owners))].ID, Class: ClassSealed,
					Head: head, Tail: head[:90], Envelope: summary, Structure: summary[:150],
					Blob: Blob{Ref: fmt.Sprintf("0001-%010d", refs.Add(2100)), Size: 2100, Digest: sha256.Sum256(head)},
				}
				m.Size = int64(len(m.Head)+len(m.Tail)) + m.Blob.Size
				_, err := s.Commit(ctx, Batch{
					Deliveries: []Delivery{{Message: m, Protection: sealed()}},
					Audit:      []Audit{{Kind: "deliver", Subject: "user@example.org", Detail: "sealed id=abcdef spf=pass dkim=pass"}},
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	after := s.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/commit")
	b.ReportMetric(float64(after.Transactions-before.Transactions)/float64(b.N), "fsyncs/commit")
}

// cpuTime is what the process has used so far, in user and system mode.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func openBench(b *testing.B) *Store {
	b.Helper()
	s, err := Open(context.Background(), Options{Path: filepath.Join(b.TempDir(), "postern.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// fill puts n messages into an account's INBOX.
func fill(tb testing.TB, s *Store, a Account, n int) Mailbox {
	tb.Helper()
	ctx := context.Background()
	for n > 0 {
		var batch Batch
		for range min(n, 1000) {
			batch.Deliveries = append(batch.Deliveries, delivery(s, a))
		}
		if _, err := s.Commit(ctx, batch); err != nil {
			tb.Fatal(err)
		}
		n -= len(batch.Deliveries)
	}
	m, err := s.MailboxByName(ctx, a.ID, "INBOX")
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func BenchmarkView(b *testing.B) {
	ctx := context.Background()
	s := openBench(b)
	a := newAccount(b, s, "alice@example.org")
	box := fill(b, s, a, 100_000)
	view := func(b *testing.B) {
		v, err := s.View(ctx, box.ID)
		if err != nil || len(v.Entries) < 100_000 {
			b.Fatal(len(v.Entries), err)
		}
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.DropViews()
			view(b)
		}
	})
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			view(b)
		}
	})
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			fill(b, s, a, 1)
			b.StartTimer()
			view(b)
		}
	})
	b.Run("flag", func(b *testing.B) {
		b.ReportAllocs()
		op := FlagsAdd
		for b.Loop() {
			b.StopTimer()
			if _, err := s.SetFlags(ctx, box.ID, []Range{{50, 50}}, op, Seen, nil, 0); err != nil {
				b.Fatal(err)
			}
			op = FlagsAdd + FlagsRemove - op
			b.StartTimer()
			view(b)
		}
	})
}

func BenchmarkMessages(b *testing.B) {
	ctx := context.Background()
	s := openBench(b)
	a := newAccount(b, s, "alice@example.org")
	box := fill(b, s, a, 100_000)
	for _, c := range []struct {
		name string
		want Columns
	}{{"size", 0}, {"envelope", WantEnvelope}, {"structure", WantEnvelope | WantStructure}, {"body", WantBody}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				err := s.Messages(ctx, box.ID, []Range{{1, maxUID}}, c.want, func(uint32, *Message) error {
					n++
					return nil
				})
				if err != nil || n != 100_000 {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	ctx := context.Background()
	s := openBench(b)
	a := newAccount(b, s, "alice@example.org")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.AccountByAddress(ctx, a.Address.Key()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSteps times what works on many messages at once.
func BenchmarkSteps(b *testing.B) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		do   func(s *Store, box, other Mailbox) error
	}{
		{"flags", func(s *Store, box, _ Mailbox) error {
			_, err := s.SetFlags(ctx, box.ID, []Range{{1, maxUID}}, FlagsAdd, Seen, nil, 0)
			return err
		}},
		{"copy", func(s *Store, box, other Mailbox) error {
			_, err := s.Copy(ctx, box.ID, []Range{{1, maxUID}}, other.ID)
			return err
		}},
		{"move", func(s *Store, box, other Mailbox) error {
			_, err := s.Move(ctx, box.ID, []Range{{1, maxUID}}, other.ID)
			return err
		}},
		{"expunge", func(s *Store, box, _ Mailbox) error {
			if _, err := s.SetFlags(ctx, box.ID, []Range{{1, maxUID}}, FlagsAdd, Deleted, nil, 0); err != nil {
				return err
			}
			_, err := s.Expunge(ctx, box.ID, nil)
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var spent time.Duration
			for b.Loop() {
				s := openBench(b)
				a := newAccount(b, s, "alice@example.org")
				box := fill(b, s, a, 10_000)
				other, err := s.CreateMailbox(ctx, a.ID, NewMailbox{Name: "Archive"})
				if err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if err := c.do(s, box, other); err != nil {
					b.Fatal(err)
				}
				spent += time.Since(start)
				s.Close()
			}
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N)/10_000, "µs/message")
		})
	}
}

func sealed() mail.Protection {
	return mail.Protect(mail.Inbound(), mail.ContentClear, mail.Found)
}
