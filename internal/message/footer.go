package message

import (
	"strings"
)

// Footed is a message with a text behind it: Header, Before, the body as it was, After.
type Footed struct {
	Header        Header
	Before, After []byte
}

// AddFooter puts a text behind a message. It goes into a message that is one text/plain
// to be shown, in a character set that has the text's characters as they are; in every
// other case the message, its Content-* fields and its body untouched, becomes the first
// part of a multipart/mixed, and the text the second. The boundary is as Outer wants it.
// It is not for what somebody signed: see IsSigned.
func AddFooter(h Header, text, boundary string) Footed {
	text = strings.ReplaceAll(strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\r\n", "\n"), "\n", "\r\n") + "\r\n"
	if fits(h, text) {
		return Footed{Header: h, After: []byte("\r\n" + text)}
	}
	encoding := "7bit"
	if EightBit([]byte(text)) {
		encoding = "8bit"
	}
	content := func(f Field) bool { return hasPrefixFold(f.Name, "Content-") }
	before := []byte("--" + boundary + "\r\n")
	for _, f := range h.Fields {
		if content(f) {
			before = append(before, f.Raw...)
		}
	}
	outer := h.Without(func(f Field) bool { return content(f) || f.Is("MIME-Version") })
	outer.Fields = append(outer.Fields, NewField("MIME-Version", "1.0"),
		NewField("Content-Type", "multipart/mixed; boundary=\""+boundary+"\""))
	return Footed{
		Header: outer,
		Before: append(before, '\r', '\n'),
		After: []byte("\r\n--" + boundary + "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: " + encoding +
			"\r\nContent-Disposition: inline\r\n\r\n" + text + "\r\n--" + boundary + "--\r\n"),
	}
}

// fits says whether text can simply be written behind the body.
func fits(h Header, text string) bool {
	if MediaType(h) != "text/plain" || hasPrefixFold(h.Get("Content-Disposition"), "attachment") {
		return false
	}
	eight := EightBit([]byte(text))
	switch encodingName(h.Get("Content-Transfer-Encoding")) {
	case "", "7bit":
		if eight {
			return false
		}
	case "8bit":
	default:
		return false
	}
	_, _, params := parseMediaType(h.Get("Content-Type"))
	charset, _ := params.Get("charset")
	charset = strings.ToLower(charset)
	if charset == "utf-8" {
		return true
	}
	return !eight && (charset == "" || charset == "us-ascii" || strings.HasPrefix(charset, "iso-8859-") || strings.HasPrefix(charset, "windows-125"))
}
