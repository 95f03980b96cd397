package main

import (
	"encoding/json"
	"io"
)

// texter is a result that knows how to stand in human text.
type texter interface {
	WriteText(w io.Writer) error
}

// show prints a result as JSON or as text.
func show(w io.Writer, asJSON bool, v texter) error {
	if asJSON {
		return printJSON(w, v)
	}
	return v.WriteText(w)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
