package main

import (
	"errors"
	"fmt"

	"postern/internal/admin"
)

type certCmd struct {
	Import certImportCmd `cmd:"" help:"Import certificates for an account; held mail is sealed to them at once."`
	List   certListCmd   `cmd:"" help:"List certificates."`
	Show   certShowCmd   `cmd:"" help:"Show certificates whole: algorithm, user IDs, dates, whether mail can be sealed to them."`
	Export certExportCmd `cmd:"" help:"Print an account's certificates, armored."`
	Remove certRemoveCmd `cmd:"" help:"Remove a certificate; mail already sealed to it stays as it is."`

	History certHistoryCmd `cmd:"" help:"Show what changed in the certificate of an address, when, and by which rule."`
	Accept  certAcceptCmd  `cmd:"" help:"Use the correspondent's certificate that waits for a decision."`
	Reject  certRejectCmd  `cmd:"" help:"Refuse the correspondent's certificate that waits for a decision."`
	Pin     certPinCmd     `cmd:"" help:"Set a correspondent's certificate, above all sources."`
	Unpin   certUnpinCmd   `cmd:"" help:"Let the sources decide again about a correspondent."`
}

type certImportCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" help:"The account's address."`
	File    string `arg:"" help:"A certificate file, armored or binary; - for standard input."`
}

func (c *certImportCmd) Run(e *env) error {
	data, err := readFile(e, c.File)
	if err != nil {
		return err
	}
	return c.with(e, func(a *admin.Admin) error {
		list, err := a.ImportCertificates(e.ctx, c.Address, data)
		if list == nil {
			return err
		}
		return errors.Join(show(e.stdout, c.JSON, list), err)
	})
}

type certListCmd struct {
	configFlag
	jsonFlag
	Address string `arg:"" optional:"" help:"Only this account's."`
}

func (c *certListCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		list, err := a.Certificates(e.ctx, c.Address)
		if err != nil {
			return err
		}
		return show(e.stdout, c.JSON, list)
	})
}

type certShowCmd struct {
	configFlag
	jsonFlag
	Which string `arg:"" help:"A fingerprint, or the address of an account."`
}

func (c *certShowCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		list, err := a.ShowCertificates(e.ctx, c.Which)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(e.stdout, list)
		}
		return list.WriteLong(e.stdout)
	})
}

type certExportCmd struct {
	configFlag
	Address string `arg:"" help:"The account's address."`
}

func (c *certExportCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		armor, err := a.ExportCertificates(e.ctx, c.Address)
		if err != nil {
			return err
		}
		_, err = e.stdout.Write(armor)
		return err
	})
}

// certRemoveCmd prints the certificates that are left, and a warning if none is.
type certRemoveCmd struct {
	configFlag
	jsonFlag
	Address     string `arg:"" help:"The account's address."`
	Fingerprint string `arg:"" help:"The certificate's fingerprint, whole."`
}

func (c *certRemoveCmd) Run(e *env) error {
	return c.with(e, func(a *admin.Admin) error {
		if err := a.RemoveCertificate(e.ctx, c.Address, c.Fingerprint); err != nil {
			return err
		}
		left, err := a.Certificates(e.ctx, c.Address)
		if err != nil {
			return err
		}
		if note := a.WithoutCertificate(c.Address, left); note != "" {
			fmt.Fprintln(e.stderr, "Note:", note)
		}
		return show(e.stdout, c.JSON, left)
	})
}
