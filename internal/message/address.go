package message

import "strings"

// Limits of one address list.
const (
	maxAddressOctets = 128 << 10
	maxAddresses     = 4096
	maxRoute         = 1024
)

// AddressKind tells a mailbox from the two ends of a group.
type AddressKind uint8

// The kinds of an element of an address list.
const (
	Mailbox    AddressKind = iota
	GroupStart             // Local is the group's name
	GroupEnd
)

// Address is one element of an address list as the header field has it. Nothing
// is validated and encoded-words (RFC 2047) are left as they are; mail.Address is
// the type for an address that one may deliver to.
type Address struct {
	Kind AddressKind
	// Name is the display name without quotes, or else the comment behind a bare
	// address.
	Name string
	// Route is the obsolete source route "@a,@b", almost always empty.
	Route string
	// Local is the local-part without quotes.
	Local string
	// Domain is empty if there was no "@".
	Domain string
}

// Addr returns local@domain as written, or Local alone if there is no domain.
func (a Address) Addr() string {
	if a.Domain == "" {
		return a.Local
	}
	return a.Local + "@" + a.Domain
}

// Addresses returns the mailboxes of an unfolded From, To or Cc value, those
// within groups included and the groups' own marks left out. At most 4,096
// elements in the first 128 KiB are read.
func Addresses(value string) []Address {
	list := AddressList(value)
	n := 0
	for _, a := range list {
		if a.Kind == Mailbox {
			list[n] = a
			n++
		}
	}
	return list[:n]
}

// AddressList is Addresses with the groups' marks, as ENVELOPE wants them. Every
// GroupStart has its GroupEnd.
func AddressList(value string) []Address {
	if len(value) > maxAddressOctets {
		value = value[:maxAddressOctets]
	}
	p := addressParser{s: value}
	for p.i < len(p.s) && len(p.list) < maxAddresses {
		p.element()
	}
	if p.inGroup {
		p.list = append(p.list, Address{Kind: GroupEnd})
	}
	return p.list
}

// token is an atom-like run or a quoted-string: s[from:to], without the quotes.
type token struct {
	from, to int
	quoted   bool
	escaped  bool // holds backslashes
}

type addressParser struct {
	s       string
	i       int
	list    []Address
	tokens  []token // of the element at hand; reused
	comment string
	inGroup bool
}

// element reads up to and including the next separator.
func (p *addressParser) element() {
	p.tokens, p.comment = p.tokens[:0], ""
	switch p.words(",;<:") {
	case '<':
		sep := p.bracketed()
		for sep == '<' && len(p.list) < maxAddresses {
			sep = p.bracketed()
		}
		p.endGroup(sep)
	case ':':
		if !p.inGroup {
			p.list = append(p.list, Address{Kind: GroupStart, Local: p.phrase()})
			p.inGroup = true
		}
	case ';':
		p.bare()
		p.endGroup(';')
	default:
		p.bare()
	}
}

// bracketed reads an address in angle brackets, behind its name, and what follows up to
// and including the next separator. That says nothing but a comment, unless it is another
// address: some programs show the first and others the last, so that both count.
func (p *addressParser) bracketed() (sep byte) {
	name := p.phrase()
	if name == "" {
		name = p.comment
	}
	a := p.angle()
	if a.Name = name; a.Name != "" || a.Local != "" || a.Domain != "" {
		p.list = append(p.list, a)
	}
	p.tokens, p.comment = p.tokens[:0], ""
	sep = p.words(",;<")
	if sep == '<' {
		return sep
	}
	if a.Name == "" && p.comment != "" && a.Local != "" {
		p.list[len(p.list)-1].Name = p.comment
	}
	if more := p.addrSpec(); more.Domain != "" {
		p.list = append(p.list, more)
	}
	return sep
}

func (p *addressParser) endGroup(sep byte) {
	if sep == ';' && p.inGroup {
		p.list = append(p.list, Address{Kind: GroupEnd})
		p.inGroup = false
	}
}

// bare adds the tokens at hand as an address without angle brackets.
func (p *addressParser) bare() {
	if len(p.tokens) == 0 {
		return
	}
	a := p.addrSpec()
	if a.Domain == "" {
		a.Local = p.phrase() // no address at all: words keep their spaces
	}
	a.Name = p.comment
	p.list = append(p.list, a)
}

// words collects tokens up to one of the stop characters, which it consumes and
// returns; 0 stands for the end.
func (p *addressParser) words(stop string) byte {
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case isWSP(c):
			p.i++
		case c == '(':
			p.comment = p.takeComment()
		case c == '"':
			p.takeQuoted()
		case strings.IndexByte(stop, c) >= 0:
			p.i++
			return c
		default:
			p.takeAtom()
		}
	}
	return 0
}

// takeComment consumes a comment, nested ones included, and returns its inside.
func (p *addressParser) takeComment() string {
	from := p.i + 1
	end, closed := skipComment(p.s, p.i)
	p.i = end
	to := end
	if closed {
		to--
	}
	return strings.TrimSpace(p.s[from:to])
}

// skipComment returns the offset behind the comment that begins at i, and whether
// it was closed rather than cut off by the end of s.
func skipComment(s string, i int) (end int, closed bool) {
	depth := 0
	for i < len(s) {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
		i++
	}
	return len(s), false
}

func (p *addressParser) takeQuoted() {
	t := token{from: p.i + 1, quoted: true}
	for p.i++; p.i < len(p.s) && p.s[p.i] != '"'; p.i++ {
		if p.s[p.i] == '\\' && p.i+1 < len(p.s) {
			t.escaped = true
			p.i++
		}
	}
	t.to = p.i
	p.i = min(p.i+1, len(p.s))
	p.tokens = append(p.tokens, t)
}

// takeAtom consumes at least one octet. A domain literal may hold colons, which
// would end an atom otherwise.
func (p *addressParser) takeAtom() {
	t := token{from: p.i}
	for p.i++; p.i < len(p.s); p.i++ {
		c := p.s[p.i]
		if c == '[' && p.s[p.i-1] == '@' {
			p.i += max(strings.IndexByte(p.s[p.i:min(len(p.s), p.i+256)], ']'), 0)
			continue
		}
		if isWSP(c) || strings.IndexByte(`("<>,;:`, c) >= 0 {
			break
		}
	}
	t.to = p.i
	p.tokens = append(p.tokens, t)
}

// angle reads what follows "<" up to ">".
func (p *addressParser) angle() Address {
	from, route := p.i, ""
	if p.i < len(p.s) && p.s[p.i] == '@' {
		// Source route, RFC 5322 4.4: it ends at the colon, if there is one
		// before the bracket closes.
		if n := strings.IndexAny(p.s[from:min(len(p.s), from+maxRoute)], ":>"); n >= 0 && p.s[from+n] == ':' {
			route, p.i = p.s[from:from+n], from+n+1
		}
	}
	p.tokens = p.tokens[:0]
	for {
		// A missing ">" must not swallow the next address.
		stop := p.words(",;:>")
		if stop == ',' || stop == ';' {
			p.i--
		}
		if stop != ':' {
			break
		}
	}
	a := p.addrSpec()
	a.Route = route
	return a
}

// addrSpec joins the tokens without spaces and cuts at the last "@" that is not
// quoted.
func (p *addressParser) addrSpec() Address {
	if len(p.tokens) == 1 && !p.tokens[0].quoted {
		s := p.s[p.tokens[0].from:p.tokens[0].to]
		if at := strings.LastIndexByte(s, '@'); at >= 0 {
			return Address{Local: s[:at], Domain: s[at+1:]}
		}
		return Address{Local: s}
	}
	var b strings.Builder
	at := -1
	for _, t := range p.tokens {
		if !t.quoted {
			if n := strings.LastIndexByte(p.s[t.from:t.to], '@'); n >= 0 {
				at = b.Len() + n
			}
		}
		b.WriteString(p.text(t))
	}
	s := b.String()
	if at < 0 {
		return Address{Local: s}
	}
	return Address{Local: s[:at], Domain: s[at+1:]}
}

// phrase joins the tokens with single spaces.
func (p *addressParser) phrase() string {
	switch len(p.tokens) {
	case 0:
		return ""
	case 1:
		return p.text(p.tokens[0])
	}
	var b strings.Builder
	b.Grow(p.tokens[len(p.tokens)-1].to - p.tokens[0].from)
	for i, t := range p.tokens {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p.text(t))
	}
	return b.String()
}

// text is a token without its quoting.
func (p *addressParser) text(t token) string {
	s := p.s[t.from:t.to]
	if !t.escaped {
		return s
	}
	return unquote(s)
}

// unquote drops the backslashes of quoted-pairs.
func unquote(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
