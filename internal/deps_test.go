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
// happens.
func TestInstallDepsWithoutRights(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no bash")
	}
	for name, row := range map[string]struct {
		missing string
		code    int
	}{
		"one is missing": {"knot", 1},
		"all are there":  {"nothing", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for program, text := range map[string]string{
				"id":         "echo 1000",
				"sudo":       "exit 1",
				"apt-get":    "echo apt-get was run; exit 7",
				"apt-cache":  "exit 0",
				"dpkg-query": `[ "${!#}" = ` + row.missing + ` ] || echo -n installed`,
			} {
				if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/bash\n"+text+"\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "../scripts/install-deps")
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			text := string(out)
			if strings.Contains(text, "testsuite") { // really missing on this machine
				row.code = 1
				text = strings.ReplaceAll(text, "  libpython3.x-testsuite\n", "")
			}
			if code := cmd.ProcessState.ExitCode(); code != row.code || strings.Contains(text, "apt-get was run") {
				t.Fatalf("exit code %d, %v\n%s", code, err, out)
			}
			if row.missing == "knot" && !strings.HasSuffix(text, "by sudo:\n  knot\n") {
				t.Errorf("%s", out)
			}
		})
	}
}
