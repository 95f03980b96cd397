package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/internal/testkit"
)

// Three servers of ours and a Postfix find each other by nothing but a signed DNS, and
// send between all pairs: sealed to whoever has a certificate in a Web Key Directory,
// marked insecure to others, over TLS that DANE or MTA-STS verified where there is one.
func TestFederationOfAllPairs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Of the first the DNS names the key. The second is in a zone that is not signed, and
	// has an MTA-STS policy. The third has neither.
	ant := w.postern("ant.signed.test", "alice", nil)
	w.publishKey("mail."+ant.domain, ant.tls)
	bee := w.postern("bee.unsigned.test", "bob", map[string]string{"https.mta_sts": `"enforce"`})
	cat := w.postern("cat.signed.test", "carol", map[string]string{"https.mta_sts": `"none"`})
	posterns := []*member{ant, bee, cat}
	fox := w.organisation("fox.signed.test")
	w.begin(posterns...)
	p := fox.start()

	ant.publishedWell(t)

	proof := map[string]string{ant.domain: " dane", bee.domain: " mta-sts", cat.domain: "", fox.domain: " dane"}
	body := func(from, to string) string { return fmt.Sprintf("canary from %s to %s", from, to) }
	mail := func(from, to string) string {
		return fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: of %[1]s\r\nMessage-ID: <%[3]s>\r\n\r\n%[4]s\r\n", from, to, strings.ReplaceAll(from+"-"+to, "@", "_")+"@id.test", body(from, to))
	}
	for _, m := range posterns {
		for _, other := range posterns {
			if reply := ""; other != m {
				if reply = m.submit(mail(m.owner, other.owner), other.owner); !strings.Contains(reply, "1 sealed") {
					t.Errorf("%s to %s: %s", m.domain, other.domain, reply)
				}
			}
		}
		if reply := m.submit(mail(m.owner, fox.plain), fox.plain); !strings.Contains(reply, "1 insecure ("+fox.plain+")") {
			t.Errorf("%s to %s: %s", m.domain, fox.plain, reply)
		}
		if reply := m.submit(mail(m.owner, fox.keyed), fox.keyed); !strings.Contains(reply, "1 sealed") {
			t.Errorf("%s to %s: %s", m.domain, fox.keyed, reply)
		}
		hand(t, fox.address, fox.plain, m.owner, mail(fox.plain, m.owner))
	}

	for _, m := range posterns {
		r := m.reader()
		for _, other := range posterns {
			if other == m {
				continue
			}
			got := r.find(body(other.owner, m.owner))
			other.leftSealed(t, got.raw, body(other.owner, m.owner))
			m.cameFrom(t, got.raw, "mail."+other.domain, "dkim=pass header.d="+other.domain, "dmarc=pass")
			other.relayed(fmt.Sprintf("delivered sealed to %s at mail.%[1]s, TLS1.3%s: 250", m.domain, proof[m.domain]))
		}
		got := r.find(body(fox.plain, m.owner))
		if strings.Contains(got.raw, body(fox.plain, m.owner)) || !strings.Contains(got.raw, "multipart/encrypted") {
			t.Errorf("%s keeps in clear\n%s", m.domain, got.raw)
		}
		m.cameFrom(t, got.raw, fox.host, "spf=pass", "dmarc=pass")
	}
	fox.check(t, p, posterns, body)
	for host, want := range map[string]string{"mail." + ant.domain: "Verified", "mail." + bee.domain: "Verified", "mail." + cat.domain: "Trusted"} {
		line := want + " TLS connection established to " + host
		if !soon(patience, func() bool { return strings.Contains(p.Log(), line) }) {
			t.Errorf("Postfix does not log %q", line)
		}
	}

	// What asks for TLS on all hops goes to who offers that, which Postfix does not; and its
	// report that something arrived comes to who asked for it.
	r := ant.reader()
	const hops = "canary from hop to hop"
	ant.send(&smtp.MailOptions{RequireTLS: true}, nil, letterTo(ant.owner, bee.owner, hops), bee.owner, fox.plain)
	bee.reader().find(hops)
	r.report(fox.plain, hops, "Status: 5.7.30", "does not offer REQUIRETLS")
	ant.send(nil, &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess}}, letterTo(ant.owner, fox.plain, "canary from far"), fox.plain)
	if l := r.find("Final-Recipient: rfc822; "+fox.plain, "Action: delivered"); !strings.Contains(l.raw, "multipart/encrypted") {
		t.Errorf("the report of Postfix is kept as\n%s", l.raw)
	}

	needles := canaryNeedles("canary from")
	for _, m := range posterns {
		m.gone("")
		searchTree(t, needles, m.dir, m.tmp).none(t, m.domain)
		m.stop()
		searchTree(t, needles, m.dir, m.tmp).none(t, m.domain+" after its end")
	}
}

// publishedWell requires that check finds in the DNS what quickstart asked for.
func (m *member) publishedWell(t testing.TB) {
	t.Helper()
	n := 0
	for line := range strings.Lines(string(m.postern("check"))) {
		status, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		if what = strings.TrimSpace(what); strings.HasPrefix(what, "DNS ") {
			if n++; status != "ok" {
				t.Errorf("check says: %s", line)
			}
		}
	}
	if n != 10 { // SPF, DMARC, DKIM twice, MTA-STS, TLS reports, address, MX, and two names
		t.Errorf("check looked at %d records", n)
	}
}

// leftSealed looks at a message of this server's owner as it arrived elsewhere.
func (m *member) leftSealed(t testing.TB, raw, canary string) {
	t.Helper()
	if strings.Contains(raw, canary) || !strings.Contains(raw, "Content-Type: multipart/encrypted") {
		t.Errorf("mail of %s arrived in clear:\n%s", m.domain, raw)
	}
	if subject := fieldsOf(raw, "Subject"); len(subject) != 1 || subject[0] != "[...]" {
		t.Errorf("mail of %s: subject %q", m.domain, subject)
	}
	if marks := fieldsOf(raw, "Postern-Delivery"); len(marks) != 0 {
		t.Errorf("sealed mail of %s is marked %q", m.domain, marks)
	}
	m.signed(t, raw)
}

// signed requires DKIM signatures of this server's domain.
func (m *member) signed(t testing.TB, raw string) {
	t.Helper()
	all := fieldsOf(raw, "DKIM-Signature")
	if len(all) == 0 {
		t.Errorf("mail of %s is not signed:\n%s", m.domain, raw)
	}
	for _, s := range all {
		if !strings.Contains(s, "d="+m.domain+";") {
			t.Errorf("mail of %s is signed by %s", m.domain, s)
		}
	}
}

// cameFrom looks at what this server has written down of how a message arrived.
func (m *member) cameFrom(t testing.TB, raw, host string, results ...string) {
	t.Helper()
	trace := fieldsOf(raw, "Received")
	if len(trace) == 0 || !strings.HasPrefix(trace[0], "from "+host+" ") || !strings.Contains(trace[0], " by mail."+m.domain+" with ESMTPS (TLS1.3 ") {
		t.Errorf("%s has received %q from %s", m.domain, trace, host)
	}
	found := strings.Join(fieldsOf(raw, "Authentication-Results"), "\n")
	for _, result := range results {
		if !strings.Contains(found, result) {
			t.Errorf("%s has not found %q of mail from %s: %s", m.domain, result, host, found)
		}
	}
}

// organisation has a Postfix for its mail, one user without a certificate, and one with
// a certificate in its Web Key Directory.
type organisation struct {
	w                 *world
	domain, host      string
	ip, address, main string
	plain, keyed      string
	gnupg             *gnupg
}

// organisation makes one with all that there is of TLS: keys in the DNS, and an MTA-STS
// policy, which its web server serves beside its directory. Its Postfix does not run yet.
func (w *world) organisation(domain string) *organisation {
	w.t.Helper()
	o := &organisation{w: w, domain: domain, ip: w.address(), plain: "frank@" + domain, keyed: "eve@" + domain, gnupg: newGnuPG(w.t)}
	o.address = o.ip + ":25"
	o.host = w.publishMX(domain, o.ip)
	own := newAuthority(w.t)
	w.trust(own)
	cert := own.issue(o.host, "mta-sts."+domain, "openpgpkey."+domain)
	w.publishKey(o.host, cert.Leaf)
	w.publishSTS(domain, o.ip)
	w.publish(domain, "openpgpkey."+domain+". 300 IN A "+o.ip, domain+`. 300 IN TXT "v=spf1 ip4:`+o.ip+` -all"`, "_dmarc."+domain+`. 300 IN TXT "v=DMARC1; p=reject"`)
	certificate := o.gnupg.makeKey(o.keyed, "future-default", "default", "never")
	w.web(o.ip, cert, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == "mta-sts."+domain && r.URL.Path == "/.well-known/mta-sts.txt":
			rw.Header().Set("Content-Type", "text/plain")
			_, _ = rw.Write([]byte(enforce(o.host)))
		case r.Host == "openpgpkey."+domain && strings.Contains(r.URL.Path, "/hu/") && r.FormValue("l") == "eve":
			_, _ = rw.Write(certificate)
		default:
			http.NotFound(rw, r)
		}
	}))
	o.main = "myhostname = " + o.host + "\nsmtpd_tls_security_level = may\nsmtpd_tls_received_header = yes\nsmtpd_tls_chain_files = " + chainFile(w.t, cert) +
		"\nsmtp_bind_address = " + o.ip + "\nsmtp_dns_support_level = dnssec\ndnssec_probe =\nsmtp_tls_security_level = dane\nsmtp_tls_loglevel = 1" +
		"\nsmtp_tls_CAfile = " + w.trusted +
		// As a daemon tells it that looks MTA-STS policies up: Postfix does not itself.
		"\nsmtp_tls_policy_maps = inline:{{bee.unsigned.test = secure match=mail.bee.unsigned.test}}"
	return o
}

func (o *organisation) start() *testkit.Postfix {
	p := testkit.PostfixOptions{Domain: o.domain, Address: o.address, Main: o.main, Resolver: o.w.resolver()}.Start(o.w.t)
	o.w.t.Cleanup(func() {
		if o.w.t.Failed() {
			o.w.t.Logf("Postfix has logged\n%s", p.Log())
		}
	})
	return p
}

// check looks at what its users got from all the servers.
func (o *organisation) check(t testing.TB, p *testkit.Postfix, senders []*member, body func(from, to string) string) {
	t.Helper()
	all := p.Messages(t, 2*len(senders))
	for _, m := range senders {
		seen := 0
		for _, raw := range all {
			switch from, to := fieldsOf(raw, "From"), fieldsOf(raw, "To"); {
			case len(from) != 1 || len(to) != 1:
				t.Errorf("not one From and To:\n%s", raw)
			case from[0] != m.owner:
				continue
			case to[0] == o.keyed:
				m.leftSealed(t, raw, body(m.owner, o.keyed))
				if text := string(o.gnupg.open([]byte(raw))[0]); !strings.Contains(text, body(m.owner, o.keyed)) {
					t.Errorf("%s opens %s", o.keyed, text)
				}
			case to[0] == o.plain:
				wantMarked(t, m, []string{raw}, body(m.owner, o.plain))
			}
			seen++
			if trace := fieldsOf(raw, "Received"); len(trace) < 2 || !strings.Contains(trace[0], "from mail."+m.domain) || !strings.Contains(trace[0], "using TLSv1.3") || !strings.Contains(trace[0], "with ESMTPS") {
				t.Errorf("Postfix received %q", trace)
			}
		}
		if seen != 2 {
			t.Errorf("%d messages of %s", seen, m.domain)
		}
		for _, level := range []string{"sealed", "clear"} {
			m.relayed(fmt.Sprintf("delivered %s to %s at %s, TLS1.3 dane: 250", level, o.domain, o.host))
		}
	}
}
