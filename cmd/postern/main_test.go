package main

import (
	"os"
	"path/filepath"
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
			base, release := testkit.FreeBase(t, portOffsets()...)
			s := &script{env: e, base: base, release: release}
			s.export()
			e.Values[scriptKey{}] = s
			e.Defer(s.end)
			return nil
		},
		Cmds: commands(),
	})
}
