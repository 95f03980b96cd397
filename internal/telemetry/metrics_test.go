package telemetry

import (
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func value(t *testing.T, m *Metrics, name string, labels ...string) float64 {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.Metric {
			has := make(map[string]string)
			for _, l := range s.Label {
				has[l.GetName()] = l.GetValue()
			}
			match := true
			for i := 0; i < len(labels); i += 2 {
				match = match && has[labels[i]] == labels[i+1]
			}
			if match {
				return s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Fatalf("no series %s%v", name, labels)
	return 0
}

func TestMetricsCount(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	tests := []struct {
		do     func()
		name   string
		labels []string
		want   float64
	}{
		{func() { m.SMTPConnection(1); m.SMTPConnection(1); m.SMTPConnection(-1) }, "postern_smtpd_connections", nil, 1},
		{func() { m.SMTPMessage(Accepted) }, "postern_smtpd_messages_total", []string{"result", "accepted"}, 1},
		{func() { m.SMTPRejection(ReasonRelay) }, "postern_smtpd_rejections_total", []string{"reason", "relay"}, 1},
		{func() { m.BridgeMessage(ClassSealed) }, "postern_bridge_messages_total", []string{"class", "sealed"}, 1},
		{func() { m.BridgeOutgoing("end-to-end", 3) }, "postern_bridge_outgoing_total", []string{"level", "end-to-end"}, 3},
		{func() { m.BridgeSeal(time.Millisecond) }, "postern_bridge_seal_seconds", nil, 1},
		{func() { m.BridgeHeld(7) }, "postern_bridge_held", nil, 7},
		{func() { m.MsgauthResult("dkim", "pass") }, "postern_msgauth_results_total", []string{"method", "dkim", "result", "pass"}, 1},
		{func() { m.ResolverDown(true) }, "postern_msgauth_resolver_down", nil, 1},
		{func() { m.ResolverDown(false) }, "postern_msgauth_resolver_down", nil, 0},
		{func() { m.IMAPConnection(3) }, "postern_imapd_connections", nil, 3},
		{func() { m.IMAPCommand("fetch") }, "postern_imapd_commands_total", []string{"command", "fetch"}, 1},
		{func() { m.AuthAttempt(AuthThrottled) }, "postern_auth_attempts_total", []string{"result", "throttled"}, 1},
		{func() { m.StoreCommit(time.Millisecond) }, "postern_store_commit_seconds", nil, 1},
		{func() { m.StoreGroup(12) }, "postern_store_group_size", nil, 1},
		{func() { m.BlobCommit(4096, time.Millisecond) }, "postern_blob_bytes_total", nil, 4096},
		{func() {}, "postern_blob_commit_seconds", nil, 1},
		{func() { m.BlobGroup(2) }, "postern_blob_group_size", nil, 1},
		{func() { m.BlobError(BlobFull) }, "postern_blob_errors_total", []string{"reason", "full"}, 1},
		{func() { m.ClusterError(ClusterTake) }, "postern_cluster_errors_total", []string{"op", "take"}, 1},
		{func() { m.KeydirKnown("memory", "found") }, "postern_keydir_lookups_total", []string{"source", "memory", "result", "found"}, 1},
		{func() { m.KeydirKnown("store", "none") }, "postern_keydir_lookups_total", []string{"source", "store", "result", "none"}, 1},
		{func() { m.KeydirLookup("wkd", "unknown", time.Second) }, "postern_keydir_lookups_total", []string{"source", "wkd", "result", "unknown"}, 1},
		{func() {}, "postern_keydir_lookup_seconds", []string{"source", "wkd"}, 1},
		{func() { m.ClusterUp(true) }, "postern_cluster_up", nil, 1},
		{func() { m.ClusterUp(false) }, "postern_cluster_up", nil, 0},
	}
	for _, tt := range tests {
		tt.do()
		if got := value(t, m, tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s%v = %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
}

// What a peer sends must not become a series of its own.
func TestUnknownLabelsAreOneSeries(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	for _, command := range []string{"x1", "x2", "x3"} {
		m.IMAPCommand(command)
		m.MsgauthResult("arc", command)
		m.MsgauthResult("spf", command)
	}
	if got := value(t, m, "postern_imapd_commands_total", "command", "other"); got != 3 {
		t.Errorf("other commands: %v, want 3", got)
	}
	if got := value(t, m, "postern_msgauth_results_total", "method", "spf", "result", "other"); got != 3 {
		t.Errorf("other results: %v, want 3", got)
	}
}

// Every method of a nil *Metrics must do nothing, those of tomorrow included.
func TestNilMetrics(t *testing.T) {
	t.Parallel()
	v := reflect.ValueOf((*Metrics)(nil))
	for i := range v.NumMethod() {
		var args []reflect.Value
		for j := range v.Method(i).Type().NumIn() {
			args = append(args, reflect.Zero(v.Method(i).Type().In(j)))
		}
		v.Method(i).Call(args)
	}
}

func TestMetricNames(t *testing.T) {
	t.Parallel()
	families, err := NewMetrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^postern_(smtpd|bridge|msgauth|imapd|auth|store|blob|cluster|keydir|deliver|queue)_[a-z_]+$`)
	ours := 0
	for _, f := range families {
		name := f.GetName()
		if !strings.HasPrefix(name, "postern_") {
			continue
		}
		ours++
		if !form.MatchString(name) {
			t.Errorf("%s is not postern_<package>_<noun>_<unit|total>", name)
		}
		if (f.GetType().String() == "COUNTER") != strings.HasSuffix(name, "_total") {
			t.Errorf("%s: counters, and only they, end in _total", name)
		}
	}
	if ours < 15 {
		t.Errorf("only %d metrics are ours", ours)
	}
}

func TestMetricsConcurrently(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				m.SMTPMessage(Accepted)
				m.MsgauthResult("spf", "pass")
			}
		})
	}
	all.Wait()
	if got := value(t, m, "postern_smtpd_messages_total", "result", "accepted"); got != 800 {
		t.Errorf("counted %v, want 800", got)
	}
}

func BenchmarkMetrics(b *testing.B) {
	m := NewMetrics()
	b.ReportAllocs()
	for b.Loop() {
		m.SMTPMessage(Accepted)
		m.MsgauthResult("dkim", "pass")
		m.BridgeSeal(time.Millisecond)
	}
}
