package main

import (
	"fmt"

	"postern/internal/admin"
)

type quickstartCmd struct {
	jsonFlag
	Address  string `arg:"" help:"The first account, such as alice@example.org."`
	Dir      string `required:"" type:"path" placeholder:"DIR" help:"A new directory for configuration, keys and mail."`
	Listen   string `placeholder:"IP" help:"The IP address to listen on. Default: all of this machine's."`
	BasePort int    `name:"base-port" placeholder:"N" help:"Add this to every port, to run without privileges (20000: SMTP on 20025)."`
	Cert     string `type:"path" placeholder:"FILE" help:"The account's OpenPGP certificate, armored or binary; - for standard input."`
	Hostname string `placeholder:"NAME" help:"This server's name in DNS. Default: mail.<domain of the address>."`
	Yes      bool   `help:"Do not ask."`
}

func (c *quickstartCmd) Run(e *env) error {
	o := admin.QuickstartOptions{Address: c.Address, Dir: c.Dir, Listen: c.Listen, BasePort: c.BasePort, Hostname: c.Hostname}
	if c.Cert != "" {
		var err error
		if o.Certificate, err = readFile(e, c.Cert); err != nil {
			return err
		}
	}
	// A program that asks for JSON has nobody to ask.
	if !c.Yes && !c.JSON {
		if err := confirm(e, fmt.Sprintf("Make a gateway for %s in %s?", c.Address, c.Dir)); err != nil {
			return err
		}
	}
	setup, err := admin.Quickstart(e.ctx, o)
	if err != nil {
		return err
	}
	return show(e.stdout, c.JSON, setup)
}
