package admin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/internal/store"
)

// walkMaildir visits a Maildir and the Maildir++ folders in it (".Sent", ".Lists.go").
// With a mailbox, everything goes to it and below it.
func walkMaildir(dir, mailbox string, visit func(old) error) error {
	if info, err := os.Stat(filepath.Join(dir, "cur")); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a Maildir: it has no cur/", dir)
	}
	root := mailbox
	if root == "" {
		root = "INBOX"
	}
	if err := walkFolder(dir, root, visit); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name, err := folderName(e.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		if mailbox != "" {
			name = mailbox + "/" + name
		}
		if err := walkFolder(filepath.Join(dir, e.Name()), name, visit); err != nil {
			return err
		}
	}
	return nil
}

// walkFolder visits the messages of one Maildir folder, those of cur/ first, by name.
func walkFolder(dir, mailbox string, visit func(old) error) error {
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			name := filepath.Join(dir, sub, e.Name())
			info, err := e.Info()
			if err != nil {
				return err
			}
			err = visit(old{
				where: name, mailbox: mailbox, flags: maildirFlags(e.Name()), date: info.ModTime(),
				open: func() (io.ReadCloser, error) { return os.Open(name) },
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// folderName is the mailbox of a Maildir++ folder.
func folderName(folder string) (string, error) {
	levels := strings.Split(strings.TrimPrefix(folder, "."), ".")
	for i, level := range levels {
		name, err := decodeUTF7(level)
		if err != nil || strings.Contains(name, "/") {
			// Written by a program that does not know of the encoding.
			name = level
		}
		levels[i] = name
	}
	return store.CanonicalName(strings.Join(levels, "/"))
}

// folder is the Maildir++ folder of a mailbox, the other way round.
func folder(dir, mailbox string) string {
	if mailbox == "INBOX" {
		return dir
	}
	return filepath.Join(dir, "."+strings.ReplaceAll(encodeUTF7(mailbox), "/", "."))
}

// letter is a flag in the name of a Maildir file.
type letter struct {
	letter string
	flag   store.Flags
	name   string
}

// letters are in the order in which a name has them.
func letters() []letter {
	return []letter{
		{"D", store.Draft, `\Draft`}, {"F", store.Flagged, `\Flagged`}, {"P", 0, "$Forwarded"},
		{"R", store.Answered, `\Answered`}, {"S", store.Seen, `\Seen`}, {"T", store.Deleted, `\Deleted`},
	}
}

// maildirFlags reads the flags of a Maildir file name, ":2,FS".
func maildirFlags(name string) []string {
	_, info, _ := strings.Cut(name, ":2,")
	var flags []string
	for _, l := range letters() {
		if strings.Contains(info, l.letter) {
			flags = append(flags, l.name)
		}
	}
	return flags
}

// maildirLetters writes the flags for a Maildir file name.
func maildirLetters(f store.Flags, keywords string) string {
	s := ""
	for _, l := range letters() {
		if f&l.flag != 0 || l.flag == 0 && hasKeyword(keywords, l.name) {
			s += l.letter
		}
	}
	return s
}

// hasKeyword looks for a keyword among those of an entry.
func hasKeyword(keywords, want string) bool {
	for k := range strings.FieldsSeq(keywords) {
		if strings.EqualFold(k, want) {
			return true
		}
	}
	return false
}
