package imapd

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"postern/internal/store"
)

// mirrorClient is what a client knows from the responses alone.
type mirrorClient struct {
	t    *testing.T
	list []string // flags by sequence number; "?" is not known
	// mayExpunge is what the command in hand allows.
	mayExpunge bool
	flags      []imap.Flag
}

func (c *mirrorClient) WriteExpunge(seq uint32) error {
	if !c.mayExpunge {
		c.t.Fatal("EXPUNGE where none is allowed")
	}
	c.list = slices.Delete(c.list, int(seq)-1, int(seq))
	return nil
}

func (c *mirrorClient) WriteNumMessages(n uint32) error {
	if int(n) <= len(c.list) {
		c.t.Fatalf("EXISTS %d with %d messages", n, len(c.list))
	}
	for len(c.list) < int(n) {
		c.list = append(c.list, "?")
	}
	return nil
}

func (c *mirrorClient) WriteMailboxFlags(flags []imap.Flag) error {
	c.flags = flags
	return nil
}

func (c *mirrorClient) WriteMessageFlags(seq uint32, _ imap.UID, flags []imap.Flag) error {
	c.list[seq-1] = join(flags)
	return nil
}

func join(flags []imap.Flag) string {
	words := make([]string, len(flags))
	for i, f := range flags {
		words[i] = string(f)
	}
	return strings.Join(words, " ")
}

// mailboxModel changes a mailbox as the store would: every view is a new value.
type mailboxModel struct {
	r    *rand.Rand
	next uint32
	view *store.View
}

func (m *mailboxModel) step() {
	v := &store.View{Mailbox: m.view.Mailbox}
	v.Mailbox.ModSeq++
	old := m.view.Entries
	switch m.r.IntN(4) {
	case 0: // new mail only, in the same memory
		v.Entries = append(old, m.entry())
	case 1:
		v.Entries = slices.Clone(old)
		for i := range v.Entries {
			if m.r.IntN(3) == 0 {
				v.Entries[i].Flags = store.Flags(m.r.IntN(32))
				v.Entries[i].Keywords = []string{"", "$Junk", "$Junk $Phishing"}[m.r.IntN(3)]
			}
		}
	case 2:
		v.Entries = slices.DeleteFunc(slices.Clone(old), func(store.Entry) bool { return m.r.IntN(3) == 0 })
	default:
		v.Entries = slices.DeleteFunc(slices.Clone(old), func(store.Entry) bool { return m.r.IntN(5) == 0 })
		v.Entries = append(v.Entries, m.entry(), m.entry())
	}
	m.view = v
}

func (m *mailboxModel) entry() store.Entry {
	m.next += 1 + uint32(m.r.IntN(3))
	return store.Entry{UID: m.next, Flags: store.Flags(m.r.IntN(32))}
}

func flagsOf(entries []store.Entry) []string {
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = join(flagList(e.Flags, e.Keywords))
	}
	return out
}

// Whatever happens in whatever order, a client that believes the responses knows the
// mailbox as it is.
func TestViewKeepsClientTrue(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &mailboxModel{r: r, view: &store.View{Mailbox: store.Mailbox{ModSeq: 1}}}
		for range r.IntN(6) {
			m.step()
		}
		v := newView(m.view)
		c := &mirrorClient{t: t, list: flagsOf(m.view.Entries)}
		for range 40 {
			for range r.IntN(3) {
				m.step()
			}
			if r.IntN(4) == 0 {
				tellSome(r, v, c)
			}
			c.mayExpunge = r.IntN(2) == 0
			if r.IntN(6) == 0 {
				c.mayExpunge = true
				if err := v.expunge(m.view, c.WriteExpunge); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := v.advance(m.view, c.mayExpunge, c); err != nil {
				t.Fatal(err)
			}
			checkClient(t, seed, v, c)
			if c.mayExpunge && len(c.list) != len(m.view.Entries) {
				t.Fatalf("seed %d: client has %d messages, mailbox %d", seed, len(c.list), len(m.view.Entries))
			}
		}
	}
}

// tellSome lets the client hear of flags by way of a STORE.
func tellSome(r *rand.Rand, v *view, c *mirrorClient) {
	for i := range v.entries {
		if r.IntN(3) == 0 {
			f := store.Flags(r.IntN(32))
			v.tell(v.entries[i].UID, f, "")
			c.list[i] = join(flagList(f, ""))
		}
	}
}

func checkClient(t *testing.T, seed uint64, v *view, c *mirrorClient) {
	t.Helper()
	if len(c.list) != len(v.entries) {
		t.Fatalf("seed %d: client has %d messages, its view %d", seed, len(c.list), len(v.entries))
	}
	for i := range c.list {
		if c.list[i] == "?" { // fetched when the client looks at new messages
			c.list[i] = join(flagList(v.entries[i].Flags, v.entries[i].Keywords))
		}
	}
	if want := flagsOf(v.entries); !reflect.DeepEqual(c.list, want) {
		t.Fatalf("seed %d: client believes %q, is %q", seed, c.list, want)
	}
}

func TestViewSaysNothingWithoutChange(t *testing.T) {
	t.Parallel()
	base := &store.View{Mailbox: store.Mailbox{ModSeq: 3}, Entries: []store.Entry{{UID: 4}}}
	v := newView(base)
	if err := v.advance(base, true, nil); err != nil { // a nil writer panics if used
		t.Fatal(err)
	}
}

func TestViewAnnouncesNewKeywords(t *testing.T) {
	t.Parallel()
	v := newView(&store.View{Mailbox: store.Mailbox{ModSeq: 1}, Entries: []store.Entry{{UID: 1, Keywords: "$Old"}}})
	c := &mirrorClient{t: t, list: []string{"$Old"}}
	now := &store.View{Mailbox: store.Mailbox{ModSeq: 2}, Entries: []store.Entry{{UID: 1, Keywords: "$New $Old"}}}
	if err := v.advance(now, false, c); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.flags, "$New") || !slices.Contains(c.flags, imap.FlagSeen) {
		t.Errorf("FLAGS %v", c.flags)
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	entries := []store.Entry{{UID: 2}, {UID: 5}, {UID: 6}, {UID: 9}}
	v := newView(&store.View{Entries: entries})
	empty := newView(&store.View{})
	saved := []store.Range{{Lo: 5, Hi: 6}}
	seq := func(list ...uint32) imap.SeqSet {
		var s imap.SeqSet
		for i := 0; i < len(list); i += 2 {
			s.AddRange(list[i], list[i+1])
		}
		return s
	}
	uid := func(list ...uint32) imap.UIDSet {
		var s imap.UIDSet
		for i := 0; i < len(list); i += 2 {
			s.AddRange(imap.UID(list[i]), imap.UID(list[i+1]))
		}
		return s
	}
	for _, c := range []struct {
		name string
		v    *view
		set  imap.NumSet
		want []span
		bad  bool
	}{
		{"one", v, seq(2, 2), []span{{1, 2}}, false},
		{"all", v, seq(1, 0), []span{{0, 4}}, false},
		{"last", v, seq(0, 0), []span{{3, 4}}, false},
		{"beyond to last", v, seq(7, 0), []span{{3, 4}}, false},
		{"two that touch", v, seq(1, 2, 3, 3), []span{{0, 3}}, false},
		{"number too high", v, seq(5, 5), nil, true},
		{"range too high", v, seq(3, 9), nil, true},
		{"last of none", empty, seq(0, 0), nil, false},
		{"all of none", empty, seq(1, 0), nil, false},
		{"one of none", empty, seq(1, 1), nil, true},
		{"uid", v, uid(5, 5), []span{{1, 2}}, false},
		{"uid that is not there", v, uid(7, 8), nil, false},
		{"uid range", v, uid(3, 6), []span{{1, 3}}, false},
		{"uid to last", v, uid(6, 0), []span{{2, 4}}, false},
		{"uid beyond to last", v, uid(100, 0), []span{{3, 4}}, false},
		{"uid last", v, uid(0, 0), []span{{3, 4}}, false},
		{"uid of none", empty, uid(1, 0), nil, false},
		{"saved", v, imap.SearchRes(), []span{{1, 3}}, false},
	} {
		got, err := c.v.spans(c.set, saved)
		if (err != nil) != c.bad || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	if s := uidSet([]uint32{1, 2, 3, 7, 9, 10}).String(); s != "1:3,7,9:10" {
		t.Errorf("uidSet: %s", s)
	}
	if s := seqSet([]int{0, 1, 4}).String(); s != "1:2,5" {
		t.Errorf("seqSet: %s", s)
	}
	want := []store.Range{{Lo: 1, Hi: 2}, {Lo: 4, Hi: 4}}
	if got := uidRanges([]uint32{1, 2, 4}); !slices.Equal(got, want) {
		t.Errorf("uidRanges: %v", got)
	}
}

// What a silent client expects is what the store makes of the flags.
func TestAppliedAgreesWithStore(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	box := e.mailbox("INBOX")
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"$Junk", "$junk", "zeta", "Alpha", "beta"}
	e.deliver("INBOX", simple("x"))
	for range 60 {
		before, err := e.store.View(t.Context(), box.ID)
		if err != nil {
			t.Fatal(err)
		}
		had := before.Entries[0]
		op := store.FlagOp(r.IntN(3))
		by := store.Flags(r.IntN(32))
		var named []string
		for _, i := range r.Perm(len(words))[:r.IntN(3)] {
			named = append(named, words[i])
		}
		if strings.EqualFold(strings.Join(named, " "), "$junk $junk") {
			continue
		}
		if _, err := e.store.SetFlags(t.Context(), box.ID, []store.Range{{Lo: 1, Hi: 9}}, op, by, named, 0); err != nil {
			t.Fatal(err)
		}
		after, err := e.store.View(t.Context(), box.ID)
		if err != nil {
			t.Fatal(err)
		}
		flags, keywords := applied(op, had.Flags, had.Keywords, by, named)
		got := after.Entries[0]
		if flags != got.Flags || !strings.EqualFold(keywords, got.Keywords) {
			t.Fatalf("op %d %v %q on %v %q: store has %v %q, expected %v %q",
				op, by, named, had.Flags, had.Keywords, got.Flags, got.Keywords, flags, keywords)
		}
	}
}
