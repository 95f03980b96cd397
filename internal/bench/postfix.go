package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"postern/internal/testkit"
)

// postfix is a private Postfix with a Maildir of its own. What it takes and how fast is
// not limited.
type postfix struct {
	*testkit.Postfix
	dir string
}

// startPostfix starts Postfix as it delivers in clear.
func (b *bench) startPostfix(ctx context.Context) (served, error) {
	return b.newPostfix("", "")
}

// newPostfix starts a Postfix with more lines in its two files.
func (b *bench) newPostfix(main, master string) (*postfix, error) {
	dir, err := os.MkdirTemp(b.dir, "postfix-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := testkit.PostfixOptions{
		Dir: dir, Domain: "y.test", Address: fmt.Sprint("127.0.0.1:", port), Master: master,
		Main: "message_size_limit = 0\nsmtpd_client_connection_count_limit = 0\n" + main,
	}.Run()
	return &postfix{p, dir}, err
}

func (p *postfix) addr() string { return p.Addr() }
func (p *postfix) rcpt() string { return owner }

func (p *postfix) stored(context.Context) (int, error) {
	d, err := os.Open(filepath.Join(p.Maildir(), "new"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return len(names), err
}

func (p *postfix) cpu() (time.Duration, error) { return cpuOfTree(p.PID()) }

func (p *postfix) stop() error { return errors.Join(p.Stop(), os.RemoveAll(p.dir)) }

// waiting counts the files of the queue.
func (p *postfix) waiting(context.Context) (total int, err error) {
	for _, name := range []string{"maildrop", "incoming", "active", "deferred"} {
		n, err := countFiles(filepath.Join(p.dir, "queue", name))
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// countFiles counts the files in a directory, and in those below it. One that is not
// there has none.
func countFiles(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // not yet, or it has just gone
			return nil
		}
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	return n, err
}
