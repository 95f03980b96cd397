package store

import (
	"embed"
	"fmt"
	"log/slog"
	"time"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the version this program reads and writes; there is one file
// in migrations for each version up to it.
const schemaVersion = 6

const versionTable = `CREATE TABLE IF NOT EXISTS schema_version (
	version BIGINT NOT NULL PRIMARY KEY,
	applied BIGINT NOT NULL
)`

// migrate brings the schema from whatever version it has to schemaVersion, in
// one transaction, so that a crash leaves the old version and another process
// that opens the database waits.
func migrate(c *session, d dialect, now time.Time, log *slog.Logger) error {
	if _, err := c.exec(d.begin); err != nil {
		return fmt.Errorf("begin migration: %w", err)
	}
	from, err := migrateAll(c, d, now)
	if err != nil {
		c.exec("ROLLBACK")
		return err
	}
	if from == schemaVersion {
		_, err := c.exec("ROLLBACK")
		return err
	}
	if _, err := c.exec("COMMIT"); err != nil {
		c.exec("ROLLBACK")
		return fmt.Errorf("commit migration: %w", err)
	}
	log.Info("schema changed", "old_version", from, "new_version", schemaVersion)
	return nil
}

func migrateAll(c *session, d dialect, now time.Time) (from int, err error) {
	if err := c.script(versionTable); err != nil {
		return 0, fmt.Errorf("create version table: %w", err)
	}
	// A file that cannot be written opens all the same: better to say so here than to
	// every sender.
	if _, err := c.exec(`UPDATE schema_version SET applied = 0 WHERE version < 0`); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	err = c.get([]any{&from}, `SELECT COALESCE(MAX(version), 0) FROM schema_version`)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if from > schemaVersion {
		return from, fmt.Errorf("%w: it has schema version %d, this program knows %d",
			ErrNewer, from, schemaVersion)
	}
	for v := from + 1; v <= schemaVersion; v++ {
		text, err := migrations.ReadFile(fmt.Sprintf("migrations/%04d.sql", v))
		if err != nil {
			return from, err
		}
		if err := c.script(d.types.Replace(string(text))); err != nil {
			return from, fmt.Errorf("migrate to version %d: %w", v, err)
		}
		_, err = c.exec(`INSERT INTO schema_version (version, applied) VALUES ($1, $2)`, v, micros(now))
		if err != nil {
			return from, fmt.Errorf("record version %d: %w", v, err)
		}
	}
	return from, nil
}
