package mail

// Trust is how much the source of a certificate is believed. A greater trust is a
// stronger one; a weaker source never replaces a stronger one's certificate.
type Trust uint8

// The five steps, and the zero value, which nothing that was found has.
const (
	NoTrust    Trust = iota
	Unverified       // key servers: anybody could have put it there
	Observed         // Autocrypt in mail that DMARC aligned with its author
	Published        // the domain itself says so: WKD, DANE
	Own              // an account of this gateway
	Pinned           // the operator or the account's owner said so
)

func (t Trust) String() string {
	names := [...]string{"none", "unverified", "observed", "published", "own", "pinned"}
	if int(t) < len(names) {
		return names[t]
	}
	return "invalid"
}
