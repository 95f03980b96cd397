//go:build unix

package smtpd

import (
	"net"
	"syscall"
)

// waiting reports whether the client has sent something already. It does not
// wait: a client that speaks a moment later is let pass.
func waiting(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var peekErr error
	err = rc.Control(func(fd uintptr) {
		var b [1]byte
		n, _, peekErr = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && peekErr == nil && n > 0
}
