package pgp

import "errors"

// Why a certificate is not accepted or cannot be sealed to. Their texts are made
// for the person who imports the certificate: they say what to do.
var (
	// ErrNoCertificate: the input holds no OpenPGP certificate at all, or is cut off.
	ErrNoCertificate = errors.New("no OpenPGP certificate found: export it again (gpg --armor --export ADDRESS) and give the whole block")
	// ErrSecretKey: the input holds a secret key, which must never reach a server.
	ErrSecretKey = errors.New("this is a SECRET key: keep it on your own device and import the public part only (gpg --armor --export ADDRESS)")
	// ErrTooLarge: over one of the limits of the package comment.
	ErrTooLarge = errors.New("too large: export a smaller certificate (gpg --export-options export-minimal --armor --export ADDRESS)")
	// ErrAlgorithm: an algorithm, a curve, a version or a size we do not seal to.
	ErrAlgorithm = errors.New("algorithm not supported: make a new certificate with Curve25519, a NIST curve, or RSA of 2048 to 8192 bits")
	// ErrWeak: an algorithm that we know, too weak to seal to.
	ErrWeak = errors.New("key too weak: make a new certificate with Curve25519 or RSA of at least 3072 bits")
	// ErrUnsigned: no self-signature verifies, so nothing in it can be believed.
	ErrUnsigned = errors.New("no valid self-signature: the certificate is damaged or forged, export it again from where it was made")
	// ErrExpired: the certificate, or every encryption subkey, has expired.
	ErrExpired = errors.New("expired: extend the expiry date and publish or import the certificate again")
	// ErrRevoked: the certificate, or every encryption subkey, is revoked.
	ErrRevoked = errors.New("revoked: import the certificate that replaces it")
	// ErrNotYetValid: everything in it is dated in the future.
	ErrNotYetValid = errors.New("not valid yet: made in the future, check the clocks")
	// ErrNoEncryptionSubkey: valid, but with nothing stored mail may be sealed to.
	ErrNoEncryptionSubkey = errors.New("no subkey for encrypting stored mail: add an encryption subkey and import the certificate again")
)

// Why sealing failed. These are mistakes of the caller, or a certificate that
// stopped being usable between look-up and sealing.
var (
	// ErrNoRecipients: a message cannot be sealed to nobody.
	ErrNoRecipients = errors.New("no certificate to seal to")
	// ErrSize: the payload is not as long as was announced, or over 4 GiB.
	ErrSize = errors.New("payload size is not the announced size")
	// ErrVersion: a v4 certificate cannot share a message sealed for v6 ones only.
	ErrVersion = errors.New("certificate is of an older version than the message is sealed for")
)

// Why a message or a secret key could not be opened.
var (
	// ErrNotEncrypted: not an OpenPGP encrypted message.
	ErrNotEncrypted = errors.New("not an OpenPGP encrypted message")
	// ErrNotForKey: none of the session key packets is for this secret key.
	ErrNotForKey = errors.New("the message is not encrypted to this key")
	// ErrIntegrity: damaged or tampered with; nothing of the text is released. Also
	// every other fault behind a decrypted session key, so that the answer tells an
	// attacker nothing about the plaintext.
	ErrIntegrity = errors.New("the message is damaged or was tampered with: nothing of it is shown")
	// ErrNoIntegrity: Symmetrically Encrypted Data (type 9) has no integrity
	// protection and is refused (RFC 9580 5.7).
	ErrNoIntegrity = errors.New("the message has no integrity protection (obsolete packet type 9) and is refused")
	// ErrMessageTooLarge: the plaintext is over the limit.
	ErrMessageTooLarge = errors.New("the decrypted message is over the size limit")
	// ErrNoSecretKey: the input holds no secret key.
	ErrNoSecretKey = errors.New("no OpenPGP secret key found: export it on the device that holds it (gpg --armor --export-secret-keys ADDRESS)")
	// ErrPassphrase: the secret key is locked and the passphrase is missing or wrong.
	ErrPassphrase = errors.New("the secret key is protected by a passphrase, which is missing or wrong")
)

// errSignatureType: a signature that does not belong where it stands.
var errSignatureType = errors.New("signature of a type that means nothing here")
