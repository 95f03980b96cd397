package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// autocryptField is a field with this content; the folding is that of real mail.
func autocryptField(value string) Field {
	h, _, _ := ParseHeader([]byte("Autocrypt: " + value + "\r\n\r\n"))
	return h.Fields[0]
}

func TestParseAutocrypt(t *testing.T) {
	t.Parallel()
	key := []byte("\x98 this stands for a certificate")
	b64 := base64.StdEncoding.EncodeToString(key)
	for name, test := range map[string]struct {
		value string
		want  *Autocrypt // nil: invalid
	}{
		"least":                  {"addr=a@b.test; keydata=" + b64, &Autocrypt{"a@b.test", false, key}},
		"mutual":                 {"addr=a@b.test; prefer-encrypt=mutual; keydata=" + b64, &Autocrypt{"a@b.test", true, key}},
		"another order":          {"prefer-encrypt=mutual; addr=a@b.test; keydata=" + b64, &Autocrypt{"a@b.test", true, key}},
		"no spaces":              {"addr=a@b.test;prefer-encrypt=mutual;keydata=" + b64, &Autocrypt{"a@b.test", true, key}},
		"spaces everywhere":      {" addr = a@b.test ;\tprefer-encrypt = mutual ; keydata = " + b64 + " ", &Autocrypt{"a@b.test", true, key}},
		"folded":                 {"addr=a@b.test; keydata=\r\n " + b64[:10] + "\r\n\t" + b64[10:], &Autocrypt{"a@b.test", false, key}},
		"no preference":          {"addr=a@b.test; prefer-encrypt=nopreference; keydata=" + b64, &Autocrypt{"a@b.test", false, key}},
		"unknown preference":     {"addr=a@b.test; prefer-encrypt=MUTUAL; keydata=" + b64, &Autocrypt{"a@b.test", false, key}},
		"non-critical attribute": {"addr=a@b.test; _x=1=2; _y; keydata=" + b64, &Autocrypt{"a@b.test", false, key}},
		"critical attribute":     {"addr=a@b.test; type=2; keydata=" + b64, nil},
		"critical, no value":     {"addr=a@b.test; x; keydata=" + b64, nil},
		"names have one case":    {"Addr=a@b.test; keydata=" + b64, nil},
		"no addr":                {"keydata=" + b64, nil},
		"empty addr":             {"addr=; keydata=" + b64, nil},
		"two addr":               {"addr=a@b.test; addr=c@d.test; keydata=" + b64, nil},
		"two preferences":        {"addr=a@b.test; prefer-encrypt=mutual; prefer-encrypt=mutual; keydata=" + b64, nil},
		"no keydata":             {"addr=a@b.test", nil},
		"empty keydata":          {"addr=a@b.test; keydata=", nil},
		"keydata not last":       {"addr=a@b.test; keydata=" + b64 + "; prefer-encrypt=mutual", nil},
		"addr behind keydata":    {"keydata=" + b64 + "; addr=a@b.test", nil},
		"keydata in another":     {"addr=a@b.test; _x=keydata=" + b64, nil},
		"empty attribute":        {"addr=a@b.test;; keydata=" + b64, nil},
		"not base64":             {"addr=a@b.test; keydata=!" + b64, nil},
		"base64 cut off":         {"addr=a@b.test; keydata=" + b64[:13], nil},
		"armor":                  {"addr=a@b.test; keydata=-----BEGIN PGP PUBLIC KEY BLOCK-----", nil},
		"empty":                  {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := ParseAutocrypt(autocryptField(test.value))
			if test.want == nil {
				if !errors.Is(err, ErrAutocrypt) {
					t.Errorf("%+v, %v; want ErrAutocrypt", a, err)
				}
				return
			}
			if err != nil || a.Addr != test.want.Addr || a.Mutual != test.want.Mutual || !bytes.Equal(a.KeyData, test.want.KeyData) {
				t.Errorf("%+v, %v; want %+v", a, err, *test.want)
			}
		})
	}
}

// TestAutocryptSize: the limit counts the name and the folding, and not the end.
func TestAutocryptSize(t *testing.T) {
	t.Parallel()
	start := "Autocrypt: addr=a@b.test; keydata=QUJD\r\n "
	for size, valid := range map[int]bool{MaxAutocrypt: true, MaxAutocrypt + 1: false} {
		raw := start + strings.Repeat(" ", size-len(start)-4) + "QUJD"
		if len(raw) != size {
			t.Fatalf("the test makes %d octets", len(raw))
		}
		h, _, _ := ParseHeader([]byte(raw + "\r\n\r\n"))
		if _, err := ParseAutocrypt(h.Fields[0]); (err == nil) != valid {
			t.Errorf("%d octets: %v", size, err)
		}
	}
}

func TestAutocryptFields(t *testing.T) {
	t.Parallel()
	h, _, _ := ParseHeader([]byte("From: a@b.test\r\n" +
		"Autocrypt: addr=one@b.test; keydata=QUJD\r\n" +
		"Autocrypt: addr=critical@b.test; x=y; keydata=QUJD\r\n" +
		"Autocrypt-Gossip: addr=gossip@b.test; keydata=QUJD\r\n" +
		"autocrypt: addr=two@b.test;\r\n keydata=QUJD\r\n" +
		"X-Autocrypt: addr=x@b.test; keydata=QUJD\r\n\r\n"))
	var got []string
	for _, a := range AutocryptFields(h) {
		got = append(got, a.Addr)
	}
	if want := "one@b.test two@b.test"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	// The gossip field has the same form.
	if a, err := ParseAutocrypt(h.Fields[3]); err != nil || a.Addr != "gossip@b.test" {
		t.Errorf("gossip: %+v, %v", a, err)
	}
}

func TestSaysNothingOfAuthor(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]bool{
		"Subject: x":                   false,
		"Auto-Submitted: auto-replied": true,
		"Auto-Submitted: Auto-Replied (vacation); owner-email=\"a@b\"":  true,
		"Auto-Submitted: auto-generated":                                false,
		"Auto-Submitted: no":                                            false,
		"Auto-Submitted: no\r\nAuto-Submitted: auto-replied":            true,
		"Content-Type: multipart/report; report-type=delivery-status":   true,
		"Content-Type: Multipart/Report;\r\n report-type=x; boundary=y": true,
		"Content-Type: multipart/mixed; boundary=\"multipart/report\"":  false,
		"Content-Type: text/plain":                                      false,
	} {
		h, _, _ := ParseHeader([]byte(fields + "\r\n\r\n"))
		if got := SaysNothingOfAuthor(h); got != want {
			t.Errorf("%q: %v", fields, got)
		}
	}
}

// FuzzParseAutocrypt: what is accepted can be written again and says the same.
func FuzzParseAutocrypt(f *testing.F) {
	for _, seed := range []string{
		"addr=a@b.test; prefer-encrypt=mutual; keydata=QUJD",
		"addr=a@b.test; _x=\r\n ;;=; keydata=\r\n QU\r\n\tJD",
		"keydata=QUJD; addr=a@b.test", "addr=a;_;keydata==", ";", "=", "addr=\x00; keydata=QQ==",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h, _, err := ParseHeader([]byte("Autocrypt: " + value + "\r\n\r\n"))
		if err != nil || len(h.Fields) == 0 {
			return
		}
		a, err := ParseAutocrypt(h.Fields[0])
		if err != nil {
			if a.Addr != "" || a.KeyData != nil {
				t.Errorf("content beside an error: %+v", a)
			}
			return
		}
		if a.Addr == "" || len(a.KeyData) == 0 || len(h.Fields[0].Raw) > MaxAutocrypt+len(value) || strings.ContainsAny(a.Addr, ";\r\n") {
			t.Fatalf("accepted %+v", a)
		}
		again := "addr=" + a.Addr + "; "
		if a.Mutual {
			again += "prefer-encrypt=mutual; "
		}
		b, err := ParseAutocrypt(autocryptField(again + "keydata=" + base64.StdEncoding.EncodeToString(a.KeyData)))
		if err != nil && len(h.Fields[0].Raw) < MaxAutocrypt-64 {
			t.Fatalf("%+v cannot be read again: %v", a, err)
		}
		if err == nil && (b.Addr != a.Addr || b.Mutual != a.Mutual || !bytes.Equal(b.KeyData, a.KeyData)) {
			t.Errorf("%+v became %+v", a, b)
		}
	})
}

func BenchmarkParseAutocrypt(b *testing.B) {
	f := autocryptField("addr=a@b.test; prefer-encrypt=mutual; keydata=\r\n " +
		strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n ", 20) + "QUJD")
	b.SetBytes(int64(len(f.Raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseAutocrypt(f); err != nil {
			b.Fatal(err)
		}
	}
}
