package imapd

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

func TestLoginMechanisms(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + testLogin + "\x00" + testPassword))

	c := e.dial(false)
	c.line()
	if _, tagged := c.do("AUTHENTICATE PLAIN %s", plain); !strings.HasPrefix(tagged, "OK [CAPABILITY") {
		t.Error(tagged)
	}

	c = e.dial(true)
	c.line()
	tag := c.start("AUTHENTICATE PLAIN")
	if s := c.line(); s != "+ " {
		t.Errorf("empty challenge is %q", s)
	}
	c.send(plain + "\r\n")
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "OK") {
		t.Error(tagged)
	}
	c.ok("SELECT INBOX")
	c.fails("BAD", "LOGIN %s %s", testLogin, testPassword)

	c = e.dial(true)
	c.line()
	tag = c.start("AUTHENTICATE PLAIN")
	c.line()
	c.send("*\r\n")
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "BAD") {
		t.Error(tagged)
	}
	tag = c.start("AUTHENTICATE PLAIN")
	c.line()
	c.send(strings.Repeat("A", 10_000) + "\r\n")
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "BAD") {
		t.Error(tagged)
	}
	c.fails("NO [CANNOT]", "AUTHENTICATE GSSAPI")
	other := base64.StdEncoding.EncodeToString([]byte("bob@example.org\x00" + testLogin + "\x00" + testPassword))
	c.fails("NO [AUTHORIZATIONFAILED]", "AUTHENTICATE PLAIN %s", other)
	c.ok("LOGIN \"%s\" {%d+}\r\n%s", testLogin, len(testPassword), testPassword)
}

func TestLoginFailures(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.dial(true)
	c.line()
	c.fails("NO [AUTHENTICATIONFAILED]", "LOGIN %s wrong", testLogin)
	c.fails("NO", "LOGIN nobody@example.org wrong")
	c.fails("NO", "LOGIN %s wrong", testLogin)
	if left := c.ends(); !strings.HasPrefix(left, "* BYE") {
		t.Errorf("after three failures: %q", left)
	}
	log := e.logs.String()
	if strings.Contains(log, "wrong") || strings.Contains(log, "example.org") {
		t.Errorf("log tells: %s", log)
	}
}

func TestLoginThrottled(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	var last string
	for range 12 {
		c := e.dial(true)
		c.line()
		began := time.Now()
		if _, last = c.do("LOGIN %s wrong", testLogin); time.Since(began) > 3*time.Second {
			t.Fatal("a refusal waits")
		}
		if strings.HasPrefix(last, "NO [LIMIT]") {
			break
		}
	}
	if !strings.HasPrefix(last, "NO [LIMIT] too many failed attempts, try again in ") {
		t.Errorf("never throttled: %s", last)
	}
}

func TestCommandsNeedLogin(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.dial(false)
	c.line()
	for _, command := range []string{
		"SELECT INBOX", "LIST \"\" *", "STATUS INBOX (MESSAGES)", "FETCH 1 FLAGS", "SEARCH ALL", "IDLE",
		"APPEND INBOX {3+}\r\nabc", "CREATE x", "EXPUNGE", "CLOSE", "NAMESPACE", "ENABLE IMAP4rev2",
	} {
		c.fails("BAD", "%s", command)
	}
	c.ok("CAPABILITY")
	c.ok("NOOP")
	c = e.login()
	for _, command := range []string{"FETCH 1 FLAGS", "SEARCH ALL", "EXPUNGE", "CLOSE", "STORE 1 FLAGS ()", "COPY 1 x", "UID EXPUNGE 1"} {
		c.fails("BAD", "%s", command)
	}
}

// scramClient is the client's side of RFC 5802 with RFC 9266's channel binding.
type scramClient struct {
	plus    bool
	binding []byte
	auth    string
}

func (s *scramClient) gs2() string {
	if s.plus {
		return "p=tls-exporter,,"
	}
	return "n,,"
}

func (s *scramClient) first() string { return s.gs2() + "n=" + testLogin + ",r=clientnonce" }

func (s *scramClient) final(t *testing.T, server string) (message, verifier string) {
	t.Helper()
	attr := make(map[byte]string)
	for _, a := range strings.Split(server, ",") {
		attr[a[0]] = a[2:]
	}
	salt, _ := base64.StdEncoding.DecodeString(attr['s'])
	var n int
	fmt.Sscan(attr['i'], &n)
	salted, err := pbkdf2.Key(sha256.New, testPassword, salt, n, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	bare := "c=" + base64.StdEncoding.EncodeToString(append([]byte(s.gs2()), s.binding...)) + ",r=" + attr['r']
	s.auth = strings.TrimPrefix(s.first(), s.gs2()) + "," + server + "," + bare
	for i, x := range mac(stored[:], s.auth) {
		key[i] ^= x
	}
	signature := mac(mac(salted, "Server Key"), s.auth)
	return bare + ",p=" + base64.StdEncoding.EncodeToString(key), "v=" + base64.StdEncoding.EncodeToString(signature)
}

func TestSCRAM(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for _, initial := range []bool{true, false} {
		for _, plus := range []bool{false, true} {
			c := e.dial(true)
			if greeting := c.line(); !strings.Contains(greeting, "AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN") {
				t.Error(greeting)
			}
			s := &scramClient{plus: plus}
			mech := auth.ScramName
			if plus {
				mech = auth.ScramPlusName
				cs := c.conn.(*tls.Conn).ConnectionState()
				s.binding, _ = cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
			}
			encode := func(m string) string { return base64.StdEncoding.EncodeToString([]byte(m)) }
			decode := func(line string) string {
				b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "+ "))
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				return string(b)
			}
			var tag string
			if initial {
				tag = c.start("AUTHENTICATE %s %s", mech, encode(s.first()))
			} else {
				tag = c.start("AUTHENTICATE %s", mech)
				if line := c.line(); line != "+ " {
					t.Fatalf("first challenge %q", line)
				}
				c.send(encode(s.first()) + "\r\n")
			}
			final, verifier := s.final(t, decode(c.line()))
			c.send(encode(final) + "\r\n")
			if got := decode(c.line()); got != verifier {
				t.Fatalf("server's signature: %q, want %q", got, verifier)
			}
			c.send("\r\n")
			if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "OK") {
				t.Fatalf("%s: %s", mech, tagged)
			}
			c.ok("SELECT INBOX")
		}
	}
	c := e.dial(false)
	if greeting := c.line(); strings.Contains(greeting, "PLUS") {
		t.Errorf("-PLUS offered in clear: %s", greeting)
	}
	c.fails("NO", "AUTHENTICATE SCRAM-SHA-256-PLUS")
}
