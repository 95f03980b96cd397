package imapd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/store"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	put := func(text string, flags store.Flags, keywords []string, day int) {
		t.Helper()
		if _, err := e.place("INBOX", []byte(text), flags, keywords, time.Date(2026, 3, day, 23, 30, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
	}
	put(simple("alpha"), store.Seen, nil, 1)
	put(nested, store.Flagged, []string{"$Sealed", "Work"}, 2)
	put(simple("gamma")+strings.Repeat("x", 5000), store.Deleted|store.Draft, nil, 3)
	put("From: carol@example.com\r\nX-Custom: Needle in FIELD\r\nReply-To: r@example.com\r\nDate: Wed, 31 Dec 2025 23:30:00 -0500\r\n\r\n", store.Answered, nil, 4)
	c := e.selected("INBOX")
	for command, want := range map[string]string{
		"ALL":                                   "1 2 3 4",
		"SEEN":                                  "1",
		"UNSEEN":                                "2 3 4",
		"ANSWERED":                              "4",
		"FLAGGED UNSEEN":                        "2",
		"DRAFT DELETED":                         "3",
		"UNDELETED UNDRAFT UNFLAGGED":           "1 4",
		"KEYWORD $sealed":                       "2",
		"UNKEYWORD Work":                        "1 3 4",
		"RECENT":                                "",
		"NEW":                                   "",
		"OLD":                                   "1 2 3 4",
		"2:3":                                   "2 3",
		"*":                                     "4",
		"UID 2,4":                               "2 4",
		"NOT 1":                                 "2 3 4",
		"NOT (1:2)":                             "3 4",
		"OR 1 SUBJECT gamma":                    "1 3",
		"OR (SEEN) (FLAGGED)":                   "1 2",
		"NOT OR SUBJECT alpha SUBJECT gamma":    "2 4",
		"SINCE 2-Mar-2026":                      "2 3 4",
		"BEFORE 2-Mar-2026":                     "1",
		"ON 3-Mar-2026":                         "3",
		"SENTON 31-Dec-2025":                    "4",
		"SENTBEFORE 1-Jan-2026":                 "4",
		"SENTSINCE 1-Nov-2026":                  "1 3",
		"NOT SENTSINCE 1-Nov-2026":              "2 4",
		"LARGER 4000":                           "3",
		"SMALLER 150":                           "4",
		"SMALLER 4000 LARGER 10":                "1 2 4",
		"SMALLER 4000 SINCE 2-Mar-2026":         "2 4",
		"SMALLER 1":                             "",
		"SMALLER 0":                             "",
		"NOT SMALLER 4000":                      "3",
		"OR SMALLER 150 SEEN":                   "1 4",
		"(SMALLER 4000 LARGER 300)":             "2",
		"SUBJECT SMALLER 1":                     "",
		"FROM bob":                              "1 3",
		`FROM "BOB@EXAMPLE.NET"`:                "1 3",
		`FROM "Bob <bob@"`:                      "1 3",
		"FROM {7+}\r\nJürgen":                   "2",
		"CHARSET UTF-8 SUBJECT {6+}\r\ngrüß":    "2",
		"TO alice":                              "1 3",
		"CC y@example":                          "2",
		"BCC x":                                 "",
		"SUBJECT ALPH":                          "1",
		`SUBJECT ""`:                            "1 2 3",
		"HEADER X-Custom needle":                "4",
		`HEADER x-custom ""`:                    "4",
		`HEADER X-Empty ""`:                     "2",
		`HEADER Reply-To ""`:                    "4",
		"HEADER Message-Id alpha@":              "1",
		`HEADER In-Reply-To "b@example"`:        "2",
		"TEXT needle":                           "4",
		"TEXT X-CUSTOM":                         "4",
		`TEXT "custom: needle"`:                 "4",
		"TEXT {6+}\r\nGrüß":                     "2",
		"TEXT carol":                            "4",
		"TEXT body":                             "",
		"SUBJECT alpha UNSEEN":                  "",
		"SUBJECT alpha SEEN":                    "1",
		"OR SUBJECT alpha SEEN":                 "1",
		"OR SUBJECT gamma FLAGGED":              "2 3",
		"OR UNSEEN SUBJECT alpha":               "1 2 3 4",
		"SUBJECT {0+}\r\n 2":                    "2",
		"HEADER SMALLER 3 SUBJECT x":            "",
		"SMALLER 4000 SMALLER 150 SUBJECT \"\"": "",
	} {
		lines := c.ok("SEARCH %s", command)
		if got := strings.TrimSpace(strings.TrimPrefix(lines[0], "* SEARCH")); got != want {
			t.Errorf("SEARCH %s: %q, want %q", command, got, want)
		}
	}
	c.fails("NO [CANNOT]", "SEARCH BODY x")
	c.fails("NO [CANNOT]", "SEARCH NOT (SEEN BODY x)")
	c.fails("NO [BADCHARSET]", "SEARCH CHARSET KOI8-R ALL")
	c.fails("NO [LIMIT]", "SEARCH %s", strings.TrimSpace(strings.Repeat("NOT SEEN ", maxKeys)))
	c.fails("BAD", "SEARCH 9")
}

func TestExtendedSearch(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for i := range 6 {
		e.deliver("INBOX", simple(fmt.Sprint("m", i)))
	}
	c := e.selected("INBOX")
	c.ok(`STORE 2 +FLAGS (\Deleted)`)
	c.ok("EXPUNGE") // numbers and UIDs differ from now on
	for command, want := range map[string]string{
		"SEARCH RETURN (MIN MAX COUNT ALL) 2:4": `* ESEARCH (TAG "%s") ALL 2:4 MIN 2 MAX 4 COUNT 3`,
		"UID SEARCH RETURN (MIN MAX) 2:4":       `* ESEARCH (TAG "%s") UID MIN 3 MAX 5`,
		"SEARCH RETURN (COUNT) SEEN":            `* ESEARCH (TAG "%s") COUNT 0`,
		"SEARCH RETURN () UID 3":                `* ESEARCH (TAG "%s") ALL 2`,
	} {
		tag := c.start("%s", command)
		lines, _ := c.until(tag)
		if len(lines) != 1 || lines[0] != fmt.Sprintf(want, tag) {
			t.Errorf("%s: %q", command, lines)
		}
	}
	// SEARCHRES, RFC 5182.
	c.ok("SEARCH RETURN (SAVE) SUBJECT m")
	if n := len(c.ok("FETCH $ (FLAGS)")); n != 5 {
		t.Errorf("$ has %d", n)
	}
	c.ok("SEARCH RETURN (SAVE MIN) 3:5")
	if lines := c.ok("UID FETCH $ (UID)"); len(lines) != 1 || !strings.Contains(lines[0], "UID 4") {
		t.Errorf("$ of MIN: %q", lines)
	}
	if lines := c.ok("SEARCH NOT $"); lines[0] != "* SEARCH 1 2 4 5" {
		t.Errorf("%q", lines)
	}
	c.fails("NO", "SEARCH RETURN (SAVE) BODY x")
	if n := len(c.ok("FETCH $ (FLAGS)")); n != 0 {
		t.Errorf("$ after a failed search has %d", n)
	}
	c.ok("ENABLE IMAP4rev2")
	tag := c.start("UID SEARCH 1:2")
	if lines, _ := c.until(tag); lines[0] != fmt.Sprintf(`* ESEARCH (TAG "%s") UID ALL 1,3`, tag) {
		t.Errorf("rev2: %q", lines)
	}
}

// What the entries alone decide needs no message, and costs no query.
func TestJudgeIsThreeValued(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, want verdict }{{never, always}, {unknown, unknown}, {always, never}} {
		if got := c.a.not(); got != c.want {
			t.Errorf("not %d: %d", c.a, got)
		}
	}
}

func TestParseDate(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Mon, 23 Nov 2026 10:00:00 +0100":       "2026-11-23T10:00:00+01:00",
		"Tue, 3 Feb 2026 04:05:06 -0800 (PST)":  "2026-02-03T04:05:06-08:00",
		"3 Feb 2026 04:05 GMT":                  "2026-02-03T04:05:00Z",
		"Thu,  1 Jan 70 00:00:00 EST":           "1970-01-01T00:00:00-05:00",
		"1 jan 00 00:00:00 Z":                   "2000-01-01T00:00:00Z",
		"Fri, 30 Jun 2017 23:59:60 +0000":       "2017-07-01T00:00:00Z",
		"23 November 2026 10:00:00 +0530":       "2026-11-23T10:00:00+05:30",
		"Mon, 23 Nov 2026 10:00:00(comment)":    "2026-11-23T10:00:00Z",
		"Mon, 23 Nov 126 10:00:00 +0000":        "2026-11-23T10:00:00Z",
		"":                                      "",
		"gibberish":                             "",
		"Mon, 32 Nov 2026 10:00:00 +0000":       "",
		"Mon, 31 Feb 2026 10:00:00 +0000":       "",
		"Mon, 0 Nov 2026 10:00:00 +0000":        "",
		"Mon, 23 Foo 2026 10:00:00 +0000":       "",
		"Mon, 23 Nov 20267 10:00:00 +0000":      "",
		"Mon, 23 Nov 2026 25:00:00 +0000":       "",
		"Mon, 23 Nov 2026 10.00.00 +0000":       "",
		"Mon, 23 anj 2026 10:00:00 +0000":       "",
		"Mon, 23 Nov 2026 10:00:00:00 +0000":    "",
		"Montag, der 23. Nov 2026 10:00 +00:00": "",
	} {
		got, ok := parseDate(in)
		if ok != (want != "") || ok && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v; want %q", in, got.Format(time.RFC3339), ok, want)
		}
	}
}

func TestContainsFold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s, part string
		want    bool
	}{
		{"Hello World", "o w", true}, {"Hello", "hello!", false}, {"", "", true}, {"", "a", false},
		{"ÄÖÜ", "äö", true}, {"aab", "ab", true}, {"Hello", "LL", false}, // part must be in lower case
	} {
		if got := containsFold(c.s, c.part); got != c.want {
			t.Errorf("%q in %q: %v", c.part, c.s, got)
		}
	}
}

func TestRewriteSmaller(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a SEARCH SMALLER 5\r\n":                   "a SEARCH NOT LARGER 4\r\n",
		"a SEARCH (smaller 5 SEEN) OR SMALLER 0 1": "a SEARCH (NOT LARGER 4 SEEN) OR NOT ALL 1",
		"a SEARCH SUBJECT SMALLER 5":               "a SEARCH SUBJECT SMALLER 5",
		"a SEARCH HEADER x SMALLER 5":              "a SEARCH HEADER x SMALLER 5",
		"a SEARCH HEADER SMALLER x SMALLER 5":      "a SEARCH HEADER SMALLER x NOT LARGER 4",
		`a SEARCH SUBJECT "SMALLER 5" SMALLER 7`:   `a SEARCH SUBJECT "SMALLER 5" NOT LARGER 6`,
		`a SEARCH SUBJECT "\" SMALLER 5"`:          `a SEARCH SUBJECT "\" SMALLER 5"`,
		"a SEARCH SMALLER x":                       "a SEARCH SMALLER x",
		"a SEARCH SMALLER":                         "a SEARCH SMALLER",
	} {
		cmd := &command{pieces: []piece{{octets: []byte(in)}}}
		if !rewriteSmaller(cmd) || string(cmd.pieces[0].octets) != want {
			t.Errorf("%q: %q", in, cmd.pieces[0].octets)
		}
	}
	cmd := &command{pieces: []piece{{octets: []byte("a SEARCH SUBJECT {5+}\r\n")}, {octets: []byte("SMALL"), literal: true}, {octets: []byte(" SMALLER 3\r\n")}}}
	if rewriteSmaller(cmd); string(cmd.pieces[2].octets) != " NOT LARGER 2\r\n" {
		t.Errorf("%q", cmd.pieces[2].octets)
	}
	long := &command{pieces: []piece{{octets: []byte(strings.Repeat("SMALLER 5 ", maxCommand/10))}}}
	if rewriteSmaller(long) {
		t.Error("command grew over the limit")
	}
}
