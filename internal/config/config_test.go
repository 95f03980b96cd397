package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write configs/postern.toml")

const example = "../../configs/postern.toml"

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postern.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configs/postern.toml is what Render makes of the defaults.
func TestExampleIsCurrent(t *testing.T) {
	t.Parallel()
	want := Render(Default())
	if *update {
		if err := os.WriteFile(example, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs from the keys in config.go; run: go test ./internal/config -update", example)
	}
}

func TestExamplesLoad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../configs/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range files {
		if filepath.Base(f) == "policy.toml" {
			continue // package policy reads it
		}
		if _, err := Load(f); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// What is written is read again as it was, whatever it is.
func TestRenderLoad(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Hostname, c.Domains, c.Postmaster = "mx.example.net", []string{"example.net", "xn--bcher-kva.example"}, "ops@example.net"
	c.DataDir, c.KeysDir = `/srv/"odd" dir\with = # signs`, "/srv/keys\u00e9\t"
	c.TLS = TLS{Cert: "/c.pem", Key: "/k.pem"}
	c.SMTP = SMTP{Listen: "[::1]:20025", MaxMessageSize: 123456, MaxRecipients: 7, MaxConnections: 8, MaxConnectionsPerIP: 9, ConnectionRate: 10, MessageRate: 11}
	c.Submission = Submission{Listen: "[::1]:20587", ListenTLS: "", MessagesPerHour: 18, RecipientsPerHour: 19, AllowClearLogin: true}
	c.IMAP = IMAP{Listen: "127.0.0.1:20143", ListenTLS: "", MaxConnections: 12, MaxConnectionsPerIP: 13, MaxConnectionsPerAccount: 14, AllowClearLogin: true}
	c.HTTPS = HTTPS{Listen: "", ListenHKP: "[::1]:11371", Publish: false, MTASTS: "enforce", RequestRate: 15, MaxConnections: 16, MaxConnectionsPerIP: 17}
	c.HTTP.Listen = "localhost:0"
	c.DNS = DNS{Servers: []string{"127.0.0.1", "[::1]:53"}, Validating: []string{"127.0.0.1"}, Timeout: 1500e6}
	c.Directory = Directory{Sources: []string{"keyservers", "wkd"}, KeyServers: []string{"vks://keys.example.org"}, Timeout: 1700e6, CAFile: "/ca.pem", AllowPrivate: true}
	c.Policy.File = "/p.toml"
	c.Seal = Seal{Subject: "keep", NoCertificate: "reject"}
	c.Queue = Queue{Workers: 18, PerDomain: 19, RetryFirst: 1e9, RetryLast: 2e9, WarnAfter: 3e9, GiveUpAfter: 4e9}
	c.Delivery = Delivery{Routes: []string{"*=[::1]:26"}, AllowPrivate: true, CAFile: "/deliver.pem", Port: 27, PolicyPort: 28}
	c.Store.Quota = 0
	c.Cluster = Cluster{Driver: "redis", URL: "rediss-sentinel://u@[::1]:1,h/m/2", PasswordFile: "/p", SentinelPasswordFile: "/s", CAFile: "/ca", Prefix: "a:b"}
	c.Log = Log{Format: "json", Level: "debug", Addresses: true}
	got, err := Load(write(t, string(Render(c))))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, c) {
		t.Errorf("got %+v\nwant %+v", got, c)
	}
	// The test above has to set every key to something else than its default.
	sameLeaves(t, reflect.ValueOf(Default()).Elem(), reflect.ValueOf(c).Elem(), "")
}

func sameLeaves(t *testing.T, a, b reflect.Value, path string) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name := path + f.Tag.Get("toml")
		if f.Tag.Get("toml") == "" || f.Tag.Get("doc") == "" {
			t.Errorf("%s has no name or no comment", f.Name)
		}
		if f.Type.Kind() == reflect.Struct {
			sameLeaves(t, a.Field(i), b.Field(i), name+".")
		} else if reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			t.Errorf("%s is left at its default", name)
		}
	}
}

// Every key has a comment above it.
func TestRenderComments(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(string(Render(Default()))), "\n")
	for i, l := range lines {
		if l != "" && !strings.HasPrefix(l, "#") && !strings.HasPrefix(lines[i-1], "# ") {
			t.Errorf("line %d has no comment: %s", i+1, l)
		}
		if len(l) > 92 {
			t.Errorf("line %d has %d characters", i+1, len(l))
		}
	}
}

const minimal = "hostname = \"mail.example.net\"\ndomains = [\"example.net\"]\n"

func TestLoadDefaults(t *testing.T) {
	t.Parallel()
	path := write(t, minimal)
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Hostname, want.Domains = "mail.example.net", []string{"example.net"}
	dir := filepath.Dir(path)
	want.DataDir, want.KeysDir = filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	want.TLS = TLS{filepath.Join(dir, "tls/cert.pem"), filepath.Join(dir, "tls/key.pem")}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got.Log.Addresses || got.IMAP.AllowClearLogin || got.Seal.Subject != "hide" || got.Seal.NoCertificate != "hold" || !strings.HasPrefix(got.HTTP.Listen, "127.") {
		t.Errorf("a default is not the safe one: %+v", got)
	}
}

func TestLoadNormalises(t *testing.T) {
	t.Parallel()
	got, err := Load(write(t, "hostname = \"Mail.Bücher.example\"\ndomains = [\"BÜCHER.example\"]\npostmaster = \"Ops@bücher.EXAMPLE\"\ndata_dir = \"../mail\"\nkeys_dir = \"/etc/postern/keys\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Hostname != "mail.xn--bcher-kva.example" || got.Domains[0] != "xn--bcher-kva.example" || got.Postmaster != "ops@xn--bcher-kva.example" {
		t.Errorf("%q %q %q", got.Hostname, got.Domains, got.Postmaster)
	}
	if !filepath.IsAbs(got.DataDir) || filepath.Base(got.DataDir) != "mail" || got.KeysDir != "/etc/postern/keys" {
		t.Errorf("%q %q", got.DataDir, got.KeysDir)
	}
}

// Each wrong file gets an error that names line and key and says what to do.
func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		want []string // all of the error's lines, without the file name; "…" is anything
	}{
		"empty":                  {"", []string{`: hostname: it has to be set`, `: domains: it has to be set`}},
		"syntax":                 {minimal + "[smtp\n", []string{":4: …"}},
		"twice":                  {minimal + "hostname = \"x\"\n", []string{":3: hostname: …"}},
		"misspelt key":           {minimal + "[smtp]\n\nmax_recipient = 5\n", []string{`:5: smtp.max_recipient: unknown key: did you mean "smtp.max_recipients"?`}},
		"key in the wrong table": {minimal + "[smtp]\nlisten_tls = \":465\"\n", []string{`:4: smtp.listen_tls: unknown key: did you mean "submission.listen_tls"?`}},
		"key without a table":    {minimal + "quota = \"1GB\"\n", []string{`:3: quota: unknown key: did you mean "store.quota"?`}},
		"misspelt table":         {minimal + "[stmp]\nlisten = \":25\"\nx = 1\n", []string{`:3: stmp: unknown key: did you mean "smtp"?`}},
		"nothing like it":        {minimal + "[logg.files]\nrotation.days = 3\n[wherever]\n", []string{`:3: logg: unknown key: did you mean "log"?`, `:5: wherever: unknown key`}},
		"capitals":               {minimal + "[Log]\nLevel = \"info\"\n", []string{`:3: Log: unknown key: did you mean "log"?`}},
		"dotted":                 {minimal + "smtp.\"max_size\" = \"1MB\"\n", []string{`:3: smtp.max_size: unknown key…`}},
		"array of tables":        {minimal + "[[dns]]\n", []string{"…dns…"}},
		"wrong type":             {minimal + "[smtp]\nmax_recipients = \"many\"\n", []string{":4: smtp.max_recipients: …integer…"}},
		"size without a unit":    {minimal + "[smtp]\nmax_message_size = 50\n", []string{`:4: smtp.max_message_size: "50" is not a size: …MiB…`}},
		"bad duration":           {minimal + "[dns]\ntimeout = \"2 seconds\"\n", []string{`:4: dns.timeout: "2 seconds" is not a duration: …"2s"`}},
		"many at once": {
			"hostname = \"mail server\"\ndomains = [\"example.net\", \"example.net\", \"-x.example\", \"192.0.2.1\"]\npostmaster = \"me@elsewhere.example\"\nkeys_dir = \"data/keys\"\n[tls]\nkey = \"\"\n" +
				"[smtp]\nlisten = \"25\"\nmax_message_size = \"2GiB\"\nmax_recipients = 0\n[imap]\nlisten = \"0.0.0.0:143\"\nlisten_tls = \"0.0.0.0:143\"\nallow_clear_login = true\n" +
				"[http]\nlisten = \":9325\"\n[dns]\nservers = [\"one.example\", \"::1\"]\ntimeout = \"1m\"\n[seal]\nsubject = \"show\"\nno_certificate = \"clear\"\n[store]\nquota = \"1MB\"\n[log]\nformat = \"xml\"\nlevel = \"loud\"\n",
			[]string{
				`:1: hostname: "mail server" is not a domain name…`, `:2: domains: "example.net" stands there twice`, `:2: domains: "-x.example" is…`, `:2: domains: "192.0.2.1" is…`,
				`:3: postmaster: "me@elsewhere.example" is not an address in one of the domains`, `:6: tls.key: it must not be empty`, `:4: keys_dir: it must not be in data_dir…`,
				`:8: smtp.listen: "25" is not an address and port…`, `:12: imap.listen: "0.0.0.0:143" is not a loopback address…allow_clear_login is set`, `:13: imap.listen_tls: "0.0.0.0:143" is taken by imap.listen`,
				`:16: http.listen: ":9325" is not a loopback address…`, `:9: smtp.max_message_size: 2GiB is out of range…"1GiB"`, `:24: store.quota: 1MB is less than…`, `:19: dns.timeout: 1m is out of range…`,
				`:10: smtp.max_recipients: 0 is out of range: from 1 to 100000`, `:18: dns.servers: "one.example" is not an IP address…`, `:21: seal.subject: "show" is not allowed: it is one of "hide", "keep"`,
				`:22: seal.no_certificate: "clear" is not allowed…`, `:26: log.format…`, `:27: log.level…`,
			},
		},
	} {
		path := write(t, tt.text)
		c, err := Load(path)
		if err == nil || c != nil {
			t.Errorf("%s: loaded", name)
			continue
		}
		var p *Problem
		if !errors.As(err, &p) {
			t.Errorf("%s: no *Problem in %v", name, err)
		}
		got := strings.Split(err.Error(), "\n")
		if len(got) != len(tt.want) {
			t.Errorf("%s: %d problems, want %d:\n%v", name, len(got), len(tt.want), err)
			continue
		}
		for i := range got {
			if rest, ok := strings.CutPrefix(got[i], path); !ok || !matches(rest, tt.want[i]) {
				t.Errorf("%s:\ngot  %s\nwant %s", name, got[i], tt.want[i])
			}
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// matches compares with a pattern in which "…" is any text.
func matches(s, pattern string) bool {
	parts := strings.Split(pattern, "…")
	if !strings.HasPrefix(s, parts[0]) || !strings.HasSuffix(s, parts[len(parts)-1]) || len(parts) == 1 && s != pattern {
		return false
	}
	for _, p := range parts {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for key, change := range map[string]func(*Config){
		"hostname":                    func(c *Config) { c.Hostname = "" },
		"domains":                     func(c *Config) { c.Domains = nil },
		"postmaster":                  func(c *Config) { c.Postmaster = "postmaster" },
		"data_dir":                    func(c *Config) { c.DataDir = "" },
		"keys_dir":                    func(c *Config) { c.DataDir, c.KeysDir = "/srv/mail", "/srv/mail" },
		"smtp.listen":                 func(c *Config) { c.SMTP.Listen = "mx.example.org:25" },
		"imap.listen":                 func(c *Config) { c.IMAP.Listen = ":70000" },
		"https.listen":                func(c *Config) { c.HTTPS.Listen = "443" },
		"https.listen_hkp":            func(c *Config) { c.HTTPS.ListenHKP = "hkp" },
		"https.request_rate":          func(c *Config) { c.HTTPS.RequestRate = 0 },
		"https.max_connections":       func(c *Config) { c.HTTPS.MaxConnections = 0 },
		"http.listen":                 func(c *Config) { c.HTTP.Listen = "[::]:9325" },
		"smtp.max_connections":        func(c *Config) { c.SMTP.MaxConnections = -1 },
		"smtp.max_connections_per_ip": func(c *Config) { c.SMTP.MaxConnectionsPerIP = 0 },
		"store.quota":                 func(c *Config) { c.Store.Quota = -1 },
		"dns.validating":              func(c *Config) { c.DNS.Validating = []string{"localhost"} },
		"queue.workers":               func(c *Config) { c.Queue.Workers = 0 },
		"queue.per_domain":            func(c *Config) { c.Queue.PerDomain = 0 },
		"queue.retry_first":           func(c *Config) { c.Queue.RetryFirst = c.Queue.RetryLast + 1 },
		"queue.warn_after":            func(c *Config) { c.Queue.WarnAfter = c.Queue.GiveUpAfter + 1 },
		"queue.give_up_after":         func(c *Config) { c.Queue.GiveUpAfter, c.Queue.WarnAfter = 1, 0 },
		"delivery.port":               func(c *Config) { c.Delivery.Port = 0 },
		"delivery.policy_port":        func(c *Config) { c.Delivery.PolicyPort = 70000 },
		"delivery.routes":             func(c *Config) { c.Delivery.Routes = []string{"*=a.example", "*=b.example"} },
		"dns.timeout":                 func(c *Config) { c.DNS.Timeout = 0 },
	} {
		c := Default()
		change(c)
		err := c.Validate()
		if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: got %v", key, err)
		}
	}
	inside := Default()
	inside.DataDir, inside.KeysDir = "/srv/keys/mail", "/srv/keys"
	if err := inside.Validate(); err == nil || !strings.HasPrefix(err.Error(), "keys_dir: ") {
		t.Errorf("data in keys_dir: got %v", err)
	}
	for name, change := range map[string]func(*Config){
		"nothing served": func(c *Config) {
			c.SMTP.Listen, c.IMAP.Listen, c.IMAP.ListenTLS, c.HTTPS.Listen, c.HTTP.Listen = "", "", "", "", ""
			c.Submission.Listen, c.Submission.ListenTLS = "", ""
		},
		"any free port": func(c *Config) {
			c.SMTP.Listen, c.IMAP.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		},
		"clear login on loopback":    func(c *Config) { c.IMAP.Listen, c.IMAP.AllowClearLogin = "[::1]:143", true },
		"no limit":                   func(c *Config) { c.Store.Quota = 0 },
		"keys beside data":           func(c *Config) { c.DataDir, c.KeysDir = "/srv/mail", "/srv/mail-keys" },
		"a host without a domain":    func(c *Config) { c.Hostname = "localhost" },
		"data_dir with dots in name": func(c *Config) { c.DataDir, c.KeysDir = "/srv", "/..keys" },
	} {
		c := Default()
		change(c)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(string(Render(Default())))
	f.Add(minimal + "[smtp]\nmax_recipients = \"\"\"\n[x]\n\"\"\"\n")
	f.Add(minimal + "a.b.\"c d\" = 1\n[[x]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, problems := read(text, "/etc/postern")
		if len(problems) > 0 {
			return
		}
		// What is accepted is written and read again as it is.
		again, problems := parse(string(Render(c)))
		if len(problems) > 0 || !reflect.DeepEqual(again, c) {
			t.Fatalf("%v\n%+v\n%+v", problems, again, c)
		}
	})
}
