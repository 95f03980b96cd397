//go:build !unix

package smtpd

import "net"

// waiting reports whether the client has sent something already; here nobody knows.
func waiting(net.Conn) bool { return false }
