-- Whether an account's certificates are given to whoever asks for its address.
ALTER TABLE accounts ADD COLUMN published SMALLINT NOT NULL DEFAULT 1;
