package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"postern/bridge"
	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/keydir"
	"postern/policy"
)

// explainTime bounds how long the sources are waited for.
const explainTime = 15 * time.Second

// Explanations is what Explain found, one for each recipient.
type Explanations []Explanation

// Explanation is what would become of mail to one recipient, and why.
type Explanation struct {
	keydir.Explanation
	Decision Decision `json:"decision"`
}

// Explain says for each address what would become of mail to it, and why: what the key
// directory remembers, what every source says now, and which rule decides. from is the
// address that an account would send from, or empty for one that no rule names. It sends
// nothing.
func (a *Admin) Explain(ctx context.Context, from string, addresses []string) (Explanations, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	facts, err := a.sender(ctx, from)
	if err != nil {
		return nil, err
	}
	facts.Recipients = len(addresses)
	list := Explanations{}
	for _, s := range addresses {
		addr, err := parseAddress(s)
		if err != nil {
			return nil, err
		}
		e, err := a.explain(ctx, facts, addr)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// sender is what the policy may know of whoever sends from an address.
func (a *Admin) sender(ctx context.Context, from string) (policy.Facts, error) {
	if from == "" {
		return policy.Facts{}, nil
	}
	addr, err := parseAddress(from)
	if err != nil {
		return policy.Facts{}, err
	}
	var refused *mail.Error
	own, err := a.g.Bridge.Account(ctx, addr)
	if errors.As(err, &refused) {
		return policy.Facts{}, fmt.Errorf("no account here may send as %s (postern account list names all)", addr)
	}
	if err != nil {
		return policy.Facts{}, err
	}
	plain, wish, err := bridge.SentAs(own, addr, "it")
	if errors.As(err, &refused) {
		return policy.Facts{}, fmt.Errorf("no account here may send as %s: %s", addr, refused.Text)
	}
	return policy.Facts{Account: own.Key(), Sender: plain.Key(), SenderDomain: plain.Domain, Wish: wish}, err
}

// explain is Explain for one recipient.
func (a *Admin) explain(ctx context.Context, f policy.Facts, to mail.Address) (Explanation, error) {
	if !a.g.Directory.Hosted(to.Domain) {
		e := a.g.Directory.Explain(ctx, to)
		return Explanation{e, a.decide(f, to, e)}, nil
	}
	account, err := a.g.Bridge.Account(ctx, to)
	if errors.Is(err, mail.ErrNoSuchUser) {
		e := keydir.Explanation{Address: to.String(), Answer: "none", Reason: "there is no such account", Sources: []keydir.Asked{}}
		return Explanation{e, Decision{Level: mail.Refused.String(), Rule: mail.Inbound().Rule, Refusal: mail.ErrNoSuchUser.Text}}, nil
	}
	if err != nil {
		return Explanation{}, err
	}
	e := a.g.Directory.Explain(ctx, account)
	e.Address = to.String()
	return Explanation{e, a.decideHere(e)}, nil
}

// WriteText implements the human form.
func (l Explanations) WriteText(w io.Writer) error {
	for i, e := range l {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := e.write(w); err != nil {
			return err
		}
	}
	return nil
}

func (e Explanation) write(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s, %s\n", e.Address, e.Decision.Level, verdict(e.Explanation))
	err := table(w, "", func(line func(string, ...any)) {
		e.Decision.lines(line)
		if e.Fingerprint != "" {
			line("  certificate\t%s", e.Fingerprint)
		}
		if e.Algorithm != "" {
			line("  algorithm\t%s", e.Algorithm)
			expires := "never"
			if e.Expires != nil {
				expires = e.Expires.UTC().Format(time.DateOnly)
			}
			line("  expires\t%s", expires)
		}
		if e.Source != "" {
			line("  known from\t%s (trust: %s)", e.Source, e.Trust)
		}
		if e.Checked != nil {
			line("  checked\t%s, fresh until %s", e.Checked.UTC().Format(time.DateTime), e.FreshUntil.UTC().Format(time.DateTime))
		}
		if e.Candidate != "" {
			line("  waiting\t%s: postern cert accept or reject", e.Candidate)
		}
	})
	if err != nil {
		return err
	}
	return table(w, "", func(line func(string, ...any)) {
		for _, s := range e.Sources {
			line("  asked %s\t%s\t%v\t%s", s.Source, s.Result, s.Took.Round(time.Millisecond), s.Detail)
		}
	})
}

// verdict is the answer in words.
func verdict(e keydir.Explanation) string {
	switch {
	case e.Answer == "found":
		return "can be encrypted to"
	case e.Lost:
		return "could be encrypted to before, cannot now (" + e.Reason + "): nothing goes in clear without your word"
	case e.Answer == "none":
		return "has no certificate (" + e.Reason + ")"
	}
	return "nobody knows (" + e.Reason + ")"
}

// Changes is the history of an address.
type Changes []keydir.Change

// WriteText implements the human form.
func (l Changes) WriteText(w io.Writer) error {
	return table(w, "TIME\tWHAT\tSOURCE\tBEFORE\tNOW", func(line func(string, ...any)) {
		for _, c := range l {
			held := ""
			if c.Held {
				held = " (mail is held)"
			}
			line("%s\t%s%s\t%s\t%s\t%s", c.Time.UTC().Format(time.DateTime), c.Rule, held, c.Source, orDash(c.Old), orDash(c.New))
		}
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// CertificateHistory lists the changes of an address's certificate, the newest first.
func (a *Admin) CertificateHistory(ctx context.Context, address string) (Changes, error) {
	addr, err := mail.ParseAddress(address)
	if err != nil {
		return nil, usage("%q: %v", address, err)
	}
	list, err := a.g.Directory.History(ctx, addr)
	return append(Changes{}, list...), err
}

// foreign reads an address that is not ours: what the directory remembers of it can be
// decided on.
func (a *Admin) foreign(address string) (mail.Address, error) {
	addr, err := mail.ParseAddress(address)
	if err != nil {
		return mail.Address{}, usage("%q: %v", address, err)
	}
	if slices.Contains(a.g.Config.Domains, addr.Domain) {
		return mail.Address{}, usage("%s is ours: postern cert import, postern cert remove", addr)
	}
	return addr, nil
}

// AcceptCertificate uses the certificate that waits for an address.
func (a *Admin) AcceptCertificate(ctx context.Context, address string) error {
	addr, err := a.foreign(address)
	if err != nil {
		return err
	}
	return explainWaiting(addr, a.g.Directory.Accept(ctx, addr))
}

// RejectCertificate refuses the certificate that waits for an address.
func (a *Admin) RejectCertificate(ctx context.Context, address string) error {
	addr, err := a.foreign(address)
	if err != nil {
		return err
	}
	return explainWaiting(addr, a.g.Directory.Reject(ctx, addr))
}

func explainWaiting(addr mail.Address, err error) error {
	if errors.Is(err, keydir.ErrNothingWaits) {
		return fmt.Errorf("no certificate of %s waits for a decision", addr)
	}
	return err
}

// PinCertificate makes the certificate in data the one for an address, above all
// sources, and returns it as it is described.
func (a *Admin) PinCertificate(ctx context.Context, address string, data []byte) (CertificateList, error) {
	addr, err := a.foreign(address)
	if err != nil {
		return nil, err
	}
	certs, err := pgp.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("the file has %d certificates: give one", len(certs))
	}
	if err := a.g.Directory.Pin(ctx, addr, certs[0]); err != nil {
		return nil, err
	}
	return CertificateList{describe(addr, certs[0], "pinned", time.Now())}, nil
}

// UnpinCertificate lets the sources decide again.
func (a *Admin) UnpinCertificate(ctx context.Context, address string) error {
	addr, err := a.foreign(address)
	if err != nil {
		return err
	}
	err = a.g.Directory.Unpin(ctx, addr)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("nothing is known of %s", addr)
	}
	return err
}
