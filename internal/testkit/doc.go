// Package testkit holds what the tests of several rooms share: a clock that stands
// still, calls that fail on request, a disk that fills up, free ports, a mail server
// that turns hostile, real
// programs, and a corpus of messages.
//
// Of the corpus, those from enmime and from Python's test suite are other people's
// test messages: some were captured from real mail systems, the rest were written by
// hand. All others are generated here, and those that are signed carry signatures by
// real programs (GnuPG, OpenSSL) and libraries with keys of the test's own.
//
// Only tests and the benchmark import it. It never reaches outside this machine, except that Corpus
// asks the Go module proxy for one module of test messages.
package testkit
