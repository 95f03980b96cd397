package pgp

import (
	"errors"
	"fmt"
	"io"
)

// errChanged: what is reframed is not what was inspected.
var errChanged = errors.New("not the message that was inspected")

// Reframe writes the encrypted message of r to w in the form of Inspection.Strict: CRLF
// armor with a checksum, new-format packet headers with definite lengths, and nothing
// but session key packets and the encrypted data. No octet inside a packet changes, so
// that it opens, and what was signed inside verifies, as before. found is what Inspect
// said of the same octets. Memory does not depend on the size.
func Reframe(w io.Writer, r io.Reader, found Inspection) error {
	if !found.Encrypted {
		return fmt.Errorf("reframe: %w", errChanged)
	}
	s, err := openMessage(r)
	if err != nil {
		return fmt.Errorf("reframe: %w", err)
	}
	scratch := sealScratch.Get().(*scratchBuffers)
	defer sealScratch.Put(scratch)
	a := &armorWriter{w: w, out: scratch.out[:], withCRC: found.SEIPDVersion == 1, crc: crc24Init}
	if _, err := w.Write(appendArmorHead(make([]byte, 0, 64), typeMessage)); err != nil {
		return fmt.Errorf("reframe: %w", err)
	}
	if err := reframe(a, s, found.length); err != nil {
		return fmt.Errorf("reframe: %w", err)
	}
	if err := a.Close(); err != nil {
		return fmt.Errorf("reframe: %w", err)
	}
	if _, err := w.Write(appendArmorTail(make([]byte, 0, 64), typeMessage, a.withCRC, a.crc)); err != nil {
		return fmt.Errorf("reframe: %w", err)
	}
	return nil
}

// reframe writes the packets up to the encrypted data, whose body has length octets.
func reframe(w io.Writer, s *packetStream, length int64) error {
	for {
		if err := s.next(); err != nil {
			return cutShort(err)
		}
		switch s.tag {
		case tagPKESK, tagSKESK:
			body, err := s.body(maxSessionKey)
			if err != nil {
				return err
			}
			if _, err := w.Write(append(appendHeader(nil, s.tag, int64(len(body))), body...)); err != nil {
				return err
			}
		case tagSEIPD:
			if _, err := w.Write(appendHeader(nil, tagSEIPD, length)); err != nil {
				return err
			}
			n, err := io.Copy(w, s)
			if err == nil && n != length {
				err = errChanged
			}
			return err
		}
	}
}
