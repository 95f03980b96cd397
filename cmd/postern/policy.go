package main

import (
	"postern/internal/admin"
)

type policyCmd struct {
	Test policyTestCmd `cmd:"" help:"Load a policy file and run its examples."`
}

type policyTestCmd struct {
	configFlag
	jsonFlag
	File string `type:"path" placeholder:"FILE" help:"The policy file. Default: the one that the configuration names."`
}

func (c *policyTestCmd) Run(e *env) error {
	examples, err := admin.TestPolicy(c.Config, c.File)
	if err != nil {
		return err
	}
	if err := show(e.stdout, c.JSON, examples); err != nil {
		return err
	}
	return examples.Err()
}
