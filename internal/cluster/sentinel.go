package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// sentinels finds the master that the Sentinels name, for each new connection, and
// ends connections to one that is it no more.
//
// The library has a client for this, but it takes apart what Sentinels say without
// looking at its shape, in goroutines where a panic ends the process.
type sentinels struct {
	access  *access
	clients []*redis.SentinelClient

	mu    sync.Mutex
	conns map[net.Conn]string // the open ones, by the address they were made to
}

func newSentinels(a *access) *sentinels {
	s := &sentinels{access: a, conns: make(map[net.Conn]string)}
	for _, addr := range a.Addrs {
		o := a.options(addr)
		o.Password = a.sentinelPassword
		o.PoolSize, o.MaxActiveConns = 2, 2
		s.clients = append(s.clients, redis.NewSentinelClient(o))
	}
	return s
}

// master returns the address of the master: the first answer of any Sentinel.
func (s *sentinels) master(ctx context.Context) (string, error) {
	type answer struct {
		addr string
		err  error
	}
	ctx, cancel := context.WithTimeout(ctx, s.access.limits.dial)
	defer cancel()
	answers := make(chan answer, len(s.clients)) // so that nobody waits for who has left
	for _, c := range s.clients {
		go func() {
			pair, err := c.GetMasterAddrByName(ctx, s.access.Master).Result()
			addr := ""
			if err == nil {
				addr, err = hostPort(pair)
			}
			answers <- answer{addr, err}
		}()
	}
	var errs []error
	for range s.clients {
		a := <-answers
		if a.err == nil {
			return a.addr, nil
		}
		errs = append(errs, a.err)
	}
	return "", fmt.Errorf("ask the sentinels: %w", errors.Join(errs...))
}

func hostPort(pair []string) (string, error) {
	if len(pair) != 2 || pair[0] == "" {
		return "", errReply
	}
	if _, err := strconv.ParseUint(pair[1], 10, 16); err != nil {
		return "", errReply
	}
	return net.JoinHostPort(pair[0], pair[1]), nil
}

// dial connects to the master.
func (s *sentinels) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	addr, err := s.master(ctx)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	conn, err = s.access.dial(ctx, network, addr, func() { s.forget(conn) })
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = addr
	return conn, nil
}

func (s *sentinels) forget(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// check ends the connections to others than the master. One that was cut off from the
// Sentinels may think that it still is it.
func (s *sentinels) check(ctx context.Context) error {
	addr, err := s.master(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	var stale []net.Conn
	for conn, to := range s.conns {
		if to != addr {
			stale = append(stale, conn)
		}
	}
	s.mu.Unlock()
	for _, conn := range stale {
		_ = conn.Close() // whoever uses it gets the error
	}
	return nil
}

func (s *sentinels) close() {
	for _, c := range s.clients {
		_ = c.Close() // nothing is lost
	}
}
