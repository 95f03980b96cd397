package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"postern/internal/testkit"
)

// nodeDir has programs of ours that use the mail programs of the Node.js world, and
// those in node_modules, as package-lock.json says, once scripts/install-deps has run.
const nodeDir = "testdata/node"

// node runs one of them: in goes to it as JSON, and what it answers is read into out.
func node(t testing.TB, name string, in, out any) {
	t.Helper()
	program := nodeProgram(t)
	for _, file := range []string{name, "answer.mjs", "package-lock.json"} {
		if _, err := os.Stat(filepath.Join(nodeDir, file)); err != nil { // see dependOnSource
			t.Fatal(err)
		}
	}
	question, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	text, errOut, err := tool(t, question, program, filepath.Join(nodeDir, name))
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errOut)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
}

// nodeProgram returns the path of Node.js, if what nodeDir needs is there too.
func nodeProgram(t testing.TB) string {
	t.Helper()
	nodeModule(t, "installed-lock.json")
	return testkit.Parts(t, "node")["node"]
}

// nodeModule returns the path of a file in node_modules, whose name is a pattern.
func nodeModule(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(nodeDir, "node_modules", filepath.FromSlash(pattern)))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if _, err := os.Stat(path); err == nil {
			path, err = filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	testkit.Missing(t, "modules of Node.js: run scripts/install-deps ("+pattern+")")
	return ""
}
