// Package admin is what an operator does to a gateway: set it up, manage accounts,
// passwords and certificates, import and export mail, and check that all is well.
// The command line prints what it returns.
//
// It works on the data directory, beside a running server or without one. It never
// holds a person's secret key, never overwrites a file, and old mail goes in by the
// same door as new mail.
//
//	quickstart.go, selfsigned.go         a new gateway
//	account.go, password.go              accounts and their passwords
//	certificate.go                       the certificates that mail is sealed to
//	import.go, mbox.go, maildir.go       old mail comes in (RFC 4155, Maildir++)
//	export.go                            mail goes out
//	directory.go, policy.go              what would become of mail, and why
//	story.go                             what became of it
//	dkim.go                              the keys that sign what leaves
//	check.go, reach.go, records.go       is all well?
//	queue.go                             mail that waits to leave
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/server"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// ErrUsage is wrapped by errors that are the caller's: a bad address, a missing label.
var ErrUsage = errors.New("usage")

// usage returns an error that wraps ErrUsage.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, args...))
}

// Usage returns an error of the caller's, with what to do instead.
func Usage(text string) error { return usage("%s", text) }

// Admin works on one gateway's data.
type Admin struct {
	g *server.Gateway
}

// Open opens the data of the gateway that a configuration file describes.
func Open(ctx context.Context, path string) (*Admin, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	g, err := server.Open(ctx, cfg, telemetry.Discard())
	if err != nil {
		return nil, err
	}
	return &Admin{g: g}, nil
}

// Close closes the data.
func (a *Admin) Close() error { return a.g.Close() }

// account finds an account by its address.
func (a *Admin) account(ctx context.Context, address string) (store.Account, error) {
	addr, err := parseAddress(address)
	if err != nil {
		return store.Account{}, err
	}
	account, err := a.g.Store.AccountByAddress(ctx, addr.Key())
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, fmt.Errorf("there is no account %s (postern account list names all)", addr)
	}
	return account, err
}

func parseAddress(address string) (mail.Address, error) {
	addr, err := mail.ParseAddress(address)
	if err != nil {
		return mail.Address{}, usage("%q: %v", address, err)
	}
	return addr, nil
}

// Build is which program this is.
type Build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Version describes this program.
func Version() Build {
	b := Build{Version: "development", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	return b
}

// WriteText implements the human form.
func (b Build) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "postern %s (%s, %s)\n", b.Version, b.Go, b.Platform)
	return err
}

// table writes rows of tab-separated columns, aligned.
func table(w io.Writer, header string, rows func(line func(format string, args ...any))) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if header != "" {
		fmt.Fprintln(t, header)
	}
	rows(func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) })
	return t.Flush()
}
