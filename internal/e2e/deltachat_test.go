package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// chat sets up an account in Delta Chat that speaks to the gateway through two taps.
func (d *deltaChat) chat(address, password string, imap, smtp *tap, config ...string) (account int) {
	d.t.Helper()
	d.call(&account, "add_account")
	name, _, _ := strings.Cut(address, "@")
	d.call(nil, "set_config", account, "displayname", name)
	for i := 0; i < len(config); i += 2 {
		d.call(nil, "set_config", account, config[i], config[i+1])
	}
	// Delta Chat never asks the system whom to trust: who has a certificate of their own
	// making says so.
	d.call(nil, "add_or_update_transport", account, map[string]any{
		"addr": address, "password": password, "certificateChecks": "acceptInvalidCertificates", "oauth2": nil,
		"imapServer": "127.0.0.1", "imapPort": imap.port(), "imapSecurity": "ssl", "imapUser": address, "imapFolder": nil,
		"smtpServer": "127.0.0.1", "smtpPort": smtp.port(), "smtpSecurity": "ssl", "smtpUser": address, "smtpPassword": password,
	})
	d.call(nil, "start_io", account)
	// What is there by then, it takes as old.
	d.wait(0, account, "Delta Chat waits for mail", func(e dcEvent) bool { return e.Event.Kind == "ImapInboxIdle" })
	return account
}

// Two people with Delta Chat meet by SecureJoin and write to each other, end to end. What
// each gets is octet for octet what the other submitted, however odd it looks.
func TestDeltaChatPassesThrough(t *testing.T) {
	t.Parallel()
	d := newDeltaChat(t)
	o := newOutpost(t, options{withoutCertificate: true})
	imap, smtp := o.tap(t, 993), o.tap(t, 465)
	alice := d.chat(owner, o.password, imap, smtp)
	bob := d.chat("bob@example.org", o.account(t, "bob@example.org", nil), imap, smtp)
	d.meet(alice, bob)
	wantUntouched(t, smtp, imap, imap)
}

// The same with an account on each of two servers.
func TestDeltaChatPassesThroughTwoServers(t *testing.T) {
	t.Parallel()
	d := newDeltaChat(t)
	f := newFederation(t)
	a, b := f.server("a.test", "127.66.7.1", "alice"), f.server("b.test", "127.66.7.2", "bob")
	var accounts []int
	var imaps []*tap
	smtp := map[*member]*tap{}
	for from, to := range map[*member]*member{a: b, b: a} {
		from.o.config["delivery.allow_private"] = "true"
		from.o.config["delivery.routes"] = "[" + strconv.Quote("*="+to.mx()) + "]"
		from.configure()
		from.restart()
		smtp[from] = from.tap(t, 465)
		imaps = append(imaps, from.tap(t, 993))
		accounts = append(accounts, d.chat(from.owner, from.password, imaps[len(imaps)-1], smtp[from]))
	}
	d.meet(accounts[0], accounts[1])
	wantUntouched(t, smtp[a], imaps...)
	wantUntouched(t, smtp[b], imaps...)
	for _, p := range imaps {
		if !p.heard([]byte("\r\nDKIM-Signature: ")) {
			t.Error("what came from the other server is not signed by it")
		}
	}
}

// meet lets two accounts meet and write to each other.
func (d *deltaChat) meet(alice, bob int) {
	d.t.Helper()
	var invitation string
	d.call(&invitation, "get_chat_securejoin_qr_code", alice, nil)
	var toAlice int
	d.call(&toAlice, "secure_join", bob, invitation)
	for account, kind := range map[int]string{bob: "SecurejoinJoinerProgress", alice: "SecurejoinInviterProgress"} {
		d.wait(0, account, kind, func(e dcEvent) bool { return e.Event.Kind == kind && e.Event.Progress == 1000 })
	}
	address := func(account int) (address string) {
		d.call(&address, "get_config", account, "addr")
		return address
	}
	since := d.now()
	d.call(nil, "misc_send_text_message", bob, toAlice, "hello Alice, Grüße")
	m := d.incoming(since, alice, address(bob))
	if m.Text != "hello Alice, Grüße" || !m.ShowPadlock {
		d.t.Errorf("alice sees %+v", m)
	}
	since = d.now()
	d.call(nil, "misc_send_text_message", alice, m.chat, "hello Bob "+strings.Repeat("and more ", 5000))
	if m := d.incoming(since, bob, address(alice)); !strings.HasPrefix(m.Text, "hello Bob and more") || !m.ShowPadlock {
		d.t.Errorf("bob sees %+v", m)
	}
}

// wantUntouched requires that what Delta Chat submitted is what it got, and that this is
// still as odd as what this test is about.
func wantUntouched(t *testing.T, smtp *tap, imaps ...*tap) {
	t.Helper()
	all := smtp.submitted()
	seen := map[string]int{}
	for _, message := range all {
		header, _, _ := cutHeader(message)
		for what, re := range map[string]string{
			"an empty group": `(?m)^To: "?hidden-recipients"?: ;\r$`, "a local Message-ID": `(?mi)^Message-ID: <.*@localhost>\r$`,
		} {
			if regexp.MustCompile(re).Match(header) {
				seen[what]++
			}
		}
		packet := dearmored(t, armorOf(t, message))
		switch kind, body := packet[0]&0x3f, packetBody(packet); {
		case kind == 3 && body[0] == 6:
			seen["SKESK v6"]++
		case kind == 1 && body[0] == 6 && body[1] == 0:
			seen["PKESK v6, anonymous"]++
		default:
			t.Errorf("another first packet: % x", packet[:min(len(packet), 20)])
		}
		if !slices.ContainsFunc(imaps, func(p *tap) bool { return p.heard(message) }) {
			t.Errorf("nobody got this as it was submitted:\n%s", message)
		}
	}
	for _, what := range []string{"an empty group", "a local Message-ID", "SKESK v6", "PKESK v6, anonymous"} {
		if seen[what] == 0 {
			t.Errorf("of %d messages of Delta Chat none has %s any more: %v", len(all), what, seen)
		}
	}
}

// packetBody is where the body of the first packet begins, RFC 9580 4.2.1.
func packetBody(packet []byte) []byte {
	switch n := packet[1]; {
	case n < 192:
		return packet[2:]
	case n < 224:
		return packet[3:]
	}
	return packet[6:]
}

// Set to show what is not encrypted end to end, Delta Chat shows mail that came in clear
// and was sealed to its key, with its subject. The gateway learnt the key from the first
// mail that Delta Chat sent in clear.
func TestDeltaChatShowsSealedMail(t *testing.T) {
	t.Parallel()
	d := newDeltaChat(t)
	o := newOutpost(t, options{withoutCertificate: true})
	imap, smtp := o.tap(t, 993), o.tap(t, 465)
	alice := d.chat(owner, o.password, imap, smtp, "force_encryption", "0")

	var contact, chat int
	d.call(&contact, "create_contact", alice, "dave@example.net", "Dave")
	d.call(&chat, "create_chat_by_contact_id", alice, contact)
	d.call(nil, "misc_send_text_message", alice, chat, "hello Dave")
	left := o.left(t, "dave@example.net", 0)
	leftMarked(t, left.Content, smtp.submitted()[0])
	if !strings.Contains(left.Content, "\r\nAutocrypt: addr="+owner) {
		t.Errorf("no Autocrypt in\n%s", left.Content)
	}
	eventually(t, "the gateway has alice's certificate", func() bool {
		var list []struct{ Fingerprint string }
		out := o.postern("cert", "list", owner, "--json")
		if err := json.Unmarshal(out, &list); err != nil {
			t.Fatalf("cert list --json: %v\n%s", err, out)
		}
		return len(list) == 1
	})
	since := d.now()
	o.deliver(text("a subject inside", "the text of a sealed mail"))
	m := d.incoming(since, alice, sender)
	if !strings.Contains(m.Text, "the text of a sealed mail") || m.Subject != "a subject inside" || m.ShowPadlock {
		t.Errorf("alice sees %+v", m)
	}
	if imap.heard([]byte("the text of a sealed mail")) || !imap.heard([]byte("\r\nSubject: [...]\r\n")) {
		t.Error("it was not sealed")
	}
}

// By default, Delta Chat shows only mail that is signed by who wrote it and encrypted,
// and so none that a gateway sealed. The README says so.
func TestDeltaChatIgnoresSealedMail(t *testing.T) {
	t.Parallel()
	d := newDeltaChat(t)
	o := newOutpost(t, options{withoutCertificate: true})
	alice := d.chat(owner, o.password, o.tap(t, 993), o.tap(t, 465))
	var card string
	d.call(&card, "make_vcard", alice, []int{1})
	o.postern("cert", "import", owner, writeFile(t, "cert", certificateInCard(t, card)))
	since := d.now()
	o.deliver(text("not shown", "the text of a sealed mail"))
	d.wait(since, alice, "Delta Chat says that it ignores the mail", func(e dcEvent) bool {
		return strings.Contains(e.Event.Msg, "Fetched unencrypted message, ignoring")
	})
	if raw := o.only(t, "INBOX").raw; bytes.Contains(raw, []byte("the text of")) || !bytes.Contains(raw, []byte(armorBegin)) {
		t.Errorf("it is not sealed:\n%s", raw)
	}
	for _, e := range d.after(since) {
		if e.Event.Kind == "IncomingMsg" {
			t.Errorf("Delta Chat shows something: %+v", e)
		}
	}
}

// certificateInCard takes it out of a vCard (RFC 6350 6.8.1).
func certificateInCard(t testing.TB, card string) []byte {
	t.Helper()
	unfolded := regexp.MustCompile(`\r?\n[ \t]`).ReplaceAllString(card, "")
	key := regexp.MustCompile(`KEY:data:application/pgp-keys;base64\\?,([A-Za-z0-9+/=]+)`).FindStringSubmatch(unfolded)
	if key == nil {
		t.Fatalf("no key in\n%s", card)
	}
	certificate, err := base64.StdEncoding.DecodeString(key[1])
	if err != nil {
		t.Fatal(fmt.Errorf("vCard: %w", err))
	}
	return certificate
}
