package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"postern/internal/telemetry"
)

// maxSyncs bounds the large blobs that are synchronised at once, since each holds a
// thread of the system for as long as the disk takes.
const maxSyncs = 32

// syncLarge makes the octets of a large blob durable.
func (f *Files) syncLarge(ctx context.Context, file *os.File) error {
	select {
	case f.syncs <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f.syncs }()
	if err := f.sys.sync(file); err != nil {
		f.o.Metrics.BlobError(telemetry.BlobSync)
		return fmt.Errorf("synchronise: %w", classify(err))
	}
	return nil
}

// publish gives a durable temporary file its name and makes that durable too.
func (f *Files) publish(ctx context.Context, temp string, name fileName) error {
	path := f.filePath(name)
	dir := filepath.Dir(path)
	err := os.Rename(temp, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return classify(err)
		}
		err = os.Rename(temp, path)
	}
	if err != nil {
		return classify(err)
	}
	if err := f.enter(); err != nil {
		os.Remove(path)
		return err
	}
	done := f.dirs.ask(dir)
	f.leave()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		// Nobody will know its ref, so it need not wait to be swept.
		os.Remove(path)
		return fmt.Errorf("synchronise directory: %w", classify(err))
	}
	return nil
}

// dirSyncer synchronises directories: one call serves all who wait for the same one,
// and on most file systems the first call of a round makes the others cheap.
type dirSyncer struct {
	syncDir  func(path string) error
	requests chan dirRequest
	known    map[string]bool // directories whose own names are durable
}

type dirRequest struct {
	dir  string
	done chan error // of capacity one
}

func newDirSyncer(syncDir func(string) error) *dirSyncer {
	return &dirSyncer{
		syncDir:  syncDir,
		requests: make(chan dirRequest, maxGroup),
		known:    make(map[string]bool),
	}
}

// ask asks for a directory to be synchronised after now.
func (d *dirSyncer) ask(dir string) <-chan error {
	done := make(chan error, 1)
	d.requests <- dirRequest{dir, done}
	return done
}

// run works until requests is closed and nothing waits any more.
func (d *dirSyncer) run() {
	for first := range d.requests {
		waiting := map[string][]chan error{first.dir: {first.done}}
		for len(d.requests) > 0 {
			r := <-d.requests
			waiting[r.dir] = append(waiting[r.dir], r.done)
		}
		for dir, all := range waiting {
			err := d.sync(dir)
			for _, done := range all {
				done <- err
			}
		}
	}
}

func (d *dirSyncer) sync(dir string) error {
	if err := d.syncDir(dir); err != nil {
		return err
	}
	if d.known[dir] {
		return nil
	}
	if err := d.syncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	d.known[dir] = true
	return nil
}
