package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// requireParts is the environment variable that, set to "1", turns a missing part
// from a reason to skip a test into a failure, so that a complete run skips nothing.
const requireParts = "POSTERN_REQUIRE_PARTS"

// Parts returns the paths of real programs by their names. If one is missing, the
// test is skipped with the names of all that are, or fails where parts are required.
func Parts(t testing.TB, names ...string) map[string]string {
	t.Helper()
	paths := make(map[string]string, len(names))
	var missing []string
	for _, name := range names {
		path, ok := findProgram(name)
		if !ok {
			missing = append(missing, name)
		}
		paths[name] = path
	}
	if len(missing) > 0 {
		Missing(t, "programs: "+strings.Join(missing, ", "))
	}
	return paths
}

// Missing ends the test because it lacks what it names: skipped, or failed where
// parts are required.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(requireParts) == "1" {
		t.Fatalf("missing %s (%s=1)", what, requireParts)
	}
	t.Skipf("missing %s", what)
}

// findProgram also looks where a user's PATH does not lead: Debian keeps smtp-source
// there.
func findProgram(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, true
		}
	}
	return "", false
}
