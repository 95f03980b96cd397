package main

import (
	"postern/internal/admin"
)

type checkCmd struct {
	configFlag
	jsonFlag
	Store bool `help:"Read every row and every blob, and verify every digest."`
	NoDNS bool `name:"no-dns" help:"Do not ask the DNS."`
}

func (c *checkCmd) Run(e *env) error {
	report := admin.Check(e.ctx, c.Config, admin.CheckOptions{Store: c.Store, DNS: !c.NoDNS})
	if err := show(e.stdout, c.JSON, report); err != nil {
		return err
	}
	return report.Err()
}
