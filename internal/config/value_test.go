package config

import (
	"math"
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0B": 0, "1B": 1, "50MB": 50e6, "50MiB": 50 << 20, "50 mib": 50 << 20, "50GB": 50e9, "3KB": 3000, "64KiB": 65536, "1TB": 1e12, "2tib": 2 << 40,
		"9223372036854775807B": math.MaxInt64,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "50", "MB", "-1MB", "1.5GB", "50M", "50 apples", "1e3B", "0x10B", "9223372036854775808B", "9999999TiB", "50MB ", "5 0MB"} {
		got := Size(7)
		if err := got.UnmarshalText([]byte(text)); err == nil || got != 7 {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for size, want := range map[Size]string{
		0: "0B", 1: "1B", 1000: "1KB", 1024: "1KiB", 50 << 20: "50MiB", 50e9: "50GB", 123456: "123456B", 1 << 40: "1TiB", 1e12: "1TB", 1500: "1500B", 2000 << 20: "2000MiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %s, want %s", size, got, want)
		}
	}
	for n := Size(1); n > 0 && n < math.MaxInt64/3; n = n*3 + 1 {
		var back Size
		if err := back.UnmarshalText([]byte(n.String())); err != nil || back != n {
			t.Errorf("%d is written %s and read as %d, %v", n, n, back, err)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"2s": 2 * time.Second, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "0s": 0} {
		var got Duration
		if err := got.UnmarshalText([]byte(text)); err != nil || time.Duration(got) != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%q is written %q", text, got)
		}
	}
	for _, text := range []string{"", "2", "0", "2 s", "two", "1d"} {
		var got Duration
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
	for d, want := range map[Duration]string{Duration(time.Minute): "1m", Duration(time.Hour): "1h", Duration(10 * time.Second): "10s", Duration(20 * time.Minute): "20m", Duration(10*time.Hour + 10*time.Second): "10h0m10s"} {
		if got := d.String(); got != want {
			t.Errorf("%v: got %s, want %s", time.Duration(d), got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	for base, want := range map[int]PortPlan{
		0:     {MX: 25, Submission: 587, Submissions: 465, IMAP: 143, IMAPS: 993, HTTPS: 443, Metrics: 9325},
		20000: {MX: 20025, Submission: 20587, Submissions: 20465, IMAP: 20143, IMAPS: 20993, HTTPS: 20443, Metrics: 20925},
		64542: {MX: 64567, Submission: 65129, Submissions: 65007, IMAP: 64685, IMAPS: 65535, HTTPS: 64985, Metrics: 65467},
	} {
		if got, err := Ports(base); err != nil || got != want {
			t.Errorf("%d: got %+v, %v", base, got, err)
		}
	}
	for _, base := range []int{-1, 1, 999, 64543, 70000} {
		if got, err := Ports(base); err == nil {
			t.Errorf("%d: got %+v", base, got)
		}
	}
}
