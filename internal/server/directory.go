package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"time"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/telemetry"
	"postern/keydir"
)

// maxChanges is how many changes may wait to be told.
const maxChanges = 100

// openDirectory makes the key directory with the configured sources.
func (g *Gateway) openDirectory() (*keydir.Directory, error) {
	sources, err := g.sources(g.Config.Directory)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	d := keydir.New(keydir.Options{
		Store: g.Store, Hosted: g.domains.has, Sources: sources, Shared: g.Cluster,
		Notify: g.noteChange, Now: g.now, Log: g.Log, Metrics: g.Metrics,
	})
	g.Cluster.OnInvalidate(d.Invalidated)
	return d, nil
}

// newAutocrypt returns what learns from mail, if the directory is to ask it.
func (g *Gateway) newAutocrypt() *keydir.Autocrypt {
	if !slices.Contains(g.Config.Directory.Sources, "autocrypt") {
		return nil
	}
	return keydir.NewAutocrypt(keydir.AutocryptOptions{
		Store: g.Store, Hosted: g.domains.has, Now: g.now, Log: g.Log,
		Changed: func(ctx context.Context, address mail.Address) error {
			return g.Directory.Expire(ctx, address, keydir.Observed)
		},
	})
}

// sources are the configured ones, in their order.
func (g *Gateway) sources(c config.Directory) ([]keydir.Source, error) {
	roots, err := rootCAs(c.CAFile)
	if err != nil {
		return nil, err
	}
	hosts := keydir.NewHosts(keydir.HostsOptions{Now: g.now})
	fetcher := keydir.NewFetcher(keydir.FetchOptions{
		Resolver: g.Resolver, Hosts: hosts, RootCAs: roots, AllowPrivate: c.AllowPrivate, Timeout: time.Duration(c.Timeout),
	})
	var all []keydir.Source
	for _, name := range c.Sources {
		switch name {
		case "wkd":
			all = append(all, keydir.NewWKD(fetcher, g.Resolver, g.Store, g.now))
		case "autocrypt":
			all = append(all, g.Autocrypt)
		case "dane":
			all = append(all, keydir.NewDANE(g.Resolver, hosts, time.Duration(c.Timeout)))
		case "keyservers":
			for _, url := range c.KeyServers {
				s, err := keydir.NewKeyServer(fetcher, url)
				if err != nil {
					return nil, err
				}
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// rootCAs are the system's and those of a file; nil means the system's alone.
func rootCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("certificate authorities of the system: %w", err)
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

// noteChange keeps a change to be told to a person. When too many wait, this one is
// only in the history; nothing waits for a person.
func (g *Gateway) noteChange(c keydir.Change) {
	select {
	case g.changes <- c:
	default:
		g.Log.Warn("too many changed certificates to tell of each")
	}
}

// tellChanges tells the postmaster of correspondents' changed certificates, until ctx
// ends.
func (g *Gateway) tellChanges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-g.changes:
			to := mail.Address{Local: "postmaster", Domain: g.Config.Domains[0]}
			if err := g.Bridge.Notify(ctx, to, "The certificate of a correspondent changed", changeNotice(c)); err != nil {
				g.Log.Error("tell of a changed certificate", telemetry.KeyError, err)
			}
		}
	}
}

func changeNotice(c keydir.Change) []string {
	lines := []string{
		"What this server knows of " + c.Address + " has changed.",
		"",
		"What:    " + string(c.Rule),
		"Source:  " + c.Source,
		"Before:  " + orNone(c.Old),
		"Now:     " + orNone(c.New),
		"",
	}
	if c.Held {
		return append(lines,
			"Mail to this address is held until you decide. Compare the fingerprint with the",
			"person by another way than mail, then:",
			"",
			"    postern cert accept "+c.Address,
			"    postern cert reject "+c.Address)
	}
	return append(lines, "There is nothing to do. All changes: postern cert history "+c.Address)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// warnOwners tells the owners of certificates that will soon end, once a day.
func (g *Gateway) warnOwners(ctx context.Context) {
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	for {
		err := keydir.WarnOwners(ctx, g.Store, g.now(), func(e keydir.Expiring) error {
			return g.Bridge.Notify(ctx, e.Address, "Your OpenPGP certificate ends soon", expiryNotice(e))
		})
		if err != nil && ctx.Err() == nil {
			g.Log.Error("warn of certificates that end", telemetry.KeyError, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-daily.C:
		}
	}
}

func expiryNotice(e keydir.Expiring) []string {
	return []string{
		"The certificate that mail to " + e.Address.String() + " is sealed to can be used until",
		e.At.UTC().Format("2 January 2006, 15:04 UTC") + " (" + e.Fingerprint + ").",
		"After that, mail is held, encrypted, until there is another.",
		"",
		"Extend it where its secret key is (GnuPG: gpg --quick-set-expire), or make a new",
		"one, and hand the certificate to whoever runs this server:",
		"",
		"    postern cert import " + e.Address.String() + " FILE",
	}
}
