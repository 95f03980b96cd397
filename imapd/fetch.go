package imapd

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postern/internal/message"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// maxSections is how many sections one FETCH may name.
const maxSections = 64

// Fetch implements imapserver.Session.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.newFetch(w, set, o)
	if err == nil {
		err = f.run()
	}
	return s.response("FETCH", err)
}

// fetch is one FETCH command at work.
type fetch struct {
	s       *session
	w       *imapserver.FetchWriter
	o       *imap.FetchOptions
	spans   []span
	want    store.Columns
	byUID   bool
	seen    []store.Range // messages that \Seen was set on
	problem error         // told when all the others are written
	flags   []imap.Flag   // reused
	buf     []byte
}

func (s *session) newFetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) (*fetch, error) {
	if len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) > maxSections {
		return nil, errFetchTooWide
	}
	spans, err := s.pick(set)
	if err != nil {
		return nil, err
	}
	_, byUID := set.(imap.UIDSet)
	f := &fetch{s: s, w: w, o: o, spans: spans, byUID: byUID}
	peek := true
	if o.Envelope {
		f.want |= store.WantEnvelope
	}
	if o.BodyStructure != nil {
		f.want |= store.WantStructure
	}
	for _, b := range o.BodySection {
		f.want |= columns(b)
		peek = peek && b.Peek
	}
	for _, b := range o.BinarySection {
		f.want |= store.WantBody | store.WantStructure
		peek = peek && b.Peek
	}
	if len(o.BinarySectionSize) > 0 {
		f.want |= store.WantBody | store.WantStructure
	}
	if peek || s.readOnly {
		return f, nil
	}
	return f, f.markSeen()
}

// markSeen sets \Seen on what is going to be read (RFC 9051 6.4.5).
func (f *fetch) markSeen() error {
	s := f.s
	var unseen []uint32
	for _, sp := range f.spans {
		for i := sp.lo; i < sp.hi; i++ {
			if flags, _ := s.view.flags(i); flags&store.Seen == 0 {
				unseen = append(unseen, s.view.entries[i].UID)
			}
		}
	}
	if len(unseen) == 0 {
		return nil
	}
	f.seen = uidRanges(unseen)
	st := s.server.o.Store
	if _, err := st.SetFlags(s.ctx, s.mailbox, f.seen, store.FlagsAdd, store.Seen, nil, 0); err != nil {
		return fmt.Errorf("set \\Seen: %w", err)
	}
	s.changed(s.mailbox)
	return nil
}

// run writes the responses in the order of the mailbox.
func (f *fetch) run() error {
	if f.want == 0 {
		for _, sp := range f.spans {
			for i := sp.lo; i < sp.hi; i++ {
				if err := f.plain(i); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if len(f.spans) == 0 {
		return nil
	}
	if err := f.load(); err != nil {
		return err
	}
	return f.problem
}

// plain answers for a message of which only the entry is needed.
func (f *fetch) plain(i int) error {
	m := f.w.CreateMessage(uint32(i) + 1)
	f.writeEntry(m, i)
	return m.Close()
}

// load answers for messages out of the store.
func (f *fetch) load() error {
	s, left := f.s, slices.Clone(f.spans)
	err := s.server.o.Store.Messages(s.ctx, s.mailbox, s.view.ranges(left), f.want,
		func(uid uint32, m *store.Message) error {
			for len(left) > 0 {
				i := left[0].lo
				if s.view.entries[i].UID > uid {
					break // came in after the view was made: never within a span
				}
				if left[0].lo++; left[0].lo == left[0].hi {
					left = left[1:]
				}
				if s.view.entries[i].UID == uid {
					return f.one(i, m)
				}
				f.gone()
			}
			return nil
		})
	if err == nil && len(left) > 0 {
		f.gone()
	}
	return err
}

// gone notes that a message was expunged by another session. Who asked by UID is not
// concerned (RFC 9051 6.4.9).
func (f *fetch) gone() {
	if !f.byUID && f.problem == nil {
		f.problem = errGone
	}
}

// one answers for one message. Everything that can fail is tried before the response
// begins, but for reading the body: if that fails, the connection cannot go on.
func (f *fetch) one(i int, m *store.Message) error {
	items, err := f.prepare(m)
	if err != nil {
		var fixed *errorText
		if f.s.ctx.Err() != nil {
			return err
		}
		if !errors.As(err, &fixed) {
			f.s.log.Error("imap message unreadable", telemetry.KeyMessage, int64(m.ID), telemetry.KeyError, err)
			err = errDamaged
		}
		f.problem = err
		return nil
	}
	defer items.close()
	w := f.w.CreateMessage(uint32(i) + 1)
	f.writeEntry(w, i)
	if items.envelope != nil {
		w.WriteEnvelope(items.envelope)
	}
	if items.structure != nil {
		w.WriteBodyStructure(items.structure)
	}
	err = f.writeBodies(w, items)
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		f.s.guard.abandon()
	}
	return err
}

// items is what one response consists of, ready to be written.
type items struct {
	source
	envelope  *imap.Envelope
	structure imap.BodyStructure
	sections  []slice
	binaries  []decoded
	sizes     []int64
	closer    io.Closer
}

func (it *items) close() {
	if it.closer != nil {
		_ = it.closer.Close() // it was only read
	}
}

func (f *fetch) prepare(m *store.Message) (_ *items, err error) {
	it := &items{}
	defer func() {
		if err != nil {
			it.close()
		}
	}()
	it.head = m.Head
	if f.o.Envelope {
		if it.envelope, err = envelopeOf(m.Envelope); err != nil {
			return nil, err
		}
	}
	if f.want&store.WantStructure != 0 {
		if it.root, err = message.ParseStructure(m.Structure); err != nil {
			return nil, fmt.Errorf("read structure: %w", err)
		}
	}
	if f.o.BodyStructure != nil {
		it.structure = structureOf(it.root)
	}
	if f.want&store.WantBody != 0 {
		body, err := m.Open(f.s.ctx, f.s.server.o.Blobs)
		if err != nil {
			return nil, err
		}
		it.body, it.closer = body, body
	}
	return it, f.resolve(it)
}

// resolve finds the octets of all sections.
func (f *fetch) resolve(it *items) error {
	for _, b := range f.o.BodySection {
		s, err := it.section(b)
		if err != nil {
			return err
		}
		it.sections = append(it.sections, s)
	}
	for _, b := range f.o.BinarySection {
		d, err := it.binary(b.Part, b.Partial)
		if err != nil {
			return err
		}
		it.binaries = append(it.binaries, d)
	}
	for _, b := range f.o.BinarySectionSize {
		d, err := it.binary(b.Part, nil)
		if err != nil {
			return err
		}
		it.sizes = append(it.sizes, d.n)
	}
	return nil
}

// writeEntry writes the items that the mailbox itself knows.
func (f *fetch) writeEntry(w *imapserver.FetchResponseWriter, i int) {
	e := &f.s.view.entries[i]
	if f.o.UID {
		w.WriteUID(imap.UID(e.UID))
	}
	flags, keywords := f.s.view.flags(i)
	marked := f.marks(e.UID)
	if marked {
		flags |= store.Seen
		f.s.view.tell(e.UID, flags, keywords)
	}
	if f.o.Flags || marked {
		f.flags = appendFlags(f.flags[:0], flags, keywords)
		w.WriteFlags(f.flags)
	}
	if f.o.InternalDate {
		w.WriteInternalDate(time.UnixMicro(e.InternalDate).UTC())
	}
	if f.o.RFC822Size {
		w.WriteRFC822Size(e.Size)
	}
}

// marks says whether \Seen was set on a message by this command. UIDs come in order.
func (f *fetch) marks(uid uint32) bool {
	for len(f.seen) > 0 && f.seen[0].Hi < uid {
		f.seen = f.seen[1:]
	}
	return len(f.seen) > 0 && f.seen[0].Lo <= uid
}

func (f *fetch) writeBodies(w *imapserver.FetchResponseWriter, it *items) error {
	if f.buf == nil && it.body != nil {
		f.buf = make([]byte, maxGather)
	}
	for i, b := range f.o.BodySection {
		s := it.sections[i]
		if err := writeLiteral(w.WriteBodySection(b, s.n), func(w io.Writer) error { return s.copyTo(w, it.body, f.buf) }); err != nil {
			return err
		}
	}
	for i, b := range f.o.BinarySection {
		d := it.binaries[i]
		if err := writeLiteral(w.WriteBinarySection(b, d.n), func(w io.Writer) error { return d.copyTo(w, it.body, f.buf) }); err != nil {
			return err
		}
	}
	for i, b := range f.o.BinarySectionSize {
		w.WriteBinarySectionSize(b, uint32(min(it.sizes[i], math.MaxUint32)))
	}
	return nil
}

func writeLiteral(w io.WriteCloser, write func(io.Writer) error) error {
	err := write(w)
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	return err
}
