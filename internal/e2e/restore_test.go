package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// restore takes what was added to a message away from its payload. It is a second
// implementation, by the documented form alone, of what postern open does.
func restore(payload []byte) ([]byte, error) {
	end := regexp.MustCompile(`\r\n[^ \t]`).FindIndex(payload)
	if end == nil || !bytes.HasPrefix(payload, []byte("Postern-Arrival: v=1;")) {
		return nil, fmt.Errorf("the first field is no provenance: %.100q", payload)
	}
	arrival, rest := string(payload[:end[0]]), payload[end[0]+2:]
	how := regexp.MustCompile(`;\s+ct=([a-z+]+);`).FindStringSubmatch(arrival)
	if how == nil {
		return nil, errors.New("the provenance does not say what was added")
	}
	base, more, _ := strings.Cut(how[1], "+")
	header, body, found := cutHeader(rest)
	if !found {
		return nil, errors.New("the payload has no blank line")
	}
	var ok = true
	cutSuffix := func(s string) {
		var had bool
		header, had = bytes.CutSuffix(header, []byte(s))
		ok = ok && had
	}
	blank := []byte("\r\n")
	if strings.Contains("+"+more, "+end") {
		blank = nil
	}
	if base == "field" {
		cutSuffix("Content-Type: text/plain; protected-headers=\"v1\"\r\n")
	}
	if strings.Contains("+"+more, "+crlf") {
		cutSuffix("\r\n")
	}
	if strings.Contains("+"+more, "+line") {
		var had bool
		header, had = bytes.CutPrefix(header, []byte("Postern-Line: "))
		ok = ok && had
	}
	if inserted := map[string]string{"param": `; protected-headers="v1"`, "semi": `protected-headers="v1"`}[base]; inserted != "" {
		// The field may be folded; what was inserted ends its last line.
		field := regexp.MustCompile(`(?im)^content-type[ \t]*:(?:.*\r\n[ \t])*.*`).FindIndex(header)
		if field == nil {
			return nil, errors.New("no Content-Type")
		}
		value := bytes.TrimRight(header[field[0]:field[1]], "\r\n")
		kept, had := bytes.CutSuffix(value, []byte(inserted))
		ok = ok && had
		header = bytes.Join([][]byte{header[:field[0]], kept, header[field[0]+len(value):]}, nil)
	}
	if !ok {
		return nil, fmt.Errorf("what was added (%s) is not there", how[1])
	}
	return bytes.Join([][]byte{header, blank, body}, nil), nil
}

// cutHeader splits a message at the blank line, which belongs to neither.
func cutHeader(b []byte) (header, body []byte, found bool) {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return nil, b[2:], true
	}
	header, body, found = bytes.Cut(b, []byte("\r\n\r\n"))
	return append(bytes.Clone(header), '\r', '\n'), body, found
}

// restored opens sealed messages with GnuPG and returns the originals.
func (p *gnupg) restored(messages ...[]byte) [][]byte {
	p.t.Helper()
	opened := p.open(messages...)
	for i, payload := range opened {
		original, err := restore(payload)
		if err != nil {
			p.t.Fatalf("message %d: %v", i, err)
		}
		opened[i] = original
	}
	return opened
}

// same reports where two messages differ.
func same(t testing.TB, name string, got, want []byte) bool {
	t.Helper()
	if bytes.Equal(got, want) {
		return true
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	near := func(b []byte) []byte { return b[min(len(b), max(0, at-30)):min(len(b), at+60)] }
	t.Errorf("%s: %d octets for %d, different from octet %d on:\n got %q\nwant %q", name, len(got), len(want), at, near(got), near(want))
	return false
}
