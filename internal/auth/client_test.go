package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// client is a SCRAM client, written from RFC 5802 and sharing no code with the
// server: there is none in go-sasl to test against.
type client struct {
	user, password string
	authz          string
	gs2            string // "n", "y" or "p=..."
	binding        []byte
	nonce          string

	// otherNonce is sent instead of the nonce the server chose, with a proof that
	// fits it.
	otherNonce string
	// tamper changes client-final-message before it is sent.
	tamper func(withoutProof string, proof []byte) (string, []byte)

	clientFirstBare, authMessage string
	salted                       []byte
}

func (c *client) escaped(s string) string {
	return strings.NewReplacer(",", "=2C", "=", "=3D").Replace(s)
}

func (c *client) header() string {
	if c.authz != "" {
		return c.gs2 + ",a=" + c.escaped(c.authz) + ","
	}
	return c.gs2 + ",,"
}

func (c *client) first() []byte {
	if c.nonce == "" {
		c.nonce = "fyko+d2lbbFgONRv9qkxdawL"
	}
	c.clientFirstBare = "n=" + c.escaped(c.user) + ",r=" + c.nonce
	return []byte(c.header() + c.clientFirstBare)
}

func (c *client) final(serverFirst []byte) ([]byte, error) {
	attrs := map[byte]string{}
	for a := range strings.SplitSeq(string(serverFirst), ",") {
		if len(a) < 2 || a[1] != '=' {
			return nil, fmt.Errorf("bad server-first-message %q", serverFirst)
		}
		attrs[a[0]] = a[2:]
	}
	if !strings.HasPrefix(attrs['r'], c.nonce) || len(attrs['r']) < len(c.nonce)+16 {
		return nil, fmt.Errorf("bad nonce in %q", serverFirst)
	}
	salt, err := base64.StdEncoding.DecodeString(attrs['s'])
	if err != nil {
		return nil, err
	}
	iterations, err := strconv.Atoi(attrs['i'])
	if err != nil || iterations < 4096 {
		return nil, fmt.Errorf("bad iteration count in %q", serverFirst)
	}
	c.salted, err = pbkdf2.Key(sha256.New, c.password, salt, iterations, 32)
	if err != nil {
		return nil, err
	}
	if c.otherNonce != "" {
		attrs['r'] = c.otherNonce
	}
	input := append([]byte(c.header()), c.binding...)
	withoutProof := "c=" + base64.StdEncoding.EncodeToString(input) + ",r=" + attrs['r']
	c.authMessage = c.clientFirstBare + "," + string(serverFirst) + "," + withoutProof
	key := hmacOf(c.salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := hmacOf(stored[:], c.authMessage)
	for i := range proof {
		proof[i] ^= key[i]
	}
	if c.tamper != nil {
		withoutProof, proof = c.tamper(withoutProof, proof)
	}
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

func hmacOf(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// verify checks that the server knows the password too.
func (c *client) verify(serverFinal []byte) error {
	want := "v=" + base64.StdEncoding.EncodeToString(hmacOf(hmacOf(c.salted, "Server Key"), c.authMessage))
	if !bytes.Equal(serverFinal, []byte(want)) {
		return fmt.Errorf("server-final-message %q, want %q", serverFinal, want)
	}
	return nil
}

// login runs the whole exchange.
func (c *client) login(s *ScramServer) error {
	challenge, done, err := s.Next(nil) // without an initial response
	if err != nil || done || challenge == nil || len(challenge) > 0 {
		return fmt.Errorf("first challenge %q, %v: %w", challenge, done, err)
	}
	if challenge, done, err = s.Next(c.first()); err != nil {
		return err
	}
	if done || s.Identity() != (Identity{}) {
		return errors.New("done after the first message")
	}
	final, err := c.final(challenge)
	if err != nil {
		return err
	}
	if challenge, done, err = s.Next(final); err != nil {
		return err
	}
	if done || s.Identity() != (Identity{}) {
		return errors.New("done before the client has checked the server")
	}
	if err := c.verify(challenge); err != nil {
		return err
	}
	if challenge, done, err = s.Next([]byte{}); err != nil {
		return err
	}
	if !done || challenge != nil {
		return errors.New("not done")
	}
	return nil
}
