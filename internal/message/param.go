package message

import "strings"

// maxParams is how many parameters of one field are kept.
const maxParams = 64

// Param is one parameter of a MIME field, in the order and form it came in:
// extended and continued parameters (RFC 2231) are not put together.
type Param struct {
	Name  string // lower case
	Value string // without quotes
}

// Params are the parameters of one field.
type Params []Param

// Get returns the first parameter of this name, which must be in lower case.
func (ps Params) Get(name string) (string, bool) {
	for i := range ps {
		if ps[i].Name == name {
			return ps[i].Value, true
		}
	}
	return "", false
}

// parseMediaType reads an unfolded Content-Type value as far as it can be
// understood. typ and subtype are in lower case and both empty if there are not
// two of them (RFC 2045 5.2 then says text/plain).
func parseMediaType(v string) (typ, subtype string, params Params) {
	i := skipCFWS(v, 0)
	from := i
	for i < len(v) && isTokenChar(v[i]) {
		i++
	}
	typ = strings.ToLower(v[from:i])
	if i = skipCFWS(v, i); i < len(v) && v[i] == '/' {
		i = skipCFWS(v, i+1)
		from = i
		for i < len(v) && isTokenChar(v[i]) {
			i++
		}
		subtype = strings.ToLower(v[from:i])
	}
	if typ == "" || subtype == "" {
		typ, subtype = "", ""
	}
	return typ, subtype, parseParams(v[i:])
}

// parseDisposition reads an unfolded Content-Disposition value (RFC 2183).
func parseDisposition(v string) (disposition string, params Params) {
	i := skipCFWS(v, 0)
	from := i
	for i < len(v) && isTokenChar(v[i]) {
		i++
	}
	return strings.ToLower(v[from:i]), parseParams(v[i:])
}

// parseParams reads "; name=value" lists. Whatever stands between a value and
// the next semicolon is passed over.
func parseParams(v string) Params {
	var params Params
	for len(params) < maxParams {
		n := strings.IndexByte(v, ';')
		if n < 0 {
			break
		}
		i := skipCFWS(v, n+1)
		from := i
		for i < len(v) && isTokenChar(v[i]) {
			i++
		}
		name := strings.ToLower(v[from:i])
		if i = skipCFWS(v, i); i >= len(v) || v[i] != '=' || name == "" {
			v = v[i:]
			continue
		}
		var value string
		value, i = paramValue(v, skipCFWS(v, i+1))
		params = append(params, Param{Name: name, Value: value})
		v = v[i:]
	}
	return params
}

// paramValue reads a quoted-string or, more leniently than a token, everything up
// to the semicolon or a comment: names of files often lack their quotes.
func paramValue(v string, i int) (value string, next int) {
	if i < len(v) && v[i] == '"' {
		from, escaped := i+1, false
		for i++; i < len(v) && v[i] != '"'; i++ {
			if v[i] == '\\' && i+1 < len(v) {
				escaped = true
				i++
			}
		}
		if value = v[from:i]; escaped {
			value = unquote(value)
		}
		return value, min(i+1, len(v))
	}
	from := i
	for i < len(v) && v[i] != ';' {
		if v[i] == '(' && i > from && isWSP(v[i-1]) {
			break
		}
		i++
	}
	return strings.Trim(v[from:i], " \t"), i
}

// skipCFWS returns the offset behind comments and white space.
func skipCFWS(s string, i int) int {
	for i < len(s) {
		switch {
		case isWSP(s[i]):
			i++
		case s[i] == '(':
			i, _ = skipComment(s, i)
		default:
			return i
		}
	}
	return i
}

// isTokenChar is the token of RFC 2045 5.1, and 8-bit octets besides.
func isTokenChar(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// endsOpen reports whether a value ends within a quoted-string or a comment, so
// that what one appends would become part of that.
func endsOpen(v string) bool {
	for i := 0; i < len(v); {
		switch v[i] {
		case '"':
			for i++; i < len(v) && v[i] != '"'; i++ {
				if v[i] == '\\' {
					i++
				}
			}
			if i >= len(v) {
				return true
			}
			i++
		case '(':
			end, closed := skipComment(v, i)
			if !closed {
				return true
			}
			i = end
		default:
			i++
		}
	}
	return false
}
