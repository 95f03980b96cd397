package e2e

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"postern/internal/testkit"
)

// signature is what mailauth finds of one.
type signature struct{ Domain, Selector, Algorithm, Result, Aligned string }

// Both signatures of what leaves hold for other people's software, by the records that
// check says are to be published; and what leaves passes the strictest DMARC policy.
func TestSignaturesOfWhatLeaves(t *testing.T) {
	t.Parallel()
	nodeProgram(t)
	python := "/usr/bin/python3" // the packages belong to the system's, whatever others there are
	if exec.Command(python, "-c", "import dkim, nacl").Run() != nil {
		testkit.Missing(t, "python3-dkim, python3-nacl")
	}
	o := newOutpost(t, options{})
	carol := newGnuPG(t)
	o.pin(t, "carol@example.net", carol.makeKey("carol@example.net", "future-default", "default", "never"))
	records := o.publishes(t)
	if len(records) != 2 {
		t.Fatalf("check wants %d DKIM records: %v", len(records), records)
	}
	records["_dmarc.example.org"] = "v=DMARC1; p=reject; adkim=s; aspf=s"

	message := []byte("From: Alice <alice@example.org>\r\nTo: carol@example.net, dave@example.net\r\nSubject: =?utf-8?q?f=C3=BCr?= both\r\n" +
		"Date: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <signed@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\nGrüße \r\n\r\n.\r\n..\r\n\r\n\r\n")
	if reply := o.hand(t, message, "carol@example.net", "dave@example.net"); !strings.HasSuffix(reply, ": 1 sealed, 1 insecure (dave@example.net)") {
		t.Errorf("the sender is told %q", reply)
	}
	for name, address := range map[string]string{"sealed": "carol@example.net", "marked insecure": "dave@example.net"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := []byte(o.left(t, address, 0).Content)
			if name == "sealed" {
				leftSealed(t, string(text), carol.open(text)[0], message)
			} else {
				leftMarked(t, string(text), message)
			}
			verify := func(message []byte) (v struct {
				Signatures            []signature
				SPF, DMARC, Alignment string
			}) {
				t.Helper()
				node(t, "mailauth.mjs", map[string]any{
					"message": message, "records": records, "ip": "192.0.2.1", "helo": "mx.example.org", "sender": owner,
				}, &v)
				return v
			}
			v := verify(text)
			var algorithms []string
			for _, s := range v.Signatures {
				if s.Domain != "example.org" || s.Result != "pass" || s.Aligned != "example.org" {
					t.Errorf("mailauth: %+v", s)
				}
				algorithms = append(algorithms, s.Algorithm)
			}
			slices.Sort(algorithms)
			if !slices.Equal(algorithms, []string{"ed25519-sha256", "rsa-sha256"}) || v.DMARC != "pass" || v.SPF == "pass" {
				t.Errorf("mailauth: signed by %q, %+v", algorithms, v)
			}
			// The verifier can also say no.
			if v := verify([]byte(strings.Replace(string(text), "\r\n\r\n", "\r\n\r\nP.S.\r\n", 1))); v.DMARC != "fail" {
				t.Errorf("mailauth: of a changed body %+v", v)
			}
			verdicts, err := json.Marshal(records)
			if err != nil {
				t.Fatal(err)
			}
			if out := string(mustTool(t, text, python, "-c", dkimpyScript, string(verdicts))); out != "True True\n" {
				t.Errorf("dkimpy: %s", out)
			}
		})
	}
}

const dkimpyScript = `
import dkim, json, sys
records = {name + ".": value for name, value in json.loads(sys.argv[1]).items()}
look = lambda name, timeout=5: records.get(name.decode(), "").encode()
message = sys.stdin.buffer.read()
print(*[dkim.DKIM(message).verify(idx=i, dnsfunc=look) for i in range(2)])
`

// publishes returns the DKIM records that check says are missing in the DNS.
func (o *outpost) publishes(t testing.TB) map[string]string {
	t.Helper()
	out, _, _ := command(t, nil, "check", "--json", "--config", o.configFile) // it finds fault with the DNS
	records := make(map[string]string)
	var report []struct{ What, Text string }
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("check --json: %v\n%s", err, out)
	}
	for _, f := range report {
		_, line, found := strings.Cut(f.Text, "publish: ")
		if !strings.HasPrefix(f.What, "DNS DKIM ") || !found {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if txt, ok := rr.(*dns.TXT); ok {
			records[strings.TrimSuffix(txt.Hdr.Name, ".")] = strings.Join(txt.Txt, "")
		}
	}
	return records
}
