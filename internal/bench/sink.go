package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// sink is Postfix's smtp-sink: the next hop, which counts messages and throws them away.
type sink struct {
	port int
	cmd  *exec.Cmd

	mu    sync.Mutex
	count int
	last  time.Time     // when the last message had arrived
	more  chan struct{} // capacity 1
	ended chan struct{}
}

// startSink starts one that takes as many connections as anybody here makes.
func startSink(ctx context.Context) (*sink, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &sink{port: port, more: make(chan struct{}, 1), ended: make(chan struct{})}
	args := []string{"-c", "-m", "1000", s.addr(), "1000"}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "nobody"}, args...)
	}
	s.cmd = exec.Command("smtp-sink", args...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	counters := bufio.NewScanner(out)
	counters.Split(scanCounters)
	go func() {
		defer close(s.ended)
		for counters.Scan() {
			s.note(counters.Bytes(), time.Now())
		}
	}()
	return s, waitPort(ctx, s.addr())
}

func (s *sink) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// scanCounters cuts at the carriage returns that smtp-sink's counters end in.
func scanCounters(data []byte, _ bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\r'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

// note reads counters: sess=1 quit=0 mesg=5.
func (s *sink) note(counters []byte, now time.Time) {
	_, text, _ := bytes.Cut(counters, []byte("mesg="))
	n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return
	}
	s.mu.Lock()
	if n > s.count {
		s.count, s.last = n, now
	}
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// received returns how many messages have arrived, and when the last one had.
func (s *sink) received() (int, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, s.last
}

// wait waits until n messages have arrived, and returns when the last of them had.
func (s *sink) wait(ctx context.Context, n int) (time.Time, error) {
	patience := time.NewTimer(5 * time.Minute)
	defer patience.Stop()
	for {
		got, last := s.received()
		if got >= n {
			return last, nil
		}
		select {
		case <-s.more:
		case <-s.ended:
			return last, errors.New("smtp-sink has ended")
		case <-ctx.Done():
			return last, ctx.Err()
		case <-patience.C:
			return last, fmt.Errorf("only %d of %d messages arrived", got, n)
		}
	}
}

func (s *sink) stop() error {
	err := s.cmd.Process.Kill()
	<-s.ended
	_ = s.cmd.Wait() // it ends by the signal
	return err
}
