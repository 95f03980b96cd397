package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"postern/internal/mail"
)

const manyRcpts = 1000

// many measures one message to many recipients, each with a certificate, by a server that
// was just started.
func (b *bench) many(ctx context.Context) (err error) {
	k, err := startSink(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	var whole, accepted, grown, peak []float64
	for range b.pairs {
		r, err := b.oneToMany(ctx, k)
		if err != nil {
			return err
		}
		whole, accepted = append(whole, r.whole.Seconds()), append(accepted, r.accepted.Seconds())
		grown, peak = append(grown, float64(r.grown)/mib), append(peak, float64(r.peak)/mib)
	}
	fmt.Printf("| one message of 60 KB to %s recipients | target | measured |\n|---|---|---|\n", thousands(manyRcpts))
	fmt.Printf("| from MAIL to the reply to its end | 1 s | %.2f s |\n", median(whole))
	fmt.Printf("| of that, from its end to the reply | | %.2f s |\n", median(accepted))
	fmt.Printf("| memory at most, until all is delivered | 100 MiB | %.0f MiB (%.0f MiB more than before) |\n\n", median(peak), median(grown))
	return nil
}

type manyResult struct {
	whole, accepted time.Duration
	grown, peak     int64 // octets
}

func (b *bench) oneToMany(ctx context.Context, k *sink) (r manyResult, err error) {
	p, err := b.newRelay(ctx, manyRcpts, "*="+k.addr())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	c, err := p.connect()
	if err != nil {
		return r, err
	}
	defer c.Close()
	to := make([]mail.Address, manyRcpts)
	for i := range to {
		to[i] = correspondent(i)
	}
	text := letter(0, to, 60_000) // of which a third are their addresses
	pid := p.cmd.Process.Pid
	// From here on the peak counts.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return r, err
	}
	before, err := memoryOf(pid, "VmRSS")
	if err != nil {
		return r, err
	}
	arrived, _ := k.received()
	start := time.Now()
	if err := c.Mail(owner, nil); err != nil {
		return r, err
	}
	for _, a := range to {
		if err := c.Rcpt(a.String(), nil); err != nil {
			return r, err
		}
	}
	w, err := c.Data()
	if err != nil {
		return r, err
	}
	_, err = w.Write([]byte(text))
	ended := time.Now()
	if err := errors.Join(err, w.Close()); err != nil {
		return r, err
	}
	r.whole, r.accepted = time.Since(start), time.Since(ended)
	if _, err := k.wait(ctx, arrived+correspondentDomains); err != nil { // one for each domain
		return r, err
	}
	r.peak, err = memoryOf(pid, "VmHWM")
	r.grown = r.peak - before
	return r, err
}
