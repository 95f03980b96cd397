package main

import (
	"errors"

	"postern/internal/admin"
)

type importCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" help:"The account that gets the mail."`
	Path    string `arg:"" type:"path" help:"An mbox file or a Maildir."`
	Mailbox string `help:"The mailbox to import into, made if needed. Default: INBOX for an mbox; a Maildir's own folders."`
	DryRun  bool   `name:"dry-run" help:"Only read and count."`
}

func (c *importCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		result, err := a.Import(e.ctx, admin.ImportOptions{Address: c.Address, Path: c.Path, Mailbox: c.Mailbox, DryRun: c.DryRun})
		if result == nil {
			return err
		}
		return errors.Join(show(e.stdout, c.JSON, result), err)
	})
}

type exportCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" help:"The account."`
	Dir     string `arg:"" type:"path" help:"A new directory; it becomes a Maildir with one folder for each mailbox."`
}

func (c *exportCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		result, err := a.Export(e.ctx, c.Address, c.Dir)
		if result == nil {
			return err
		}
		return errors.Join(show(e.stdout, c.JSON, result), err)
	})
}
