// Package smtpd speaks SMTP to those who bring mail: other servers (MX), and our own
// users (submission). It turns commands into calls
// of a mail.Transaction, and what comes of them into replies; it knows nothing of
// what becomes of a message behind that door. It never stores anything, never
// decides who may receive, never relays, and never logs a mail address.
//
// It implements RFC 5321 with PIPELINING (2920), SIZE (1870), 8BITMIME (6152),
// SMTPUTF8 (6531), ENHANCEDSTATUSCODES (2034), CHUNKING (3030, not BINARYMIME),
// STARTTLS (3207), REQUIRETLS (8689) and LIMITS (9422). Submission (6409) adds AUTH (4954)
// with PLAIN, LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, DSN (3461, 6533) and TLS from
// the first octet (8314). The server loop is our own: a guard around
// a library's cannot see the commands that come inside TLS, and the content of
// DATA must not be read octet by octet.
//
// Where to find what:
//
//	server.go     listeners, start and stop        limits.go     who may connect, how long it may take
//	conn.go       one connection and its end       input.go      the read buffer and command lines
//	command.go    verb to method                   path.go       addresses and parameters
//	helo.go       HELO, EHLO, STARTTLS             mail.go rcpt.go data.go bdat.go   the transaction
//	dotreader.go  the content of a message         body.go       the reader a transaction gets
//	reply.go      errors to replies                outcome.go    what a sender is told of whose copy
//	submission.go what only our users get          auth.go       AUTH
//	dsn.go        the parameters of DSN
//
// # Rules
//
// Only CRLF ends a line and only CRLF.CRLF ends DATA. As soon as a bare CR, a bare
// LF or NUL is seen, in a command or in content, the client gets its reply and the
// connection ends: what else it sends is thrown away and never looked at, because
// nobody can say any more where content ends and commands begin. The same holds
// for content that stops coming. This is what keeps a message from being read as
// two (SMTP smuggling, CVE-2023-51764).
//
// Replies are written when the server has to wait for input, so a group of
// pipelined commands is answered in one segment. A reply 250 to a message is
// given after Transaction.Data returned nil, that is after the message is durable.
// If the connection is lost before that reply arrives the client will send the
// message again: a duplicate, never a loss.
//
// Submission takes no password on a connection in clear (but see Submission), lets three
// logins fail on a connection, and asks again with each MAIL whether the login still
// holds. What one account may send in an hour counts over all its connections.
//
// A client that speaks before the banner is turned away if its words are there
// already when the connection is accepted.
//
// When the context of Serve is cancelled, connections that wait for a command get
// 421 4.3.2 and end; a message on its way in may finish within Options.Grace.
//
// # Bad input
//
// Each row is tested under its name: by TestBadInput/NAME, or by the script
// testdata/NAME.smtp. Outcomes marked * are the bridge's; here it is tested that
// its answer gets through.
//
//	name                    input                                  reply or outcome
//	truncated-data          DATA, then the connection is lost      nothing stored, no reply
//	stalled-data            DATA, then silence                     421 4.4.2, nothing stored, closed
//	slow-data               too slow, or too long in all            421 4.4.2, nothing stored, closed
//	lost-before-reply       lost behind CRLF.CRLF                  stored; the client sends again
//	thousand-recipients     1,000 recipients                       accepted
//	more-recipients         the 1,001st                            452 4.5.3 for it alone
//	long-header             a header section of 10 MB              552 5.3.4 *, connection goes on
//	many-parts              5,000 MIME parts                       what the bridge says *
//	deep-nesting            200 levels of MIME parts               what the bridge says *
//	long-line               a line of 1 MB                         accepted, octets unchanged
//	eight-bit-header        octets over 127 in header fields       accepted, octets unchanged
//	no-from                 no From field                          what the bridge says *
//	no-date                 no Date field                          what the bridge says *
//	empty-message           CRLF.CRLF at once                      what the bridge says *
//	smuggle-lf-dot-lf       LF.LF in content                       550 5.5.2, closed
//	smuggle-lf-dot-crlf     LF.CRLF                                550 5.5.2, closed
//	smuggle-crlf-dot-lf     CRLF.LF                                550 5.5.2, closed
//	smuggle-cr-dot-crlf     CR.CRLF                                550 5.5.2, closed
//	smuggle-crlf-dot-cr     CRLF.CR                                550 5.5.2, closed
//	smuggle-crcrlf-dot-crlf CRCRLF.CRLF                            550 5.5.2, closed
//	nul-in-data             NUL in content                         550 5.6.0, closed
//	chunk-faults            bare CR, LF or NUL in a chunk          550 5.5.2 or 5.6.0, closed
//	chunk-order             BDAT out of order                      503 5.5.1, the chunk is skipped
//	chunk-bad-size          BDAT without a readable size           501 5.5.4, closed
//	chunk-absurd-size       a chunk over twice the limit           552 5.3.4 at once, closed
//	chunk-long-lines        a chunk without any LF                 accepted
//	oversize-declared       SIZE over the limit                    552 5.3.4 to MAIL
//	oversize-data           content over the limit                 552 5.3.4 at its end, connection goes on
//	oversize-chunk          chunks over the limit                  552 5.3.4, connection goes on
//	oversize-endless        content over twice the limit           552 5.3.4, closed
//	long-command            a command line over its limit          500 5.5.2, connection goes on
//	endless-command         4 KiB without an end                   500 5.5.2, closed
//	bare-lf-command         a command ended by LF                  500 5.5.2, closed
//	bare-cr-command         CR inside a command                    500 5.5.2, closed
//	nul-command             NUL inside a command                   500 5.5.2, closed
//	unknown-command         no SMTP command                        500 5.5.2
//	http                    a request by HTTP                      554 5.5.1, closed
//	too-many-errors         more than 10 mistakes                  421 4.7.0, closed
//	sequence                commands out of order                  503 5.5.1
//	paths                   malformed paths                        501 5.5.4, 5.1.3 or 5.1.7
//	parameters              unknown, malformed, repeated           555 5.5.4 or 501 5.5.4
//	utf8-address            non-ASCII address without SMTPUTF8     553 5.6.7
//	starttls-injection      clear text behind STARTTLS             501 5.5.1, closed
//	early-talker            input before the banner                554 5.5.1, closed
//	submission              DSN parameters malformed, repeated      501 5.5.4
//	submission-failures     the third login that fails              535 5.7.8, then 421 4.7.0, closed
//	submission-long-response  a SASL response of over 4 KiB         500 5.5.6, closed
//	panic                   whatever makes a transaction panic     421 4.3.0, closed, others go on
package smtpd
