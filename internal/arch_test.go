// Package internal_test holds the rules of the house: who may import whom, what
// only one room may touch, and how large things may get. It reads the source and
// runs nothing. A package that is not in the table below has no place yet; give it
// one, and the design a line.
package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "postern"

// rooms says what each room may import of ours; internal/telemetry is open to all,
// internal/testkit to test files and the benchmark. Test files are free in this, as far as Go lets them.
func rooms() map[string][]string {
	const (
		admin, auth, blob, cluster, config = "internal/admin", "internal/auth", "internal/blob", "internal/cluster", "internal/config"
		deliver, demo, device, mail        = "internal/deliver", "internal/demo", "internal/device", "internal/mail"
		dns                                = "internal/dns"
		message, msgauth, pgp, queue       = "internal/message", "internal/msgauth", "internal/pgp", "internal/queue"
		server, store, vault               = "internal/server", "internal/store", "internal/vault"
		wks                                = "internal/wks"
	)
	r := map[string][]string{
		mail: {}, message: {}, pgp: {}, cluster: {}, config: {}, auth: {}, dns: {}, "internal/telemetry": {}, "internal/testkit": {},
		"policy": {mail},
		store:    {mail},
		blob:     {mail},
		deliver:  {mail, dns},
		vault:    {pgp},
		msgauth:  {mail, message, dns},
		"keydir": {mail, pgp, store, cluster, dns},
		queue:    {mail, message, store, deliver},
		"smtpd":  {mail, auth, cluster},
		"imapd":  {mail, message, store, auth, cluster},
		"bridge": {mail, message, msgauth, pgp, vault, blob, store, "policy", "keydir"},
		wks:      {mail, message, pgp, store, vault, "keydir"},
		device:   {mail, message, pgp}, // runs on the owner's own machine and contacts no server
	}
	below := slices.Sorted(maps.Keys(r))
	below = slices.DeleteFunc(below, func(room string) bool { return room == device || room == "internal/testkit" })
	r[server] = below
	r[admin] = append(slices.Clone(below), server)
	r[demo] = append(slices.Clone(below), server, admin, device)
	r["cmd/postern"] = []string{server, config, admin, device, demo}
	r["internal/bench"] = []string{server, config, admin, device, demo, pgp, store, mail, "keydir", "internal/testkit"} // measures; nothing imports it
	r["internal/e2e"] = []string{}                                                                                      // tests only
	r["internal"] = []string{}                                                                                          // this test
	r["scripts/testreport"] = []string{}                                                                                // reads what go test prints
	return r
}

// fences are what only some rooms may import.
var fences = []struct {
	imports string // this and what is below it
	rooms   []string
	tests   bool // whether test files of other rooms may
	why     string
}{
	{"github.com/ProtonMail/go-crypto", []string{"internal/pgp"}, false, "one place knows the OpenPGP library and its traps"},
	{"golang.org/x/crypto/openpgp", nil, false, "it is frozen"},
	{"database/sql", []string{"internal/store", "internal/blob"}, false, "the seam is below SQL"},
	{"modernc.org/sqlite", []string{"internal/store"}, false, "the seam is below SQL"},
	{"github.com/jackc/pgx", []string{"internal/store"}, false, "the seam is below SQL"},
	{"github.com/redis", []string{"internal/cluster"}, false, "Redis holds only what may be lost"},
	{"github.com/minio", []string{"internal/blob"}, false, "S3 holds only blobs"},
	{"net/http", []string{"keydir", "internal/deliver", "internal/server", "internal/bench"}, true, "whoever can speak HTTP can tell the world whom we write to"},
	{"github.com/alecthomas/kong", []string{"cmd/postern"}, false, "the command line is a front end"},
	{"github.com/BurntSushi/toml", []string{"internal/config", "policy"}, true, "configuration is read in one place"},
	{"github.com/expr-lang/expr", []string{"policy"}, true, "only the policy is programmed by its owner"},
	{"github.com/miekg/dns", []string{"internal/dns"}, true, "one place tells no answer from no such record"},
	{"log", nil, false, "logs go through log/slog"},
}

// Budgets, in lines. Longer ones stand in the lists below with the reason.
const (
	fileBudget = 600
	funcBudget = 80
)

var (
	longFiles = map[string]string{}
	longFuncs = map[string]string{}
	// sharedVars are package variables that change or could, with the reason.
	sharedVars = map[string]string{
		"internal/pgp.base64Pairs": "a table that is only read; its address is taken so that it is not copied",
		"internal/pgp.crc24Tables": "the same",
		"internal/pgp.sealScratch": "a pool of buffers: 2 KB messages are sealed 1,500 times a second",
	}
)

// dependencies are the modules that go.mod requires directly, and what for.
var dependencies = map[string]string{
	"blitiri.com.ar/go/spf":               "SPF (RFC 7208)",
	"github.com/BurntSushi/toml":          "postern.toml, with positions in its errors",
	"github.com/ProtonMail/go-crypto":     "OpenPGP",
	"github.com/alecthomas/kong":          "the command line",
	"github.com/emersion/go-imap/v2":      "IMAP",
	"github.com/emersion/go-message":      "composing messages",
	"github.com/emersion/go-msgauth":      "DKIM, DMARC records, Authentication-Results",
	"github.com/emersion/go-sasl":         "the interface of SASL mechanisms, and PLAIN",
	"github.com/emersion/go-smtp":         "SMTP",
	"github.com/expr-lang/expr":           "expressions in policy.toml",
	"github.com/miekg/dns":                "DNS with the AD bit, and types that package net has not",
	"github.com/prometheus/client_golang": "metrics",
	"github.com/prometheus/common":        "reading the metrics in a test",
	"github.com/redis/go-redis/v9":        "Redis, for what the nodes of a cluster share and may lose",
	"github.com/rogpeppe/go-internal":     "testscript, for the command line's scenarios",
	"golang.org/x/net":                    "IDNA (RFC 5890)",
	"golang.org/x/sys":                    "fdatasync, O_TMPFILE, file locks",
	"golang.org/x/term":                   "passphrases from a terminal",
	"golang.org/x/text":                   "PRECIS (RFC 8265), charsets",
	"modernc.org/sqlite":                  "the database of a single node, without cgo",
}

// file is one Go file.
type file struct {
	path string // from the module's root
	room string
	test bool
	ast  *ast.File
}

// source reads all Go files of the module once.
func source(t *testing.T) (*token.FileSet, []*file) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*file
	table := rooms()
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != ".." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel("..", p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		syntax, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, &file{path: rel, room: roomOf(table, path.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"), ast: syntax})
		return nil
	})
	if err != nil || len(files) < 10 {
		t.Fatalf("read the source: %d files, %v", len(files), err)
	}
	return fset, files
}

// roomOf returns the room that a directory is in, or "". Rooms may have packages
// within.
func roomOf(table map[string][]string, dir string) string {
	for d := dir; d != "."; d = path.Dir(d) {
		if _, ok := table[d]; ok && (d != "internal" || dir == "internal") {
			return d
		}
	}
	return ""
}

func imports(f *file) (paths []string) {
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

func TestImportDirections(t *testing.T) {
	t.Parallel()
	table := rooms()
	_, files := source(t)
	for _, f := range files {
		if f.room == "" {
			t.Errorf("%s: no room for this package in the table of import directions", f.path)
			continue
		}
		for _, p := range imports(f) {
			local, ours := strings.CutPrefix(p, module+"/")
			if !ours || f.test {
				continue
			}
			to := roomOf(table, local)
			switch {
			case to == f.room || to == "internal/telemetry":
			case !slices.Contains(table[f.room], to):
				t.Errorf("%s imports %s: %s may import only %v", f.path, local, f.room, table[f.room])
			}
		}
	}
}

// The table itself must be without circles, or the rule above could not hold.
func TestImportTableHasNoCircles(t *testing.T) {
	t.Parallel()
	table := rooms()
	var visit func(room string, way []string)
	visit = func(room string, way []string) {
		if slices.Contains(way, room) {
			t.Fatalf("circle: %v", append(way, room))
		}
		for _, next := range table[room] {
			if _, ok := table[next]; !ok {
				t.Errorf("%s may import %s, which is no room", room, next)
			}
			visit(next, append(slices.Clone(way), room))
		}
	}
	for room := range table {
		visit(room, nil)
	}
}

func TestFences(t *testing.T) {
	t.Parallel()
	_, files := source(t)
	for _, f := range files {
		for _, p := range imports(f) {
			for _, fence := range fences {
				in := p == fence.imports || fence.imports != "log" && strings.HasPrefix(p, fence.imports+"/")
				if in && !slices.Contains(fence.rooms, f.room) && !(f.test && fence.tests) {
					t.Errorf("%s imports %s, which only %v may: %s", f.path, p, fence.rooms, fence.why)
				}
			}
		}
	}
}

func TestNoInit(t *testing.T) {
	t.Parallel()
	_, files := source(t)
	for _, f := range files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init: wire it where it is used", f.path)
			}
		}
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	fset, files := source(t)
	used := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		lines := fset.Position(f.ast.FileEnd).Line
		used[f.path] = true
		if lines > fileBudget && longFiles[f.path] == "" {
			t.Errorf("%s has %d lines, more than %d: split it", f.path, lines, fileBudget)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			name := path.Dir(f.path) + "." + fn.Name.Name
			n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
			used[name] = true
			if n > funcBudget && longFuncs[name] == "" {
				t.Errorf("%s: %s has %d lines, more than %d: give its steps names", f.path, fn.Name.Name, n, funcBudget)
			}
		}
	}
	for name := range longFiles {
		if !used[name] {
			t.Errorf("%s is excused for its length, but does not exist", name)
		}
	}
	for name := range longFuncs {
		if !used[name] {
			t.Errorf("%s is excused for its length, but does not exist", name)
		}
	}
}

// Every package says what it is, and every exported name what it stands for.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	fset, files := source(t)
	documented := map[string]bool{}
	for _, f := range files {
		dir := path.Dir(f.path)
		documented[dir] = documented[dir] || f.ast.Doc != nil && len(strings.Fields(f.ast.Doc.Text())) >= 5
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no comment", fset.Position(name.Pos()), name.Name)
			}
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: the package has no comment that says what it is", dir)
		}
	}
}

// undocumented returns the exported names of a declaration that no comment is for.
// One comment is enough for a group of constants or variables.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || receiver(d).IsExported()) && !conventional(d) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				if d.Doc == nil && s.Doc == nil && s.Comment == nil {
					names = append(names, slices.DeleteFunc(slices.Clone(s.Names), func(n *ast.Ident) bool { return !n.IsExported() })...)
				}
			}
		}
	}
	return names
}

func receiver(d *ast.FuncDecl) *ast.Ident {
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x
		default:
			return ast.NewIdent("_")
		}
	}
}

// conventional methods do what their interface says, and need no words.
func conventional(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "String", "Is", "Len", "Less", "Swap"}, d.Name.Name)
}

// No package variable changes after it was made. Found are assignments to it or
// its parts, taking its address, delete, clear and copy; and kinds that exist only
// to change. What hides behind a method of another package is not found.
func TestNoMutablePackageVariables(t *testing.T) {
	t.Parallel()
	fset, files := source(t)
	packages := map[string][]*ast.File{}
	for _, f := range files {
		if !f.test {
			packages[path.Dir(f.path)] = append(packages[path.Dir(f.path)], f.ast)
		}
	}
	used := map[string]bool{}
	for dir, syntax := range packages {
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
		conf := types.Config{Importer: noImports{}, Error: func(error) {}, FakeImportC: true}
		pkg, _ := conf.Check(module+"/"+dir, fset, syntax, info) // errors: imports are not read
		report := func(at token.Pos, name, what string) {
			used[dir+"."+name] = true
			if sharedVars[dir+"."+name] == "" {
				t.Errorf("%s: package variable %s: %s", fset.Position(at), name, what)
			}
		}
		for _, f := range syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				for _, e := range changed(n) {
					if id := root(e, info); id != nil && isPackageVar(info.Uses[id], pkg) {
						report(id.Pos(), id.Name, "it is changed here")
					}
				}
				return true
			})
			for _, d := range f.Decls {
				for _, name := range meantToChange(d) {
					report(name.Pos(), name.Name, "its kind exists to change")
				}
			}
		}
	}
	for name := range sharedVars {
		if !used[name] {
			t.Errorf("%s is excused for changing, but does not", name)
		}
	}
}

type noImports struct{}

func (noImports) Import(p string) (*types.Package, error) { return nil, fmt.Errorf("not read: %s", p) }

// changed returns the expressions that a node changes or makes changeable.
func changed(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			return []ast.Expr{n.X}
		}
	case *ast.CallExpr:
		if fn, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && slices.Contains([]string{"delete", "clear", "copy"}, fn.Name) {
			return n.Args[:1]
		}
	}
	return nil
}

// root returns the variable that an expression is a part of; for a variable of
// another package, its name there.
func root(e ast.Expr, info *types.Info) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok {
				if _, ok := info.Uses[id].(*types.PkgName); ok {
					return id
				}
			}
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

func isPackageVar(o types.Object, pkg *types.Package) bool {
	switch o := o.(type) {
	case *types.PkgName: // a variable of another package
		return true
	case *types.Var:
		return pkg != nil && o.Parent() == pkg.Scope()
	}
	return false
}

// meantToChange returns the package variables that are locks, pools, counters,
// channels or pointers to something that was made for them.
func meantToChange(d ast.Decl) (names []*ast.Ident) {
	decl, ok := d.(*ast.GenDecl)
	if !ok || decl.Tok != token.VAR {
		return nil
	}
	for _, s := range decl.Specs {
		spec := s.(*ast.ValueSpec)
		kinds := append([]ast.Expr{spec.Type}, spec.Values...)
		for _, k := range kinds {
			if k != nil && changeable(k) && spec.Names[0].Name != "_" {
				names = append(names, spec.Names...)
				break
			}
		}
	}
	return names
}

func changeable(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.UnaryExpr:
		return x.Op == token.AND
	case *ast.CompositeLit:
		return x.Type != nil && changeable(x.Type)
	case *ast.SelectorExpr:
		id, ok := x.X.(*ast.Ident)
		return ok && (id.Name == "sync" || id.Name == "atomic")
	case *ast.IndexExpr: // atomic.Pointer[T]
		return changeable(x.X)
	case *ast.ChanType, *ast.StarExpr:
		return true
	case *ast.CallExpr:
		id, ok := x.Fun.(*ast.Ident)
		return ok && id.Name == "new" || ok && id.Name == "make" || changeable(x.Fun)
	}
	return false
}

// Every direct dependency has a reason, and every reason a dependency.
func TestDependencies(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) < 2 || !strings.HasPrefix(f[1], "v") || strings.Contains(line, "// indirect") {
			continue
		}
		found[f[0]] = true
		if dependencies[f[0]] == "" {
			t.Errorf("go.mod requires %s, for which the table has no reason", f[0])
		}
	}
	for m := range dependencies {
		if !found[m] {
			t.Errorf("%s has a reason but is not required by go.mod", m)
		}
	}
}
