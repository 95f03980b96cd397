// Package config is the shape of postern.toml: what can be set, what it means,
// what it is if nobody says, and what is refused.
//
//	config.go    the keys, each with the comment that the file shows, and defaults
//	value.go     sizes and durations as people write them
//	load.go      reads a file: unknown keys are errors with their line
//	validate.go  what values are allowed
//	redis.go     reads the URL of a Redis
//	route.go     reads a route of mail
//	render.go    writes the commented file
//	ports.go     the port numbers of a set-up
//
// A key that is absent has its default, and every default is safe. The package
// only reads the configuration file; it does not look whether other files exist,
// open ports or ask DNS ("postern check" does).
package config

import "time"

// Config is the whole of postern.toml. The tag toml names a key and doc is its
// comment in the file. Paths are absolute after Load.
type Config struct {
	Hostname   string   `toml:"hostname" doc:"This server's name in DNS. It greets with it, signs trace fields with it, and MX records point to it."`
	Domains    []string `toml:"domains" doc:"The domains that mail is accepted for. The first is the one that bare \"postmaster\" belongs to."`
	Postmaster string   `toml:"postmaster" doc:"The account that gets mail for postmaster where no account has that name. Empty: the oldest account."`
	DataDir    string   `toml:"data_dir" doc:"Where mail and the database lie. What messages say is in there as ciphertext only. Paths in this file are relative to the file itself."`
	KeysDir    string   `toml:"keys_dir" doc:"Where the gateway's own secret keys lie. Keep it out of data_dir and back it up apart from it: whoever has both can open copies that are held until their owner has a certificate."`

	TLS        TLS        `toml:"tls" doc:"The certificate that SMTP, IMAP and HTTPS show. SIGHUP loads it again."`
	SMTP       SMTP       `toml:"smtp" doc:"Mail that other servers deliver to us (MX)."`
	Submission Submission `toml:"submission" doc:"Mail that our users send. max_message_size, max_recipients and the limits of connections are those of smtp."`
	IMAP       IMAP       `toml:"imap" doc:"Mail that our users read."`
	HTTPS      HTTPS      `toml:"https" doc:"Where our users' certificates are found by whoever wants to write to them: Web Key Directory, and look-ups by HKP and VKS. It is asked by the names of the domains and by openpgpkey.DOMAIN, keys.DOMAIN and mta-sts.DOMAIN; the certificate above has to have these names too."`
	HTTP       HTTP       `toml:"http" doc:"Health and metrics: /livez, /readyz, /metrics."`
	DNS        DNS        `toml:"dns" doc:"Look-ups for SPF, DKIM and DMARC, and for the directory. Mail is accepted without the results of the first three if they take too long."`
	Directory  Directory  `toml:"directory" doc:"Where other people's certificates are found."`
	Policy     Policy     `toml:"policy" doc:"How mail that leaves is protected."`
	Seal       Seal       `toml:"seal" doc:"How mail that arrives in clear is encrypted to its recipient."`
	Queue      Queue      `toml:"queue" doc:"Mail that waits to be carried to other servers."`
	Delivery   Delivery   `toml:"delivery" doc:"How mail is carried to other servers."`
	Store      Store      `toml:"store" doc:"What accounts may keep."`
	Cluster    Cluster    `toml:"cluster" doc:"What several gateways with one store share besides: wake-ups, rate limits, and what one has looked up for all. All of it may be lost at any time: that makes them slower, and nothing wrong. keys_dir has to be the same on all of them."`
	Log        Log        `toml:"log" doc:"The log goes to standard error."`
}

// TLS names the certificate.
type TLS struct {
	Cert string `toml:"cert" doc:"The certificate chain, PEM, the server's own first."`
	Key  string `toml:"key" doc:"Its secret key, PEM."`
}

// SMTP is the MX.
type SMTP struct {
	Listen              string `toml:"listen" doc:"Address and port, such as \":25\" for all addresses or \"192.0.2.1:25\" or \"[2001:db8::1]:25\" for one. Empty: not served."`
	MaxMessageSize      Size   `toml:"max_message_size" doc:"The largest message that is accepted, here and by IMAP; other servers see it as SIZE. From \"64KiB\" to \"1GiB\"."`
	MaxRecipients       int    `toml:"max_recipients" doc:"The most recipients of one message. RFC 5321 asks for at least 100."`
	MaxConnections      int    `toml:"max_connections" doc:"The most connections at once."`
	MaxConnectionsPerIP int    `toml:"max_connections_per_ip" doc:"The most connections at once from one IPv4 address or one IPv6 /64."`
	ConnectionRate      int    `toml:"connection_rate" doc:"The most new connections a minute from one such address."`
	MessageRate         int    `toml:"message_rate" doc:"The most messages a minute from one such address."`
}

// Submission is the front end for the mail that accounts send.
type Submission struct {
	Listen            string `toml:"listen" doc:"Address and port that begins in clear and offers STARTTLS. Empty: not served."`
	ListenTLS         string `toml:"listen_tls" doc:"Address and port with TLS from the start. Empty: not served."`
	MessagesPerHour   int    `toml:"messages_per_hour" doc:"The most messages that one account may send in an hour: what somebody can do who has stolen a password."`
	RecipientsPerHour int    `toml:"recipients_per_hour" doc:"The most recipients that one account may write to in an hour, each counted once for each message."`
	AllowClearLogin   bool   `toml:"allow_clear_login" doc:"Allow passwords without TLS. Only where listen is a loopback address."`
}

// IMAP is the front end for mail clients.
type IMAP struct {
	Listen                   string `toml:"listen" doc:"Address and port that begins in clear and offers STARTTLS. Empty: not served."`
	ListenTLS                string `toml:"listen_tls" doc:"Address and port with TLS from the start. Empty: not served."`
	MaxConnections           int    `toml:"max_connections" doc:"The most connections at once."`
	MaxConnectionsPerIP      int    `toml:"max_connections_per_ip" doc:"The most connections at once from one IPv4 address or one IPv6 /64."`
	MaxConnectionsPerAccount int    `toml:"max_connections_per_account" doc:"The most connections at once that are logged in to one account. A mail program opens up to five on each device."`
	AllowClearLogin          bool   `toml:"allow_clear_login" doc:"Allow passwords without TLS. Only where listen is a loopback address."`
}

// HTTPS is the web server for everybody.
type HTTPS struct {
	Listen              string `toml:"listen" doc:"Address and port, such as \":443\", which is where others ask. Empty: not served."`
	ListenHKP           string `toml:"listen_hkp" doc:"Address and port for look-ups by HKP without TLS, such as \":11371\", for programs that know no other. Whoever listens on the way sees who is looked for. Empty: not served."`
	Publish             bool   `toml:"publish" doc:"Give an account's certificates to whoever asks for its address. Without, everybody is told that there is nothing. One account is left out by: postern account publish ADDRESS off."`
	MTASTS              string `toml:"mta_sts" doc:"What other servers are told by MTA-STS, at https://mta-sts.DOMAIN/.well-known/mta-sts.txt, of the TLS of this one. \"testing\": deliver in any case, and report what fails; \"enforce\": deliver only if the certificate above is valid for hostname and was issued by an authority that they trust; \"none\": nothing, which takes back what was said before."`
	RequestRate         int    `toml:"request_rate" doc:"The most requests a minute from one IPv4 address or one IPv6 /64."`
	MaxConnections      int    `toml:"max_connections" doc:"The most connections at once."`
	MaxConnectionsPerIP int    `toml:"max_connections_per_ip" doc:"The most connections at once from one such address."`
}

// HTTP is for whoever runs the server.
type HTTP struct {
	Listen string `toml:"listen" doc:"Address and port; it has to be a loopback address, because nobody is asked for a password. Empty: not served."`
}

// DNS is how names are looked up.
type DNS struct {
	Servers    []string `toml:"servers" doc:"Resolvers, as IP addresses with or without a port. Empty: those of /etc/resolv.conf. One on this machine that validates DNSSEC is best."`
	Validating []string `toml:"validating" doc:"Those of the servers that validate DNSSEC and whose word for it (the AD bit) is believed. Nobody must be able to come between them and this server. Empty: those with a loopback address. Without any, the directory does not ask \"dane\"."`
	Timeout    Duration `toml:"timeout" doc:"How long the look-ups for one message may take together. From \"100ms\" to \"30s\"."`
}

// Directory is where other people's certificates are found.
type Directory struct {
	Sources      []string `toml:"sources" doc:"Who is asked for the certificate of an address that is not ours, in this order: \"wkd\" is its domain's Web Key Directory, \"autocrypt\" what mail from it said, \"dane\" its domain's DNS (only if it is signed, see dns.validating), \"keyservers\" the key servers below. Empty: nobody."`
	KeyServers   []string `toml:"key_servers" doc:"Key servers, such as \"vks://keys.openpgp.org\" or \"hkps://keys.example.org\". Whoever runs one learns whom our users write to, and anybody may have put there what is found: that is why they are not among the sources unless you say so."`
	Timeout      Duration `toml:"timeout" doc:"How long one source may take. From \"100ms\" to \"30s\"."`
	CAFile       string   `toml:"ca_file" doc:"Certificate authorities that are trusted for these look-ups besides those of the system, PEM. Empty: none."`
	AllowPrivate bool     `toml:"allow_private" doc:"Ask hosts with loopback or private addresses too. Without, nobody can have this server ask machines that only it can reach."`
}

// Policy is how mail that leaves is protected.
type Policy struct {
	File string `toml:"file" doc:"The file with the rules, such as \"policy.toml\"; configs/policy.toml is one to start from. SIGHUP loads it again, and \"postern policy test\" tries it. Empty: mail is encrypted to whoever has a certificate, and to others goes in clear and is marked insecure."`
}

// Seal is how mail is sealed.
type Seal struct {
	Subject       string `toml:"subject" doc:"\"hide\": the subject outside of the encrypted part is \"[...]\". \"keep\": it stays readable, for clients that cannot show the one inside."`
	NoCertificate string `toml:"no_certificate" doc:"Mail to an account without a usable certificate: \"hold\" keeps it encrypted with a key of the gateway until there is one, \"reject\" refuses it."`
}

// Queue is what waits to be carried to other servers.
type Queue struct {
	Workers     int      `toml:"workers" doc:"The most deliveries at once. One that takes more than 10 seconds is not counted any more; there may be four times as many of those."`
	PerDomain   int      `toml:"per_domain" doc:"The most of them to one domain."`
	RetryFirst  Duration `toml:"retry_first" doc:"How long after the first attempt the next one is made; then twice as long each time. Mail that waits for a certificate is looked at again as soon, and every 5 minutes at least. At least \"1s\"."`
	RetryLast   Duration `toml:"retry_last" doc:"The longest time between two attempts."`
	WarnAfter   Duration `toml:"warn_after" doc:"The age at which the sender is told that a message is late, once. \"0s\": never."`
	GiveUpAfter Duration `toml:"give_up_after" doc:"The age at which a message goes back to its sender. RFC 5321 asks for four to five days."`
}

// Delivery is how mail is carried to other servers.
type Delivery struct {
	Routes       []string `toml:"routes" doc:"Domains whose mail goes to a certain host in place of their mail servers, as \"DOMAIN=HOST\" or \"DOMAIN=HOST:PORT\"; \"*=HOST\" is for all others."`
	AllowPrivate bool     `toml:"allow_private" doc:"Deliver to mail servers with loopback or private addresses too. Without, nobody can have this server speak to machines that only it can reach. Hosts of routes are always allowed."`
	CAFile       string   `toml:"ca_file" doc:"Certificate authorities that are trusted for MTA-STS besides those of the system, PEM. Empty: none."`
	Port         int      `toml:"port" doc:"The port of other mail servers; all of the world has 25."`
	PolicyPort   int      `toml:"policy_port" doc:"The port that MTA-STS policies are fetched from; all of the world has 443."`
}

// Store is what accounts may keep.
type Store struct {
	Quota Size `toml:"quota" doc:"The most a new account may keep. \"0B\": no limit."`
}

// Cluster is how several gateways work together.
type Cluster struct {
	Driver               string `toml:"driver" doc:"\"memory\": this gateway is alone, and needs nothing. \"redis\": it shares a Redis with the others."`
	URL                  string `toml:"url" doc:"Where Redis is: \"redis://[USER@]HOST[:PORT][/DB]\"; \"redis-sentinel://[USER@]HOST[:PORT],HOST[:PORT].../MASTER[/DB]\" for the master that Sentinels name; \"redis-cluster://[USER@]HOST[:PORT],HOST[:PORT]...\" for a Redis Cluster. With rediss instead of redis by TLS."`
	PasswordFile         string `toml:"password_file" doc:"A file with the password of Redis. Empty: none is needed."`
	SentinelPasswordFile string `toml:"sentinel_password_file" doc:"A file with the password of the Sentinels. Empty: none is needed."`
	CAFile               string `toml:"ca_file" doc:"The certificates that TLS to Redis trusts, PEM. Empty: those of the system."`
	Prefix               string `toml:"prefix" doc:"What the names of all keys in Redis begin with. It has to differ where gateways share a Redis and nothing else."`
}

// Log is what is logged and how.
type Log struct {
	Format    string `toml:"format" doc:"\"text\" or \"json\"."`
	Level     string `toml:"level" doc:"\"debug\", \"info\", \"warn\" or \"error\"."`
	Addresses bool   `toml:"addresses" doc:"Show mail addresses and IP addresses. Without, they are shown as hashes that are the same for the same address until the next start."`
}

// Default returns the configuration of an absent or empty file. Its hostname and
// domains are only examples: Load wants a file to name its own.
func Default() *Config {
	return &Config{
		Hostname: "mail.example.org",
		Domains:  []string{"example.org"},
		DataDir:  "data",
		KeysDir:  "keys",
		TLS:      TLS{Cert: "tls/cert.pem", Key: "tls/key.pem"},
		SMTP: SMTP{
			Listen: ":25", MaxMessageSize: 50 << 20, MaxRecipients: 1000, MaxConnections: 1000,
			MaxConnectionsPerIP: 50, ConnectionRate: 600, MessageRate: 3000,
		},
		Submission: Submission{Listen: ":587", ListenTLS: ":465", MessagesPerHour: 500, RecipientsPerHour: 2000},
		IMAP:       IMAP{Listen: ":143", ListenTLS: ":993", MaxConnections: 2000, MaxConnectionsPerIP: 100, MaxConnectionsPerAccount: 30},
		HTTPS:      HTTPS{Listen: ":443", Publish: true, MTASTS: "testing", RequestRate: 1200, MaxConnections: 1000, MaxConnectionsPerIP: 50},
		HTTP:       HTTP{Listen: "127.0.0.1:9325"},
		DNS:        DNS{Servers: []string{}, Validating: []string{}, Timeout: Duration(2 * time.Second)},
		Directory:  Directory{Sources: []string{"wkd", "autocrypt", "dane"}, KeyServers: []string{}, Timeout: Duration(2 * time.Second)},
		Seal:       Seal{Subject: "hide", NoCertificate: "hold"},
		Queue: Queue{
			Workers: 100, PerDomain: 20, RetryFirst: Duration(5 * time.Minute), RetryLast: Duration(4 * time.Hour),
			WarnAfter: Duration(4 * time.Hour), GiveUpAfter: Duration(120 * time.Hour),
		},
		Delivery: Delivery{Routes: []string{}, Port: 25, PolicyPort: 443},
		Store:    Store{Quota: 50e9},
		Cluster:  Cluster{Driver: "memory", URL: "redis://127.0.0.1:6379", Prefix: "postern"},
		Log:      Log{Format: "text", Level: "info"},
	}
}
