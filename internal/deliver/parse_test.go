package deliver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func timeIn(hours int) time.Time { return time.Now().Add(time.Duration(hours) * time.Hour) }

func read(s string) (reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(s), maxReplyLine))
}

func TestReply(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"250 ok\r\n":                           "250  [ok]",
		"250\r\n":                              "250  []",
		"250 ok\n":                             "250  [ok]",
		"550-5.1.1 no\r\n550 5.1.1 such\r\n":   "550 5.1.1 [no such]",
		"550 2.1.1 lies\r\n":                   "550 5.0.0 [lies]",
		"451 later\r\n":                        "451 4.0.0 [later]",
		"550 5.1.1234 x\r\n":                   "550 5.0.0 [5.1.1234 x]",
		"550 5.7.1\r\n":                        "550 5.7.1 []",
		"250-a\r\n250-b\r\n250 c\r\n":          "250  [a b c]",
		"25 ok\r\n":                            "error",
		"2500 ok\r\n":                          "error",
		"650 ok\r\n":                           "error",
		"150 ok\r\n":                           "error",
		"250-ok\r\n251 ok\r\n":                 "error",
		"\r\n":                                 "error",
		"+OK ready\r\n":                        "error",
		"250" + strings.Repeat("x", 3000):      "error",
		strings.Repeat("250-x\r\n", 200):       "error",
		"250 " + strings.Repeat("x", 2000):     "error",
		"250 ok":                               "error",
		"":                                     "error",
		"250 \x1b[2J\x00tab\tä\r\n":            "250  [\x1b[2J\x00tab\tä]",
		strings.Repeat("250-"+long+"\r\n", 40): "error",
	} {
		r, err := read(in)
		got := "error"
		if err == nil {
			got = fmt.Sprintf("%d %s %v", r.code, r.enhanced, r.lines)
		}
		if got != want {
			t.Errorf("%.40q: %q, want %q", in, got, want)
		}
	}
	if got := clean("a\x1b[2J\x00\tb\r\nä" + strings.Repeat("x", 1000)); len(got) != maxText || !strings.HasPrefix(got, "a?[2J? b  ??xx") {
		t.Errorf("%q", got)
	}
}

var long = strings.Repeat("y", 1000)

func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "550-5.1.1 no\r\n550 5.1.1 such\r\n", "250-a\n250 b\n", "354\r\n", "999 x\r\n", "250-\r\n250 SIZE 1\r\n", "250-LIMITS RCPTMAX=3\r\n250 \r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		r, err := readReply(bufio.NewReaderSize(in, maxReplyLine))
		if err != nil {
			if !errors.Is(err, errReply) && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.lines) > maxReplyLines || r.code >= 400 && !isEnhanced(r.enhanced) {
			t.Fatalf("%+v", r)
		}
		result := r.result()
		if len(result.Text) > maxText+40 || strings.ContainsFunc(result.Text, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Fatalf("%q", result.Text)
		}
		if result.Status == Delivered || (result.Status == Failed) != (r.code >= 500) {
			t.Fatalf("%+v", result)
		}
		if e := parseExtensions(r.lines); e.rcptMax < 1 || e.rcptMax > maxRcpts || e.size < -1 {
			t.Fatalf("%+v", e)
		}
	})
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		enforce: "2 [mx.example.test] 24h0m0s",
		"version: STSv1\nmode: testing\nmx: *.Example.com\nmx: a.example.com\nmax_age: 60\n": "1 [*.example.com a.example.com] 1m0s",
		"version: STSv1\nmode: none\nmax_age: 60":                                            "0 [] 1m0s",
		"version:STSv1\r\n\r\nunknown: x\nmode:enforce \nmx:a.b\nmax_age:0\n":                "2 [a.b] 0s",
		"version: STSv1\nmode: enforce\nmode: none\nmx: a.b\nmax_age: 9\nmax_age: 1\n":       "2 [a.b] 9s",
		"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 99999999999\n":                     "2 [a.b] 8766h0m0s",
		"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 18446744073709551616\n":            "2 [a.b] 8766h0m0s",
		"version: STSv1\nmode: enforce\nmx: *\nmx: a.*.b\nmx: *.*.b\nmx: ..\nmax_age: 9\n":   "2 [   ] 9s",
		"version: STSv2\nmode: none\nmax_age: 60":                                            "error",
		"mode: none\nmax_age: 60":                              "error",
		"version: STSv1\nmode: enforce\nmax_age: 60":           "error",
		"version: STSv1\nmode: enforced\nmx: a.b\nmax_age: 60": "error",
		"version: STSv1\nmode: none\n":                         "error",
		"version: STSv1\nmode: none\nmax_age: -1\n":            "error",
		"version: STSv1\nmode: none\nmax_age: 1h\n":            "error",
		"<html>\n":                           "error",
		"":                                   "error",
		enforce + strings.Repeat("x", 70000): "error",
		"version: STSv1\nmode: none\nmax_age: 1\n" + strings.Repeat("mx: a.b\n", 1001): "error",
	} {
		p, err := parsePolicy([]byte(in))
		got := "error"
		if err == nil {
			got = fmt.Sprint(p.mode, " ", p.patterns, " ", p.maxAge)
		}
		if got != want {
			t.Errorf("%.80q: %q, want %q", in, got, want)
		}
	}
	p := &policy{}
	for _, s := range []string{"*.example.com", "mx.example.net", "*"} {
		p.addPattern(s)
	}
	for host, want := range map[string]bool{
		"a.example.com": true, "example.com": false, "a.b.example.com": false, "mx.example.net": true, "x.example.net": false,
		"a.mx.example.net": false, "": false, "x": false, ".example.com": true,
	} {
		if p.names(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestPolicyID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		records []string
		want    string
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{[]string{"v=STSv1;id=1"}, "1"},
		{[]string{"v=spf1 -all", "v=STSv1; x=y; id=a;"}, "a"},
		{[]string{"v=STSv1; id=a;", "v=STSv1; id=b;"}, "none"},
		{[]string{"v=STSv1; id=;"}, "none"},
		{[]string{"v=STSv1; id=a-b;"}, "none"},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 33)}, "none"},
		{[]string{"v=STSv1"}, "none"},
		{[]string{"v=STSv12; id=a"}, "none"},
		{nil, "none"},
	} {
		id, ok := policyID(c.records)
		if !ok {
			id = "none"
		}
		want(t, fmt.Sprint(c.records), id, c.want)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(enforce), "mx.example.test")
	f.Add([]byte("version: STSv1\nmode: testing\nmx: *.b\nmx: *\nmax_age: 1\n"), "a.b")
	f.Fuzz(func(t *testing.T, text []byte, host string) {
		p, err := parsePolicy(text)
		if err != nil {
			return
		}
		if p.mode != modeNone && len(p.patterns) == 0 || p.maxAge < 0 || p.maxAge > maxPolicyAge*time.Second {
			t.Fatalf("%+v", p)
		}
		if p.names(host) && !bytes.Contains(bytes.ToLower(text), []byte(host[strings.IndexByte(host, '.')+1:])) {
			t.Fatalf("%q is not in the policy %q", host, text)
		}
		policyID([]string{string(text)})
	})
}

// TestChecker: content is refused if and only if it has what must not leave, however it
// is cut into blocks.
func TestChecker(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	alphabet := []string{"\r\n", "\r\n", "\r\n", "x", "yy", ".", "\r", "\n", "\x00"}
	bad, good := 0, 0
	for range 200_000 {
		var b []byte
		n := len(alphabet)
		if rng.IntN(2) == 0 {
			n -= 3
		}
		for range rng.IntN(8) {
			b = append(b, alphabet[rng.IntN(n)]...)
		}
		rest := strings.ReplaceAll(string(b), "\r\n", "")
		wrong := strings.ContainsAny(rest, "\r\n\x00")
		var k checker
		var err error
		for left := b; len(left) > 0 && err == nil; {
			cut := 1 + rng.IntN(len(left))
			err = k.check(left[:cut])
			left = left[cut:]
		}
		if err == nil && k.last == '\r' {
			err = errContent
		}
		if (err != nil) != wrong {
			t.Fatalf("%q: %v", b, err)
		}
		if wrong {
			bad++
		} else {
			good++
		}
	}
	if bad < 1000 || good < 1000 {
		t.Errorf("%d bad, %d good", bad, good)
	}
}
