package deliver

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/dns"
)

// mode is what a policy wants.
type mode uint8

const (
	modeNone mode = iota
	modeTesting
	modeEnforce
)

// Limits of RFC 8461 3.2 and 3.3.
const (
	maxPolicy    = 64 << 10
	maxPolicyAge = 31557600 // seconds
	maxPatterns  = 1000
)

var errPolicy = errors.New("not an MTA-STS policy")

// policy is an MTA-STS policy.
type policy struct {
	mode     mode
	patterns []string // of the hosts' names, in lower case
	maxAge   time.Duration
}

// parsePolicy reads a policy (RFC 8461 3.2). Of a field that is given twice the first
// one counts, but for mx; unknown fields are skipped.
func parsePolicy(text []byte) (*policy, error) {
	if len(text) > maxPolicy {
		return nil, errPolicy
	}
	fields := map[string]string{}
	p := &policy{}
	for line := range bytes.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimRight(string(line), "\r\n \t"), ":")
		if !ok {
			if strings.TrimSpace(key) == "" {
				continue
			}
			return nil, errPolicy
		}
		value = strings.TrimSpace(value)
		if key == "mx" {
			if p.addPattern(value); len(p.patterns) > maxPatterns {
				return nil, errPolicy
			}
		} else if _, twice := fields[key]; !twice {
			fields[key] = value
		}
	}
	age, err := strconv.ParseUint(fields["max_age"], 10, 64)
	if errors.Is(err, strconv.ErrRange) || err == nil && age > maxPolicyAge {
		age, err = maxPolicyAge, nil
	}
	if err != nil || len(fields["max_age"]) > 20 || fields["version"] != "STSv1" {
		return nil, errPolicy
	}
	p.maxAge = time.Duration(age) * time.Second
	switch fields["mode"] {
	case "enforce":
		p.mode = modeEnforce
	case "testing":
		p.mode = modeTesting
	case "none":
		return p, nil
	default:
		return nil, errPolicy
	}
	if len(p.patterns) == 0 {
		return nil, errPolicy
	}
	return p, nil
}

// addPattern takes a host name, or one with "*" for its first label. What is no such
// thing matches nothing, and makes nothing else match.
func (p *policy) addPattern(s string) {
	rest, wild := strings.CutPrefix(s, "*.")
	name, ok := dns.CanonicalName(rest)
	if !ok || strings.Contains(name, "*") {
		name = "" // counted, so that a policy of nonsense is still a policy
	} else if wild {
		name = "*." + name
	}
	p.patterns = append(p.patterns, name)
}

// names reports whether the policy names a host (RFC 8461 4.1): the wildcard stands
// for exactly one label.
func (p *policy) names(host string) bool {
	return slices.ContainsFunc(p.patterns, func(pattern string) bool {
		if pattern == "" {
			return false
		}
		if domain, wild := strings.CutPrefix(pattern, "*."); wild {
			_, parent, ok := strings.Cut(host, ".")
			return ok && parent == domain
		}
		return pattern == host
	})
}

// policyID reads the id out of a domain's TXT records (RFC 8461 3.1). Any number of
// records but one is none.
func policyID(records []string) (string, bool) {
	var found []string
	for _, r := range records {
		if version, rest, ok := strings.Cut(r, ";"); ok && strings.TrimRight(version, " \t") == "v=STSv1" {
			found = append(found, rest)
		}
	}
	if len(found) != 1 {
		return "", false
	}
	for field := range strings.SplitSeq(found[0], ";") {
		if id, ok := strings.CutPrefix(strings.Trim(field, " \t"), "id="); ok {
			return id, id != "" && len(id) <= 32 && strings.IndexFunc(id, notAlnum) < 0
		}
	}
	return "", false
}

func notAlnum(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
