package main

import (
	"postern/internal/server"
)

type serveCmd struct {
	Config string `short:"c" required:"" env:"POSTERN_CONFIG" type:"path" placeholder:"FILE" help:"The configuration file."`
}

func (c *serveCmd) Run(e *env) error {
	return server.ServeFile(e.ctx, c.Config, e.stderr)
}
