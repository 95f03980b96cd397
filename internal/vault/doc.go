// Package vault keeps the gateway's own secrets, in a directory of its own apart
// from the mail: the key that signs provenance (Ed25519, RFC 8032), the hold key
// that opens mail waiting for its owner's certificate (OpenPGP), and a master
// secret from which others are derived (HKDF, RFC 5869), among them the one that
// what waits in the queue in clear is locked with (spool.go).
//
// It signs, opens and derives; it never hands out a secret key. It never holds a
// key that opens anybody's own mail, and nobody's passwords. A backup of the data
// without this directory opens nothing; the directory itself has to be kept
// elsewhere and safe: without it, held mail and what is locked in the queue are lost.
//
//	provenance.key   Ed25519 secret key, PEM (PKCS #8)
//	provenance.pub   its public key, PEM (PKIX), to be published
//	hold.key         OpenPGP secret key, armored, no passphrase
//	hold.pub         its certificate, armored
//	master.secret    32 random octets, in hex
//	dkim/            the keys that mail is signed with, see dkim.go
//	request-*.key    OpenPGP secret keys, armored: one for each domain, that opens the
//	                 requests to publish a certificate (request.go), made when first needed
//
// The secret ones have mode 0600, the directory 0700; Open refuses anything wider.
package vault
