package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// patience is how long a script waits for something to happen.
const patience = 30 * time.Second

// script is what the commands of one script share.
type script struct {
	env     *testscript.Env
	base    int
	release func() // frees the ports, which are kept until a gateway starts
	serving *exec.Cmd

	mu   sync.Mutex
	log  bytes.Buffer // of the server
	mark int          // where logged begins to look
}

type scriptKey struct{}

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

// export tells the script where the ports are.
func (s *script) export() {
	s.env.Setenv("BASE", strconv.Itoa(s.base))
	for name, offset := range map[string]int{"MX": 25, "IMAP": 143, "IMAPS": 993, "HEALTH": 925} {
		s.env.Setenv(name, s.at(offset))
	}
}

func (s *script) at(offset int) string { return fmt.Sprintf("127.0.0.1:%d", s.base+offset) }

// end kills what a script left running.
func (s *script) end() {
	if s.serving != nil {
		_ = s.serving.Process.Kill()
		_ = s.serving.Wait()
	}
	s.release()
}

type command = func(ts *testscript.TestScript, neg bool, args []string)

func commands() map[string]command {
	return map[string]command{
		"exits":   exits,
		"gateway": gateway,
		"setkey":  setKey,
		"start":   start,
		"signal":  signalServer,
		"stopped": stopped,
		"logged":  logged,
		"mark":    mark,
		"noticed": noticed,
		"send":    send,
		"enqueue": enqueue,
		"fetch":   fetch,
		"field":   field,
		"damage":  damage,
		"until":   until,
		"mode":    mode,
		"offer":   offer,
	}
}

// exits CODE PROGRAM [ARG…] runs a program that must end with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// gateway [-nocert] makes alice's key in alice.key.asc and alice.cert.asc, and a gateway
// for alice@example.org in gw, which is not started. It sets PASSWORD and POSTERN_CONFIG.
func gateway(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	ts.Check(ts.Exec("postern", "key", "new", "alice@example.org", "--out", ts.MkAbs("alice.key.asc")))
	quickstart := []string{"quickstart", "alice@example.org", "--dir", ts.MkAbs("gw"), "--listen", "127.0.0.1", "--base-port", strconv.Itoa(s.base), "--json"}
	if len(args) == 0 {
		quickstart = append(quickstart, "--cert", ts.MkAbs("alice.cert.asc"))
	}
	ts.Check(ts.Exec("postern", quickstart...))
	var made struct{ Password, Config string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &made))
	ts.Setenv("PASSWORD", made.Password)
	ts.Setenv("POSTERN_CONFIG", made.Config)
	// Nothing of this is in the DNS: what is not there says so at once.
	setKey(ts, false, []string{made.Config, "servers", `["127.0.0.1:1"]`})
	setKey(ts, false, []string{made.Config, "level", `"debug"`})
}

// setkey FILE KEY VALUE changes the only line of a TOML file that sets this key.
func setKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: setkey FILE KEY VALUE")
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(args[1]) + ` = .*$`)
	text := ts.ReadFile(args[0])
	if n := len(line.FindAllString(text, -1)); n != 1 {
		ts.Fatalf("%s sets %s in %d lines", args[0], args[1], n)
	}
	text = line.ReplaceAllLiteralString(text, args[1]+" = "+args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// start runs "postern serve" on POSTERN_CONFIG in the background, until it is ready.
func start(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	if s.serving != nil {
		ts.Fatalf("it runs already")
	}
	s.release()
	s.launch(ts)
	s.wait(ts, "it is ready", func() bool {
		resp, err := http.Get("http://" + s.at(925) + "/readyz")
		if err == nil {
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}
		if strings.Contains(s.text(), "address already in use") {
			// Another test process was looking for free ports at this moment.
			_ = s.serving.Wait()
			s.launch(ts)
		}
		return false
	})
}

// launch starts the server, and waits for nothing.
func (s *script) launch(ts *testscript.TestScript) {
	s.mu.Lock()
	s.log.Reset()
	s.mark = 0
	s.mu.Unlock()
	s.serving = exec.Command(binary(ts), "serve", "--config", ts.Getenv("POSTERN_CONFIG"))
	s.serving.Env = append(os.Environ(), "TMPDIR="+ts.Getenv("TMPDIR"), "PATH="+ts.Getenv("PATH"))
	s.serving.Stdout, s.serving.Stderr = s, s
	ts.Check(s.serving.Start())
}

// binary is where the script's PATH finds postern.
func binary(ts *testscript.TestScript) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		name := filepath.Join(dir, "postern")
		if info, err := os.Stat(name); err == nil && !info.IsDir() {
			return name
		}
	}
	ts.Fatalf("postern is not in PATH")
	return ""
}

// wait waits until something is true.
func (s *script) wait(ts *testscript.TestScript, what string, is func() bool) {
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("it never came true that %s; the log:\n%s", what, s.text())
		}
	}
}

// signal NAME sends TERM, INT or HUP to the server.
func signalServer(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	sig, ok := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt, "HUP": syscall.SIGHUP}[strings.Join(args, " ")]
	if !ok || s.serving == nil {
		ts.Fatalf("usage: signal TERM|INT|HUP, while the server runs")
	}
	ts.Check(s.serving.Process.Signal(sig))
}

// stopped CODE waits for the server, which must end within 10 s and with this code.
func stopped(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	ended := make(chan error, 1)
	go func() { ended <- s.serving.Wait() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		ts.Fatalf("it still runs after 10 s; the log:\n%s", s.text())
	}
	code := s.serving.ProcessState.ExitCode()
	s.serving = nil
	if len(args) != 1 || strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %v; the log:\n%s", code, args, s.text())
	}
}

// mark lets logged look only at what is logged from now on.
func mark(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = s.log.Len()
}

// noticed waits until the server, whose log says all, has noticed what a command before
// it has changed. It needs a mark from before that.
func noticed(ts *testscript.TestScript, neg bool, args []string) {
	logged(ts, false, []string{"another process changed the data"})
}

// logged PATTERN waits for a line in the server's log; ! logged looks once, at all of it.
func logged(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	line := regexp.MustCompile("(?m)" + strings.Join(args, " "))
	if !neg {
		s.wait(ts, "the log has "+line.String(), func() bool { return line.MatchString(s.text()[s.mark:]) })
	} else if line.MatchString(s.text()) {
		ts.Fatalf("the log:\n%s", s.text())
	}
}

// send RECIPIENT FILE sends a message by SMTP, as bob@example.net's server would.
func send(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] send RECIPIENT FILE")
	}
	text := strings.ReplaceAll(ts.ReadFile(args[1]), "\n", "\r\n")
	c, err := smtp.Dial(of(ts).at(25))
	ts.Check(err)
	defer c.Close()
	err = c.SendMail("bob@example.net", []string{args[0]}, strings.NewReader(text))
	switch {
	case neg && err == nil:
		ts.Fatalf("it was accepted")
	case neg:
		ts.Logf("%v", err)
	default:
		ts.Check(err)
		ts.Check(c.Quit())
	}
}

// enqueue RECIPIENT puts a sealed copy from alice for a recipient into the queue, as a
// submission would; the id of the recipient is in the variable ID.
func enqueue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: enqueue RECIPIENT")
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Path: ts.MkAbs("gw/data/postern.db")})
	ts.Check(err)
	defer s.Close()
	alice, err := s.AccountByAddress(ctx, "alice@example.org")
	ts.Check(err)
	text := []byte("From: alice@example.org\r\nMessage-ID: <q@example.org>\r\n\r\nciphertext\r\n")
	_, domain, _ := strings.Cut(args[0], "@")
	o := store.Outgoing{
		ID: s.NewID(), Account: alice.ID, Source: "script", From: "alice@example.org", Level: mail.Sealed,
		Protection: mail.Protect(mail.Order{Floor: mail.Sealed}, mail.ContentClear, mail.Found),
		Head:       text, Size: int64(len(text)), Body: "7BIT",
		Rcpts: []store.OutgoingRcpt{{ID: s.NewID(), Address: args[0], Domain: domain}},
	}
	_, err = s.Commit(ctx, store.Batch{Outgoing: []store.Outgoing{o}})
	ts.Check(err)
	ts.Setenv("ID", o.Rcpts[0].ID.String())
}

// fetch USER PASSWORD MAILBOX DIR writes the messages of a mailbox, read by IMAP, to
// DIR/1.eml and so on; ! fetch wants the login to fail.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: [!] fetch USER PASSWORD MAILBOX DIR")
	}
	c, err := imapclient.DialTLS(of(ts).at(993), &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	ts.Check(err)
	defer c.Close()
	err = c.Login(args[0], args[1]).Wait()
	if neg {
		if err == nil {
			ts.Fatalf("logged in")
		}
		return
	}
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs(args[3]), 0o700))
	box, err := c.Select(args[2], &imap.SelectOptions{ReadOnly: true}).Wait()
	ts.Check(err)
	if box.NumMessages == 0 {
		return
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	ts.Check(err)
	for i, m := range got {
		name := filepath.Join(ts.MkAbs(args[3]), strconv.Itoa(i+1)+".eml")
		ts.Check(os.WriteFile(name, m.FindBodySection(whole), 0o600))
	}
}

// field VARIABLE FILE NAME… takes a value out of a JSON file, or out of stdout: NAME is
// a key, or an index of a list.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: field VARIABLE FILE NAME...")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &v))
	for _, name := range args[2:] {
		switch in := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = in[name]; !ok {
				ts.Fatalf("no %q in %v", name, in)
			}
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(in) {
				ts.Fatalf("no %q in %v", name, in)
			}
			v = in[i]
		default:
			ts.Fatalf("no %q in %v", name, v)
		}
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

// damage FILE changes one octet in the middle of a file. FILE may be a pattern that one
// file matches.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	if err != nil || len(found) != 1 {
		ts.Fatalf("%v, %v", found, err)
	}
	b, err := os.ReadFile(found[0])
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(found[0], b, 0o600))
	ts.Setenv("DAMAGED", found[0])
}

// until PATTERN PROGRAM [ARG…] runs a program again and again until it prints PATTERN.
func until(ts *testscript.TestScript, neg bool, args []string) {
	line := regexp.MustCompile("(?m)" + args[0])
	of(ts).wait(ts, args[0], func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && line.MatchString(ts.ReadFile("stdout"))
	})
}

// mode OCTAL FILE… compares the permissions of files.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s", name, got)
		}
	}
}

// offer ADDRESS FILE lets another certificate of a known correspondent wait for a
// decision, as when a source had it.
func offer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: offer ADDRESS FILE")
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Path: ts.MkAbs("gw/data/postern.db")})
	ts.Check(err)
	defer s.Close()
	certs, err := pgp.ParseCertificates([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	known, err := s.Known(ctx, args[0])
	ts.Check(err)
	rows, err := s.Certificates(ctx, args[0])
	ts.Check(err)
	rows = slices.DeleteFunc(rows, func(r store.Certificate) bool { return r.Fingerprint == certs[0].Fingerprint() })
	rows = append(rows, store.Certificate{Address: args[0], Fingerprint: certs[0].Fingerprint(), Data: certs[0].Data(), Source: "wkd"})
	known.Candidate, known.CandidateSource = certs[0].Fingerprint(), "wkd"
	ts.Check(s.Learn(ctx, store.Learned{Known: known, Certificates: rows, Was: known.Checked}))
	ts.Setenv("OFFERED", certs[0].Fingerprint())
}

// text is the server's log so far.
func (s *script) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Write implements io.Writer: the server's output.
func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}
