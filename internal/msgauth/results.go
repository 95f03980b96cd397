package msgauth

import "strings"

// Result is the outcome of one method, in the words of RFC 8601 2.7.
type Result string

// The results. The zero value is the empty string and is never returned.
const (
	None      Result = "none"      // nothing to check
	Pass      Result = "pass"      // authorised
	Fail      Result = "fail"      // not authorised, or the signature is wrong
	SoftFail  Result = "softfail"  // SPF: probably not authorised
	Neutral   Result = "neutral"   // SPF: the domain says nothing
	Policy    Result = "policy"    // DKIM: a signature that we do not accept
	TempError Result = "temperror" // nobody knows; later it may be known
	PermError Result = "permerror" // what is published or signed cannot be read
)

// Results is what was found out about one message. It holds text of the peer:
// it is for Field, for Summary and for decisions, not for a log.
type Results struct {
	// SPF is the result for Sender.
	SPF Result
	// Sender is the identity that SPF checked.
	Sender SPFIdentity
	// DKIM has one element for each signature that was looked at, in the order
	// of the header section, at most MaxSignatures.
	DKIM []DKIMResult
	// Signatures is how many DKIM signatures the message carries.
	Signatures int
	// DMARC is the result for Author.
	DMARC Result
	// Author is the Author Domain, the one in the From field (RFC 9989 3.2.2),
	// or empty if there is not exactly one.
	Author string
	// Published is what Author's domain asks for.
	Published DMARCPolicy
	// Aligned says that the domain in the From field vouches for the message:
	// DMARC passed. Nothing less may be believed of From.
	Aligned bool
}

// SPFIdentity is who was checked by SPF (RFC 7208 2.3, 2.4).
type SPFIdentity struct {
	// Helo is true if the reverse-path is null and the name in HELO stood in.
	Helo bool
	// Local is the local-part of the reverse-path, empty if Helo is set.
	Local string
	// Domain is the domain that was checked; empty if there was none to check.
	Domain string
}

// DKIMResult is the result for one signature.
type DKIMResult struct {
	Result Result
	// Domain and Selector are the tags d= and s=; Domain is in lower case. Both
	// are empty if they cannot be read.
	Domain, Selector string
	// Algorithm is the tag a=.
	Algorithm string
	// Start is the first 8 characters of b=, which tell signatures of one
	// domain apart (RFC 6008).
	Start string
	// Reason says in our words why the result is not pass.
	Reason string
	// Aligned says that Domain is aligned with the Author Domain under the
	// DMARC policy. It is found out only if Result is pass or temperror.
	Aligned bool
}

// DMARCPolicy is the policy that applies to the Author Domain (RFC 9989 4.7).
type DMARCPolicy struct {
	// Domain is where the record was found; empty if there is none.
	Domain string
	// Request is what the domain asks to be done with mail that fails: none,
	// quarantine or reject; from p=, sp= or np=. RFC 9989 7.4: receivers do not
	// reject for "reject" alone.
	Request string
	// Testing is t=y: the domain asks for one step less than Request.
	Testing bool
	// SPFAligned says that SPF passed for an aligned domain.
	SPFAligned bool
	// DKIMAligned says that an aligned signature passed.
	DKIMAligned bool
}

// Summary returns one word for each method, for the provenance. For DKIM it is
// pass if any signature passed, else temperror if any might have, else fail if
// there is any, else none.
func (r Results) Summary() (spf, dkim, dmarc string) {
	return word(r.SPF), word(r.dkim()), word(r.DMARC)
}

func (r Results) dkim() Result {
	sum := None
	for _, s := range r.DKIM {
		switch {
		case s.Result == Pass:
			return Pass
		case s.Result == TempError:
			sum = TempError
		case sum == None:
			sum = Fail
		}
	}
	return sum
}

// word makes sure that a zero Results does not print as nothing.
func word(r Result) string {
	if r == "" {
		return string(None)
	}
	return string(r)
}

// isDomain reports whether s, in lower case, has the form of a domain name with
// at least two labels that mail can be sent from.
func isDomain(s string) bool {
	return strings.IndexByte(s, '.') > 0 && s[0] != '['
}
