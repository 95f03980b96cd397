package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// ImportOptions say what to import where.
type ImportOptions struct {
	Address string
	Path    string // an mbox file, or a Maildir
	Mailbox string // empty: INBOX, or a Maildir's own folders below it
	DryRun  bool
}

// ImportResult counts what was imported.
type ImportResult struct {
	Imported int            `json:"imported"`
	Octets   int64          `json:"octets"`
	ByBox    map[string]int `json:"mailboxes"`
	// Held is how many of them wait for a certificate.
	Held int `json:"held"`
	// Failed names the messages that were refused, by their place in the source.
	Failed []string `json:"failed"`
	DryRun bool     `json:"dry_run"`
}

// WriteText implements the human form.
func (r *ImportResult) WriteText(w io.Writer) error {
	verb := "Imported"
	if r.DryRun {
		verb = "Would import"
	}
	if _, err := fmt.Fprintf(w, "%s %d messages, %d octets.\n", verb, r.Imported, r.Octets); err != nil {
		return err
	}
	if r.Held > 0 {
		fmt.Fprintf(w, "%d of them wait, encrypted, for a certificate: postern cert import\n", r.Held)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(w, "Not imported: %s\n", f)
	}
	return writeByBox(w, r.ByBox)
}

// old is one message of an import's source.
type old struct {
	where   string // for people: file, or file and number
	mailbox string
	flags   []string // IMAP's names
	date    time.Time
	open    func() (io.ReadCloser, error)
}

// Import seals old mail into an account, by the same door as new mail. Messages that
// are refused are listed and keep no other from being imported. When it fails, the
// result says how far it got.
func (a *Admin) Import(ctx context.Context, o ImportOptions) (*ImportResult, error) {
	account, err := a.account(ctx, o.Address)
	if err != nil {
		return nil, err
	}
	if o.Mailbox != "" {
		if o.Mailbox, err = store.CanonicalName(o.Mailbox); err != nil {
			return nil, usage("--mailbox: %v", err)
		}
	}
	info, err := os.Stat(o.Path)
	if err != nil {
		return nil, err
	}
	walk := walkMbox
	if info.IsDir() {
		walk = walkMaildir
	}
	result := &ImportResult{ByBox: map[string]int{}, Failed: []string{}, DryRun: o.DryRun}
	err = walk(o.Path, o.Mailbox, func(m old) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.importOne(ctx, account, m, result); err != nil {
			return fmt.Errorf("%s: %w", m.where, err)
		}
		return nil
	})
	if err == nil && len(result.Failed) > 0 {
		err = fmt.Errorf("%d messages were not imported", len(result.Failed))
	}
	return result, err
}

// importOne counts one message in, or lists why it was refused. Its error ends the
// import.
func (a *Admin) importOne(ctx context.Context, account store.Account, m old, r *ImportResult) error {
	f, err := m.open()
	if err != nil {
		return err
	}
	defer f.Close()
	octets := &counter{r: &crlfReader{src: f}}
	var placed mail.Placed
	if r.DryRun {
		_, err = io.Copy(io.Discard, octets)
	} else {
		placed, err = a.accept(ctx, account, m, octets)
	}
	var refused *mail.Error
	if errors.As(err, &refused) && !refused.Temporary() && refused.Enhanced != mail.ErrOverQuota.Enhanced {
		r.Failed = append(r.Failed, m.where+": "+refused.Text)
		return nil
	}
	if err != nil {
		return err
	}
	r.Imported++
	r.Octets += octets.n
	r.ByBox[m.mailbox]++
	if !r.DryRun && placed.UID == 0 {
		r.Held++
	}
	return nil
}

// accept puts one message through the door.
func (a *Admin) accept(ctx context.Context, account store.Account, m old, r io.Reader) (mail.Placed, error) {
	if err := a.needMailbox(ctx, account, m.mailbox); err != nil {
		return mail.Placed{}, err
	}
	tr, err := a.g.Bridge.Begin(ctx, mail.Source{Kind: mail.KindImport, ID: a.g.NewID(), Time: time.Now()})
	if err != nil {
		return mail.Placed{}, err
	}
	defer tr.Abort()
	into := &mail.Target{Mailbox: m.mailbox, Flags: m.flags, InternalDate: m.date}
	if err := tr.Rcpt(ctx, mail.Rcpt{Address: account.Address, Into: into}); err != nil {
		return mail.Placed{}, err
	}
	receipt, err := tr.Data(ctx, r)
	if err != nil {
		return mail.Placed{}, err
	}
	return receipt.Placed[0], nil
}

// needMailbox makes a mailbox that does not exist yet.
func (a *Admin) needMailbox(ctx context.Context, account store.Account, name string) error {
	_, err := a.g.Store.MailboxByName(ctx, account.ID, name)
	if errors.Is(err, store.ErrNotFound) {
		_, err = a.g.Store.CreateMailbox(ctx, account.ID, store.NewMailbox{Name: name})
	}
	return err
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
