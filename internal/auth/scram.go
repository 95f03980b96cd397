package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Names of the mechanisms (RFC 7677 4).
const (
	ScramName     = "SCRAM-SHA-256"
	ScramPlusName = "SCRAM-SHA-256-PLUS"
)

// ErrDowngrade is wrapped, together with ErrRejected, when the client was kept
// from seeing that channel binding is offered, or is bound to another connection:
// somebody sits between the two.
var ErrDowngrade = errors.New("channel binding does not hold")

// ScramServer is one exchange of SCRAM-SHA-256 or SCRAM-SHA-256-PLUS. It is a
// sasl.Server of go-sasl. The server's last message is a challenge of its own,
// which the client answers with an empty response (RFC 4422 5, for protocols that
// cannot send data along with success).
type ScramServer struct {
	a    *Authenticator
	ctx  context.Context // of the connection: Next has no parameter for it
	ip   netip.Addr
	plus bool
	// bindings are what the connection offers; with none, -PLUS was not offered.
	bindings map[string][]byte

	step   int
	first  clientFirst
	reply  string // server-first-message
	nonce  string // the client's and ours
	fake   bool   // nobody of that name: nothing that follows can succeed
	creds  []Credential
	try    attempt
	login  Identity
	nonces func() (string, error)
}

// SCRAM starts an exchange. ctx is that of the connection and must outlive the
// exchange, cs is nil without TLS, and plus says which of the two mechanisms the
// client asked for.
func (a *Authenticator) SCRAM(ctx context.Context, ip netip.Addr, cs *tls.ConnectionState, plus bool) *ScramServer {
	return &ScramServer{a: a, ctx: ctx, ip: ip, plus: plus, bindings: a.bindings(cs), nonces: a.nonce}
}

// nonce returns 144 random bits.
func (a *Authenticator) nonce() (string, error) {
	b := make([]byte, 18)
	if _, err := io.ReadFull(a.o.Rand, b); err != nil {
		return "", fmt.Errorf("make a nonce: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

// The steps of an exchange.
const (
	wantFirst = iota
	wantFinal
	wantNothing
	finished
	failed
)

// Next takes the client's next response. It returns ErrRejected, *ErrThrottled,
// an error that wraps ErrMalformed, or another one if the answer could not be
// found out. After an error the exchange is over.
func (s *ScramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && s.step == wantFirst {
		return []byte{}, false, nil // SCRAM is client-first
	}
	switch s.step {
	case wantFirst:
		challenge, err = s.takeFirst(response)
	case wantFinal:
		challenge, err = s.takeFinal(response)
	case wantNothing:
		if len(response) > 0 {
			err = malformed("response to server-final-message is not empty")
		}
		done = err == nil
	default:
		err = malformed("exchange is over")
	}
	if err != nil {
		s.step, s.login = failed, Identity{}
		if !errors.Is(err, ErrMalformed) {
			s.a.record(s.ctx, s.ip, s.name(), result(err), 0)
		}
		return nil, false, err
	}
	s.step++
	return challenge, done, nil
}

// Identity returns who logged in. It is the zero Identity unless Next has said
// that the exchange is done.
func (s *ScramServer) Identity() Identity {
	if s.step != finished {
		return Identity{}
	}
	return s.login
}

func (s *ScramServer) name() string {
	if s.plus {
		return ScramPlusName
	}
	return ScramName
}

// takeFirst answers client-first-message with server-first-message.
func (s *ScramServer) takeFirst(b []byte) (_ []byte, err error) {
	if s.first, err = parseClientFirst(b); err != nil {
		return nil, err
	}
	if err := s.checkFlag(); err != nil {
		return nil, err
	}
	if s.first.authz != "" && s.first.authz != s.first.user {
		return nil, fmt.Errorf("%w: nobody may act for somebody else", ErrRejected)
	}
	own, err := s.nonces()
	if err != nil {
		return nil, err
	}
	var creds []Credential
	if creds, s.try, err = s.a.lookUp(s.ctx, s.ip, s.first.user); err != nil {
		return nil, err
	}
	s.choose(creds)
	s.nonce = s.first.nonce + own
	s.reply = "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.creds[0].Salt) +
		",i=" + strconv.Itoa(s.creds[0].Iterations)
	return []byte(s.reply), nil
}

// checkFlag compares what the client believes of channel binding with what is
// true (RFC 5802 6).
func (s *ScramServer) checkFlag() error {
	switch {
	case s.plus != (s.first.flag == 'p'):
		return malformed("mechanism and channel binding flag do not fit")
	case s.plus && s.bindings[s.first.cbName] == nil:
		return fmt.Errorf("%w: no channel binding of that name here", ErrRejected)
	case s.first.flag == 'y' && len(s.bindings) > 0:
		// The client could have used -PLUS, which we offered, but was not told so.
		return fmt.Errorf("%w: %w", ErrRejected, ErrDowngrade)
	}
	return nil
}

// choose picks the credentials that the salt of the answer belongs to: the app
// passwords, or else the one that a person chose, or else an invented one.
func (s *ScramServer) choose(creds []Credential) {
	for _, human := range []bool{false, true} {
		for _, c := range creds {
			if c.Human != human || c.Iterations <= 0 || len(c.Salt) == 0 {
				continue
			}
			if len(s.creds) == 0 || string(s.creds[0].Salt) == string(c.Salt) && s.creds[0].Iterations == c.Iterations {
				s.creds = append(s.creds, c)
			}
		}
		if len(s.creds) > 0 {
			return
		}
	}
	s.fake = true
	s.creds = []Credential{{
		Account: s.try.account, Salt: s.a.fakeSalt(s.first.user), Iterations: s.a.fakeIterations(s.first.user),
		StoredKey: randomBytes(sha256.Size), ServerKey: randomBytes(sha256.Size),
	}}
}

// fakeIterations is 600,000 for one in four: otherwise that number would prove
// that a login exists, and that a person chose its password.
func (a *Authenticator) fakeIterations(login string) int {
	if mac(a.o.Secret, []byte("iterations\x00"), []byte(accountKey(login)))[0]%4 == 0 {
		return HumanIterations
	}
	return AppIterations
}

// takeFinal checks client-final-message and answers with server-final-message.
func (s *ScramServer) takeFinal(b []byte) ([]byte, error) {
	m, err := parseClientFinal(b)
	if err != nil {
		return nil, err
	}
	all, guessable := s.try.waits()
	if all > 0 {
		return nil, &ErrThrottled{Wait: all}
	}
	bound := s.first.gs2 + string(s.bindings[s.first.cbName])
	if subtle.ConstantTimeCompare(m.binding, []byte(bound)) != 1 {
		s.try.fail()
		return nil, fmt.Errorf("%w: %w", ErrRejected, ErrDowngrade)
	}
	authMessage := strings.Join([]string{s.first.bare, s.reply, m.withoutProof}, ",")
	cred := s.match(m, authMessage)
	if cred == nil || cred.Human && guessable > 0 {
		s.try.fail()
		if guessable > 0 {
			return nil, &ErrThrottled{Wait: guessable}
		}
		return nil, ErrRejected
	}
	s.try.succeed()
	s.login = Identity{Login: cred.Account, Credential: cred.ID}
	s.a.record(s.ctx, s.ip, s.name(), "accepted", cred.ID)
	s.a.o.Directory.Used(s.ctx, *cred)
	signature := mac(cred.ServerKey, []byte(authMessage))
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature)), nil
}

// match returns the credential that the proof was made with, or nil. It looks at
// all of them, and at an invented one as at a real one.
func (s *ScramServer) match(m clientFinal, authMessage string) (found *Credential) {
	sameNonce := hmac.Equal([]byte(m.nonce), []byte(s.nonce))
	if len(m.proof) != sha256.Size || !sameNonce {
		return nil
	}
	for i := range s.creds {
		c := &s.creds[i]
		clientKey := mac(c.StoredKey, []byte(authMessage)) // ClientSignature, so far
		subtle.XORBytes(clientKey, clientKey, m.proof)
		h := sha256.Sum256(clientKey)
		if subtle.ConstantTimeCompare(h[:], c.StoredKey) == 1 && !s.fake {
			found = c
		}
	}
	return found
}
