package message

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"mime"
	"strings"
)

// NewField makes a field of ours. value must not hold a line ending that does not fold.
func NewField(name, value string) Field {
	return Field{Name: name, Raw: []byte(name + ": " + value + "\r\n")}
}

// NewTextField is NewField with a value of unstructured text, in encoded-words (RFC 2047)
// where it is not ASCII.
func NewTextField(name, text string) Field {
	words := mime.QEncoding.Encode("utf-8", strings.Join(strings.Fields(text), " "))
	return NewField(name, strings.ReplaceAll(words, "?= =?", "?=\r\n =?"))
}

// NewAutocryptField makes an Autocrypt or Autocrypt-Gossip field, folded. mutual is
// prefer-encrypt, which is not for gossip.
func NewAutocryptField(name, addr string, mutual bool, keyData []byte) Field {
	var b bytes.Buffer
	b.WriteString(name + ": addr=" + addr + ";")
	if mutual {
		b.WriteString(" prefer-encrypt=mutual;")
	}
	b.WriteString(" keydata=\r\n")
	data := base64.StdEncoding.EncodeToString(keyData)
	for len(data) > 0 {
		n := min(76, len(data))
		b.WriteString(" " + data[:n] + "\r\n")
		data = data[n:]
	}
	return Field{Name: name, Raw: b.Bytes()}
}

// With returns the header with fields in front of the others.
func (h Header) With(front ...Field) Header {
	h.Fields = append(append(make([]Field, 0, len(front)+len(h.Fields)), front...), h.Fields...)
	return h
}

// Replace returns the header with change applied to every field of one of the names.
func (h Header) Replace(change func(Field) Field, names ...string) Header {
	fields := append([]Field(nil), h.Fields...)
	for i, f := range fields {
		for _, name := range names {
			if f.Is(name) {
				fields[i] = change(f)
			}
		}
	}
	h.Fields = fields
	return h
}

// Only returns the octets of the fields of these names, in the order of the header.
func (h Header) Only(names ...string) []byte {
	var b []byte
	for _, f := range h.Fields {
		for _, name := range names {
			if f.Is(name) {
				b = append(b, f.Raw...)
			}
		}
	}
	return b
}

// Submitted is what leaves of the header section of a message that a client submits
// (RFC 6409 8): without Bcc and Resent-Bcc, which nobody must see, without what is the
// client's own (Autocrypt-Draft-State) or a delivering server's (Return-Path), without
// what only a gateway may say (see Strip), without lines that are no fields, and with
// one empty line at its end.
func Submitted(h Header, authserv string) Header {
	h = Strip(h, authserv).Without(func(f Field) bool {
		return f.Name == "" || f.Is("Bcc") || f.Is("Resent-Bcc") || f.Is("Autocrypt-Draft-State") || f.Is("Return-Path")
	})
	if n := len(h.Fields); n > 0 && !bytes.HasSuffix(h.Fields[n-1].Raw, []byte("\n")) {
		h.Fields[n-1].Raw = append(bytes.Clone(h.Fields[n-1].Raw), '\r', '\n')
	}
	h.End = []byte("\r\n")
	return h
}

// WithoutTag takes "+tag" out of an address wherever it stands in a field, as written in
// any case: local+tag@domain becomes local@domain. All other octets stay.
func WithoutTag(f Field, local, tag, domain string) Field {
	address := strings.ToLower(local + "+" + tag + "@" + domain)
	var out []byte
	done, at := 0, 0 // octets of Raw that are in out, and that were looked at
	for {
		i := indexFold(f.Raw[at:], address)
		if i < 0 {
			break
		}
		i += at
		at = i + len(local)
		if i > 0 && (isTokenChar(f.Raw[i-1]) || f.Raw[i-1] == '.' || f.Raw[i-1] >= 0x80) {
			continue // the end of another local-part
		}
		out = append(out, f.Raw[done:at]...)
		done = at + 1 + len(tag)
	}
	if done > 0 {
		f.Raw = append(out, f.Raw[done:]...)
	}
	return f
}

// indexFold finds an ASCII text, given in lower case, in any case.
func indexFold(b []byte, text string) int {
	for i := 0; i+len(text) <= len(b); i++ {
		if equalFold(text, b[i:i+len(text)]) {
			return i
		}
	}
	return -1
}

// PrefixSubject returns the header with text and a space in front of the subject, whose
// own octets stay.
func PrefixSubject(h Header, text string) Header {
	if !h.Has("Subject") {
		return h.With(NewTextField("Subject", text))
	}
	prefix := NewTextField("Subject", text).Raw
	prefix = prefix[:len(prefix)-2]
	return h.Replace(func(f Field) Field {
		rest := bytes.TrimLeft(f.Raw[bytes.IndexByte(f.Raw, ':')+1:], " \t")
		f.Raw = append(append(bytes.Clone(prefix), ' '), rest...)
		return f
	}, "Subject")
}

// MediaType is the type and subtype of the message as its header says, in lower case;
// "text/plain" if it does not say.
func MediaType(h Header) string {
	if !h.Has("Content-Type") {
		return "text/plain"
	}
	typ, subtype, _ := parseMediaType(h.Get("Content-Type"))
	return typ + "/" + subtype
}

// IsSigned reports whether the header says that the sender's own software signed the
// message (RFC 1847, RFC 8551): nothing may be added to such a one.
func IsSigned(h Header) bool {
	switch MediaType(h) {
	case "multipart/signed":
		return true
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		_, _, params := parseMediaType(h.Get("Content-Type"))
		kind, _ := params.Get("smime-type")
		return strings.EqualFold(kind, "signed-data")
	}
	return false
}

// HasType reports whether a part of the message is of the type.
func (p *Part) HasType(typ, subtype string) bool {
	found := false
	p.Walk(func(p *Part) { found = found || p.is(typ, subtype) })
	return found
}

// EightBit reports whether there is an octet above 127.
func EightBit(b []byte) bool {
	const high = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return true
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
