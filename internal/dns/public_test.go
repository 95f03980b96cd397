package dns

import (
	"net/netip"
	"testing"
)

// internalAddresses are what nobody may have us connect to.
var internalAddresses = []string{
	"127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
	"0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.0.8", "198.18.0.1", "192.0.2.1", "203.0.113.9", "198.51.100.2",
	"::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "100::1", "2001:db8::1", "2001::1", "2002:7f00:1::1", "3fff::1", "5f00::1",
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:192.168.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
}

func TestIsPublic(t *testing.T) {
	t.Parallel()
	for _, s := range internalAddresses {
		if IsPublic(netip.MustParseAddr(s)) {
			t.Errorf("%s would be dialled", s)
		}
	}
	for _, s := range []string{"fe80::1%eth0", "2600::1%lo"} {
		if IsPublic(netip.MustParseAddr(s)) {
			t.Errorf("%s would be dialled", s)
		}
	}
	if IsPublic(netip.Addr{}) {
		t.Error("no address would be dialled")
	}
	for _, s := range []string{"1.1.1.1", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255",
		"2600::1", "2001:4860:4860::8888", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"} {
		if !IsPublic(netip.MustParseAddr(s)) {
			t.Errorf("%s would not be dialled", s)
		}
	}
}
