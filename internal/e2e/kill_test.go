package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
)

// kills is how often TestP4_KillNine ends the server.
const kills = 50

// A 250 means that the message is on stable storage: the server is killed again and
// again while mail comes in and is read, and whatever was acknowledged is there, under
// the UID that it had, and opens.
func TestP4_KillNine(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	l := &load{addr: g.mx(), accepted: map[string]bool{}, refused: map[string]int{}}
	w := &watcher{g: g, seen: map[imap.UID]string{}}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 10 {
		running.Go(func() { l.send(stop) })
	}
	running.Go(func() { w.watch(stop) })
	m := newMover(g)
	running.Go(func() { m.work(stop) })

	early := 0
	for i := range kills {
		if i%7 == 3 { // before it is ready, maybe
			g.kill()
			g.launch()
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // the moment is the point
			early++
		} else {
			g.waitReady()
			enough := l.acknowledged() + rand.IntN(150)
			eventually(t, "messages are acknowledged", func() bool { return l.acknowledged() >= enough })
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		}
		g.kill()
		g.launch()
	}
	g.waitReady()
	close(stop)
	running.Wait()

	w.catchUp(t)
	t.Logf("%d kills, %d of them soon after the start; sent %d, acknowledged %d, refused %v", kills+early, early, l.sent.Load(), len(l.accepted), l.refused)
	t.Logf("%d messages stored, %d looks by IMAP while it was killed", len(w.seen), w.looks)
	if len(l.accepted) < 10*kills {
		t.Errorf("only %d messages were acknowledged: there was no load", len(l.accepted))
	}
	duplicates := l.verify(t, w.seen)
	t.Logf("%d duplicates: stored, killed before the reply, and sent again", duplicates)
	l.open(t, g, w)
	m.verify(t)
	g.stop()
	g.check()
	g.start()
	w.catchUp(t)
}

// load is ten peers that deliver mail and know what they were told.
type load struct {
	addr string
	sent atomic.Int64

	mu       sync.Mutex
	accepted map[string]bool // by Message-ID
	refused  map[string]int  // replies that were no 250
}

// loadMessage is the message with an id, always the same octets.
func loadMessage(id string) []byte {
	n, _ := strconv.ParseInt(strings.Split(id, ".")[0], 10, 64)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	size := 200 + r.IntN(4000)
	switch r.IntN(100) {
	case 0:
		size = 2_500_000 // more than is spooled in memory
	case 1, 2, 3, 4, 5:
		size = 20_000 + r.IntN(100_000)
	}
	line := fmt.Appendf(nil, "this is message %s, and nothing else\r\n", id)
	return slices.Concat(fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nMessage-ID: <%s@load.example>\r\nSubject: load\r\n\r\n", sender, owner, id),
		bytes.Repeat(line, size/len(line)+1))
}

// send sends one message after the other; one that got no answer it sends again, as a
// mail server does.
func (l *load) send(stop <-chan struct{}) {
	var c *smtp.Client
	id := ""
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		}
		if c == nil {
			var err error
			if c, err = smtp.Dial(l.addr); err != nil {
				continue
			}
			c.CommandTimeout, c.SubmissionTimeout = patience, patience
		}
		if id == "" {
			id = fmt.Sprintf("%d.%d", l.sent.Add(1), rand.Uint32())
		}
		err := c.SendMail(sender, []string{owner}, bytes.NewReader(loadMessage(id)))
		l.told(id, err)
		if err == nil {
			id = ""
		} else {
			c.Close()
			c = nil
		}
	}
}

func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

func (l *load) told(id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.accepted[id] = true
	} else if reply, ok := err.(*smtp.SMTPError); ok {
		l.refused[reply.Error()]++
	}
}

// verify requires that every acknowledged message is there, and that nothing is that
// was not sent. It returns how many are there more than once.
func (l *load) verify(t *testing.T, seen map[imap.UID]string) (duplicates int) {
	t.Helper()
	times := map[string]int{}
	for uid, id := range seen {
		if times[id]++; times[id] > 1 {
			duplicates++
		}
		if n, err := strconv.ParseInt(strings.Split(id, ".")[0], 10, 64); err != nil || n > l.sent.Load() {
			t.Errorf("UID %d is %q, which nobody sent", uid, id)
		}
	}
	lost := 0
	for id := range l.accepted {
		if times[id] == 0 {
			if lost++; lost < 5 {
				t.Errorf("message %s was acknowledged, and is lost", id)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged messages are lost", lost, len(l.accepted))
	}
	for reply := range l.refused {
		t.Errorf("a message was refused: %s", reply)
	}
	return duplicates
}

// open opens a sample of what is there, the last ones before the end among them.
func (l *load) open(t *testing.T, g *gateway, w *watcher) {
	t.Helper()
	uids := slices.Sorted(maps.Keys(w.seen))
	sample := imap.UIDSet{}
	for i := 0; i < len(uids); i += max(1, len(uids)/40) {
		sample.AddNum(uids[i])
	}
	sample.AddNum(uids[len(uids)-1])
	c := g.imap(t)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(sample, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	if err != nil || len(got) < 30 {
		t.Fatalf("fetched %d, %v", len(got), err)
	}
	var raw [][]byte
	for _, m := range got {
		raw = append(raw, m.FindBodySection(whole))
	}
	for i, original := range g.ownerGnuPG(t).restored(raw...) {
		id := w.seen[got[i].UID]
		same(t, "message "+id, original, loadMessage(id))
	}
}

// watcher reads by IMAP all the while, and keeps the server to what it has said.
type watcher struct {
	g           *gateway
	looks       int
	uidValidity uint32
	uidNext     imap.UID
	seen        map[imap.UID]string // Message-IDs
	wrong       []string
}

// watch looks at what is new until stop; that the connection breaks is expected.
func (w *watcher) watch(stop <-chan struct{}) {
	config := w.g.tlsConfig()
	for {
		c, err := imapclient.DialTLS(w.g.at(993), &imapclient.Options{TLSConfig: config})
		if err == nil {
			err = c.Login(owner, w.g.password).Wait()
			for err == nil && !stopped(stop, 30*time.Millisecond) {
				if err = w.look(c, w.uidNext); err == nil {
					w.looks++
				}
			}
			c.Close()
		}
		if stopped(stop, 10*time.Millisecond) {
			return
		}
	}
}

func stopped(stop <-chan struct{}, wait time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(wait):
		return false
	}
}

// look reads the UIDs from first on and compares with what was there before.
func (w *watcher) look(c *imapclient.Client, first imap.UID) error {
	selected, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return err
	}
	if w.uidValidity == 0 {
		w.uidValidity = selected.UIDValidity
	}
	if selected.UIDValidity != w.uidValidity {
		w.fail("UIDVALIDITY was %d and is %d", w.uidValidity, selected.UIDValidity)
	}
	if selected.UIDNext < w.uidNext {
		w.fail("UIDNEXT was %d and is %d", w.uidNext, selected.UIDNext)
	}
	w.uidNext = max(w.uidNext, selected.UIDNext)
	if first = max(first, 1); first >= selected.UIDNext {
		return nil
	}
	id := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Message-ID"}, Peek: true}
	got, err := c.Fetch(imap.UIDSet{{Start: first, Stop: selected.UIDNext - 1}}, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{id}}).Collect()
	for _, m := range got {
		field := messageID.FindSubmatch(m.FindBodySection(id))
		if field == nil {
			if err == nil {
				w.fail("UID %d has no Message-ID", m.UID)
			}
			continue
		}
		if was, ok := w.seen[m.UID]; ok && was != string(field[1]) {
			w.fail("UID %d was message %s and is %s", m.UID, was, field[1])
		}
		w.seen[m.UID] = string(field[1])
	}
	return err
}

var messageID = regexp.MustCompile(`(?i)message-id: <(.*)@load\.example>`)

func (w *watcher) fail(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// catchUp reads the whole mailbox: whatever was seen before must be there still.
func (w *watcher) catchUp(t *testing.T) {
	t.Helper()
	before := maps.Clone(w.seen)
	clear(w.seen)
	c := w.g.imap(t)
	defer c.Close()
	if err := w.look(c, 1); err != nil {
		t.Fatal("read the mailbox: ", err)
	}
	for uid, id := range before {
		if w.seen[uid] != id {
			w.fail("UID %d was message %s and is %q", uid, id, w.seen[uid])
		}
	}
	for i, text := range w.wrong {
		if i == 10 {
			t.Errorf("and %d more", len(w.wrong)-i)
			break
		}
		t.Error(text)
	}
	w.wrong = nil
}
