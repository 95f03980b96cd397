package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readUnit reads a systemd unit into "Section.Directive" and its values.
func readUnit(t *testing.T, path string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`^\[(Unit|Service|Install)\]$`)
	directive := regexp.MustCompile(`^([A-Z][A-Za-z]+)=(\S.*\S|\S)$`)
	found, in := map[string][]string{}, ""
	for i, line := range strings.Split(string(data), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if m := section.FindStringSubmatch(line); m != nil {
			in = m[1]
		} else if m := directive.FindStringSubmatch(line); m != nil && in != "" {
			found[in+"."+m[1]] = append(found[in+"."+m[1]], m[2])
		} else {
			t.Errorf("%s:%d: neither section nor directive: %q", path, i+1, line)
		}
	}
	return found
}

// The unit takes from the process what it does not need, and keeps clear text in
// memory off the disks.
func TestUnit(t *testing.T) {
	t.Parallel()
	got := readUnit(t, "../../configs/postern.service")
	for key, want := range map[string]string{
		"Service.Type":                     "exec", // "notify" would need the program to tell systemd
		"Service.ExecStart":                "/usr/local/bin/postern serve --config /var/lib/postern/postern.toml",
		"Service.ExecReload":               "/bin/kill -HUP $MAINPID",
		"Service.User":                     "postern",
		"Service.UMask":                    "0077",
		"Service.LimitCORE":                "0",
		"Service.MemorySwapMax":            "0",
		"Service.AmbientCapabilities":      "CAP_NET_BIND_SERVICE",
		"Service.CapabilityBoundingSet":    "CAP_NET_BIND_SERVICE",
		"Service.NoNewPrivileges":          "yes",
		"Service.ProtectSystem":            "strict",
		"Service.ProtectHome":              "yes",
		"Service.ProtectProc":              "invisible",
		"Service.ProtectClock":             "yes",
		"Service.ProtectControlGroups":     "yes",
		"Service.ProtectHostname":          "yes",
		"Service.ProtectKernelLogs":        "yes",
		"Service.ProtectKernelModules":     "yes",
		"Service.ProtectKernelTunables":    "yes",
		"Service.PrivateTmp":               "yes",
		"Service.PrivateDevices":           "yes",
		"Service.RestrictNamespaces":       "yes",
		"Service.RestrictRealtime":         "yes",
		"Service.RestrictSUIDSGID":         "yes",
		"Service.RestrictAddressFamilies":  "AF_INET AF_INET6 AF_UNIX",
		"Service.LockPersonality":          "yes",
		"Service.MemoryDenyWriteExecute":   "yes",
		"Service.SystemCallArchitectures":  "native",
		"Service.StateDirectory":           "postern",
		"Service.RestartPreventExitStatus": "2",
		"Install.WantedBy":                 "multi-user.target",
	} {
		if !slices.Equal(got[key], []string{want}) {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	if filter := got["Service.SystemCallFilter"]; len(filter) == 0 || filter[0] != "@system-service" {
		t.Errorf("SystemCallFilter is %q", filter)
	}
}
