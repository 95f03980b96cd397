package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

const (
	messageColumns = `m.id, m.account, m.class, m.size, m.envelope, m.structure, o.head, o.tail,
		COALESCE(b.ref, ''), COALESCE(b.size, 0), b.digest`
	messageJoins = `JOIN octets o ON o.message = m.id LEFT JOIN blobs b ON b.id = m.blob`
)

// fields returns where the columns of messageColumns are scanned to.
func (m *Message) fields() []any {
	return []any{&m.ID, &m.Account, &m.Class, &m.Size, &m.Envelope, &m.Structure, &m.Head, &m.Tail,
		&m.Blob.Ref, &m.Blob.Size, (*digestColumn)(&m.Blob.Digest)}
}

// digestColumn scans a digest; NULL, of a message without a blob, leaves zeros.
type digestColumn [32]byte

// Scan implements sql.Scanner.
func (d *digestColumn) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*d = digestColumn{}
		return nil
	case []byte:
		if len(v) == len(d) {
			copy(d[:], v)
			return nil
		}
	}
	return fmt.Errorf("%w: digest is not 32 octets", ErrInvalid)
}

// Message returns a message with all that is known of it, or ErrNotFound.
func (s *Store) Message(ctx context.Context, id ID) (*Message, error) {
	m := new(Message)
	err := s.read(ctx, func(c *session) error {
		return c.get(m.fields(), `SELECT `+messageColumns+` FROM messages m `+messageJoins+
			` WHERE m.id = $1`, id)
	})
	if err != nil {
		return nil, fmt.Errorf("read message %v: %w", id, err)
	}
	return m, nil
}

// A page of Messages ends at either limit.
const (
	pageRows   = 500
	pageOctets = 1 << 20
)

// Messages calls each for the messages within ranges, by UID, with the columns
// in want. m and its slices are only good until each returns. Messages are read
// in pages and no statement is open while each runs, so each may be slow and may
// use the store; messages that come and go meanwhile may or may not be seen. A
// mailbox that does not exist has no messages.
func (s *Store) Messages(ctx context.Context, mailbox ID, ranges []Range, want Columns,
	each func(uid uint32, m *Message) error) error {
	p := newMessagePage(mailbox, want)
	var m Message
	for todo := normalRanges(ranges); len(todo) > 0; {
		err := s.read(ctx, func(c *session) error {
			var err error
			todo, err = p.read(c, todo)
			return err
		})
		if err != nil {
			return fmt.Errorf("read messages of mailbox %v: %w", mailbox, err)
		}
		for i := range p.rows {
			p.rows[i].into(&m, p.octets)
			if err := each(p.rows[i].uid, &m); err != nil {
				return err
			}
		}
	}
	return nil
}

// messagePage is a page of messages; it is used again for the next one.
type messagePage struct {
	mailbox ID
	query   string
	columns Columns
	rows    []pageRow
	octets  []byte // of all rows, so that a page costs few allocations

	scan  pageRow
	parts [4]sql.RawBytes
	dest  []any
}

// pageRow is one message; its slices are offsets into the page's octets.
type pageRow struct {
	uid         uint32
	id, account ID
	class       string
	size        int64
	parts       [4]span // envelope, structure, head, tail
	ref         string
	blobSize    int64
	digest      digestColumn
}

type span struct{ lo, hi int }

func newMessagePage(mailbox ID, want Columns) *messagePage {
	p := &messagePage{mailbox: mailbox, columns: want}
	s := &p.scan
	p.dest = []any{&s.uid, &s.id, &s.account, &s.class, &s.size}
	var columns, joins strings.Builder
	add := func(part int, column string) {
		columns.WriteString(", " + column)
		p.dest = append(p.dest, &p.parts[part])
	}
	if want&WantEnvelope != 0 {
		add(0, "m.envelope")
	}
	if want&WantStructure != 0 {
		add(1, "m.structure")
	}
	if want&(WantHead|WantBody) != 0 {
		add(2, "o.head")
		joins.WriteString(" JOIN octets o ON o.message = m.id")
	}
	if want&WantBody != 0 {
		add(3, "o.tail")
		columns.WriteString(", COALESCE(b.ref, ''), COALESCE(b.size, 0), b.digest")
		p.dest = append(p.dest, &s.ref, &s.blobSize, &s.digest)
		joins.WriteString(" LEFT JOIN blobs b ON b.id = m.blob")
	}
	p.query = `SELECT e.uid, m.id, m.account, m.class, m.size` + columns.String() +
		` FROM entries e JOIN messages m ON m.id = e.message` + joins.String() +
		` WHERE e.mailbox = $1 AND e.uid BETWEEN $2 AND $3 ORDER BY e.uid LIMIT $4`
	return p
}

// read fills the page from the first of the ranges and returns what is left.
func (p *messagePage) read(c *session, todo []Range) ([]Range, error) {
	p.rows, p.octets = p.rows[:0], p.octets[:0]
	for len(todo) > 0 {
		limit := pageRows - len(p.rows)
		n := 0
		err := c.each(func(r scanner) error {
			n++
			if err := p.row(r); err != nil {
				return err
			}
			if len(p.octets) >= pageOctets {
				return errStop
			}
			return nil
		}, p.query, p.mailbox, todo[0].Lo, todo[0].Hi, limit)
		if err != nil {
			return nil, err
		}
		if n == limit || len(p.octets) >= pageOctets {
			return after(todo, p.rows[len(p.rows)-1].uid), nil
		}
		todo = todo[1:]
	}
	return nil, nil
}

func (p *messagePage) row(r scanner) error {
	if err := r.Scan(p.dest...); err != nil {
		return err
	}
	row := p.scan
	for i, part := range p.parts {
		row.parts[i].lo = len(p.octets)
		p.octets = append(p.octets, part...)
		row.parts[i].hi = len(p.octets)
	}
	p.rows = append(p.rows, row)
	return nil
}

func (r *pageRow) into(m *Message, octets []byte) {
	part := func(i int) []byte {
		s := r.parts[i]
		return octets[s.lo:s.hi:s.hi]
	}
	*m = Message{
		ID: r.id, Account: r.account, Class: Class(r.class), Size: r.size,
		Envelope: part(0), Structure: part(1), Head: part(2), Tail: part(3),
		Blob: Blob{Ref: r.ref, Size: r.blobSize, Digest: r.digest},
	}
}
