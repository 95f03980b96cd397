package main

import (
	"postern/internal/admin"
)

type explainCmd struct {
	configFlag
	jsonFlag
	From    string   `placeholder:"ADDRESS" help:"The address that an account would send from. Default: one that no rule names."`
	Message string   `placeholder:"ID" help:"Instead: what was decided and done with a message that was submitted, by the ID of the reply \"queued as ID\"."`
	Rcpt    []string `arg:"" optional:"" help:"The recipients' addresses."`
}

func (c *explainCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		if c.Message != "" && len(c.Rcpt) == 0 && c.From == "" {
			story, err := a.ExplainMessage(e.ctx, c.Message)
			if err != nil {
				return err
			}
			return show(e.stdout, c.JSON, story)
		}
		if c.Message != "" || len(c.Rcpt) == 0 {
			return admin.Usage("name recipients, or a message with --message alone")
		}
		list, err := a.Explain(e.ctx, c.From, c.Rcpt)
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, list)
	})
}

type certHistoryCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" help:"The address, ours or anybody's."`
}

func (c *certHistoryCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		list, err := a.CertificateHistory(e.ctx, c.Address)
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, list)
	})
}

type certAcceptCmd struct {
	configFlag
	Address string `arg:"" help:"The correspondent's address."`
}

func (c *certAcceptCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error { return a.AcceptCertificate(e.ctx, c.Address) })
}

type certRejectCmd struct {
	configFlag
	Address string `arg:"" help:"The correspondent's address."`
}

func (c *certRejectCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error { return a.RejectCertificate(e.ctx, c.Address) })
}

type certPinCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" help:"The correspondent's address."`
	File    string `arg:"" help:"The certificate, armored or binary; - for standard input."`
}

func (c *certPinCmd) Run(e *env) error {
	data, err := readFile(e, c.File)
	if err != nil {
		return err
	}
	return c.with(e, func(a *admin.Admin) error {
		pinned, err := a.PinCertificate(e.ctx, c.Address, data)
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, pinned)
	})
}

type certUnpinCmd struct {
	configFlag
	Address string `arg:"" help:"The correspondent's address."`
}

func (c *certUnpinCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error { return a.UnpinCertificate(e.ctx, c.Address) })
}
