package vault

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/pgp"
)

func TestRequests(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := Create(dir, "here.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	r := NewRequests(dir)
	if r.Certificate("here.test") != nil {
		t.Error("a key before one was made")
	}
	// Several processes make the same key.
	var all sync.WaitGroup
	others := make([]*Requests, 8)
	for i := range others {
		others[i] = NewRequests(dir)
		all.Go(func() {
			if err := others[i].Open("here.test", "key-submission@here.test", time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := r.Open("here.test", "key-submission@here.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	c := r.Certificate("here.test")
	for _, o := range others {
		if o.Certificate("here.test").Fingerprint() != c.Fingerprint() {
			t.Error("another key")
		}
	}
	if !c.HasAddress("key-submission@here.test") {
		t.Errorf("user IDs %q", c.UserIDs())
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || strings.HasSuffix(f.Name(), ".new") || strings.HasSuffix(f.Name(), ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s %v %v", f.Name(), info.Mode(), err)
		}
	}
	text := "type: confirmation-response\r\n"
	message := sealedTo(t, c, text)
	in, err := r.OpenRequest("here.test", bytes.NewReader(message), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := r.OpenRequest("there.test", bytes.NewReader(message), 1000); err == nil {
		t.Error("opened for another domain")
	}
	if _, err := r.OpenRequest("here.test", bytes.NewReader(sealedTo(t, c, strings.Repeat(text, 100))), 1000); err == nil {
		t.Error("opened over the limit")
	}
	for _, domain := range []string{"", "../x", "a/b", ".."} {
		if err := r.Open(domain, "x@y", time.Now()); err == nil {
			t.Errorf("%q is a domain", domain)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "request-here.test.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := NewRequests(dir).Open("here.test", "x@y", time.Now()); err == nil {
		t.Error("a key that others may read")
	}
}

func sealedTo(t *testing.T, c *pgp.Certificate, text string) []byte {
	t.Helper()
	b, err := pgp.Seal([]byte(text), []*pgp.Certificate{c}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
