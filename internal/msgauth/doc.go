// Package msgauth says who may have sent a message: SPF (RFC 7208), DKIM
// (RFC 6376, 8301, 8463) and DMARC (RFC 9989), and writes what it found as an
// Authentication-Results field (RFC 8601). It also signs by DKIM what leaves, with
// keys that it is handed as crypto.Signers.
//
// A check always ends in a result and never in an error: mail is never lost
// because a name server is down. The package never refuses a message, never
// signs for another domain than it is told or with the tag l=, never reads the body of a message that carries no DKIM signature
// which could still verify, and never puts text of the peer into a field
// without making it harmless first.
//
// Files: verify.go is the order of the checks; spf.go, signature.go and dkim.go,
// record.go, walk.go and dmarc.go are the three methods; results.go and field.go
// what comes out; sign.go signs. view.go is what they see of the DNS.
//
//	RFC 7208  SPF                     yes, by blitiri.com.ar/go/spf
//	RFC 6376  DKIM                    verification, by emersion/go-msgauth; signing, relaxed/relaxed
//	RFC 8301  DKIM key sizes          1024 to 8192 bits, no rsa-sha1
//	RFC 8463  DKIM Ed25519            yes
//	RFC 8601  Authentication-Results  written; reading is not needed here
//	RFC 9989  DMARC                   evaluation and tree walk; no reports
package msgauth
