package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc/PID/stat: 1/100 s on every Linux.
const clockTick = 10 * time.Millisecond

// cpuOfTree returns the CPU time of a process, of all below it, and of those below it
// that have ended and were waited for.
func cpuOfTree(root int) (time.Duration, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	parents := make(map[int]int)
	used := make(map[int]time.Duration)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		// The name is in parentheses and may hold anything.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 15 {
			continue
		}
		parents[pid], _ = strconv.Atoi(f[1])
		for _, at := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
			n, _ := strconv.Atoi(f[at])
			used[pid] += time.Duration(n) * clockTick
		}
	}
	var sum time.Duration
	for pid := range parents {
		for at := pid; at > 1; at = parents[at] {
			if at == root {
				sum += used[pid]
				break
			}
		}
	}
	return sum, nil
}

// memoryOf returns a field of /proc/PID/status, such as VmRSS or VmHWM, in octets.
func memoryOf(pid int, field string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s", field)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// freeBase finds a base port with which all of a gateway's ports are free.
func freeBase() (int, error) {
next:
	for base := 12_000; base < 60_000; base += 1000 {
		for _, port := range []int{25, 143, 443, 465, 587, 925, 993} {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+port)))
			if err != nil {
				continue next
			}
			l.Close()
		}
		return base, nil
	}
	return 0, errors.New("no free ports")
}

// waitPort waits until somebody answers.
func waitPort(ctx context.Context, addr string) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("nobody answers on %s", addr)
}
