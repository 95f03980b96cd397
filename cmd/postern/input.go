package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxInput is the largest key or certificate file that is read, in octets.
const maxInput = 1 << 20

// readFile reads a named file, or standard input for "-".
func readFile(e *env, name string) ([]byte, error) {
	r := e.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("%s is larger than %d octets: export a smaller key or certificate (gpg --export-options export-minimal --armor --export ADDRESS)", name, maxInput)
	}
	return b, nil
}

// confirm asks a question on the terminal. Where nobody answers, nothing is confirmed.
func confirm(e *env, question string) error {
	fmt.Fprint(e.stderr, question, " [y/N] ")
	line, err := bufio.NewReader(io.LimitReader(e.stdin, 1024)).ReadString('\n')
	if err != nil && line == "" {
		return errors.New("not confirmed; give --yes to go on without asking")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not confirmed; nothing was changed")
}

// readSecret reads one line, without echo where standard input is a terminal.
// Secrets are never taken as arguments.
func readSecret(e *env, prompt string) (string, error) {
	if f, ok := e.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(e.stderr, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(e.stderr)
		return string(b), err
	}
	return firstLine(e.stdin, "standard input")
}

// firstLine reads a secret from a file or a pipe.
func firstLine(r io.Reader, name string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", fmt.Errorf("nothing on the first line of %s", name)
	}
	return line, nil
}
