package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"postern/internal/testkit"
)

// A rule that wants TLS verified lets mail go to whom DANE or MTA-STS proves, and to
// nobody else: not an octet of it leaves for a server with another key than its TLSA
// record names, with a certificate that MTA-STS cannot believe, or with nothing to
// verify it by. The sender hears of each, by mail that only they can read.
func TestRuleThatWantsVerifiedTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ant := w.postern("ant.signed.test", "alice", map[string]string{"policy.file": `"policy.toml"`})
	rule := "[[rule]]\nname = \"verified\"\nwhen = 'recipient_domain endsWith \".test\"'\nfloor = \"tls\"\nceiling = \"tls\"\n"
	if err := os.WriteFile(ant.path("policy.toml"), []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}

	believed, stranger := newAuthority(t), newAuthority(t)
	w.trust(believed)
	hosts := []*recordingHost{
		{domain: "dane.signed.test", names: "TLSA", by: stranger, level: "TLS1.3 dane"},
		{domain: "sts.unsigned.test", names: "MTA-STS", by: believed, level: "TLS1.3 mta-sts"},
		{domain: "both.signed.test", names: "TLSA MTA-STS", by: stranger, level: "TLS1.3 dane"},
		{domain: "otherkey.signed.test", names: "wrong TLSA", by: believed, waits: "its certificate is not the one that its TLSA records name"},
		{domain: "otherkeysts.signed.test", names: "wrong TLSA MTA-STS", by: believed, waits: "its certificate is not the one that its TLSA records name"},
		{domain: "notls.signed.test", names: "TLSA", waits: "does not offer TLS, but has to"},
		{domain: "othername.unsigned.test", names: "MTA-STS", by: believed, certified: "mx.elsewhere.test", waits: "its certificate is for another name"},
		{domain: "stranger.unsigned.test", names: "MTA-STS", by: stranger, waits: "its certificate is from an unknown authority"},
		{domain: "unnamed.unsigned.test", names: "MTA-STS", by: believed, policy: "mx.elsewhere.test", waits: "is not one that the domain's MTA-STS policy names"},
		{domain: "nopolicy.unsigned.test", names: "MTA-STS", by: believed, policy: "-", waits: "the domain's MTA-STS policy cannot be fetched"},
		{domain: "unproven.signed.test", by: believed, fails: "publishes neither DANE nor MTA-STS"},
		{domain: "clear.unsigned.test", fails: "publishes neither DANE nor MTA-STS"},
	}
	policies := http.NewServeMux()
	policies.HandleFunc("/.well-known/mta-sts.txt", func(rw http.ResponseWriter, r *http.Request) {
		for _, h := range hosts {
			if r.Host == "mta-sts."+h.domain && h.policy != "-" {
				rw.Header().Set("Content-Type", "text/plain")
				_, _ = rw.Write([]byte(enforce(h.policy)))
				return
			}
		}
		http.NotFound(rw, r)
	})
	web := w.address()
	var served, to []string
	for _, h := range hosts {
		h.serve(w, web)
		served = append(served, "mta-sts."+h.domain)
		to = append(to, "bob@"+h.domain)
	}
	w.web(web, believed.issue(served...), policies)
	w.begin(ant)

	const canary = "the canary that only verified servers hear"
	reply := ant.submit("From: "+ant.owner+"\r\nTo: undisclosed-recipients:;\r\nSubject: a subject of canaries\r\n\r\n"+canary+"\r\n", to...)
	sent := time.Now()
	if !strings.Contains(reply, fmt.Sprint(len(hosts), " transport only")) {
		t.Errorf("the sender is told %q", reply)
	}

	r := ant.reader()
	for _, h := range hosts {
		switch address := "bob@" + h.domain; {
		case h.level != "":
			ant.gone(address)
			ant.relayed(fmt.Sprintf("delivered tls to %s at %s, %s: 250", h.domain, h.host, h.level))
		case h.waits != "":
			ant.waitsFor(address, h.waits)
		default:
			l := r.report(address, canary, h.fails, "Status: 5.7.10", "cannot receive it as well protected as it has to be")
			if strings.Contains(l.raw, "a subject of canaries") {
				t.Errorf("the report says the subject in clear:\n%s", l.raw)
			}
		}
	}
	// What waits is given up in the end: here it is, at the start, if it is a second old.
	eventually(t, "what waits is a second old", func() bool { return time.Since(sent) > time.Second })
	for key, value := range map[string]string{"retry_first": `"1s"`, "give_up_after": `"1s"`, "warn_after": `"0s"`} {
		ant.o.config["queue."+key] = value
	}
	ant.stop()
	ant.configure()
	ant.start()
	r = ant.reader()
	for _, h := range hosts {
		if h.waits != "" {
			r.report("bob@"+h.domain, canary, h.waits, "Status: 4.4.7")
		}
	}
	ant.gone("")
	for _, h := range hosts {
		h.check(t, canary)
	}
	for _, needle := range []string{canary, "a subject of canaries"} {
		searchTree(t, canaryNeedles(needle), ant.dir, ant.tmp).none(t, "the sender's server")
	}
}

// recordingHost is a domain's mail server that records all that it is told.
type recordingHost struct {
	domain, host string
	names        string     // what the DNS says of it: "TLSA", "wrong TLSA", "MTA-STS"
	by           *authority // of its certificate; nil offers no TLS
	certified    string     // the name that the certificate is for; empty: its own
	policy       string     // the host that the policy names; empty: it; "-": it cannot be had

	level        string // of the TLS over which it gets the mail
	waits, fails string // why it does not

	*testkit.MTA
}

// serve starts the server, and publishes what is to be found of it; its policy is served
// at web.
func (h *recordingHost) serve(w *world, web string) {
	w.t.Helper()
	ip := w.address()
	h.host = w.publishMX(h.domain, ip)
	if h.policy == "" {
		h.policy = h.host
	}
	if h.certified == "" {
		h.certified = h.host
	}
	h.MTA = &testkit.MTA{Name: h.host, Offer: []string{"8BITMIME", "PIPELINING"}}
	named := newAuthority(w.t).issue(h.host) // a key that nobody else has
	if h.by != nil {
		cert := h.by.issue(h.certified)
		h.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		if !strings.Contains(h.names, "wrong") {
			named = cert
		}
	}
	if strings.Contains(h.names, "TLSA") {
		w.publishKey(h.host, named.Leaf)
	}
	if strings.Contains(h.names, "MTA-STS") {
		w.publishSTS(h.domain, web)
	}
	testkit.StartMTA(w.t, ip+":25", h.MTA)
}

// check looks at what it has heard.
func (h *recordingHost) check(t testing.TB, canary string) {
	t.Helper()
	inClear, secret := h.Clear(), h.Secret()
	if strings.Contains(inClear, canary) || strings.Contains(inClear, "MAIL FROM") {
		t.Errorf("%s heard in clear:\n%s", h.host, inClear)
	}
	if heard := strings.Contains(secret, canary); heard != (h.level != "") {
		t.Errorf("%s heard the canary over TLS: %v\n%s", h.host, heard, secret)
	}
	if h.level == "" && strings.Contains(secret, "MAIL FROM") {
		t.Errorf("%s heard:\n%s", h.host, secret)
	}
	if all := h.Messages(); h.level != "" && (len(all) != 1 || !all[0].TLS || len(fieldsOf(all[0].Content, "DKIM-Signature")) == 0) {
		t.Errorf("%s took %+v", h.host, all)
	}
	if h.waits != "" && !strings.Contains(h.waits, "polic") && h.Connections() == 0 {
		t.Errorf("nobody tried %s", h.host)
	}
}
