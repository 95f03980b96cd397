// Package mail is the vocabulary of the gateway: addresses, the source of a
// message, its recipients, the one door it enters by, the protection of a copy,
// and errors that know what the peer may be told.
//
// It never does I/O and knows nothing of SMTP's or IMAP's wire form, of OpenPGP
// or of the database. Words follow RFC 5321 and RFC 5598.
package mail
