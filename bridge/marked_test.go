package bridge

import (
	"strings"
	"testing"

	"postern/internal/mail"
	"postern/internal/telemetry"
)

// TestMarkedInsecure1Header: the copy that is delivered in clear says so, and why.
func TestMarkedInsecure1Header(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ rules, subject, want string }{
		"no certificate": {"", "hello", "insecure; reason=no-certificate"},
		"asked for":      {"", "[clear] hello", "insecure; reason=requested"},
		"policy":         {"[[rule]]\nname = \"c\"\nwhen = \"true\"\nfloor = \"clear\"\nceiling = \"clear\"\n", "hello", "insecure; reason=policy"},
	} {
		o := newOutbound(t, withPolicy(t, test.rules))
		if name != "no certificate" {
			o.correspondent("bob@there.test")
		}
		o.mustSubmit("Postern-Delivery: sealed\r\nFrom: alice@here.test\r\nSubject: "+test.subject+"\r\n\r\nhello\r\n", "bob@there.test")
		w := o.one()
		if got := headerOf(t, w.raw).Values("Postern-Delivery"); len(got) != 1 || got[0] != test.want || w.Level != mail.Clear {
			t.Errorf("%s: %q, %v", name, got, w.Level)
		}
	}
	// What was encrypted is not marked.
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	o.mustSubmit(letter("", "bob@there.test"), "bob@there.test")
	if strings.Contains(string(o.one().raw), "Postern-Delivery") {
		t.Error("a sealed copy is marked insecure")
	}
}

// TestMarkedInsecure2Outcomes: the receipt, from which the reply's text is made, says who
// got what, and why it is not more.
func TestMarkedInsecure2Outcomes(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	receipt := o.mustSubmit(letter("", "bob@there.test"), "dave@there.test", "bob@there.test", "alice@here.test")
	want := []mail.Outcome{
		{Recipient: parse(t, "dave@there.test"), Level: mail.Clear, Reason: "no certificate"},
		{Recipient: parse(t, "bob@there.test"), Level: mail.Sealed},
		{Recipient: parse(t, "alice@here.test"), Level: mail.Sealed},
	}
	for i, w := range want {
		if receipt.Outcomes[i] != w {
			t.Errorf("%+v, want %+v", receipt.Outcomes[i], w)
		}
	}
}

// TestMarkedInsecure3SentCopy: what the client keeps has the keyword of the weakest copy.
func TestMarkedInsecure3SentCopy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		to   []string
		want string
	}{
		"clear":  {[]string{"dave@there.test"}, "$Insecure"},
		"sealed": {[]string{"bob@there.test", "alice@here.test"}, "$Sealed"},
		"both":   {[]string{"bob@there.test", "dave@there.test"}, "$Insecure"},
		"held":   {[]string{"bob@there.test", "eve@there.test"}, ""},
		"none":   {nil, ""},
	} {
		o := newOutbound(t)
		o.correspondent("bob@there.test")
		o.source.set("eve@there.test", true)
		if test.to != nil {
			o.mustSubmit(letter("", "x@y.test"), test.to...)
		}
		if m := o.appendTo("Sent", letter("", "x@y.test")); m.Keywords != test.want {
			t.Errorf("%s: keywords %q", name, m.Keywords)
		}
	}
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	o.mustSubmit(o.encrypted(t, "bob@there.test"), "bob@there.test")
	if m := o.appendTo("Sent", o.encrypted(t, "alice@here.test")); m.Keywords != "$EndToEnd" {
		t.Errorf("end-to-end: keywords %q", m.Keywords)
	}
}

// TestMarkedInsecure4PrefixAndFooter: only where an order says so, and never into what
// somebody signed.
func TestMarkedInsecure4PrefixAndFooter(t *testing.T) {
	t.Parallel()
	rules := withPolicy(t, "[[rule]]\nname = \"marks\"\nwhen = \"true\"\nfloor = \"clear\"\nprefix = \"[not encrypted]\"\nfooter = \"This mail was not encrypted.\"\n")
	o := newOutbound(t, rules)
	o.mustSubmit(letter("", "bob@there.test"), "bob@there.test")
	w := o.one()
	if s := headerOf(t, w.raw).Get("Subject"); s != "[not encrypted] a secret subject" {
		t.Errorf("subject %q", s)
	}
	if !strings.HasSuffix(string(w.raw), "\r\n\r\nthe canary sings\r\n\r\nThis mail was not encrypted.\r\n") {
		t.Errorf("%s", w.raw)
	}
	o.noCanary()

	o = newOutbound(t, rules)
	signed := "--x\r\n\r\nhello\r\n--x\r\nContent-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n--x--\r\n"
	o.mustSubmit("From: alice@here.test\r\nContent-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=x\r\n\r\n"+signed, "bob@there.test")
	if w := o.one(); !strings.HasSuffix(string(w.raw), "\r\n\r\n"+signed) {
		t.Errorf("a signed message was changed:\n%s", w.raw)
	}

	o = newOutbound(t)
	o.mustSubmit(letter("", "bob@there.test"), "bob@there.test")
	if w := o.one(); headerOf(t, w.raw).Get("Subject") != "a secret subject" || !strings.HasSuffix(string(w.raw), "\r\n\r\nthe canary sings\r\n") {
		t.Errorf("off by default:\n%s", w.raw)
	}
}

// TestMarkedInsecure5Counted: recipients are counted by the level of their copy.
func TestMarkedInsecure5Counted(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics()
	o := newOutbound(t, func(o *Options) { o.Metrics = m })
	o.correspondent("bob@there.test")
	o.mustSubmit(letter("", "x@y.test"), "bob@there.test", "dave@there.test", "fred@there.test", "alice@here.test")
	// Nor are those forgotten because of whom a message was not taken.
	o.source.set("eve@there.test", true)
	if _, err := o.submit(letter("", "x@y.test"), "eve@there.test"); codeOf(err) != 451 {
		t.Error(err)
	}
	if _, err := o.submit(strings.Replace(letter("", "x@y.test"), "a secret", "[secure] a secret", 1), "dave@there.test", "bob@there.test"); codeOf(err) != 550 {
		t.Error(err)
	}
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "postern_bridge_outgoing_total" {
			continue
		}
		for _, metric := range f.GetMetric() {
			got[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
		}
	}
	if got["clear"] != 2 || got["sealed"] != 1 || got["end-to-end"] != 0 || got["deferred"] != 1 || got["refused"] != 1 {
		t.Errorf("%v", got)
	}
}
