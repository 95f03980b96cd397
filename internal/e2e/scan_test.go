package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"postern/internal/testkit"
)

// needle is a form of something that must not be found.
type needle struct {
	what   string
	octets []byte
}

// canaryNeedles are the forms in which a text could lie about.
func canaryNeedles(canary string) []needle {
	all := []needle{
		{"as it is", []byte(canary)},
		{"in upper case", []byte(strings.ToUpper(canary))},
		{"in lower case", []byte(strings.ToLower(canary))},
		{"in hexadecimal", fmt.Appendf(nil, "%x", canary)},
	}
	var little, big []byte
	for _, u := range utf16.Encode([]rune(canary)) {
		little = append(little, byte(u), byte(u>>8))
		big = append(big, byte(u>>8), byte(u))
	}
	all = append(all, needle{"in UTF-16LE", little}, needle{"in UTF-16BE", big})
	for i := range 3 {
		all = append(all, needle{fmt.Sprint("in base64, alignment ", i), base64At([]byte(canary), i)})
	}
	return all
}

// base64At is what base64 makes of b when i octets stand before it in its group of
// three, without the characters that depend on what is around it.
func base64At(b []byte, i int) []byte {
	coded := base64.StdEncoding.EncodeToString(append(make([]byte, i), b...))
	return []byte(coded[4 : len(coded)-4])
}

// found is what a search came upon.
type found struct {
	files  int
	octets int64
	hits   []string // place and form
}

func (f *found) look(place string, b []byte, needles []needle) {
	f.files++
	f.octets += int64(len(b))
	for _, n := range needles {
		if bytes.Contains(b, n.octets) {
			f.hits = append(f.hits, place+": "+n.what)
		}
	}
}

// none requires that the search came upon nothing, but did search.
func (f *found) none(t testing.TB, where string) {
	t.Helper()
	if f.files == 0 {
		t.Errorf("%s: nothing was searched", where)
	}
	for _, h := range f.hits {
		t.Errorf("%s: found in %s", where, h)
	}
}

// searchTree searches all files below the directories for needles.
func searchTree(t testing.TB, needles []needle, dirs ...string) *found {
	t.Helper()
	f := &found{}
	walk(t, func(path string, b []byte) {
		f.look(path, b, needles)
		f.look("the name "+path, []byte(path), needles)
	}, dirs...)
	return f
}

// walk calls each with all files below the directories. What disappears meanwhile is
// passed over; what is in it is for the search of open files to find.
func walk(t testing.TB, each func(path string, b []byte), dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil || !e.Type().IsRegular():
				return err
			}
			b, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				return nil
			}
			each(path, b)
			return err
		})
		if err != nil {
			t.Fatal("search: ", err)
		}
	}
}

// searchOpenFiles searches the regular files that a process has open, those without
// a name included. unlinked is how many octets those have.
func searchOpenFiles(t testing.TB, pid int, needles []needle) (f *found, unlinked int64) {
	t.Helper()
	f = &found{}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil { // the server shows them to nobody but root
		testkit.Missing(t, "the open files of another process: "+err.Error())
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		target, err := os.Readlink(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || !info.Mode().IsRegular() {
			continue // closed meanwhile, or a socket
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue // closed meanwhile
		}
		if strings.HasSuffix(target, " (deleted)") {
			unlinked += int64(len(b))
		}
		f.look(target, b, needles)
	}
	return f, unlinked
}

func TestSearchFindsCanaries(t *testing.T) {
	t.Parallel()
	const canary = "Canary in the Coal Mine"
	needles := canaryNeedles(canary)
	for _, n := range needles {
		dir := t.TempDir()
		content := bytes.Join([][]byte{make([]byte, 1000), n.octets, make([]byte, 1000)}, nil)
		if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if f := searchTree(t, needles, dir); len(f.hits) == 0 {
			t.Errorf("%s: not found", n.what)
		}
	}
	// The three alignments are where base64 of a longer text really has them.
	for i := range 3 {
		coded := []byte(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 30+i) + canary + " and more")))
		var f found
		f.look("text", coded, needles)
		if len(f.hits) != 1 {
			t.Errorf("alignment %d: %v", i, f.hits)
		}
	}
	// A file without a name is found by the process that has it open.
	file, err := os.CreateTemp(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(canary); err != nil {
		t.Fatal(err)
	}
	f, unlinked := searchOpenFiles(t, os.Getpid(), needles)
	if len(f.hits) == 0 || unlinked < int64(len(canary)) {
		t.Errorf("%v in %d octets without a name", f.hits, unlinked)
	}
}
