package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"runtime"
	"time"

	"postern/internal/telemetry"
)

const (
	// maxGroup and maxGroupSize bound what shares one synchronisation, in blobs and
	// octets.
	maxGroup     = 512
	maxGroupSize = 8 << 20
	// ahead is how far zeros are written beyond the end. Synchronising octets that
	// replace others takes half the time of octets that make the file grow, or that
	// fill space which was reserved but never written, because the file system has
	// no metadata to write.
	ahead = 1 << 20
	// aheadBelow is the size in octets of a group from which on that saves nothing:
	// the time goes into the octets themselves.
	aheadBelow = 128 << 10
)

// pending is a small blob that waits to be durable.
type pending struct {
	chunk *chunk
	size  int
	crc   uint32
	hash  [32]byte
	place place
	done  chan error // of capacity one
}

// group appends small blobs to segments. Its goroutine takes all that wait, writes
// them, synchronises once and answers all.
type group struct {
	f        *Files
	requests chan *pending
	segment  *appender // nil: none is begun
	batch    []*pending
	bufs     [][]byte
	zeros    []byte
}

// appender is the segment that is being appended to.
type appender struct {
	file   *os.File
	number uint32
	salt   salt
	end    int64 // of the last durable record
	filled int64 // up to here the file has octets that may be replaced
}

func newGroup(f *Files) *group {
	return &group{f: f, requests: make(chan *pending, maxGroup)}
}

// run works until requests is closed and nothing waits any more.
func (g *group) run() {
	for first := range g.requests {
		g.gather(first)
		err := g.commit()
		for _, p := range g.batch {
			p.chunk.free()
			p.done <- err
		}
		clear(g.batch)
		clear(g.bufs)
	}
	g.seal()
}

// gather takes first and whatever else waits. It gives those who were answered a
// moment ago one turn to come back, which costs nothing when nobody is there.
func (g *group) gather(first *pending) {
	g.batch = append(g.batch[:0], first)
	size := first.size
	yielded := false
	for len(g.batch) < maxGroup && size < maxGroupSize {
		select {
		case p, ok := <-g.requests:
			if !ok {
				return
			}
			g.batch = append(g.batch, p)
			size += p.size
		default:
			if yielded {
				return
			}
			runtime.Gosched()
			yielded = true
		}
	}
}

// commit writes the batch. On an error none of it is kept.
func (g *group) commit() error {
	if g.segment != nil && g.segment.end >= g.f.o.SegmentSize {
		g.seal()
	}
	if g.segment == nil {
		if err := g.begin(); err != nil {
			g.f.o.Metrics.BlobError(reason(err))
			return fmt.Errorf("begin segment: %w", classify(err))
		}
	}
	s := g.segment
	total := g.layout(s)
	if err := g.f.sys.writev(s.file, g.bufs, s.end); err != nil {
		g.f.o.Metrics.BlobError(reason(err))
		// Nothing was said to be durable beyond the end, so it can be cut off.
		if s.file.Truncate(s.end) != nil {
			g.abandon()
		}
		s.filled = s.end
		return fmt.Errorf("append to segment: %w", classify(err))
	}
	g.fillAhead(s, s.end+total, total)
	if err := g.f.sys.sync(s.file); err != nil {
		g.f.o.Metrics.BlobError(telemetry.BlobSync)
		g.f.o.Log.Error("segment abandoned", telemetry.KeyBlob, s.number, telemetry.KeyError, err)
		g.abandon()
		return fmt.Errorf("synchronise segment: %w", classify(err))
	}
	s.end += total
	s.filled = max(s.filled, s.end)
	g.f.o.Metrics.BlobGroup(len(g.batch))
	return nil
}

// layout gives each blob its place and header and returns the octets of all.
func (g *group) layout(s *appender) (total int64) {
	now := g.f.now().UnixMicro()
	g.bufs = g.bufs[:0]
	for _, p := range g.batch {
		p.place = place{segment: s.number, offset: s.end + total, size: uint32(p.size), crc: p.crc}
		span := spanOf(p.size)
		r := record{kind: live, size: uint32(p.size), span: uint32(span), crc: p.crc, time: now, digest: [16]byte(p.hash[:])}
		b := p.chunk.b[:span]
		r.put(b[:unit], s.salt)
		clear(b[unit+p.size:])
		g.bufs = append(g.bufs, b)
		total += int64(span)
	}
	return total
}

// fillAhead writes zeros behind a group that ends at end. They are not needed, so an
// error is none; but they must not take the last space of a disk.
func (g *group) fillAhead(s *appender, end, total int64) {
	if end <= s.filled || total >= aheadBelow {
		return
	}
	if g.zeros == nil {
		g.zeros = make([]byte, ahead/16)
	}
	bufs := make([][]byte, 16)
	for i := range bufs {
		bufs[i] = g.zeros
	}
	if g.f.sys.writev(s.file, bufs, end) == nil {
		s.filled = end + ahead
		return
	}
	if err := s.file.Truncate(end); err != nil {
		g.f.o.Log.Warn("segment not cut", telemetry.KeyBlob, s.number, telemetry.KeyError, err)
	}
}

// begin makes the next segment. Numbers are never used again: the segment with the
// highest one is never removed, so that the next is always greater than all before.
func (g *group) begin() error {
	highest, err := g.f.highest()
	if err != nil {
		return err
	}
	for number := highest + 1; ; number++ {
		err := g.make(number)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

func (g *group) make(number uint32) (err error) {
	if err := g.f.run.claim(number); err != nil {
		return err
	}
	path := g.f.segmentPath(number)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
	if err != nil {
		g.f.run.release(number)
		return err
	}
	defer func() {
		// A segment without a durable header holds nothing. Its number is free
		// for the next attempt.
		if err != nil {
			closeAll(file)
			os.Remove(path)
			g.f.run.release(number)
		}
	}()
	s := &appender{file: file, number: number, end: unit, filled: unit}
	rand.Read(s.salt[:]) // never fails: it would end the process
	if err := g.f.sys.writev(file, [][]byte{segmentHeader(s.salt, g.f.now())}, 0); err != nil {
		return err
	}
	if err := g.f.sys.sync(file); err != nil {
		return err
	}
	if err := g.f.sys.syncDir(g.f.segmentsDir()); err != nil {
		return err
	}
	g.segment = s
	return nil
}

// seal ends the segment in good order: what was filled ahead is cut off.
func (g *group) seal() {
	s := g.segment
	if s == nil {
		return
	}
	if err := s.file.Truncate(s.end); err != nil {
		g.f.o.Log.Warn("segment not cut", telemetry.KeyBlob, s.number, telemetry.KeyError, err)
	}
	g.abandon()
	if err := g.f.run.release(s.number); err != nil {
		g.f.o.Log.Warn("claim not released", telemetry.KeyBlob, s.number, telemetry.KeyError, err)
		return
	}
	if err := g.f.removeIfDead(s.number); err != nil {
		g.f.o.Log.Warn("segment not removed", telemetry.KeyBlob, s.number, telemetry.KeyError, err)
	}
}

// abandon leaves the segment as it is. Its claim stays, so that the next process
// cuts off what is torn; nothing is written behind an end that nobody knows.
func (g *group) abandon() {
	closeAll(g.segment.file)
	g.segment = nil
}

// commitSmall hands a small blob to the group and waits until it is durable.
func (f *Files) commitSmall(ctx context.Context, p *pending) (place, error) {
	asked := time.Now()
	p.crc = crc32.Checksum(p.chunk.b[unit:unit+p.size], castagnoli())
	if err := f.enter(); err != nil {
		p.chunk.free()
		return place{}, err
	}
	select {
	case f.group.requests <- p:
		f.leave()
	case <-ctx.Done():
		f.leave()
		p.chunk.free()
		return place{}, ctx.Err()
	}
	select {
	case err := <-p.done:
		if err == nil {
			f.o.Metrics.BlobCommit(int64(p.size), time.Since(asked))
		}
		return p.place, err
	case <-ctx.Done():
		return place{}, ctx.Err()
	}
}
