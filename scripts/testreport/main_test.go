package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	t.Parallel()
	const (
		pass = `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
		fail = `{"Action":"output","Package":"q","Test":"B","Output":"what went wrong\n"}
{"Action":"fail","Package":"q","Test":"B"}
{"Action":"output","Package":"q","Output":"-test.shuffle 42\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
`
		skip = `{"Action":"output","Package":"p","Test":"C","Output":"why not\n"}
{"Action":"skip","Package":"p","Test":"C"}
`
		none  = `{"Action":"output","Package":"n","Output":"?   \tn\t[no test files]\n"}` + "\n" + `{"Action":"skip","Package":"n"}` + "\n"
		build = `{"ImportPath":"b","Action":"build-output","Output":"b.go:1: no\n"}` + "\n" + `{"Action":"fail","Package":"b"}` + "\n"
	)
	for name, tt := range map[string]struct {
		in   string
		ok   bool
		want []string
		not  string
	}{
		"pass":             {pass, true, []string{"ok  \tp\t0.1s\n", "1 tests passed in 1 packages, 0 failed, 0 skipped"}, "chatter"},
		"package without":  {pass + none, true, []string{"no test files"}, "SKIP"},
		"fail":             {pass + fail, false, []string{"what went wrong", "-test.shuffle 42", "FAIL\tq", "--- FAIL: q B", "2 failed"}, "chatter"},
		"skip":             {pass + skip, false, []string{"--- SKIP: p C\nwhy not", "1 skipped"}, "FAIL"},
		"does not build":   {pass + build, false, []string{"b.go:1: no", "--- FAIL: b"}, ""},
		"nothing ran":      {none, false, []string{"0 tests passed"}, ""},
		"nothing at all":   {"", false, []string{"0 tests passed"}, ""},
		"not JSON":         {"go: no such package\n" + pass, true, []string{"go: no such package\n"}, ""},
		"no line at end":   {strings.TrimSuffix(pass, "\n"), true, []string{"in 1 packages"}, ""},
		"a very long line": {`{"Action":"output","Package":"p","Test":"A","Output":"` + strings.Repeat("x", 1<<20) + `"}` + "\n" + pass, true, nil, "xxx"},
	} {
		var out bytes.Buffer
		r := &report{out: &out, said: map[string][]string{}}
		if err := r.read(strings.NewReader(tt.in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.close(); got != tt.ok {
			t.Errorf("%s: %v, want %v\n%s", name, got, tt.ok, out.String())
		}
		for _, w := range tt.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: no %q in\n%s", name, w, out.String())
			}
		}
		if tt.not != "" && strings.Contains(out.String(), tt.not) {
			t.Errorf("%s: %q in\n%s", name, tt.not, out.String())
		}
	}
}
