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

// Postfix is a Postfix of the test's own, which receives by SMTP for any recipient of
// one domain and writes to a Maildir, and which sends for whoever is on this machine.
type Postfix struct {
	dir string
}

// PostfixOptions say how a Postfix differs from others.
type PostfixOptions struct {
	// Domain is what it receives for, Address where: an IP address and a port.
	Domain, Address string
	// Main are more lines for its main.cf.
	Main string
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
virtual unix - n n - - virtual
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
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
	const master = "/usr/lib/postfix/sbin/master"
	owner, err := user.Lookup("postfix")
	drop, errGroup := user.LookupGroup("postdrop")
	if _, errMaster := os.Stat(master); err != nil || errGroup != nil || errMaster != nil || os.Geteuid() != 0 {
		Missing(t, "Postfix, or the right to start it")
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(drop.Gid)
	dir, err := os.MkdirTemp("", "postfix") // a test's own is closed to Postfix's users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &Postfix{dir: dir}
	conf := filepath.Join(p.dir, "conf")
	if err := errors.Join(p.makeDirs(uid, gid),
		os.WriteFile(filepath.Join(conf, "main.cf"), fmt.Appendf(nil, postfixMain, p.dir, o.Domain, o.Main), 0o644),
		os.WriteFile(filepath.Join(conf, "master.cf"), fmt.Appendf(nil, postfixMaster, o.Address), 0o644)); err != nil {
		t.Fatal(err)
	}
	c := o.command(t, p.dir, master, "-c", conf, "-d")
	c.Env = append(os.Environ(), "MAIL_CONFIG="+conf)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait() // it ends by the signal, which is no error here
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", o.Address, time.Second)
		if err == nil {
			conn.Close()
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("Postfix does not start: %v\n%s", err, p.Log())
		}
	}
}

// command runs a program that asks the Resolver: where nobody else sees it, another file
// is mounted over /etc/resolv.conf.
func (o PostfixOptions) command(t testing.TB, dir string, args ...string) *exec.Cmd {
	t.Helper()
	if o.Resolver == "" {
		return exec.Command(args[0], args[1:]...)
	}
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+o.Resolver+"\noptions edns0 trust-ad\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	alone := []string{"--mount", "--propagation", "private"}
	unshare := Parts(t, "unshare")["unshare"]
	if err := exec.Command(unshare, append(alone, "true")...).Run(); err != nil {
		Missing(t, "a mount namespace of its own: "+err.Error())
	}
	script := []string{"sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file}
	return exec.Command(unshare, slices.Concat(alone, script, args)...)
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
		files, _ := filepath.Glob(filepath.Join(p.dir, "mail", "box", "new", "*"))
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
