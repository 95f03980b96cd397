// Command testreport reads what "go test -json" prints and shows what matters: the
// closing line of each package, everything that a failed test said, and which
// tests were skipped. It ends with 1 if a test failed, if one was skipped, or if
// there was none: a test that did not run proves nothing.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of "go test -json" (go doc cmd/test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

type report struct {
	out      io.Writer
	said     map[string][]string // by package and test, until it has ended
	passed   int
	packages int
	failed   []string
	skipped  []string
}

func main() {
	r := &report{out: os.Stdout, said: map[string][]string{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.close() {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.out, "%s", line) // of the go command itself
			} else {
				r.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	name := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if e.Test == "" && closing(e.Output) {
			fmt.Fprint(r.out, e.Output)
			return
		}
		r.said[name] = append(r.said[name], e.Output)
	case "pass":
		if e.Test != "" {
			r.passed++
		} else {
			r.packages++
		}
		delete(r.said, name)
	case "skip":
		if e.Test != "" { // without a test: a package that has none
			r.skipped = append(r.skipped, name+"\n"+strings.Join(r.said[name], ""))
		}
		delete(r.said, name)
	case "fail":
		r.failed = append(r.failed, strings.TrimSpace(name))
		fmt.Fprintf(r.out, "--- %s\n%s", strings.TrimSpace(name), strings.Join(r.said[name], ""))
		delete(r.said, name)
	}
}

// closing says whether a line is the last one that go test prints for a package.
func closing(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "?   \t")
}

// close prints the sum and says whether all is well.
func (r *report) close() bool {
	slices.Sort(r.skipped)
	for _, s := range r.skipped {
		fmt.Fprintf(r.out, "--- SKIP: %s", s)
	}
	for _, f := range r.failed {
		fmt.Fprintf(r.out, "--- FAIL: %s\n", f)
	}
	fmt.Fprintf(r.out, "%d tests passed in %d packages, %d failed, %d skipped\n", r.passed, r.packages, len(r.failed), len(r.skipped))
	return r.passed > 0 && len(r.failed) == 0 && len(r.skipped) == 0
}
