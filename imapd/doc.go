// Package imapd is the IMAP front end: IMAP4rev2 (RFC 9051) and IMAP4rev1 (RFC 3501)
// over the store.
//
// It never parses a message, never opens ciphertext and never writes to a mailbox
// past mail.Acceptor: what a client uploads goes through the same door as SMTP. What
// FETCH answers is what was recorded at delivery (envelope, structure, offsets) and
// the stored octets as they are.
//
// The protocol engine is go-imap's imapserver. It stands between two parts that are
// ours and do not depend on it:
//
//	guard.go     below it: the connection as the engine sees it. It frames commands
//	             and literals itself, so that the engine never takes data for a
//	             command, and it owns time limits, STARTTLS and the farewell.
//	input.go     octets from the client, with the time limits
//	answer.go    commands that are answered, or mended, before the engine sees them
//	farewell.go  what is written: the engine's answers, the guard's own, BYE
//	admit.go     connections: limits, TLS handshake, start and end
//	command.go   how a command is read: lines, quoted strings, literals
//	response.go  what the guard must know of the engine's answers
//	coalesce.go  answers are gathered into few writes
//	view.go      above it: what one client has been told of its mailbox
//	numset.go    sequence and UID sets
//	flags.go     flags and keywords
//	date.go      Date fields
//	section.go   which octets BODY[...] and BINARY[...] mean
//	envelope.go  recorded envelopes and structures in IMAP's terms
//	criteria.go  SEARCH over what is stored in clear
//	listing.go   LIST patterns and the tree of names
//	error.go     the only place where an error becomes a status response
//
// The files in between are glue, one per command: login.go, mailbox.go (CREATE,
// DELETE, RENAME, SUBSCRIBE, LIST, STATUS, NAMESPACE), select.go, fetch.go, search.go,
// store.go, append.go, copy.go (COPY, MOVE, EXPUNGE), idle.go.
//
// What is not served: SEARCH BODY is refused with NO [CANNOT], because only ciphertext
// is stored; SEARCH TEXT looks at the header section alone. LITERAL+, CONDSTORE, QRESYNC,
// ID (it is answered, not advertised), QUOTA and COMPRESS are not offered. \Recent is
// always empty. A partial BINARY fetch is answered without its origin octet.
package imapd
