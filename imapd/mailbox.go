package imapd

import (
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postern/internal/store"
)

// Create implements imapserver.Session (RFC 9051 6.3.4, RFC 6154 3).
func (s *session) Create(name string, options *imap.CreateOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := store.NewMailbox{Name: name}
	if len(options.SpecialUse) > 1 {
		return s.response("CREATE", errSpecialUse)
	}
	for _, use := range options.SpecialUse {
		i := slices.IndexFunc(specialUses(), func(u string) bool { return strings.EqualFold(u, string(use)) })
		if i < 0 {
			return s.response("CREATE", errSpecialUse)
		}
		made.SpecialUse = specialUses()[i]
	}
	_, err := s.server.o.Store.CreateMailbox(s.ctx, s.account.ID, made)
	return s.response("CREATE", err)
}

// Delete implements imapserver.Session.
func (s *session) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.EqualFold(name, "INBOX") {
		return s.response("DELETE", errInbox)
	}
	mbox, err := s.server.o.Store.MailboxByName(s.ctx, s.account.ID, name)
	if err == nil {
		err = s.server.o.Store.DeleteMailbox(s.ctx, s.account.ID, name)
	}
	if err == nil {
		s.changed(mbox.ID) // whoever has it selected finds it gone
	}
	return s.response("DELETE", err)
}

// Rename implements imapserver.Session. Renaming INBOX moves its messages.
func (s *session) Rename(name, newName string, _ *imap.RenameOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, err := s.server.o.Store.MailboxByName(s.ctx, s.account.ID, name)
	if err == nil {
		err = s.server.o.Store.RenameMailbox(s.ctx, s.account.ID, name, newName)
	}
	if err == nil {
		s.changed(from.ID)
	}
	return s.response("RENAME", err)
}

// Subscribe implements imapserver.Session.
func (s *session) Subscribe(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.response("SUBSCRIBE", s.server.o.Store.Subscribe(s.ctx, s.account.ID, name, true))
}

// Unsubscribe implements imapserver.Session. A name that is no mailbox is not
// subscribed either: that is no error (RFC 9051 6.3.8).
func (s *session) Unsubscribe(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.server.o.Store.Subscribe(s.ctx, s.account.ID, name, false)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return s.response("UNSUBSCRIBE", err)
}

// List implements imapserver.Session for LIST and LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(patterns) == 0 {
		// LIST "" "" asks for the delimiter (RFC 9051 6.3.9).
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: '/'})
	}
	if len(patterns) > maxPatterns {
		return s.response("LIST", no(imap.ResponseCodeLimit, "too many patterns"))
	}
	boxes, err := s.server.o.Store.Mailboxes(s.ctx, s.account.ID)
	if err != nil {
		return s.response("LIST", err)
	}
	t := newTree(boxes)
	joined := make([]string, len(patterns))
	for i, p := range patterns {
		joined[i] = withReference(ref, p)
	}
	for _, l := range t.list(joined, o) {
		if err := w.WriteList(s.listData(t, l, o)); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) listData(t *tree, l listed, o *imap.ListOptions) *imap.ListData {
	data := &imap.ListData{Attrs: t.attributes(l, o), Delim: '/', Mailbox: l.name}
	if l.below {
		data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
	}
	if o.ReturnStatus != nil && l.mailbox != nil {
		data.Status = s.statusData(l.mailbox)
	}
	return data
}

// Status implements imapserver.Session.
func (s *session) Status(name string, _ *imap.StatusOptions) (*imap.StatusData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mbox, err := s.server.o.Store.MailboxByName(s.ctx, s.account.ID, name)
	if err != nil {
		return nil, s.response("STATUS", err)
	}
	return s.statusData(&mbox), nil
}

// statusData gives all items; the engine writes those that were asked for.
func (s *session) statusData(m *store.Mailbox) *imap.StatusData {
	var recent uint32
	limit := s.AppendLimit()
	// What \Deleted messages take up is counted nowhere: 0 is the lower bound that
	// RFC 9208 4.2.2 allows.
	var deleted int64
	return &imap.StatusData{
		Mailbox:        m.Name,
		NumMessages:    &m.Messages,
		NumRecent:      &recent,
		UIDNext:        imap.UID(m.UIDNext),
		UIDValidity:    m.UIDValidity,
		NumUnseen:      &m.Unseen,
		NumDeleted:     &m.Deleted,
		Size:           &m.Size,
		AppendLimit:    &limit,
		DeletedStorage: &deleted,
	}
}
