package bridge

import (
	"context"
	"time"

	"postern/internal/mail"
	"postern/keydir"
)

const (
	// lookupsAtOnce is how many look-ups of one message run at the same time. The
	// directory has limits of its own for all messages together.
	lookupsAtOnce = 32
	// lookupPatience is how long the end of a message waits for all of them.
	lookupPatience = 8 * time.Second
)

// lookups are the look-ups of one message's recipients, which run while it comes.
type lookups struct {
	directory *keydir.Directory
	ctx       context.Context
	cancel    context.CancelFunc
	slots     chan struct{}
}

// newLookups makes look-ups that go on until cancel is called.
func (b *Bridge) newLookups(ctx context.Context) *lookups {
	l := &lookups{directory: b.Directory, slots: make(chan struct{}, lookupsAtOnce)}
	// The context of a command ends with it; these go on.
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return l
}

// start looks an address up. The answer comes once.
func (l *lookups) start(a mail.Address) <-chan keydir.Answer {
	answer := make(chan keydir.Answer, 1)
	if known, ok := l.directory.Remembered(a); ok {
		answer <- known
		return answer
	}
	go func() {
		select {
		case l.slots <- struct{}{}:
			answer <- l.directory.Lookup(l.ctx, a)
			<-l.slots
		case <-l.ctx.Done():
			answer <- keydir.Answer{Kind: mail.Unknown, Reason: tooLate}
		}
	}()
	return answer
}

const tooLate = "the certificate could not be looked up in time"

// await waits for an answer, but not longer than the deadline.
func await(lookup <-chan keydir.Answer, deadline <-chan struct{}) keydir.Answer {
	select {
	case a := <-lookup:
		return a
	default:
	}
	select {
	case a := <-lookup:
		return a
	case <-deadline:
		return keydir.Answer{Kind: mail.Unknown, Reason: tooLate}
	}
}
