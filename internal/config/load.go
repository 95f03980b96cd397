package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File string // "" if it did not come from a file
	Line int    // from 1; 0 if unknown
	Key  string // dotted, such as "smtp.listen"
	Text string // what is wrong, and what is allowed
}

func (p *Problem) Error() string {
	s := p.Text
	if p.Key != "" {
		s = p.Key + ": " + s
	}
	switch {
	case p.File != "" && p.Line > 0:
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, s)
	case p.File != "":
		return p.File + ": " + s
	}
	return s
}

// Load reads a configuration file. Keys that are absent keep their defaults,
// except hostname and domains, which have to be there. Paths become absolute,
// starting from the file's directory, and domains become lower-case A-labels. The
// error joins all that is wrong, each a *Problem with its line and key.
func Load(path string) (*Config, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	data, err := os.ReadFile(abs)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, problems := read(string(data), filepath.Dir(abs))
	var errs []error
	for _, p := range problems {
		p.File = path
		errs = append(errs, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// read is Load for a file's text; dir is where the file lies.
func read(data, dir string) (*Config, []*Problem) {
	c, problems := parse(data)
	if len(problems) == 0 {
		c.normalise(dir)
		problems = c.problems()
	}
	for _, p := range problems {
		if p.Line == 0 {
			p.Line = lineOf(data, p.Key)
		}
	}
	return c, problems
}

// parse reads a file's text into the defaults.
func parse(data string) (*Config, []*Problem) {
	c := Default()
	md, err := toml.Decode(data, c)
	if err != nil {
		return nil, []*Problem{decodeProblem(err)}
	}
	known := keys(reflect.TypeFor[Config](), "")
	var problems []*Problem
	var seen []string
	for _, key := range md.Keys() {
		// An unknown table is named once, and not what is in it.
		k := firstUnknown(key, known)
		if k != "" && !slices.Contains(seen, k) {
			seen = append(seen, k)
			problems = append(problems, &Problem{Key: k, Text: "unknown key" + suggest(k, known)})
		}
	}
	for _, k := range []string{"hostname", "domains"} {
		if !md.IsDefined(k) {
			problems = append(problems, &Problem{Key: k, Text: "it has to be set"})
		}
	}
	return c, problems
}

// decodeProblem takes line and key out of an error of the parser, which has two
// ways to tell them.
func decodeProblem(err error) *Problem {
	var bad toml.ParseError
	if errors.As(err, &bad) {
		return &Problem{Line: bad.Position.Line, Key: bad.LastKey, Text: bad.Message}
	}
	p := &Problem{Text: strings.TrimPrefix(err.Error(), "toml: ")}
	if m := regexp.MustCompile(`^line (\d+) \(last key "([^"]*)"\): (.*)$`).FindStringSubmatch(p.Text); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Key, p.Text = m[2], m[3]
	}
	return p
}

// firstUnknown returns the shortest beginning of key that is not known, or "".
func firstUnknown(key toml.Key, known []string) string {
	for n := range key {
		if k := strings.Join(key[:n+1], "."); !slices.Contains(known, k) {
			return k
		}
	}
	return ""
}

// keys returns all keys and tables, dotted.
func keys(t reflect.Type, path string) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := path + f.Tag.Get("toml")
		all = append(all, name)
		if f.Type.Kind() == reflect.Struct {
			all = append(all, keys(f.Type, name+".")...)
		}
	}
	return all
}

// suggest names the key that was probably meant: one of the same name in another
// table, or one that is at most a third of its letters away.
func suggest(key string, known []string) string {
	best, least := "", max(2, len(key)/3)+1
	last := key[strings.LastIndexByte(key, '.')+1:]
	for _, k := range known {
		d := distance(strings.ToLower(key), k)
		if k[strings.LastIndexByte(k, '.')+1:] == last {
			d = min(d, 1)
		}
		if d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// distance is the number of letters to add, drop or change to get from a to b
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := corner
			if a[i] != b[j] {
				d = 1 + min(corner, row[j], row[j+1])
			}
			corner, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}

// lineOf finds the line where a key or a table stands, from 1, or 0. The parser
// does not keep it. Text inside of multi-line strings can mislead it, which costs
// no more than a wrong number in a message.
func lineOf(data, key string) int {
	header := regexp.MustCompile(`^\s*\[\[?([^\]]+)\]`)
	pair := regexp.MustCompile(`^\s*([A-Za-z0-9_."'\s-]+?)\s*=`)
	clean := strings.NewReplacer(`"`, "", `'`, "", " ", "", "\t", "").Replace
	table := ""
	for i, line := range strings.Split(data, "\n") {
		if m := header.FindStringSubmatch(line); m != nil {
			if table = clean(m[1]); table == key || strings.HasPrefix(table, key+".") {
				return i + 1
			}
			table += "."
		} else if m := pair.FindStringSubmatch(line); m != nil {
			if k := table + clean(m[1]); k == key || strings.HasPrefix(k, key+".") {
				return i + 1
			}
		}
	}
	return 0
}
