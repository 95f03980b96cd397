-- The first schema. One file serves SQLite and PostgreSQL: {id} is the integer
-- type of a primary key made in Go, {blob} the type of octets, {clustered} asks
-- for a table stored in the order of its primary key.
-- Times are microseconds since 1970 (UTC). Truth values are 0 and 1.

CREATE TABLE counters (
	name  TEXT   NOT NULL PRIMARY KEY,
	value BIGINT NOT NULL
);
-- The greatest UIDVALIDITY ever given out, to any mailbox of any account.
INSERT INTO counters (name, value) VALUES ('uidvalidity', 0);

CREATE TABLE accounts (
	id          {id}     NOT NULL PRIMARY KEY,
	address_key TEXT     NOT NULL UNIQUE,
	local_part  TEXT     NOT NULL,
	domain      TEXT     NOT NULL,
	quota       BIGINT   NOT NULL,          -- octets, 0: none
	used        BIGINT   NOT NULL,          -- octets of all rows of messages
	created     BIGINT   NOT NULL,
	removed     SMALLINT NOT NULL DEFAULT 0 -- being taken away in steps
);

CREATE TABLE credentials (
	id         {id}     NOT NULL PRIMARY KEY,
	account    BIGINT   NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
	label      TEXT     NOT NULL,
	human      SMALLINT NOT NULL,
	salt       {blob}   NOT NULL,
	iterations BIGINT   NOT NULL,
	stored_key {blob}   NOT NULL,
	server_key {blob}   NOT NULL,
	created    BIGINT   NOT NULL,
	last_used  BIGINT   NOT NULL            -- 0: never
);
CREATE INDEX credentials_account ON credentials (account);

CREATE TABLE certificates (
	id          {id}   NOT NULL PRIMARY KEY,
	address     TEXT   NOT NULL,
	fingerprint TEXT   NOT NULL,
	data        {blob} NOT NULL,
	source      TEXT   NOT NULL,
	added       BIGINT NOT NULL,
	UNIQUE (address, fingerprint)
);

CREATE TABLE mailboxes (
	id          {id}     NOT NULL PRIMARY KEY,
	account     BIGINT   NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
	name        TEXT     NOT NULL,
	special_use TEXT     NOT NULL,
	subscribed  SMALLINT NOT NULL,
	uidvalidity BIGINT   NOT NULL,
	uidnext     BIGINT   NOT NULL,
	modseq      BIGINT   NOT NULL,
	messages    BIGINT   NOT NULL,
	unseen      BIGINT   NOT NULL,
	deleted     BIGINT   NOT NULL,
	size        BIGINT   NOT NULL,
	removed     SMALLINT NOT NULL DEFAULT 0,
	UNIQUE (account, name)
);

-- refs counts the rows of messages that need the octets. At 0 the blob is dead
-- since the time in dead, and waits to be deleted from its store.
CREATE TABLE blobs (
	id     {id}   NOT NULL PRIMARY KEY,
	ref    TEXT   NOT NULL UNIQUE,
	size   BIGINT NOT NULL,
	digest {blob} NOT NULL,
	refs   BIGINT NOT NULL,
	dead   BIGINT NOT NULL
);
CREATE INDEX blobs_dead ON blobs (dead) WHERE refs = 0;

-- A message never changes; copies counts the entries and held rows that share
-- it. There is no foreign key to blobs and none from entries: either would cost
-- an index over all messages that nothing else reads. Check verifies both.
CREATE TABLE messages (
	id        {id}   NOT NULL PRIMARY KEY,
	account   BIGINT NOT NULL,
	class     TEXT   NOT NULL,
	size      BIGINT NOT NULL,
	copies    BIGINT NOT NULL,
	blob      BIGINT NOT NULL,             -- 0: the octets are in head and tail alone
	envelope  {blob} NOT NULL,
	structure {blob} NOT NULL
);

-- Apart from messages, so that a scan of envelopes does not read them.
CREATE TABLE octets (
	message {id}   NOT NULL PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
	head    {blob} NOT NULL,
	tail    {blob} NOT NULL
);

CREATE TABLE entries (
	mailbox       BIGINT NOT NULL REFERENCES mailboxes (id),
	uid           BIGINT NOT NULL,
	message       BIGINT NOT NULL,
	flags         BIGINT NOT NULL,
	keywords      TEXT   NOT NULL,
	modseq        BIGINT NOT NULL,
	size          BIGINT NOT NULL,
	internal_date BIGINT NOT NULL,
	PRIMARY KEY (mailbox, uid)
) {clustered};
CREATE INDEX entries_modseq ON entries (mailbox, modseq);

-- Ranges of UIDs that were expunged by the change modseq.
CREATE TABLE tombstones (
	mailbox BIGINT NOT NULL REFERENCES mailboxes (id) ON DELETE CASCADE,
	modseq  BIGINT NOT NULL,
	lo      BIGINT NOT NULL,
	hi      BIGINT NOT NULL,
	PRIMARY KEY (mailbox, modseq, lo)
) {clustered};

CREATE TABLE held (
	id            {id}   NOT NULL PRIMARY KEY,
	account       BIGINT NOT NULL REFERENCES accounts (id),
	message       BIGINT NOT NULL UNIQUE REFERENCES messages (id),
	reason        TEXT   NOT NULL,
	facts         {blob} NOT NULL,
	mailbox       BIGINT NOT NULL,         -- 0: INBOX
	flags         BIGINT NOT NULL,
	keywords      TEXT   NOT NULL,
	internal_date BIGINT NOT NULL
);
CREATE INDEX held_account ON held (account);

CREATE TABLE audit (
	id      {id}   NOT NULL PRIMARY KEY,
	time    BIGINT NOT NULL,
	kind    TEXT   NOT NULL,
	subject TEXT   NOT NULL,
	detail  TEXT   NOT NULL
);
CREATE INDEX audit_subject ON audit (subject, id);
