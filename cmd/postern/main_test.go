package main

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"postern/internal/testkit"
)

// TestMain lets the scripts run this test's binary as postern: the real main, in a
// process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"postern": main})
}

// The offsets of all ports that a gateway uses, from its base port.
func portOffsets() []int { return []int{25, 143, 443, 465, 587, 925, 993} }

// TestScripts runs testdata/script: what each command does, as its user sees it.
// Beside testscript's own commands they have those of script_test.go.
func TestScripts(t *testing.T) {
	t.Parallel()
	fixtures, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	ports := bases{taken: make(map[int]bool)}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("FIXTURES", fixtures)
			if dir := os.Getenv("GOCOVERDIR"); dir != "" {
				e.Setenv("GOCOVERDIR", dir)
			}
			base, release := ports.take(t)
			s := &script{env: e, base: base, release: release}
			s.export()
			e.Values[scriptKey{}] = s
			e.Defer(s.end)
			return nil
		},
		Cmds: commands(),
	})
}

// bases hands out base ports such that no two scripts have a port in common: between
// freeing its ports and its server's taking them, a script must not lose them to another.
type bases struct {
	mu    sync.Mutex
	taken map[int]bool // ports
}

func (b *bases) take(t *testing.T) (base int, release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		base, release := testkit.FreeBase(t, portOffsets()...)
		if !slices.ContainsFunc(portOffsets(), func(o int) bool { return b.taken[base+o] }) {
			for _, o := range portOffsets() {
				b.taken[base+o] = true
			}
			return base, release
		}
		release()
	}
}
