// Package queue sees to copies that leave: it claims what is due, has it carried to its
// next hop, and records what became of each recipient: done, to be tried again, or given
// back to the sender with a report.
//
// It never opens a message (a report quotes the header section of the copy, which the
// bridge hands out), never decides how a copy is protected, and never loses anything in
// silence: a recipient goes only when the next hop has it, or its sender knows, or
// nobody is left to be told, which is logged. At worst, after a crash or when a lease is
// lost, a copy is delivered twice.
//
//	queue.go     Options, Run: claims, workers, leases, the end
//	express.go   what comes and is carried at once
//	slow.go      what takes long gives up its place
//	attempt.go   one group of recipients: carry it, or have it decided anew
//	overdue.go   what is late, too late, or taken back by the operator
//	log.go       the line about what became of a recipient
//	schedule.go  when to try again
//	report.go    hands a report to its sender
//	dsn.go       what a report looks like, RFC 3464, RFC 3461, RFC 6533
//	words.go     what it tells people
package queue
