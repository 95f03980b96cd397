// Package store is the database, the truth: accounts and their credentials,
// certificates, mailboxes, messages and their places, held copies, the queue of
// copies that leave, the record of decisions, and which blobs are needed.
//
// It never holds clear text of a message that is to be sealed: Commit takes only
// copies whose mail.Protection allows them to rest (P3), and answers only after
// they are on stable storage (P4). It never looks inside a message, never opens
// a network connection, and never holds the octets of large bodies, which are in
// the blob store.
//
// The database is SQLite. The statements are written by hand with $1…$n and no
// functions beyond COUNT, MIN, MAX, SUM and COALESCE, so that PostgreSQL can run
// the same ones; what differs is in dialect.go. All writes go through one
// goroutine that gathers what waits into one transaction (writer.go), reads
// through a small pool of read-only connections (session.go). Other processes
// may write at the same time.
//
// The quota counts each row of messages once: IMAP COPY shares the row (same
// EMAILID, RFC 8474), so a copy costs nothing. Held copies count too.
//
// The counters of a mailbox follow RFC 9051 2.3.1 (UID, UIDNEXT, UIDVALIDITY) and
// RFC 7162 (MODSEQ): both only ever grow, in the transaction that uses them.
//
//	accounts, log-in     account.go credential.go certificate.go publish.go
//	correspondents       directory.go autocrypt.go
//	mailboxes            mailbox.go rename.go name.go purge.go
//	messages in          commit.go held.go audit.go
//	messages out         view.go message.go body.go
//	flags, EXPUNGE, COPY flags.go keyword.go expunge.go copy.go
//	the queue            outgoing.go lane.go claim.go finish.go waiting.go
//	what was protected   exchange.go
//	others' MTA-STS       stspolicy.go
//	blobs, verification  blob.go check.go
package store
