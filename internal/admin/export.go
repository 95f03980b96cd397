package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"postern/internal/store"
)

// ExportResult counts what was exported.
type ExportResult struct {
	Dir      string         `json:"dir"`
	Exported int            `json:"exported"`
	Octets   int64          `json:"octets"`
	ByBox    map[string]int `json:"mailboxes"`
	// Held is how many messages are not exported because they wait for a certificate.
	Held int `json:"held"`
	// Failed names the messages that could not be read, by mailbox and UID.
	Failed []string `json:"failed"`
}

// WriteText implements the human form.
func (r *ExportResult) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "Exported %d messages, %d octets, to %s.\n", r.Exported, r.Octets, r.Dir); err != nil {
		return err
	}
	if r.Held > 0 {
		fmt.Fprintf(w, "%d messages wait for a certificate and are not in it.\n", r.Held)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(w, "Not exported: %s\n", f)
	}
	return writeByBox(w, r.ByBox)
}

// writeByBox prints how many messages each mailbox got.
func writeByBox(w io.Writer, byBox map[string]int) error {
	return table(w, "", func(line func(string, ...any)) {
		for _, name := range slices.Sorted(maps.Keys(byBox)) {
			line("  %s\t%d", name, byBox[name])
		}
	})
}

// Export writes an account's mail into a new Maildir, each message octet by octet as
// IMAP serves it: still sealed. What cannot be read is listed and keeps nothing else
// from being exported.
func (a *Admin) Export(ctx context.Context, address, dir string) (*ExportResult, error) {
	account, err := a.account(ctx, address)
	if err != nil {
		return nil, err
	}
	boxes, err := a.g.Store.Mailboxes(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	r := &ExportResult{Dir: dir, ByBox: map[string]int{}, Failed: []string{}}
	if r.Held, err = a.g.Store.HeldCount(ctx, account.ID); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for _, m := range boxes {
		if err := a.exportMailbox(ctx, m, r); err != nil {
			return r, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if len(r.Failed) > 0 {
		return r, fmt.Errorf("%d messages were not exported", len(r.Failed))
	}
	return r, nil
}

func (a *Admin) exportMailbox(ctx context.Context, m store.Mailbox, r *ExportResult) error {
	dir := folder(r.Dir, m.Name)
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	view, err := a.g.Store.View(ctx, m.ID)
	if err != nil {
		return err
	}
	for _, e := range view.Entries {
		size, err := a.exportMessage(ctx, dir, e)
		var unreadable *unreadable
		switch {
		case errors.Is(err, store.ErrNotFound): // expunged since
		case errors.As(err, &unreadable) && ctx.Err() == nil:
			r.Failed = append(r.Failed, fmt.Sprintf("%s, UID %d: %v", m.Name, e.UID, err))
		case err != nil:
			return err
		default:
			r.Exported++
			r.Octets += size
			r.ByBox[m.Name]++
		}
	}
	return nil
}

// unreadable is an error of the source, not of the place to export to.
type unreadable struct{ error }

func (u *unreadable) Unwrap() error { return u.error }

// exportMessage writes one message and returns its size in octets.
func (a *Admin) exportMessage(ctx context.Context, dir string, e store.Entry) (int64, error) {
	m, err := a.g.Store.Message(ctx, e.Message)
	if err != nil {
		return 0, err
	}
	if m.Blob.Ref != "" {
		if err := a.g.Blobs.Verify(ctx, m.Blob.Ref, m.Blob.Size, m.Blob.Digest); err != nil {
			return 0, &unreadable{err}
		}
	}
	body, err := m.Open(ctx, a.g.Blobs)
	if err != nil {
		return 0, &unreadable{err}
	}
	defer body.Close()
	name := filepath.Join(dir, "cur", fmt.Sprintf("%d.%d.%s:2,%s", e.InternalDate/1e6, e.UID, m.ID, maildirLetters(e.Flags, e.Keywords)))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, &marked{body})
	date := time.UnixMicro(e.InternalDate)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, errors.Join(err, os.Remove(name))
	}
	return n, os.Chtimes(name, date, date)
}

// marked tells the errors of reading from those of writing.
type marked struct{ r io.Reader }

func (m *marked) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && err != io.EOF {
		err = &unreadable{err}
	}
	return n, err
}
