package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// Render writes c as a file with every key and a comment above each. Load of what
// it wrote returns c again, paths apart.
func Render(c *Config) []byte {
	var b bytes.Buffer
	b.WriteString("# Configuration of Postern. Each key is shown with what it is set to.\n")
	b.WriteString("# An unknown key is an error. \"postern check\" reads this file and says what is wrong.\n")
	renderTable(&b, reflect.ValueOf(c).Elem(), "")
	return b.Bytes()
}

// renderTable writes the keys of a table and then the tables in it, as TOML wants.
func renderTable(b *bytes.Buffer, v reflect.Value, path string) {
	var tables []int
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Type.Kind() == reflect.Struct {
			tables = append(tables, i)
			continue
		}
		comment(b, f.Tag.Get("doc"))
		fmt.Fprintf(b, "%s = %s\n", f.Tag.Get("toml"), literal(v.Field(i).Interface()))
	}
	for _, i := range tables {
		f := v.Type().Field(i)
		comment(b, f.Tag.Get("doc"))
		name := path + f.Tag.Get("toml")
		fmt.Fprintf(b, "[%s]\n", name)
		renderTable(b, v.Field(i), name+".")
	}
}

// comment writes text as a comment of lines up to about 90 characters.
func comment(b *bytes.Buffer, text string) {
	b.WriteString("\n#")
	width := 1
	for word := range strings.FieldsSeq(text) {
		if width+1+len(word) > 90 {
			b.WriteString("\n#")
			width = 1
		}
		b.WriteString(" " + word)
		width += 1 + len(word)
	}
	b.WriteString("\n")
}

// literal writes a value as TOML.
func literal(v any) string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(map[string]any{"v": v}); err != nil {
		// Only types that TOML has no form for fail, and Config has none.
		panic(fmt.Sprintf("config: render %T: %v", v, err))
	}
	return strings.TrimSpace(strings.TrimPrefix(b.String(), "v = "))
}
