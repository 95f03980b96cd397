package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// tlsConfig trusts the gateway's own certificate and nothing else.
func (g *gateway) tlsConfig() *tls.Config {
	g.t.Helper()
	pem, err := os.ReadFile(g.tlsCert())
	if err != nil {
		g.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		g.t.Fatal("no certificate in ", g.tlsCert())
	}
	return &tls.Config{RootCAs: pool, ServerName: hostname}
}

// imap connects by TLS and logs in as the owner.
func (g *gateway) imap(t testing.TB) *imapclient.Client {
	t.Helper()
	return g.imapAs(t, owner, g.password, nil)
}

func (g *gateway) imapAs(t testing.TB, login, password string, updates *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(g.at(993), &imapclient.Options{TLSConfig: g.tlsConfig(), UnilateralDataHandler: updates})
	if err != nil {
		t.Fatal("IMAP: ", err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(login, password).Wait(); err != nil {
		t.Fatal("LOGIN: ", err)
	}
	return c
}

// stored is one message as IMAP gives it.
type stored struct {
	uid   imap.UID
	flags []imap.Flag
	raw   []byte
}

// mailbox fetches all of a mailbox of the owner's, by UID.
func (g *gateway) mailbox(t testing.TB, name string) []stored {
	t.Helper()
	c := g.imap(t)
	defer c.Close()
	return fetchAll(t, c, name)
}

func fetchAll(t testing.TB, c *imapclient.Client, name string) []stored {
	t.Helper()
	selected, err := c.Select(name, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		t.Fatalf("EXAMINE %s: %v", name, err)
	}
	if selected.NumMessages == 0 {
		return nil
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(imap.UIDSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{UID: true, Flags: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	if err != nil {
		t.Fatalf("FETCH %s: %v", name, err)
	}
	all := make([]stored, 0, len(got))
	for _, m := range got {
		raw := m.FindBodySection(whole)
		if m.RFC822Size != int64(len(raw)) {
			t.Errorf("%s UID %d: RFC822.SIZE %d, but %d octets", name, m.UID, m.RFC822Size, len(raw))
		}
		if n := len(all); n > 0 && all[n-1].uid >= m.UID {
			t.Errorf("%s: UID %d behind %d", name, m.UID, all[n-1].uid)
		}
		all = append(all, stored{uid: m.UID, flags: m.Flags, raw: raw})
	}
	if len(all) != int(selected.NumMessages) {
		t.Errorf("%s: EXISTS %d, fetched %d", name, selected.NumMessages, len(all))
	}
	return all
}

// only requires that a mailbox has one message, and returns it.
func (g *gateway) only(t testing.TB, name string) stored {
	t.Helper()
	all := g.mailbox(t, name)
	if len(all) != 1 {
		t.Fatalf("%s has %d messages, not 1", name, len(all))
	}
	return all[0]
}

// emptyMailbox removes all messages.
func emptyMailbox(t testing.TB, c *imapclient.Client, name string) {
	t.Helper()
	if _, err := c.Select(name, nil).Wait(); err != nil {
		t.Fatalf("SELECT %s: %v", name, err)
	}
	all := imap.UIDSet{{Start: 1, Stop: 0}}
	if err := c.Store(all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal("STORE: ", err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal("EXPUNGE: ", err)
	}
}

// count asks how many messages a mailbox of the owner's has.
func (g *gateway) count(t testing.TB, name string) int {
	t.Helper()
	c := g.imap(t)
	defer c.Close()
	status, err := c.Status(name, &imap.StatusOptions{NumMessages: true}).Wait()
	if err != nil {
		t.Fatalf("STATUS %s: %v", name, err)
	}
	return int(*status.NumMessages)
}
