//go:build !race

package imapd

import "testing"

// 200 connections in IDLE over TLS must cost less than 40 MiB. Clients and server share
// this process, so twice that much is allowed here, counted after a collection. The race
// detector multiplies memory, so it is not there with it.
func TestIdleMemory(t *testing.T) {
	e := newEnv(t, func(o *Options) { o.Limits.PerIP, o.Limits.PerAccount = 1000, 1000 })
	e.deliver("INBOX", simple("one"))
	before := residentKiB(t)
	for range 200 {
		c := e.dial(true)
		c.line()
		c.ok("LOGIN %s %s", testLogin, testPassword)
		c.ok("SELECT INBOX")
		c.start("IDLE")
		c.line()
	}
	if used := residentKiB(t) - before; used > 80<<10 {
		t.Errorf("200 idle connections with their clients take %d KiB", used)
	} else {
		t.Logf("200 idle connections with their clients take %d KiB", used)
	}
}
