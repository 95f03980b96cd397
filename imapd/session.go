package imapd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postern/internal/store"
	"postern/internal/telemetry"
)

// session is one connection's state. The engine calls its methods one at a time, but
// for Idle, which may still be ending when the next one comes: hence the mutex.
type session struct {
	server *Server
	guard  *guard
	conn   *imapserver.Conn
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	failures int // logins
	account  store.Account
	loggedIn bool

	// The selected mailbox; view is nil when none is.
	mailbox  store.ID
	view     *view
	readOnly bool
	saved    []store.Range // "$", RFC 5182; as UIDs
}

var (
	_ imapserver.SessionIMAP4rev2   = (*session)(nil)
	_ imapserver.SessionSASL        = (*session)(nil)
	_ imapserver.SessionAppendLimit = (*session)(nil)
)

// newSession is called by the engine for each connection.
func (r *run) newSession(conn *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
	g, ok := conn.NetConn().(*guard)
	if !ok {
		return nil, nil, fmt.Errorf("connection is a %T", conn.NetConn())
	}
	s := &session{server: r.s, guard: g, conn: conn, log: r.s.log.With(telemetry.KeyID, r.s.o.NewID())}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	return s, &imapserver.GreetingData{}, nil
}

// Close implements imapserver.Session.
func (s *session) Close() error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loggedIn {
		s.server.leaveAccount(s.account.ID)
		s.loggedIn = false
	}
	s.view = nil
	return nil
}

// AppendLimit implements imapserver.SessionAppendLimit (RFC 7889).
func (s *session) AppendLimit() uint32 { return uint32(s.server.o.MaxSize) }

// Namespace implements imapserver.SessionNamespace: everything is personal.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Prefix: "", Delim: '/'}}}, nil
}

// Poll implements imapserver.Session: it reports what happened since the last command.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		s.checkAccount()
		return nil
	}
	return s.update(w, allowExpunge)
}

// checkAccount ends the session when the account has been removed: its mailboxes are
// gone, and its address may be somebody else's by now.
func (s *session) checkAccount() {
	if !s.loggedIn {
		return
	}
	if _, err := s.server.o.Store.Account(s.ctx, s.account.ID); errors.Is(err, store.ErrNotFound) {
		s.guard.dismiss("Account was removed")
	}
}

// update brings the client's view up to date. The error ends the connection: the
// engine has no answer for one here.
func (s *session) update(w updates, expunge bool) error {
	now, err := s.server.o.Store.View(s.ctx, s.mailbox)
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.checkAccount() // its farewell comes first
		// RFC 2180 3.3: another session has deleted the mailbox.
		s.guard.dismiss("Mailbox was deleted")
		return nil
	case err != nil:
		s.log.Error("imap view", telemetry.KeyError, err)
		s.guard.dismiss("[UNAVAILABLE] Local error, try again later")
		return nil
	}
	return s.view.advance(now, expunge, w)
}

// changed tells other sessions to look at a mailbox.
func (s *session) changed(mailbox store.ID) { s.server.o.Cluster.Wake(mailbox.Topic()) }

// writable refuses changes after EXAMINE.
func (s *session) writable() error {
	if s.readOnly {
		return errReadOnly
	}
	return nil
}

// pick finds the messages that a command names.
func (s *session) pick(set imap.NumSet) ([]span, error) {
	return s.view.spans(set, s.saved)
}
