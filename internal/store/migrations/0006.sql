-- The MTA-STS policies of other domains: they hold until they expire, whatever happens
-- to whoever publishes them, so they have to outlast a restart.
CREATE TABLE sts_policies (
	domain  TEXT   NOT NULL PRIMARY KEY,
	id      TEXT   NOT NULL,
	text    {blob} NOT NULL,               -- as it was fetched
	fetched BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	refresh BIGINT NOT NULL,               -- when it is to be fetched again
	used    BIGINT NOT NULL                -- when mail went by it last; kept to the day
) {clustered};
CREATE INDEX sts_policies_refresh ON sts_policies (refresh);
