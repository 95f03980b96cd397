package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// No secret key that opens a person's mail is ever on the server: neither in its
// files nor in its memory, whatever was delivered, read and imported.
func TestP1_NoSecretKeyOnServer(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	secret, certificate := readFile(t, g.secretFile), readFile(t, g.certFile)
	device := materialOf(t, secret, certificate)
	hold := materialOf(t, readFile(t, g.path("keys", "hold.key")), readFile(t, g.path("keys", "hold.pub")))

	// All that a gateway does with keys: seal, hold, release, import, refuse.
	g.postern("account", "add", "carol@example.org")
	c := g.smtp(t)
	for range 20 {
		if got := c.send(text("to both", "hello"), owner, "carol@example.org"); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
	carol := filepath.Join(t.TempDir(), "carol.key.asc")
	postern(t, "key", "new", "carol@example.org", "--out", carol)
	g.postern("cert", "import", "carol@example.org", strings.Replace(carol, ".key.", ".cert.", 1))
	for _, file := range []string{g.secretFile, carol} {
		if _, errOut, code := command(t, nil, "cert", "import", owner, file, "--config", g.configFile); code != 1 || !strings.Contains(string(errOut), "SECRET") {
			t.Errorf("import of a secret key: exit code %d, %s", code, errOut)
		}
	}
	if n := g.count(t, "INBOX"); n != 20 {
		t.Fatalf("%d messages", n)
	}
	people := map[string]*secretMaterial{
		"alice": device,
		"carol": materialOf(t, readFile(t, carol), readFile(t, strings.Replace(carol, ".key.", ".cert.", 1))),
	}

	onDisk := func(m *secretMaterial, dirs ...string) *found {
		f := &found{}
		walk(t, func(path string, b []byte) { m.search(path, b, f) }, dirs...)
		return f
	}
	// That the search finds what is there: the hold key, which is the gateway's own, and
	// the device's on the device.
	if len(onDisk(hold, g.dir).hits) == 0 {
		t.Error("the hold key was not found in the gateway's directory, where it is")
	}
	if len(onDisk(device, filepath.Dir(g.secretFile)).hits) == 0 {
		t.Error("the device's key was not found on the device, where it is")
	}
	if n := device.count(append(make([]byte, 77), dearmored(t, secret)...)); n < len(device.windows)/2 {
		t.Errorf("of the device's %d windows %d were found in its own secret key", len(device.windows), n)
	}

	for name, person := range people {
		onDisk(person, g.dir, g.tmp).none(t, name+"'s secret key on the server's disk")
		f := &found{}
		person.search("the log", []byte(g.log.String()), f)
		f.none(t, name+"'s secret key")
	}
	counts := map[string]int{}
	octets := memoryOf(t, g.pid(), func(b []byte) {
		counts["hold"] += hold.count(b)
		for name, person := range people {
			counts[name] += person.count(b)
		}
	})
	t.Logf("searched %d MiB of memory: %v", octets>>20, counts)
	if counts["hold"] == 0 {
		t.Error("the hold key was not found in the server's memory, where it is: the search is blind")
	}
	for name := range people {
		if counts[name] > 0 {
			t.Errorf("%d pieces of %s's secret key are in the server's memory", counts[name], name)
		}
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
