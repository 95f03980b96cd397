package imapd

import (
	"fmt"
	"slices"

	"github.com/emersion/go-imap/v2"

	"postern/internal/store"
)

// Select implements imapserver.Session for SELECT and EXAMINE.
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveMailbox()
	data, err := s.open(name, options.ReadOnly)
	return data, s.response("SELECT", err)
}

func (s *session) open(name string, readOnly bool) (*imap.SelectData, error) {
	mbox, err := s.server.o.Store.MailboxByName(s.ctx, s.account.ID, name)
	if err != nil {
		return nil, fmt.Errorf("find mailbox: %w", err)
	}
	now, err := s.server.o.Store.View(s.ctx, mbox.ID)
	if err != nil {
		return nil, fmt.Errorf("read mailbox: %w", err)
	}
	s.mailbox, s.readOnly, s.saved = mbox.ID, readOnly, nil
	s.view = newView(now)
	data := &imap.SelectData{
		Flags:             s.view.mailboxFlags(),
		NumMessages:       uint32(len(now.Entries)),
		FirstUnseenSeqNum: s.view.firstUnseen(),
		UIDNext:           imap.UID(now.Mailbox.UIDNext),
		UIDValidity:       now.Mailbox.UIDValidity,
	}
	if !readOnly {
		data.PermanentFlags = append(slices.Clone(data.Flags), imap.FlagWildcard)
	}
	if s.conn != nil && s.conn.EnabledCaps().Has(imap.CapIMAP4rev2) {
		data.List = &imap.ListData{Mailbox: mbox.Name, Delim: '/'}
	}
	return data, nil
}

// Unselect implements imapserver.Session for UNSELECT and the end of CLOSE.
func (s *session) Unselect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveMailbox()
	return nil
}

func (s *session) leaveMailbox() {
	s.mailbox, s.view, s.readOnly, s.saved = store.ID(0), nil, false, nil
}
