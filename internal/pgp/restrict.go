package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// ErrOtherAddress: the certificate has no user ID for the address.
var ErrOtherAddress = errors.New("the certificate is for another address: no user ID names this one")

// RestrictOption changes what Restrict accepts.
type RestrictOption uint8

// AllowNoUserID lets a version 6 certificate without any user ID pass as it is: such
// certificates name nobody, and whoever found it knows for whom. One that names
// somebody else does not pass.
const AllowNoUserID RestrictOption = 1

// maxFoundCost is how long verifying all that one answer holds may take, in
// microseconds as estimated: whoever serves it decides how much work it makes, and
// thousands of answers may come at once.
const maxFoundCost = 100_000

// ParseFor reads the certificates that somebody publishes for an address: what
// ParseCertificates and then Restrict give, for much less work where the input was
// made to cause it, because all that does not belong to the address is dropped
// before anything is verified. ErrTooLarge if verifying the rest would take more
// than about 0.1 s.
//
// Certificates for other addresses are left out. If none is left, the error is why
// the last one for this address was not taken: ErrOtherAddress, ErrRevoked for a user ID, ErrUnsigned
// if a user ID names the address but nothing that verifies does, or another of
// ParseCertificates.
func ParseFor(data []byte, address string, options ...RestrictOption) ([]*Certificate, error) {
	if len(data) > maxInput {
		return nil, fmt.Errorf("over %d KiB: %w", maxInput>>10, ErrTooLarge)
	}
	binary, err := certificateOctets(data)
	if err != nil {
		return nil, err
	}
	raws, err := cutCertificates(binary)
	if err != nil {
		return nil, err
	}
	var certs []*Certificate
	refused, budget := ErrNoCertificate, maxFoundCost
	for _, raw := range raws {
		c, err := restrict(raw, address, slices.Contains(options, AllowNoUserID), &budget)
		switch {
		case err == nil:
			certs = append(certs, c)
		case errors.Is(err, ErrTooLarge):
			return nil, err
		case !errors.Is(err, ErrOtherAddress) || errors.Is(refused, ErrNoCertificate):
			refused = err // one that is for others says the least
		}
	}
	if len(certs) == 0 {
		return nil, refused
	}
	return certs, nil
}

// Restrict returns the certificate with only those user IDs that name the address,
// given as a look-up key (lower case, A-labels), as whoever finds a certificate for
// an address must do. The primary key, its own signatures, the subkeys and their own
// signatures stay, octet by octet; third-party certifications, user attributes and
// everything unknown go. The result is verified anew.
//
// The error wraps ErrOtherAddress if no verified user ID names the address, and
// ErrRevoked if every one that does is revoked. A revoked or expired certificate is
// no error here: ask Usable.
func (c *Certificate) Restrict(address string, options ...RestrictOption) (*Certificate, error) {
	raws, err := cutCertificates(c.data)
	if err != nil {
		return nil, fmt.Errorf("a certificate that was read before: %w", err)
	}
	budget := math.MaxInt
	restricted, err := restrict(raws[0], address, slices.Contains(options, AllowNoUserID), &budget)
	if errors.Is(err, ErrUnsigned) {
		return nil, ErrOtherAddress // something is signed, but not this
	}
	return restricted, err
}

// restrict drops what does not belong to the address and reads what is left. The
// estimated cost of that is taken off the budget before.
func restrict(raw *rawCertificate, address string, allowNoUserID bool, budget *int) (*Certificate, error) {
	parts := componentsOf(raw)
	named := slices.ContainsFunc(parts, func(p component) bool { return p.tag == tagUserID && names(p, address) })
	nobody := !slices.ContainsFunc(parts, func(p component) bool { return p.tag == tagUserID })
	v, err := newVerifier(parts[0].rawPacket)
	if err != nil {
		return nil, err
	}
	if !named && !(nobody && allowNoUserID && v.version == 6) {
		return nil, ErrOtherAddress
	}
	var kept []component
	for _, p := range parts {
		if p.tag == tagUserID && !names(p, address) {
			continue
		}
		p.own = p.ownSignatures(v)
		if len(p.own) > 0 || p.tag == tagPublicKey { // else it is bound to the primary key by nothing
			kept = append(kept, p)
		}
	}
	if *budget -= cost(kept); *budget < 0 {
		return nil, fmt.Errorf("too many signatures: %w", ErrTooLarge)
	}
	c, err := parseExactly(octets(kept))
	if err != nil {
		return nil, err
	}
	if named && !c.HasAddress(address) {
		if len(c.userIDs) > 0 {
			return nil, fmt.Errorf("every user ID for the address: %w", ErrRevoked)
		}
		return nil, ErrUnsigned
	}
	// A user ID that names the address, and for which no signature verified.
	kept = slices.DeleteFunc(kept, func(p component) bool {
		return p.tag == tagUserID && !slices.ContainsFunc(c.userIDs, func(u userID) bool { return u.text == string(p.body) })
	})
	c.data, c.origin = octets(kept), raw.data
	return c, nil
}

// names says whether a user ID is one for the address.
func names(p component, address string) bool {
	return address != "" && addressKey(string(p.body)) == address
}

// newVerifier returns one that knows the signatures of a primary key.
func newVerifier(primary rawPacket) (*verifier, error) {
	material, err := inspectKey(primary.body)
	if err != nil {
		return nil, err
	}
	if !material.canCertify() {
		return nil, fmt.Errorf("primary key %s cannot sign: %w", material.name, ErrAlgorithm)
	}
	key, err := readPublicKey(primary)
	if err != nil {
		return nil, err
	}
	return &verifier{primary: key, version: material.version}, nil
}

// octets are the packets of parts with their own signatures.
func octets(parts []component) []byte {
	var data []byte
	for _, p := range parts {
		data = append(data, p.raw...)
		for _, s := range p.own {
			data = append(data, s.raw...)
		}
	}
	return data
}

// cost estimates how many microseconds it takes to verify the parts' signatures.
func cost(parts []component) int {
	const octetsPerMicrosecond = 200 // of hashing
	primary := parts[0]
	all := 0
	for _, p := range parts {
		cross := 0 // of a subkey's signature about the primary key
		if p.tag == tagPublicSubkey {
			cross = checkMicros(p.body)
		}
		for _, s := range p.own {
			all += checkMicros(primary.body) + (len(primary.body)+len(p.body)+len(s.body))/octetsPerMicrosecond
			if s.sig.FlagSign {
				all += cross
			}
		}
	}
	return all
}

// checkMicros estimates what verifying one signature by a key costs.
func checkMicros(body []byte) int {
	material, err := inspectKey(body)
	if err != nil {
		return 0 // is not verified
	}
	switch material.algorithm {
	case algoRSA, algoRSASignOnly:
		at := 6
		if material.version == 6 {
			at = 10
		}
		n, rest, _ := cutMPI(body[at:])
		e, _, _ := cutMPI(rest)
		steps := bitLength(e) // squarings, and one multiplication for each one bit
		for _, o := range e {
			steps += bits.OnesCount8(o)
		}
		kilobits := (bitLength(n) + 1023) / 1024
		return 2 * kilobits * kilobits * steps
	case algoECDSA, algoEd448:
		return 1000
	}
	return 100
}

// parseExactly reads data that holds one certificate.
func parseExactly(data []byte) (*Certificate, error) {
	raws, err := cutCertificates(data)
	if err != nil {
		return nil, err
	}
	return newCertificate(raws[0])
}

// component is a part of a certificate that signatures are about, with those that
// follow it: the primary key, a user ID, a subkey, or something else.
type component struct {
	rawPacket
	signatures []rawPacket
	own        []signaturePacket // as ownSignatures finds them, where that was asked
}

// components cuts the certificate's octets. The first is the primary key.
func (c *Certificate) components() ([]component, error) {
	raws, err := cutCertificates(c.data)
	if err != nil {
		return nil, fmt.Errorf("a certificate that was read before: %w", err)
	}
	return componentsOf(raws[0]), nil
}

// componentsOf sorts a certificate's packets. What belongs to nothing is left out.
func componentsOf(raw *rawCertificate) []component {
	var parts []component
	for _, p := range raw.packets {
		switch p.tag {
		case tagSignature:
			last := &parts[len(parts)-1]
			last.signatures = append(last.signatures, p)
		case tagTrust, tagMarker, tagPadding:
		default:
			parts = append(parts, component{rawPacket: p})
		}
	}
	return parts
}

// ownSignatures are those that the certificate's primary key is said to have made
// about this part of it, of a type that belongs there. Whether they verify is found
// out by whoever reads the result.
func (p *component) ownSignatures(v *verifier) []signaturePacket {
	var own []signaturePacket
	for _, raw := range p.signatures {
		got, err := packet.Read(bytes.NewReader(raw.raw))
		if sig, ok := got.(*packet.Signature); ok && err == nil && v.candidate(sig) && belongs(p.tag, sig.SigType) {
			own = append(own, signaturePacket{rawPacket: raw, sig: sig})
		}
	}
	return own
}

// signaturePacket is a signature in both forms.
type signaturePacket struct {
	rawPacket
	sig *packet.Signature
}

// belongs says whether a self-signature of a type means something about a part of
// the certificate (RFC 9580 10.1.5).
func belongs(tag byte, t packet.SignatureType) bool {
	switch tag {
	case tagPublicKey:
		return t == packet.SigTypeDirectSignature || t == packet.SigTypeKeyRevocation
	case tagUserID:
		return t == packet.SigTypeGenericCert || t == packet.SigTypePersonaCert || t == packet.SigTypeCasualCert ||
			t == packet.SigTypePositiveCert || t == packet.SigTypeCertificationRevocation
	case tagPublicSubkey:
		return t == packet.SigTypeSubkeyBinding || t == packet.SigTypeSubkeyRevocation
	}
	return false
}

func isRevocation(t packet.SignatureType) bool {
	return t == packet.SigTypeKeyRevocation || t == packet.SigTypeCertificationRevocation || t == packet.SigTypeSubkeyRevocation
}
