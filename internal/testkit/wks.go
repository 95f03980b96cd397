package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// WKSClient finds gpg-wks-client, which Debian keeps where no PATH leads. Without it the
// test is skipped or fails, as by Missing.
func WKSClient(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("gpg-wks-client"); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/lib/gnupg", "/usr/libexec", "/usr/local/libexec"} {
		path := filepath.Join(dir, "gpg-wks-client")
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	Missing(t, "programs: gpg-wks-client")
	return ""
}
