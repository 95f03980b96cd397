package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/testkit"
)

func TestBreaker(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		calls string // + success, - failure
		open  bool
	}{
		"nothing":             {"", false},
		"two failures":        {"--", false},
		"three failures":      {"---", true},
		"failures far apart":  {strings.Repeat("-++++++++++++", 20), false},
		"every second fails":  {strings.Repeat("-+", 20), true},
		"every third fails":   {strings.Repeat("-++", 20), true},
		"mostly well":         {strings.Repeat("+++++-+++++", 50), false},
		"long well, then not": {strings.Repeat("+", 1000) + "---", true},
	} {
		var b breaker
		opened := 0
		for _, c := range tt.calls {
			if c == '+' {
				b.success()
			} else if b.failure() {
				opened++
			}
		}
		if b.open.Load() != tt.open || opened > 1 || (opened == 1) != tt.open {
			t.Errorf("%s: open %v, told %d times", name, b.open.Load(), opened)
		}
	}
	var b breaker
	if !b.trip() || b.trip() {
		t.Error("tripping tells whether it was closed")
	}
	b.reset()
	if b.open.Load() || b.failure() || !b.failure() {
		t.Error("after a reset, two failures open it again")
	}
}

func TestEra(t *testing.T) {
	t.Parallel()
	var e era
	if e.met("a") || e.current() != "" {
		t.Error("there is no era to end")
	}
	if !e.begin([]string{"b", "a"}) || e.current() != "a b" {
		t.Errorf("%q", e.current())
	}
	if e.met("a") || e.met("b") || e.current() != "a b" {
		t.Error("who belongs to an era does not end it")
	}
	if !e.met("c") || e.current() != "" || e.met("d") {
		t.Error("a stranger ends it, once")
	}
	// Asked before the strangers came.
	if e.begin([]string{"a", "b"}) || e.current() != "" {
		t.Error("an era that is over was begun again")
	}
	if !e.begin([]string{"c"}) || e.current() != "c" {
		t.Error("no new one")
	}
	if !e.begin(nil) || e.current() != "" {
		t.Error("an era of nobody")
	}
	// A server that stops telling.
	e.begin([]string{"a"})
	if !e.met("") || e.current() != "" {
		t.Error("nobody knows who that was")
	}
	for i := range 1000 {
		e.met(fmt.Sprint(i))
	}
	if len(e.strangers) > maxStrangers {
		t.Errorf("%d strangers are kept", len(e.strangers))
	}
}

func TestOutboxTopics(t *testing.T) {
	t.Parallel()
	b := newOutbox()
	if _, _, ok := b.takeTopics(); ok {
		t.Error("something in an empty one")
	}
	for range 3 {
		b.wake("a")
	}
	if topics, all, ok := b.takeTopics(); !ok || all || len(topics) != 1 {
		t.Errorf("%v %v %v", topics, all, ok)
	}
	// All that is in it comes out, in notices that can be read.
	want := 0
	for i := range maxTopics {
		b.wake(fmt.Sprint(strings.Repeat("x", i%1000), i))
	}
	want = len(b.topics)
	got := 0
	for {
		topics, all, ok := b.takeTopics()
		if !ok {
			break
		}
		got += len(topics)
		if n, err := parseNotice(string(notice{kind: noticeWake, names: topics}.encode())); all || err != nil || len(n.names) != len(topics) {
			t.Fatalf("%d topics: %v", len(topics), err)
		}
	}
	if got != want {
		t.Errorf("%d of %d topics came out", got, want)
	}
	// One more than it holds, and all are meant.
	for i := range maxTopics + 1 {
		b.wake(fmt.Sprint(i))
	}
	if topics, all, ok := b.takeTopics(); !ok || !all || len(topics) > 0 || len(b.topics) > 0 {
		t.Errorf("%d %v %v", len(topics), all, ok)
	}
	b.wake(strings.Repeat("x", maxName+1))
	if _, all, _ := b.takeTopics(); !all {
		t.Error("a topic too long to be named does not stand for all")
	}
}

func TestOutboxDebts(t *testing.T) {
	t.Parallel()
	b := newOutbox()
	b.forget("a")
	b.forget("b")
	debts, all := b.debts()
	if len(debts) != 2 || all != 0 || !b.owes("a") || b.owes("c") {
		t.Errorf("%v %v", debts, all)
	}
	b.forget("a") // again, while the first is being paid
	for _, d := range debts {
		b.paid(d)
	}
	if !b.owes("a") || b.owes("b") {
		t.Error("what was asked again is paid, or what was paid is owed")
	}
	for i := range maxOwed + 10 {
		b.forget(fmt.Sprint(i))
	}
	_, all = b.debts()
	if all == 0 || !b.owes("anything") || len(b.owed) > maxOwed {
		t.Errorf("%v, %d", all, len(b.owed))
	}
	for i := range 2 * maxOwed { // again more than it holds, while that is being paid
		b.forget(fmt.Sprint("x", i))
	}
	b.paidAll(all)
	if !b.owes("anything") {
		t.Error("what was asked again is paid")
	}
	_, all = b.debts()
	b.paidAll(all)
	if b.owes("anything") {
		t.Error("what was paid is owed")
	}
}

func TestHoldOffIsBounded(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	h := newHoldOff(clock.Now, HoldOff)
	h.add("old")
	clock.Advance(HoldOff)
	if h.holds("old") {
		t.Error("held for longer than HoldOff")
	}
	for i := range maxHeld {
		h.add(fmt.Sprint(i))
	}
	if !h.holds("0") || h.holds("x") || len(h.until) > maxHeld {
		t.Errorf("%d held", len(h.until))
	}
	h.add("one more")
	if !h.holds("0") || !h.holds("x") || !h.holds("one more") || len(h.until) > maxHeld {
		t.Error("what does not fit is not held")
	}
	clock.Advance(HoldOff)
	if h.holds("0") || h.holds("x") {
		t.Error("held for longer than HoldOff")
	}
}

func TestMemoryValuesAreBounded(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	m := NewMemory(clock.Now)
	m.values.max = 1 << 20
	for i := range 5000 {
		clock.Advance(time.Millisecond)
		m.Set(t.Context(), key(i), make([]byte, i%3000), time.Duration(i%7)*time.Second)
		if m.values.size > m.values.max {
			t.Fatalf("%d octets are kept", m.values.size)
		}
		if _, ok := m.Get(t.Context(), key(i)); !ok && i%7 > 0 {
			// It may be what had to go, but not often.
			m.values.mu.Lock()
			n := len(m.values.byKey)
			m.values.mu.Unlock()
			if n < 50 {
				t.Fatalf("only %d values are kept", n)
			}
		}
	}
	sum := 0
	for k, v := range m.values.byKey {
		sum += entrySize(k, v.data)
	}
	if sum != m.values.size {
		t.Errorf("%d octets are kept, %d counted", sum, m.values.size)
	}
}

func TestMemoryLeasesAreBounded(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	m := NewMemory(clock.Now)
	m.leases.max = 100
	for i := range 1000 {
		if _, ok := m.Lease(t.Context(), key(i), time.Second); !ok {
			t.Fatal("refused")
		}
	}
	if n := len(m.leases.byKey); n != 100 {
		t.Errorf("%d are kept", n)
	}
	clock.Advance(time.Second)
	m.Lease(t.Context(), "x", time.Second)
	if n := len(m.leases.byKey); n != 1 {
		t.Errorf("%d are kept after they expired", n)
	}
}

// What is wrong with options is told, and no password with it.
func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("CANARY"), 0o600); err != nil {
		t.Fatal(err)
	}
	some := []string{"127.0.0.1:1"}
	for name, o := range map[string]Options{
		"driver":            {Driver: "etcd"},
		"no address":        {Driver: DriverRedis},
		"password":          {Driver: DriverRedis, Redis: RedisOptions{Addrs: some, PasswordFile: dir + "/none"}},
		"sentinel password": {Driver: DriverRedis, Redis: RedisOptions{Addrs: some, SentinelPasswordFile: dir}},
		"no CA":             {Driver: DriverRedis, Redis: RedisOptions{Addrs: some, TLS: true, CAFile: dir + "/none"}},
		"CA is none":        {Driver: DriverRedis, Redis: RedisOptions{Addrs: some, TLS: true, CAFile: file}},
	} {
		c, err := Open(t.Context(), o)
		if err == nil || c != nil {
			t.Errorf("%s: opened", name)
			continue
		}
		if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*Memory); !ok || c.Close() != nil {
		t.Errorf("the default is %T", c)
	}
}
