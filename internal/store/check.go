package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Check verifies the database: its own structure, and that the counters and
// references that are kept agree with the rows they stand for. The error joins
// one for each difference and names rows by id alone. It reads everything, of
// one moment, while others go on; mailboxes and accounts that are being removed
// are passed over.
func (s *Store) Check(ctx context.Context) error {
	var found []error
	err := s.readers.snapshot(ctx, s.dialect.beginRead, func(c *session) error {
		for _, query := range s.dialect.verify {
			if err := verifyStructure(c, query, &found); err != nil {
				return err
			}
		}
		for _, ch := range checks {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := ch.run(c, &found); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	return errors.Join(found...)
}

// verifyStructure runs one of the database's own checks.
func verifyStructure(c *session, query string, found *[]error) error {
	return c.each(func(r scanner) error {
		row := make([]any, columnsOf(query))
		dest := make([]any, len(row))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := r.Scan(dest...); err != nil {
			return err
		}
		if row[0] != "ok" {
			*found = append(*found, fmt.Errorf("%s: %v", strings.ToLower(query), row))
		}
		return nil
	}, query)
}

// columnsOf is the width of a check's rows: a foreign_key_check names table,
// row, parent and constraint.
func columnsOf(query string) int {
	if strings.Contains(query, "foreign_key_check") {
		return 4
	}
	return 1
}

// check is a query whose rows are differences: an id, what is kept, what was
// found.
type check struct{ what, query string }

func (ch check) run(c *session, found *[]error) error {
	err := c.each(func(r scanner) error {
		var id ID
		var kept, real int64
		if err := r.Scan(&id, &kept, &real); err != nil {
			return err
		}
		*found = append(*found, fmt.Errorf("%s: row %v has %d, found %d", ch.what, id, kept, real))
		return nil
	}, ch.query)
	if err != nil {
		return fmt.Errorf("%s: %w", ch.what, err)
	}
	return nil
}

// mailboxCheck compares a counter of mailboxes with an aggregate over entries.
func mailboxCheck(column, aggregate, differ string) check {
	return check{"mailbox " + column, `SELECT m.id, m.` + column + `, COALESCE(e.n, 0) FROM mailboxes m
		LEFT JOIN (SELECT mailbox, ` + aggregate + ` AS n FROM entries GROUP BY mailbox) e ON e.mailbox = m.id
		WHERE m.removed = 0 AND m.` + column + ` ` + differ + ` COALESCE(e.n, 0)`}
}

// laneCheck compares a column of lanes with an aggregate over recipients, here n. A
// lane has no id to name it by.
func laneCheck(column, aggregate, expected string) check {
	return check{"lane " + column, `SELECT l.held, l.` + column + `, COALESCE(r.n, 0) FROM outgoing_lanes l
		LEFT JOIN (SELECT domain, held, ` + aggregate + ` AS n FROM outgoing_rcpts GROUP BY domain, held) r
		ON r.domain = l.domain AND r.held = l.held WHERE r.n IS NULL OR l.` + column + ` <> ` + expected}
}

var checks = [...]check{
	mailboxCheck("messages", "COUNT(*)", "<>"),
	mailboxCheck("unseen", "SUM(CASE WHEN (flags & 1) = 0 THEN 1 ELSE 0 END)", "<>"),
	mailboxCheck("deleted", "SUM(CASE WHEN (flags & 8) <> 0 THEN 1 ELSE 0 END)", "<>"),
	mailboxCheck("size", "SUM(size)", "<>"),
	mailboxCheck("uidnext", "MAX(uid)", "<="),
	mailboxCheck("modseq", "MAX(modseq)", "<"),
	{"mailbox uidvalidity", `SELECT m.id, m.uidvalidity, c.value FROM mailboxes m
		JOIN counters c ON c.name = 'uidvalidity' WHERE m.uidvalidity > c.value`},
	{"tombstone modseq", `SELECT m.id, m.modseq, t.modseq FROM tombstones t
		JOIN mailboxes m ON m.id = t.mailbox WHERE t.modseq > m.modseq`},
	{"entry at tombstone", `SELECT e.mailbox, t.modseq, e.uid FROM tombstones t
		JOIN entries e ON e.mailbox = t.mailbox AND e.uid BETWEEN t.lo AND t.hi`},
	{"entry without its message", `SELECT e.mailbox, e.uid, e.message FROM entries e
		LEFT JOIN messages m ON m.id = e.message WHERE m.id IS NULL`},
	{"entry size", `SELECT e.message, e.size, m.size FROM entries e
		JOIN messages m ON m.id = e.message WHERE e.size <> m.size`},
	{"entry of another account", `SELECT e.message, b.account, m.account FROM entries e
		JOIN messages m ON m.id = e.message JOIN mailboxes b ON b.id = e.mailbox
		WHERE b.account <> m.account`},
	{"held copy of another account", `SELECT h.id, h.account, m.account FROM held h
		JOIN messages m ON m.id = h.message WHERE h.account <> m.account`},
	{"message copies", `SELECT m.id, m.copies, COALESCE(e.n, 0) + COALESCE(h.n, 0) FROM messages m
		LEFT JOIN (SELECT message, COUNT(*) AS n FROM entries GROUP BY message) e ON e.message = m.id
		LEFT JOIN (SELECT message, COUNT(*) AS n FROM held GROUP BY message) h ON h.message = m.id
		WHERE m.copies <> COALESCE(e.n, 0) + COALESCE(h.n, 0)`},
	{"message without octets", `SELECT m.id, 1, 0 FROM messages m
		LEFT JOIN octets o ON o.message = m.id WHERE o.message IS NULL`},
	{"message without its blob", `SELECT m.id, m.blob, 0 FROM messages m
		LEFT JOIN blobs b ON b.id = m.blob WHERE m.blob <> 0 AND b.id IS NULL`},
	{"message of no account", `SELECT m.id, m.account, 0 FROM messages m
		LEFT JOIN accounts a ON a.id = m.account WHERE a.id IS NULL`},
	{"blob references", `SELECT b.id, b.refs, COALESCE(m.n, 0) + COALESCE(o.n, 0) FROM blobs b
		LEFT JOIN (SELECT blob, COUNT(*) AS n FROM messages GROUP BY blob) m ON m.blob = b.id
		LEFT JOIN (SELECT blob, COUNT(*) AS n FROM outgoing GROUP BY blob) o ON o.blob = b.id
		WHERE b.refs <> COALESCE(m.n, 0) + COALESCE(o.n, 0)`},
	{"outgoing without its blob", `SELECT o.id, o.blob, 0 FROM outgoing o
		LEFT JOIN blobs b ON b.id = o.blob WHERE o.blob <> 0 AND b.id IS NULL`},
	{"outgoing without octets", `SELECT o.id, 1, 0 FROM outgoing o
		LEFT JOIN outgoing_octets x ON x.copy = o.id WHERE x.copy IS NULL`},
	{"outgoing recipients", `SELECT o.id, o.rcpts, COALESCE(r.n, 0) FROM outgoing o
		LEFT JOIN (SELECT copy, COUNT(*) AS n FROM outgoing_rcpts GROUP BY copy) r ON r.copy = o.id
		WHERE o.rcpts <> COALESCE(r.n, 0)`},
	{"recipient held apart from its copy", `SELECT r.id, r.held, o.level FROM outgoing_rcpts r
		JOIN outgoing o ON o.id = r.copy WHERE r.held <> (CASE WHEN o.level = 5 THEN 1 ELSE 0 END)`},
	{"recipient due within its lease", `SELECT id, due, lease FROM outgoing_rcpts WHERE due < lease`},
	{"recipient on hold and due", `SELECT id, due, 0 FROM outgoing_rcpts
		WHERE on_hold + verdict > 0 AND due < 9223372036854775807`},
	laneCheck("rcpts", "COUNT(*)", "r.n"),
	laneCheck("on_hold", "SUM(on_hold)", "r.n"),
	laneCheck("due", "MIN(due)", "(CASE WHEN l.backoff > r.n THEN l.backoff ELSE r.n END)"),
	{"recipient without a lane", `SELECT r.id, 1, 0 FROM outgoing_rcpts r
		LEFT JOIN outgoing_lanes l ON l.domain = r.domain AND l.held = r.held WHERE l.domain IS NULL`},
	{"account used", `SELECT a.id, a.used, COALESCE(m.n, 0) FROM accounts a
		LEFT JOIN (SELECT account, SUM(size) AS n FROM messages GROUP BY account) m ON m.account = a.id
		WHERE a.removed = 0 AND a.used <> COALESCE(m.n, 0)`},
	{"account without INBOX", `SELECT a.id, 1, 0 FROM accounts a
		LEFT JOIN mailboxes m ON m.account = a.id AND m.name = 'INBOX' WHERE a.removed = 0 AND m.id IS NULL`},
}
