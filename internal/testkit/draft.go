package testkit

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// draft is a message in the making. Its lines end in LF; the collector gives them
// their CRLF.
type draft struct {
	name   string
	fields []string
	body   string
}

// newDraft begins a message with the fields that ordinary ones have. The number
// makes it different from all others of its kind.
func newDraft(kind string, number int) *draft {
	d := &draft{name: fmt.Sprintf("%s-%02d", kind, number)}
	d.field("Received", fmt.Sprintf("from out.example.net (out.example.net [192.0.2.%d])\n\tby mx.example.org with ESMTPS id %s%d;\n\tMon, 02 Mar 2026 11:59:%02d +0000", number+1, kind, number, number%60))
	d.field("Date", fmt.Sprintf("Mon, %d Mar 2026 11:%02d:00 +0100", 1+number%28, number%60))
	d.field("From", "Bob Example <bob@example.net>")
	d.field("To", "Alice Example <alice@example.org>")
	d.field("Subject", fmt.Sprintf("%s number %d", kind, number))
	d.field("Message-ID", fmt.Sprintf("<%s.%d@example.net>", kind, number))
	d.field("MIME-Version", "1.0")
	return d
}

// field adds a field, or replaces the one of this name.
func (d *draft) field(name, value string) *draft {
	for i, f := range d.fields {
		if strings.HasPrefix(f, name+":") {
			d.fields[i] = name + ": " + value
			return d
		}
	}
	return d.more(name, value)
}

// more adds a field even if there is one of this name.
func (d *draft) more(name, value string) *draft {
	d.fields = append(d.fields, name+": "+value)
	return d
}

// without removes a field.
func (d *draft) without(name string) *draft {
	kept := d.fields[:0]
	for _, f := range d.fields {
		if !strings.HasPrefix(f, name+":") {
			kept = append(kept, f)
		}
	}
	d.fields = kept
	return d
}

// content sets the body with its type and transfer encoding.
func (d *draft) content(mediaType, encoding, body string) *draft {
	d.field("Content-Type", mediaType)
	if encoding != "" {
		d.field("Content-Transfer-Encoding", encoding)
	}
	d.body = body
	return d
}

func (d *draft) message() Message {
	return Message{Name: d.name, Bytes: []byte(strings.Join(d.fields, "\n") + "\n\n" + d.body)}
}

// part is one body part with its header section.
func part(fields, body string) string { return fields + "\n\n" + body }

// multipart joins parts by a boundary.
func multipart(boundary string, parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\n%s\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return b.String()
}

// base64Lines encodes b in lines of 76 characters.
func base64Lines(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	return out.String() + s + "\n"
}

// noise returns n octets that depend on seed alone.
func noise(seed, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// prose returns n lines that depend on seed alone.
func prose(seed, n int) string {
	words := strings.Fields("the letter came by night and nobody at the gate had seen who brought it so we sealed it and laid it with the others until its owner would come")
	r := rand.New(rand.NewPCG(uint64(seed), 7))
	var b strings.Builder
	for range n {
		for range 4 + r.IntN(8) {
			b.WriteString(words[r.IntN(len(words))] + " ")
		}
		b.WriteString("\n")
	}
	return b.String()
}
