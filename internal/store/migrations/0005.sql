-- What accounts sent, and received end-to-end: by which the copy that a client keeps is
-- marked, and a reply that would undo encryption is found. digest is of the Message-ID.
CREATE TABLE exchanges (
	account  BIGINT   NOT NULL,
	received SMALLINT NOT NULL,            -- 1: the account got it, 0: it sent it
	digest   {blob}   NOT NULL,
	level    SMALLINT NOT NULL,            -- the weakest of what it sent
	time     BIGINT   NOT NULL,
	PRIMARY KEY (account, received, digest)
) {clustered};
CREATE INDEX exchanges_time ON exchanges (time);
