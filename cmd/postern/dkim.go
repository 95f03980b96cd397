package main

import (
	"postern/internal/admin"
)

type dkimCmd struct {
	Rotate dkimRotateCmd `cmd:"" help:"Make the next DKIM keys of a domain, and later, when their records are published, sign with them."`
}

type dkimRotateCmd struct {
	configFlag
	jsonFlag
	Domain   string `arg:"" help:"One of our domains."`
	Activate bool   `help:"Sign with the keys that were made, if the DNS shows their records."`
	NoDNS    bool   `name:"no-dns" help:"With --activate: do not ask the DNS."`
}

func (c *dkimRotateCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		var r *admin.Rotation
		var err error
		if c.Activate {
			r, err = a.ActivateDKIM(e.ctx, c.Domain, !c.NoDNS)
		} else {
			r, err = a.RotateDKIM(c.Domain)
		}
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, r)
	})
}
