package keydir

import (
	"bytes"
	"log/slog"
	"testing"

	"postern/internal/mail"
)

// TestClose: a look-up that is on its way ends with the directory, before the store is
// closed, and later ones are not begun. Nobody takes that for an answer, and it is no
// error.
func TestClose(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := newDirectory(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	f.wkd.block = make(chan struct{})
	flight := f.join(bob, bob.Key(), f.look)
	f.Close()
	select {
	case <-flight.done:
	default:
		t.Fatal("Close did not wait for a look-up")
	}
	asked := f.wkd.count()
	if a := f.Lookup(t.Context(), bob); a.Kind != mail.Unknown || flight.answer.Kind != mail.Unknown {
		t.Errorf("answers %v and %v", flight.answer.Kind, a.Kind)
	}
	if f.wkd.count() != asked {
		t.Error("a look-up was begun")
	}
	if _, err := f.store.Known(t.Context(), bob.Key()); err == nil {
		t.Error("it was remembered")
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", &log)
	}
}
