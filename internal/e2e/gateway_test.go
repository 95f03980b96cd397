package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/testkit"
)

// stopLimit is how long the program may take to end after SIGTERM.
const stopLimit = 10 * time.Second

// Everybody's names, unless a test says otherwise. The host is the one whose
// Authentication-Results the corpus forges.
const (
	owner    = "alice@example.org"
	sender   = "bob@example.net"
	hostname = "mx.example.org"
)

// options say what is special about a test's gateway.
type options struct {
	// withoutCertificate leaves the first account without one.
	withoutCertificate bool
	// dns are the resolvers; none: one that is not there, which says so at once.
	dns []string
	// config are values of postern.toml to change, by dotted key.
	config map[string]string
	// errorsExpected: the log may have lines of level ERROR.
	errorsExpected bool
}

// gateway is the real program with a data directory of its own.
type gateway struct {
	t    testing.TB
	o    options
	dir  string // configuration, keys, TLS certificate and data: all that the server has
	tmp  string // what the server finds as its temporary directory
	base int

	// secretFile and certFile are the owner's. They lie outside of dir.
	secretFile, certFile string
	password, configFile string
	gatewayKey           string

	log    logBuffer
	cmd    *exec.Cmd
	exited chan error // cap 1; the result of Wait
}

// newGateway sets a gateway up and starts it.
func newGateway(t testing.TB, o options) *gateway {
	t.Helper()
	g := setUp(t, o)
	g.start()
	return g
}

// setUp makes a key on the owner's device and a gateway that is not running.
func setUp(t testing.TB, o options) *gateway {
	t.Helper()
	device, server := t.TempDir(), filepath.Join(t.TempDir(), "gateway")
	g := &gateway{t: t, o: o, dir: server, tmp: t.TempDir(), secretFile: filepath.Join(device, "alice.key.asc"), certFile: filepath.Join(device, "alice.cert.asc")}
	postern(t, "key", "new", owner, "--out", g.secretFile)
	g.base = freeBase(t)
	args := []string{"quickstart", owner, "--dir", g.dir, "--listen", "127.0.0.1", "--hostname", hostname,
		"--base-port", strconv.Itoa(g.base), "--json"}
	if !o.withoutCertificate {
		args = append(args, "--cert", g.certFile)
	}
	var made struct {
		Address, Password, Config string
		Ports                     map[string]int
		GatewayKey                string `json:"gateway_key"`
	}
	if err := json.Unmarshal(postern(t, args...), &made); err != nil {
		t.Fatal("quickstart --json: ", err)
	}
	if made.Address != owner || made.Ports["mx"] != g.base+25 || made.Ports["imaps"] != g.base+993 {
		t.Fatalf("quickstart --json: %+v", made)
	}
	g.password, g.configFile, g.gatewayKey = made.Password, made.Config, made.GatewayKey
	g.configure()
	return g
}

// configure lifts the limits that one address has, since all that a test sends comes
// from one, and sets what the test asks for.
func (g *gateway) configure() {
	g.t.Helper()
	servers := `["127.0.0.1:1"]`
	if len(g.o.dns) > 0 {
		b, _ := json.Marshal(g.o.dns) // strings
		servers = string(b)
	}
	set := map[string]string{
		"smtp.connection_rate": "1000000", "smtp.message_rate": "1000000", "smtp.max_connections_per_ip": "1000",
		"dns.servers": servers,
	}
	for key, value := range g.o.config {
		set[key] = value
	}
	text, err := os.ReadFile(g.configFile)
	if err != nil {
		g.t.Fatal(err)
	}
	var out strings.Builder
	section := ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(strings.TrimSpace(line), "[]") + "."
		}
		name, _, _ := strings.Cut(line, " = ")
		if value, ok := set[section+name]; ok {
			line = name + " = " + value + "\n"
			delete(set, section+name)
		}
		out.WriteString(line)
	}
	if len(set) > 0 {
		g.t.Fatalf("postern.toml does not have the keys %v", set)
	}
	if err := os.WriteFile(g.configFile, []byte(out.String()), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// start starts the program and waits until it would accept mail.
func (g *gateway) start() {
	g.t.Helper()
	g.launch()
	g.waitReady()
}

// launch starts the program, and waits for nothing.
func (g *gateway) launch() {
	g.t.Helper()
	cmd := exec.Command(program(g.t), "serve", "--config", g.configFile)
	cmd.Stdout, cmd.Stderr = &g.log, &g.log
	cmd.Env = append(os.Environ(), "TMPDIR="+g.tmp)
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	first := g.cmd == nil && g.exited == nil
	g.cmd, g.exited = cmd, exited
	if first {
		g.t.Cleanup(g.end)
	}
}

// waitReady asks /readyz until the answer is yes.
func (g *gateway) waitReady() {
	g.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get("http://" + g.at(925) + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-g.exited:
			g.exited <- err
			g.t.Fatalf("the gateway has ended: %v\n%s", err, g.log.tail())
		default:
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("not ready after %v: %v\n%s", patience, err, g.log.tail())
		}
	}
}

// stop asks the program to end, and requires that it does so in time and content.
func (g *gateway) stop() {
	g.t.Helper()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		g.t.Fatal(err)
	}
	g.waitStopped(time.Now())
}

func (g *gateway) waitStopped(asked time.Time) {
	g.t.Helper()
	select {
	case err := <-g.exited:
		g.cmd = nil
		if err != nil {
			g.t.Errorf("after SIGTERM: %v\n%s", err, g.log.tail())
		}
	case <-time.After(time.Until(asked.Add(stopLimit))):
		g.t.Errorf("still running %v after SIGTERM\n%s", stopLimit, g.log.tail())
		g.kill()
	}
}

// kill ends the program as a power failure would.
func (g *gateway) kill() {
	g.t.Helper()
	if err := g.cmd.Process.Kill(); err != nil {
		g.t.Fatal(err)
	}
	<-g.exited
	g.cmd = nil
}

// restart stops and starts.
func (g *gateway) restart() {
	g.t.Helper()
	g.stop()
	g.start()
}

// end is the cleanup: what still runs is stopped, and the log must be clean.
func (g *gateway) end() {
	if g.cmd != nil {
		if g.t.Failed() {
			g.kill()
		} else {
			g.stop()
		}
	}
	log := g.log.String()
	for line := range strings.Lines(log) {
		bad := strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "goroutine ")
		if bad || strings.Contains(line, "level=ERROR") && !g.o.errorsExpected {
			g.t.Errorf("in the log: %s", line)
			break
		}
	}
	if g.t.Failed() {
		g.t.Logf("the log ends with:\n%s", g.log.tail())
	}
}

func (g *gateway) at(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(g.base+port))
}
func (g *gateway) mx() string { return g.at(25) }
func (g *gateway) pid() int   { return g.cmd.Process.Pid }
func (g *gateway) path(elem ...string) string {
	return filepath.Join(append([]string{g.dir}, elem...)...)
}

// tlsCert is the file with the gateway's self-signed TLS certificate.
func (g *gateway) tlsCert() string { return g.path("tls", "cert.pem") }

// postern runs a command on the gateway's data, and returns what it prints.
func (g *gateway) postern(args ...string) []byte {
	g.t.Helper()
	return postern(g.t, append(args, "--config", g.configFile)...)
}

// check runs postern check, which must find nothing.
func (g *gateway) check() {
	g.t.Helper()
	g.t.Logf("check --store:\n%s", g.postern("check", "--store", "--no-dns"))
}

// postern runs a command of the program that must succeed.
func postern(t testing.TB, args ...string) []byte {
	t.Helper()
	out, errOut, code := command(t, nil, args...)
	if code != 0 {
		t.Fatalf("postern %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// command runs a command of the program and returns what it prints, and its exit code.
func command(t testing.TB, in []byte, args ...string) (stdout, stderr []byte, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("postern %s: %v", strings.Join(args, " "), err)
	}
	return out.Bytes(), errOut.Bytes(), cmd.ProcessState.ExitCode()
}

// logBuffer collects what the program logs.
type logBuffer struct{ testkit.Log }

// tail is what a person wants to see of it.
func (l *logBuffer) tail() string {
	s := l.String()
	return s[max(0, len(s)-4000):]
}
