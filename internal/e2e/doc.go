// Package e2e tests the real program against real ones: it builds the postern
// command, sets gateways up with it on loopback, and lets mail programs, GnuPG and
// Sequoia do with it what their users would. Nothing here reaches into the program;
// what is known of it is what its command line, its ports and its directory show.
//
// It has only tests. It never leaves 127.0.0.1 and temporary directories, and ends
// only the processes that it started.
//
//	main_test.go gateway_test.go   the program, and a gateway of a test's own
//	ports_test.go poll_test.go     ports, and waiting for facts
//	smtp_test.go imap_test.go      speaking to it
//	federation*_test.go outbound_test.go  several of them, and mail servers of others
//	openpgp_test.go restore_test.go  GnuPG, and taking a payload apart
//	outpost_test.go tap_test.go    what leaves, and what a client has said and heard
//	outbound_fault*_test.go        the rest of the world goes wrong, the disk is full, kill -9
//	node_test.go testdata/node     programs of the Node.js world
//	scan_test.go memory_test.go    searching disk, open files, log and memory
//
// The promises of the design are TestP1, TestP2, TestP3, TestP4 and TestP6; the others are
// named after who or what they are about.
package e2e
