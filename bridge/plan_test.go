package bridge

import (
	"math/rand/v2"
	"slices"
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
