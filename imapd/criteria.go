package imapd

import (
	"io"
	"math"
	"mime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/encoding/htmlindex"

	"postern/internal/message"
	"postern/internal/store"
)

// maxKeys is how many search keys one SEARCH may have.
const maxKeys = 256

// query is a SEARCH with its sets resolved. All parts must hold.
type query struct {
	spans           [][]span
	since, before   int64 // microseconds; of the internal date, which is in UTC
	flags, notFlags store.Flags
	words, notWords []string // keywords
	recent          bool     // \Recent is wanted, which no message has
	larger, smaller int64
	sentSince       time.Time
	sentBefore      time.Time
	fields          []fieldKey
	text            []string // in lower case
	not             []*query
	or              [][2]*query
	columns         store.Columns
	needsMessage    bool
}

// fieldKey is HEADER, FROM and their like.
type fieldKey struct {
	name     string
	value    string // in lower case
	envelope bool   // the recorded envelope has the field
}

// compile resolves a SEARCH against the view.
func (v *view) compile(c *imap.SearchCriteria, saved []store.Range) (*query, error) {
	keys := 0
	return v.compileAt(c, saved, &keys)
}

func (v *view) compileAt(c *imap.SearchCriteria, saved []store.Range, keys *int) (*query, error) {
	*keys += 1 + len(c.SeqNum) + len(c.UID) + len(c.Header) + len(c.Body) + len(c.Text) + len(c.Flag) + len(c.NotFlag)
	if *keys > maxKeys {
		return nil, errSearchTooWide
	}
	if len(c.Body) > 0 {
		return nil, errBodySearch
	}
	q := &query{since: math.MinInt64, before: math.MaxInt64, larger: c.Larger, smaller: c.Smaller,
		sentSince: c.SentSince, sentBefore: c.SentBefore}
	if err := v.compileSets(q, c, saved); err != nil {
		return nil, err
	}
	if !c.Since.IsZero() {
		q.since = c.Since.UnixMicro()
	}
	if !c.Before.IsZero() {
		q.before = c.Before.UnixMicro()
	}
	q.compileFlags(c)
	q.compileFields(c)
	for i := range c.Not {
		sub, err := v.compileAt(&c.Not[i], saved, keys)
		if err != nil {
			return nil, err
		}
		q.not = append(q.not, sub)
		q.columns |= sub.columns
	}
	for i := range c.Or {
		var pair [2]*query
		for k := range pair {
			sub, err := v.compileAt(&c.Or[i][k], saved, keys)
			if err != nil {
				return nil, err
			}
			pair[k] = sub
			q.columns |= sub.columns
		}
		q.or = append(q.or, pair)
	}
	return q, nil
}

func (v *view) compileSets(q *query, c *imap.SearchCriteria, saved []store.Range) error {
	for _, set := range c.SeqNum {
		spans, err := v.spans(set, saved)
		if err != nil {
			return err
		}
		q.spans = append(q.spans, spans)
	}
	for _, set := range c.UID {
		spans, err := v.spans(set, saved)
		if err != nil {
			return err
		}
		q.spans = append(q.spans, spans)
	}
	return nil
}

func (q *query) compileFlags(c *imap.SearchCriteria) {
	for _, f := range c.Flag {
		switch bit := systemFlag(f); {
		case bit != 0:
			q.flags |= bit
		case strings.EqualFold(string(f), `\Recent`):
			q.recent = true
		default:
			q.words = append(q.words, string(f))
		}
	}
	for _, f := range c.NotFlag {
		switch bit := systemFlag(f); {
		case bit != 0:
			q.notFlags |= bit
		case strings.EqualFold(string(f), `\Recent`): // holds for all
		default:
			q.notWords = append(q.notWords, string(f))
		}
	}
}

func (q *query) compileFields(c *imap.SearchCriteria) {
	for _, h := range c.Header {
		k := fieldKey{name: strings.ToLower(h.Key), value: strings.ToLower(h.Value)}
		switch k.name {
		case "from", "to", "cc", "bcc", "subject", "message-id", "in-reply-to":
			k.envelope = true
			q.columns |= store.WantEnvelope
		default:
			q.columns |= store.WantHead
		}
		q.fields = append(q.fields, k)
	}
	for _, t := range c.Text {
		q.text = append(q.text, strings.ToLower(t))
		q.columns |= store.WantHead
	}
	if !q.sentSince.IsZero() || !q.sentBefore.IsZero() {
		q.columns |= store.WantEnvelope
	}
	q.needsMessage = len(q.fields) > 0 || len(q.text) > 0 || !q.sentSince.IsZero() || !q.sentBefore.IsZero()
}

// verdict is whether a message matches, as far as is known. The order is that of AND
// (the least) and OR (the greatest).
type verdict int8

const (
	never verdict = iota
	unknown
	always
)

func (v verdict) not() verdict { return always - v }

// judge says what the entry alone can tell of the i-th message; with m, all.
func (v *view) judge(q *query, i int, m *searched) verdict {
	result := v.judgeEntry(q, i)
	if result == never {
		return never
	}
	if q.needsMessage {
		switch {
		case m == nil:
			result = unknown
		case !q.matchMessage(m):
			return never
		}
	}
	for _, sub := range q.not {
		if result = min(result, v.judge(sub, i, m).not()); result == never {
			return never
		}
	}
	for _, pair := range q.or {
		a := v.judge(pair[0], i, m)
		if a != always {
			a = max(a, v.judge(pair[1], i, m))
		}
		if result = min(result, a); result == never {
			return never
		}
	}
	return result
}

func (v *view) judgeEntry(q *query, i int) verdict {
	e := &v.entries[i]
	flags, keywords := v.flags(i)
	switch {
	case q.recent,
		flags&q.flags != q.flags, flags&q.notFlags != 0,
		e.InternalDate < q.since, e.InternalDate >= q.before,
		q.larger > 0 && e.Size <= q.larger, q.smaller > 0 && e.Size >= q.smaller:
		return never
	}
	for _, w := range q.words {
		if !hasKeyword(keywords, w) {
			return never
		}
	}
	for _, w := range q.notWords {
		if hasKeyword(keywords, w) {
			return never
		}
	}
	for _, spans := range q.spans {
		if !inSpans(spans, i) {
			return never
		}
	}
	return always
}

func hasKeyword(keywords, word string) bool {
	for k := range strings.FieldsSeq(keywords) {
		if strings.EqualFold(k, word) {
			return true
		}
	}
	return false
}

func inSpans(spans []span, i int) bool {
	_, ok := slices.BinarySearchFunc(spans, i, func(s span, i int) int {
		switch {
		case s.hi <= i:
			return -1
		case s.lo > i:
			return 1
		}
		return 0
	})
	return ok
}

// searched is a message that has to be looked into.
type searched struct {
	envelope message.Envelope
	head     []byte
	fields   []message.Field // of head, once needed
	decoder  *mime.WordDecoder
}

func newSearched(m *store.Message, want store.Columns, d *mime.WordDecoder) (*searched, error) {
	s := &searched{head: m.Head, decoder: d}
	if want&store.WantEnvelope != 0 {
		var err error
		if s.envelope, err = message.ParseEnvelope(m.Envelope); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (q *query) matchMessage(m *searched) bool {
	if !q.sentSince.IsZero() || !q.sentBefore.IsZero() {
		day, ok := sentDay(m.envelope.Date)
		if !ok || day.Before(q.sentSince) || !q.sentBefore.IsZero() && !day.Before(q.sentBefore) {
			return false
		}
	}
	for _, k := range q.fields {
		if !m.hasField(k) {
			return false
		}
	}
	for _, t := range q.text {
		if !m.hasText(t) {
			return false
		}
	}
	return true
}

// sentDay is the day that the Date field names, whatever its zone (RFC 9051 6.4.4).
func sentDay(date string) (time.Time, bool) {
	t, ok := parseDate(date)
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC), ok
}

// hasField matches a field by a part of its value; "" matches any (RFC 9051 6.4.4).
func (m *searched) hasField(k fieldKey) bool {
	if k.envelope {
		return m.envelopeHas(k)
	}
	for _, f := range m.header() {
		if f.Is(k.name) && (k.value == "" || m.contains(f.Value(), k.value)) {
			return true
		}
	}
	return false
}

func (m *searched) envelopeHas(k fieldKey) bool {
	e := &m.envelope
	switch k.name {
	case "from":
		return m.listHas(e.From, k.value)
	case "to":
		return m.listHas(e.To, k.value)
	case "cc":
		return m.listHas(e.Cc, k.value)
	case "bcc":
		return m.listHas(e.Bcc, k.value)
	case "subject":
		return e.Subject != "" && m.contains(e.Subject, k.value)
	case "message-id":
		return e.MessageID != "" && m.contains(e.MessageID, k.value)
	}
	return e.InReplyTo != "" && m.contains(e.InReplyTo, k.value)
}

func (m *searched) listHas(list []message.Address, value string) bool {
	for i := range list {
		a := &list[i]
		if a.Kind == message.GroupEnd {
			continue
		}
		if value == "" || m.contains(a.Name, value) || containsFold(a.Local, value) || containsFold(a.Domain, value) {
			return true
		}
		if strings.ContainsAny(value, "@<>") {
			whole := strings.ToLower(m.decode(a.Name) + " <" + a.Addr() + ">")
			if strings.Contains(whole, value) {
				return true
			}
		}
	}
	return false
}

// hasText looks through the header section, which is all that is stored in clear.
func (m *searched) hasText(value string) bool {
	for _, f := range m.header() {
		if containsFold(f.Name, value) || m.contains(f.Value(), value) ||
			strings.Contains(value, ":") && m.contains(f.Name+": "+f.Value(), value) {
			return true
		}
	}
	return false
}

func (m *searched) header() []message.Field {
	if m.fields == nil {
		h, _, err := message.ParseHeader(m.head)
		if err != nil {
			return nil // larger than any field is looked for in
		}
		m.fields = h.Fields
	}
	return m.fields
}

// contains looks for a part of a field's value, with encoded words decoded.
func (m *searched) contains(s, lower string) bool {
	return containsFold(m.decode(s), lower)
}

func (m *searched) decode(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	if d, err := m.decoder.DecodeHeader(s); err == nil {
		return d
	}
	return s
}

func newWordDecoder() *mime.WordDecoder {
	return &mime.WordDecoder{CharsetReader: func(charset string, input io.Reader) (io.Reader, error) {
		e, err := htmlindex.Get(charset)
		if err != nil {
			return nil, err
		}
		return e.NewDecoder().Reader(input), nil
	}}
}

// containsFold is strings.Contains without regard to case; part is in lower case.
func containsFold(s, part string) bool {
	if len(part) == 0 {
		return true
	}
	if !isASCII(part) || !isASCII(s) {
		return strings.Contains(strings.ToLower(s), part)
	}
	first := part[0]
	for i := 0; i+len(part) <= len(s); i++ {
		if lowerASCII(s[i]) == first && equalLower(s[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func equalLower(s, lower string) bool {
	for i := 0; i < len(s); i++ {
		if lowerASCII(s[i]) != lower[i] {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
