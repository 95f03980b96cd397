package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern/internal/config"
	"postern/policy"
)

// serial is that of the certificate that the gateway shows.
func serial(t *testing.T, addr net.Addr) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func clone(c *config.Config) *config.Config {
	other := *c
	return &other
}

func TestReload(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	_, r, log := serve(t, c)
	before := serial(t, r.Addrs.IMAPS)
	if err := send(r, "", "postmaster@new.test", hello); err == nil || !strings.Contains(err.Error(), "relaying") {
		t.Errorf("a domain that is not hosted: %v", err)
	}

	next := clone(c)
	next.Domains = []string{"here.test", "new.test"}
	newTLS(t, next.TLS)
	if err := r.Reload(next); err != nil {
		t.Fatal(err)
	}
	after := serial(t, r.Addrs.IMAPS)
	if serial(t, r.Addrs.Submissions) != after {
		t.Error("submission shows another TLS certificate")
	}
	if after == before {
		t.Error("the old TLS certificate is shown")
	}
	if err := send(r, "", "postmaster@new.test", hello); err != nil {
		t.Errorf("the new domain: %v", err)
	}
	if strings.Contains(log.String(), "next start") {
		t.Errorf("nothing needs a start:\n%s", log.String())
	}

	// A certificate that cannot be loaded changes nothing at all.
	write(t, next.TLS.Cert, "rubbish")
	last := clone(next)
	last.Domains = []string{"here.test"}
	if err := r.Reload(last); err == nil {
		t.Error("a broken certificate was loaded")
	}
	if serial(t, r.Addrs.IMAPS) != after {
		t.Error("another certificate is shown")
	}
	if err := send(r, "", "postmaster@new.test", hello); err != nil {
		t.Errorf("the new domain is gone: %v", err)
	}

	// What needs a start is said, and stays as it is.
	newTLS(t, next.TLS)
	last.Hostname, last.SMTP.MaxRecipients, last.DNS.Servers = "mx.here.test", 7, nil
	if err := r.Reload(last); err != nil {
		t.Fatal(err)
	}
	log.wait(t, `reason="hostname smtp dns"`)
	if err := send(r, "", "postmaster@new.test", hello); err == nil {
		t.Error("the domain is still there")
	}
}

// Every key of the configuration either is one that Reload takes over, or is named as
// one that takes a start: whoever adds a key cannot forget to say which.
func TestNeedStart(t *testing.T) {
	t.Parallel()
	reloaded := []string{"domains", "postmaster", "policy", "seal", "tls", "store"}
	if got := needStart(config.Default(), config.Default()); len(got) > 0 {
		t.Errorf("nothing differs, but %v", got)
	}
	shape := reflect.TypeFor[config.Config]()
	fields := 0
	for i := range shape.NumField() {
		name := shape.Field(i).Tag.Get("toml")
		for _, path := range leaves(shape.Field(i).Type, []int{i}) {
			fields++
			c := config.Default()
			alter(t, reflect.ValueOf(c).Elem().FieldByIndex(path))
			want := name
			if slices.Contains(reloaded, name) {
				want = ""
			}
			if got := strings.Join(needStart(config.Default(), c), " "); got != want {
				t.Errorf("%s: %q, want %q", shape.FieldByIndex(path).Name, got, want)
			}
		}
	}
	if fields < 40 {
		t.Errorf("only %d fields were walked", fields)
	}
}

// leaves are the paths to all fields below t that are no structures.
func leaves(t reflect.Type, path []int) (all [][]int) {
	if t.Kind() != reflect.Struct {
		return [][]int{path}
	}
	for i := range t.NumField() {
		all = append(all, leaves(t.Field(i).Type, append(slices.Clone(path), i))...)
	}
	return all
}

// alter gives a field another value.
func alter(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	default:
		t.Fatalf("no other value for a %v", v.Type())
	}
}

// The policy is loaded anew. One that does not load leaves everything as it was.
func TestReloadPolicy(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	g, r, _ := serve(t, c)
	decide := func() string { return g.Policy().Decide(policy.Facts{Recipient: "bob@there.test"}).Rule }
	if rule := decide(); rule != policy.OpportunisticRule {
		t.Errorf("without a file %q decides", rule)
	}
	next := clone(c)
	next.Policy.File = filepath.Join(t.TempDir(), "policy.toml")
	const rule = "[[rule]]\nname = \"%s\"\nwhen = '%s'\nfloor = \"sealed\"\n"
	write(t, next.Policy.File, fmt.Sprintf(rule, "first", "true"))
	if err := r.Reload(next); err != nil || decide() != "first" {
		t.Errorf("%v, %q decides", err, decide())
	}
	write(t, next.Policy.File, fmt.Sprintf(rule, "second", "tru"))
	last := clone(next)
	last.Domains = []string{"here.test", "new.test"}
	if err := r.Reload(last); err == nil || !strings.Contains(err.Error(), "policy.toml:3: ") || decide() != "first" {
		t.Errorf("a broken file: %v, %q decides", err, decide())
	}
	if err := send(r, "", "postmaster@new.test", hello); err == nil {
		t.Error("a broken policy let the rest through")
	}
	write(t, next.Policy.File, fmt.Sprintf(rule, "second", "true"))
	if err := r.Reload(last); err != nil || decide() != "second" {
		t.Errorf("%v, %q decides", err, decide())
	}
}

// Not parallel: the signal is the process's. Every ServeFile that runs gets it.
func TestSIGHUP(t *testing.T) {
	c := newConfig(t)
	file := writeConfig(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := new(logBuffer)
	ended := make(chan error, 1)
	go func() { ended <- ServeFile(ctx, file, log) }()
	log.wait(t, "msg=serving")
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	write(t, file, string(config.Render(c))+"\nunheard_of = 1\n")
	hangup()
	log.wait(t, "nothing was reloaded")
	if !strings.Contains(log.String(), "unheard_of") || strings.Contains(log.String(), "msg=reloaded") {
		t.Errorf("why is not said:\n%s", log.String())
	}

	c.Domains = append(c.Domains, "new.test")
	writeConfig(t, c)
	hangup()
	log.wait(t, "msg=reloaded")
	addr := listenAddress(t, log.String(), "smtp.listen")
	if err := send(&Running{Addrs: Addrs{MX: addr}}, "", "postmaster@new.test", hello); err != nil {
		t.Errorf("the new domain: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// listenAddress finds in the log where a front end listens.
func listenAddress(t *testing.T, log, key string) net.Addr {
	t.Helper()
	_, rest, ok := strings.Cut(log, "listener="+key+" addr=")
	if !ok {
		t.Fatalf("the log does not say where %s is:\n%s", key, log)
	}
	where, _, _ := strings.Cut(rest, "\n")
	addr, err := net.ResolveTCPAddr("tcp", where)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
