package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	// DefaultOpenLimit is the most plaintext Decrypt holds, in octets.
	DefaultOpenLimit = 64 << 20
	// maxAnonymous is how many session keys without a name are tried.
	maxAnonymous = 64
)

// Decrypt opens a message, binary or in armor, of at most DefaultOpenLimit octets.
func (k *SecretKey) Decrypt(r io.Reader) (plaintext io.Reader, err error) {
	return k.DecryptLimit(r, DefaultOpenLimit)
}

// DecryptLimit opens a message whose content has at most limit octets; the same
// limit holds for what compressed data becomes. Nothing is released before the
// integrity of everything has been checked (RFC 9580 13.3 and EFAIL), which is why
// it is held in memory. Signatures inside are skipped, not verified.
//
// Session keys that name one of our keys are tried first, then anonymous ones.
// Errors wrap ErrNotEncrypted, ErrNotForKey, ErrNoIntegrity, ErrIntegrity,
// ErrMessageTooLarge, or the error of r.
func (k *SecretKey) DecryptLimit(r io.Reader, limit int64) (plaintext io.Reader, err error) {
	source := &watchedReader{r: r}
	text, err := k.decrypted(source, limit)
	if source.err != nil {
		return nil, fmt.Errorf("read message: %w", source.err)
	}
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(text), nil
}

func (k *SecretKey) decrypted(r io.Reader, limit int64) ([]byte, error) {
	s, err := openMessage(r)
	if err != nil {
		return nil, messageFault(err, ErrNotEncrypted)
	}
	named, anonymous, err := k.sessionKeys(s)
	if err != nil {
		return nil, messageFault(err, ErrNotEncrypted)
	}
	// The library reads the packet from its own header on.
	got, err := packet.Read(io.MultiReader(bytes.NewReader(s.head[:s.nhead]), s.r))
	if err != nil {
		return nil, messageFault(err, ErrNotEncrypted)
	}
	data, ok := got.(*packet.SymmetricallyEncrypted)
	if !ok {
		return nil, ErrNotEncrypted
	}
	content, err := decryptWithAny(data, append(named, anonymous...))
	if err != nil {
		return nil, err
	}
	text, err := readContent(content, limit)
	if err != nil {
		return nil, messageFault(err, ErrIntegrity)
	}
	if _, err := s.r.ReadByte(); err != io.EOF {
		return nil, messageFault(err, ErrIntegrity)
	}
	return text, nil
}

// candidate is a session key packet and a secret key that may open it.
type candidate struct {
	body []byte
	key  *packet.PrivateKey
}

// sessionKeys reads up to the header of the encrypted data packet.
func (k *SecretKey) sessionKeys(s *packetStream) (named, anonymous []candidate, err error) {
	for seen := 0; ; seen++ {
		if err := s.next(); err != nil {
			return nil, nil, err
		}
		switch s.tag {
		case tagMarker, tagPadding, tagSKESK:
			continue // next skips the body
		case tagSEIPD:
			if seen == 0 {
				return nil, nil, errFraming
			}
			return named, anonymous, nil
		case tagSED:
			return nil, nil, ErrNoIntegrity
		case tagPKESK:
		default:
			return nil, nil, errFraming
		}
		body, err := s.body(maxSessionKey)
		if err != nil || len(body) < 2 || seen > maxSessionKeys {
			return nil, nil, errors.Join(err, errFraming)
		}
		keys, isNamed := k.keysFor(body)
		for _, key := range keys {
			if isNamed {
				named = append(named, candidate{body, key})
			} else if len(anonymous) < maxAnonymous {
				anonymous = append(anonymous, candidate{body, key})
			}
		}
	}
}

// decryptWithAny finds the session key and starts the decryption.
func decryptWithAny(data *packet.SymmetricallyEncrypted, candidates []candidate) (io.ReadCloser, error) {
	for _, c := range candidates {
		// Versions must not be mixed (RFC 9580 10.3.2.1).
		if (c.body[0] == 3) != (data.Version == 1) {
			continue
		}
		raw := append(appendHeader(nil, tagPKESK, int64(len(c.body))), c.body...)
		got, err := packet.Read(bytes.NewReader(raw))
		wrapped, ok := got.(*packet.EncryptedKey)
		if err != nil || !ok || wrapped.Decrypt(c.key, nil) != nil {
			continue
		}
		cipher := wrapped.CipherFunc
		if data.Version == 2 {
			cipher = data.Cipher
		}
		if !cipher.IsSupported() || len(wrapped.Key) != cipher.KeySize() {
			continue
		}
		content, err := data.Decrypt(cipher, wrapped.Key)
		if err != nil {
			return nil, messageFault(err, ErrIntegrity)
		}
		return content, nil
	}
	return nil, ErrNotForKey
}

// readContent reads the literal data inside and then everything to the end, where
// the integrity is checked.
func readContent(content io.ReadCloser, limit int64) ([]byte, error) {
	packets := packet.NewCheckReader(content)
	var text []byte
	found := false
	for {
		p, err := packets.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		switch p := p.(type) {
		case *packet.Compressed:
			inside := limit + 1<<16 // headers and signatures
			if err := packets.Push(p.LimitedBodyReader(&inside)); err != nil {
				return nil, err
			}
		case *packet.LiteralData:
			if text, err = io.ReadAll(io.LimitReader(p.Body, limit+1)); err != nil {
				return nil, err
			}
			if found = true; int64(len(text)) > limit {
				return nil, ErrMessageTooLarge
			}
		}
	}
	if err := content.Close(); err != nil {
		return nil, err
	}
	if !found {
		return nil, errFraming
	}
	return text, nil
}

// messageFault keeps our own errors and makes every other fault of the content one
// of the given kind, so that no detail of it shows.
func messageFault(err, kind error) error {
	if errors.Is(err, pgperrors.ErrMessageTooLarge) {
		return ErrMessageTooLarge
	}
	for _, ours := range []error{ErrMessageTooLarge, ErrNoIntegrity, ErrNotForKey} {
		if errors.Is(err, ours) {
			return ours
		}
	}
	return kind
}

// watchedReader remembers the first error of a reader, to tell it from faults of
// what was read.
type watchedReader struct {
	r   io.Reader
	err error // nil, or what was not io.EOF
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF && w.err == nil {
		w.err = err
	}
	return n, err
}
