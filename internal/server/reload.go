package server

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/config"
	"postern/internal/telemetry"
)

// Reload takes over what may change while the gateway runs: domains, postmaster, seal
// and the TLS certificate, whose files are read again. If the certificate cannot be
// loaded, all stays as it was. The domain of a bare <postmaster> and everything else
// stay as they are until the next start; the log names what differs there.
func (r *Running) Reload(cfg *config.Config) error {
	if err := r.tls.load(cfg.TLS); err != nil {
		return err
	}
	r.gateway.openRequestKeys(cfg.Domains)
	r.gateway.Bridge.SetRules(rules(cfg))
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

// needStart names the keys and tables that differ and cannot be reloaded.
func needStart(old, new *config.Config) []string {
	var names []string
	for _, key := range []struct {
		name string
		same bool
	}{
		{"hostname", old.Hostname == new.Hostname},
		{"data_dir", old.DataDir == new.DataDir},
		{"keys_dir", old.KeysDir == new.KeysDir},
		{"smtp", old.SMTP == new.SMTP},
		{"submission", old.Submission == new.Submission},
		{"imap", old.IMAP == new.IMAP},
		{"https", old.HTTPS == new.HTTPS},
		{"http", old.HTTP == new.HTTP},
		{"dns", old.DNS.Timeout == new.DNS.Timeout && slices.Equal(old.DNS.Servers, new.DNS.Servers)},
		{"log", old.Log == new.Log},
	} {
		if !key.same {
			names = append(names, key.name)
		}
	}
	return names
}
