package store

import (
	"context"
	"fmt"
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
