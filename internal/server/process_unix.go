//go:build unix

package server

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// checkOwner refuses to work as root on the data of another user: what root writes
// there the server could not read, nor even open its database again.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || stat.Uid == 0 {
		return nil
	}
	name := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	} else {
		name = "#" + name
	}
	return fmt.Errorf("%s belongs to user %s: run this as that user (sudo -u %s postern ...)", dir, name, name)
}

// guardMemory keeps mail, which passes through memory in clear, from reaching a disk
// should the process crash, and from other processes of the same user.
func guardMemory() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return notDumpable()
}
