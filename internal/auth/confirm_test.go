package auth

import (
	"errors"
	"testing"
)

func TestConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, err := w.Password(t.Context(), ip("192.0.2.1"), alice, w.alice[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Confirm(t.Context(), id); err != nil {
		t.Error(err)
	}
	w.dir.creds[alice] = w.dir.creds[alice][:1] // the other password stays
	if err := w.Confirm(t.Context(), id); !errors.Is(err, ErrRejected) {
		t.Errorf("removed password: %v", err)
	}
	delete(w.dir.creds, alice)
	if err := w.Confirm(t.Context(), id); !errors.Is(err, ErrRejected) {
		t.Errorf("removed account: %v", err)
	}
}
