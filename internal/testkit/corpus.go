package testkit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Message is one message of the corpus.
type Message struct {
	// Name is the file's name, or the kind and number of a generated message.
	Name string
	// Source is "enmime", "python" or "generated".
	Source string
	// Bytes are as they would come by SMTP: every line ends in CRLF and there is
	// neither NUL nor bare CR or LF. Lines may be longer than RFC 5321 allows and may
	// hold any 8-bit octets.
	Bytes []byte
	// SignedBy is the armored OpenPGP certificate, or the PEM certificate, that
	// verifies the signature inside. Nil: there is none that can be verified.
	SignedBy []byte
	// TXT are the DNS records that verify the DKIM signature inside, by name.
	TXT map[string]string
}

const (
	// corpusModule is the Go module with the nastiest messages (licence: MIT).
	corpusModule = "github.com/jhillyerd/enmime@v1.3.0"
	// pythonMessages are those of Debian's libpython3-testsuite (licence: PSF).
	pythonMessages = "/usr/lib/python3*/test/test_email/data/msg_*.txt"
	// corpusSize is how many different messages the corpus has at least.
	corpusSize = 200
)

// Corpus returns at least 200 different messages: those of other projects' tests where
// they lie on this machine, and generated ones, which are the same at each call except for the
// signatures in some. If there are fewer, it ends the test as Parts does.
func Corpus(t testing.TB) []Message {
	t.Helper()
	var c collector
	enmime := moduleDir(t, corpusModule)
	c.files("enmime", filepath.Join(enmime, "testdata", "*", "*.raw"))
	c.files("enmime", filepath.Join(enmime, "dsn", "testdata", "*.raw"))
	c.files("python", pythonMessages)
	for _, m := range Generated() {
		c.add(m)
	}
	for _, m := range generateSigned(t) {
		c.add(m)
	}
	if len(c.messages) < corpusSize {
		Missing(t, "corpus: the module "+corpusModule+" or Debian's libpython3-testsuite")
	}
	return c.messages
}

// Generated returns the messages that need nothing from outside: one of each kind
// that mail systems meet, in many variations.
func Generated() []Message {
	var all []Message
	for _, kind := range []func() []Message{
		textMessages, charsetMessages, parameterMessages, multipartMessages, nestedMessages,
		calendarMessages, reportMessages, listMessages, headerMessages, brokenMessages, dkimMessages,
	} {
		all = append(all, kind()...)
	}
	return all
}

// moduleDir returns where the Go module lies, having it downloaded into the module
// cache if need be. The work happens outside of any module, so that nobody's go.mod
// changes. It returns a directory that does not exist if the module cannot be had.
func moduleDir(t testing.TB, module string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Logf("go mod download %s: %v", module, err)
		return cmd.Dir
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		t.Logf("go mod download %s: %v", module, err)
		return cmd.Dir
	}
	return got.Dir
}

// collector keeps each message once.
type collector struct {
	messages []Message
	seen     map[[32]byte]bool
}

// files adds the files that match the pattern, in their order.
func (c *collector) files(source, pattern string) {
	paths, _ := filepath.Glob(pattern) // the only error is of the pattern
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // a directory
		}
		c.add(Message{Name: filepath.Base(path), Source: source, Bytes: b})
	}
}

// add adds a message as it would come by SMTP, unless it could not come so.
func (c *collector) add(m Message) {
	b, ok := wire(m.Bytes)
	if !ok {
		return
	}
	digest := sha256.Sum256(b)
	if c.seen[digest] {
		return
	}
	if c.seen == nil {
		c.seen = make(map[[32]byte]bool)
	}
	c.seen[digest] = true
	m.Bytes = b
	if m.Source == "" {
		m.Source = "generated"
	}
	c.messages = append(c.messages, m)
}

// wire gives every line its CRLF. It reports false for what an MTA refuses: NUL and
// bare CR (RFC 5321 2.3.8, RFC 5322 2.2), and for nothing at all.
func wire(b []byte) ([]byte, bool) {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	if len(b) == 0 || bytes.ContainsAny(b, "\r\x00") {
		return nil, false
	}
	if b[len(b)-1] != '\n' {
		b = append(bytes.Clone(b), '\n')
	}
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")), true
}
