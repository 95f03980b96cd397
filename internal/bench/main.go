// Command bench measures Postern beside a reference on the same machine, in turn, and
// prints the table that README shows. It needs Debian's postfix, gnupg, nginx-light,
// opendkim and redis-server, and root, because Postfix does.
//
// Each figure is the median of several pairs; the reference and Postern run one after
// the other, so that what else the machine does hits both. What is counted is what is
// stored, or has arrived where it is relayed to, and CPU is that of all the server's
// processes. It uses loopback only, and every load is bounded in count.
//
// For relaying both take mail from the same clients: ten connections of this process,
// one command at a time, a new connection after every hundred messages. With Postern they
// speak TLS and log in, as everybody who submits has to; Postfix relays for loopback
// without either. Each message goes to one of a thousand correspondents at fifty domains,
// some of which get most of it, in the same order for both. Both hand everything to one
// smtp-sink without TLS. Postern finds a certificate of each correspondent's own in its
// directory, and signs by DKIM with the keys that quickstart makes, RSA and Ed25519.
// Postfix does neither; in a second comparison opendkim signs for it, by RSA alone.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// options are the command line's.
type options struct {
	pairs int
	scale float64
	only  string
}

func main() {
	var o options
	flag.IntVar(&o.pairs, "pairs", 3, "how many times each pair is run")
	flag.Float64Var(&o.scale, "scale", 1, "multiply the number of messages, for a quick look")
	flag.StringVar(&o.only, "only", "smtp,gpg,memory,imap,wkd,keydir,relay,many,waiting", "which parts to run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "postern-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Postfix's processes run as other users and must be able to enter.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	b := &bench{options: o, dir: dir}
	if err := b.build(ctx); err != nil {
		return err
	}
	parts := strings.Split(o.only, ",")
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"smtp", b.smtp}, {"gpg", b.gpg}, {"memory", b.memory}, {"imap", b.imap}, {"wkd", b.wkd}, {"keydir", b.keydir},
		{"relay", b.relay}, {"many", b.many}, {"waiting", b.waiting},
	} {
		if !slices.Contains(parts, part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// bench is one run of the program.
type bench struct {
	options
	dir    string
	binary string
}

// count scales a number of messages.
func (b *bench) count(n int) int { return max(int(float64(n)*b.scale), 20) }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}
