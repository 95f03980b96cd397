// Package pgp is the gateway's OpenPGP (RFC 9580): it reads certificates, chooses
// the subkey that stored mail is sealed to, seals, and tells by the packets whether
// a message is encrypted already. It also opens messages, for the owner's tools and
// for the gateway's hold key.
//
// It is the only importer of the OpenPGP library, go-crypto. It never looks a
// certificate up, never decides whether a message must be sealed, never signs or
// verifies messages, never compresses, and never writes a file. No clear text and no
// secret is in any error.
//
//	certificate.go  Certificate, ParseCertificates
//	prefilter.go    limits, before the library sees a single octet
//	selfsig.go      self-signatures and revocations
//	subkey.go       which key to seal to, and why none
//	restrict.go     only the user IDs of one address; merge.go two forms of one key
//	succession.go   a key certified by the one it replaces
//	seal.go         Sealing: Encrypt once, Wrap for every recipient
//	seipd1.go       SEIPD version 1 (CFB and MDC); cfb.go the cipher mode
//	seipd2.go       SEIPD version 2 (AEAD), for version 6 certificates only
//	armor.go        ASCII armor out; dearmor.go in; crc24.go its checksum
//	packet.go       packet framing
//	inspect.go      Inspect: encrypted already?
//	reframe.go      the same ciphertext in the form that strict readers want
//	minimal.go      as little of a certificate as Autocrypt wants
//	secret.go       SecretKey; open.go its Decrypt
//
// # Certificates from outside
//
// Anybody may offer a certificate, so everything about it is bounded before it is
// computed with. What happens to bad ones, each with a test (TestBadInput):
//
//	input                                 outcome
//	plain garbage, nothing, cut off       ErrNoCertificate
//	a secret key                          ErrSecretKey, whatever else is in the input
//	over 1 MiB of input                   ErrTooLarge
//	over 256 KiB for one certificate      ErrTooLarge
//	10,000 user IDs (over 100)            ErrTooLarge
//	over 64 subkeys, 1,000 signatures     ErrTooLarge
//	over 250 self-signature checks        ErrTooLarge
//	RSA of 10,000 bits (over 8,192)       ErrAlgorithm, before any arithmetic
//	RSA under 2,048 bits                  ErrWeak
//	DSA primary key, of any size          ErrAlgorithm, before any arithmetic
//	ElGamal, DSA or unknown subkey        the subkey is dropped, the rest is used
//	Brainpool, secp256k1, post-quantum    ErrAlgorithm; as a subkey: dropped
//	no self-signature that verifies       ErrUnsigned
//	expired                               is read; Usable says ErrExpired
//	revoked, also after the fact          is read; Usable says ErrRevoked
//	dated in the future                   is read; Usable says ErrNotYetValid
//	without an encryption subkey          is read; Usable says ErrNoEncryptionSubkey
//	only subkeys that rotate away         is read; Usable says ErrNoEncryptionSubkey
//
// A bad user ID, signature or subkey costs only itself. Of several certificates in
// one input the bad ones are left out, except for the limits and for secret keys,
// which refuse the input.
//
// # Formats
//
// Sealed messages have new-format packet headers with definite lengths, PKESK
// version 3 and SEIPD version 1 with AES-256, one Literal packet, and armor with CRLF
// and CRC-24: what every client in use reads. SEIPD version 2 with PKESK version 6 is
// used only if every certificate is of version 6 and asks for it.
package pgp
