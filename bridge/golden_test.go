package bridge

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGoldenSealedMessage compares the structure of one sealed message, and of what is
// inside it, with testdata. What differs each time (ids, times, digests, ciphertext) is
// replaced by its name; go test -update writes the file.
func TestGoldenSealedMessage(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	f.mustSend("List-Id: <golden.there.test>\r\nX-Mailer: test\r\nContent-Type: text/plain; charset=utf-8\r\n"+plainMail, "alice@here.test")
	raw := f.stored("alice@here.test", "INBOX")[0].raw
	o := f.open("alice@here.test", raw)
	got := []byte("==== stored ====\n")
	got = append(got, raw...)
	got = append(append(got, "==== payload ====\n"...), o.payload...)
	for _, r := range []struct{ pattern, name string }{
		{`(?s)(BEGIN PGP MESSAGE-----\r\n\r\n).*?\r\n=[A-Za-z0-9+/]{4}\r\n`, "${1}(armor)\r\n"},
		{`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\nAuth`, "(date)\r\nAuth"},
		{` t=[-0-9T:Z]+;`, " t=(time);"},
		{`(head|body)=[A-Za-z0-9+/=]{44};`, "$1=(digest);"},
		{`key=[0-9a-f]+;`, "key=(key);"},
		{`(?s)sig=.*?\r\n(\S)`, "sig=(signature)\r\n$1"},
	} {
		got = regexp.MustCompile(r.pattern).ReplaceAll(got, []byte(r.name))
	}
	got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n"))
	name := filepath.Join("testdata", "sealed.golden")
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the structure changed:\n%s", got)
	}
}
