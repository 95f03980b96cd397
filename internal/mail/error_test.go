package mail

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// What the peer may read has nothing of the cause; the log has both.
func TestErrorKeepsItsCausePrivate(t *testing.T) {
	t.Parallel()
	cause := errors.New("open /srv/postern/data: permission denied")
	err := fmt.Errorf("commit: %w", ErrStorageFull.Because(cause))
	e := AsError(err)
	if e.Code != 452 || e.Enhanced != "4.3.1" || !e.Temporary() || strings.Contains(e.Text, "srv") {
		t.Errorf("%+v", e)
	}
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "/srv/postern") {
		t.Errorf("the cause is lost: %v", err)
	}
	if ErrStorageFull.Cause != nil {
		t.Error("Because changed the shared error")
	}
}

// What is not understood is deferred and explained to nobody.
func TestAsErrorDefersTheUnknown(t *testing.T) {
	t.Parallel()
	e := AsError(io.ErrUnexpectedEOF)
	if e.Code != 451 || e.Enhanced != "4.3.0" || !e.Temporary() || strings.Contains(e.Text, "EOF") || !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Errorf("%+v", e)
	}
}

// Every refusal is of the class that its enhanced code says, RFC 3463 2.
func TestRefusalsAreConsistent(t *testing.T) {
	t.Parallel()
	for _, e := range []*Error{ErrNoSuchUser, ErrOverQuota, ErrTooBig, ErrStorageFull, ErrNoRecipients, ErrLineEnding, ErrNUL} {
		if fmt.Sprint(e.Code)[0] != e.Enhanced[0] || e.Temporary() != (e.Enhanced[0] == '4') {
			t.Errorf("%v", e)
		}
		if e.Error() != fmt.Sprintf("%d %s %s", e.Code, e.Enhanced, e.Text) || strings.ContainsAny(e.Text, "\r\n") {
			t.Errorf("%q", e.Error())
		}
	}
}
