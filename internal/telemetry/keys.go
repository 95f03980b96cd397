package telemetry

// The keys of log attributes. Packages log with these and no others, so that a line
// can be searched for, and so that what holds an address is known by its key.
const (
	// KeyID is the log id of one transaction or session; replies to a peer quote it.
	KeyID = "id"
	// KeyError is an error's text.
	KeyError = "error"
	// KeyStack is where a panic happened.
	KeyStack = "stack"
	// KeyPart is the room that speaks: "smtpd", "store" and so on.
	KeyPart = "part"
	// KeyListener is the local name of a listener: "mx", "submission", "imaps".
	KeyListener = "listener"
	// KeyAddr is our own end of a connection, as listened on.
	KeyAddr = "addr"
	// KeyTLS is the version and cipher suite of a connection.
	KeyTLS = "tls"
	// KeyHelo is what the client called itself in EHLO.
	KeyHelo = "helo"
	// KeyDomain is a domain without a local-part.
	KeyDomain = "domain"
	// KeyCode is a reply code with its enhanced status code.
	KeyCode = "code"
	// KeyCommand is the name of a protocol command, without its arguments.
	KeyCommand = "command"
	// KeyHost is the name of the host that a copy was carried to.
	KeyHost = "host"
	// KeyReply is what a host said: a Said.
	KeyReply = "reply"
	// KeyQueued is the id of a recipient in the queue, as postern queue lists it.
	KeyQueued = "queued"
	// KeyResult is how something ended, one short word.
	KeyResult = "result"
	// KeyReason is why, a few fixed words.
	KeyReason = "reason"
	// KeyClass is the class of a stored message.
	KeyClass = "class"
	// KeyLevel is a level of protection.
	KeyLevel = "protection"
	// KeyMethod is a method of authentication: "spf", "SCRAM-SHA-256".
	KeyMethod = "method"
	// KeyMessage is the id of a stored message.
	KeyMessage = "message"
	// KeyMailbox is the id of a mailbox; its name may tell something of its owner.
	KeyMailbox = "mailbox"
	// KeyBlob is a blob's ref.
	KeyBlob = "blob"
	// KeyFingerprint is a certificate's fingerprint.
	KeyFingerprint = "fingerprint"
	// KeyPath is a file or directory of the gateway's own.
	KeyPath = "path"
	// KeySize is a size in octets.
	KeySize = "size"
	// KeyCount is a number of things.
	KeyCount = "count"
	// KeyDuration is how long it took.
	KeyDuration = "duration"

	// KeyFrom is the reverse-path. Hidden unless addresses are asked for.
	KeyFrom = "from"
	// KeyRcpt is a recipient's address. Hidden likewise.
	KeyRcpt = "rcpt"
	// KeyAccount is the address of an account. Hidden likewise.
	KeyAccount = "account"
	// KeyLogin is what somebody gave as a user name. Hidden likewise.
	KeyLogin = "login"
	// KeyIP is the peer's IP address. Hidden likewise.
	KeyIP = "ip"
)

// holdsAddress reports whether values under this key are hidden whole.
func holdsAddress(key string) bool {
	switch key {
	case KeyFrom, KeyRcpt, KeyAccount, KeyLogin, KeyIP:
		return true
	}
	return false
}

// neverLogged reports whether values under this key are dropped whatever the
// operator wants. Nothing of ours logs them; this is for the day somebody does.
func neverLogged(key string) bool {
	switch key {
	case "subject", "password", "secret", "passphrase":
		return true
	}
	return false
}
