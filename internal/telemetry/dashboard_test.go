package telemetry

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"
)

// dashboard is what of configs/grafana.json is looked at.
type dashboard struct {
	Panels []struct {
		ID      int
		Type    string
		Title   string
		Targets []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name string }
	}
}

// TestDashboard: every metric and label in configs/grafana.json exists, and what the
// directory and the mail path count is shown.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../configs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	exist := metricsByName(t)
	name := regexp.MustCompile(`\b(?:postern|process|go)_[a-z_]+`)
	by := regexp.MustCompile(`by \(([a-z, ]+)\)`)
	ids, shown := map[int]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %d %q: the id is not unique, or there is no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			found := name.FindAllString(q.Expr, -1)
			if len(found) == 0 {
				t.Errorf("panel %q: no metric in %s", p.Title, q.Expr)
			}
			for _, n := range found {
				labels, ok := exist[n]
				if !ok {
					t.Errorf("panel %q: there is no metric %s", p.Title, n)
				}
				shown[n] = true
				for _, list := range by.FindAllStringSubmatch(q.Expr, -1) {
					for _, l := range regexp.MustCompile(`[a-z]+`).FindAllString(list[1], -1) {
						if l != "instance" && ok && !slices.Contains(labels, l) {
							t.Errorf("panel %q: %s has no label %s", p.Title, n, l)
						}
					}
				}
			}
		}
	}
	for _, n := range []string{"postern_keydir_lookups_total", "postern_keydir_lookup_seconds_bucket", "postern_keydir_changes_total",
		"postern_keydir_published_total", "postern_smtpd_messages_total", "postern_bridge_messages_total", "postern_bridge_held",
		"postern_bridge_outgoing_total", "postern_queue_recipients_total", "postern_queue_waiting", "postern_queue_oldest_seconds",
		"postern_deliver_tls_total"} {
		if !shown[n] {
			t.Errorf("%s is not shown", n)
		}
	}
}

// metricsByName are the names of all series and their labels.
func metricsByName(t *testing.T) map[string][]string {
	t.Helper()
	families, err := NewMetrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		all[f.GetName()] = labels
		if f.Metric[0].Histogram != nil {
			all[f.GetName()+"_bucket"] = append(labels, "le")
		}
	}
	return all
}
