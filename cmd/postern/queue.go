package main

import "postern/internal/admin"

type queueCmd struct {
	List    queueListCmd    `cmd:"" help:"List what waits to be delivered elsewhere, and why."`
	Show    queueShowCmd    `cmd:"" help:"Show all that is known of a recipient, or of all recipients of a copy."`
	Retry   queueRetryCmd   `cmd:"" help:"Try recipients now."`
	Hold    queueHoldCmd    `cmd:"" help:"Leave recipients alone until they are released."`
	Release queueReleaseCmd `cmd:"" help:"Let recipients go on that are on hold, and look again for the certificates that others wait for."`
	Remove  queueRemoveCmd  `cmd:"" help:"Give mail back: it is not delivered, and its sender gets a report."`
}

// queueFlags select recipients.
type queueFlags struct {
	configFlag
	jsonFlag
	ID     string `arg:"" optional:"" help:"The id of a recipient, as postern queue list shows it, or of a copy."`
	Domain string `placeholder:"DOMAIN" help:"All recipients in this domain."`
	All    bool   `help:"All recipients."`
}

func (f *queueFlags) selection() admin.QueueSelection {
	return admin.QueueSelection{ID: f.ID, Domain: f.Domain, All: f.All}
}

type queueListCmd struct {
	configFlag
	jsonFlag
	Domain string `placeholder:"DOMAIN" help:"Only recipients in this domain."`
}

func (c *queueListCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		list, err := a.Queue(e.ctx, admin.QueueSelection{Domain: c.Domain, All: c.Domain == ""})
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, list)
	})
}

type queueShowCmd struct {
	configFlag
	jsonFlag
	ID string `arg:"" help:"The id of a recipient, as postern queue list shows it, or of a copy."`
}

func (c *queueShowCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		list, err := a.Queue(e.ctx, admin.QueueSelection{ID: c.ID})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(e.stdout, list)
		}
		return list.WriteLong(e.stdout)
	})
}

type queueRetryCmd struct{ queueFlags }

func (c *queueRetryCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		changed, err := a.RetryQueue(e.ctx, c.selection())
		return c.result(e, changed, err)
	})
}

type queueHoldCmd struct{ queueFlags }

func (c *queueHoldCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		changed, err := a.HoldQueue(e.ctx, c.selection())
		return c.result(e, changed, err)
	})
}

type queueReleaseCmd struct{ queueFlags }

func (c *queueReleaseCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		changed, err := a.ReleaseQueue(e.ctx, c.selection())
		return c.result(e, changed, err)
	})
}

type queueRemoveCmd struct {
	queueFlags
	Silent bool `help:"Tell nobody: the mail is lost at once. Needs --yes."`
	Yes    bool `help:"Confirm --silent."`
}

func (c *queueRemoveCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		changed, err := a.RemoveQueue(e.ctx, c.selection(), c.Silent, c.Yes)
		return c.result(e, changed, err)
	})
}

// result prints how many recipients were changed.
func (f *queueFlags) result(e *env, changed admin.QueueChange, err error) error {
	if err != nil {
		return err
	}
	return show(e.stdout, f.JSON, changed)
}
