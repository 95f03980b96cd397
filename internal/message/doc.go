// Package message reads and writes Internet messages: header sections (RFC 5322),
// MIME structure (RFC 2045, 2046), the outside of a PGP/MIME message (RFC 3156),
// the payload that goes into it with the real header fields (the older
// "protected-headers" scheme that Thunderbird and mutt display), and the gateway's
// signed statement of how a message arrived.
//
// It is tolerant: every sequence of octets is a message, and what cannot be
// understood becomes something simpler, never an error. It is limited and linear:
// each octet is looked at a constant number of times, and memory depends on the
// limits and not on the sender. It preserves: octets are sub-sliced and inserted
// between, never rewritten, so that what was changed for sealing can be undone
// exactly.
//
// It never encrypts, decrypts, signs or verifies, never trusts a media type for
// what only the octets can prove, never does I/O other than through the reader it
// is handed, and never puts a message's content into an error.
//
// Where things are:
//
//	header.go     Field, Header, ParseHeader, FilterFields
//	headerend.go  HeaderEnd: where the body begins, while octets stream through
//	address.go    address lists of From, To, Cc (RFC 5322 3.4, groups included);
//	              mention.go what somebody's program may take for an address in them
//	strip.go      what a sender could forge is removed at the door
//	words.go      what the sender wishes by words in brackets in the subject
//	subject.go    those words found and taken out, encoded-words (RFC 2047) included
//	edit.go       what a submission server adds, takes away and rewrites; footer.go a text behind a message
//	outer.go      the outside of a sealed message
//	payload.go    the inside, and how its change is undone
//	provenance.go Postern-Arrival, the statement of arrival
//	restore.go    from a decrypted payload back to the original octets
//	scan.go       MIME structure with offsets, for BODYSTRUCTURE and sections
//	part.go       the tree that comes of it, and IMAP sections of it (RFC 9051 6.4.5)
//	envelope.go   ENVELOPE (RFC 9051 7.5.2); codec.go its compact form and the tree's
//	sealed.go     the structure of a sealed message without scanning it
//	encrypted.go  does this look encrypted, and which octets prove it
//	cms.go        S/MIME: what a CMS object is (RFC 5652)
//	decode.go     content transfer encodings
//	received.go   our Received field and the date format
//	autocrypt.go  Autocrypt and Autocrypt-Gossip fields (Autocrypt Level 1)
package message
