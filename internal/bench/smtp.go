package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// server is something that takes mail by SMTP and stores it.
type served interface {
	addr() string
	rcpt() string
	// stored returns how many messages are stored.
	stored(ctx context.Context) (int, error)
	// cpu is the time that all its processes have used.
	cpu() (time.Duration, error)
	stop() error
}

// load is one kind of traffic.
type load struct {
	name  string
	size  int // octets
	conns int
	count int
}

// result is what one run gave.
type result struct {
	rate float64 // messages stored per second
	cpu  float64 // milliseconds of CPU per message
}

// drive sends the load with smtp-source and waits until all of it is stored.
func drive(ctx context.Context, s served, l load) (result, error) {
	before, err := s.stored(ctx)
	if err != nil {
		return result{}, err
	}
	used, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	cmd := exec.CommandContext(ctx, "smtp-source", "-s", strconv.Itoa(l.conns), "-m", strconv.Itoa(l.count),
		"-l", strconv.Itoa(l.size), "-f", "a@x.test", "-t", s.rcpt(), s.addr())
	if out, err := cmd.CombinedOutput(); err != nil {
		return result{}, fmt.Errorf("smtp-source: %w: %s", err, out)
	}
	for deadline := start.Add(5 * time.Minute); ; {
		n, err := s.stored(ctx)
		if err != nil {
			return result{}, err
		}
		if n-before >= l.count {
			break
		}
		if time.Now().After(deadline) {
			return result{}, fmt.Errorf("only %d of %d messages were stored", n-before, l.count)
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(start)
	after, err := s.cpu()
	return result{
		rate: float64(l.count) / took.Seconds(),
		cpu:  (after - used).Seconds() * 1000 / float64(l.count),
	}, err
}

// smtp measures accepting and storing, beside Postfix delivering in clear to a Maildir.
func (b *bench) smtp(ctx context.Context) error {
	fmt.Println("| accept and store | Postfix, clear, Maildir | Postern, sealed | rate | CPU |")
	fmt.Println("|---|---|---|---|---|")
	for _, l := range []load{
		{"2 KB, 10 connections", 2000, 10, b.count(6000)},
		{"2 KB, 1 connection", 2000, 1, b.count(1500)},
		{"30 KB, 10 connections", 30_000, 10, b.count(3000)},
		{"1 MB, 10 connections", 1_000_000, 10, b.count(400)},
	} {
		if err := b.pair(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	fmt.Println()
	return nil
}

// pair runs one load against both, in turn.
func (b *bench) pair(ctx context.Context, l load) error {
	var rates, cpus [2][]float64
	for range b.pairs {
		for i, start := range []func(context.Context) (served, error){b.startPostfix, b.startPostern} {
			s, err := start(ctx)
			if err != nil {
				return err
			}
			warm := l
			warm.count = max(l.count/10, l.conns)
			_, err = drive(ctx, s, warm)
			var r result
			if err == nil {
				r, err = drive(ctx, s, l)
			}
			if stopErr := s.stop(); err == nil {
				err = stopErr
			}
			if err != nil {
				return err
			}
			rates[i], cpus[i] = append(rates[i], r.rate), append(cpus[i], r.cpu)
		}
	}
	fmt.Printf("| %s | %.0f/s, %.2f ms | %.0f/s, %.2f ms | %.1f × | %.2f × |\n", l.name,
		median(rates[0]), median(cpus[0]), median(rates[1]), median(cpus[1]),
		median(rates[1])/median(rates[0]), median(cpus[1])/median(cpus[0]))
	return nil
}
