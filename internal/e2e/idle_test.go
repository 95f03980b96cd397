package e2e

import (
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// idler is a session in IDLE that says what it is told.
type idler struct {
	exists   chan uint32
	expunged chan uint32
	flags    chan []imap.Flag
	idle     *imapclient.IdleCommand
}

// idler selects the INBOX and idles.
func (g *gateway) idler(t *testing.T) *idler {
	t.Helper()
	w := &idler{exists: make(chan uint32, 100), expunged: make(chan uint32, 100), flags: make(chan []imap.Flag, 100)}
	c := g.imapAs(t, owner, g.password, &imapclient.UnilateralDataHandler{
		Mailbox: func(m *imapclient.UnilateralDataMailbox) {
			if m.NumMessages != nil {
				w.exists <- *m.NumMessages
			}
		},
		Expunge: func(seq uint32) { w.expunged <- seq },
		Fetch: func(m *imapclient.FetchMessageData) {
			if b, err := m.Collect(); err == nil {
				w.flags <- b.Flags
			}
		},
	})
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.idle, err = c.Idle(); err != nil {
		t.Fatal("IDLE: ", err)
	}
	return w
}

// A session in IDLE learns of mail and of what other sessions do without asking. How
// long that takes is logged; it should be under 100 ms.
func TestIdleWithin100ms(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	g.deliver(text("the first", "one"))
	w := g.idler(t)
	other := g.imap(t)
	if _, err := other.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	smtp := g.smtp(t)
	took := func(what string, since time.Time) {
		t.Logf("%s: %v", what, time.Since(since).Round(100*time.Microsecond))
	}

	for i := range uint32(5) {
		smtp.begin()
		smtp.put(stuffed(text("another", "two")))
		smtp.put([]byte(".\r\n"))
		if got := smtp.reply(); got[:3] != "250" {
			t.Fatal(got)
		}
		start := time.Now() // the mail is there from now on
		if n := receive(t, "EXISTS", w.exists); n != 2+i {
			t.Fatalf("EXISTS %d, not %d", n, 2+i)
		}
		took("delivery by SMTP", start)
	}

	start := time.Now()
	if err := other.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged, "$Work"}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if flags := receive(t, "FETCH (FLAGS)", w.flags); len(flags) != 2 {
		t.Errorf("flags %v", flags)
	}
	took("another session's flags", start)

	start = time.Now()
	if _, err := other.Move(imap.SeqSetNum(2), "Archive").Wait(); err != nil {
		t.Fatal(err)
	}
	if seq := receive(t, "EXPUNGE", w.expunged); seq != 2 {
		t.Errorf("EXPUNGE %d", seq)
	}
	took("another session's MOVE", start)

	start = time.Now()
	if err := other.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	receive(t, "FETCH (FLAGS)", w.flags)
	if err := other.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	if seq := receive(t, "EXPUNGE", w.expunged); seq != 1 {
		t.Errorf("EXPUNGE %d", seq)
	}
	took("another session's EXPUNGE", start)

	start = time.Now()
	appendMessage(t, other, "INBOX", text("appended", "three"))
	if n := receive(t, "EXISTS", w.exists); n != 5 {
		t.Errorf("EXISTS %d", n)
	}
	took("another session's APPEND", start)
	if err := w.idle.Close(); err != nil {
		t.Error("DONE: ", err)
	}
	if err := w.idle.Wait(); err != nil {
		t.Error("end of IDLE: ", err)
	}
	if n := g.count(t, "INBOX"); n != 5 {
		t.Errorf("%d messages", n)
	}
}

// What another process changes is seen as well: the command line works on the same data.
func TestIdleSeesTheCommandLine(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	w := g.idler(t)
	mbox := "From bob Mon Mar  2 11:00:00 2026\nFrom: bob@example.net\nSubject: old mail\n\nfrom long ago\n"
	g.postern("import", owner, writeFile(t, "mbox", []byte(mbox)))
	if n := receive(t, "EXISTS", w.exists); n != 1 {
		t.Errorf("EXISTS %d", n)
	}
}
