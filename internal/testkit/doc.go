// Package testkit holds what the tests of several rooms share: a clock that stands
// still, calls that fail on request, a disk that fills up, free ports, a mail server
// that turns hostile, real programs, and a corpus of real and generated messages.
//
// Only tests import it. It never reaches outside this machine, except that Corpus
// asks the Go module proxy for one module of test messages.
package testkit
