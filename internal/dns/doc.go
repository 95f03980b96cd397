// Package dns is the gateway's DNS client: a stub resolver that asks recursive
// name servers, remembers answers and failures, and stops asking servers which do
// not answer anybody. One of them serves the whole gateway: authentication of
// mail, the key directory, delivery.
//
// It tells apart what the others must not confuse: that there is no such name or
// no such record, which is an answer, and that nobody knows, which is an error. An
// answer is Secure only if a server that is trusted to validate says so. The
// package validates nothing itself, reads no hosts file, adds no search domain,
// and never puts a name into a log.
//
// It is the only importer of the DNS library; the types of records that others
// need have names here.
//
//	resolver.go  Options, New, Query: the door
//	answer.go    Answer and the types of records
//	lookup.go    the methods of *net.Resolver over it, for what expects those
//	flight.go    equal questions asked at the same time go out once
//	exchange.go  one question to a server: UDP, TCP, EDNS, DNSSEC bits
//	cache.go     what is remembered, and how much
//	breaker.go   when nobody is asked any more
//	name.go      names as they are asked for
//	public.go    which addresses are of the public Internet
//
//	RFC 1035       queries over UDP, and over TCP where the answer is truncated
//	RFC 2308       negative answers are remembered by their SOA record
//	RFC 4035 3.2   DO and AD towards servers that are trusted to validate
//	RFC 6891       EDNS; without, for servers that do not know it
//	RFC 6672       no DNAME of our own: the CNAME that servers add is followed
//	RFC 9715       1,232 octets by UDP at most
package dns
