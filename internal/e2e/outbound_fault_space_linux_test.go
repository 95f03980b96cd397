package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/internal/testkit"
)

// The disk fills up while mail is submitted and carried: clients are told to try again
// later, and why; what was accepted before is carried when there is room; and nothing in
// clear is left behind. It runs in namespaces of its own, where it may mount a small disk.
func TestP4_OutboundFullDisk(t *testing.T) {
	if !testkit.Apart(t) {
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip: %v %s", err, out)
	}
	o := newOutside(t)
	o.join(&hop{domain: "good.test"})
	phases := []string{"running", "killed"}
	for _, phase := range phases {
		o.join(&hop{domain: "later-" + phase + ".test", wrong: at("end", say("451 4.7.1 grey\r\n"))})
		o.join(&hop{domain: "slow-" + phase + ".test", wrong: func(h *hop, _ *testkit.MTAConn, stage string) bool {
			if stage == "end" {
				<-h.healed // and then it takes the message
			}
			return false
		}})
	}
	g := o.gateway(options{errorsExpected: true, config: map[string]string{"queue.retry_first": `"1s"`}})
	disk := g.smallDisk(t)
	s := &spaceMails{t: t, g: g, submitter: g.submitter(t), accepted: map[string]string{}}
	for _, phase := range phases {
		s.fillUp(disk, o.hop("later-"+phase+".test"), o.hop("slow-"+phase+".test"))
		if phase == "killed" { // what is on the disk is enough for the next start
			g.kill()
			searchTree(t, canaryNeedles(faultCanary), g.dir, g.tmp).none(t, "after kill -9 with a full disk")
		}
		disk.free()
		if phase == "killed" {
			g.start()
			s.submitter = g.submitter(t)
		}
		s.taken("sealed", "good.test", 1000)
		s.taken("clear", "good.test", 3<<20)
		explained(t, phase+": all that was accepted is carried", func() bool { return len(g.queueList(t)) == 0 }, func() {
			for _, q := range g.queueList(t) {
				t.Logf("%s: %s: %s", q.Recipient, q.State, q.Reason)
			}
		})
	}
	s.verify(o.hops)
	o.keepsItsFloors(t)
	searchTree(t, canaryNeedles(faultCanary), g.dir, g.tmp).none(t, "in the end")
	g.stop()
	g.check()
}

// fillUp takes the room while one server has put mail off and another has not yet
// answered, which they do when there is none left.
func (s *spaceMails) fillUp(disk *smallDisk, later, slow *hop) {
	t, g := s.t, s.g
	t.Helper()
	for _, h := range []*hop{later, slow} {
		s.taken("sealed", h.domain, 1000)
		s.taken("clear", h.domain, 300_000)
	}
	eventually(t, "one server has its mail, and has not answered", func() bool { return strings.Count(slow.Clear(), "\r\n.\r\n") == 2 })
	// No room for large messages, but for small ones.
	disk.fill(8 << 20)
	for range 3 {
		s.putOff("clear", "good.test", 20<<20)
		s.taken("sealed", "good.test", 1000)
	}
	// No room at all: neither for mail, nor to write down what became of it.
	disk.fill(0)
	slow.heal()
	eventually(t, "it takes its mail", func() bool { return len(slow.Messages()) >= 2 })
	for range 3 {
		s.putOff("sealed", "good.test", 1000)
		s.putOff("clear", later.domain, 100)
		s.putOff("clear", "good.test", 3<<20)
	}
	searchTree(t, canaryNeedles(faultCanary), g.dir, g.tmp).none(t, "with a full disk")
	f, _ := searchOpenFiles(t, g.pid(), canaryNeedles(faultCanary))
	f.none(t, "with a full disk, open files")
	if _, errOut, code := command(t, nil, "queue", "retry", "--all", "--config", g.configFile); code != 1 || !strings.Contains(string(errOut), "full") {
		t.Errorf("queue retry with a full disk: %d %s", code, errOut)
	}
	later.heal()
}

// spaceMails are messages of known size, and what became of them.
type spaceMails struct {
	t *testing.T
	g *gateway
	*submitter
	sent     int
	accepted map[string]string // recipients by Message-ID
}

func (s *spaceMails) send(floor, domain string, size int) (id, to string, err error) {
	s.sent++
	id, to = fmt.Sprintf("%d.0", s.sent), floor+"@"+domain
	text := fmt.Sprintf("From: %s\r\nTo: %s\r\nMessage-ID: <%s@load.example>\r\nSubject: %s-%s\r\n\r\n%s-%s\r\n%s", owner, to, id,
		faultCanary, floor, faultCanary, floor, strings.Repeat(strings.Repeat("x", 70)+"\r\n", size/72))
	_, err = s.submit(text, to)
	return id, to, err
}

// taken submits a message that has to be accepted.
func (s *spaceMails) taken(floor, domain string, size int) {
	s.t.Helper()
	id, to, err := s.send(floor, domain, size)
	if err != nil {
		s.t.Fatalf("%d octets to %s: %v", size, to, err)
	}
	s.accepted[id] = to
}

// putOff submits one for which there is no room.
func (s *spaceMails) putOff(floor, domain string, size int) {
	s.t.Helper()
	_, to, err := s.send(floor, domain, size)
	reply := (*smtp.SMTPError)(nil)
	if !errors.As(err, &reply) || reply.Code != 452 || reply.EnhancedCode != (smtp.EnhancedCode{4, 3, 1}) || !strings.Contains(reply.Message, "storage") {
		s.t.Errorf("%d octets to %s: %v", size, to, err)
	}
}

// verify requires that all that was accepted came, and nothing else.
func (s *spaceMails) verify(hops []*hop) {
	s.t.Helper()
	times := map[string]int{}
	for _, h := range hops {
		for _, m := range h.Messages() {
			id := loadID.FindStringSubmatch(m.Content)[1]
			times[id]++
			if !strings.Contains(strings.Join(m.Rcpts, ""), "<"+s.accepted[id]+">") {
				s.t.Errorf("message %s came to %q, and was accepted for %q", id, m.Rcpts, s.accepted[id])
			}
		}
	}
	duplicates := 0
	for id, to := range s.accepted {
		if times[id] == 0 {
			s.t.Errorf("message %s to %s was accepted, and is lost", id, to)
		}
		duplicates += max(times[id]-1, 0)
	}
	s.t.Logf("%d accepted, %d carried twice because it could not be written down", len(s.accepted), duplicates)
}

// smallDisk is a disk of 64 MiB that a gateway's data lie on.
type smallDisk struct {
	t      *testing.T
	dir    string
	filler string
}

// smallDisk moves the data of the gateway to one.
func (g *gateway) smallDisk(t *testing.T) *smallDisk {
	t.Helper()
	g.stop()
	dir := g.path("data")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Rename(dir, dir+".before"))
	must(os.Mkdir(dir, 0o700))
	must(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=0700"))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	must(os.CopyFS(dir, os.DirFS(dir+".before")))
	must(os.RemoveAll(dir + ".before"))
	g.start()
	return &smallDisk{t: t, dir: dir, filler: dir + "/filler"}
}

// fill takes all room but so many octets.
func (d *smallDisk) fill(leave int64) {
	d.t.Helper()
	f, err := os.OpenFile(d.filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	// Somebody else may give room back meanwhile.
	for range 5 {
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatal("fill the disk: ", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	info, err := f.Stat()
	if err == nil && leave > 0 {
		err = f.Truncate(info.Size() - leave)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(d.filler); err != nil {
		d.t.Fatal(err)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
