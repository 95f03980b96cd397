package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern/internal/mail"
	"postern/internal/vault"
)

// Rotation is where the change to a domain's next DKIM keys stands.
type Rotation struct {
	Domain    string   `json:"domain"`
	Selectors []string `json:"selectors"` // of the keys that this is about
	Active    bool     `json:"active"`    // they sign
	DNS       []string `json:"dns"`       // their records, in zone file form
}

// RotateDKIM makes the next keys of one of our domains, which sign nothing yet; if there
// are such keys already, it returns those. Once their records are published,
// ActivateDKIM makes them those that sign.
func (a *Admin) RotateDKIM(domain string) (*Rotation, error) {
	domain, err := a.ownDomain(domain)
	if err != nil {
		return nil, err
	}
	keys, err := vault.CreateDKIM(a.g.Config.KeysDir, domain, time.Now())
	if err != nil {
		return nil, err
	}
	return newRotation(domain, keys), nil
}

// ActivateDKIM makes the next keys of one of our domains those that sign, from the next
// reload of a running server on. With askDNS it first looks whether others can find both
// of them, and refuses if not.
func (a *Admin) ActivateDKIM(ctx context.Context, domain string, askDNS bool) (*Rotation, error) {
	domain, err := a.ownDomain(domain)
	if err != nil {
		return nil, err
	}
	all, err := vault.LoadDKIM(a.g.Config.KeysDir)
	if err != nil {
		return nil, err
	}
	if askDNS {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for _, txt := range dkimRecords(all.Next(domain)) {
			switch there, err := published(ctx, a.g, txt); {
			case err != nil:
				return nil, fmt.Errorf("nothing was changed: %s: %s", txt.name, explainDNS(err, "is not in the DNS; publish: "+txt.line()))
			case !there:
				return nil, fmt.Errorf("nothing was changed: %s is another record in the DNS; publish: %s", txt.name, txt.line())
			}
		}
	}
	keys, err := vault.ActivateDKIM(a.g.Config.KeysDir, domain)
	if errors.Is(err, vault.ErrNoDKIM) {
		return nil, fmt.Errorf("%w: postern dkim rotate %s makes them", err, domain)
	}
	if err != nil {
		return nil, err
	}
	return newRotation(domain, keys), nil
}

// ownDomain reads the name of a domain that is ours.
func (a *Admin) ownDomain(name string) (string, error) {
	domain, err := mail.ParseDomain(name)
	if err != nil {
		return "", usage("%q: %v", name, err)
	}
	if !slices.Contains(a.g.Config.Domains, domain) {
		return "", usage("%s is none of our domains: %s", domain, strings.Join(a.g.Config.Domains, ", "))
	}
	return domain, nil
}

func newRotation(domain string, keys vault.DKIMKeys) *Rotation {
	r := &Rotation{Domain: domain, Selectors: []string{}, DNS: lines(dkimRecords(keys))}
	for _, k := range keys {
		r.Selectors = append(r.Selectors, k.Selector)
		r.Active = k.Active
	}
	return r
}

// WriteText implements the human form.
func (r *Rotation) WriteText(w io.Writer) error {
	if r.Active {
		_, err := fmt.Fprintf(w, "Mail of %s is signed with %s, by a running server once it gets SIGHUP. Leave the records of the old keys for a week: mail that they signed may still be on its way.\n",
			r.Domain, strings.Join(r.Selectors, " and "))
		return err
	}
	_, err := fmt.Fprintf(w, "The next keys of %s are made, and sign nothing yet. Publish their records:\n  %s\nand when they can be found, not before:\n  postern dkim rotate %s --activate\n",
		r.Domain, strings.Join(r.DNS, "\n  "), r.Domain)
	return err
}
