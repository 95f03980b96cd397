package bridge

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/internal/blob"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/keydir"
)

// TestP2ClearCopiesWaitLocked: while copies in clear wait, and copies that are not decided
// on, no octet of the message is on the disk in clear, however large it is; and what lies
// there opens with the gateway's keys alone.
func TestP2ClearCopiesWaitLocked(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"tls\"\nwhen = 'recipient == \"tls@there.test\"'\nfloor = \"tls\"\n"),
		func(o *Options) { o.SpoolMemory = 256 << 10 })
	o.source.set("eve@there.test", true)
	big := letter("", "x@y") + strings.Repeat("the canary sings, and a secret subject it has\r\n", 30_000)
	for _, data := range []string{letter("", "x@y"), big} {
		o.mustSubmit(data, "clear@there.test", "tls@there.test", "eve@there.test")
	}
	o.noCanary()
	all := o.queued()
	if len(all) != 6 {
		t.Fatalf("%d copies", len(all))
	}
	other := newFixture(t)
	for _, w := range all {
		if !w.Locked || bytes.Contains(w.Head, []byte("canary")) || !bytes.Contains(w.raw, []byte("the canary sings")) {
			t.Errorf("%v: locked %v", w.Level, w.Locked)
		}
		options := o.Options
		options.Vault = other.Vault
		if r, err := New(options).OpenOutgoing(t.Context(), w.Outgoing); err == nil {
			if b, err := io.ReadAll(r); err == nil || len(b) > 0 {
				t.Errorf("%v: opened with another gateway's keys", w.Level)
			}
			r.Close()
		}
	}
	o.noCanary()
}

// TestP3QueueTakesWhatProtectMade: the store refuses what nobody decided, what was decided
// to stay, and what is weaker than sealed and not locked.
func TestP3QueueTakesWhatProtectMade(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.mustSubmit(letter("", "x@y"), "bob@there.test")
	w := o.one()
	clear := mail.Protect(mail.Order{Floor: mail.Clear, NoCertificate: mail.Clear}, mail.ContentClear, mail.None)
	for name, change := range map[string]func(*store.Outgoing){
		"decided by nobody": func(c *store.Outgoing) { c.Protection = mail.Protection{} },
		"refused":           func(c *store.Outgoing) { c.Protection = mail.Protect(mail.Order{}, mail.ContentClear, mail.None) },
		"not locked":        func(c *store.Outgoing) { c.Protection, c.Locked = clear, false },
		"claims to be more": func(c *store.Outgoing) { c.Protection, c.Level = clear, mail.Sealed },
		"a notice": func(c *store.Outgoing) {
			c.Protection = mail.Protect(mail.Order{Floor: mail.Clear}, mail.ContentNotice, mail.None)
		},
		"held, and unlocked": func(c *store.Outgoing) {
			c.Protection, c.Level, c.Locked = mail.Protect(mail.Inbound(), mail.ContentClear, mail.None), mail.Held, false
		},
	} {
		c := *w.Outgoing
		c.ID, c.Rcpts = o.Store.NewID(), []store.OutgoingRcpt{{ID: o.Store.NewID(), Address: "bob@there.test", Domain: "there.test"}}
		change(&c)
		if _, err := o.Store.Commit(t.Context(), store.Batch{Outgoing: []store.Outgoing{c}}); !errors.Is(err, store.ErrUnprotected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestP3OutboundFailClosed fails each thing that a submission depends on, in turn: nothing
// waits to leave after it, and nothing is on the disk in clear.
func TestP3OutboundFailClosed(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	large := letter("", "x@y") + strings.Repeat("it goes on, and does not lie in a row\r\n", 1000)
	for name, test := range map[string]struct {
		change func(*Options)
		code   int
	}{
		"directory cannot read": {func(o *Options) {
			o.Directory = keydir.New(keydir.Options{Store: brokenCertificates{o.Store}, Hosted: func(string) bool { return false },
				Sources: o.Directory.Sources})
		}, 451},
		"blob cannot begin":      {func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, create: broken} }, -1},
		"blob cannot be written": {func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, write: broken} }, -1},
		"blob not durable":       {func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, commit: broken} }, -1},
		"disk full":              {func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, commit: blob.ErrFull} }, 452},
	} {
		for _, to := range []string{"bob@there.test", "dave@there.test"} {
			o := newOutbound(t, test.change)
			o.correspondent("bob@there.test")
			if test.code == 451 && to == "bob@there.test" {
				o.source.set(to, true)
			} else if test.code == 451 {
				continue
			}
			if _, err := o.submit(large, to); codeOf(err) != test.code {
				t.Errorf("%s, %s: %v", name, to, err)
			}
			if n := len(o.queued()); n != 0 {
				t.Errorf("%s, %s: %d copies", name, to, n)
			}
			o.noCanary()
		}
	}
}

// TestP7EveryRecipientIsExplained: recipients who share a copy have each their own reasons.
func TestP7EveryRecipientIsExplained(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"friends\"\nwhen = 'recipient_domain == \"friend.test\"'\nfloor = \"clear\"\n"))
	want := map[string]string{}
	var to []string
	for _, a := range []string{"a@there.test", "b@there.test", "c@friend.test", "d@friend.test"} {
		o.correspondent(a)
		rule := "opportunistic"
		if strings.HasSuffix(a, "friend.test") {
			rule = "friends"
		}
		to, want[a] = append(to, a), "sealed for "+a+" by rule \""+rule+"\"; certificate "+o.keys[a].Certificate().Fingerprint()+" from wkd, published"
	}
	for _, a := range []string{"1@there.test", "2@there.test", "3@there.test", "4@there.test", "5@friend.test"} {
		to = append(to, a)
		want[a] = "clear for 1@there.test, 2@there.test, 3@there.test, 4@there.test by rule \"opportunistic\"; no source has a certificate"
	}
	want["5@friend.test"] = "clear for 5@friend.test by rule \"friends\"; no source has a certificate"
	o.account("dave@here.test", false)
	to = append(to, "alice@here.test", "dave@here.test")
	want["alice@here.test"] = "sealed for alice@here.test by rule \"local delivery\"; certificate " + o.keys["alice@here.test"].Certificate().Fingerprint() + " from own, own"
	want["dave@here.test"] = "held for dave@here.test by rule \"local delivery\"; no certificate"
	o.mustSubmit(letter("", to...), to...)
	if n := len(o.queued()); n != 2 {
		t.Errorf("%d copies", n)
	}
	rows, err := o.Store.AuditRows(t.Context(), "sub1", 100)
	if err != nil {
		t.Fatal(err)
	}
	for a, text := range want {
		found := 0
		for _, row := range rows {
			if row.Kind == "send" && row.Detail == text {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s: %d rows say %q, of %+v", a, found, text, rows)
		}
	}
}

// TestP6BodiesArePreserved: what was sealed, or locked, opens to the octets that were
// submitted, of any size and content.
func TestP6BodiesArePreserved(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, func(o *Options) { o.SpoolMemory = 256 << 10 })
	o.correspondent("bob@there.test")
	for _, body := range []string{"", "x", "no newline", "--z--\r\nFrom x\r\n.\r\n", strings.Repeat("\xFF\x00 octets \r\n", 200_000)} {
		o.mustSubmit("From: alice@here.test\r\n\r\n"+body, "bob@there.test", "dave@there.test")
		found := 0
		for _, w := range o.queued() {
			if strings.HasSuffix(string(w.raw), "\r\n\r\n"+body) || w.Level == mail.Sealed && strings.HasSuffix(o.decrypt("bob@there.test", w.raw), "\r\n\r\n"+body) {
				found++
			}
		}
		if found < 2 {
			t.Errorf("a body of %d octets was not found in the two copies", len(body))
		}
	}
}

// TestP5P7WhatIsSaidIsDone: for any recipients, the outcome that the sender is told, the
// record, and what lies in the queue and in the mailboxes are the same.
func TestP5P7WhatIsSaidIsDone(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"tls\"\nwhen = 'recipient startsWith \"tls\"'\nfloor = \"tls\"\n"))
	everybody := []string{"clear1@there.test", "Clear2@there.test", "tls1@there.test", "tls2@there.test"}
	for _, a := range []string{"sealed1@there.test", "sealed2@there.test", "sealed3@there.test"} {
		o.correspondent(a)
		everybody = append(everybody, a)
	}
	for _, a := range []string{"held1@there.test", "held2@there.test"} {
		o.source.set(a, true)
		everybody = append(everybody, a)
	}
	o.account("sealed@here.test", true)
	o.account("held@here.test", false)
	everybody = append(everybody, "sealed@here.test", "sealed+x@here.test", "held@here.test")
	rnd := rand.New(rand.NewPCG(7, 8))
	for n := range 60 {
		rnd.Shuffle(len(everybody), func(i, j int) { everybody[i], everybody[j] = everybody[j], everybody[i] })
		to := everybody[:2+rnd.IntN(len(everybody)-1)]
		src := submissionSource()
		src.ID = "tx" + strconv.Itoa(n)
		receipt, err := o.send(src, letter("", to[:rnd.IntN(len(to))]...), to...)
		if err != nil {
			t.Fatalf("%q: %v", to, err)
		}
		copies := map[string]waiting{}
		for _, w := range o.queued() {
			if w.Source != src.ID {
				continue
			}
			for _, r := range w.to {
				copies[r.Address] = w
			}
		}
		rows, err := o.Store.AuditRows(t.Context(), src.ID, 100)
		if err != nil {
			t.Fatal(err)
		}
		for i, outcome := range receipt.Outcomes {
			address := outcome.Recipient.String()
			w, leaves := copies[address]
			said := outcome.Level.String()
			switch {
			case address != to[i] || !strings.HasPrefix(strings.ToLower(address), said):
				t.Errorf("%s is told for %s: %s", said, to[i], address)
			case leaves != strings.HasSuffix(address, "@there.test") || leaves && w.Level != outcome.Level:
				t.Errorf("%s is told to be %s, and in the queue is %v", address, said, w.Level)
			case leaves && strings.Contains(string(w.raw), "Postern-Delivery: insecure") != (outcome.Level == mail.Clear):
				t.Errorf("%s: the mark is wrong:\n%s", address, w.raw)
			case leaves && outcome.Level == mail.Sealed && !strings.HasSuffix(o.decrypt(address, w.raw), "the canary sings\r\n"):
				t.Errorf("%s: not what was sent", address)
			case !leaves && (receipt.Placed[i].UID != 0) != (outcome.Level == mail.Sealed):
				t.Errorf("%s: placed %+v", address, receipt.Placed[i])
			}
			recorded := 0
			for _, row := range rows {
				about, _, _ := strings.Cut(row.Detail, " by rule ")
				level, names, _ := strings.Cut(about, " for ")
				if slices.Contains(strings.Split(names, ", "), address) {
					recorded++
					if level != said {
						t.Errorf("%s is told to be %s, and recorded as %s", address, said, level)
					}
				}
			}
			// Of two addresses of one mailbox, the first one is recorded.
			if recorded != 1 && !strings.HasPrefix(address, "sealed+x@") && !strings.HasPrefix(address, "sealed@") {
				t.Errorf("%s is recorded %d times: %+v", address, recorded, rows)
			}
		}
	}
	o.noCanary()
}
