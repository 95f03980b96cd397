package dns

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// RR is a record. The concrete type of one of type TypeMX is *MX, and so on.
type RR = dns.RR

// Records that are used outside this package.
type (
	MX         = dns.MX
	TLSA       = dns.TLSA
	OPENPGPKEY = dns.OPENPGPKEY
)

// Types of records that are asked for by name outside this package.
const (
	TypeA          = dns.TypeA
	TypeAAAA       = dns.TypeAAAA
	TypeMX         = dns.TypeMX
	TypeTXT        = dns.TypeTXT
	TypePTR        = dns.TypePTR
	TypeCNAME      = dns.TypeCNAME
	TypeTLSA       = dns.TypeTLSA
	TypeOPENPGPKEY = dns.TypeOPENPGPKEY
)

// Answer is what the DNS says to a question: records, or that there certainly are
// none. What it points to is shared by all who asked, and must not be changed.
type Answer struct {
	// Records are those of the type that was asked for, at the end of any aliases,
	// in the server's order; at most 100. Empty if there are none.
	Records []RR
	// Name is where the records are, or would be: the name that was asked for or
	// the last one that aliases lead to. Lower case, without a dot at the end.
	Name string
	// NXDomain says that Name does not exist. Without it and without Records the
	// name exists, but has no records of this type (NODATA, RFC 2308 2).
	NXDomain bool
	// Secure says that every record on the way, or the proof that there is none,
	// was validated by DNSSEC (the AD bit, RFC 4035 3.2.3), and that the server
	// that says so is trusted with it.
	Secure bool
	// Validated says that the answer came from such a server: if it is not Secure
	// then, the zone is not signed. Without it nothing is known about signatures.
	Validated bool
	// TTL is how long the answer is remembered from now on.
	TTL time.Duration

	forms *forms
}

// forms are the records in the shapes of package net, made once.
type forms struct {
	txt  []string
	mx   []*net.MX
	ips  []net.IPAddr
	ptr  []string
	none *net.DNSError // what look-ups return if there are no records
	size int           // octets of record data, roughly
}

// recordSize is what a record costs beside its data.
const recordSize = 64

// add appends a record of the type that was asked for.
func (a *Answer) add(rr RR) {
	f := a.forms
	f.size += recordSize
	switch rr := rr.(type) {
	case *dns.TXT:
		f.txt = append(f.txt, unescape(strings.Join(rr.Txt, "")))
		f.size += len(f.txt[len(f.txt)-1])
	case *dns.MX:
		f.mx = append(f.mx, &net.MX{Host: rr.Mx, Pref: rr.Preference})
		f.size += len(rr.Mx)
	case *dns.A:
		if len(rr.A) == 0 {
			return // may be empty on the wire
		}
		f.ips = append(f.ips, net.IPAddr{IP: rr.A})
	case *dns.AAAA:
		if len(rr.AAAA) == 0 {
			return
		}
		f.ips = append(f.ips, net.IPAddr{IP: rr.AAAA})
	case *dns.PTR:
		f.ptr = append(f.ptr, rr.Ptr)
		f.size += len(rr.Ptr)
	default:
		f.size += dns.Len(rr)
	}
	a.Records = append(a.Records, rr)
}

// size is 0 for an answer without records.
func (a *Answer) size() int { return a.forms.size }

// unescape undoes the presentation form (RFC 1035 5.1) in which the library
// keeps the strings of TXT records.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			b = append(b, (s[i]-'0')*100+(s[i+1]-'0')*10+(s[i+2]-'0'))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// Addrs are the addresses of an answer of type TypeA or TypeAAAA.
func (a Answer) Addrs() []netip.Addr {
	if a.forms == nil {
		return nil
	}
	addrs := make([]netip.Addr, 0, len(a.forms.ips))
	for _, ip := range a.forms.ips {
		if addr, ok := netip.AddrFromSlice(ip.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// Texts are the records of an answer of type TypeTXT, the strings of each joined.
func (a Answer) Texts() []string {
	if a.forms == nil {
		return nil
	}
	return a.forms.txt
}
