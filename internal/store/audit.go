package store

import (
	"context"
	"fmt"
	"time"
)

func (t *tx) insertAudit(rows []Audit) error {
	for _, a := range rows {
		at := a.Time
		if at.IsZero() {
			at = t.now
		}
		_, err := t.exec(`INSERT INTO audit (id, time, kind, subject, detail) VALUES ($1, $2, $3, $4, $5)`,
			t.store.NewID(), micros(at), a.Kind, a.Subject, a.Detail)
		if err != nil {
			return fmt.Errorf("insert audit row: %w", err)
		}
	}
	return nil
}

// AuditRows returns at most limit rows of the record about a subject ("": about
// all), the newest first.
func (s *Store) AuditRows(ctx context.Context, subject string, limit int) ([]Audit, error) {
	query, args := `SELECT time, kind, subject, detail FROM audit ORDER BY id DESC LIMIT $1`, []any{limit}
	if subject != "" {
		query = `SELECT time, kind, subject, detail FROM audit WHERE subject = $2 ORDER BY id DESC LIMIT $1`
		args = append(args, subject)
	}
	var rows []Audit
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var a Audit
			var at int64
			err := r.Scan(&at, &a.Kind, &a.Subject, &a.Detail)
			a.Time = fromMicros(at)
			rows = append(rows, a)
			return err
		}, query, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("list audit rows: %w", err)
	}
	return rows, nil
}

// PurgeSent forgets, of at most limit rows of the record written before a time, what was
// decided and done with messages that were submitted: who wrote to whom. It returns how
// many. What is recorded of certificates stays.
func (s *Store) PurgeSent(ctx context.Context, before time.Time, limit int) (n int, err error) {
	oldest := ID(max(before.UnixMilli()-idEpoch, 0)) << idSequenceBits // of an id of that time
	err = s.write(ctx, func(t *tx) error {
		deleted, err := t.exec(`DELETE FROM audit WHERE id IN (SELECT id FROM audit
			WHERE id < $1 AND kind IN ('send', 'relay') ORDER BY id LIMIT $2)`, oldest, limit)
		n = int(deleted)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purge audit rows: %w", err)
	}
	return n, nil
}
