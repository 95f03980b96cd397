package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of octets, written as "50MB" (millions) or "50MiB" (2^20).
type Size int64

// units lists larger ones first; where two fit, binary before decimal.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
		{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1},
	}
}

type unit struct {
	name   string
	octets int64
}

// UnmarshalText reads a whole number and a unit, a blank between them allowed, in
// capitals or not. A number without a unit is refused: nobody knows what it means.
func (s *Size) UnmarshalText(text []byte) error {
	number := strings.TrimRight(string(text), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	name := string(text[len(number):])
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	for _, u := range units() {
		if err == nil && n >= 0 && strings.EqualFold(u.name, name) && n <= math.MaxInt64/u.octets {
			*s = Size(n * u.octets)
			return nil
		}
	}
	return fmt.Errorf("%q is not a size: write a whole number and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as \"50MiB\"", text)
}

// MarshalText writes the size with the unit that makes the number shortest.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Size) String() string {
	best := strconv.FormatInt(int64(s), 10) + "B"
	for _, u := range units() {
		if int64(s)%u.octets != 0 || s == 0 {
			continue
		}
		if t := strconv.FormatInt(int64(s)/u.octets, 10) + u.name; len(strings.TrimRight(t, "TGMKiB")) < len(strings.TrimRight(best, "TGMKiB")) {
			best = t
		}
	}
	return best
}

// Duration is a length of time, written as "2s", "500ms" or "1h30m".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads. A number without a unit is
// refused.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || string(text) == "0" {
		return fmt.Errorf("%q is not a duration: write a number and ms, s, m or h, such as \"2s\"", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration without parts that are zero.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
