package server

import (
	"context"
	"errors"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
	"postern/internal/wks"
)

// door is what mail by SMTP comes in by: the bridge, with the Web Key Service before it
// where certificates are published.
func (g *Gateway) door() mail.Acceptor {
	if !g.servesWKS() {
		return g.Bridge
	}
	return wks.NewDoor(wks.Options{
		Next: g.Bridge, Requests: g.requests, Secret: g.Vault.Secret("web key service nonces"),
		Accounts: g.hasAccount, Cache: g.Cluster, Enrol: g.Enrolment, Hostname: g.Config.Hostname,
		NewID: g.NewID, Now: g.now, Log: g.Log,
	})
}

// servesWKS says whether clients can find out how to hand in certificates by mail.
func (g *Gateway) servesWKS() bool { return g.Config.HTTPS.Listen != "" && g.Config.HTTPS.Publish }

// openRequestKeys opens the keys that requests to domains are encrypted to. A domain whose
// key cannot be had has no Web Key Service; nothing else depends on it.
func (g *Gateway) openRequestKeys(domains []string) {
	if !g.servesWKS() {
		return
	}
	for _, domain := range domains {
		if err := g.requests.Open(domain, wks.Address(domain).String(), g.now()); err != nil {
			g.Log.Warn("no web key service", telemetry.KeyDomain, domain, telemetry.KeyError, err)
		}
	}
}

// submissionAddress is what the Web Key Directory says of the service.
func (g *Gateway) submissionAddress(domain string) (mail.Address, *pgp.Certificate) {
	return wks.Address(domain), g.requests.Certificate(domain)
}

func (g *Gateway) hasAccount(ctx context.Context, address mail.Address) (bool, error) {
	_, err := g.Store.AccountByAddress(ctx, address.Key())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
