package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-smtp"
)

// partnerRules let mail to one domain go sealed or not at all.
const partnerRules = `[[rule]]
name = "partner"
when = 'recipient_domain == "partner.test"'
floor = "sealed"
refuse = "partners get it sealed"

[[rule]]
name = "others"
when = 'true'
floor = "clear"
ceiling = "clear"
`

// A policy file that does not load changes nothing: the old rules hold on, the log, check
// and policy test say in which file and line the mistake is, and the server does not
// start with it.
func TestP3_BrokenPolicyKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	good := o.join(&hop{domain: "good.test"})
	o.join(&hop{domain: "partner.test"})
	file := writeFile(t, "policy.toml", []byte(partnerRules))
	g := o.gateway(options{errorsExpected: true, config: map[string]string{"policy.file": `"` + file + `"`}})
	s := g.submitter(t)
	arrived := 0
	rulesHold := func() {
		t.Helper()
		_, err := s.submit(faultMail("nobody", "partner.test"), "nobody@partner.test")
		if reply := (*smtp.SMTPError)(nil); !errors.As(err, &reply) || reply.Code != 550 || !strings.Contains(reply.Message, "partners get it sealed") {
			t.Errorf("to a partner without a certificate: %v", err)
		}
		if reply, err := s.submit(faultMail("clear", "good.test"), "clear@good.test"); err != nil || !strings.Contains(reply, "insecure") {
			t.Errorf("to others: %v %s", err, reply)
		}
		arrived++
		eventually(t, "mail to others goes", func() bool { return len(good.Messages()) == arrived })
	}
	reload := func(text, says string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		from := len(g.log.String())
		if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the log says "+says, func() bool { return strings.Contains(g.log.String()[from:], says) })
	}
	rulesHold()
	lax := strings.Replace(partnerRules, `floor = "sealed"`, `floor = "clear"`, 1) // what must not come into force
	for _, broken := range []struct {
		name, text string
		line       int
	}{
		{"syntax", lax + "this is no TOML\n", 12},
		{"cut off in the middle", lax[:strings.Index(lax, `"clear"`)+4], 4},
		{"unknown level", strings.Replace(lax, `floor = "clear"`, `floor = "cleer"`, 1), 4},
		{"unknown key", strings.Replace(lax, "refuse =", "refused =", 1), 5},
		{"unknown fact", strings.Replace(lax, "recipient_domain", "rcpt_domain", 1), 3},
		{"not true or false", strings.Replace(lax, "'true'", "'recipient'", 1), 9},
		{"an example that fails", lax + "[[example]]\nname = \"sealed\"\nfacts = { recipient = \"x@partner.test\" }\nexpect = { refused = true }\n", 12},
	} {
		where := fmt.Sprintf("policy.toml:%d:", broken.line)
		reload(broken.text, "nothing was reloaded")
		if log := g.log.tail(); !strings.Contains(log, where) {
			t.Errorf("%s: the log does not say %s\n%s", broken.name, where, log)
		}
		rulesHold()
		for _, args := range [][]string{{"check", "--no-dns"}, {"policy", "test"}} {
			out, errOut, code := command(t, nil, append(args, "--config", g.configFile)...)
			if text := string(out) + string(errOut); code != 1 || !strings.Contains(text, where) && !strings.Contains(text, fmt.Sprintf("line %d:", broken.line)) {
				t.Errorf("%s: %v ends with %d, and does not say %s\n%s", broken.name, args, code, where, text)
			}
		}
	}
	_, errOut, code := command(t, nil, "serve", "--config", g.configFile)
	if code != 1 || !strings.Contains(string(errOut), "policy.toml:12:") {
		t.Errorf("a start with the last of them: %d, %s", code, errOut)
	}
	rulesHold()

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	from := len(g.log.String())
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log says that the file is gone", func() bool { return strings.Contains(g.log.String()[from:], "nothing was reloaded") })
	rulesHold()

	// One that loads comes into force.
	reload(lax, "msg=reloaded")
	if reply, err := s.submit(faultMail("clear", "partner.test"), "clear@partner.test"); err != nil {
		t.Errorf("by the new rules: %v %s", err, reply)
	}
}
