-- Copies that wait to be carried to their next hops. rcpts counts the rows of
-- outgoing_rcpts; with the last one the copy goes.
CREATE TABLE outgoing (
	id          {id}     NOT NULL PRIMARY KEY,
	account     BIGINT   NOT NULL,         -- the sender's; may be removed by now
	source      TEXT     NOT NULL,
	sender      TEXT     NOT NULL,         -- reverse-path, '': null
	level       SMALLINT NOT NULL,
	size        BIGINT   NOT NULL,
	locked      SMALLINT NOT NULL,
	body        TEXT     NOT NULL,
	utf8        SMALLINT NOT NULL,
	require_tls SMALLINT NOT NULL,
	env_id      TEXT     NOT NULL,
	ret         TEXT     NOT NULL,
	created     BIGINT   NOT NULL,
	rcpts       BIGINT   NOT NULL,
	blob        BIGINT   NOT NULL          -- 0: the octets are in head and tail alone
);

CREATE TABLE outgoing_octets (
	copy  {id}   NOT NULL PRIMARY KEY REFERENCES outgoing (id) ON DELETE CASCADE,
	head  {blob} NOT NULL,
	tail  {blob} NOT NULL,
	facts {blob} NOT NULL
);

-- One row for each recipient. A claim moves due to the end of its lease, so that what
-- is in hand is not due, and what its owner never finished is due again.
CREATE TABLE outgoing_rcpts (
	id         {id}     NOT NULL PRIMARY KEY,
	copy       BIGINT   NOT NULL REFERENCES outgoing (id),
	address    TEXT     NOT NULL,
	domain     TEXT     NOT NULL,
	held       SMALLINT NOT NULL,          -- the copy is Held: to be decided anew
	notify     SMALLINT NOT NULL,
	original   TEXT     NOT NULL,
	since      BIGINT   NOT NULL,          -- from when its age is counted
	due        BIGINT   NOT NULL,          -- greatest BIGINT: not by itself
	deadline   BIGINT   NOT NULL DEFAULT 0, -- when its sender is to hear of it next, 0: by its age
	delayed    SMALLINT NOT NULL DEFAULT 0, -- its sender knows that it is late
	on_hold    SMALLINT NOT NULL DEFAULT 0, -- by the operator
	verdict    SMALLINT NOT NULL DEFAULT 0, -- decided; only its sender has yet to hear of it
	claim      BIGINT   NOT NULL DEFAULT 0,
	owner      TEXT     NOT NULL DEFAULT '',
	lease      BIGINT   NOT NULL DEFAULT 0, -- 0: nobody has it
	attempts   BIGINT   NOT NULL DEFAULT 0,
	tried      BIGINT   NOT NULL DEFAULT 0, -- when it was tried last
	reply_code BIGINT   NOT NULL DEFAULT 0, -- of the last attempt
	enhanced   TEXT     NOT NULL DEFAULT '',
	reply      TEXT     NOT NULL DEFAULT '',
	host       TEXT     NOT NULL DEFAULT ''
);
CREATE INDEX outgoing_rcpts_due ON outgoing_rcpts (domain, held, due);
CREATE INDEX outgoing_rcpts_copy ON outgoing_rcpts (copy, domain);
CREATE INDEX outgoing_rcpts_overdue ON outgoing_rcpts (deadline, since) WHERE on_hold = 0;
CREATE INDEX outgoing_rcpts_owner ON outgoing_rcpts (owner) WHERE lease > 0;

-- The rows of one domain as one: due is when the first of them is due, but not before
-- the end of the domain's back-off, so that finding work never looks at rows that wait.
CREATE TABLE outgoing_lanes (
	domain   TEXT     NOT NULL,
	held     SMALLINT NOT NULL,
	due      BIGINT   NOT NULL,
	rcpts    BIGINT   NOT NULL,
	on_hold  BIGINT   NOT NULL,
	failures BIGINT   NOT NULL,            -- times in a row that the domain was not reached
	backoff  BIGINT   NOT NULL,            -- until when it is left alone, 0: it is not
	reason   TEXT     NOT NULL,
	PRIMARY KEY (domain, held)
) {clustered};
CREATE INDEX outgoing_lanes_due ON outgoing_lanes (due);
