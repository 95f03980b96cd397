package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// mover is a mail program at work while the server is killed: it appends drafts and
// moves them to the archive, and remembers what it was told.
type mover struct {
	g        *gateway
	n        int
	appended map[string]imap.UID // in Drafts, by Message-ID
	moved    map[string]imap.UID // in Archive
}

func newMover(g *gateway) *mover {
	return &mover{g: g, appended: map[string]imap.UID{}, moved: map[string]imap.UID{}}
}

// work works until stop; that the connection breaks is expected.
func (m *mover) work(stop <-chan struct{}) {
	config := m.g.tlsConfig()
	for {
		c, err := imapclient.DialTLS(m.g.at(993), &imapclient.Options{TLSConfig: config})
		if err == nil {
			if err = c.Login(owner, m.g.password).Wait(); err == nil {
				_, err = c.Select("Drafts", nil).Wait()
			}
			for err == nil && !stopped(stop, 5*time.Millisecond) {
				err = m.one(c)
			}
			c.Close()
		}
		if stopped(stop, 10*time.Millisecond) {
			return
		}
	}
}

// one appends a message and moves it.
func (m *mover) one(c *imapclient.Client) error {
	m.n++
	id := fmt.Sprintf("%d.draft", m.n)
	message := loadMessage(id)
	cmd := c.Append("Drafts", int64(len(message)), nil)
	if _, err := cmd.Write(message); err != nil {
		return err
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	at, err := cmd.Wait()
	if err != nil {
		return err
	}
	m.appended[id] = at.UID
	to, err := c.Move(imap.UIDSetNum(at.UID), "Archive").Wait()
	if err != nil {
		return err
	}
	if set, ok := to.DestUIDs.(imap.UIDSet); ok && len(set) == 1 {
		m.moved[id] = set[0].Start
	}
	return nil
}

// verify requires that all that was answered with OK is so.
func (m *mover) verify(t *testing.T) {
	t.Helper()
	where := map[string]map[string]imap.UID{}
	for _, box := range []string{"Drafts", "Archive"} {
		for _, s := range m.g.mailbox(t, box) {
			id := messageID.FindSubmatch(s.raw)
			if id == nil {
				t.Errorf("%s UID %d is no message of ours", box, s.uid)
				continue
			}
			if where[string(id[1])] == nil {
				where[string(id[1])] = map[string]imap.UID{}
			}
			if was, ok := where[string(id[1])][box]; ok {
				t.Errorf("%s is in %s twice: UIDs %d and %d", id[1], box, was, s.uid)
			}
			where[string(id[1])][box] = s.uid
		}
	}
	for id, uid := range m.appended {
		if len(where[id]) != 1 {
			t.Errorf("%s was appended as UID %d, and is at %v", id, uid, where[id])
		}
		if at, ok := where[id]["Drafts"]; ok && at != uid {
			t.Errorf("%s was appended as UID %d, and is at %d", id, uid, at)
		}
	}
	for id, uid := range m.moved {
		if where[id]["Archive"] != uid {
			t.Errorf("%s was moved to UID %d, and is at %v", id, uid, where[id])
		}
	}
	t.Logf("%d messages appended, %d of them moved, by IMAP", len(m.appended), len(m.moved))
	if len(m.moved) < kills {
		t.Error("hardly any were moved: there was no load")
	}
}
