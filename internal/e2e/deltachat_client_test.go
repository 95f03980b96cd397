package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// deltaChat is the core of Delta Chat, which is driven by JSON-RPC on its standard input
// and output, with all the accounts of a test.
type deltaChat struct {
	t  testing.TB
	in io.Writer

	mu      sync.Mutex
	last    int
	waiting map[int]chan dcReply
	events  []dcEvent
}

type dcReply struct {
	ID     int
	Result json.RawMessage
	Error  *struct{ Message string }
}

// dcEvent is something that happened in an account.
type dcEvent struct {
	ContextID int
	Event     struct {
		Kind     string
		Progress int
		ChatID   int
		MsgID    int
		Msg      string // of Info, Warning and Error
	}
}

func newDeltaChat(t testing.TB) *deltaChat {
	t.Helper()
	cmd := exec.Command(nodeModule(t, "@deltachat/stdio-rpc-server-*/deltachat-rpc-server"))
	cmd.Env = append(os.Environ(), "DC_ACCOUNTS_PATH="+filepath.Join(t.TempDir(), "accounts"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &deltaChat{t: t, in: in, waiting: map[int]chan dcReply{}}
	var reading sync.WaitGroup
	reading.Go(func() { d.read(out) })
	t.Cleanup(func() {
		in.Close() // it ends then, when it has written down what it has to
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		reading.Wait()
		_ = cmd.Wait()
		late.Stop()
		if t.Failed() {
			d.tell()
		}
	})
	reading.Go(d.listen)
	return d
}

// read hands replies to those who wait for them, until Delta Chat ends.
func (d *deltaChat) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r dcReply
		if json.Unmarshal(line, &r) != nil {
			continue
		}
		d.mu.Lock()
		if c := d.waiting[r.ID]; c != nil {
			c <- r
			delete(d.waiting, r.ID)
		}
		d.mu.Unlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, c := range d.waiting {
		close(c)
		delete(d.waiting, id)
	}
	d.waiting = nil
}

// listen collects events.
func (d *deltaChat) listen() {
	for {
		r, ok := <-d.ask("get_next_event_batch")
		var batch []dcEvent
		if !ok || json.Unmarshal(r.Result, &batch) != nil {
			return
		}
		d.mu.Lock()
		d.events = append(d.events, batch...)
		d.mu.Unlock()
	}
}

// ask sends a request. The channel is closed without a reply if Delta Chat has ended.
func (d *deltaChat) ask(method string, params ...any) <-chan dcReply {
	if params == nil {
		params = []any{}
	}
	c := make(chan dcReply, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		close(c)
		return c
	}
	d.last++
	d.waiting[d.last] = c
	line, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": d.last, "method": method, "params": params}) // strings, numbers and maps of them
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		delete(d.waiting, d.last)
		close(c)
	}
	return c
}

// call asks, requires an answer and reads it into result, which may be nil.
func (d *deltaChat) call(result any, method string, params ...any) {
	d.t.Helper()
	r := receive(d.t, "an answer to "+method, d.ask(method, params...))
	if r.Error != nil {
		d.t.Fatalf("Delta Chat: %s: %s", method, r.Error.Message)
	}
	if result != nil {
		if err := json.Unmarshal(r.Result, result); err != nil {
			d.t.Fatalf("Delta Chat: %s: %v in %s", method, err, r.Result)
		}
	}
}

// now is the number of events so far.
func (d *deltaChat) now() int { return len(d.after(0)) }

// wait waits for an event of an account behind the first since ones.
func (d *deltaChat) wait(since, account int, what string, is func(e dcEvent) bool) {
	d.t.Helper()
	eventually(d.t, what, func() bool {
		return slices.ContainsFunc(d.after(since), func(e dcEvent) bool { return e.ContextID == account && is(e) })
	})
}

// incoming waits for the next message of somebody that an account shows.
func (d *deltaChat) incoming(since, account int, from string) (m dcMessage) {
	d.t.Helper()
	looked := map[int]bool{}
	eventually(d.t, "Delta Chat shows a message of "+from, func() bool {
		for _, e := range d.after(since) {
			if e.ContextID != account || e.Event.Kind != "IncomingMsg" || looked[e.Event.MsgID] {
				continue
			}
			looked[e.Event.MsgID] = true
			m = dcMessage{}
			d.call(&m, "get_message", account, e.Event.MsgID)
			if m.chat = e.Event.ChatID; m.Sender.Address == from {
				return true
			}
		}
		return false
	})
	return m
}

// after returns the events behind the first since ones.
func (d *deltaChat) after(since int) []dcEvent {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events[since:])
}

// dcMessage is a message as it is shown.
type dcMessage struct {
	Text, Subject string
	ShowPadlock   bool
	Sender        struct{ Address string }
	chat          int
}

// tell prints what went on, for who has to find out why a test failed.
func (d *deltaChat) tell() {
	text := ""
	for _, e := range d.after(max(0, d.now()-60)) {
		text += fmt.Sprintf("%d %s %d %s\n", e.ContextID, e.Event.Kind, e.Event.Progress, e.Event.Msg)
	}
	d.t.Logf("Delta Chat tells:\n%s", text)
}
