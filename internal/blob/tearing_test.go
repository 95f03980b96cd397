package blob

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// tearing is a disk that loses power: after a number of calls nothing succeeds any
// more, and then tearDown makes the directory look as a disk might have left it.
type tearing struct {
	mu    sync.Mutex
	rng   *rand.Rand
	calls int
	files []*tornFile
	names map[string][]string // what a directory held when it was last synchronised
}

// tornFile is a file with what it held when it was last synchronised.
type tornFile struct {
	info    os.FileInfo
	durable []byte
}

func newTearing(seed uint64) *tearing {
	rng := rand.New(rand.NewPCG(seed, 3))
	return &tearing{rng: rng, calls: 20 + rng.IntN(60), names: make(map[string][]string)}
}

func (p *tearing) off() error {
	p.calls--
	if p.calls < 0 {
		return errDisk
	}
	return nil
}

// file returns what is known of a file, by whatever name it goes now.
func (p *tearing) file(info os.FileInfo) *tornFile {
	for _, f := range p.files {
		if os.SameFile(f.info, info) {
			return f
		}
	}
	f := &tornFile{info: info}
	p.files = append(p.files, f)
	return f
}

func (p *tearing) system() system {
	return system{writev: p.writev, write: p.write, sync: p.sync, syncDir: p.syncDir}
}

func (p *tearing) writev(f *os.File, bufs [][]byte, off int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.off()
	if p.calls < -1 {
		return err
	}
	// The last write was on its way when the power went.
	if err := writeAll(f, bufs, off); err != nil {
		return err
	}
	return err
}

func (p *tearing) write(f *os.File, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.off(); err != nil {
		return 0, err
	}
	return f.Write(b)
}

func (p *tearing) sync(f *os.File) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.off(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	content := make([]byte, info.Size())
	_, err = f.ReadAt(content, 0)
	p.file(info).durable = content
	return err
}

func (p *tearing) syncDir(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.off(); err != nil {
		return err
	}
	p.names[path] = namesIn(path)
	return nil
}

func namesIn(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// tearDown takes back at random what was not synchronised: names, and sectors.
func (p *tearing) tearDown(t *testing.T, dir string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dirs, _ := filepath.Glob(filepath.Join(dir, "files", "*"))
	for _, d := range append(dirs, filepath.Join(dir, "files"), filepath.Join(dir, "segments")) {
		for _, name := range namesIn(d) {
			if !slices.Contains(p.names[d], name) && p.rng.IntN(2) == 0 {
				os.RemoveAll(filepath.Join(d, name))
			}
		}
	}
	large, _ := filepath.Glob(filepath.Join(dir, "files", "*", "*"))
	segments, _ := filepath.Glob(filepath.Join(dir, "segments", "*"))
	for _, path := range append(large, segments...) {
		p.tearFile(t, path)
	}
}

func (p *tearing) tearFile(t *testing.T, path string) {
	info, err1 := os.Stat(path)
	now, err2 := os.ReadFile(path)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	durable := p.file(info).durable
	const sector = 512
	for at := 0; at < len(now); at += sector {
		end := min(at+sector, len(now))
		if at < len(durable) && bytes.Equal(now[at:end], durable[at:min(end, len(durable))]) || p.rng.IntN(2) == 0 {
			continue
		}
		clear(now[at:end])
		if at < len(durable) {
			copy(now[at:end], durable[at:])
		}
	}
	if len(now) < len(durable) {
		// A segment that was ended lost the zeros behind its last record, or did
		// not lose them for ever.
		cut := durable[len(now):]
		if len(bytes.Trim(cut, "\x00")) > 0 {
			t.Errorf("%s was cut where it held something", path)
		}
		if p.rng.IntN(2) == 0 {
			now = append(now, cut...)
		}
	}
	if err := os.WriteFile(path, now, fileMode); err != nil {
		t.Fatal(err)
	}
}
