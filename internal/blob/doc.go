// Package blob keeps immutable octets: messages, which by the time they come here
// are ciphertext. It knows neither what they are nor whose, and never sees a row, a
// mailbox or a key.
//
// The form in this package is Files, a directory:
//
//	lock                    held while a process starts
//	segments/00000000000c   small blobs one after the other; see segment.go
//	files/ab/…              one larger blob each
//	run/…                   what a running process has in hand, with a lock of its own
//
// Small blobs share segments because one append is several times cheaper than one
// file each, and because one synchronisation of the disk serves all the blobs that
// wait for it at the time (group.go). A blob that waits alone waits for nobody.
//
// Deleting marks the record of a blob dead and, on Linux, punches a hole where its
// octets were, so that they are gone and their space returns at once; neighbours
// that are dead become one hole, and a segment without a live record is removed.
// There is no compaction and no need of one. Elsewhere the octets are overwritten and
// their space returns when all of a segment is dead.
//
// Several processes may have the same directory open, as when the command line works
// beside the server. Where the system has no flock only one may.
//
// After a failed synchronisation nobody can know what reached the disk, so that the
// segment is left alone from there on and the next blob begins another one.
package blob
