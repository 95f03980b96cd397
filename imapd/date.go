package imapd

import (
	"strings"
	"time"
)

// parseDate reads a Date field (RFC 5322 3.3 and 4.3) as far as it can be understood:
// day of the week, seconds and comments may be absent, and the zones of RFC 822 are
// known. An unknown zone is taken for UTC.
func parseDate(s string) (time.Time, bool) {
	if i := strings.IndexByte(s, ','); i >= 0 && i < 12 {
		s = s[i+1:]
	}
	var word [5]string // day, month, year, time, zone
	n := 0
	for n < len(word) {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == '(' {
			break
		}
		end := strings.IndexAny(s, " \t(")
		if end < 0 {
			end = len(s)
		}
		word[n], s = s[:end], s[end:]
		n++
	}
	if n < 4 {
		return time.Time{}, false
	}
	day, ok1 := smallNumber(word[0], 31)
	month, ok2 := monthNumber(word[1])
	year, ok3 := fullYear(word[2])
	clock, ok4 := clockSeconds(word[3])
	if !ok1 || !ok2 || !ok3 || !ok4 || day == 0 {
		return time.Time{}, false
	}
	zone := time.UTC
	if offset := zoneOffset(word[4]); offset != 0 {
		zone = time.FixedZone("", offset)
	}
	t := time.Date(year, month, day, 0, 0, clock, 0, zone)
	return t, t.Day() == day || clock >= 86400
}

// smallNumber reads one or two digits.
func smallNumber(s string, limit int) (int, bool) {
	if len(s) == 0 || len(s) > 2 {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n, n <= limit
}

func monthNumber(s string) (time.Month, bool) {
	const names = "janfebmaraprmayjunjulaugsepoctnovdec"
	if len(s) < 3 {
		return 0, false
	}
	var low [3]byte
	for i := range low {
		low[i] = s[i] | 0x20
	}
	i := strings.Index(names, string(low[:]))
	return time.Month(i/3 + 1), i >= 0 && i%3 == 0
}

// fullYear reads a year; RFC 5322 4.3 says what two and three digits mean.
func fullYear(s string) (int, bool) {
	if len(s) < 2 || len(s) > 4 {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	switch {
	case len(s) == 2 && n < 50:
		n += 2000
	case len(s) < 4:
		n += 1900
	}
	return n, true
}

// clockSeconds reads hh:mm or hh:mm:ss.
func clockSeconds(s string) (int, bool) {
	h, rest, ok := strings.Cut(s, ":")
	if !ok {
		return 0, false
	}
	m, sec, hasSec := strings.Cut(rest, ":")
	hours, ok1 := smallNumber(h, 23)
	minutes, ok2 := smallNumber(m, 59)
	seconds, ok3 := 0, true
	if hasSec {
		seconds, ok3 = smallNumber(sec, 60)
	}
	return hours*3600 + minutes*60 + seconds, ok1 && ok2 && ok3
}

// zoneOffset returns seconds east of UTC.
func zoneOffset(s string) int {
	if len(s) == 5 && (s[0] == '+' || s[0] == '-') {
		h, ok1 := smallNumber(s[1:3], 23)
		m, ok2 := smallNumber(s[3:5], 59)
		if !ok1 || !ok2 {
			return 0
		}
		if s[0] == '-' {
			return -(h*3600 + m*60)
		}
		return h*3600 + m*60
	}
	switch strings.ToUpper(s) {
	case "EDT":
		return -4 * 3600
	case "EST", "CDT":
		return -5 * 3600
	case "CST", "MDT":
		return -6 * 3600
	case "MST", "PDT":
		return -7 * 3600
	case "PST":
		return -8 * 3600
	}
	return 0
}
