package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/internal/testkit"
)

// windowSize is how many octets of a secret in a row are a find.
const windowSize = 16

// secretMaterial is what of a secret key the certificate does not have.
type secretMaterial struct {
	// runs are the parts of the packets that no certificate has.
	runs [][]byte
	// lines are the lines of its armor that the certificate's has not.
	lines []string
	// windows has all windows of all runs, as they are and reversed (numbers are
	// kept in either order), by their first eight octets.
	windows map[uint64][][]byte
	// begins marks the first two octets of each window.
	begins [1 << 16]bool
}

// materialOf takes an armored secret key and the armored certificate of it.
func materialOf(t testing.TB, secret, certificate []byte) *secretMaterial {
	t.Helper()
	m := &secretMaterial{windows: map[uint64][][]byte{}}
	m.runs = unshared(dearmored(t, secret), dearmored(t, certificate))
	for _, run := range m.runs {
		back := slices.Clone(run)
		slices.Reverse(back)
		for i := 0; i+windowSize <= len(run); i++ {
			m.add(run[i : i+windowSize])
			m.add(back[i : i+windowSize])
		}
	}
	for line := range strings.Lines(string(secret)) {
		line = strings.TrimSpace(line)
		if len(line) >= 32 && !strings.HasPrefix(line, "---") && !bytes.Contains(certificate, []byte(line)) {
			m.lines = append(m.lines, line)
		}
	}
	// A primary key and a subkey, each with a secret number of 32 octets.
	if len(m.runs) != 2 || len(m.windows) < 60 || len(m.lines) < 2 {
		t.Fatalf("the secret key has %d secret parts with %d windows and %d lines: has its form changed?", len(m.runs), len(m.windows), len(m.lines))
	}
	return m
}

func (m *secretMaterial) add(w []byte) {
	key := binary.LittleEndian.Uint64(w)
	m.windows[key] = append(m.windows[key], w)
	m.begins[binary.LittleEndian.Uint16(w)] = true
}

// needles are other forms of it, for a search of files.
func (m *secretMaterial) needles() []needle {
	var all []needle
	for _, run := range m.runs {
		all = append(all, needle{"secret octets in hexadecimal", fmt.Appendf(nil, "%x", run[:windowSize])})
		for i := range 3 {
			all = append(all, needle{"secret octets in base64", base64At(run, i)})
		}
	}
	for _, line := range m.lines {
		all = append(all, needle{"a line of armor", []byte(line)})
	}
	return all
}

// search searches octets for the material in all its forms.
func (m *secretMaterial) search(place string, b []byte, f *found) {
	f.look(place, b, m.needles())
	if n := m.count(b); n > 0 {
		f.hits = append(f.hits, fmt.Sprintf("%s: %d pieces", place, n))
	}
}

// count returns how many windows and lines there are in b.
func (m *secretMaterial) count(b []byte) int {
	const page = 4096
	zeros := make([]byte, page)
	n := 0
	for i := 0; i+windowSize <= len(b); i++ {
		if i%page == 0 && i+page <= len(b) && bytes.Equal(b[i:i+page], zeros) {
			i += page - windowSize // much of a process's memory was never used
			continue
		}
		if !m.begins[binary.LittleEndian.Uint16(b[i:])] {
			continue
		}
		for _, w := range m.windows[binary.LittleEndian.Uint64(b[i:])] {
			if bytes.Equal(w, b[i:i+windowSize]) {
				n++
			}
		}
	}
	for _, line := range m.lines {
		n += bytes.Count(b, []byte(line))
	}
	return n
}

// dearmored decodes OpenPGP armor (RFC 9580 6), with nothing but base64.
func dearmored(t testing.TB, armor []byte) []byte {
	t.Helper()
	_, text, _ := strings.Cut(strings.ReplaceAll(string(armor), "\r\n", "\n"), "\n\n")
	text, _, _ = strings.Cut(text, "\n-----END")
	lines := strings.Split(text, "\n")
	if last := lines[len(lines)-1]; strings.HasPrefix(last, "=") && len(last) == 5 {
		lines = lines[:len(lines)-1] // CRC-24
	}
	b, err := base64.StdEncoding.DecodeString(strings.Join(lines, ""))
	if err != nil || len(b) < 100 {
		t.Fatalf("armor: %d octets, %v", len(b), err)
	}
	return b
}

// unshared returns the parts of a, at least windowSize long, of which no eight octets
// in a row are in b.
func unshared(a, b []byte) [][]byte {
	const shared = 8
	public := make([]bool, len(a))
	for i := 0; i+shared <= len(a); i++ {
		if bytes.Contains(b, a[i:i+shared]) {
			for j := range shared {
				public[i+j] = true
			}
		}
	}
	var runs [][]byte
	for i := 0; i < len(a); {
		from := i
		for i < len(a) && !public[i] {
			i++
		}
		if i-from >= windowSize {
			runs = append(runs, a[from:i])
		}
		i++
	}
	return runs
}

// memoryOf calls each with the readable memory of a process, in pieces that overlap.
// It returns how many octets that was.
func memoryOf(t testing.TB, pid int, each func([]byte)) int64 {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		testkit.Missing(t, "the maps of another process's memory: "+err.Error())
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		testkit.Missing(t, "the memory of another process: "+err.Error())
	}
	defer mem.Close()
	var total int64
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "[v") {
			continue // [vvar], [vsyscall]: the kernel's
		}
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if mode[0] == 'r' {
			total += region(mem, from, to, each)
		}
	}
	return total
}

func region(mem io.ReaderAt, from, to int64, each func([]byte)) int64 {
	const piece, overlap = 4 << 20, 128
	var total int64
	buf := make([]byte, piece)
	for at := from; at < to; at += piece - overlap {
		n, err := mem.ReadAt(buf[:min(piece, to-at)], at)
		total += int64(n)
		each(buf[:n])
		if err != nil && !errors.Is(err, io.EOF) {
			break // unmapped meanwhile
		}
		if at+piece >= to {
			break
		}
	}
	return total
}
