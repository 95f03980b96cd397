package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// runners are the functions by which tests find the programs that they run.
func runners() []string { return []string{"Parts", "needPart", "program", "part"} }

// programsOf returns the names that a test file hands to a runner.
func programsOf(t *testing.T, file string) (names []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := ""
		switch f := call.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if !slices.Contains(runners(), name) || len(call.Args) < 2 {
			return true
		}
		args := call.Args[1:]
		if name != "Parts" {
			args = args[:1] // what follows are the program's arguments
		}
		for _, a := range args {
			if lit, ok := a.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				program, _ := strconv.Unquote(lit.Value)
				names = append(names, program)
			}
		}
		return true
	})
	return names
}

// Whatever program a test wants is one that scripts/install-deps sees to.
func TestInstallDepsKnowsEveryProgram(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../scripts/install-deps")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(script), "\ncommands=(")
	list, _, _ = strings.Cut(list, ")")
	known := strings.Fields(list)
	found := 0
	err = filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testkit") {
			return err
		}
		for _, program := range programsOf(t, path) {
			if found++; !slices.Contains(known, program) {
				t.Errorf("%s runs %s, which scripts/install-deps does not know", path, program)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 30 {
		t.Errorf("only %d programs were found: do the tests find them by another function now?", found)
	}
}

// Who may not install is told what is missing, at once; where nothing is, nothing
// happens but that npm puts there what the lock file says, if it has not yet.
func TestInstallDepsWithoutRights(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no bash")
	}
	for name, row := range map[string]struct {
		missing string
		code    int
		lock    string // what npm has put there; "": nothing
		npm     bool
	}{
		"one is missing":      {"knot", 1, "", false},
		"all are there":       {"nothing", 0, "the lock", false},
		"modules are missing": {"nothing", 0, "", true},
		"modules are old":     {"nothing", 0, "another lock", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, dir := copyOfInstallDeps(t, row.lock)
			for program, text := range map[string]string{
				"id":         "echo 1000",
				"sudo":       "exit 1",
				"apt-get":    "echo apt-get was run; exit 7",
				"apt-cache":  "exit 0",
				"dpkg-query": `[ "${!#}" = ` + row.missing + ` ] || echo -n installed`,
				"node":       "",
				"npm":        `mkdir -p node_modules; echo "npm $*"`,
			} {
				writeProgram(t, filepath.Join(dir, program), text)
			}
			run := func() (text string, code int) {
				cmd := exec.CommandContext(t.Context(), "bash", script)
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
				out, _ := cmd.CombinedOutput()
				return string(out), cmd.ProcessState.ExitCode()
			}
			text, code := run()
			if strings.Contains(text, "testsuite") { // really missing on this machine
				row.code, row.npm = 1, false
				text = strings.ReplaceAll(text, "  libpython3.x-testsuite\n", "")
			}
			if code != row.code || strings.Contains(text, "apt-get was run") || strings.Contains(text, "npm ci --ignore-scripts ") != row.npm {
				t.Fatalf("exit code %d\n%s", code, text)
			}
			if row.missing == "knot" && !strings.HasSuffix(text, "by sudo:\n  knot\n") {
				t.Errorf("%s", text)
			}
			if again, _ := run(); strings.Contains(again, "npm") {
				t.Errorf("run again:\n%s", again)
			}
		})
	}
}

// copyOfInstallDeps puts the script into a tree of its own, in which npm has installed
// by a lock file; dir is a directory for programs.
func copyOfInstallDeps(t *testing.T, installed string) (script, dir string) {
	t.Helper()
	text, err := os.ReadFile("../scripts/install-deps")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	node := filepath.Join(root, "internal", "e2e", "testdata", "node")
	for _, d := range []string{filepath.Join(node, "node_modules"), filepath.Join(root, "scripts"), filepath.Join(root, "bin")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"package-lock.json": "the lock", "node_modules/installed-lock.json": installed} {
		if err := os.WriteFile(filepath.Join(node, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script = filepath.Join(root, "scripts", "install-deps")
	if err := os.WriteFile(script, text, 0o700); err != nil {
		t.Fatal(err)
	}
	return script, filepath.Join(root, "bin")
}

func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/bash\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// The lock file says what is to be installed, and not where from: that is the business of
// whoever installs it.
func TestLockFileNamesNoHost(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("e2e/testdata/node/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"integrity"`) || strings.Contains(string(text), `"resolved"`) {
		t.Error("package-lock.json names where its packages come from: make it anew beside its .npmrc")
	}
}
