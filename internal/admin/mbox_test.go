package admin

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// split reads all messages of an mbox and the dates of their From lines.
func split(r io.Reader) (messages []string, dates []time.Time, err error) {
	m := newMboxReader(r)
	for {
		date, err := m.next()
		if err == io.EOF {
			return messages, dates, nil
		}
		if err != nil {
			return messages, dates, err
		}
		b, err := io.ReadAll(m)
		if err != nil {
			return messages, dates, err
		}
		messages, dates = append(messages, string(b)), append(dates, date)
	}
}

const from = "From bob@there.test Mon Mar  2 12:00:00 2026\n"

func TestMbox(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*mboxBuffer)
	for name, row := range map[string]struct {
		in   string
		want []string
	}{
		"0 octets":                   {"", nil},
		"one":                        {from + "A: b\n\ntext\n\n", []string{"A: b\n\ntext\n"}},
		"two":                        {from + "A: b\n\none\n\n" + from + "A: b\n\ntwo\n\n", []string{"A: b\n\none\n", "A: b\n\ntwo\n"}},
		"no empty line at the end":   {from + "A: b\n\ntext\n", []string{"A: b\n\ntext\n"}},
		"no final newline":           {from + "A: b\n\ntext", []string{"A: b\n\ntext"}},
		"empty lines are kept":       {from + "A: b\n\n\n\ntext\n\n\n\n" + from + "A: b\n\n", []string{"A: b\n\n\n\ntext\n\n\n", "A: b\n"}},
		"CRLF":                       {"From x Mon Mar  2 12:00:00 2026\r\nA: b\r\n\r\none\r\n\r\nFrom x Mon Mar  2 12:00:00 2026\r\nA: b\r\n\r\ntwo\r\n\r\n", []string{"A: b\r\n\r\none\r\n", "A: b\r\n\r\ntwo\r\n"}},
		"only a From line":           {from, []string{""}},
		"From line without newline":  {strings.TrimSpace(from), []string{""}},
		"two From lines":             {from + from, []string{from}},
		"two From lines, empty line": {from + "\n" + from, []string{"", ""}},
		"quoted":                     {from + "A: b\n\n>From me\n>>From you\n>>>From them\n> From\n>from\n", []string{"A: b\n\nFrom me\n>From you\n>>From them\n> From\n>from\n"}},
		"quoted in a line":           {from + "A: b\n\nsee >From me\n", []string{"A: b\n\nsee >From me\n"}},
		"From without empty line":    {from + "A: b\n\ntext\n" + from + "more\n", []string{"A: b\n\ntext\n" + from + "more\n"}},
		"From in the text":           {from + "A: b\n\none\n\nFrom here on, it rained.\nAnd then\n", []string{"A: b\n\none\n\nFrom here on, it rained.\nAnd then\n"}},
		"From at the end":            {from + "A: b\n\none\n\nFrom here on", []string{"A: b\n\none\n\nFrom here on"}},
		"undated, fields follow":     {"From -\nA: b\n\none\n\nFrom -\nA: b\n\ntwo\n", []string{"A: b\n\none\n", "A: b\n\ntwo\n"}},
		"Thunderbird":                {"From - Mon Mar 02 12:00:00 2026\nA: b\n\none\n\nFrom - Mon Mar 02 12:00:00 2026\nX\n", []string{"A: b\n\none\n", "X\n"}},
		"long lines":                 {from + "A: b\n\n" + long + "\n" + long + "\n\n" + from + "A: " + long + "\n\nend\n", []string{"A: b\n\n" + long + "\n" + long + "\n", "A: " + long + "\n\nend\n"}},
		"long line looks like From":  {from + "A: b\n\n" + strings.Repeat("y", mboxBuffer) + from + "\n", []string{"A: b\n\n" + strings.Repeat("y", mboxBuffer) + from}},
		"8-bit":                      {from + "A: \xe4\n\n\xff\x00\x80\n", []string{"A: \xe4\n\n\xff\x00\x80\n"}},
		"CR in a line":               {from + "A: b\n\none\rtwo\n", []string{"A: b\n\none\rtwo\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(row.in), iotest.OneByteReader(strings.NewReader(row.in)), iotest.DataErrReader(strings.NewReader(row.in))} {
				if got, _, err := split(r); err != nil || !slices.Equal(got, row.want) {
					t.Errorf("%.300q, %v", got, err)
				}
			}
		})
	}
}

func TestNotAnMbox(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"x", "\n", "Received: x\n\ntext\n", " From x\n", "from x\n", ">From x\n", "\x00\x01", "From", "From " + strings.Repeat("x", 2*mboxBuffer)} {
		if got, _, err := split(strings.NewReader(in)); !errors.Is(err, errNotMbox) || len(got) > 0 {
			t.Errorf("%.50q: %q, %v", in, got, err)
		}
	}
}

// A message that nobody read to its end does not harm the next.
func TestMboxSkips(t *testing.T) {
	t.Parallel()
	m := newMboxReader(strings.NewReader(from + "A: b\n\none\n\n" + from + "A: b\n\ntwo\n"))
	if _, err := m.next(); err != nil {
		t.Fatal(err)
	}
	var two [2]byte
	if _, err := io.ReadFull(m, two[:]); err != nil || string(two[:]) != "A:" {
		t.Fatalf("%q, %v", two, err)
	}
	if _, err := m.next(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(m); err != nil || string(b) != "A: b\n\ntwo\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := m.next(); err != io.EOF {
		t.Errorf("%v", err)
	}
}

func TestMboxReaderFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	for _, good := range []string{"", from, from + "A: b\n\nhalf a li"} {
		got, _, err := split(io.MultiReader(strings.NewReader(good), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || len(got) > 0 {
			t.Errorf("%q: %q, %v", good, got, err)
		}
	}
}

func TestFromDate(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for line, want := range map[string]time.Time{
		"From a@b Mon Mar  2 12:00:00 2026":               noon,
		"From a@b Mon Mar 02 12:00:00 2026":               noon,
		"From - Mon Mar  2 12:00:00 2026":                 noon,
		"From MAILER-DAEMON Mon Mar  2 12:00:00 2026":     noon,
		"From a@b  Mon Mar  2 13:00:00 2026 +0100":        noon,
		"From a@b Mon Mar  2 07:00:00 2026 -0500":         noon,
		"From a@b Mon Mar  2 12:00 2026":                  noon,
		"From a@b Mon Mar  2 12:00:00 UTC 2026":           noon,
		"From \"a b\"@c Mon Mar  2 12:00:00 2026":         noon,
		"From a@b Mon Mar  2 12:00:00 2026 remote from x": noon,
		"From Mon Mar  2 12:00:00 2026":                   noon,
		"From a@b Mon Mar  2 12:00:00 2026\r\n":           noon,
		"From a@b":                                        {},
		"From a@b yesterday":                              {},
		"From a@b Mon Mar 32 12:00:00 6":                  {},
		"From here on, Monday":                            {},
		"From ":                                           {},
	} {
		got, ok := fromDate([]byte(line))
		if ok == want.IsZero() || !got.Equal(want) {
			t.Errorf("%q: %v, %v", line, got, ok)
		}
	}
}

// What was written as mboxrd comes back, whatever the messages are.
func FuzzMbox(f *testing.F) {
	f.Add("A: b\n\ntext\n", "C: d\n\nFrom x\n>From y\n")
	f.Add("", "\n")
	f.Add("\n\n\n", from)
	f.Fuzz(func(t *testing.T, a, b string) {
		want := []string{a, b}
		var box bytes.Buffer
		for i, m := range want {
			m = strings.ReplaceAll(m, "\r", "")
			if m != "" && !strings.HasSuffix(m, "\n") {
				m += "\n"
			}
			want[i] = m
			box.WriteString(from)
			for line := range strings.Lines(m) {
				if strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") {
					line = ">" + line
				}
				box.WriteString(line)
			}
			box.WriteString("\n")
		}
		got, _, err := split(&box)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	})
}

// FuzzMboxReader reads anything: it ends, and invents nothing.
func FuzzMboxReader(f *testing.F) {
	f.Add([]byte(from + "A: b\n\none\n\n" + from + "\n\n"))
	f.Add([]byte("From \n\nFrom \n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, _, err := split(bytes.NewReader(in))
		if err != nil && !errors.Is(err, errNotMbox) {
			t.Fatal(err)
		}
		n := 0
		for _, m := range got {
			n += len(m)
		}
		if n > len(in) {
			t.Fatalf("%d octets of %d", n, len(in))
		}
	})
}

func crlf(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(&crlfReader{src: r})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCRLFReader(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "a": "a", "\n": "\r\n", "\r": "\r\n", "\r\n": "\r\n", "\n\r": "\r\n\r\n", "\r\r\n": "\r\n\r\n", "\r\n\n": "\r\n\r\n",
		"a\nb\r\nc\rd": "a\r\nb\r\nc\r\nd", "a\r": "a\r\n", "\x00\xff\n": "\x00\xff\r\n",
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in)), iotest.DataErrReader(strings.NewReader(in))} {
			if got := crlf(t, r); got != want {
				t.Errorf("%q: %q, want %q", in, got, want)
			}
		}
	}
	broken := errors.New("input/output error")
	b, err := io.ReadAll(&crlfReader{src: io.MultiReader(strings.NewReader("a\r"), iotest.ErrReader(broken))})
	if !errors.Is(err, broken) || strings.TrimSuffix(string(b), "\r") != "a" {
		t.Errorf("%q, %v", b, err)
	}
}

// Every line ends in CRLF, nothing else is changed, and doing it again changes nothing.
func FuzzCRLFReader(f *testing.F) {
	f.Add([]byte("a\r\nb\nc\rd\r\r\n\n"), 3)
	f.Add(bytes.Repeat([]byte("\r"), 40_000), 1)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		out := crlf(t, &steps{in, max(step, 1)})
		lines := strings.NewReplacer("\r\n", "\n", "\r", "\n")
		if strings.ReplaceAll(out, "\r\n", "\n") != lines.Replace(string(in)) {
			t.Fatalf("%q became %q", in, out)
		}
		if strings.ContainsAny(strings.ReplaceAll(out, "\r\n", ""), "\r\n") {
			t.Fatalf("%q became %q: bare line endings", in, out)
		}
		if again := crlf(t, strings.NewReader(out)); again != out {
			t.Fatalf("%q became %q and then %q", in, out, again)
		}
	})
}

// steps gives out at most n octets at a time.
type steps struct {
	b []byte
	n int
}

func (s *steps) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.n)], s.b)
	s.b = s.b[n:]
	return n, nil
}
