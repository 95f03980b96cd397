package keydir

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// page is what one account publishes, with its answers ready. It is never changed.
type page struct {
	address mail.Address
	hashes  []string // that it is asked for by
	// certs have the account's address and no other. Those that can be encrypted to
	// come first; then what is expired or revoked, which others have to hear of.
	certs []*pgp.Certificate

	// binary and armored are what all software can read; binary of the Web Key
	// Directory, armored of key servers. everything is in binary too, with what is
	// left out there. The last two are made when they are first asked for.
	binary              *content
	armored, everything func() *content

	epoch uint64    // of the Publication when it was read
	until time.Time // when it is to be made again
	rows  [sha256.Size]byte
	size  int // octets in memory, about
}

// maxPage bounds the certificates of one account that are given out: software takes no
// more than 1 MiB from a Web Key Directory.
const maxPage = 512 << 10

// newPage makes an account's answers. If what was read is what an old page was made
// of, and that is not due, its answers are taken over.
func newPage(address mail.Address, rows []store.Certificate, epoch uint64, now time.Time, old *page) *page {
	h := sha256.New()
	h.Write([]byte(address.String()))
	for _, r := range rows {
		sum := sha256.Sum256(r.Data)
		h.Write(sum[:])
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	if old != nil && old.rows == sum && now.Before(old.until) {
		again := *old
		again.epoch = epoch
		return &again
	}
	p := &page{address: address, hashes: hashesOf(address), epoch: epoch, until: now.Add(pageLife), rows: sum}
	p.certs = publishable(address, rows, now)
	var data []byte
	for i, c := range p.certs {
		if len(data)+len(c.Data()) > maxPage {
			p.certs = p.certs[:i]
			break
		}
		data = append(data, c.Data()...)
	}
	p.certs = slices.Clip(p.certs)
	plain := readable(p.certs)
	p.binary = newContent(concatenated(plain))
	p.armored = sync.OnceValue(func() *content { return newContent(pgp.Armor(plain)) })
	p.everything = func() *content { return p.binary }
	if len(plain) != len(p.certs) {
		p.everything = sync.OnceValue(func() *content { return newContent(data) })
	}
	// Parsed certificates take about six times their octets, armor 1.4 times.
	p.size = 1024 + 9*len(data)
	return p
}

// publishable returns what of an account's certificates others may have: the user ID
// with its address, and not what a person calls himself elsewhere.
func publishable(address mail.Address, rows []store.Certificate, now time.Time) []*pgp.Certificate {
	type ranked struct {
		cert *pgp.Certificate
		rank int
	}
	var all []ranked
	for _, row := range rows {
		certs, err := pgp.ParseCertificates(row.Data)
		if err != nil {
			continue // postern check tells of it
		}
		for _, c := range certs {
			c, err := c.Restrict(address.Key(), pgp.AllowNoUserID)
			if err != nil {
				continue
			}
			rank := 0
			switch err := c.Usable(now); {
			case err == nil:
			case errors.Is(err, pgp.ErrExpired), errors.Is(err, pgp.ErrRevoked):
				rank = 2
			default:
				continue
			}
			if c.Version() > 4 {
				rank++
			}
			all = append(all, ranked{c, rank})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return a.rank - b.rank })
	certs := make([]*pgp.Certificate, len(all))
	for i, r := range all {
		certs[i] = r.cert
	}
	return certs
}

func concatenated(certs []*pgp.Certificate) (data []byte) {
	for _, c := range certs {
		data = append(data, c.Data()...)
	}
	return data
}

// readable is what all software can read of a person's certificates: those of version
// 6 only if there is nothing else.
//
// QUIRK: GnuPG 2.2 refuses all certificates of an answer if one is of version 6, even
// if that is the last.
func readable(certs []*pgp.Certificate) []*pgp.Certificate {
	old := slices.DeleteFunc(slices.Clone(certs), func(c *pgp.Certificate) bool { return c.Version() > 4 })
	if len(old) == 0 {
		return certs
	}
	return old
}

// content is the body of an answer with its header fields, in the form in which they
// are sent: nothing is made anew for a request.
type content struct {
	body         []byte
	etag, length []string
}

func newContent(body []byte) *content {
	sum := sha256.Sum256(body)
	return &content{
		body:   body,
		etag:   []string{`"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`},
		length: []string{strconv.Itoa(len(body))},
	}
}
