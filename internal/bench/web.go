package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// webLoad is one kind of traffic for a web server.
type webLoad struct {
	conns, count int
	absent       bool // ask for what is not there
}

// webResult is what one run gave.
type webResult struct {
	rate float64 // answers per second
	p99  float64 // milliseconds
	cpu  float64 // microseconds of the server's CPU per answer
}

// webConn is a connection that costs the generator as little as can be: requests are
// written as they are, and of an answer only status and length are read.
type webConn struct {
	*tls.Conn
	r    *bufio.Reader
	body []byte
}

func dialWeb(ctx context.Context, addr string) (*webConn, error) {
	// The certificate is the gateway's own.
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: "y.test"}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &webConn{Conn: c.(*tls.Conn), r: bufio.NewReaderSize(c, 16<<10)}, nil
}

func webRequest(path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: y.test\r\nUser-Agent: bench\r\n\r\n")
}

// get asks for one path. The body is valid until the next get.
func (c *webConn) get(path string) (status int, body []byte, err error) {
	return c.ask(webRequest(path))
}

func (c *webConn) ask(request []byte) (status int, body []byte, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, nil, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, fmt.Errorf("answer begins with %q", line)
	}
	status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	length := 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); len(name) == 14 && strings.EqualFold(string(name), "Content-Length") {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, err
			}
		}
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err = io.ReadFull(c.r, c.body)
	return status, c.body, err
}

// askAll sends a load and waits for every answer.
func askAll(ctx context.Context, s webServer, l webLoad, paths []string) (webResult, error) {
	want := 200
	requests := make([][]byte, len(paths))
	for i, path := range paths {
		if l.absent {
			want = 404
			path = strings.Replace(path, "/hu/", "/hu/y", 1)
		}
		requests[i] = webRequest(path)
	}
	conns := make([]*webConn, l.conns)
	for i := range conns {
		c, err := dialWeb(ctx, s.addr)
		if err != nil {
			return webResult{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	used, err := cpuOfTree(s.pid)
	if err != nil {
		return webResult{}, err
	}
	each := max(l.count/l.conns, 1)
	times := make([][]time.Duration, l.conns)
	errs := make([]error, l.conns)
	start := time.Now()
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			times[i] = make([]time.Duration, 0, each)
			for k := range each {
				begin := time.Now()
				status, _, err := c.ask(requests[(i*each+k)%len(requests)])
				if err == nil && status != want {
					err = fmt.Errorf("status %d, want %d", status, want)
				}
				if err != nil {
					errs[i] = err
					return
				}
				times[i] = append(times[i], time.Since(begin))
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	after, err := cpuOfTree(s.pid)
	if err := errors.Join(append(errs, err, ctx.Err())...); err != nil {
		return webResult{}, err
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(times...)))
	n := len(sorted)
	return webResult{
		rate: float64(n) / took.Seconds(), p99: sorted[n*99/100].Seconds() * 1000,
		cpu: (after - used).Seconds() * 1e6 / float64(n),
	}, nil
}
