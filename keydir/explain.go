package keydir

import (
	"context"
	"time"

	"postern/internal/mail"
)

// Explanation is why the directory answers what it answers.
type Explanation struct {
	Address string `json:"address"`
	Answer  string `json:"answer"` // "found", "none" or "unknown"
	Reason  string `json:"reason,omitempty"`
	Lost    bool   `json:"encrypted_before,omitempty"`
	// Of the certificate that would be used.
	Fingerprint string     `json:"fingerprint,omitempty"`
	Algorithm   string     `json:"algorithm,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Source      string     `json:"source,omitempty"`
	Trust       string     `json:"trust,omitempty"`
	Checked     *time.Time `json:"checked,omitempty"`
	FreshUntil  *time.Time `json:"fresh_until,omitempty"`
	Candidate   string     `json:"waiting_for_a_decision,omitempty"`
	// Sources is what each source says now; what it says is not remembered.
	Sources []Asked `json:"sources"`
	// Result is the answer itself.
	Result Answer `json:"-"`
}

// Explain says what mail to an address would get, and what each source says at this
// moment. Unlike Lookup it asks every source.
func (d *Directory) Explain(ctx context.Context, address mail.Address) Explanation {
	find, hosted := d.Lookup, d.Hosted(address.Domain)
	if hosted {
		find = d.Own
	}
	a, now := find(ctx, address), d.Now()
	e := Explanation{
		Address: address.String(), Answer: word(a.Kind), Reason: a.Reason, Lost: a.Lost, Fingerprint: a.Fingerprint,
		Source: a.Source, Candidate: a.Candidate, Sources: []Asked{}, Result: a,
	}
	if a.Trust != NoTrust {
		e.Trust = a.Trust.String()
	}
	if !a.Checked.IsZero() && !hosted { // what is ours is always fresh
		e.Checked, e.FreshUntil = &a.Checked, &a.FreshUntil
	}
	if certs, err := a.Certificates(now); err == nil {
		e.Fingerprint, e.Algorithm = certs[0].Fingerprint(), certs[0].Algorithm()
		if at, ok := certs[0].Expires(); ok {
			e.Expires = &at
		}
	}
	if hosted {
		return e
	}
	for _, s := range d.Sources {
		e.Sources = append(e.Sources, d.askOne(ctx, s, address).asked)
	}
	return e
}

func word(k mail.Answer) string {
	switch k {
	case mail.Found:
		return "found"
	case mail.None:
		return "none"
	}
	return "unknown"
}
