package server

import (
	"context"
	"strings"

	"postern/internal/mail"
	"postern/keydir"
)

// newEnrolment makes the part that takes the certificates that accounts hand in by mail.
func (g *Gateway) newEnrolment() *keydir.Enrolment {
	return keydir.NewEnrolment(keydir.EnrolOptions{
		Store: g.Store, Changed: g.ownChanged, Now: g.now, Log: g.Log,
		Tell: func(ctx context.Context, e keydir.Enrolled) error {
			subject := "Mail to you is now encrypted to your OpenPGP key"
			if e.Waits {
				subject = "Another OpenPGP key of yours waits for a decision"
			}
			return g.Bridge.Notify(ctx, e.Account, subject, enrolNotice(e))
		},
	})
}

// ownChanged puts an account's new certificate to use: answers that are remembered are
// forgotten, here and on the other nodes, and what was held for it is sealed.
func (g *Gateway) ownChanged(ctx context.Context, account mail.Address) error {
	g.Directory.Drop(account.Key())
	g.Cluster.Invalidate(ctx, "answer:"+account.Key())
	g.Publication.Forget()
	_, err := g.Bridge.Release(ctx)
	return err
}

// enrolNotice tells an account of its certificate. It may go to a thief of the password
// as well as to the owner, so it says what to do in both cases.
func enrolNotice(e keydir.Enrolled) []string {
	how := "in mail that you sent (Autocrypt)"
	if e.Source == keydir.SourceWKS {
		how = "by Web Key Service, and confirmed"
	}
	account, fingerprint := e.Account.String(), e.Certificate.Fingerprint()
	if !e.Waits {
		return []string{
			"This server has received a certificate for " + account + " " + how + ":",
			"",
			"    " + fingerprint,
			"",
			"It is your first one here. From now on mail to you is sealed to it, what was held",
			"for want of one has been delivered, and others who look for it find it.",
			"",
			"If you know nothing of this key, somebody has your password: tell whoever runs",
			"this server, who can take the certificate away again:",
			"",
			"    postern cert remove " + account + " " + fingerprint,
		}
	}
	lines := []string{
		"This server has received another certificate for " + account + " " + how + ":",
		"",
		"    " + fingerprint,
		"",
		"It is NOT used: you had another one before, or this one was taken away from your",
		"account. If this is really your new key, give this message to whoever runs this",
		"server. They save the block below to FILE, compare the fingerprint with you, and run:",
		"",
		"    postern cert import " + account + " FILE",
		"",
		"If you know nothing of this key, somebody may have your password: change it.",
		"",
	}
	armor := strings.ReplaceAll(string(e.Certificate.Armor()), "\r\n", "\n")
	return append(lines, strings.Split(strings.TrimRight(armor, "\n"), "\n")...)
}
