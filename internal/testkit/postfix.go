package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Postfix is a private Postfix, which receives by SMTP for any recipient of one domain and
// writes to a Maildir, and which sends for whoever is on this machine. What is not needed
// for that is left at its defaults.
type Postfix struct {
	dir, addr string
	master    *exec.Cmd
}

// PostfixOptions say how a Postfix differs from others.
type PostfixOptions struct {
	// Dir is an existing directory, which becomes its own. Start makes one if it is empty.
	Dir string
	// Domain is what it receives for, Address where: an IP address and a port.
	Domain, Address string
	// Main and Master are more lines for its main.cf and its master.cf.
	Main, Master string
	// Resolver is the IP address of the name server that it asks, on port 53; empty is
	// the system's.
	Resolver string
}

const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.%[2]s
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = %[2]s
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
maillog_file = %[1]s/data/maillog
maillog_file_prefixes = %[1]s
alias_maps =
%[3]s
`

const postfixMaster = `%s inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
smtp unix - - n - - smtp
scache unix - - n - 1 scache
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
%s
`

// StartPostfix starts one that receives for domain at 127.0.0.1:port, with more lines
// for its main.cf, as PostfixOptions.Start does.
func StartPostfix(t testing.TB, domain string, port int, more string) *Postfix {
	t.Helper()
	return PostfixOptions{Domain: domain, Address: address(port), Main: more}.Start(t)
}

// Start starts a Postfix, until the test ends. It needs to be root; the test is skipped,
// or fails where parts are required, if it cannot.
func (o PostfixOptions) Start(t testing.TB) *Postfix {
	t.Helper()
	dir, err := os.MkdirTemp("", "postfix") // a test's own is closed to Postfix's users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o.Dir = dir
	p, err := o.Run()
	if errors.Is(err, ErrMissing) {
		Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	return p
}

// ErrMissing says that a part is not installed, or must not be started.
var ErrMissing = errors.New("a part is missing")

// Run starts a Postfix that runs until Stop, and returns when it answers.
func (o PostfixOptions) Run() (*Postfix, error) {
	const master = "/usr/lib/postfix/sbin/master"
	owner, err := user.Lookup("postfix")
	drop, errGroup := user.LookupGroup("postdrop")
	if _, errMaster := os.Stat(master); err != nil || errGroup != nil || errMaster != nil || os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: Postfix, or the right to start it", ErrMissing)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(drop.Gid)
	p := &Postfix{dir: o.Dir, addr: o.Address}
	conf := filepath.Join(p.dir, "conf")
	if err := errors.Join(p.makeDirs(uid, gid),
		os.WriteFile(filepath.Join(conf, "main.cf"), fmt.Appendf(nil, postfixMain, p.dir, o.Domain, o.Main), 0o644),
		os.WriteFile(filepath.Join(conf, "master.cf"), fmt.Appendf(nil, postfixMaster, o.Address, o.Master), 0o644)); err != nil {
		return nil, fmt.Errorf("set Postfix up: %w", err)
	}
	if p.master, err = o.command(master, "-c", conf, "-d"); err != nil {
		return nil, err
	}
	p.master.Env = append(os.Environ(), "MAIL_CONFIG="+conf)
	if err := p.master.Start(); err != nil {
		return nil, fmt.Errorf("start Postfix: %w", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", p.addr, time.Second)
		if err == nil {
			return p, conn.Close()
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("no Postfix answers: %w\n%s", err, p.Log()), p.Stop())
		}
	}
}

// Stop ends it.
func (p *Postfix) Stop() error {
	err := p.master.Process.Signal(syscall.SIGTERM)
	_ = p.master.Wait() // it ends by the signal, which is no error here
	return err
}

// PID is the process of which all its others are children.
func (p *Postfix) PID() int { return p.master.Process.Pid }

// Addr is where it listens.
func (p *Postfix) Addr() string { return p.addr }

// Maildir is what it delivers to. It comes into being with the first message.
func (p *Postfix) Maildir() string { return filepath.Join(p.dir, "mail", "box") }

// command runs a program that asks the Resolver: where nobody else sees it, another file
// is mounted over /etc/resolv.conf.
func (o PostfixOptions) command(args ...string) (*exec.Cmd, error) {
	if o.Resolver == "" {
		return exec.Command(args[0], args[1:]...), nil
	}
	file := filepath.Join(o.Dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+o.Resolver+"\noptions edns0 trust-ad\n"), 0o644); err != nil {
		return nil, err
	}
	alone := []string{"--mount", "--propagation", "private"}
	if err := exec.Command("unshare", append(alone, "true")...).Run(); err != nil {
		return nil, fmt.Errorf("%w: a mount namespace of its own: %w", ErrMissing, err)
	}
	script := []string{"sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file}
	return exec.Command("unshare", slices.Concat(alone, script, args)...), nil
}

func (p *Postfix) makeDirs(uid, gid int) error {
	type made struct {
		path     string
		mode     os.FileMode
		uid, gid int
	}
	dirs := []made{{"", 0o755, 0, 0}, {"conf", 0o755, 0, 0}, {"queue", 0o755, 0, 0}, {"data", 0o755, uid, 0}, {"mail", 0o755, 65534, 65534},
		{"queue/pid", 0o755, 0, 0}, {"queue/public", 0o710, uid, gid}, {"queue/maildrop", 0o730, uid, gid}}
	for _, q := range []string{"incoming", "active", "deferred", "defer", "bounce", "trace", "hold", "flush", "saved", "corrupt", "private"} {
		dirs = append(dirs, made{"queue/" + q, 0o700, uid, 0})
	}
	for _, d := range dirs {
		path := filepath.Join(p.dir, d.path)
		if err := errors.Join(os.MkdirAll(path, d.mode), os.Chmod(path, d.mode), os.Chown(path, d.uid, d.gid)); err != nil {
			return err
		}
	}
	return nil
}

// Log is what Postfix has logged.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "data", "maillog"))
	return string(b)
}

// Messages waits until n messages are there, or a minute, and returns them as Postfix
// wrote them: with its own header fields, and LF at the ends of lines.
func (p *Postfix) Messages(t testing.TB, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		files, _ := filepath.Glob(filepath.Join(p.Maildir(), "new", "*"))
		if len(files) < n && time.Now().Before(deadline) {
			continue
		}
		if len(files) < n {
			t.Fatalf("%d messages of %d\n%s", len(files), n, p.Log())
		}
		var all []string
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
		return all
	}
}
