package main

import (
	"postern/internal/admin"
)

type versionCmd struct {
	jsonFlag
}

func (c *versionCmd) Run(e *env) error { return show(e.stdout, c.JSON, admin.Version()) }
