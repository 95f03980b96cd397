package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// lint finds comparisons that type-check and can never be true: facts are in lower
// case, and a rule that never decides would let mail go as if it were not there.
type lint struct {
	facts map[string]bool // whether the fact is a string
	text  string          // what is wrong first
	at    file.Location
}

// Visit implements ast.Visitor.
func (l *lint) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		if n.Operator == "matches" { // a pattern may say (?i)
			return
		}
		l.compare(n.Left, n.Right)
		l.compare(n.Right, n.Left)
	case *ast.MemberNode:
		name, ok := n.Property.(*ast.StringNode)
		if fact(n.Node) == "header" && ok && name.Value != strings.ToLower(name.Value) {
			l.fail(n.Property, "the names of header fields are in lower case here: %q", strings.ToLower(name.Value))
		}
	}
}

// compare looks at a fact beside a constant or a list of them.
func (l *lint) compare(a, b ast.Node) {
	name := fact(a)
	if !l.facts[name] {
		return
	}
	switch c := b.(type) {
	case *ast.StringNode:
		switch {
		case c.Value != strings.ToLower(c.Value):
			l.fail(c, "%s is always in lower case: %q can never be in it", name, c.Value)
		case strings.HasSuffix(name, "domain") && strings.ContainsFunc(c.Value, func(r rune) bool { return r >= utf8.RuneSelf }):
			l.fail(c, "%s always has A-labels (xn--...): %q can never be in it", name, c.Value)
		case strings.HasSuffix(name, "domain") && strings.ContainsAny(c.Value, "@*"):
			l.fail(c, "%s is a domain: %q can never be in it", name, c.Value)
		}
	case *ast.ArrayNode:
		for _, one := range c.Nodes {
			l.compare(a, one)
		}
	}
}

func (l *lint) fail(at ast.Node, format string, args ...any) {
	if l.text == "" {
		l.text, l.at = fmt.Sprintf(format, args...), at.Location()
	}
}

// fact returns the name of the fact that a node is, or "".
func fact(n ast.Node) string {
	if id, ok := n.(*ast.IdentifierNode); ok {
		return id.Value
	}
	return ""
}
