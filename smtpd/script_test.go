package smtpd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestScripts runs the conversations of testdata/*.smtp. Their lines:
//
//	# comment
//	option NAME VALUE     before the first other line: maxsize, errors, recipients, submission
//	C: text               the client sends text and CRLF
//	C! "text\r\n"         the client sends a quoted Go string, or string*number, as it is
//	S: text               the server's next line is text; "..." at the end is anything
//	closed                the server ends the connection, saying nothing more
//	stored "text\r\n"     the next message that was accepted has this content
//	stored none           no message, or no further one, was accepted
//
// Consecutive C lines are sent in one segment.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".smtp"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runScript(t, file, string(b))
		})
	}
}

type script struct {
	t     *testing.T
	where string
	o     Options
	// submission is for accounts that log in, here in clear.
	submission bool
	r          *running
	c          *client
	out        strings.Builder // to be sent
	seen       int             // messages compared
}

func runScript(t *testing.T, file, text string) {
	s := &script{t: t}
	for i, line := range strings.Split(text, "\n") {
		s.where = fmt.Sprintf("%s:%d", file, i+1)
		if line = strings.TrimRight(line, "\r"); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "option "); ok {
			s.option(name)
			continue
		}
		if s.r == nil {
			if s.submission {
				s.r = startSubmission(t, s.o, Submission{AllowClearLogin: true})
			} else {
				s.r = start(t, s.o)
			}
			s.c = s.r.dial(t)
		}
		s.step(line)
	}
	s.flush()
}

func (s *script) option(line string) {
	name, value, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(value)
	if err != nil {
		s.t.Fatalf("%s: %v", s.where, err)
	}
	switch name {
	case "maxsize":
		s.o.MaxSize = int64(n)
	case "errors":
		s.o.Limits.Errors = n
	case "recipients":
		s.o.Limits.Recipients = n
	case "submission":
		s.submission = n > 0
	case "messages":
		s.o.Limits.MessagesPerConnection = n
	case "timeout":
		s.o.Limits.CommandTimeout = time.Duration(n) * time.Millisecond
	default:
		s.t.Fatalf("%s: unknown option", s.where)
	}
}

func (s *script) step(line string) {
	if text, ok := strings.CutPrefix(line, "C: "); ok {
		s.out.WriteString(text + "\r\n")
		return
	}
	if text, ok := strings.CutPrefix(line, "C! "); ok {
		s.out.WriteString(s.unquote(text))
		return
	}
	s.flush()
	switch {
	case strings.HasPrefix(line, "S: "):
		s.expect(line[3:])
	case line == "closed":
		s.c.closed()
	case strings.HasPrefix(line, "stored "):
		s.stored(line[7:])
	default:
		s.t.Fatalf("%s: unknown line %q", s.where, line)
	}
	if s.t.Failed() {
		s.t.Fatalf("%s: %s", s.where, line)
	}
}

func (s *script) unquote(text string) string {
	quoted, times, repeated := strings.Cut(text, "*")
	n := 1
	if repeated {
		var err error
		if n, err = strconv.Atoi(times); err != nil {
			s.t.Fatalf("%s: %v", s.where, err)
		}
	}
	u, err := strconv.Unquote(quoted)
	if err != nil {
		s.t.Fatalf("%s: %v", s.where, err)
	}
	return strings.Repeat(u, n)
}

func (s *script) flush() {
	if s.out.Len() > 0 {
		s.c.send(s.out.String())
		s.out.Reset()
	}
}

func (s *script) expect(want string) {
	line, err := s.c.r.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%s: read %q: %v, want %q", s.where, line, err, want)
	}
	got, ok := strings.CutSuffix(line, "\r\n")
	prefix, open := strings.CutSuffix(want, "...")
	if !ok || got != want && !(open && strings.HasPrefix(got, prefix)) {
		s.t.Fatalf("%s: got %q, want %q", s.where, line, want)
	}
}

func (s *script) stored(want string) {
	all := s.r.all()
	if want == "none" {
		if len(all) > s.seen {
			s.t.Fatalf("%s: accepted %q", s.where, all[s.seen].body)
		}
		return
	}
	if len(all) <= s.seen {
		s.t.Fatalf("%s: nothing accepted", s.where)
	}
	if got := all[s.seen].body; got != s.unquote(want) {
		s.t.Fatalf("%s: accepted %q", s.where, got)
	}
	s.seen++
}
