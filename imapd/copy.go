package imapd

import (
	"context"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postern/internal/store"
)

// Copy implements imapserver.Session.
func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied, err := s.transfer(set, dest, s.server.o.Store.Copy)
	if err != nil {
		return nil, s.response("COPY", err)
	}
	return copyData(copied), nil
}

// Move implements imapserver.SessionMove (RFC 6851).
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return s.response("MOVE", err)
	}
	copied, err := s.transfer(set, dest, s.server.o.Store.Move)
	if err != nil {
		return s.response("MOVE", err)
	}
	if data := copyData(copied); data != nil {
		if err := w.WriteCopyData(data); err != nil {
			return err
		}
		s.changed(s.mailbox)
	}
	return s.writeExpunged("MOVE", w.WriteExpunge)
}

// transfer copies or moves messages into a mailbox of the same account.
func (s *session) transfer(set imap.NumSet, dest string, do transferFunc) (store.Copied, error) {
	spans, err := s.pick(set)
	if err != nil {
		return store.Copied{}, err
	}
	to, err := s.server.o.Store.MailboxByName(s.ctx, s.account.ID, dest)
	if errors.Is(err, store.ErrNotFound) {
		return store.Copied{}, errTryCreate
	}
	if err != nil {
		return store.Copied{}, fmt.Errorf("find mailbox: %w", err)
	}
	if len(spans) == 0 {
		return store.Copied{}, nil
	}
	copied, err := do(s.ctx, s.mailbox, s.view.ranges(spans), to.ID)
	if err == nil && len(copied.Dst) > 0 {
		s.changed(to.ID)
	}
	return copied, err
}

// copyData is the COPYUID of RFC 4315, nil if nothing was copied.
func copyData(c store.Copied) *imap.CopyData {
	if len(c.Dst) == 0 {
		return nil
	}
	return &imap.CopyData{UIDValidity: c.UIDValidity, SourceUIDs: uidSet(c.Src), DestUIDs: uidSet(c.Dst)}
}

// Expunge implements imapserver.Session for EXPUNGE, UID EXPUNGE and CLOSE.
func (s *session) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// CLOSE comes with a writer that leads nowhere. After EXAMINE it removes
	// nothing, and that is no error (RFC 9051 6.4.1).
	closing := *w == imapserver.ExpungeWriter{}
	if s.readOnly && closing {
		return nil
	}
	if err := s.writable(); err != nil {
		return s.response("EXPUNGE", err)
	}
	var ranges []store.Range
	if uids != nil {
		spans, err := s.pick(*uids)
		if err != nil || len(spans) == 0 {
			return s.response("EXPUNGE", err)
		}
		ranges = s.view.ranges(spans)
	}
	gone, err := s.server.o.Store.Expunge(s.ctx, s.mailbox, ranges)
	if len(gone) > 0 {
		s.changed(s.mailbox)
	}
	if err != nil || closing {
		return s.response("EXPUNGE", err)
	}
	return s.writeExpunged("EXPUNGE", w.WriteExpunge)
}

// writeExpunged tells of all messages that are gone, whoever removed them.
func (s *session) writeExpunged(what string, write func(seq uint32) error) error {
	now, err := s.server.o.Store.View(s.ctx, s.mailbox)
	if err != nil {
		return s.response(what, err)
	}
	return s.view.expunge(now, write)
}

// transferFunc is the store's Copy or Move.
type transferFunc func(ctx context.Context, from store.ID, uids []store.Range, to store.ID) (store.Copied, error)
