package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// buildDir is where the program under test lies.
var buildDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "postern-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// What the tests run must not read the configuration of whoever runs them. The go
	// command gets its own directories before HOME changes.
	buildDir = dir
	for name, value := range map[string]string{
		"GOCACHE": goEnv("GOCACHE"), "GOMODCACHE": goEnv("GOMODCACHE"), "GOPATH": goEnv("GOPATH"), "GOENV": goEnv("GOENV"),
		"GNUPGHOME": filepath.Join(dir, "no-gnupg"), "POSTERN_CONFIG": "", "LC_ALL": "C.UTF-8",
		"XDG_CONFIG_HOME": filepath.Join(dir, "no-config"),
	} {
		os.Setenv(name, value)
	}
	os.Setenv("HOME", dir)
	return m.Run()
}

func goEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// program builds the program under test, once, and returns its path.
func program(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var built = sync.OnceValues(func() (string, error) {
	if err := dependOnSource(filepath.Join("..", "..")); err != nil {
		return "", err
	}
	path := filepath.Join(buildDir, "postern")
	if out, err := exec.Command("go", "build", "-o", path, "postern/cmd/postern").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// dependOnSource looks at every file that the program is made from. The go command
// notes what a test looks at, and takes its result from the cache only if none of that
// has changed; what the build depends on it cannot see.
func dependOnSource(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		name := e.Name()
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != root && strings.HasPrefix(name, "."):
			return filepath.SkipDir
		case e.IsDir() || strings.HasSuffix(name, "_test.go"):
			return nil
		case strings.HasSuffix(name, ".go"), strings.HasSuffix(name, ".sql"), name == "go.mod", name == "go.sum":
			_, err = os.Stat(path)
		}
		return err
	})
}
