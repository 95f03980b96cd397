package smtpd

import (
	"errors"
	"io"

	"postern/internal/mail"
)

// errOver is what a reader gets that is used after its transaction.
var errOver = errors.New("message is over")

// body is the reader that a transaction gets. Its error is io.EOF only when the
// message came in whole, was clean and within the size.
type body struct {
	src   stretcher
	limit int64 // of the message, in octets
	n     int64 // octets handed out
	err   error // stays
}

// next returns the next octets of the message without taking them.
func (b *body) next() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	p, err := b.src.stretch()
	if err == nil && b.n+int64(len(p)) > b.limit {
		err = mail.ErrTooBig
	}
	if err != nil {
		b.err = err
		return nil, err
	}
	return p, nil
}

func (b *body) take(n int) {
	b.src.consume(n)
	b.n += int64(n)
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q, err := b.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, q)
	b.take(n)
	return n, nil
}

// WriteTo implements io.WriterTo: the octets go from the connection's buffer to w
// without another copy, up to 64 KiB at a time.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		p, err := b.next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(p)
		b.take(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
		if n < len(p) {
			return total, io.ErrShortWrite
		}
	}
}

// drain reads the rest of a message that nobody wants, so that the connection can
// go on. It returns nil at the end of the message, and an error if the end cannot
// be found: the connection must then be closed.
func (b *body) drain() error {
	if b.err == io.EOF {
		return nil
	}
	if b.err != nil && b.err != mail.ErrTooBig {
		return b.err
	}
	b.src.abandon()
	for n := b.n; n <= 2*b.limit; {
		p, err := b.src.stretch()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		b.src.consume(len(p))
		n += int64(len(p))
	}
	return mail.ErrTooBig
}
