package config

import "testing"

func TestParseRoute(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Route{
		"example.com=relay.example.net":           {"example.com", "relay.example.net", 0},
		"B\u00fccher.example=MX.example.net:2525": {"xn--bcher-kva.example", "mx.example.net", 2525},
		"*=192.0.2.1":            {"*", "192.0.2.1", 0},
		"*=[2001:db8::1]:26":     {"*", "2001:db8::1", 26},
		"*=2001:db8::1":          {"*", "2001:db8::1", 0},
		"localhost=127.0.0.1:25": {"localhost", "127.0.0.1", 25},
	} {
		if got, err := ParseRoute(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "example.com", "=x", "example.com=", "example.com=x:0", "example.com=x:99999", "a b=x", "example.com=a b", "**=x"} {
		if got, err := ParseRoute(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}
