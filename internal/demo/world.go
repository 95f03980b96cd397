package demo

import (
	"io"
	"net"
	"sync"

	"github.com/emersion/go-smtp"
)

// world stands for all other mail servers. As one that greylists it puts everybody off
// at first, until admit is called.
type world struct {
	server *smtp.Server
	addr   net.Addr

	mu    sync.Mutex
	takes bool
	got   map[string][]byte // by recipient, as it came
}

// openWorld lets the world listen on a free loopback port.
func openWorld() (*world, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &world{addr: l.Addr(), got: make(map[string][]byte)}
	w.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &visit{world: w}, nil
	}))
	w.server.Domain = "mx.elsewhere.test"
	go func() { _ = w.server.Serve(l) }() // ends with close
	return w, nil
}

func (w *world) close() error { return w.server.Close() }

// admit lets it take what comes from now on.
func (w *world) admit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.takes = true
}

// mailTo is what came for a recipient; nil if nothing has.
func (w *world) mailTo(rcpt string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got[rcpt]
}

// visit is one connection to the world.
type visit struct {
	*world
	to []string
}

// Mail implements smtp.Session.
func (v *visit) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt implements smtp.Session.
func (v *visit) Rcpt(to string, _ *smtp.RcptOptions) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.takes {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted, come back later"}
	}
	v.to = append(v.to, to)
	return nil
}

// Data implements smtp.Session.
func (v *visit) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, to := range v.to {
		v.got[to] = message
	}
	return nil
}

// Reset implements smtp.Session.
func (v *visit) Reset() { v.to = nil }

// Logout implements smtp.Session.
func (v *visit) Logout() error { return nil }
