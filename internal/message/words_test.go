package message

import (
	"errors"
	"mime"
	"strings"
	"testing"
	"time"
)

func TestSenderWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct{ wish, cleaned string }{
		"":                                  {"", ""},
		"hello":                             {"", "hello"},
		"[secure] hello":                    {"require", "hello"},
		"[secure]hello":                     {"require", "hello"},
		"hello [encrypt]":                   {"require", "hello"},
		"hello[ENCRYPT] ":                   {"require", "hello"},
		"[ Se cure ]  hello":                {"require", "hello"},
		"[plain] hello":                     {"clear", "hello"},
		"hello [clear]":                     {"clear", "hello"},
		"[secure]":                          {"require", ""},
		"[secure] [secure] hello [encrypt]": {"require", "hello"},
		"[secure] [JIRA-123] hello":         {"require", "[JIRA-123] hello"},
		"\u200b[secure] hello":              {"require", "hello"},
		"Re: [secure] hello":                {"require", "Re: hello"},
		"Re:[secure] hello":                 {"require", "Re: hello"},
		"[secure] Re: hello":                {"require", "Re: hello"},
		"AW[2]: Fwd: [secure]  hello":       {"require", "AW[2]: Fwd: hello"},
		"[clear] Re: hello":                 {"clear", "Re: hello"},
		"Re: hello [secure]":                {"require", "Re: hello"},
		"回复：[secure] 你好":                    {"require", "回复： 你好"},

		// Words of others stay, and so does what stands in the middle.
		"[JIRA-123] hello":      {"", "[JIRA-123] hello"},
		"[list] [secure] hello": {"", "[list] [secure] hello"},
		"hello [secure] world":  {"", "hello [secure] world"},
		"secure hello":          {"", "secure hello"},
		"[security] patch":      {"", "[security] patch"},
		"[main] build":          {"", "[main] build"},
		"Re: [insecure] hello":  {"", "Re: [insecure] hello"},
		"[sealed] hello":        {"", "[sealed] hello"},
		"[] hello []":           {"", "[] hello []"},
		"a [b":                  {"", "a [b"},
	} {
		wish, cleaned, err := SenderWords(in)
		if err != nil || wish != want.wish || cleaned != want.cleaned {
			t.Errorf("%q: %q %q %v, want %+v", in, wish, cleaned, err, want)
		}
	}
}

func TestSenderWordsNearMiss(t *testing.T) {
	t.Parallel()
	for in, meant := range map[string]string{
		"[secrue] hello":         "[secure]",
		"[secur] hello":          "[secure]",
		"[secured] hello":        "[secure]",
		"hello [sceure]":         "[secure]",
		"[secure!] hello":        "[secure]",
		"[s\u0435cure] hello":    "[secure]", // a Cyrillic letter
		"[encrypted] hello":      "[encrypt]",
		"[encyrpt] hello":        "[encrypt]",
		"Re: [ecnrypt] hello":    "[encrypt]",
		"[claer] hello":          "[clear]",
		"[plan] hello":           "[plain]",
		"[plian] hello":          "[plain]",
		"［secure］ hello":         "[secure]",
		"hello 【encrypt】":        "[encrypt]",
		"[secure hello":          "[secure]",
		"Re: secure] hello":      "[secure]",
		"hello encrypt]":         "[encrypt]",
		"hello [clear":           "[clear]",
		"[secure] hello [claer]": "[clear]",
		"[secure] [clear] hello": "at once",
		"[clear] hello [secure]": "at once",
		"Re: [clear] hello":      "correspondent",
		"Re: hello [plain]":      "correspondent",
		"Fwd: [clear]":           "correspondent",
	} {
		wish, cleaned, err := SenderWords(in)
		var bad *WordError
		if !errors.As(err, &bad) || !strings.Contains(bad.Text, meant) || wish != "" || cleaned != "" {
			t.Errorf("%q: %q %q %v", in, wish, cleaned, err)
		} else if strings.ContainsFunc(bad.Text, func(r rune) bool { return r < ' ' || r > '~' }) || len(bad.Text) > 300 {
			t.Errorf("%q: %q is no reply", in, bad.Text)
		}
	}
}

func TestSenderWordsField(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct{ wish, out string }{
		"Subject: hello\r\n":                        {"", "Subject: hello\r\n"},
		"SUBJECT:[secure]hello":                     {"require", "SUBJECT:hello"},
		"Subject:  hello\r\n\tworld [ secure ]\r\n": {"require", "Subject:  hello\r\n\tworld\r\n"},
		"Subject: [sec\r\n ure]\r\n hello\r\n":      {"require", "Subject: hello\r\n"},
		"Subject: [clear] gr\u00fc\u00dfe\r\n":      {"clear", "Subject: gr\u00fc\u00dfe\r\n"},
		// Only the encoded-word that loses something is written anew.
		"Subject: [secure] =?iso-8859-1?q?gr=FC=DFe?= =?utf-8?b?IPCfmIA=?=\r\n":    {"require", "Subject: =?iso-8859-1?q?gr=FC=DFe?= =?utf-8?b?IPCfmIA=?=\r\n"},
		"Subject: =?utf-8?q?[secure]_gr=C3=BC?=\r\n =?iso-8859-1?q?=DFe?=\r\n":     {"require", "Subject: =?utf-8?q?gr=C3=BC?=\r\n =?iso-8859-1?q?=DFe?=\r\n"},
		"Subject: =?utf-8?q?[secure]_x?= =?iso-8859-1?q?=DFe?=\r\n":                {"require", "Subject: =?utf-8?b?eA==?= =?iso-8859-1?q?=DFe?=\r\n"},
		"Subject: =?utf-8?b?W3NlY3VyZV0gaGk=?=\r\n":                                {"require", "Subject: hi\r\n"},
		"Subject: =?iso-2022-jp?b?W3NlY3VyZV0bJEIkIhsoQg==?=\r\n":                  {"require", "Subject: =?utf-8?q?=E3=81=82?=\r\n"},
		"Subject: Re: =?utf-8?q?[sec?= =?utf-8?q?ure]?= =?utf-8?q?=C3=A4?=\r\n":    {"require", "Subject: Re: =?utf-8?q?=C3=A4?=\r\n"},
		"Subject: =?utf-8?q?=C3=A4?= [plain]\r\n":                                  {"clear", "Subject: =?utf-8?q?=C3=A4?=\r\n"},
		"Subject: =?utf-8?q?=C3=A4?=\r\n =?utf-8?q?_[plain]?=\r\n":                 {"clear", "Subject: =?utf-8?q?=C3=A4?=\r\n"},
		"Subject: =?utf-8?q?=C3=A4 [plain]\r\n":                                    {"clear", "Subject: =?utf-8?q?=C3=A4\r\n"},
		"Subject: =?x-unheard-of?q?[secure]_abc?= =?utf-8?q?=C3=A4?=\r\n":          {"require", "Subject: =?utf-8?b?YWJj?= =?utf-8?q?=C3=A4?=\r\n"},
		"Subject: a =?utf-8?q?[secure]?= =?utf-8?q?_b?= =?utf-8?q?=5Bsecure=5D?= ": {"require", "Subject: a =?utf-8?q?[secure]?= =?utf-8?q?_b?="},
	} {
		name, _, _ := strings.Cut(in, ":")
		wish, got, err := SenderWordsField(Field{Name: name, Raw: []byte(in)})
		if err != nil || wish != want.wish || string(got.Raw) != want.out || got.Name != name {
			t.Errorf("%q: %q %v\n got %q\nwant %q", in, wish, err, got.Raw, want.out)
		}
	}
	if _, _, err := SenderWordsField(Field{Name: "Subject", Raw: []byte("Subject: =?utf-8?q?[sec?= =?utf-8?q?rue]?= x\r\n")}); err == nil {
		t.Error("a near miss in encoded-words")
	}
}

// A subject may be as long as a header section: the work grows no faster than it does.
func TestSubjectWorkIsLinear(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"[secure]", "[secure] ", "=?utf-8?q?[secure]?= ", "=?utf-8?q??= ", "=?", "Re: ", "[", "]", "[secure", "=?utf-8?q?=ff?="} {
		raw := []byte("Subject: " + strings.Repeat(part, DefaultHeaderLimit/len(part)) + "\r\n")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _, _ = SenderWordsField(Field{Name: "Subject", Raw: raw})
			StripMarks(Header{Fields: []Field{{Name: "Subject", Raw: raw}}})
		}()
		select {
		case <-ended:
		case <-time.After(time.Minute): // quadratic work takes many of them
			t.Fatalf("%q takes too long", part)
		}
	}
}

// The field and its decoded text give the same wish and the same subject, and nothing
// is left that would wish again.
func FuzzSenderWords(f *testing.F) {
	for _, s := range []string{
		"Re: [secure] hello", "hello [clear]", "[secrue]", "=?utf-8?q?[secure]_=C3=A4?=", "=?utf-8?b?W3NlY3VyZV0=?=  =?utf-8?q?x?=",
		"[secure]\r\n hello", "［clear］", "=?iso-2022-jp?b?W3NlY3VyZV0bJEIkIhsoQg==?= [encrypt]", "[clear] [clear]", "a=?b?q?c?=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		field := Field{Name: "Subject", Raw: []byte("Subject: " + value + "\r\n")}
		wish, cleaned, err := SenderWordsField(field)
		if err != nil {
			return
		}
		if wish == "" {
			if string(cleaned.Raw) != string(field.Raw) {
				t.Fatalf("changed without a wish: %q", cleaned.Raw)
			}
			return
		}
		if !strings.HasPrefix(string(cleaned.Raw), "Subject:") || !strings.HasSuffix(string(cleaned.Raw), "\r\n") {
			t.Fatalf("no field: %q", cleaned.Raw)
		}
		if again, _, err := SenderWordsField(cleaned); err == nil && again == "require" && wish == "clear" {
			t.Fatalf("%q wishes otherwise than %q", cleaned.Raw, field.Raw)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(cleaned.Raw), "\r\n"), "\r\n") {
			if !strings.Contains(string(field.Raw), line) && !strings.Contains(line, "=?utf-8?") && !strings.HasPrefix(line, "Subject:") && mime.QEncoding.Encode("utf-8", line) == line {
				t.Fatalf("%q is not of %q", line, field.Raw)
			}
		}
	})
}
