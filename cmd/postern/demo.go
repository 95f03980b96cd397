package main

import (
	"postern/internal/demo"
)

type demoCmd struct {
	Once bool `help:"Do not stay: run the checks and end."`
}

func (c *demoCmd) Run(e *env) error {
	return demo.Run(e.ctx, e.stdout, c.Once)
}
