package msgauth

import (
	"context"
	"strings"

	"blitiri.com.ar/go/spf"

	"postern/internal/mail"
)

// spfIdentity returns the identity to be checked: the reverse-path, or for the
// null reverse-path the name in HELO (RFC 7208 2.4).
func spfIdentity(req *Request) SPFIdentity {
	id := SPFIdentity{Local: req.From.Local, Domain: req.From.Domain}
	if req.From.IsNull() {
		id = SPFIdentity{Helo: true}
		if d, err := mail.ParseDomain(strings.TrimSuffix(req.Helo, ".")); err == nil {
			id.Domain = d
		}
	}
	if !req.IP.IsValid() || !isDomain(id.Domain) {
		id.Domain = "" // RFC 7208 4.3: nothing to check
	}
	return id
}

// checkSPF evaluates the policy of id's domain. id.Domain is not empty.
func checkSPF(ctx context.Context, resolver Resolver, req *Request, id SPFIdentity) Result {
	local := id.Local
	if local == "" || strings.IndexByte(local, '@') >= 0 {
		// RFC 7208 4.3 for the first; for the second the library would take
		// what follows the first @ of a quoted local-part for the domain.
		local = "postmaster"
	}
	result, _ := spf.CheckHostWithSender(req.IP.Unmap().AsSlice(), req.Helo, local+"@"+id.Domain,
		spf.WithContext(ctx), spf.WithResolver(resolver))
	return Result(result) // the same words
}
