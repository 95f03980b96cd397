package e2e

import (
	"fmt"
	"strings"
	"testing"

	"postern/internal/testkit"
)

// imaplibScript is a session of Python's imaplib. It prints a line for each check.
const imaplibScript = `
import email, hashlib, hmac, base64, imaplib, os, re, smtplib, ssl, sys, time

imap, imaps, mx, cert, login, password = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5], sys.argv[6]
context = ssl.create_default_context(cafile=cert)

def check(what, ok, detail=""):
    print("ok" if ok else "FAILED", what, "" if ok else repr(detail), flush=True)

def deliver(subject, n=1):
    s = smtplib.SMTP("127.0.0.1", mx)
    for i in range(n):
        s.sendmail("bob@example.net", [login], "From: Bob <bob@example.net>\r\nTo: %s\r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <%s-%d@example.net>\r\nSubject: %s\r\n\r\nhello\r\n" % (login, subject, i, subject))
    s.quit()

def connect():
    m = imaplib.IMAP4_SSL("127.0.0.1", imaps, ssl_context=context)
    typ, _ = m.login(login, password)
    check("login", typ == "OK")
    return m

deliver("first", 5)

# STARTTLS; no login before it
m = imaplib.IMAP4("127.0.0.1", imap)
check("LOGINDISABLED", "LOGINDISABLED" in m.capabilities and "STARTTLS" in m.capabilities, m.capabilities)
try:
    m.login(login, password)
    check("login in clear is refused", False)
except imaplib.IMAP4.error:
    check("login in clear is refused", True)
m.starttls(context)
check("capabilities by TLS", "LOGINDISABLED" not in m.capabilities and "AUTH=SCRAM-SHA-256" in m.capabilities, m.capabilities)
m.login(login, password)
check("login after STARTTLS", m.state == "AUTH")
m.logout()

# SCRAM-SHA-256, RFC 5802 and 7677, written out
class Scram:
    def __init__(self, user, password, certificate=None):
        self.user, self.password, self.nonce, self.step, self.verified = user, password, base64.b64encode(os.urandom(18)).decode(), 0, False
        # Channel binding to the server's certificate, RFC 5929
        self.gs2, self.binding = ("p=tls-server-end-point,,", hashlib.sha256(certificate).digest()) if certificate else ("n,,", b"")
        self.first = "n=%s,r=%s" % (user.replace("=", "=3D").replace(",", "=2C"), self.nonce)
    def __call__(self, challenge):
        self.step += 1
        if self.step == 1:
            return self.gs2 + self.first
        challenge = challenge.decode()
        f = dict(p.split("=", 1) for p in challenge.split(","))
        if self.step == 2:
            assert f["r"].startswith(self.nonce) and len(f["r"]) > len(self.nonce), challenge
            self.iterations = int(f["i"])
            salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(f["s"]), self.iterations)
            h = lambda k, s: hmac.new(k, s.encode(), "sha256").digest()
            client, final = h(salted, "Client Key"), "c=" + base64.b64encode(self.gs2.encode() + self.binding).decode() + ",r=" + f["r"]
            auth = ",".join([self.first, challenge, final])
            proof = bytes(a ^ b for a, b in zip(client, h(hashlib.sha256(client).digest(), auth)))
            self.server = h(h(salted, "Server Key"), auth)
            return final + ",p=" + base64.b64encode(proof).decode()
        self.verified = base64.b64decode(f["v"]) == self.server
        return ""
m = imaplib.IMAP4_SSL("127.0.0.1", imaps, ssl_context=context)
scram = Scram(login, password)
m.authenticate("SCRAM-SHA-256", scram)
check("SCRAM-SHA-256", m.state == "AUTH", m.state)
check("SCRAM-SHA-256 verifies the server", scram.verified, scram.step)
check("SCRAM-SHA-256 iterations", scram.iterations >= 4096, scram.iterations)
check("the session works", m.select()[0] == "OK")
m.logout()
m = imaplib.IMAP4_SSL("127.0.0.1", imaps, ssl_context=context)
check("SCRAM-SHA-256-PLUS is offered", "AUTH=SCRAM-SHA-256-PLUS" in m.capabilities, m.capabilities)
scram = Scram(login, password, m.sock.getpeercert(binary_form=True))
m.authenticate("SCRAM-SHA-256-PLUS", scram)
check("SCRAM-SHA-256-PLUS", m.state == "AUTH" and scram.verified, m.state)
m.logout()
m = imaplib.IMAP4_SSL("127.0.0.1", imaps, ssl_context=context)
try:
    m.authenticate("SCRAM-SHA-256-PLUS", Scram(login, password, b"the certificate of somebody in between"))
    check("SCRAM-SHA-256-PLUS with another certificate", False)
except imaplib.IMAP4.error:
    check("SCRAM-SHA-256-PLUS with another certificate", True)
m.shutdown()
for user, word in (login, "wrong"), ("nobody@example.org", password):
    m = imaplib.IMAP4_SSL("127.0.0.1", imaps, ssl_context=context)
    scram = Scram(user, word)
    try:
        m.authenticate("SCRAM-SHA-256", scram)
        check("SCRAM with " + user + " and a wrong password", False)
    except imaplib.IMAP4.error:
        check("SCRAM with " + user + " and a wrong password", scram.step == 2 and not scram.verified, scram.step)
    m.shutdown()

m = connect()
typ, data = m.select("INBOX")
check("SELECT", typ == "OK" and data == [b"5"], data)
validity = m.response("UIDVALIDITY")[1]
check("UIDVALIDITY", validity and int(validity[0]) > 0, validity)

# SEARCH
for criteria, want in [("ALL", b"1 2 3 4 5"), ("FROM bob", b"1 2 3 4 5"), ("FROM eve", b""), ("UNSEEN", b"1 2 3 4 5"), ("SEEN", b""),
        ("SENTON 2-Mar-2026", b"1 2 3 4 5"), ("SENTBEFORE 1-Jan-2026", b""), ("HEADER Message-ID first-2", b"3"), ("LARGER 100", b"1 2 3 4 5"), ("SMALLER 100", b""),
        ("UID 2:3", b"2 3"), ("NOT 1:4", b"5"), ("OR 1 HEADER Message-ID first-4", b"1 5"), ("SUBJECT first", b"")]:
    typ, data = m.search(None, criteria)
    check("SEARCH " + criteria, typ == "OK" and data == [want], data)
try:
    typ, data = m.search(None, "BODY hello")
except imaplib.IMAP4.error as e:
    typ, data = "BAD", str(e)
check("SEARCH BODY is refused, not answered wrongly", typ == "NO", (typ, data))

# FETCH
typ, data = m.fetch("1", "(UID FLAGS RFC822.SIZE INTERNALDATE ENVELOPE BODYSTRUCTURE)")
line = data[0]
check("FETCH", typ == "OK" and b"UID 1" in line and b'"[...]"' in line and b"first-0@example.net" in line and b'"encrypted"' in line.lower(), line)
size = int(re.search(rb"RFC822.SIZE (\d+)", line).group(1))
whole = m.fetch("1", "(BODY.PEEK[])")[1][0][1]
check("RFC822.SIZE", len(whole) == size, (len(whole), size))
check("FETCH RFC822.HEADER", m.fetch("1", "(RFC822.HEADER)")[1][0][1] == whole[:whole.index(b"\r\n\r\n") + 4])
check("FETCH BODY[TEXT]", m.fetch("1", "(BODY.PEEK[TEXT])")[1][0][1] == whole[whole.index(b"\r\n\r\n") + 4:])
check("FETCH partial", m.fetch("1", "(BODY.PEEK[]<100.50>)")[1][0][1] == whole[100:150])
message = email.message_from_bytes(whole)
check("structure", message.get_content_type() == "multipart/encrypted" and len(message.get_payload()) == 2, message.get_content_type())
part = m.fetch("1", "(BODY.PEEK[2])")[1][0][1]
check("FETCH BODY[2]", part.startswith(b"-----BEGIN PGP MESSAGE-----") and part.rstrip().endswith(b"-----END PGP MESSAGE-----"), part[:80])
check("FETCH BODY[1]", m.fetch("1", "(BODY.PEEK[1])")[1][0][1] == b"Version: 1\r\n")
check("PEEK sets no flag", m.search(None, "SEEN")[1] == [b""])
m.fetch("2", "(BODY[])")
check("BODY[] sets \\Seen", m.search(None, "SEEN")[1] == [b"2"])

# STORE
check("STORE", b"\\Flagged" in m.store("1", "+FLAGS", "(\\Flagged $Work)")[1][0])
check("keywords", m.search(None, "KEYWORD $Work FLAGGED")[1] == [b"1"])
m.store("1", "-FLAGS", "($Work)")
check("keyword removed", m.search(None, "KEYWORD $Work")[1] == [b""])

# mailboxes
check("CREATE", m.create("Work/Projects")[0] == "OK")
check("SUBSCRIBE", m.subscribe("Work/Projects")[0] == "OK" and any(b"Projects" in l for l in m.lsub()[1]))
check("RENAME", m.rename("Work/Projects", "Work/Archive")[0] == "OK")
check("RENAME to what exists", m.rename("Work/Archive", "INBOX")[0] == "NO")
names = m.list()[1]
check("LIST", any(b"Work/Archive" in l for l in names) and any(b"\\Trash" in l for l in names), names)
check("NAMESPACE", m.namespace()[0] == "OK")

# COPY, MOVE, EXPUNGE
typ, data = m.copy("1:2", "Work/Archive")
check("COPY", typ == "OK" and b"COPYUID" in data[0] and data[0].split(b"]")[0].endswith(b" 1:2 1:2"), data)
status = m.status("Work/Archive", "(MESSAGES UIDNEXT UNSEEN)")[1][0]
check("STATUS", b"MESSAGES 2" in status and b"UIDNEXT 3" in status and b"UNSEEN 1" in status, status)
check("COPY to nowhere", m.copy("1", "Nowhere")[0] == "NO")
check("MOVE", m.uid("MOVE", "5", "Trash")[0] == "OK" and m.search(None, "ALL")[1] == [b"1 2 3 4"])
m.store("2", "+FLAGS", "(\\Deleted)")
check("EXPUNGE", m.expunge()[1][-1:] == [b"2"])
check("UIDs stay", m.uid("SEARCH", None, "ALL")[1] == [b"1 3 4"])

# APPEND
sent = b"From: alice@example.org\r\nTo: bob@example.net\r\nSubject: sent\r\n\r\na copy of what was sent\r\n"
typ, data = m.append("Sent", "(\\Seen $Sent)", '"02-Mar-2026 11:00:00 +0000"', sent)
check("APPEND", typ == "OK" and b"APPENDUID" in data[0], data)
check("APPEND to nowhere", m.append("Nowhere", "", None, sent)[0] == "NO")
m.select("Sent", readonly=True)
line = m.fetch("1", "(FLAGS INTERNALDATE)")[1][0]
check("APPEND's flags and date", b"\\Seen" in line and b"$Sent" in line and b" 2-Mar-2026 11:00:00 +0000" in line or b"02-Mar-2026 11:00:00 +0000" in line, line)
check("APPEND is sealed", b"BEGIN PGP MESSAGE" in m.fetch("1", "(BODY.PEEK[])")[1][0][1])
check("EXAMINE is read-only", m.state == "SELECTED" and m.is_readonly)
m.select("INBOX")

# IDLE, which this imaplib does not know
tag = m._new_tag()
m.send(tag + b" IDLE\r\n")
check("IDLE", m.readline().startswith(b"+ "))
deliver("while idle")
line = m.readline()
check("IDLE hears of mail", line == b"* 4 EXISTS\r\n", line)
m.send(b"DONE\r\n")
while not line.startswith(tag):
    line = m.readline()
check("IDLE ends", line.startswith(tag + b" OK"), line)

check("DELETE", m.delete("Work/Archive")[0] == "OK")
check("CLOSE", m.close()[0] == "OK")
check("LOGOUT", m.logout()[0] == "BYE")
print("done")
`

func TestPythonReads(t *testing.T) {
	t.Parallel()
	python := testkit.Parts(t, "python3")["python3"]
	g := newGateway(t, options{})
	out, errOut, err := tool(t, nil, python, "-c", imaplibScript, fmt.Sprint(g.base+143), fmt.Sprint(g.base+993), fmt.Sprint(g.base+25),
		g.tlsCert(), owner, g.password)
	passed := 0
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "FAILED") {
			t.Error(line)
		}
		if strings.HasPrefix(line, "ok ") {
			passed++
		}
	}
	if err != nil || !strings.HasSuffix(string(out), "done\n") {
		t.Errorf("%v: %s\n%s", err, out, errOut)
	}
	t.Logf("%d checks passed", passed)
}
