package keydir

import (
	"net/http"
	"strings"
)

// vks answers a request of the interface of verifying key servers, as keys.openpgp.org
// describes it; rest is what follows "/vks/v1/".
func (e *exchange) vks(rest string) {
	what, id, _ := strings.Cut(rest, "/")
	switch what {
	case "upload", "request-verify":
		e.json(http.StatusNotImplemented, map[string]string{"error": noUpload})
		return
	}
	if e.readOnly() {
		return
	}
	look := e.noLookup
	switch what {
	case "by-email":
		look = e.byIdentity
	case "by-fingerprint":
		look = e.byFingerprint
	case "by-keyid":
		look = e.byKeyID
	}
	if k, ok := look(id); ok {
		e.found(k.armored(), e.fixed.armored)
	}
}

// noUpload is told to those who bring certificates.
const noUpload = "this server gives out the certificates of its own users and takes none by HTTP"

// noLookup finds nothing by nothing.
func (e *exchange) noLookup(string) (pick, bool) {
	e.absent()
	return pick{}, false
}
