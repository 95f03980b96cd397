// Package keydir is the key directory: given an address it says whether there is a
// usable certificate, which, why it is believed, and what changed. It also gives out
// our own users' certificates by the open standards.
//
// An answer is Found, None or Unknown (a timeout, a broken reply). Unknown is never
// turned into None, and a certificate that was found is used on while its source
// cannot say. It never sees a message, never holds a secret key, and never tells a
// key server whom we write to unless the operator switched one on.
//
//	directory.go   Lookup: memory, then the store, then the sources, once for all
//	lanes.go       what keeps one domain from standing before the others
//	own.go         own accounts
//	ask.go         the sources in their order
//	nodes.go       the other nodes of a cluster
//	learn.go       what becomes of what they said
//	change.go      the table of changes, pure
//	manage.go      pin, accept, reject, history: what a person says
//	explain.go     why
//	refresh.go     before an answer ends; expiry.go before a certificate does
//	source.go      what a source is
//	wkd.go         Web Key Directory (draft-koch-openpgp-webkey-service)
//	wkddomain.go   which domains have one, and which web servers show that they do not
//	dane.go        OPENPGPKEY (RFC 7929)
//	keyserver.go   VKS and HKP, off by default
//	autocrypt.go   what mail teaches; peer.go the rules of Autocrypt Level 1, pure
//	enrol.go       certificates that own accounts hand in by mail
//	fetch.go       the HTTPS client of all sources; hosts.go its fairness
//	publish.go     the HTTPS handler: WKD, HKP and VKS of our own users
//
// # Changes
//
// What becomes of a certificate that a source has now, by what is known (judge in
// change.go; each row has a test in change_test.go or change_real_test.go):
//
//	known                    offered                          outcome
//	nothing                  expired, revoked, no subkey      none: nothing was encrypted before
//	nothing                  any other                        used
//	any                      the same octets                  nothing
//	any                      same primary key, other form     merged, silently
//	any                      its expired or revoked self      "lost": never clear without a word
//	pinned                   another                          mail is held; a person decides
//	usable                   another, weaker source           kept
//	any                      certified by the known key       used; said
//	unusable                 another, weaker source           mail is held; a person decides
//	unusable                 another                          used; said
//	usable                   another, source as good          used; said
//	usable                   nothing, for certain             kept for 30 days, then "lost"
//	unusable                 nothing, for certain             "lost": never clear without a word
//	any                      the sources cannot say           kept
//
// Every change is a row of the audit record, which "postern cert history" shows.
package keydir
