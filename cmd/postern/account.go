package main

import (
	"fmt"

	"postern/internal/admin"
)

type accountCmd struct {
	Add      accountAddCmd      `cmd:"" help:"Add an account, with its mailboxes and an app password."`
	List     accountListCmd     `cmd:"" help:"List the accounts."`
	Password accountPasswordCmd `cmd:"" help:"List, add or remove an account's passwords."`
	Publish  accountPublishCmd  `cmd:"" help:"Say whether others may find an account's certificates."`
	Remove   accountRemoveCmd   `cmd:"" help:"Remove an account and all of its mail."`
}

type accountAddCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" help:"The account's address."`
	Quota   string `placeholder:"SIZE" help:"Room for mail, such as 10GB; 0B for no limit. Default: the configuration's."`
	Label   string `default:"first" help:"A name for the app password."`
}

func (c *accountAddCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		added, err := a.AddAccount(e.ctx, c.Address, c.Quota, c.Label)
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, added)
	})
}

type accountListCmd struct {
	configFlag
	jsonFlag
}

func (c *accountListCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		list, err := a.Accounts(e.ctx)
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, list)
	})
}

type accountPasswordCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" help:"The account's address."`
	Label   string `placeholder:"NAME" help:"A name for the password, such as the device that uses it."`
	New     bool   `xor:"what" help:"Make an app password and show it once."`
	Own     bool   `xor:"what" help:"Read a password of your own choice, of 12 characters or more, from standard input."`
	Remove  bool   `xor:"what" help:"Remove the password with this label."`
}

// Run prints a new app password, or else the passwords that there are then.
func (c *accountPasswordCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		if c.New {
			made, err := a.NewPassword(e.ctx, c.Address, c.Label)
			if err != nil {
				return err
			}
			return show(e.stdout, c.JSON, made)
		}
		if err := c.change(e, a); err != nil {
			return err
		}
		list, err := a.Passwords(e.ctx, c.Address)
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, list)
	})
}

func (c *accountPasswordCmd) change(e *env, a *admin.Admin) error {
	switch {
	case c.Own:
		password, err := readSecret(e, "Password: ")
		if err != nil {
			return err
		}
		return a.SetPassword(e.ctx, c.Address, c.Label, password)
	case c.Remove:
		return a.RemovePassword(e.ctx, c.Address, c.Label)
	}
	return nil
}

type accountPublishCmd struct {
	configFlag
	Address string `arg:"" help:"The account's address."`
	State   string `arg:"" enum:"on,off" help:"on: whoever asks for the address gets its certificates (the default); off: nobody does."`
}

func (c *accountPublishCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error { return a.SetPublished(e.ctx, c.Address, c.State == "on") })
}

type accountRemoveCmd struct {
	configFlag
	Address string `arg:"" help:"The account's address."`
	Yes     bool   `help:"Do not ask."`
}

func (c *accountRemoveCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		info, err := a.Account(e.ctx, c.Address)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s and all of its mail (%d messages, %d held)", info.Address, info.Messages, info.Held)
		if !c.Yes {
			if err := confirm(e, "Remove "+what+" for good?"); err != nil {
				return err
			}
		}
		if err := a.RemoveAccount(e.ctx, c.Address); err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "Removed %s.\n", what)
		return err
	})
}
