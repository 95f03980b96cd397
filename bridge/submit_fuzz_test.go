package bridge

import (
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
)

// FuzzSubmittedHeader: of whatever header section, what leaves has one From with nobody's
// address but the account's, as another parser reads it, no Bcc, nothing that only a gateway
// may say, and no wish of the sender.
func FuzzSubmittedHeader(f *testing.F) {
	for _, s := range []string{
		"From: alice@here.test\r\n", "From: A <alice+require@here.test>\r\nBcc: x@y\r\n", "From: <alice@here.test> <x@y>\r\n",
		"From: team: alice@here.test;\r\n", "FROM :\"a,b\" (c) <Alice@Here.Test>\r\nbcc\t: x\r\n y\r\n", "From: alice@here.test, \"x\" <alice@here.test>\r\n",
		"From: (x@y) alice@here.test\r\nSubject: [clear] x\r\n", "Postern-Arrival: x\r\n\tFrom: x\r\nFrom: alice@here.test\r\n", "From: =?utf-8?q?x=40y?= <alice@here.test>\r\n",
		"From: alice@here.test\r\nAuthentication-Results: mail.here.test; spf=pass\r\n", "From: \"alice\\@here.test\" <alice@here.test>\r\n junk\r\njunk\r\n",
	} {
		f.Add(s)
	}
	b := &Bridge{Options: Options{Hostname: "mail.here.test"}}
	alice := mail.Address{Local: "alice", Domain: "here.test"}
	f.Fuzz(func(t *testing.T, text string) {
		h, _, err := message.ParseHeader([]byte(text))
		if err != nil {
			return
		}
		tr := &transaction{
			Bridge: b, source: mail.Source{ID: "id", Time: time.Unix(1e9, 0)},
			submission: &submission{account: store.Account{Address: alice}},
		}
		out, err := tr.submitted(h)
		if err != nil {
			return
		}
		octets := append(out.Bytes(), out.End...)
		if again, end, err := message.ParseHeader(octets); err != nil || end != len(octets) || len(again.Fields) != len(out.Fields) {
			t.Fatalf("%q reads as another header section: %v", octets, err)
		}
		if n := len(out.Values("From")); n != 1 {
			t.Fatalf("%d From fields in %q", n, octets)
		}
		for _, field := range out.Fields {
			name := strings.ToLower(field.Name)
			if name == "" || name == "bcc" || name == "resent-bcc" || strings.HasPrefix(name, "postern-") {
				t.Fatalf("%q is left in %q", field.Raw, octets)
			}
		}
		all, err := netmail.ParseAddressList(out.Get("From"))
		if err != nil {
			return
		}
		for _, a := range all {
			if parsed, err := mail.ParseAddress(a.Address); err != nil || parsed.Domain != "here.test" ||
				strings.ToLower(parsed.Local) != "alice" && !strings.HasPrefix(strings.ToLower(parsed.Local), "alice+") {
				t.Fatalf("%q is from %q", out.Get("From"), a.Address)
			}
			if l := strings.ToLower(a.Address); strings.HasPrefix(l, "alice+require@") || strings.HasPrefix(l, "alice+clear@") {
				t.Fatalf("the wish is shown in %q", octets)
			}
		}
	})
}
