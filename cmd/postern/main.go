// Command postern is a mail gateway between ordinary e-mail and the network of people
// who use OpenPGP. One file holds one command; none holds logic.
//
// It prints text for people, or JSON with --json. It ends with 0 if all is well, with 1
// if something failed, and with 2 if the command line was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"postern/internal/admin"
)

// The exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// cli is the whole command line.
type cli struct {
	Demo       demoCmd       `cmd:"" help:"Show the whole path on loopback: real SMTP in, sealed on disk, read by IMAP, and out again, sealed or marked."`
	Quickstart quickstartCmd `cmd:"" help:"Make a data directory, configuration, keys and the first account."`
	Serve      serveCmd      `cmd:"" help:"Run the gateway."`
	Account    accountCmd    `cmd:"" help:"Manage accounts and their passwords."`
	Cert       certCmd       `cmd:"" help:"Manage the certificates that mail is sealed to."`
	Explain    explainCmd    `cmd:"" help:"Say how mail to an address would be protected now, or how a message was, and why."`
	Policy     policyCmd     `cmd:"" help:"Try the rules for mail that leaves."`
	DKIM       dkimCmd       `cmd:"" name:"dkim" help:"Manage the keys that sign what leaves."`
	Queue      queueCmd      `cmd:"" help:"See and change what waits to be delivered elsewhere."`
	Key        keyCmd        `cmd:"" help:"On your own machine: make a key."`
	Open       openCmd       `cmd:"" help:"On your own machine: open a sealed message and say what its provenance proves."`
	Import     importCmd     `cmd:"" help:"Seal old mail (mbox or Maildir) into an account."`
	Export     exportCmd     `cmd:"" help:"Write an account's mail to a Maildir, as it is stored."`
	Check      checkCmd      `cmd:"" help:"Check configuration, DNS, certificates, the running server and the store."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// env is what a command may use of the world.
type env struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// configFlag is the flag of every command that works on a gateway's data.
type configFlag struct {
	Config string `short:"c" default:"postern.toml" env:"POSTERN_CONFIG" type:"path" help:"The configuration file."`
}

// with opens the gateway's data, runs do, and closes it.
func (c configFlag) with(e *env, do func(*admin.Admin) error) error {
	a, err := admin.Open(e.ctx, c.Config)
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.Close())
}

// jsonFlag is the flag of every command that prints a list or a decision.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func main() { os.Exit(program()) }

// program is the process: its signals, arguments, input and output.
func program() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run is program without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	// kong ends the process after --help; done records that instead.
	done := false
	parser, err := kong.New(&c, kong.Name("postern"), kong.Writers(stdout, stderr),
		kong.Description("A mail gateway that seals ordinary mail to its recipient's OpenPGP certificate. Exit codes: 0 fine, 1 failed, 2 wrong usage."),
		kong.Exit(func(int) { done = true }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(stderr, "postern:", err)
		return exitFailed
	}
	command, err := parser.Parse(args)
	if done {
		return exitFine
	}
	if err != nil {
		return wrongUsage(stderr, err)
	}
	e := &env{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr}
	err = command.Run(e)
	if errors.Is(err, admin.ErrUsage) {
		return wrongUsage(stderr, err)
	}
	if err != nil {
		fmt.Fprintln(stderr, "postern:", err)
		return exitFailed
	}
	return exitFine
}

func wrongUsage(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "postern: %v\nTry: postern --help\n", err)
	return exitUsage
}
