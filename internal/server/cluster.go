package server

import (
	"context"
	"fmt"

	"postern/internal/cluster"
	"postern/internal/config"
)

// openCluster opens what this gateway shares with others, as cluster.url says.
func (g *Gateway) openCluster(ctx context.Context) (cluster.Cluster, error) {
	c := g.Config.Cluster
	u, err := config.ParseRedisURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("cluster.url: %w", err)
	}
	topology := cluster.Single
	switch {
	case u.Sharded:
		topology = cluster.Sharded
	case u.Master != "":
		topology = cluster.Sentinel
	}
	return cluster.Open(ctx, cluster.Options{
		Driver: c.Driver,
		Redis: cluster.RedisOptions{
			Topology: topology, Addrs: u.Addrs, Master: u.Master, DB: u.DB, Username: u.Username,
			PasswordFile: c.PasswordFile, SentinelPasswordFile: c.SentinelPasswordFile,
			TLS: u.TLS, CAFile: c.CAFile, Prefix: c.Prefix,
		},
		Secret: g.Vault.Secret("cluster"), Now: g.now, Log: g.Log, Metrics: g.Metrics,
	})
}
