package cluster

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
)

func TestNoticeRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []notice{
		{kind: noticeBeat},
		{from: [nodeSize]byte{1, 2, 3, 4, 5, 6, 7, 8}, kind: noticeForget, names: []string{"a@example.org"}},
		{kind: noticeWake, names: []string{"", "\x00", strings.Repeat("x", maxName), "é"}},
	} {
		got, err := parseNotice(string(want.encode()))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestNoticeErrors(t *testing.T) {
	t.Parallel()
	good := string(notice{kind: noticeWake, names: []string{"abc"}}.encode())
	for _, s := range []string{
		"", "hello", good[:noticeHead-1], "P\x02" + good[2:], good + "\x05abc", good[:len(good)-1],
		good + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", good + "\x80",
		string(notice{kind: noticeWake, names: []string{strings.Repeat("x", maxName+1)}}.encode()),
		string(notice{kind: noticeWake, names: make([]string, maxNotice)}.encode()),
	} {
		if n, err := parseNotice(s); err == nil {
			t.Errorf("%.40q: %+v", s, n)
		}
	}
}

func FuzzNotice(f *testing.F) {
	f.Add(string(notice{kind: noticeWake, names: []string{"abc", ""}}.encode()))
	f.Add("P\x01nodenodew\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseNotice(s)
		if err != nil {
			return
		}
		again, err := parseNotice(string(n.encode()))
		if err != nil || !reflect.DeepEqual(n, again) {
			t.Errorf("%+v, then %+v, %v", n, again, err)
		}
	})
}

// A frame opens to what it was made of, under its own name and secret only, and not if
// anything of it was changed.
func TestFrame(t *testing.T) {
	t.Parallel()
	n := names{"p", []byte("secret")}
	err := quick.Check(func(key, era string, value []byte) bool {
		name := n.value(era, key)
		frame := n.seal(name, value)
		got, ok := n.open(name, frame)
		return ok && bytes.Equal(got, value)
	}, nil)
	if err != nil {
		t.Error(err)
	}
	name, value := n.value("era", "k"), []byte("some value")
	frame := n.seal(name, value)
	for i := range frame {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(frame)
			changed[i] ^= bit
			if _, ok := n.open(name, changed); ok {
				t.Errorf("octet %d can be changed", i)
			}
		}
	}
	for what, ok := range map[string]bool{
		"cut":            second(n.open(name, frame[:len(frame)-1])),
		"longer":         second(n.open(name, append(bytes.Clone(frame), 0))),
		"empty":          second(n.open(name, nil)),
		"head alone":     second(n.open(name, frame[:frameSize])),
		"held":           second(n.open(name, []byte(heldMark))),
		"another key":    second(n.open(n.value("era", "l"), frame)),
		"another era":    second(n.open(n.value("eras", "k"), frame)),
		"another secret": second(names{"p", []byte("Secret")}.open(name, frame)),
		"no secret":      second(names{"p", nil}.open(name, frame)),
		"too large":      second(n.open(name, n.seal(name, make([]byte, MaxValue+1)))),
	} {
		if ok {
			t.Errorf("%s: opened", what)
		}
	}
}

func second(_ []byte, ok bool) bool { return ok }

// Names tell nothing of their keys, and no two are the same.
func TestNames(t *testing.T) {
	t.Parallel()
	n := names{"prefix", []byte("secret")}
	seen := make(map[string]string)
	for _, key := range []string{"", "a", "alice@example.org", "a\x00b", strings.Repeat("x", 5000)} {
		for kind, name := range map[string]string{
			"value": n.value("", key), "value era": n.value("era", key), "lease": n.lease(key), "rate": n.rate(key),
			"value elsewhere": names{"prefix", nil}.value("", key),
		} {
			id := fmt.Sprintf("%s of %.20q", kind, key)
			if other, ok := seen[name]; ok {
				t.Errorf("%s and %s are both %s", id, other, name)
			}
			seen[name] = id
			if strings.Contains(name, "alice") || !strings.HasPrefix(name, "prefix:") || len(name) > 40 {
				t.Errorf("%s is %s", id, name)
			}
		}
	}
}
