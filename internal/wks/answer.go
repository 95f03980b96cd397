package wks

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
)

const (
	hour = time.Hour
	// pendingFor is how long an answer may take.
	pendingFor = 24 * time.Hour
	// The parts of a nonce, in octets: when it ends, random, and the MAC.
	endSize, randomSize, macSize = 8, 8, 24
)

func cacheKey(nonce string) string { return "wks:" + nonce }

// encoding is what nonces are written in: letters and digits.
func encoding() *base32.Encoding { return base32.HexEncoding.WithPadding(base32.NoPadding) }

// nonce makes one for a certificate of an address.
func (d *Door) nonce(address mail.Address, data []byte) (string, error) {
	b := binary.BigEndian.AppendUint64(nil, uint64(d.Now().Add(pendingFor).Unix()))
	b = append(b, make([]byte, randomSize)...)
	if _, err := rand.Read(b[endSize:]); err != nil {
		return "", fmt.Errorf("make a nonce: %w", err)
	}
	return strings.ToLower(encoding().EncodeToString(append(b, d.mac(b, address, data)...))), nil
}

// holds says whether a nonce was made for this certificate of this address, and has not
// ended.
func (d *Door) holds(nonce string, address mail.Address, data []byte) bool {
	b, err := encoding().DecodeString(strings.ToUpper(nonce))
	if err != nil || len(b) != endSize+randomSize+macSize {
		return false
	}
	if !hmac.Equal(b[endSize+randomSize:], d.mac(b[:endSize+randomSize], address, data)) {
		return false
	}
	return d.Now().Unix() < int64(binary.BigEndian.Uint64(b))
}

func (d *Door) mac(head []byte, address mail.Address, data []byte) []byte {
	h := hmac.New(sha256.New, d.Secret)
	h.Write(head) // of one size
	digest := sha256.Sum256(data)
	h.Write(digest[:])
	h.Write([]byte(address.Key()))
	return h.Sum(nil)[:macSize]
}

// ask sends the confirmation request into the account's INBOX. It is durable when ask
// returns.
func (d *Door) ask(ctx context.Context, domain string, address mail.Address, c *pgp.Certificate) error {
	nonce, err := d.nonce(address, c.Data())
	if err != nil {
		return err
	}
	text := "type: confirmation-request\r\n" +
		"sender: " + Address(domain).String() + "\r\n" +
		"address: " + address.String() + "\r\n" +
		"fingerprint: " + c.Fingerprint() + "\r\n" +
		"nonce: " + nonce + "\r\n"
	armored, err := pgp.Seal([]byte(text), []*pgp.Certificate{c}, d.Now())
	if err != nil {
		return fmt.Errorf("encrypt confirmation request: %w", err)
	}
	d.Cache.Set(ctx, cacheKey(nonce), c.Data(), pendingFor)
	return d.deliver(ctx, domain, address, string(armored))
}

// compose is the mail that asks. Clients know by the type of its second part what it is,
// and do the rest by themselves.
func (d *Door) compose(id, domain string, address mail.Address, armored string) string {
	boundary := "wks_" + rand.Text()
	return strings.Join([]string{
		"From: " + Address(domain).String(),
		"To: " + address.String(),
		"Subject: Confirm your key publication",
		"Date: " + message.FormatDate(d.Now()),
		"Message-ID: <" + id + ".wks@" + d.Hostname + ">",
		"Wks-Draft-Version: 3",
		"WKS-Phase: confirm",
		"Auto-Submitted: auto-replied",
		"MIME-Version: 1.0",
		`Content-Type: multipart/mixed; boundary="` + boundary + `"`,
		"",
		"--" + boundary,
		"Content-Type: text/plain; charset=us-ascii",
		"",
		"Somebody, you most likely, has sent an OpenPGP key to be published for your",
		"address. Mail programs that know the Web Key Service answer this message by",
		"themselves; with GnuPG alone: gpg-wks-client --receive < THIS-MESSAGE, and send",
		"what it writes. If you know nothing of it, delete this message: nothing happens.",
		"",
		"--" + boundary,
		"Content-Type: " + typeWKS,
		"",
		strings.TrimSuffix(armored, "\r\n"),
		"--" + boundary + "--",
		"",
	}, "\r\n")
}

// deliver hands the mail to the door behind, for the account: a notice, which is sealed if
// the account has a certificate already. It holds nothing of anybody's mail.
func (d *Door) deliver(ctx context.Context, domain string, to mail.Address, armored string) error {
	id := d.NewID()
	text := d.compose(id, domain, to, armored)
	tx, err := d.Next.Begin(ctx, mail.Source{Kind: mail.KindNotice, ID: id, Size: int64(len(text)), Time: d.Now()})
	if err != nil {
		return fmt.Errorf("deliver confirmation request: %w", err)
	}
	defer tx.Abort()
	if err := tx.Rcpt(ctx, mail.Rcpt{Address: to}); err != nil {
		return fmt.Errorf("deliver confirmation request: %w", err)
	}
	if _, err := tx.Data(ctx, strings.NewReader(text)); err != nil {
		return fmt.Errorf("deliver confirmation request: %w", err)
	}
	return nil
}
