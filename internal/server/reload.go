package server

import (
	"fmt"
	"reflect"
	"strings"

	"postern/internal/config"
	"postern/internal/telemetry"
)

// Reload takes over what may change while the gateway runs: domains, postmaster, seal,
// the policy, the TLS certificate and the DKIM keys, whose files are read again. If one
// of them cannot be loaded, all stays as it was. The domain of a bare <postmaster> and everything else
// stay as they are until the next start; the log names what differs there.
func (r *Running) Reload(cfg *config.Config) error {
	rules, err := loadPolicy(cfg)
	if err != nil {
		return err
	}
	keys, err := loadSigning(r.gateway.Config) // keys_dir needs a start
	if err != nil {
		return err
	}
	if err := r.tls.load(cfg.TLS); err != nil {
		return err
	}
	r.gateway.policy.Store(rules)
	r.gateway.Signer.Set(keys...)
	r.gateway.openRequestKeys(cfg.Domains)
	r.gateway.Bridge.SetRules(bridgeRules(cfg))
	r.gateway.domains.set(cfg.Domains)
	r.gateway.Directory.Forget()
	if keys := needStart(r.gateway.Config, cfg); len(keys) > 0 {
		r.gateway.Log.Warn("changes that take effect at the next start", telemetry.KeyReason, strings.Join(keys, " "))
	}
	return nil
}

// reloadFile reads the configuration file again. A file with mistakes changes nothing.
func (r *Running) reloadFile(path string) {
	cfg, err := config.Load(path)
	if err == nil {
		err = r.Reload(cfg)
	}
	if err != nil {
		r.gateway.Log.Error("nothing was reloaded", telemetry.KeyError, fmt.Errorf("reload: %w", err))
		return
	}
	r.gateway.Log.Info("reloaded")
}

// needStart names the keys and tables that differ and cannot be reloaded. It knows the
// shape of the configuration from the configuration itself, so that it forgets nothing.
func needStart(old, new *config.Config) []string {
	var names []string
	before, after := reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem()
	for i := range before.NumField() {
		name := before.Type().Field(i).Tag.Get("toml")
		if !takesNoStart(name) && !reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()) {
			names = append(names, name)
		}
	}
	return names
}

// takesNoStart says what a running gateway takes over, or never reads.
func takesNoStart(name string) bool {
	switch name {
	case "domains", "postmaster", "policy", "seal", "tls":
		return true
	case "store": // for new accounts, and the command that adds one reads the file itself
		return true
	}
	return false
}
