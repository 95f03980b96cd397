// Package deliver carries one copy of a message to its next hop: it finds the mail
// exchangers of a domain, decides what TLS they have to prove, and speaks SMTP as a
// client. It gives one result for each recipient.
//
// It never decides who gets what, never keeps a message, never sends a copy that
// has to be protected over a connection that is not, and never tries again later:
// that is the queue's. What it does not know is tried again; it never goes in clear
// because something could not be found out.
//
//	carrier.go      Options, Request, Result, Deliver: the door
//	delivery.go     one Deliver: hosts, addresses, batches of recipients
//	route.go        domain to hosts (MX, literals, configured routes)
//	dial.go         hosts to addresses to connections
//	secure.go       what TLS a host has to prove, in the order DANE, MTA-STS, neither
//	dane.go         TLSA records and what they prove
//	mtasts.go       the policy of a domain; policyfetch.go where it comes from,
//	                policycache.go what is remembered of it, and kept alive
//	session.go      greeting, EHLO, STARTTLS
//	transaction.go  MAIL to the end of the content; parameters.go what goes with them
//	content.go      the octets of a message as they leave
//	reply.go        replies, bounded
//	pool.go         connections that are used again
//
// The SMTP client is our own: a library's has no deadlines on content, no bounds on
// replies, no pipelining, and overlooks STARTTLS in lower case.
//
//	RFC 5321       MX order, implicit MX, time-outs of 4.5.3.2, address literals
//	RFC 7505       null MX
//	RFC 2920, 3030 PIPELINING, CHUNKING (one message, never BINARYMIME)
//	RFC 1870, 6152, 6531, 3461, 9422  SIZE, 8BITMIME, SMTPUTF8, DSN, LIMITS RCPTMAX
//	RFC 3207       STARTTLS; what comes in clear behind its reply ends the connection
//	RFC 7672       DANE for SMTP, usages 2 and 3
//	RFC 8461       MTA-STS
//	RFC 8689       REQUIRETLS
//
// # TLS
//
// For each host, by what is known of it and what the copy asks for:
//
//	what is published                       any copy             VerifiedTLS or RequireTLS
//	usable TLSA records, signed             DANE                 DANE
//	TLSA look-up fails or is bogus          next host, Retry     next host, Retry
//	unusable TLSA records, signed           TLS, nobody proven   as the rows below say
//	MTA-STS enforce                         certificate proven   certificate proven
//	MTA-STS testing                         opportunistic        certificate proven
//	MTA-STS cannot be found out             opportunistic        next host, Retry
//	nothing                                 opportunistic        Failed 5.7.10
//
// Opportunistic is TLS with whatever certificate if STARTTLS is offered, and else in
// clear; also in clear, on another connection, if the handshake fails. That a policy
// cannot be fetched leaves ordinary mail opportunistic as RFC 8461 3.3 wants; one that
// was fetched earlier holds until it expires, and is fetched again before that.
package deliver
