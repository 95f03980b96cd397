package config

import "fmt"

// PortPlan is the port numbers of a set-up.
type PortPlan struct {
	MX          int `json:"mx"`
	Submission  int `json:"submission"`
	Submissions int `json:"submissions"`
	IMAP        int `json:"imap"`
	IMAPS       int `json:"imaps"`
	HTTPS       int `json:"https"`
	Metrics     int `json:"metrics"` // loopback only
}

// Ports returns base plus the standard ports, so 20025 to 20993 for 20000, and
// base+925 for metrics. With base 0 it returns the standard ones (25, 587, 465,
// 143, 993, 443) and 9325. It refuses a base that leads out of the range of ports,
// or to one for which a process needs privileges.
func Ports(base int) (PortPlan, error) {
	const lowest, highest = 1000, 65535 - 993
	if base != 0 && (base < lowest || base > highest) {
		return PortPlan{}, fmt.Errorf("base port %d: it has to be 0 for the standard ports, or from %d to %d", base, lowest, highest)
	}
	p := PortPlan{
		MX: base + 25, Submission: base + 587, Submissions: base + 465,
		IMAP: base + 143, IMAPS: base + 993, HTTPS: base + 443, Metrics: base + 925,
	}
	if base == 0 {
		p.Metrics = 9325
	}
	return p, nil
}
