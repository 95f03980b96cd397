package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/policy"
)

// submission is what a transaction has besides if an account that logged in sends the
// message (RFC 6409).
type submission struct {
	account store.Account
	// sender is the reverse-path, without the sender's wish.
	sender mail.Address
	// author is the first address in From, without the sender's wish.
	author mail.Address
	// wish is what the sender's own words ask for, see policy.Facts.
	wish    string
	lookups *lookups
	// elsewhere are the recipients that are not ours, as indexes into transaction.to.
	elsewhere map[string]int
}

// submit starts a submission: the account must exist and may use the reverse-path.
func (b *Bridge) submit(ctx context.Context, source mail.Source) (*submission, error) {
	account, err := b.Store.AccountByAddress(ctx, source.Account.Key())
	if errors.Is(err, store.ErrNotFound) {
		return nil, mail.Refuse(550, "5.7.1", "the account that logged in does not exist any more").Because(err)
	}
	if err != nil {
		return nil, fmt.Errorf("look up account: %w", err)
	}
	s := &submission{account: account, sender: source.From, elsewhere: make(map[string]int)}
	if !source.From.IsNull() { // a report, such as a disposition notification
		if s.sender, s.wish, err = s.owns(source.From, "the reverse-path"); err != nil {
			return nil, err
		}
	}
	s.lookups = b.newLookups(ctx)
	return s, nil
}

// owns is SentAs for the account.
func (s *submission) owns(a mail.Address, where string) (plain mail.Address, wish string, err error) {
	return SentAs(s.account.Address, a, where)
}

// SentAs is an error unless an account may use an address: its own, or a sub-address of it
// (RFC 5233). Two of these say how the mail is to be protected, and are not shown to
// anybody: plain is without. One that nearly asks for encryption is an error, too: it
// would not protect, and nobody would notice. The error is a *mail.Error, which calls the
// address what where says.
func SentAs(own, a mail.Address, where string) (plain mail.Address, wish string, err error) {
	if a.Key() == own.Key() {
		return a, "", nil
	}
	base, sub := a.Base()
	if !sub || base.Key() != own.Key() {
		return a, "", mail.Refuse(550, "5.7.1", where+" must be your own address, "+own.String()+" or "+own.Local+"+anything@"+own.Domain)
	}
	switch tag := strings.ToLower(a.Local[len(base.Local)+1:]); {
	case tag == policy.WishRequire, tag == policy.WishClear:
		return base, tag, nil
	case message.Misspells(tag, policy.WishRequire):
		return a, "", mail.Refuse(550, "5.7.5", where+" is nearly "+own.Local+"+"+policy.WishRequire+"@"+own.Domain+": write that, or another word behind the +")
	}
	return a, "", nil
}

// want notes a wish of the sender.
func (s *submission) want(wish string) error {
	if wish != "" && s.wish != "" && wish != s.wish {
		return mail.Refuse(550, "5.7.5", "the message asks to be encrypted and to be sent in clear at the same time: take one of the two out of the sender's address and the subject")
	}
	if wish != "" {
		s.wish = wish
	}
	return nil
}

// addElsewhere adds a recipient that is not ours. What is known of it is looked up while the
// message comes.
func (t *transaction) addElsewhere(r mail.Rcpt) {
	t.asked = append(t.asked, r)
	key := r.Address.String()
	at, known := t.submission.elsewhere[key]
	if !known {
		at = len(t.to)
		t.submission.elsewhere[key] = at
		t.to = append(t.to, recipient{rcpt: r, elsewhere: true, lookup: t.submission.lookups.start(r.Address)})
	}
	t.at = append(t.at, at)
}

// ownFields is more than all the fields that are added to a message that was submitted.
const ownFields = 10

// submitted makes of the header section that a client sent the one that leaves: the
// sender's own words are taken out and noted, what is missing is added, what nobody must
// see is removed (RFC 6409 8).
func (t *transaction) submitted(h message.Header) (message.Header, error) {
	switch {
	case message.CountReceived(h) > maxReceived:
		return h, errLoop
	case len(h.Fields) > message.MaxFields-ownFields:
		return h, errHeaderTooBig
	}
	h = message.Submitted(h, t.Hostname)
	h, err := t.authored(h)
	if err != nil {
		return h, err
	}
	if h, err = t.worded(h); err != nil {
		return h, err
	}
	if !h.Has("Message-ID") {
		h = h.With(message.NewField("Message-ID", "<"+t.source.ID+"@"+t.Hostname+">"))
	}
	if !h.Has("Date") {
		h = h.With(message.NewField("Date", message.FormatDate(t.source.Time)))
	}
	return h, nil
}

// authored checks that From, Sender and who sent it again are the account's, and takes the
// sender's wish out of the addresses.
func (t *transaction) authored(h message.Header) (message.Header, error) {
	s := t.submission
	switch n := len(h.Values("From")); {
	case tooLong(h):
		return h, mail.Refuse(550, "5.6.0", "the From or Sender field is too long")
	case n > 1:
		return h, mail.Refuse(550, "5.6.0", "the message has more than one From field, RFC 5322 3.6")
	}
	for _, field := range []string{"Sender", "Resent-From", "Resent-Sender", "From"} {
		s.author = mail.Address{}
		for _, value := range h.Values(field) {
			var err error
			if s.author, err = s.mine(value, field); err != nil {
				return h, err
			}
		}
	}
	if s.author.IsNull() {
		return h, mail.Refuse(550, "5.6.0", "the message has no From address, RFC 5322 3.6.2")
	}
	var failed error
	h = h.Replace(func(f message.Field) message.Field {
		f, err := s.withoutWish(f)
		if err != nil {
			failed = err
		}
		return f
	}, "From", "Sender", "Reply-To", "Resent-From", "Resent-Sender")
	return h.Replace(func(f message.Field) message.Field {
		for _, wish := range []string{policy.WishRequire, policy.WishClear} {
			f = message.WithoutTag(f, s.account.Address.Local, wish, s.account.Address.Domain)
		}
		return f
	}, "Autocrypt", "Disposition-Notification-To", "Return-Receipt-To"), failed
}

// maxAuthors limits From and the like, in octets. Of a much longer one only the beginning
// would be looked at.
const maxAuthors = 32 << 10

func tooLong(h message.Header) bool {
	return slices.ContainsFunc(h.Fields, func(f message.Field) bool {
		return len(f.Raw) > maxAuthors && (f.Is("From") || f.Is("Sender") || f.Is("Resent-From") || f.Is("Resent-Sender"))
	})
}

// mine checks the addresses of a field, with all that somebody's program may take for one,
// and notes the wish in them. It returns the first, null if there is none.
func (s *submission) mine(value, field string) (first mail.Address, err error) {
	words, ok := message.Mentions(value)
	if !ok {
		return first, mail.Refuse(550, "5.6.0", "programs would read different addresses in the "+field+" field: write it as \"Name\" <address>, RFC 5322 3.4")
	}
	var written []string
	for _, a := range message.Addresses(value) {
		written = append(written, a.Addr())
	}
	for i, word := range append(written, words...) {
		at := max(strings.LastIndexByte(word, '@'), 0)
		parsed, err := mail.ParseAddress(mail.Address{Local: word[:at], Domain: strings.TrimPrefix(word[at:], "@")}.String())
		if err != nil {
			return first, mail.Refuse(550, "5.6.0", "an address in the "+field+" field cannot be read").Because(err)
		}
		plain, wish, err := s.owns(parsed, "the "+field+" field")
		if err == nil {
			err = s.want(wish)
		}
		if err != nil {
			return first, err
		}
		if i == 0 {
			first = plain
		}
	}
	return first, nil
}

// withoutWish takes the sender's wish out of the own addresses in a field.
func (s *submission) withoutWish(f message.Field) (message.Field, error) {
	done := make(map[string]bool) // a field may say the same thousands of times
	for _, a := range message.Addresses(f.Value()) {
		written := strings.ToLower(a.Addr())
		parsed, err := mail.ParseAddress(mail.Address{Local: a.Local, Domain: a.Domain}.String())
		if err != nil || done[written] {
			continue
		}
		done[written] = true
		if plain, wish, err := s.owns(parsed, ""); err == nil && wish != "" {
			before := len(f.Raw)
			if f = message.WithoutTag(f, plain.Local, wish, a.Domain); len(f.Raw) == before {
				return f, mail.Refuse(550, "5.6.0", "write "+parsed.String()+" in the "+f.Name+" field without quotes, comments or blanks inside")
			}
		}
	}
	return f, nil
}

// worded notes the sender's words in the subject and takes them out.
func (t *transaction) worded(h message.Header) (message.Header, error) {
	var failed error
	h = h.Replace(func(f message.Field) message.Field {
		wish, cleaned, err := message.SenderWordsField(f)
		if err == nil {
			err = t.submission.want(wish)
		} else {
			err = mail.Refuse(550, "5.7.5", err.Error())
		}
		if err != nil {
			failed = err
			return f
		}
		return cleaned
	}, "Subject")
	return h, failed
}
