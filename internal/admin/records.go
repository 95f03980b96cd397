package admin

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"postern/internal/config"
	"postern/internal/dns"
	"postern/internal/server"
	"postern/internal/vault"
)

// txtRecord is a TXT record that is to be published.
type txtRecord struct {
	what, name, value string
	// version is how it begins, where other records may have the same name.
	version string
	// same says whether a record that is found does as well.
	same func(found string) bool
	// without says what is amiss while there is none.
	without string
}

// line is the record as a line of a zone file, in strings of at most 255 octets (RFC
// 1035 3.3).
func (r txtRecord) line() string {
	var parts []string
	for value := r.value; value != ""; {
		n := min(len(value), 255)
		parts = append(parts, `"`+value[:n]+`"`)
		value = value[n:]
	}
	return r.name + ".\tIN\tTXT\t" + strings.Join(parts, " ")
}

// lines are records as lines of a zone file.
func lines(records []txtRecord) (all []string) {
	for _, r := range records {
		all = append(all, r.line())
	}
	return all
}

// dkimRecords publish keys.
func dkimRecords(keys vault.DKIMKeys) (all []txtRecord) {
	for _, k := range keys {
		all = append(all, txtRecord{
			what: "DKIM " + k.Selector + " " + k.Domain, name: k.Name(), value: k.Record(),
			same:    func(found string) bool { return sameKey(found, k.Record()) },
			without: "nobody can verify what is signed with this key",
		})
	}
	return all
}

// sameKey says whether a record publishes the key that another one does, for the mail that
// we sign (RFC 6376 3.6.1): without k= it is an RSA key, whatever p= holds.
func sameKey(found, want string) bool {
	or := func(tag, otherwise string) string {
		if value := tagValue(found, tag); value != "" {
			return value
		}
		return otherwise
	}
	lists := func(tag string, names ...string) bool {
		value := or(tag, names[0])
		return slices.ContainsFunc(names, func(s string) bool { return slices.Contains(strings.Split(value, ":"), s) })
	}
	return tagValue(found, "p") == tagValue(want, "p") && or("v", "DKIM1") == "DKIM1" && or("k", "rsa") == tagValue(want, "k") &&
		lists("h", "sha256") && lists("s", "*", "email")
}

// originRecords say who may send for a domain, and what becomes of mail that somebody else
// sends (RFC 7208, RFC 7489).
func originRecords(domain string) []txtRecord {
	return []txtRecord{{
		what: "SPF " + domain, name: domain, value: "v=spf1 mx -all", version: "v=spf1",
		same:    func(string) bool { return true }, // other servers may be named in it too
		without: "others cannot tell mail of this server from forged mail",
	}, {
		what: "DMARC " + domain, name: "_dmarc." + domain, value: "v=DMARC1; p=reject",
		same:    func(found string) bool { return tagValue(found, "v") == "DMARC1" },
		without: "others take forged mail for yours, and some refuse yours",
	}}
}

// transportRecords publish how others are to deliver to a domain, and where they are to
// report (RFC 8461 3.1, RFC 8460 3).
func transportRecords(cfg *config.Config, domain string) (all []txtRecord) {
	if cfg.HTTPS.MTASTS != "none" {
		all = append(all, policyRecord(cfg, domain))
	}
	return append(all, txtRecord{
		what: "TLS reports " + domain, name: "_smtp._tls." + domain, value: "v=TLSRPTv1; rua=mailto:postmaster@" + domain,
		same:    func(found string) bool { return tagValue(found, "v") == "TLSRPTv1" && tagValue(found, "rua") != "" },
		without: "nobody reports when TLS to this server fails",
	})
}

// policyRecord tells others which MTA-STS policy there is. With the mode none it is only
// of use where there was another before, which it takes back (RFC 8461 8.3).
func policyRecord(cfg *config.Config, domain string) txtRecord {
	_, id := server.MTASTS(cfg)
	return txtRecord{
		what: "MTA-STS " + domain, name: "_mta-sts." + domain, value: "v=STSv1; id=" + id + ";",
		same:    func(found string) bool { return tagValue(found, "v") == "STSv1" && tagValue(found, "id") == id },
		without: "others do not ask for the MTA-STS policy as it is now",
	}
}

// tagValue returns the value of a tag in a record of tags, such as "v=DKIM1; p=...",
// without white space.
func tagValue(record, tag string) string {
	for part := range strings.SplitSeq(record, ";") {
		name, value, _ := strings.Cut(part, "=")
		if strings.TrimSpace(name) == tag {
			return strings.Join(strings.Fields(value), "")
		}
	}
	return ""
}

// published looks whether a record is in the DNS.
func published(ctx context.Context, g *server.Gateway, r txtRecord) (bool, error) {
	found, err := g.Resolver.LookupTXT(ctx, r.name)
	if err != nil {
		return false, err
	}
	found = slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, r.version) || !strings.Contains(s, "=") })
	if len(found) == 0 {
		return false, &net.DNSError{Err: "no such record", Name: r.name, IsNotFound: true}
	}
	return len(found) == 1 && r.same(found[0]), nil // with two, others use neither
}

// records looks at what is published for our domains.
func (r *Report) records(ctx context.Context, g *server.Gateway) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	keys, err := vault.LoadDKIM(g.Config.KeysDir)
	if err != nil {
		r.add("DKIM", Bad, "%v", err)
	}
	for _, d := range g.Config.Domains {
		active := keys.Of(d).Active()
		if len(active) == 0 {
			r.add("DKIM "+d, Warn, "what leaves is not signed: postern dkim rotate %s", d)
		}
		if next := keys.Next(d); next != nil {
			r.add("DKIM "+d, Fine, "the keys %s wait: postern dkim rotate %s --activate", next[0].Generation, d)
		}
		wanted := slices.Concat(originRecords(d), dkimRecords(active), transportRecords(g.Config, d))
		if old := policyRecord(g.Config, d); g.Config.HTTPS.MTASTS == "none" {
			if found, err := g.Resolver.LookupTXT(ctx, old.name); err == nil && len(found) > 0 {
				wanted = append(wanted, old)
			}
		}
		for _, txt := range wanted {
			switch there, err := published(ctx, g, txt); {
			case there:
				r.add("DNS "+txt.what, Fine, "%s", txt.name)
			case err != nil:
				r.add("DNS "+txt.what, Warn, "%s", explainDNS(err, "is not there, and "+txt.without+"; publish: "+txt.line()))
			default:
				r.add("DNS "+txt.what, Warn, "is another, and %s; publish: %s", txt.without, txt.line())
			}
		}
	}
}

// hosts are the names of a domain that others ask this server by.
func hosts(cfg *config.Config, domain string) []string {
	all := []string{"openpgpkey." + domain}
	if cfg.HTTPS.MTASTS != "none" {
		all = append(all, "mta-sts."+domain)
	}
	return all
}

// alias is the record that makes a name one of this server, as a line of a zone file.
func alias(cfg *config.Config, name string) string {
	return fmt.Sprintf("%s.\tIN\tCNAME\t%s.", name, cfg.Hostname)
}

// hosts looks whether the names are there.
func (r *Report) hosts(ctx context.Context, resolver *dns.Resolver, cfg *config.Config, domain string) {
	if cfg.HTTPS.Listen == "" {
		return
	}
	for _, name := range hosts(cfg, domain) {
		if _, err := resolver.LookupIPAddr(ctx, name); err != nil {
			r.add("DNS "+name, Warn, "%s", explainDNS(err, "has no address; publish: "+alias(cfg, name)))
		} else {
			r.add("DNS "+name, Fine, "has an address")
		}
	}
}
