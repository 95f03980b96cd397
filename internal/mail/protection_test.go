package mail

import (
	"fmt"
	"testing"
)

func levels() []Level {
	return []Level{Refused, Deferred, Notice, Clear, TLSOnly, Held, Sealed, EndToEnd, 8, 255}
}

// The zero values of everything that Protect decides by, and of what it decides,
// refuse (P3).
func TestP3ZeroValuesRefuse(t *testing.T) {
	t.Parallel()
	if p := (Protection{}); p.MayRest() || p.Level() != Refused {
		t.Errorf("the zero protection: %v", p.Level())
	}
	var content Content
	var answer Answer
	if content != ContentClear || answer != Unknown {
		t.Error("the zero content is not clear, or the zero answer not Unknown")
	}
	if p := Protect(Order{}, content, answer); p.MayRest() || p.Level() != Refused {
		t.Errorf("zero values: %v", p.Level())
	}
	for _, c := range []Content{ContentClear, ContentEncrypted, ContentNotice, 9} {
		for _, a := range []Answer{Unknown, None, Found, 9} {
			if p := Protect(Order{}, c, a); p.MayRest() || p.Level() != Refused {
				t.Errorf("the zero order, content %d, answer %d: %v", c, a, p.Level())
			}
			// An order that does not say how weak a copy may be is none.
			for _, way := range levels() {
				if p := Protect(Order{NoCertificate: way, NotKnown: way}, c, a); p.MayRest() {
					t.Errorf("no floor, way out %v, content %d, answer %d: %v", way, c, a, p.Level())
				}
			}
		}
	}
	for _, a := range []Answer{Unknown, None} {
		if p := Protect(Order{Floor: Clear}, ContentClear, a); p.MayRest() || p.Level() != Refused {
			t.Errorf("no way out, answer %d: %v", a, p.Level())
		}
	}
}

// The whole table: every order, content and answer.
func TestProtect(t *testing.T) {
	t.Parallel()
	n := 0
	for _, floor := range levels() {
		for _, ceiling := range levels() {
			for _, noCertificate := range levels() {
				for _, notKnown := range levels() {
					for _, c := range []Content{ContentClear, ContentEncrypted, ContentNotice} {
						for _, a := range []Answer{Unknown, None, Found, 9} {
							o := Order{Floor: floor, Ceiling: ceiling, NoCertificate: noCertificate, NotKnown: notKnown}
							got, want := Protect(o, c, a).Level(), decided(o, c, a)
							if got != want {
								t.Errorf("%+v, content %d, answer %d: %v, want %v", o, c, a, got, want)
							}
							n++
						}
					}
				}
			}
		}
	}
	if n != 10*10*10*10*3*4 {
		t.Errorf("%d rows", n)
	}
}

// decided says the same in other words.
func decided(o Order, c Content, a Answer) Level {
	allowed := func(l Level) Level {
		waits := l == Held || l == Deferred || l == Notice
		if o.Floor < Clear || o.Floor > EndToEnd || l < o.Floor && !waits {
			return Refused
		}
		return l
	}
	encrypts := o.Ceiling == Refused || o.Ceiling >= Sealed
	switch {
	case c == ContentEncrypted:
		return allowed(EndToEnd)
	case a == Found && encrypts:
		return allowed(Sealed)
	case c == ContentNotice:
		return allowed(Notice)
	case a == None || !encrypts:
		if l := o.NoCertificate; l == Held || l == Deferred || l == Clear || l == TLSOnly {
			return allowed(l)
		}
	case o.NotKnown == Held, o.NotKnown == Deferred:
		return allowed(o.NotKnown)
	}
	return Refused
}

// Not knowing is no answer: whatever an order says, it lets nothing go that is weaker
// than what the sender encrypted.
func TestP3UnknownNeverGoesInClear(t *testing.T) {
	t.Parallel()
	for _, floor := range levels() {
		for _, noCertificate := range levels() {
			for _, notKnown := range levels() {
				for _, a := range []Answer{Unknown, 9} {
					o := Order{Floor: floor, NoCertificate: noCertificate, NotKnown: notKnown}
					if l := Protect(o, ContentClear, a).Level(); l != Refused && l != Deferred && l != Held {
						t.Errorf("%+v, answer %d: %v", o, a, l)
					}
				}
			}
		}
	}
}

func TestMayLeave(t *testing.T) {
	t.Parallel()
	for _, l := range levels() {
		want := l == Clear || l == TLSOnly || l == Held || l == Sealed || l == EndToEnd
		if got := (Protection{l}).MayLeave(); got != want {
			t.Errorf("%v: %v", l, got)
		}
	}
}

func TestMayRest(t *testing.T) {
	t.Parallel()
	for _, l := range levels() {
		want := l == Notice || l == Held || l == Sealed || l == EndToEnd
		if got := (Protection{l}).MayRest(); got != want {
			t.Errorf("%v: %v", l, got)
		}
	}
}

func TestInbound(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		c    Content
		a    Answer
		want Level
	}{
		{ContentClear, Found, Sealed}, {ContentClear, None, Held}, {ContentClear, Unknown, Held},
		{ContentEncrypted, Found, EndToEnd}, {ContentEncrypted, None, EndToEnd}, {ContentEncrypted, Unknown, EndToEnd},
		{ContentNotice, Found, Sealed}, {ContentNotice, None, Notice}, {ContentNotice, Unknown, Notice},
	} {
		if p := Protect(Inbound(), row.c, row.a); p.Level() != row.want || !p.MayRest() {
			t.Errorf("content %d, answer %d: %v, want %v", row.c, row.a, p.Level(), row.want)
		}
	}
}

func TestLevelNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, l := range levels()[:8] {
		if seen[l.String()] || l.String() == "invalid" {
			t.Errorf("level %d is called %q", l, l)
		}
		seen[l.String()] = true
	}
	if s := fmt.Sprint(Level(8), Level(255)); s != "invalid invalid" {
		t.Error(s)
	}
}
