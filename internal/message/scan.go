package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Limits bound what a scan looks into. A zero field stands for its default.
type Limits struct {
	// Depth is how deep parts may lie within parts, the message being 1.
	// Default 100.
	Depth int
	// Parts is how many parts are told apart. Default 10,000.
	Parts int
	// Header is how many octets of one part's header section are looked at; the
	// fields behind are as good as absent. Default 256 KiB.
	Header int
	// Text is how many octets of parameters, descriptions and embedded envelopes
	// are kept altogether; what exceeds it is left out. Default 1 MiB.
	Text int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.Depth, 100}, {&l.Parts, 10000}, {&l.Header, 256 << 10}, {&l.Text, 1 << 20}} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return l
}

const (
	// maxDelimiter is the longest line that can be a boundary delimiter, with
	// its ending. RFC 2046 5.1.1 allows 70 octets for a boundary.
	maxDelimiter = 1024
	maxBoundary  = maxDelimiter - 16
	// maxValue is how much of one field value is looked at.
	maxValue = 8 << 10
)

// Scan reads size octets of r once, through a window of 64 KiB, and returns the
// structure of the message. Every sequence of octets has one; the only error is
// the reader's. The time is linear in size whatever the message holds.
//
// A boundary delimiter is a line "--boundary" or "--boundary--" of any open
// multipart with nothing but white space behind it; the innermost one of that
// name counts, and what lies within it ends. Over the limit of depth a multipart
// or message is an application/octet-stream without parts; at the limit of parts
// the last one is an application/octet-stream that takes all the rest. A
// message/rfc822 in a transfer encoding other than 7bit, 8bit and binary is an
// application/octet-stream, too.
func Scan(r io.ReaderAt, size int64, limits Limits) (*Part, error) {
	return scan(newWindow(r, size), limits)
}

// ScanBytes is Scan of a message in memory.
func ScanBytes(b []byte, limits Limits) *Part {
	root, _ := scan(&window{buf: b, next: int64(len(b)), size: int64(len(b))}, limits)
	return root
}

func scan(w *window, limits Limits) (*Part, error) {
	root := &Part{}
	s := &scanner{in: w, limits: limits.withDefaults(), bounds: make(map[string]int)}
	s.push(root)
	if err := s.run(); err != nil {
		return nil, fmt.Errorf("scan message: %w", err)
	}
	return root, nil
}

// frame is a part that has not ended.
type frame struct {
	part *Part
	// boundary is set while delimiters of this multipart count; shadows is the
	// frame that had the same boundary before, or -1.
	boundary  string
	shadows   int
	multipart bool
	digest    bool  // multipart/digest: its parts are messages, RFC 2046 5.1.5
	lines     int64 // before the body
}

type scanner struct {
	in       *window
	limits   Limits
	open     []frame
	bounds   map[string]int // boundary → index in open
	inHeader bool           // of the innermost part
	hdr      []byte         // its header section so far
	parts    int
	text     int // octets kept
}

func (s *scanner) run() error {
	for atLine := true; ; {
		w, err := s.in.peek(maxDelimiter)
		if err != nil {
			return err
		}
		switch {
		case len(w) == 0:
			s.finish()
			return nil
		case atLine && s.delimiter(w):
		case s.inHeader:
			atLine = s.headerLine(w, atLine)
		default:
			atLine = s.bodyOctets(w)
		}
	}
}

// push opens a part whose header section begins here.
func (s *scanner) push(p *Part) {
	p.HeaderStart = s.in.off
	s.parts++
	s.open = append(s.open, frame{part: p, shadows: -1})
	s.inHeader = true
	s.hdr = s.hdr[:0]
}

// headerLine consumes a line of a header section, or what the window has of it.
func (s *scanner) headerLine(w []byte, atLine bool) (nextAtLine bool) {
	n := lineEnd(w, 0)
	whole := w[n-1] == '\n'
	if atLine && isBlank(w[:n]) && (whole || s.in.atEnd()) {
		s.in.advance(n, count(whole))
		s.endHeader()
		return true
	}
	s.hdr = append(s.hdr, w[:min(n, s.limits.Header-len(s.hdr))]...)
	s.in.advance(n, count(whole))
	return whole
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bodyOctets consumes octets of a body up to the next line that may be a
// delimiter.
func (s *scanner) bodyOctets(w []byte) (nextAtLine bool) {
	n := len(w)
	if len(s.bounds) > 0 {
		if i := bytes.Index(w, []byte("\n--")); i >= 0 {
			n = i + 1
		} else if bytes.HasSuffix(w, []byte("\n-")) {
			n--
		}
	}
	s.in.advance(n, bytes.Count(w[:n], []byte{'\n'}))
	return w[n-1] == '\n'
}

// delimiter consumes the line that w begins with if it is a boundary delimiter.
func (s *scanner) delimiter(w []byte) bool {
	if len(s.bounds) == 0 || len(w) < 2 || w[0] != '-' || w[1] != '-' {
		return false
	}
	n := lineEnd(w[:min(len(w), maxDelimiter)], 0)
	if w[n-1] != '\n' && (n < len(w) || !s.in.atEnd()) {
		return false
	}
	name := bytes.TrimRight(w[2:n], " \t\r\n")
	i, found := s.bounds[string(name)]
	closing := false
	if !found {
		if name, closing = bytes.CutSuffix(name, []byte("--")); !closing {
			return false
		}
		if i, found = s.bounds[string(name)]; !found {
			return false
		}
	}
	s.endParts(i)
	s.in.advance(n, count(w[n-1] == '\n'))
	if closing {
		s.release(i)
	} else {
		s.nextPart(&s.open[i])
	}
	return true
}

// nextPart opens a part of the multipart f.
func (s *scanner) nextPart(f *frame) {
	p := &Part{}
	f.part.Children = append(f.part.Children, p)
	last := s.parts+1 >= s.limits.Parts
	s.push(p)
	if last {
		clear(s.bounds)
		s.inHeader = false
		p.BodyStart = s.in.off
		p.Type, p.Subtype = "application", "octet-stream"
		s.open[len(s.open)-1].lines = s.in.lines
	}
}

// endParts ends all parts within the one at index i: a delimiter begins here.
func (s *scanner) endParts(i int) {
	for s.inHeader {
		s.endHeader()
	}
	end, lines := s.in.off-s.in.ending(), s.in.lines-1
	for last := len(s.open) - 1; last > i; last-- {
		if s.open[last].part.BodyStart > end {
			// A part without a body: the line ending before the delimiter is
			// its header section's, and lies within what it lies in.
			end, lines = s.in.off, s.in.lines
		}
		s.pop(end, lines)
	}
}

// finish ends all parts: the message ends here.
func (s *scanner) finish() {
	for s.inHeader {
		s.endHeader()
	}
	for len(s.open) > 0 {
		s.pop(s.in.off, s.in.lines)
	}
}

// pop ends the innermost part at the offset end, before which there are lines.
func (s *scanner) pop(end, lines int64) {
	i := len(s.open) - 1
	s.release(i)
	f := &s.open[i]
	p := f.part
	if p.BodyEnd = p.BodyStart; end > p.BodyStart {
		p.BodyEnd = end
		p.Lines = lines - f.lines
	}
	if f.multipart && len(p.Children) == 0 {
		p.opaque("text", "plain")
	}
	s.open = s.open[:i]
}

// release makes the delimiters of the part at index i count no more.
func (s *scanner) release(i int) {
	f := &s.open[i]
	if f.boundary == "" {
		return
	}
	if s.bounds[f.boundary] == i {
		if delete(s.bounds, f.boundary); f.shadows >= 0 {
			s.bounds[f.boundary] = f.shadows
		}
	}
	f.boundary = ""
}

// opaque makes p a part that is not looked into.
func (p *Part) opaque(typ, subtype string) {
	p.Type, p.Subtype = typ, subtype
	p.Params = nil
}

// endHeader is called where the header section of the innermost part has ended.
// If the part is a message, the header section of that begins.
func (s *scanner) endHeader() {
	i := len(s.open) - 1
	f := &s.open[i]
	p := f.part
	s.inHeader = false
	p.BodyStart = s.in.off
	f.lines = s.in.lines
	s.fields(p)
	if i > 0 && s.open[i-1].part.Message == p {
		s.envelope(s.open[i-1].part)
	}
	if p.Type == "" {
		p.Type, p.Subtype = "text", "plain"
		if i > 0 && s.open[i-1].digest {
			p.Type, p.Subtype = "message", "rfc822"
		}
	}
	switch {
	case p.Type == "multipart":
		s.multipart(i)
	case p.is("message", "rfc822"), p.is("message", "global"):
		s.embedded(p)
	}
}

// multipart begins the body of the multipart at index i.
func (s *scanner) multipart(i int) {
	f := &s.open[i]
	boundary, _ := f.part.Params.Get("boundary")
	boundary = strings.TrimRight(boundary, " \t")
	switch {
	case len(s.open) >= s.limits.Depth || s.parts >= s.limits.Parts:
		f.part.opaque("application", "octet-stream")
	case boundary == "" || len(boundary) > maxBoundary:
		f.part.opaque("text", "plain")
	default:
		if s.text > s.limits.Text {
			f.part.Params = nil
		}
		f.multipart = true
		f.digest = f.part.Subtype == "digest"
		f.boundary = boundary
		if outer, same := s.bounds[boundary]; same {
			f.shadows = outer
		}
		s.bounds[boundary] = i
	}
}

// embedded begins the body of a message/rfc822.
func (s *scanner) embedded(p *Part) {
	switch p.Encoding {
	case "", "7bit", "8bit", "binary":
		if len(s.open) < s.limits.Depth && s.parts < s.limits.Parts {
			p.Message = &Part{}
			s.push(p.Message)
			return
		}
	}
	p.opaque("application", "octet-stream")
}

// envelope records the envelope of the message embedded in p, whose header
// section is in hdr.
func (s *scanner) envelope(p *Part) {
	p.Envelope = &Envelope{}
	if s.text > s.limits.Text {
		return
	}
	h, _, err := ParseHeaderLimit(s.hdr, len(s.hdr))
	if err != nil {
		return
	}
	e := EnvelopeOf(h)
	if s.text += e.size(); s.text <= s.limits.Text {
		*p.Envelope = e
	}
}

// fields takes what it knows from the header section in hdr; the first field of
// a name counts.
func (s *scanner) fields(p *Part) {
	for pos := 0; pos < len(s.hdr); {
		end := foldEnd(s.hdr, lineEnd(s.hdr, pos))
		raw := s.hdr[pos:end]
		pos = end
		const prefix = "Content-"
		n := nameLen(raw)
		if n <= len(prefix) || !equalFold(prefix, raw[:len(prefix)]) {
			continue
		}
		colon := bytes.IndexByte(raw, ':')
		s.field(p, strings.ToLower(string(raw[len(prefix):n])), raw[colon+1:])
	}
}

// field sets what Content-name with this value says. From the first value on
// that no longer fits the limit of text, values are read for the media type, the
// boundary and the encoding, and not kept.
func (s *scanner) field(p *Part, name string, raw []byte) {
	v := unfold(raw[:min(len(raw), maxValue)])
	switch {
	case name == "type" && p.Type == "":
		p.Type, p.Subtype, p.Params = parseMediaType(v)
		if !s.keep(v) && p.Type != "multipart" {
			p.Type, p.Subtype, p.Params = clip(p.Type), clip(p.Subtype), nil
		}
	case name == "transfer-encoding" && p.Encoding == "":
		p.Encoding = encodingName(v)
	case name == "id" && p.ID == "" && s.keep(v):
		p.ID = v
	case name == "description" && p.Description == "" && s.keep(v):
		p.Description = v
	case name == "md5" && p.MD5 == "" && s.keep(v):
		p.MD5 = v
	case name == "location" && p.Location == "" && s.keep(v):
		p.Location = v
	case name == "disposition" && p.Disposition == "" && s.keep(v):
		p.Disposition, p.DispositionParams = parseDisposition(v)
	case name == "language" && p.Language == nil && s.keep(v):
		p.Language = languages(v)
	}
}

// keep reports whether v may be kept, and counts it.
func (s *scanner) keep(v string) bool {
	s.text += len(v)
	return s.text <= s.limits.Text
}

// clip copies a word so that it does not hold on to the value it was cut from.
func clip(word string) string { return strings.Clone(word[:min(len(word), 64)]) }

// encodingName is the mechanism of a Content-Transfer-Encoding, in lower case.
func encodingName(v string) string {
	i := skipCFWS(v, 0)
	from := i
	for i < len(v) && isTokenChar(v[i]) && i-from < 40 {
		i++
	}
	return strings.Clone(strings.ToLower(v[from:i]))
}

// languages are the tags of a Content-Language (RFC 3282).
func languages(v string) []string {
	var tags []string
	for _, tag := range strings.Split(v, ",") {
		if tag = strings.Trim(tag, " \t"); tag != "" && len(tags) < maxParams {
			tags = append(tags, tag)
		}
	}
	return tags
}
