package imapd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"postern/internal/store"
)

// nested is a message with everything BODYSTRUCTURE can show.
const nested = "From: =?utf-8?q?J=C3=BCrgen?= <j@example.net>, \"Quoted, Name\" <q@example.net>\r\n" +
	"Sender: s@example.net\r\n" +
	"To: undisclosed: ;\r\nCc: A Group: x@example.net, y@example.net;\r\n" +
	"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n\taus K=?utf-8?b?w7ZsbA==?=\r\n" +
	"Date: Tue, 3 Feb 2026 04:05:06 -0800 (PST)\r\n" +
	"Message-ID: <nested@example.net>\r\nIn-Reply-To: <a@example.net> <b@example.net>\r\n" +
	"X-Empty:\r\n" +
	"Content-Type: multipart/mixed; boundary=outer\r\n\r\n" +
	"preamble\r\n" +
	"--outer\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\nzwei\r\n" +
	"--outer\r\nContent-Type: application/octet-stream; name=\"a.bin\"\r\nContent-Transfer-Encoding: base64\r\n" +
	"Content-Disposition: attachment; filename=\"a.bin\"\r\nContent-ID: <id@x>\r\nContent-Language: de, en\r\n\r\nAAECAwQFBgc=\r\n" +
	"--outer\r\nContent-Type: message/rfc822\r\n\r\n" +
	"From: inner@example.net\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n" +
	"--inner\r\n\r\nplain inner\r\n--inner\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n--inner--\r\n" +
	"\r\n--outer--\r\nepilogue\r\n"

func TestFetchSections(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", nested)
	c := e.selected("INBOX")
	header, body, _ := strings.Cut(nested, "\r\n\r\n")
	header += "\r\n\r\n"
	inner := nested[strings.Index(nested, "From: inner"):strings.Index(nested, "\r\n--outer--")]
	innerHeader, innerText, _ := strings.Cut(inner, "\r\n\r\n")
	for section, want := range map[string]string{
		"BODY.PEEK[]":          nested,
		"BODY.PEEK[HEADER]":    header,
		"BODY.PEEK[TEXT]":      body,
		"BODY.PEEK[1]":         "Gr=C3=BC=C3=9Fe\r\nzwei",
		"BODY.PEEK[1.MIME]":    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
		"BODY.PEEK[2]":         "AAECAwQFBgc=",
		"BODY.PEEK[3]":         inner,
		"BODY.PEEK[3.HEADER]":  innerHeader + "\r\n\r\n",
		"BODY.PEEK[3.TEXT]":    innerText,
		"BODY.PEEK[3.1]":       "plain inner",
		"BODY.PEEK[3.2]":       "<b>html</b>",
		"BODY.PEEK[3.2.MIME]":  "Content-Type: text/html\r\n\r\n",
		"BODY.PEEK[4]":         "",
		"BODY.PEEK[1.1]":       "",
		"BODY.PEEK[1.HEADER]":  "",
		"BODY.PEEK[0]":         "",
		"BODY.PEEK[3.1.1.1.1]": "",
		"RFC822.HEADER":        header,
		"RFC822.PEEK":          nested,
		"BODY.PEEK[HEADER.FIELDS (MESSAGE-ID x-empty NONE)]":    "Message-ID: <nested@example.net>\r\nX-Empty:\r\n\r\n",
		"BODY.PEEK[3.HEADER.FIELDS (Subject)]":                  "Subject: inner\r\n\r\n",
		"BODY.PEEK[3.HEADER.FIELDS.NOT (Subject Content-Type)]": "From: inner@example.net\r\n\r\n",
		"BODY.PEEK[]<5.10>":                                    nested[5:15],
		"BODY.PEEK[]<0.1>":                                     nested[:1],
		"BODY.PEEK[HEADER]<3.4>":                               header[3:7],
		"BODY.PEEK[1]<2.100000>":                               "=C3=BC=C3=9Fe\r\nzwei",
		"BODY.PEEK[]<99999.5>":                                 "",
		"BODY.PEEK[]<5.9223372036854775807>":                   nested[5:],
		"BODY.PEEK[]<9223372036854775807.9223372036854775807>": "",
		"BODY.PEEK[TEXT]<9223372036854775807.1>":               "",
		"BINARY.PEEK[1]":                                       "Grüße\r\nzwei",
		"BINARY.PEEK[2]":                                       "\x00\x01\x02\x03\x04\x05\x06\x07",
		"BINARY.PEEK[2]<2.3>":                                  "\x02\x03\x04",
		"BINARY.PEEK[2]<6.9223372036854775807>":                "\x06\x07",
		"BINARY.PEEK[3.1]":                                     "plain inner",
		"BINARY.PEEK[]":                                        nested,
		"BODY.PEEK[HEADER.FIELDS.NOT (From Sender To Cc Subject Date Content-Type)]": "Message-ID: <nested@example.net>\r\nIn-Reply-To: <a@example.net> <b@example.net>\r\nX-Empty:\r\n\r\n",
	} {
		lines := c.ok("FETCH 1 (%s)", section)
		if len(lines) != 1 {
			t.Fatalf("%s: %q", section, lines)
		}
		if got := fmt.Sprintf("{%d}\r\n%s)", len(want), want); !strings.HasSuffix(lines[0], got) {
			t.Errorf("%s: got %q, want %q", section, lines[0], want)
		}
		if strings.Contains(lines[0], "FLAGS") {
			t.Errorf("%s tells flags: %q", section, lines[0])
		}
	}
	lines := c.ok("FETCH 1 (BINARY.SIZE[2] BINARY.SIZE[1] BINARY.SIZE[9])")
	contains(t, lines, "BINARY.SIZE[2] 8 BINARY.SIZE[1] 13 BINARY.SIZE[9] 0)")
	if lines = c.ok("FETCH 1 FLAGS"); lines[0] != "* 1 FETCH (FLAGS ())" {
		t.Errorf("PEEK left %q", lines)
	}
}

func TestFetchEnvelopeOnTheWire(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", nested)
	e.deliver("INBOX", "Subject: raw \xc3\xa4 \xe2\x82\xac\r\nFrom: \"B\xfcro\" <b@example.net>\r\nTo: nobody\r\nDate: gibberish\r\nMessage-ID: <x@y\r\n\r\n")
	e.deliver("INBOX", "\r\nno header at all\r\n")
	c := e.selected("INBOX")
	want := `* 1 FETCH (ENVELOPE ("Tue, 03 Feb 2026 04:05:06 -0800" "=?iso-8859-1?q?Gr=FC=DFe?=	aus K=?utf-8?b?w7ZsbA==?=" ` +
		`(("=?utf-8?q?J=C3=BCrgen?=" NIL "j" "example.net")("Quoted, Name" NIL "q" "example.net")) ` +
		`((NIL NIL "s" "example.net")) (("=?utf-8?q?J=C3=BCrgen?=" NIL "j" "example.net")("Quoted, Name" NIL "q" "example.net")) ` +
		`((NIL NIL "undisclosed" NIL)(NIL NIL NIL NIL)) ((NIL NIL "A Group" NIL)(NIL NIL "x" "example.net")(NIL NIL "y" "example.net")(NIL NIL NIL NIL)) ` +
		`NIL "<a@example.net> <b@example.net>" "<nested@example.net>"))`
	// The engine puts spaces between addresses, which RFC 9051's grammar has not.
	got := strings.ReplaceAll(c.ok("FETCH 1 ENVELOPE")[0], ") (NIL NIL", ")(NIL NIL")
	if normal(got) != normal(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	lines := c.ok("FETCH 2:3 ENVELOPE")
	if !strings.Contains(lines[0], `(NIL "=?utf-8?q?raw_=C3=A4_=E2=82=AC?=" (("=?utf-8?q?B=C3=BCro?=" NIL "b" "example.net"))`) ||
		!strings.Contains(lines[0], `"nobody" "MISSING_DOMAIN"`) || !strings.Contains(lines[0], `NIL "<x@y>"))`) {
		t.Errorf("raw 8-bit: %s", lines[0])
	}
	if !strings.HasSuffix(lines[1], "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL))") {
		t.Errorf("no header: %s", lines[1])
	}
}

func normal(s string) string {
	return strings.NewReplacer(") (", ")(", "\t", " ").Replace(s)
}

func TestFetchBodyStructure(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", nested)
	// The messages that make the engine's own extraction panic or lose the body.
	for _, poison := range []string{
		"Content-Type: multipart/mixed; boundary=x\r\n\r\nno part\r\n",
		"Content-Type: multipart/mixed\r\n\r\n",
		"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n--x--\r\n",
		"From me Mon Nov 23\r\nno colon\r\n leading\r\n\r\nbody\r\n",
		" leading space\r\n\r\nbody\r\n",
		"Content-Type: message/rfc822\r\n\r\n",
		"Content-Type: ;;;\r\n\r\nx",
		"Subject: only a header",
	} {
		e.deliver("INBOX", poison)
	}
	c := e.selected("INBOX")
	lines := c.ok("FETCH 1 BODYSTRUCTURE")
	want := `(("text" "plain" ("charset" "utf-8") NIL NIL "quoted-printable" 21 1 NIL NIL NIL NIL)` +
		`("application" "octet-stream" ("name" "a.bin") "<id@x>" NIL "base64" 12 NIL ("attachment" ("filename" "a.bin")) ("de" "en") NIL)` +
		`("message" "rfc822" NIL NIL NIL "7bit" `
	if !strings.Contains(lines[0], want) || !strings.Contains(lines[0], `"alternative" ("boundary" "inner")`) {
		t.Errorf("got %s", lines[0])
	}
	lines = c.ok("FETCH 1:* (BODY BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[1] BODY.PEEK[HEADER] BODY.PEEK[1.1.MIME])")
	if len(lines) != 9 {
		t.Errorf("%d responses", len(lines))
	}
	contains(t, lines, "From me Mon Nov 23\r\nno colon\r\n leading\r\n\r\nbody\r\n")
}

func TestFetchEntryItems(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	date := time.Date(2026, 2, 3, 23, 59, 58, 0, time.FixedZone("", 2*3600))
	if _, err := e.place("INBOX", []byte(simple("x")), store.Flagged|store.Seen, []string{"$Sealed"}, date); err != nil {
		t.Fatal(err)
	}
	c := e.selected("INBOX")
	before := e.blobs.count()
	got := c.ok("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[0]
	want := fmt.Sprintf(`* 1 FETCH (UID 1 FLAGS (\Seen \Flagged $Sealed) INTERNALDATE " 3-Feb-2026 21:59:58 +0000" RFC822.SIZE %d ENVELOPE`, len(simple("x")))
	if !strings.HasPrefix(got, want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if after := e.blobs.count(); after != before {
		t.Errorf("header and structure opened %d blobs", after-before)
	}
	if got := c.ok("FETCH 1 FAST")[0]; !strings.Contains(got, "RFC822.SIZE") {
		t.Error(got)
	}
	if got := c.ok("UID FETCH 77 FLAGS"); len(got) != 0 {
		t.Error(got)
	}
	c.fails("BAD", "FETCH 2 FLAGS")
	if len(c.ok("FETCH 2:* FLAGS")) != 1 { // "*" is 1
		t.Error("2:* of one message")
	}
}

func TestFetchSetsSeen(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	e.deliver("INBOX", simple("two"))
	other := e.selected("INBOX")
	c := e.selected("INBOX")
	lines := c.ok("FETCH 1 BODY[TEXT]")
	if len(lines) != 1 || !strings.HasPrefix(lines[0], `* 1 FETCH (FLAGS (\Seen) BODY[TEXT] {`) {
		t.Errorf("%q", lines)
	}
	if lines := c.ok("FETCH 1 BODY[TEXT]"); len(lines) != 1 || strings.Contains(lines[0], "FLAGS") {
		t.Errorf("again: %q", lines)
	}
	if lines := other.ok("NOOP"); len(lines) != 1 || lines[0] != `* 1 FETCH (UID 1 FLAGS (\Seen))` {
		t.Errorf("other session: %q", lines)
	}
	if lines := other.ok("NOOP"); len(lines) != 0 {
		t.Errorf("told twice: %q", lines)
	}
	ro := e.login()
	ro.ok("EXAMINE INBOX")
	ro.ok("FETCH 2 BODY[]")
	if e.mailbox("INBOX").Unseen != 1 {
		t.Error("EXAMINE set \\Seen")
	}
}

// A message that another session expunges keeps its number until it may be said.
func TestFetchOfExpunged(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for _, s := range []string{"one", "two", "three"} {
		e.deliver("INBOX", simple(s))
	}
	c, other := e.selected("INBOX"), e.selected("INBOX")
	other.ok(`STORE 2 +FLAGS.SILENT (\Deleted)`)
	other.ok("EXPUNGE")
	lines := c.fails("NO [EXPUNGEISSUED]", "FETCH 1:3 BODY.PEEK[TEXT]")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "* 3 FETCH") {
		t.Errorf("%q", lines)
	}
	if lines := c.ok("FETCH 1:3 (UID)"); len(lines) != 3 {
		t.Errorf("numbers moved: %q", lines)
	}
	if lines := c.ok("NOOP"); len(lines) != 1 || lines[0] != "* 2 EXPUNGE" {
		t.Errorf("%q", lines)
	}
	if lines := c.ok("FETCH 2 (UID BODY.PEEK[TEXT])"); !strings.Contains(lines[0], "body of three") {
		t.Errorf("%q", lines)
	}
}

// A blob that is missing is reported, for that message alone.
func TestFetchOfDamaged(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	e.blobs.mu.Lock()
	e.blobs.broken = true
	e.blobs.mu.Unlock()
	c := e.selected("INBOX")
	c.fails("NO [CORRUPTION]", "FETCH 1 BODY.PEEK[]")
	c.ok("FETCH 1 (ENVELOPE BODY.PEEK[HEADER])")
	if log := e.logs.String(); !strings.Contains(log, "unreadable") || strings.Contains(log, "example.net") {
		t.Errorf("log: %s", log)
	}
}

func TestFetchLarge(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	body := strings.Repeat("0123456789abcdef\r\n", 200_000)
	e.deliver("INBOX", simple("big")+body)
	cl := e.imap(nil)
	if _, err := cl.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	items := &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}
	got, err := cl.Fetch(imap.SeqSetNum(1), items).Collect()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(got[0].FindBodySection(items.BodySection[0])); text != simple("big")+body {
		t.Errorf("%d octets of %d", len(text), len(simple("big")+body))
	}
}

func TestFetchTooManySections(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	c := e.selected("INBOX")
	c.fails("NO [LIMIT]", "FETCH 1 (%s)", strings.TrimSpace(strings.Repeat("BODY.PEEK[] ", maxSections+1)))
}

// What go-imap's own client understands of it all.
func TestClientLibrary(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", nested)
	cl := e.imap(&imapclient.Options{})
	if _, err := cl.Enable(imap.CapIMAP4rev2).Wait(); err != nil {
		t.Fatal(err)
	}
	data, err := cl.Select("INBOX", nil).Wait()
	if err != nil || data.NumMessages != 1 || data.List == nil {
		t.Fatalf("%+v, %v", data, err)
	}
	got, err := cl.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Envelope: true, UID: true, Flags: true, InternalDate: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	env := got[0].Envelope
	if env.Subject != "Grüße\taus Köll" && env.Subject != "Grüße aus Köll" && !strings.HasPrefix(env.Subject, "Grüße") {
		t.Errorf("subject %q", env.Subject)
	}
	if env.From[0].Name != "Jürgen" || len(env.InReplyTo) != 2 || !env.Date.Equal(time.Date(2026, 2, 3, 12, 5, 6, 0, time.UTC)) {
		t.Errorf("%+v", env)
	}
	if len(got[0].BodyStructure.(*imap.BodyStructureMultiPart).Children) != 3 {
		t.Errorf("%+v", got[0].BodyStructure)
	}
}
