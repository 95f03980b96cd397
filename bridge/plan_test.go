package bridge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/keydir"
)

// TestPlan checks the properties of plan over random recipients.
func TestPlan(t *testing.T) {
	var certs []*pgp.Certificate
	for range 3 {
		k, err := pgp.GenerateKey("a@here.test", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, k.Certificate())
	}
	orders := []mail.Order{
		{}, mail.Inbound(),
		{Floor: mail.Held, NoCertificate: mail.Refused, NotKnown: mail.Deferred},
		{Floor: mail.Sealed, NoCertificate: mail.Held, NotKnown: mail.Held},
		{Floor: mail.Clear, NoCertificate: mail.Clear, NotKnown: mail.Clear},
		{Floor: mail.EndToEnd, NoCertificate: mail.Held},
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		rs := make([]recipient, rnd.IntN(12))
		for i := range rs {
			rs[i].order = orders[rnd.IntN(len(orders))]
			rs[i].answer = keydir.Answer{Kind: mail.Answer(rnd.IntN(3))}
			if rs[i].answer.Kind == mail.Found {
				rs[i].certificates = certs[:1+rnd.IntN(3)]
			}
		}
		content := mail.Content(rnd.IntN(3))
		levels := levelsOf(t, content, rs)

		// The result does not depend on the order of the recipients.
		perm := rnd.Perm(len(rs))
		shuffled := make([]recipient, len(rs))
		for i, p := range perm {
			shuffled[i] = rs[p]
		}
		for i, level := range levelsOf(t, content, shuffled) {
			if level != levels[perm[i]] {
				t.Fatalf("recipient %d: %v, in another order %v", perm[i], levels[perm[i]], level)
			}
		}
	}
}

// levelsOf plans and returns each recipient's level, checking that every recipient is
// in exactly one copy, that none is in clear, and that none is weaker than its floor.
func levelsOf(t *testing.T, content mail.Content, rs []recipient) []mail.Level {
	t.Helper()
	levels := make([]mail.Level, len(rs))
	seen := make([]bool, len(rs))
	for _, c := range plan(content, rs) {
		var want []*pgp.Certificate
		for _, i := range c.recipients {
			if seen[i] {
				t.Fatalf("recipient %d is in two copies", i)
			}
			seen[i] = true
			levels[i] = c.protection.Level()
			switch level := levels[i]; {
			case (level == mail.Clear || level == mail.TLSOnly) && c.protection.MayRest():
				t.Fatalf("recipient %d would lie here in clear", i)
			case content == mail.ContentClear && c.protection.MayRest() && level != mail.Held && level < rs[i].order.Floor:
				t.Fatalf("recipient %d: %v is under its floor %v", i, level, rs[i].order.Floor)
			case level == mail.Sealed && rs[i].answer.Kind != mail.Found:
				t.Fatalf("recipient %d is sealed to nobody", i)
			case rs[i].order == mail.Order{} && c.protection.MayRest():
				t.Fatalf("recipient %d: the zero order let a copy through", i)
			}
			want = append(want, rs[i].certificates...)
		}
		if c.protection.Level() == mail.Sealed && !slices.Equal(c.certificates, want) {
			t.Fatal("a copy's certificates are not its recipients'")
		}
	}
	if slices.Contains(seen, false) {
		t.Fatal("a recipient is in no copy")
	}
	return levels
}

// elsewhereRecipients makes random recipients, here and elsewhere.
func elsewhereRecipients(rnd *rand.Rand, certs []*pgp.Certificate) []recipient {
	orders := []mail.Order{
		{}, {Floor: mail.Clear, NoCertificate: mail.Clear, NotKnown: mail.Held, HideSubject: true},
		{Floor: mail.Clear, NoCertificate: mail.Clear, NotKnown: mail.Deferred, Prefix: "x"},
		{Floor: mail.Sealed, NoCertificate: mail.Refused, NotKnown: mail.Held},
		{Floor: mail.TLSOnly, NoCertificate: mail.TLSOnly, NotKnown: mail.Held},
		{Floor: mail.Clear, Ceiling: mail.Clear, NoCertificate: mail.Clear},
		{Floor: mail.Clear, NoCertificate: mail.Held, NotKnown: mail.Held},
	}
	rs := make([]recipient, rnd.IntN(8))
	mixed := mail.Mixed(rnd.IntN(4) / 3)
	for i := range rs {
		r := &rs[i]
		r.elsewhere = rnd.IntN(4) > 0
		r.order = mail.Inbound()
		if r.elsewhere {
			r.order = orders[rnd.IntN(len(orders))]
			r.order.Mixed = mixed
			r.visible = rnd.IntN(3) > 0
			r.rcpt.Address = mail.Address{Local: "r" + string(rune('a'+rnd.IntN(26))), Domain: "there.test"}
		}
		r.answer = keydir.Answer{Kind: mail.Answer(rnd.IntN(3))}
		if r.answer.Kind == mail.Found {
			r.certificates = certs[:1+rnd.IntN(len(certs))]
		}
	}
	return rs
}

// TestAffordable: many hidden recipients, or a large message, but not both.
func TestAffordable(t *testing.T) {
	t.Parallel()
	hidden := func(n int) (copies []mailCopy) {
		for i := range n {
			copies = append(copies, mailCopy{form: form{level: mail.Sealed, elsewhere: true, alone: i + 1}})
		}
		return append(copies, mailCopy{form: form{level: mail.Sealed, elsewhere: true}})
	}
	for _, row := range []struct {
		size int64
		n    int
		code int
	}{{1 << 20, 4096, 0}, {1<<20 + 1, 4096, 552}, {50 << 20, 1000, 552}, {50 << 20, 80, 0}, {maxApart + 1, 1, 0}, {maxApart + 1, 0, 0}} {
		if err := affordable(row.size, hidden(row.n)); codeOf(err) != row.code {
			t.Errorf("%d octets to %d: %v", row.size, row.n, err)
		}
	}
}

// TestPlanHeldTogether: those of whom it is not known for different reasons share the copy
// that waits.
func TestPlanHeldTogether(t *testing.T) {
	t.Parallel()
	rs := make([]recipient, 100)
	for i := range rs {
		rs[i] = recipient{elsewhere: true, order: mail.Order{Floor: mail.Clear, NotKnown: mail.Held}, answer: keydir.Answer{Reason: strconv.Itoa(i)}}
	}
	if n := len(plan(mail.ContentClear, rs)); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// TestPlanElsewhere checks the properties of plan for what leaves.
func TestPlanElsewhere(t *testing.T) {
	var certs []*pgp.Certificate
	for range 3 {
		k, err := pgp.GenerateKey("a@there.test", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, k.Certificate())
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	seen := map[mail.Level]int{}
	for range 20000 {
		rs := elsewhereRecipients(rnd, certs)
		content := mail.Content(rnd.IntN(2))
		copies := plan(content, rs)
		levels := checkCopies(t, content, rs, copies)
		for _, l := range levels {
			seen[l]++
		}
		perm := rnd.Perm(len(rs))
		shuffled := make([]recipient, len(rs))
		for i, p := range perm {
			shuffled[i] = rs[p]
		}
		other := plan(content, shuffled)
		if got, want := shares(other, perm), shares(copies, nil); !slices.Equal(got, want) {
			t.Fatalf("shared by %v, in another order by %v", want, got)
		}
		for i, level := range checkCopies(t, content, shuffled, other) {
			if level != levels[perm[i]] {
				t.Fatalf("recipient %d: %v, in another order %v", perm[i], levels[perm[i]], level)
			}
		}
	}
	for _, l := range []mail.Level{mail.Refused, mail.Deferred, mail.Clear, mail.TLSOnly, mail.Held, mail.Sealed, mail.EndToEnd} {
		if seen[l] < 100 {
			t.Errorf("%v was seen %d times", l, seen[l])
		}
	}
}

// shares are the recipients that share each copy. perm says which recipient each one was in
// another order; empty is the order itself.
func shares(copies []mailCopy, perm []int) (all []string) {
	for _, c := range copies {
		who := slices.Clone(c.recipients)
		for i, n := range who {
			if len(perm) > 0 {
				who[i] = perm[n]
			}
		}
		slices.Sort(who)
		all = append(all, fmt.Sprint(who))
	}
	slices.Sort(all)
	return all
}

// checkCopies checks one plan and returns each recipient's level.
func checkCopies(t *testing.T, content mail.Content, rs []recipient, copies []mailCopy) []mail.Level {
	t.Helper()
	levels := make([]mail.Level, len(rs))
	in := make([]int, len(rs))
	for _, c := range copies {
		for _, i := range c.recipients {
			r := &rs[i]
			in[i]++
			levels[i] = c.protection.Level()
			switch {
			case r.elsewhere != c.elsewhere:
				t.Fatal("a copy is for here and for elsewhere")
			case c.level != c.protection.Level():
				t.Fatal("a copy's form is of another level")
			case levels[i] != mail.Held && levels[i] > mail.Deferred && levels[i] < r.order.Floor:
				t.Fatalf("recipient %d: %v is under its floor %v", i, levels[i], r.order.Floor)
			case (levels[i] == mail.Clear || levels[i] == mail.TLSOnly) && r.answer.Kind == mail.Unknown && wantsCertificate(r.order):
				t.Fatalf("recipient %d: in clear while nothing is known", i)
			case r.elsewhere && !r.visible && levels[i] == mail.Sealed && len(c.recipients) > 1:
				t.Fatalf("recipient %d is not visible and shares a ciphertext", i)
			}
		}
	}
	refuse, strong, weak := false, false, false
	for i, n := range in {
		if n != 1 {
			t.Fatalf("recipient %d is in %d copies", i, n)
		}
		refuse = refuse || rs[i].order.Mixed == mail.MixedRefuse
		strong = strong || levels[i] >= mail.Sealed
		weak = weak || levels[i] == mail.Clear || levels[i] == mail.TLSOnly
	}
	if refuse && strong && weak {
		t.Fatal("it is mixed, and should have been refused")
	}
	return levels
}
