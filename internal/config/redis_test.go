package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseRedisURL(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]RedisURL{
		"redis://127.0.0.1:6379":                   {Addrs: []string{"127.0.0.1:6379"}},
		"redis://localhost":                        {Addrs: []string{"localhost:6379"}},
		"redis://[::1]":                            {Addrs: []string{"[::1]:6379"}},
		"redis://::1":                              {Addrs: []string{"[::1]:6379"}},
		"redis://my_redis/":                        {Addrs: []string{"my_redis:6379"}},
		"rediss://mail@[2001:db8::1]:7000/3":       {TLS: true, Addrs: []string{"[2001:db8::1]:7000"}, Username: "mail", DB: 3},
		"redis-sentinel://a,b:1,[::1]:2/mymaster":  {Addrs: []string{"a:26379", "b:1", "[::1]:2"}, Master: "mymaster"},
		"rediss-sentinel://u@a/my.master/7":        {TLS: true, Addrs: []string{"a:26379"}, Username: "u", Master: "my.master", DB: 7},
		"redis-cluster://a:7000,b:7001":            {Sharded: true, Addrs: []string{"a:7000", "b:7001"}},
		"rediss-cluster://u@Node-1.example.org/0/": {}, // see below
	} {
		got, err := ParseRedisURL(s)
		if reflect.DeepEqual(want, RedisURL{}) {
			if err == nil {
				t.Errorf("%s: accepted", s)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", s, got, err, want)
		}
	}
}

// What is refused says what is allowed, and never shows the URL.
func TestParseRedisURLErrors(t *testing.T) {
	t.Parallel()
	const secret = "CANARY"
	for s, want := range map[string]string{
		"":                                  "it is not a URL",
		"127.0.0.1:6379":                    "it is not a URL",
		"http://CANARY":                     "it does not begin with",
		"redis-sentinel-cluster://CANARY/m": "it does not begin with",
		"REDIS://CANARY":                    "it does not begin with",
		"redis://u:CANARY@host":             "password_file",
		"redis://:CANARY@host":              "password_file",
		"redis://u:CAN@NARY/@host":          "password_file",
		"redis://@host":                     "user name alone",
		"redis://host?password=CANARY":      "no parameters",
		"redis://host#CANARY":               "no parameters",
		"redis://":                          "its hosts",
		"redis://:6379":                     "its hosts",
		"redis://host:":                     "its hosts",
		"redis://host:0":                    "its hosts",
		"redis://host:65536":                "its hosts",
		"redis://host:CANARY":               "its hosts",
		"redis://CANARY host":               "its hosts",
		"redis-cluster://a,,b":              "its hosts",
		"redis://a,b":                       "several hosts",
		"redis://a/CANARY":                  "number of a database",
		"redis://a/-1":                      "number of a database",
		"redis://a/65536":                   "number of a database",
		"redis-cluster://a/1":               "only the database 0",
		"redis-sentinel://a":                "name of the master",
		"redis-sentinel://a/":               "name of the master",
		"redis-sentinel://a/m/CANARY":       "number of a database",
	} {
		_, err := ParseRedisURL(s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want …%s…", s, err, want)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows it: %v", s, err)
		}
	}
}

func TestValidateCluster(t *testing.T) {
	t.Parallel()
	for key, change := range map[string]func(*Cluster){
		"cluster.driver":                 func(c *Cluster) { c.Driver = "etcd" },
		"cluster.url":                    func(c *Cluster) { c.URL = "redis://:secret@h" },
		"cluster.prefix":                 func(c *Cluster) { c.Prefix = "a*" },
		"cluster.ca_file":                func(c *Cluster) { c.CAFile = "/ca.pem" },
		"cluster.sentinel_password_file": func(c *Cluster) { c.SentinelPasswordFile = "/p" },
	} {
		c := Default()
		change(&c.Cluster)
		err := c.Validate()
		if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.HasPrefix(err.Error(), key+": ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", key, err)
		}
	}
	c := Default()
	c.Cluster = Cluster{Driver: "redis", URL: "rediss-sentinel://h/m", CAFile: "/ca", SentinelPasswordFile: "/p", PasswordFile: "/q", Prefix: "p"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// The example is one of a cluster, with its paths made absolute.
func TestClusterExample(t *testing.T) {
	t.Parallel()
	c, err := Load("../../configs/cluster.toml")
	if err != nil {
		t.Fatal(err)
	}
	u, err := ParseRedisURL(c.Cluster.URL)
	if err != nil || c.Cluster.Driver != "redis" || len(u.Addrs) != 3 || u.Master == "" || !u.TLS {
		t.Errorf("%+v, %v", u, err)
	}
	if !strings.HasPrefix(c.Cluster.PasswordFile, "/") || !strings.HasPrefix(c.Cluster.CAFile, "/") {
		t.Errorf("%+v", c.Cluster)
	}
}

func FuzzParseRedisURL(f *testing.F) {
	f.Add("rediss-sentinel://u@a,[::1]:2/m/7")
	f.Add("redis://u:p@h:1/2?x#y")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseRedisURL(s)
		if err == nil && (len(u.Addrs) == 0 || strings.ContainsAny(u.Username, ":@/") || u.DB < 0) {
			t.Errorf("%+v", u)
		}
	})
}
