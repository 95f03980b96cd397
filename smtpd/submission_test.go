package smtpd

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/cluster"
	"postern/internal/mail"
)

const (
	testLogin    = "alice@example.org"
	testPassword = "correct"
)

// passwords is a directory with one account.
type passwords struct {
	mu    sync.Mutex
	creds []auth.Credential
	err   error
}

func newPasswords() *passwords {
	c := auth.AppCredential(testLogin, testPassword, nil)
	c.ID = 7
	return &passwords{creds: []auth.Credential{c}}
}

func (p *passwords) Credentials(_ context.Context, login string) ([]auth.Credential, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil || !strings.EqualFold(login, testLogin) {
		return nil, p.err
	}
	return append([]auth.Credential(nil), p.creds...), nil
}

func (p *passwords) Used(context.Context, auth.Credential) {}

func (p *passwords) set(creds []auth.Credential, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.creds, p.err = creds, err
}

// startSubmission is start for submission; without s.Auth one account can log in.
func startSubmission(t testing.TB, o Options, s Submission) *running {
	t.Helper()
	return startServer(t, o, submissionServer(s), (*Server).Serve)
}

// startSubmissions is startSubmission with TLS from the first octet.
func startSubmissions(t testing.TB, o Options, s Submission) *running {
	t.Helper()
	return startServer(t, o, submissionServer(s), (*Server).ServeTLS)
}

func submissionServer(s Submission) func(Options) *Server {
	if s.Auth == nil {
		s.Auth = auth.New(auth.Options{Directory: newPasswords()})
	}
	return func(o Options) *Server { return NewSubmission(o, s) }
}

var plainLogin = base64.StdEncoding.EncodeToString([]byte("\x00" + testLogin + "\x00" + testPassword))

// dialTLS is dial for a server with TLS from the first octet.
func (r *running) dialTLS(t testing.TB, config *tls.Config) *client {
	t.Helper()
	c := r.dial(t)
	c.Conn = tls.Client(c.Conn, config)
	c.r.Reset(c.Conn)
	return c
}

func TestSubmissionSource(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := startSubmissions(t, Options{TLS: server}, Submission{})
	c := r.dialTLS(t, config)
	c.want("220 ")
	hello := c.do("EHLO [127.0.0.1]", "250 ")
	for _, want := range []string{"250-DSN\r\n", "250-REQUIRETLS\r\n", "250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n"} {
		if !strings.Contains(hello, want) {
			t.Errorf("%q is not in %q", want, hello)
		}
	}
	if strings.Contains(hello, "STARTTLS") {
		t.Error("STARTTLS is offered inside TLS")
	}
	c.do("AUTH PLAIN "+plainLogin, "235 2.7.0")
	c.do("MAIL FROM:<Alice+x@example.org> REQUIRETLS REQUIRETLS", "501 5.5.4 parameter given twice")
	c.do("MAIL FROM:<Alice+x@example.org> REQUIRETLS RET=FULL ENVID=x+2B1 SMTPUTF8 AUTH=mallory@example.net", "250 ")
	c.do("RCPT TO:<b@example.net> ORCPT=utf-8;j\\x{f6}rg@example.net", "250 ")
	c.do("RCPT TO:<c@example.net> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;c+2Bd@example.net", "250 ")
	c.do("DATA", "354 ")
	c.send("x\r\n.\r\n")
	c.want("250 2.0.0 queued as id2: 2 sealed")
	if log := r.log.String(); !strings.Contains(log, "account=alice@example.org id=id2") {
		t.Errorf("the log does not say whose message was accepted: %s", log)
	}
	m := r.all()[0]
	got := m.source
	want := mail.Source{
		Kind: mail.KindSubmission, ID: "id2", From: mail.Address{Local: "Alice+x", Domain: "example.org"},
		RemoteIP: got.RemoteIP, Helo: "[127.0.0.1]", Protocol: "UTF8SMTPSA", TLS: got.TLS, UTF8: true,
		Account: mail.Address{Local: "alice", Domain: "example.org"}, RequireTLS: true, EnvID: "x+1", Return: "FULL", Time: got.Time,
	}
	if got != want || got.TLS == nil || !got.RemoteIP.IsLoopback() {
		t.Errorf("source %+v, want %+v", got, want)
	}
	if m.wishes[0].Original != "utf-8;jörg@example.net" || m.wishes[0].Notify != 0 ||
		m.wishes[1].Original != "rfc822;c+d@example.net" || m.wishes[1].Notify != mail.NotifySuccess|mail.NotifyFailure|mail.NotifyDelay {
		t.Errorf("recipients %+v", m.wishes)
	}
}

// Who runs the server can see whose message was refused, and why, but for the words.
func TestSubmissionRefusalIsLogged(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := startSubmissions(t, Options{TLS: server}, Submission{})
	c := r.dialTLS(t, config)
	c.want("220 ")
	c.do("EHLO here.test", "250 ")
	c.do("AUTH PLAIN "+plainLogin, "235 2.7.0")
	c.do("MAIL FROM:<alice@example.org>", "250 ")
	c.do("RCPT TO:<early@example.net>", "250 ")
	c.do("DATA", "354 ")
	c.send("x\r\n.\r\n")
	c.want("550 5.7.0 do not want it")
	if log := r.log.String(); !strings.Contains(log, "level=INFO msg=refused code=5.7.0 account=alice@example.org id=") {
		t.Errorf("the log says: %s", log)
	}
}

// Nothing secret may be said before TLS, and TLS forgets who said what before.
func TestSubmissionNeedsTLS(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := startSubmission(t, Options{TLS: server}, Submission{})
	c := r.dial(t)
	c.want("220 ")
	if s := c.do("EHLO c", "250 "); !strings.Contains(s, "250-STARTTLS\r\n") || strings.Contains(s, "AUTH") || strings.Contains(s, "REQUIRETLS") {
		t.Errorf("offers %q", s)
	}
	c.do("AUTH PLAIN "+plainLogin, "530 5.7.0 send STARTTLS first")
	c.do("MAIL FROM:<alice@example.org>", "530 5.7.0 send STARTTLS first")
	c.secure(config)
	c.do("AUTH PLAIN "+plainLogin, "503 5.5.1 send EHLO first")
	c.do("EHLO c", "250 ")
	c.do("MAIL FROM:<alice@example.org>", "530 5.7.0 log in first")
	c.do("AUTH PLAIN "+plainLogin, "235 ")
	c.message("b", "x\r\n", "250 2.0.0 queued")

	clear := startSubmission(t, Options{TLS: server}, Submission{AllowClearLogin: true})
	c = clear.ready(t)
	c.do("AUTH PLAIN "+plainLogin, "235 ")
	c.secure(config)
	c.do("EHLO c", "250 ")
	c.do("MAIL FROM:<alice@example.org>", "530 5.7.0 log in first")
	if len(clear.sources)+len(r.sources) != 1 {
		t.Error("a transaction was begun without a login")
	}
}

// scram does SCRAM-SHA-256 as a client (RFC 5802 3), bound by binding if it has a name.
func (c *client) scram(mech, bindingName string, binding []byte, reply string) {
	c.t.Helper()
	encode := base64.StdEncoding.EncodeToString
	gs2 := "n,,"
	if bindingName != "" {
		gs2 = "p=" + bindingName + ",,"
	}
	bare := "n=" + testLogin + ",r=rOprNGfwEbeRWgbNEkqO"
	s := c.do("AUTH "+mech+" "+encode([]byte(gs2+bare)), "334 ")
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s[4:]))
	if err != nil {
		c.t.Fatal(err)
	}
	var iterations int
	parts := strings.Split(string(challenge), ",")
	salt, err := base64.StdEncoding.DecodeString(parts[1][2:])
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Sscanf(parts[2], "i=%d", &iterations); err != nil {
		c.t.Fatal(err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	salted, err := pbkdf2.Key(sha256.New, testPassword, salt, iterations, 32)
	if err != nil {
		c.t.Fatal(err)
	}
	final := "c=" + encode(append([]byte(gs2), binding...)) + "," + parts[0]
	message := bare + "," + string(challenge) + "," + final
	proof := mac(salted, "Client Key")
	storedKey := sha256.Sum256(proof)
	for i, b := range mac(storedKey[:], message) {
		proof[i] ^= b
	}
	c.send(encode([]byte(final+",p="+encode(proof))) + "\r\n")
	if !strings.HasPrefix(reply, "235") {
		c.want(reply)
		return
	}
	s = c.want("334 ")
	if want := encode([]byte("v=" + encode(mac(mac(salted, "Server Key"), message)))); s[4:] != want+"\r\n" {
		c.t.Errorf("server's signature %q, want %q", s, want)
	}
	c.do("", reply)
}

func TestSubmissionSCRAM(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := startSubmissions(t, Options{TLS: server}, Submission{})
	dial := func(t *testing.T) (*client, []byte) {
		c := r.dialTLS(t, config)
		c.want("220 ")
		c.do("EHLO c", "250 ")
		state := c.Conn.(*tls.Conn).ConnectionState()
		binding, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		if err != nil {
			t.Fatal(err)
		}
		return c, binding
	}
	t.Run("unbound", func(t *testing.T) {
		c, _ := dial(t)
		c.scram("SCRAM-SHA-256", "", nil, "235 2.7.0")
		c.message("b", "x\r\n", "250 ")
	})
	t.Run("bound", func(t *testing.T) {
		c, binding := dial(t)
		c.scram("SCRAM-SHA-256-PLUS", "tls-exporter", binding, "235 2.7.0")
		c.message("b", "x\r\n", "250 ")
	})
	t.Run("bound to another connection", func(t *testing.T) {
		c, _ := dial(t)
		_, other := dial(t)
		c.scram("SCRAM-SHA-256-PLUS", "tls-exporter", other, "535 5.7.8")
		c.do("MAIL FROM:<alice@example.org>", "530 ")
	})
}

func TestSubmissionThrottled(t *testing.T) {
	t.Parallel()
	r := startSubmission(t, Options{}, Submission{AllowClearLogin: true})
	for i := range 3 {
		c := r.ready(t)
		for range 2 {
			switch s := c.do("AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdyb25n", ""); {
			case strings.HasPrefix(s, "535 5.7.8 "):
			case strings.HasPrefix(s, "454 4.7.0 too many failed attempts, try again in ") && i == 2:
				return
			default:
				t.Fatalf("got %q", s)
			}
		}
	}
	t.Error("never throttled")
}

// A login ends with its password or account, also on a connection that is open.
func TestSubmissionLoginGone(t *testing.T) {
	t.Parallel()
	changed := auth.AppCredential(testLogin, "other", nil)
	changed.ID = 8
	for name, tt := range map[string]struct {
		creds []auth.Credential
		err   error
		reply string
		ends  bool
	}{
		"password changed": {creds: []auth.Credential{changed}, reply: "421 4.7.0 your login does not hold any more", ends: true},
		"account removed":  {reply: "421 4.7.0 your login does not hold any more", ends: true},
		"not known":        {err: errDisk, reply: "451 4.3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPasswords()
			r := startSubmission(t, Options{}, Submission{Auth: auth.New(auth.Options{Directory: p}), AllowClearLogin: true})
			c := r.ready(t)
			c.do("AUTH PLAIN "+plainLogin, "235 ")
			c.message("b", "x\r\n", "250 ")
			p.set(tt.creds, tt.err)
			c.do("MAIL FROM:<alice@example.org>", tt.reply)
			if tt.ends {
				c.closed()
			}
			if len(r.sources) != 1 {
				t.Error("a transaction was begun")
			}
		})
	}
}

// What one account may send counts over all its connections.
func TestSubmissionLimits(t *testing.T) {
	t.Parallel()
	rates := cluster.NewMemory(time.Now)
	t.Cleanup(func() { rates.Close() })
	r := startSubmission(t, Options{Cluster: rates}, Submission{AllowClearLogin: true, MessagesPerHour: 2, RecipientsPerHour: 3})
	first, second := r.ready(t), r.ready(t)
	first.do("AUTH PLAIN "+plainLogin, "235 ")
	second.do("AUTH PLAIN "+plainLogin, "235 ")
	first.message("b", "x\r\n", "250 ")
	second.envelope("b", "c")
	second.do("RCPT TO:<d@example.org>", "452 4.7.1 your account has written to its 3 recipients of this hour; try again")
	second.do("DATA", "354 ")
	second.send(".\r\n")
	second.want("250 2.0.0 queued as ")
	first.do("MAIL FROM:<alice@example.org>", "450 4.7.1 your account has sent its 2 messages of this hour; try again")
}

func TestSubmissionShutdown(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := startSubmissions(t, Options{TLS: server}, Submission{})
	c := r.dialTLS(t, config)
	c.want("220 ")
	c.do("EHLO c", "250 ")
	c.do("AUTH PLAIN", "334 ")
	silent := r.dial(t) // never begins its handshake
	r.cancel()
	c.want("421 4.3.2")
	c.closed()
	silent.closed()
}

// Whoever does not speak TLS, or is one too many, is not answered in clear.
func TestSubmissionTLSOnly(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := startSubmissions(t, Options{TLS: server, Limits: Limits{Connections: 1}}, Submission{})
	c := r.dialTLS(t, config)
	c.want("220 ")
	second := r.dial(t)
	second.closed()
	if err := New(Options{}).ServeTLS(context.Background(), nil); err == nil {
		t.Error("TLS without a configuration")
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	outcome := func(level mail.Level, local string) mail.Outcome {
		return mail.Outcome{Recipient: mail.Address{Local: local, Domain: "example.net"}, Level: level}
	}
	var many []mail.Outcome
	for i := range 1000 {
		many = append(many, outcome(mail.Clear, fmt.Sprintf("somebody%03d", i)), outcome(mail.Held, "waiting"))
	}
	for name, tt := range map[string]struct {
		r    mail.Receipt
		want string
	}{
		"nothing": {},
		"one":     {mail.Receipt{Outcomes: []mail.Outcome{outcome(mail.Sealed, "a")}}, "1 sealed"},
		"all": {mail.Receipt{Outcomes: []mail.Outcome{
			outcome(mail.Clear, "bob"), outcome(mail.TLSOnly, "c"), outcome(mail.Held, "d"), outcome(mail.Sealed, "e"),
			outcome(mail.EndToEnd, "f"), outcome(mail.Sealed, "g"), outcome(mail.Sealed, "h"), outcome(mail.Clear, "i"),
		}, Placed: []mail.Placed{{}, {}, {}, {}, {}, {UID: 3}, {}, {}}},
			"1 end-to-end, 2 sealed, 1 delivered here, 1 held (d@example.net), 1 transport only (c@example.net), 2 insecure (bob@example.net, i@example.net)"},
		"hostile name": {mail.Receipt{Outcomes: []mail.Outcome{outcome(mail.Clear, "a) 9 sealed (b")}}, `1 insecure ("a) 9 sealed (b"@example.net)`},
		"too many": {mail.Receipt{Outcomes: many}, "1000 held, 1000 insecure (somebody000@example.net, somebody001@example.net, " +
			"somebody002@example.net, somebody003@example.net, somebody004@example.net, somebody005@example.net, somebody006@example.net, " +
			"somebody007@example.net, somebody008@example.net, somebody009@example.net, somebody010@example.net, somebody011@example.net, 988 more)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := describe(tt.r)
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(got) > maxReplyText-60 {
				t.Errorf("%d octets", len(got))
			}
		})
	}
}

// FuzzSubmissionParams gives arbitrary arguments to MAIL and RCPT. What is taken can
// neither end a line nor be longer than it may.
func FuzzSubmissionParams(f *testing.F) {
	for _, s := range []string{
		"<a@example.net> RET=FULL ENVID=QQ+2B REQUIRETLS AUTH=a+40b SIZE=1",
		"<a@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b",
		`<a@example.net> NOTIFY=NEVER ORCPT=utf-8;\x{f6}\x{10FFFF}`,
		"<a@example.net> ORCPT=x400;+00 ENVID=+0D+0A",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		all := offer{submission: true, requireTLS: true}
		if _, opts, err := parseMail("FROM:"+arg, all); err == nil {
			if !printableASCII(opts.EnvelopeID) || len(opts.EnvelopeID) > maxEnvID {
				t.Errorf("ENVID %q", opts.EnvelopeID)
			}
			if opts.Return != "" && opts.Return != "FULL" && opts.Return != "HDRS" {
				t.Errorf("RET %q", opts.Return)
			}
		}
		r, err := parseRcpt("TO:"+arg, "example.org", true, all)
		if err != nil {
			return
		}
		if strings.ContainsFunc(r.Original, unprintable) || len(r.Original) > maxORCPT {
			t.Errorf("ORCPT %q", r.Original)
		}
		if r.Notify&mail.NotifyNever != 0 && r.Notify != mail.NotifyNever || r.Notify > 15 {
			t.Errorf("NOTIFY %d", r.Notify)
		}
		if _, err := parseRcpt("TO:"+arg, "example.org", true, offer{}); err == nil && (r.Notify != 0 || r.Original != "") {
			t.Error("parameters are taken where they are not offered")
		}
	})
}

// FuzzSubmission gives arbitrary octets to a submission server. Nobody gets in without
// the password, and every reply is well-formed.
func FuzzSubmission(f *testing.F) {
	for _, s := range []string{
		"EHLO c\r\nAUTH PLAIN\r\n*\r\nAUTH LOGIN\r\nYQ==\r\nYQ==\r\nMAIL FROM:<a@b> RET=FULL\r\n",
		"EHLO c\r\nAUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==\r\nYz1iaXdzLHI9Yg==\r\n\r\nMAIL FROM:<a@b>\r\n",
		"EHLO c\r\nAUTH PLAIN AGEAYg==\r\nAUTH PLAIN AGEAYg==\r\nAUTH PLAIN =\r\nBDAT 3\r\nabcRCPT TO:<a@b>\r\n",
	} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(5))
	}
	f.Fuzz(func(t *testing.T, input string, cut uint8) {
		fake, out := newFake(), new(strings.Builder)
		s := submissionServer(Submission{AllowClearLogin: true})(Options{Acceptor: fake, Hostname: "mx.example.org", MaxSize: 10_000})
		v := &serving{Server: s, ctx: context.Background(), open: map[net.Conn]struct{}{}}
		newConn(v, &scriptConn{in: strings.NewReader(input), out: out, cut: int(cut)}, netip.Addr{}).serve()
		if !regexp.MustCompile(`^(\d{3}[ -][ -~]*\r\n)*$`).MatchString(out.String()) {
			t.Fatalf("replies %q", out.String())
		}
		if len(fake.sources) > 0 && !strings.Contains(input, plainLogin) {
			t.Fatalf("a transaction was begun: %q", input)
		}
	})
}
