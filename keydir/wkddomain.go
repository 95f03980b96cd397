package keydir

import (
	"context"
	"crypto/x509"
	"errors"
	"syscall"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

const (
	// publishedFor is how long after its last certificate a domain is taken for one
	// that has a directory, and publishedNoted how often that is written down.
	publishedFor   = 365 * 24 * time.Hour
	publishedNoted = 24 * time.Hour
)

// DomainStore remembers which domains have a Web Key Directory. *store.Store is one.
type DomainStore interface {
	Known(ctx context.Context, addressKey string) (store.Known, error)
	Learn(ctx context.Context, l store.Learned) error
}

// errNoDirectory: the host answered, and as one does that has no directory.
var errNoDirectory = errors.New("the web server keeps no directory")

// keepsNone says whether an error of the direct method shows that the domain's web
// server keeps no directory, as the table of WKD has it. Somebody between us and the
// host could make it look so, as he could with what DNS says; whom we know to have a
// directory is not believed it.
func keepsNone(err error, domain string) bool {
	var e *SourceError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Cause {
	case CauseAddress, CauseRedirect:
		return true
	case CauseConnect:
		return errors.Is(e.Err, syscall.ECONNREFUSED)
	case CauseTLS:
		var invalid x509.CertificateInvalidError
		expired := errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired
		return !expired || invalid.Cert == nil || invalid.Cert.VerifyHostname(domain) != nil
	}
	return errors.Is(e.Err, errNoDirectory)
}

// domainKey is the row in which it stands that a domain has a directory. It is the
// address of nobody, and no look-up asks for it.
func domainKey(domain string) string { return "@" + domain }

// none is the answer of a host that keeps no directory, if its domain never had one.
func (w *WKD) none(ctx context.Context, domain string, why error) (Finding, error) {
	if w.domains != nil {
		k, err := w.domains.Known(ctx, domainKey(domain))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return Finding{}, unknown(CauseStore, err, "whether the domain has a directory cannot be read")
		}
		if err == nil && w.now().Sub(k.Checked) < publishedFor {
			return Finding{}, why
		}
	}
	return Finding{Detail: "no directory: " + why.Error()}, nil
}

// remember writes down that the domain has a directory. If that fails so does writing
// down what was found there, and nothing is used of it.
func (w *WKD) remember(ctx context.Context, domain string) {
	if w.domains == nil {
		return
	}
	now := w.now()
	k, err := w.domains.Known(ctx, domainKey(domain))
	if err != nil && !errors.Is(err, store.ErrNotFound) || now.Sub(k.Checked) < publishedNoted {
		return
	}
	row := store.Known{Address: domainKey(domain), Kind: uint8(mail.Found), Source: w.Name(), Checked: now, FreshUntil: now.Add(publishedFor)}
	_ = w.domains.Learn(ctx, store.Learned{Known: row, Was: k.Checked})
}
