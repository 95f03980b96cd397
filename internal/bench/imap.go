package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"
)

// imap measures a mailbox of 100,000 messages over a raw connection, so that the
// client costs next to nothing.
func (b *bench) imap(ctx context.Context) (err error) {
	p, err := b.newPostern(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	n := b.count(100_000)
	if _, err := drive(ctx, p, load{"", 5000, 20, n}); err != nil {
		return err
	}
	c, err := tls.Dial("tcp", p.at(993), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 1<<20)
	command := func(text string) (time.Duration, error) {
		start := time.Now()
		if _, err := fmt.Fprintf(c, "A %s\r\n", text); err != nil {
			return 0, err
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return 0, err
			}
			if strings.HasPrefix(line, "A ") {
				if !strings.HasPrefix(line, "A OK") {
					return 0, fmt.Errorf("%s: %s", text, line)
				}
				return time.Since(start), nil
			}
		}
	}
	if _, err := r.ReadString('\n'); err != nil {
		return err
	}
	if _, err := command(fmt.Sprintf("LOGIN %s %s", owner, p.setup.Password)); err != nil {
		return err
	}
	fmt.Printf("| IMAP over TLS, mailbox of %d messages of 5 KB | median |\n|---|---|\n", n)
	for _, text := range []string{"SELECT INBOX", "FETCH 1:* (FLAGS UID)", "FETCH 1:* (ENVELOPE)", "FETCH 1:* (BODYSTRUCTURE)", "SEARCH SUBJECT rare"} {
		var times []float64
		for i := range b.pairs + 1 {
			took, err := command(text)
			if err != nil {
				return err
			}
			if i > 0 { // the first one warms up
				times = append(times, took.Seconds()*1000)
			}
		}
		fmt.Printf("| %s | %.0f ms |\n", text, median(times))
	}
	fmt.Println()
	return ctx.Err()
}
