package policy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxRules bounds what is gone through for every recipient.
const maxRules = 1000

// entries is a whole policy.toml.
type entries struct {
	Rule    []ruleEntry    `toml:"rule"`
	Example []exampleEntry `toml:"example"`
}

// Load reads a policy file; the error names it as path does.
func Load(path string) (*Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return Parse(filepath.Base(path), data)
}

// Parse reads a policy and runs its examples. The error joins all that is wrong, each
// with the file's name, line and key: what does not type-check, unknown keys, and
// examples that come to something else than they expect.
func Parse(name string, data []byte) (*Policy, error) {
	p, results, err := Examine(name, data)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, r := range results {
		if r.Failure != "" {
			errs = append(errs, fmt.Errorf("%s:%d: example %q: %s", name, r.Line, r.Name, r.Failure))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// Examine is Parse for whoever wants to see what each example came to: one that fails
// is no error. The policy is not to be used if one did.
func Examine(name string, data []byte) (*Policy, []Result, error) {
	var in entries
	md, err := toml.Decode(string(data), &in)
	if err != nil {
		return nil, nil, fmt.Errorf("%s:%w", name, decodeError(err))
	}
	text := source{name: name, lines: strings.Split(string(data), "\n")}
	errs := text.unknown(md.Undecoded())
	if len(in.Rule) > maxRules {
		return nil, nil, fmt.Errorf("%s: it has %d rules: at most %d are allowed", name, len(in.Rule), maxRules)
	}
	p := &Policy{rules: make([]rule, len(in.Rule))}
	for i := range in.Rule {
		var bad flaws
		e := &in.Rule[i]
		p.rules[i], bad = e.compile()
		if e.Name != "" && slices.ContainsFunc(in.Rule[:i], func(o ruleEntry) bool { return o.Name == e.Name }) {
			bad.add("name", "another rule is called %q", e.Name)
		}
		errs = append(errs, text.errors("rule", i, e.Name, bad)...)
	}
	for i := range in.Example {
		errs = append(errs, text.errors("example", i, in.Example[i].Name, in.Example[i].check())...)
	}
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	results := make([]Result, len(in.Example))
	for i := range in.Example {
		results[i] = in.Example[i].run(p)
		results[i].Line = text.line("example", i, "")
	}
	return p, results, nil
}

// decodeError takes the line out of an error of the parser, which has two ways to tell
// it, and puts it first.
func decodeError(err error) error {
	var bad toml.ParseError
	if errors.As(err, &bad) {
		return fmt.Errorf("%d: %s: %s", bad.Position.Line, bad.LastKey, bad.Message)
	}
	text := strings.TrimPrefix(err.Error(), "toml: ")
	if m := regexp.MustCompile(`^line (\d+) \(last key "([^"]*)"\): (.*)$`).FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s: %s: %s", m[1], m[2], m[3])
	}
	return errors.New(" " + text)
}

// source is the text of a file, to find lines in, which the parser does not keep. Text
// inside of multi-line strings can mislead it, which costs no more than a wrong number
// in a message.
type source struct {
	name  string
	lines []string
}

// unknown reports keys that nothing is known of.
func (s source) unknown(keys []toml.Key) (errs []error) {
	for i, k := range keys {
		if i > 0 && len(k) > 1 && slices.Equal(keys[i-1], k[:len(k)-1]) {
			continue // within a table that was named
		}
		line := 0
		for n := range s.lines {
			if len(k) > 1 && s.isKey(n, k[1]) || s.isKey(n, k.String()) || strings.Contains(s.lines[n], "["+k.String()+"]") {
				line = n + 1
				break
			}
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s: unknown key", s.name, line, k))
	}
	return errs
}

// errors are the flaws of the nth entry of a table, with their lines.
func (s source) errors(table string, n int, name string, bad flaws) (errs []error) {
	if name == "" {
		name = strconv.Itoa(n + 1)
	}
	for _, b := range bad {
		line := s.line(table, n, b.key)
		if b.line > 0 && line > 0 {
			line += b.line - 1
			if v := strings.TrimRight(s.lines[line-b.line], " \t\r"); strings.HasSuffix(v, `"""`) || strings.HasSuffix(v, `'''`) {
				line++ // the text of a multi-line string begins below
			}
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s %q: %s: %s", s.name, line, table, name, b.key, b.text))
	}
	return errs
}

// line finds the line, from 1, of a key of the nth entry of a table, or else the line
// where the entry begins; 0 if there is none.
func (s source) line(table string, n int, key string) int {
	header := 0
	for i, l := range s.lines {
		l = strings.TrimSpace(l)
		switch {
		case strings.HasPrefix(l, "[["+table+"]]"):
			if n--; n < 0 && header > 0 {
				return header
			} else if n == -1 {
				header = i + 1
			}
		case header == 0:
		case strings.HasPrefix(l, "[["):
			return header
		case key != "" && (s.isKey(i, key) || s.isKey(i, strings.Split(key, ".")[0]) || strings.HasPrefix(l, "["+table+"."+strings.Split(key, ".")[0]+"]")):
			return i + 1
		}
	}
	return header
}

// isKey says whether a line sets a key.
func (s source) isKey(n int, key string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s.lines[n]), key)
	return ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), "=")
}
