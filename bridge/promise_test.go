package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/blob"
	"postern/internal/mail"
	"postern/internal/msgauth"
	"postern/internal/store"
	"postern/keydir"
)

// brokenBlobs fails at one step.
type brokenBlobs struct {
	blob.Store
	create, write, commit error
}

func (b brokenBlobs) Create(ctx context.Context) (blob.Writer, error) {
	if b.create != nil {
		return nil, b.create
	}
	w, err := b.Store.Create(ctx)
	return brokenWriter{w, b}, err
}

type brokenWriter struct {
	blob.Writer
	b brokenBlobs
}

func (w brokenWriter) Write(p []byte) (int, error) {
	if w.b.write != nil {
		return 0, w.b.write
	}
	return w.Writer.Write(p)
}

func (w brokenWriter) Commit(ctx context.Context) (blob.Written, error) {
	if w.b.commit != nil {
		return blob.Written{}, w.b.commit
	}
	return w.Writer.Commit(ctx)
}

// brokenCertificates cannot say what certificates there are.
type brokenCertificates struct{ keydir.Store }

func (brokenCertificates) Certificates(context.Context, string) ([]store.Certificate, error) {
	return nil, errors.New("the directory is down")
}

// rubbish is a directory whose certificates cannot be read any more.
type rubbish struct{ keydir.Store }

func (rubbish) Certificates(context.Context, string) ([]store.Certificate, error) {
	return []store.Certificate{{Fingerprint: "AA", Data: []byte("rubbish")}}, nil
}

// silentResolver never answers.
type silentResolver struct{ noDNS }

func (silentResolver) LookupTXT(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestP3FailClosed fails each thing that the path depends on, in turn. The outcome is
// always held, deferred or refused; nothing of the message is ever on disk in clear.
func TestP3FailClosed(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		change func(*Options)
		held   bool
		sealed bool
		code   int // of the refusal; -1: an error without a reply, which becomes 451
	}{
		"directory down": {change: func(o *Options) { o.Directory = keydir.New(keydir.Options{Store: brokenCertificates{}}) }, held: true},
		"directory down, reject": {change: func(o *Options) {
			o.Directory = keydir.New(keydir.Options{Store: brokenCertificates{}})
			o.RejectWithoutCertificate = true
		}, code: 451},
		"certificate unreadable": {change: func(o *Options) { o.Directory = keydir.New(keydir.Options{Store: rubbish{}}) }, held: true},
		"blob cannot begin":      {change: func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, create: broken} }, code: -1},
		"blob cannot be written": {change: func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, write: broken} }, code: -1},
		"blob not durable":       {change: func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, commit: broken} }, code: -1},
		"disk full":              {change: func(o *Options) { o.Blobs = brokenBlobs{Store: o.Blobs, commit: blob.ErrFull} }, code: 452},
		"spool cannot be made":   {change: func(o *Options) { o.SpoolDir = "/nonexistent"; o.SpoolMemory = 0 }, code: -1},
		"resolver silent": {change: func(o *Options) {
			o.Verifier = msgauth.NewVerifier(msgauth.Options{Resolver: silentResolver{}, Deadline: 50 * time.Millisecond})
		}, sealed: true},
		"expired": {change: func(o *Options) { o.Now = func() time.Time { return time.Now().AddDate(100, 0, 0) } }, sealed: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, test.change)
			a := f.account("alice@here.test", true)
			// Too large for the database, so that it needs a blob.
			text := plainMail + strings.Repeat("nothing to see here\r\n", maxInline/20)
			_, err := f.send(source(), text, "alice@here.test")
			if got := codeOf(err); got != test.code {
				t.Fatalf("error %v, want code %d", err, test.code)
			}
			held, err := f.Store.HeldCopies(t.Context(), a.ID)
			if err != nil {
				t.Fatal(err)
			}
			if (len(held) > 0) != test.held {
				t.Errorf("%d held copies", len(held))
			}
			n := 0
			for _, m := range f.stored("alice@here.test", "INBOX") {
				if m.Class == store.ClassSealed {
					n++
				}
				if bytes.Contains(m.raw, []byte("canary")) {
					t.Errorf("clear text in the mailbox, class %s", m.Class)
				}
			}
			if (n > 0) != test.sealed {
				t.Errorf("%d sealed messages", n)
			}
			f.noCanary()
		})
	}
}

// TestP3StoreDown closes the store under a running transaction.
func TestP3StoreDown(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	tr, err := f.Begin(t.Context(), source())
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, "alice@here.test")}); err != nil {
		t.Fatal(err)
	}
	if err := f.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Data(t.Context(), strings.NewReader(plainMail)); err == nil || codeOf(err) > 500 {
		t.Errorf("Data: %v, want a temporary failure", err)
	}
	f.noCanary()
}

// TestP3ReaderFails: a message that did not arrive whole is not a message.
func TestP3ReaderFails(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	lost := io.MultiReader(strings.NewReader(plainMail), &failing{errors.New("connection lost")})
	if _, err := f.sendFrom(source(), lost, "alice@here.test"); err == nil {
		t.Error("a truncated message was accepted")
	}
	if n := len(f.stored("alice@here.test", "INBOX")); n != 0 {
		t.Errorf("%d messages", n)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// noCanary searches all files for the words of plainMail.
func (f *fixture) noCanary() {
	f.t.Helper()
	err := filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range []string{"canary sings", "a secret subject"} {
			if bytes.Contains(b, []byte(word)) {
				f.t.Errorf("%q is in %s", word, path)
			}
		}
		return err
	})
	if err != nil {
		f.t.Error(err)
	}
}

// TestP5ForgedMarksAreStripped: what only the gateway may say is taken out of what
// comes from outside, in the outer fields and in the payload.
func TestP5ForgedMarksAreStripped(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	forged := "Postern-Arrival: v=1; id=x; class=end-to-end; sig=AAAA\r\n" +
		"postern-delivery: sealed\r\n" +
		"Authentication-Results: MAIL.here.test;\r\n dkim=pass header.d=bank.test\r\n" +
		"Authentication-Results: other.test; spf=pass\r\n"
	f.mustSend(forged+plainMail, "alice@here.test")
	raw := f.stored("alice@here.test", "INBOX")[0].raw
	o := f.open("alice@here.test", raw)
	for _, text := range []string{string(raw), string(o.original)} {
		for _, gone := range []string{"end-to-end", "postern-delivery", "bank.test"} {
			if strings.Contains(text, gone) {
				t.Errorf("%q was not stripped:\n%s", gone, text)
			}
		}
	}
	if !strings.Contains(string(o.original), "Authentication-Results: other.test; spf=pass") {
		t.Error("another server's result was stripped")
	}
	if o.Provenance.Class != "clear" || strings.Count(string(o.payload), "Postern-Arrival") != 1 {
		t.Errorf("provenance %+v", o.Provenance)
	}
	if want := strings.Replace(forged, forged, "Authentication-Results: other.test; spf=pass\r\n", 1) + plainMail; string(o.original) != want {
		t.Errorf("opened:\n%s\nwant:\n%s", o.original, want)
	}
}

// TestP1StoredMessagesNeedTheOwner: the keys that lie on the server do not open a
// sealed message.
func TestP1StoredMessagesNeedTheOwner(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	f.mustSend(plainMail, "alice@here.test")
	raw := f.stored("alice@here.test", "INBOX")[0].raw
	start := bytes.Index(raw, []byte("-----BEGIN PGP"))
	end := bytes.LastIndex(raw, []byte("\r\n--postern"))
	if plain, err := f.Vault.OpenHeld(bytes.NewReader(raw[start:end])); err == nil {
		if b, err := io.ReadAll(plain); err == nil {
			t.Fatalf("the gateway opened a sealed message: %.60q", b)
		}
	}
}
