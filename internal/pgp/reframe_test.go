package pgp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// reframed inspects and reframes.
func reframed(t *testing.T, message []byte) []byte {
	t.Helper()
	found, err := Inspect(bytes.NewReader(message))
	if err != nil || !found.Encrypted {
		t.Fatalf("%+v, %v", found, err)
	}
	var out bytes.Buffer
	if err := Reframe(&out, iotest.HalfReader(bytes.NewReader(message)), found); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// strictly checks a message as the strictest readers do, by rules of its own: the begin
// line, at most a Version, a checksum, and nothing but new-format packets, of which the
// last is the encrypted data.
func strictly(t *testing.T, message []byte) {
	t.Helper()
	text, ok := strings.CutPrefix(string(message), "-----BEGIN PGP MESSAGE-----\r\n\r\n")
	text, end := strings.CutSuffix(text, "-----END PGP MESSAGE-----\r\n")
	at := strings.LastIndex(text, "\r\n=")
	if !ok || !end || at < 0 || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
		t.Fatalf("armor:\n%.200s", message)
	}
	data, err := readArmor(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		if data[0]&0xC0 != 0xC0 {
			t.Fatalf("old-format header %x", data[0])
		}
		p, rest, err := cutPacket(data)
		if err != nil {
			t.Fatal(err)
		}
		data = rest
		if last := len(rest) == 0; last != (p.tag == tagSEIPD) || !last && p.tag != tagPKESK && p.tag != tagSKESK {
			t.Fatalf("packet of type %d", p.tag)
		}
	}
}

// TestReframe: whatever the form, the packets' octets stay, and the form is strict.
func TestReframe(t *testing.T) {
	t.Parallel()
	k := testKey(t, "curve25519")
	data := randomOctets(4700)
	sealed, err := readArmor(bytes.NewReader(sealTo(t, data, 1<<20, k.Certificate())))
	if err != nil {
		t.Fatal(err)
	}
	var pkesk, seipd rawPacket
	for rest := sealed; len(rest) > 0; {
		var p rawPacket
		if p, rest, err = cutPacket(rest); err != nil {
			t.Fatal(err)
		}
		switch p.tag {
		case tagPKESK:
			pkesk = p
		case tagSEIPD:
			seipd = p
		}
	}
	plain := slices.Concat(pkesk.raw, seipd.raw)
	strict := string(armored(typeMessage, plain, 4))
	for name, message := range map[string]string{
		"old-format headers": string(armored(typeMessage, slices.Concat(oldPacket(tagPKESK, pkesk.body), seipd.raw), 4)),
		"partial lengths":    string(slices.Concat(pkesk.raw, partialPacket(tagSEIPD, seipd.body))),
		"markers":            string(armored(typeMessage, slices.Concat(marker[:], plain), 4)),
		"binary":             string(plain),
		"bare LF":            strings.ReplaceAll(strict, "\r\n", "\n"),
		"comment":            strings.Replace(strict, "\r\n", "\r\nComment: hello\r\n", 1),
		"empty line before":  "\r\n" + strict,
		"empty line within":  strings.Replace(strict, "\r\n=", "\r\n\r\n=", 1),
		"blanks at line end": strings.Replace(strict, "\r\n=", "  \r\n=", 1),
		"no checksum":        string(armored(typeMessage, plain, 6)),
	} {
		found, err := Inspect(strings.NewReader(message))
		if err != nil || !found.Encrypted || found.Strict {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		got := reframed(t, []byte(message))
		strictly(t, got)
		if string(got) != strict {
			t.Errorf("%s: reframed to\n%s", name, got)
		}
	}
	if found, _ := Inspect(strings.NewReader(strict)); !found.Strict {
		t.Error("what is strict is not seen as such")
	}
	if found, _ := Inspect(strings.NewReader(strings.Replace(strict, "\r\n", "\r\nVersion: 1\r\n", 1))); !found.Strict {
		t.Error("a Version header is allowed")
	}
	if !bytes.Equal(opened(t, k, []byte(strict)), data) {
		t.Error("opened to something else")
	}
	// Another message than the one that was inspected.
	found, _ := Inspect(strings.NewReader(strict))
	found.length++
	if err := Reframe(io.Discard, strings.NewReader(strict), found); err == nil {
		t.Error("a message of another length was reframed")
	}
}

// TestReframeGnuPG: what GnuPG encrypted and signed opens and verifies afterwards.
func TestReframeGnuPG(t *testing.T) {
	gpg := needPart(t, "gpg")
	t.Parallel()
	env := gpgHome(t)
	batch := []string{"--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"}
	run(t, env, nil, gpg, append(batch, "--quick-gen-key", "Alice <alice@example.org>", "default", "default", "0")...)
	c := parseOne(t, run(t, env, nil, gpg, "--batch", "--export", "alice@example.org"))
	for _, data := range partData() {
		now := time.Now()
		s, err := NewSealingFor(Communication, []*Certificate{c}, int64(len(data)), now)
		if err != nil {
			t.Fatal(err)
		}
		var sealed bytes.Buffer
		w, err := s.EncryptTo(&sealed, []*Certificate{c}, now)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := run(t, env, sealed.Bytes(), gpg, "--batch", "--quiet", "--decrypt"); !bytes.Equal(got, data) {
			t.Errorf("%d octets sealed by us opened to something else", len(data))
		}
		for _, more := range [][]string{{"--armor"}, {}, {"--armor", "--throw-keyids"}, {"--armor", "--comment", "hello"}} {
			args := append(batch, "--trust-model", "always", "--sign", "--encrypt", "--recipient", "alice@example.org")
			message := run(t, env, data, gpg, append(args, more...)...)
			got := reframed(t, message)
			strictly(t, got)
			out := run(t, env, got, gpg, "--batch", "--status-fd", "2", "--decrypt")
			if !bytes.Equal(out, data) {
				t.Errorf("%v, %d octets: opened to something else", more, len(data))
			}
			verified := run(t, env, got, gpg, "--batch", "--quiet", "--status-fd", "1", "--output", "/dev/null", "--yes", "--decrypt")
			if !bytes.Contains(verified, []byte("GOODSIG")) || !bytes.Contains(verified, []byte("GOODMDC")) {
				t.Errorf("%v: %s", more, verified)
			}
		}
	}
}

// TestEncryptTo: the whole message in one stream, in the strict form.
func TestEncryptTo(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"curve25519", "rsa2048", "p256"} {
		k, other := testKey(t, kind), testKey(t, "p384")
		for _, size := range []int{0, 1, 47, 2048, sealChunk, 100_000} {
			data := randomOctets(size)
			certs := []*Certificate{k.Certificate(), other.Certificate(), k.Certificate()}
			s, err := NewSealingFor(Communication, certs, int64(size), testNow)
			if err != nil {
				t.Fatal(err)
			}
			var message bytes.Buffer
			w, err := s.EncryptTo(&message, certs, testNow)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(data)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			strictly(t, message.Bytes())
			checkArmor(t, message.Bytes(), true)
			found, err := Inspect(bytes.NewReader(message.Bytes()))
			if err != nil || !found.Strict || len(found.Recipients) != 2 {
				t.Errorf("%+v, %v", found, err)
			}
			for _, key := range []*SecretKey{k, other} {
				if !bytes.Equal(opened(t, key, message.Bytes()), data) {
					t.Errorf("%s, %d octets: opened to something else", kind, size)
				}
			}
		}
	}
}

// TestChooseCommunication: mail for a correspondent goes to what rotates, stored mail
// never does.
func TestChooseCommunication(t *testing.T) {
	t.Parallel()
	const c, s = flagEncryptCommunications, flagEncryptStorage
	for _, test := range []struct {
		name  string
		plans []plan
		want  int // index of the subkey; -1: none
	}{
		{"both flags, never expires", []plan{{age: day, flags: c | s}}, 0},
		{"the rotating one before the fallback", []plan{{age: 9 * day, flags: c | s}, {age: day, flags: c, life: 10 * day}}, 1},
		{"the one that expires first", []plan{{age: 2 * day, flags: c, life: 20 * day}, {age: 5 * day, flags: c, life: 10 * day}, {age: day, flags: c, life: 10 * day}}, 1},
		{"an expired one is none", []plan{{age: 9 * day, flags: c | s}, {age: 12 * day, flags: c, life: 10 * day}}, 0},
		{"a revoked one is none", []plan{{age: 9 * day, flags: c | s}, {age: day, flags: c, life: 10 * day, revoked: "retired", revAge: time.Hour}}, 0},
		{"the newest of those that never expire", []plan{{age: day, flags: c}, {age: 3 * day, flags: c}}, 0},
		{"only a short-lived one", []plan{{age: day, flags: c, life: 10 * day}}, 0},
		{"storage alone is the last", []plan{{age: 2 * day, flags: s}, {age: day, flags: c, life: 10 * day}}, 1},
		{"storage alone", []plan{{age: 2 * day, flags: s}}, 0},
		{"nothing valid", []plan{{age: 12 * day, flags: c, life: 10 * day}}, -1},
	} {
		e, cert := certificateWith(t, "curve25519", 30*day, test.plans...)
		got, err := cert.chooseFor(Communication, testNow)
		if test.want < 0 {
			if err == nil || cert.UsableFor(Communication, testNow) == nil {
				t.Errorf("%s: chose %s", test.name, got.key.KeyIdString())
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if want := e.Subkeys[test.want].PublicKey.KeyIdString(); got.key.KeyIdString() != want {
			t.Errorf("%s: chose %s, want %s", test.name, got.key.KeyIdString(), want)
		}
		if !cert.HasKey(got.key.KeyIdString()) || cert.HasKey("0123456789ABCDEF") {
			t.Errorf("%s: HasKey", test.name)
		}
		sealing, err := NewSealingFor(Communication, []*Certificate{cert}, 1, testNow)
		if err != nil {
			t.Fatal(err)
		}
		pkesk, err := sealing.Wrap([]*Certificate{cert}, testNow)
		if err != nil || !bytes.Contains(pkesk, binary.BigEndian.AppendUint64(nil, got.key.KeyId)) {
			t.Errorf("%s: it is sealed to another key: %v", test.name, err)
		}
		minimal, err := cert.Minimal("alice@example.org", testNow)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		small := parseOne(t, minimal)
		again, err := small.chooseFor(Communication, testNow)
		if err != nil || again.key.KeyIdString() != got.key.KeyIdString() || len(small.subkeys) != 1 || len(small.userIDs) != 1 {
			t.Errorf("%s: minimal certificate: %v", test.name, err)
		}
	}
}

// TestMinimal: every kind of certificate is still one, for the same key and address,
// and smaller than what Autocrypt allows.
func TestMinimal(t *testing.T) {
	t.Parallel()
	for _, kind := range testKinds {
		c := testKey(t, kind).Certificate()
		data, err := c.Minimal("alice@example.org", testNow)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		small := parseOne(t, data)
		if small.Fingerprint() != c.Fingerprint() || !small.HasAddress("alice@example.org") || small.Usable(testNow) != nil || len(data) > 4096 {
			t.Errorf("%s: %d octets, %q", kind, len(data), small.UserIDs())
		}
		if again, err := small.Minimal("", testNow); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: minimal of minimal is another: %v", kind, err)
		}
	}
}

// FuzzReframe: what is encrypted can be reframed, is strict then, and says the same.
func FuzzReframe(f *testing.F) {
	f.Add(slices.Concat(packetOf(tagPKESK, pkesk3("01234567")), packetOf(tagSEIPD, seipd1(500))))
	f.Add(slices.Concat(marker[:], oldPacket(tagPKESK, pkesk3("01234567")), partialPacket(tagSEIPD, seipd1(5*512+100))))
	f.Add(armored(typeMessage, slices.Concat(packetOf(tagSKESK, skesk6()), packetOf(tagSEIPD, seipd2(500))), 6))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := Inspect(bytes.NewReader(data))
		if err != nil || !found.Encrypted {
			return
		}
		var out bytes.Buffer
		if err := Reframe(&out, bytes.NewReader(data), found); err != nil {
			t.Fatal(err)
		}
		again, err := Inspect(&out)
		if err != nil || !again.Strict || !slices.Equal(again.Recipients, found.Recipients) || again.Anonymous != found.Anonymous ||
			again.Symmetric != found.Symmetric || again.length != found.length {
			t.Errorf("%+v became %+v, %v", found, again, err)
		}
	})
}

// TestMinimalIsKept: that the last one is kept changes nothing: neither for another
// address, nor at the moment in which the certificate expires.
func TestMinimalIsKept(t *testing.T) {
	t.Parallel()
	e, _ := certificateWith(t, "curve25519", 100*day, plan{age: 10 * day, flags: 0x0C, life: 10*day + time.Second})
	addUserID(t, e, "Alice", "alice@example.com", testNow.Add(-99*day))
	c := parseOne(t, publicOctets(t, e))
	var first []byte
	for _, address := range []string{"alice@example.org", "alice@example.com", "alice@example.org"} {
		data, err := c.Minimal(address, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if !parseOne(t, data).HasAddress(address) {
			t.Errorf("%s: user IDs %q", address, parseOne(t, data).UserIDs())
		}
		if first == nil {
			first = data
		}
		if bytes.Equal(first, data) != (address == "alice@example.org") {
			t.Errorf("%s: the same octets as for another", address)
		}
	}
	if _, err := c.Minimal("alice@example.org", testNow.Add(2*time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
}
