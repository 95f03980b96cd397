package message

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// protectedParam tells Thunderbird, mutt and others that the payload's own header
// fields are the real ones (draft-autocrypt-lamps-protected-headers).
const (
	protectedName  = "protected-headers"
	protectedParam = `; protected-headers="v1"`
	protectedBare  = `protected-headers="v1"`
	protectedField = "Content-Type: text/plain" + protectedParam + "\r\n"
	// firstLine goes before a first line that is no field and that would
	// otherwise continue, or look like the end of, what stands before it.
	firstLine = fieldPrefix + "Line: "
)

// ContentTypeChange says what PayloadHeader inserted, so that Restore can take
// exactly that away. It is one of
//
//	kept    nothing: the Content-Type has the parameter, or ends within a quote
//	param   `; protected-headers="v1"` at the end of the first Content-Type
//	semi    the same without "; ", because the value ends with a semicolon
//	field   a Content-Type field behind the last field
//
// followed by any of these in this order:
//
//	+line   "Postern-Line: " before a first line that is no field
//	+crlf   CRLF behind a last field that has no line ending
//	+end    the blank line, which the message lacks
type ContentTypeChange string

// Changes of the Content-Type.
const (
	ChangeKept  ContentTypeChange = "kept"
	ChangeParam ContentTypeChange = "param"
	ChangeSemi  ContentTypeChange = "semi"
	ChangeField ContentTypeChange = "field"
)

// errChange says that a payload does not hold what its provenance says was
// inserted.
var errChange = errors.New("payload does not match its recorded change")

type change struct {
	base            ContentTypeChange
	line, crlf, end bool
}

func (c change) String() ContentTypeChange {
	s := c.base
	for _, f := range []struct {
		on   bool
		name ContentTypeChange
	}{{c.line, "+line"}, {c.crlf, "+crlf"}, {c.end, "+end"}} {
		if f.on {
			s += f.name
		}
	}
	return s
}

// parse is the inverse of String and accepts nothing else.
func (c ContentTypeChange) parse() (change, error) {
	base, rest, _ := strings.Cut(string(c), "+")
	p := change{base: ContentTypeChange(base)}
	for _, flag := range strings.Split(rest, "+") {
		switch flag {
		case "line":
			p.line = true
		case "crlf":
			p.crlf = true
		case "end":
			p.end = true
		}
	}
	switch p.base {
	case ChangeKept, ChangeParam, ChangeSemi, ChangeField:
		if p.String() == c {
			return p, nil
		}
	}
	return change{}, fmt.Errorf("%w: unknown change", errChange)
}

// PayloadHeader returns the header section of the payload of a sealed message,
// blank line included: behind it comes the body, before it the provenance field.
// All original octets are there in their order; what is inserted, so that clients
// show the real subject and see where the body begins, is recorded in how.
func PayloadHeader(h Header) (hdr []byte, how ContentTypeChange) {
	c := change{base: ChangeField}
	size := len(h.End) + len(firstLine) + len(protectedField) + 8
	for i := range h.Fields {
		size += len(h.Fields[i].Raw)
	}
	hdr = make([]byte, 0, size)
	if len(h.Fields) > 0 && h.Fields[0].Name == "" {
		c.line = true
		hdr = append(hdr, firstLine...)
	}
	for i := range h.Fields {
		f := &h.Fields[i]
		if c.base != ChangeField || !f.Is("Content-Type") {
			hdr = append(hdr, f.Raw...)
			continue
		}
		value := len(bytes.TrimRight(f.Raw, "\r\n"))
		hdr = append(hdr, f.Raw[:value]...)
		c.base = contentTypeChange(f.Value())
		switch c.base {
		case ChangeParam:
			hdr = append(hdr, protectedParam...)
		case ChangeSemi:
			hdr = append(hdr, protectedBare...)
		}
		hdr = append(hdr, f.Raw[value:]...)
	}
	if n := len(hdr); n > 0 && hdr[n-1] != '\n' {
		c.crlf = true
		hdr = append(hdr, '\r', '\n')
	}
	if c.base == ChangeField {
		hdr = append(hdr, protectedField...)
	}
	hdr = append(hdr, h.End...)
	if len(h.End) == 0 {
		c.end = true
		hdr = append(hdr, '\r', '\n')
	}
	return hdr, c.String()
}

// contentTypeChange says what is to become of a Content-Type with this value.
func contentTypeChange(value string) ContentTypeChange {
	_, _, params := parseMediaType(value)
	if _, has := params.Get(protectedName); has || endsOpen(value) {
		return ChangeKept
	}
	if strings.HasSuffix(value, ";") {
		return ChangeSemi
	}
	return ChangeParam
}

// originalHeader is the inverse of PayloadHeader. The result shares no octets
// with hdr if anything had to be taken from the middle.
func originalHeader(hdr []byte, how ContentTypeChange) ([]byte, error) {
	c, err := how.parse()
	if err != nil {
		return nil, err
	}
	ok := true
	cut := func(suffix string) {
		var had bool
		hdr, had = bytes.CutSuffix(hdr, []byte(suffix))
		ok = ok && had
	}
	var end []byte
	if c.end {
		cut("\r\n")
	} else {
		at := blankLine(hdr)
		if end = hdr[at:]; len(end) == 0 {
			return nil, errChange
		}
		hdr = hdr[:at]
	}
	if c.base == ChangeField {
		cut(protectedField)
	}
	if c.crlf {
		cut("\r\n")
	}
	if c.line {
		var had bool
		hdr, had = bytes.CutPrefix(hdr, []byte(firstLine))
		ok = ok && had
	}
	if !ok {
		return nil, errChange
	}
	out := make([]byte, 0, len(hdr)+len(end))
	if out, err = appendWithoutParam(out, hdr, c.base); err != nil {
		return nil, err
	}
	return append(out, end...), nil
}

// blankLine returns the offset of the blank line, or len(hdr).
func blankLine(hdr []byte) int {
	for pos := 0; pos < len(hdr); {
		eol := lineEnd(hdr, pos)
		if isBlank(hdr[pos:eol]) {
			return pos
		}
		pos = eol
	}
	return len(hdr)
}

// appendWithoutParam appends the fields to out, the first Content-Type without
// the inserted parameter.
func appendWithoutParam(out, fields []byte, base ContentTypeChange) ([]byte, error) {
	inserted := ""
	switch base {
	case ChangeParam:
		inserted = protectedParam
	case ChangeSemi:
		inserted = protectedBare
	default:
		return append(out, fields...), nil
	}
	for pos := 0; pos < len(fields); {
		end := foldEnd(fields, lineEnd(fields, pos))
		raw := fields[pos:end]
		if !equalFold("Content-Type", raw[:nameLen(raw)]) {
			pos = end
			continue
		}
		value := bytes.TrimRight(raw, "\r\n")
		kept, had := bytes.CutSuffix(value, []byte(inserted))
		if !had {
			break
		}
		out = append(out, fields[:pos]...)
		out = append(out, kept...)
		return append(out, fields[pos+len(value):]...), nil
	}
	return nil, errChange
}
