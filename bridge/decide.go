package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/policy"
)

// decide is steps 4 and 5 for what an account submits: an order for each recipient
// elsewhere, and the directory's answer. For all others it was done at RCPT.
func (t *transaction) decide(ctx context.Context, m *arrival) error {
	if t.source.Kind == mail.KindAppend {
		return t.sentBefore(ctx, m)
	}
	if t.submission == nil {
		return nil
	}
	facts, err := t.facts(m)
	if err != nil {
		return err
	}
	reply, err := t.repliesToProtected(ctx, m)
	if err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	rules, named := t.Policy(), visible(m.header)
	for i := range t.to {
		r := &t.to[i]
		r.visible = named[r.rcpt.Address.Key()]
		if !r.elsewhere {
			if t.submission.wish == policy.WishRequire {
				// Held is sealed to the gateway, and not to the recipient.
				r.order = policy.Require(r.order)
				r.order.NotKnown = mail.Deferred
			}
			continue
		}
		r.wish = t.submission.wish
		facts.Recipient, facts.RecipientDomain = r.rcpt.Address.Key(), r.rcpt.Address.Domain
		r.order = rules.Decide(facts)
		if reply {
			r.order = neverWeaker(r.order)
		}
		if wantsCertificate(r.order) || m.content == mail.ContentEncrypted {
			r.answer, r.certificates = await(r.lookup, patience.Done()).Under(r.order.MinTrust, t.Now())
		}
	}
	if err := t.misaddressed(ctx, m); err != nil {
		return err
	}
	return t.introduce(ctx, m)
}

// wantsCertificate says whether an order aims at a level for which one is needed.
func wantsCertificate(o mail.Order) bool { return o.Ceiling == 0 || o.Ceiling >= mail.Sealed }

// visible are the addresses that all recipients of the message see, by their keys.
func visible(h message.Header) map[string]bool {
	named := make(map[string]bool)
	for _, field := range []string{"To", "Cc", "Resent-To", "Resent-Cc"} {
		for _, value := range h.Values(field) {
			for _, a := range message.Addresses(value) {
				if parsed, err := mail.ParseAddress(mail.Address{Local: a.Local, Domain: a.Domain}.String()); err == nil {
					named[parsed.Key()] = true
				}
			}
		}
	}
	return named
}

// facts are what the policy may know, but for the recipient.
func (t *transaction) facts(m *arrival) (policy.Facts, error) {
	s, h := t.submission, m.header
	f := policy.Facts{
		Account: s.account.Address.Key(), Sender: s.author.Key(), SenderDomain: s.author.Domain,
		Size: m.Size(), Encrypted: m.content == mail.ContentEncrypted, Signed: message.IsSigned(h),
		Sensitivity: strings.ToLower(h.Get("Sensitivity")), Wish: s.wish, Recipients: len(t.to),
		Header: make(map[string]string, len(h.Fields)),
	}
	for _, field := range h.Fields {
		name := strings.ToLower(field.Name)
		if _, known := f.Header[name]; !known {
			f.Header[name] = field.Value()
		}
		f.List = f.List || strings.HasPrefix(name, "list-")
	}
	automatic := strings.ToLower(f.Header["auto-submitted"])
	f.Automatic = automatic != "" && automatic != "no"
	switch mediaType := message.MediaType(h); {
	case mediaType == "text/calendar":
		f.Calendar = true
	case strings.HasPrefix(mediaType, "multipart/") && !f.Encrypted:
		top, err := message.Scan(m, m.Size(), message.Limits{})
		if err != nil {
			return f, fmt.Errorf("scan: %w", err)
		}
		f.Calendar = top.HasType("text", "calendar")
	}
	return f, nil
}

// misaddressed refuses a message that the sender's software encrypted to others, and not
// to one of those whom it is sent to: they could not read it, and somebody may think that
// they did. It is certain only if every key is known to be somebody else's.
func (t *transaction) misaddressed(ctx context.Context, m *arrival) error {
	found := m.found
	if m.content != mail.ContentEncrypted || len(found.Recipients) == 0 || found.Anonymous > 0 || found.Symmetric > 0 {
		return nil
	}
	_, own := t.lookUp(ctx, t.submission.account)
	owners := [][]*pgp.Certificate{own}
	for i := range t.to {
		owners = append(owners, t.to[i].certificates)
	}
	for _, id := range found.Recipients {
		if !slices.ContainsFunc(owners, func(certs []*pgp.Certificate) bool { return hasKey(certs, id) }) {
			return nil // it may be anybody's
		}
	}
	var left []string
	for i := range t.to {
		certs := t.to[i].certificates
		if len(certs) > 0 && !slices.ContainsFunc(found.Recipients, func(id string) bool { return hasKey(certs, id) }) {
			left = append(left, t.to[i].rcpt.Address.String())
		}
	}
	if len(left) == 0 {
		return nil
	}
	return mail.Refuse(550, "5.7.5", "your software encrypted this message, but not to "+list(left)+", who could not read it: encrypt it to them too, or leave them out")
}

func hasKey(certs []*pgp.Certificate, id string) bool {
	return slices.ContainsFunc(certs, func(c *pgp.Certificate) bool { return c.HasKey(id) })
}

// introduce adds what tells correspondents how to encrypt: the sender's own certificate,
// if the client says nothing of one, and for those who can answer to all, the others'
// (Autocrypt Level 1). What a client encrypted speaks for itself.
func (t *transaction) introduce(ctx context.Context, m *arrival) error {
	if m.content == mail.ContentEncrypted {
		return nil
	}
	if !m.header.Has("Autocrypt") {
		if _, certs := t.lookUp(ctx, t.submission.account); len(certs) > 0 {
			if f, ok := t.autocrypt("Autocrypt", t.submission.author, certs[0]); ok {
				m.introduction = append(m.introduction, f)
			}
		}
	}
	m.gossip = t.gossip()
	return nil
}

// autocrypt makes a field for an address, unless it would be over the limit, or the address
// is one that would read as other attributes of the field.
func (b *Bridge) autocrypt(name string, a mail.Address, c *pgp.Certificate) (message.Field, bool) {
	if strings.ContainsAny(a.String(), "\"; ") {
		return message.Field{}, false
	}
	data, err := c.Minimal(a.Key(), b.Now())
	if err != nil {
		return message.Field{}, false // is only for storage, or expired in this moment
	}
	f := message.NewAutocryptField(name, a.String(), false, data)
	return f, len(f.Raw) <= message.MaxAutocrypt
}

// maxGossip is how many octets of gossip a message carries; with more of it there is
// none, since half a list would be no help to answer all.
const maxGossip = 64 << 10

// gossip are the Autocrypt-Gossip fields for the recipients that all others see, if there
// are two or more.
func (t *transaction) gossip() []byte {
	n := 0
	for i := range t.to {
		if t.to[i].visible {
			n++
		}
	}
	if n < 2 {
		return nil
	}
	var all []byte
	for i := range t.to {
		r := &t.to[i]
		if !r.visible || len(r.certificates) == 0 {
			continue
		}
		if f, ok := t.autocrypt("Autocrypt-Gossip", r.rcpt.Address, r.certificates[0]); ok {
			all = append(all, f.Raw...)
		}
		if len(all) > maxGossip {
			return nil
		}
	}
	return all
}

// outcomes say what each recipient gets, in the order in which they were given.
func (t *transaction) outcomes(copies []mailCopy) []mail.Outcome {
	levels := make([]mail.Level, len(t.to))
	for _, c := range copies {
		for _, i := range c.recipients {
			levels[i] = c.level
		}
	}
	outcomes := make([]mail.Outcome, len(t.asked))
	for i, at := range t.at {
		outcomes[i] = mail.Outcome{Recipient: t.asked[i].Address, Level: levels[at], Reason: t.to[at].why(levels[at])}
	}
	return outcomes
}

// why says in a few words why a copy is not more than it is.
func (r *recipient) why(l mail.Level) string {
	switch {
	case l == mail.Held && r.answer.Reason != "":
		return r.answer.Reason
	case l != mail.Clear && l != mail.TLSOnly:
		return ""
	case r.insecure() == "requested":
		return "you asked for it"
	case r.insecure() == "policy":
		return "rule " + r.order.Rule
	}
	return "no certificate"
}

// refused is the error if one of the copies may not be: then none is. It names the
// recipients and says why.
func (t *transaction) refused(m *arrival, copies []mailCopy) error {
	if t.submission == nil {
		return nil // one copy's error is every copy's
	}
	refused, deferred := 0, 0
	for _, c := range copies {
		switch {
		case c.protection.MayRest() && !c.elsewhere, c.protection.MayLeave() && c.elsewhere:
			continue
		case c.protection.Level() == mail.Deferred:
			deferred++
		default:
			refused++
		}
		if c.elsewhere {
			t.Metrics.BridgeOutgoing(c.protection.Level().String(), len(c.recipients))
		}
	}
	if refused+deferred == 0 {
		return affordable(m.Size(), copies)
	}
	var weak, no, later []string
	for i := range t.to {
		r := &t.to[i]
		switch level := mail.Protect(r.order, m.content, r.answer.Kind).Level(); level {
		case mail.Refused:
			no = append(no, r.rcpt.Address.String()+" ("+r.refusal()+")")
		case mail.Deferred:
			later = append(later, r.rcpt.Address.String()+" ("+r.answer.Reason+")")
		case mail.Clear, mail.TLSOnly:
			weak = append(weak, r.rcpt.Address.String())
		case mail.Held:
			if r.elsewhere {
				later = append(later, r.rcpt.Address.String()+" ("+r.answer.Reason+")")
			}
		}
	}
	switch {
	case len(no) > 0:
		return mail.Refuse(550, "5.7.5", "not sent to anybody, because of "+list(no))
	case refused > 0:
		return mail.Refuse(550, "5.7.5", "not sent to anybody: it can be encrypted to some recipients, and not to "+list(weak)+": send to these apart, or leave them out")
	}
	return mail.Refuse(451, "4.7.5", "not sent yet, try again later: it is not known whether it can be encrypted to "+list(later))
}

// maxApart is how many octets one message may become by being encrypted for each recipient
// apart: a thousand of them whom it does not name would fill a disk with one attachment.
const maxApart = 4 << 30

// affordable is an error if copies of a message of this size are more than that.
func affordable(size int64, copies []mailCopy) error {
	apart := int64(0)
	for _, c := range copies {
		if c.alone != 0 {
			apart++
		}
	}
	if apart > 1 && apart*size > maxApart {
		return errTooMuch
	}
	return nil
}

// refusal says why there is no copy for a recipient.
func (r *recipient) refusal() string {
	if r.order.Refusal != "" {
		return r.order.Refusal
	}
	switch {
	case r.answer.Kind == mail.Found:
		return "only what your own software encrypts may be sent to them"
	case r.answer.Reason != "":
		return r.answer.Reason
	}
	return "no certificate, and it may not go in clear"
}

// list names the first few. What is in a reply is one line of 512 octets at most
// (RFC 5321 4.5.3.1.5).
func list(names []string) string {
	const few, long = 3, 300
	s := ""
	for i, name := range names {
		if i == few || i > 0 && len(s)+len(name) > long {
			return fmt.Sprintf("%s and %d more", s, len(names)-i)
		}
		if i > 0 {
			s += ", "
		}
		s += name
	}
	return s
}
