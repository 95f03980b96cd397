package imapd

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// fill puts n messages into the INBOX, in large batches.
func (e *env) fill(n int) {
	e.t.Helper()
	box := e.mailbox("INBOX")
	for n > 0 {
		var b store.Batch
		for range min(n, 500) {
			m, err := e.message([]byte(fmt.Sprintf("From: \"Bob Builder %d\" <bob%d@example.net>\r\nTo: Alice <alice@example.org>, carol@example.com\r\n"+
				"Cc: list@lists.example.org\r\nSubject: [...]\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <%d.abcdef@mail.example.net>\r\n"+
				"References: <one@example.net> <two@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\r\n\r\n"+
				"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n--b--\r\n", n, n, n)))
			if err != nil {
				e.t.Fatal(err)
			}
			b.Deliveries = append(b.Deliveries, store.Delivery{Message: m, Mailbox: box.ID, Flags: store.Seen,
				Protection: mail.Protect(mail.Inbound(), mail.ContentEncrypted, mail.Found), InternalDate: time.Now()})
			n--
		}
		if _, err := e.store.Commit(e.t.Context(), b); err != nil {
			e.t.Fatal(err)
		}
	}
}

// benchSize is the mailbox of the benchmarks.
const benchSize = 100_000

// BenchmarkMailbox100k measures commands on a large mailbox over loopback, without TLS.
// The targets are: SELECT 50 ms, FLAGS 0.8 s, ENVELOPE 2.5 s.
func BenchmarkMailbox100k(b *testing.B) {
	e := newEnv(b, nil)
	e.fill(benchSize)
	for _, bench := range []struct{ name, command string }{
		{"SELECT", "SELECT INBOX"},
		{"NOOP", "NOOP"},
		{"FetchFlags", "FETCH 1:* (FLAGS UID)"},
		{"FetchEnvelope", "FETCH 1:* (ENVELOPE)"},
		{"FetchStructure", "FETCH 1:* (BODYSTRUCTURE)"},
		{"FetchHeaderFields", "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT REFERENCES)])"},
		{"FetchBody", "FETCH 1:10000 (BODY.PEEK[])"},
		{"SearchSubjectRare", "SEARCH SUBJECT rareword"},
		{"SearchFromRare", "SEARCH FROM bob77777@"},
		{"SearchTextRare", "SEARCH TEXT rareword"},
		{"SearchUnseen", "SEARCH UNSEEN"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			c := e.login()
			c.limit(10 * time.Minute)
			c.ok("SELECT INBOX")
			c.r = bufio.NewReaderSize(c.conn, 256<<10)
			for b.Loop() {
				c.drain(bench.command)
			}
		})
	}
}

// drain runs a command and throws its responses away without looking at each.
func (c *client) drain(command string) {
	c.t.Helper()
	tag := []byte(c.start("%s", command) + " OK")
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			c.t.Fatal(err)
		}
		if bytes.HasPrefix(line, tag) {
			return
		}
	}
}

// BenchmarkAppend is the front end's part of an upload: the acceptor throws it away.
func BenchmarkAppend(b *testing.B) {
	e := newEnv(b, nil)
	for _, size := range []int{2_000, 1_000_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			c := e.login()
			c.limit(10 * time.Minute)
			text := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
			for b.Loop() {
				c.send(fmt.Sprintf("a APPEND Sent {%d}\r\n", size))
				c.line()
				if _, err := c.conn.Write(append(text, '\r', '\n')); err != nil {
					b.Fatal(err)
				}
				c.line()
			}
		})
	}
}

// BenchmarkIdleWake is the time from a delivery to the notice, with 100,000 messages.
func BenchmarkIdleWake(b *testing.B) {
	e := newEnv(b, nil)
	e.fill(benchSize)
	c := e.selected("INBOX")
	c.limit(10 * time.Minute)
	c.start("IDLE")
	c.line()
	n := benchSize
	var worst time.Duration
	for b.Loop() {
		time.Sleep(2 * idlePause) // so that not the pause is measured
		began := time.Now()
		e.deliver("INBOX", simple("wake"))
		n++
		for want := fmt.Sprintf("* %d EXISTS", n); c.line() != want; {
		}
		worst = max(worst, time.Since(began))
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
}

func residentKiB(t *testing.T) int {
	t.Helper()
	runtime.GC()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc here")
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}
