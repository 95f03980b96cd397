-- What the key directory remembers of other people's addresses.
CREATE TABLE directory (
	address       TEXT     NOT NULL PRIMARY KEY,
	kind          SMALLINT NOT NULL, -- 0 unknown, 1 none, 2 found
	source        TEXT     NOT NULL,
	trust         SMALLINT NOT NULL,
	fingerprint   TEXT     NOT NULL, -- of the certificate in use, or of the last one
	usable_until  BIGINT   NOT NULL, -- 0: it does not expire
	reason        TEXT     NOT NULL, -- why it is not found
	checked       BIGINT   NOT NULL,
	fresh_until   BIGINT   NOT NULL,
	asked         BIGINT   NOT NULL, -- when somebody last wanted it; kept to the day
	vanished      BIGINT   NOT NULL, -- since when its source has it no more; 0: has it
	candidate     TEXT     NOT NULL, -- fingerprint of what waits for a person, or ''
	candidate_source TEXT  NOT NULL,
	rejected      TEXT     NOT NULL  -- fingerprint that a person refused, or ''
) {clustered};
CREATE INDEX directory_fresh ON directory (fresh_until);

-- Autocrypt Level 1 peer state of those who ever sent a certificate. There is no
-- gossip: it stands in encrypted payloads, which no server can read.
CREATE TABLE autocrypt (
	address   TEXT     NOT NULL PRIMARY KEY,
	last_seen BIGINT   NOT NULL,
	key_seen  BIGINT   NOT NULL, -- autocrypt_timestamp
	mutual    SMALLINT NOT NULL, -- prefer_encrypt
	key_data  {blob}   NOT NULL  -- public_key, as it came
) {clustered};
