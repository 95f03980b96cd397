package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"postern/internal/telemetry"
)

// Names of implementations.
const (
	DriverMemory = "memory"
	DriverRedis  = "redis"
)

// Options is what a Cluster is made from.
type Options struct {
	// Driver is DriverMemory, which "" means too, or DriverRedis.
	Driver string
	// Redis says where Redis is; only for its driver.
	Redis RedisOptions
	// Secret is known to the nodes of this cluster only, and the same on all of
	// them. It keeps addresses from being read out of Redis, and certificates from
	// being planted there. Nil does without.
	Secret []byte
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log hears when Redis comes and goes; nil drops it.
	Log *slog.Logger
	// Metrics counts errors by operation; nil counts none.
	Metrics *telemetry.Metrics
}

// Topology is how several Redis servers work together.
type Topology int

const (
	// Single is one server.
	Single Topology = iota
	// Sentinel is a master with replicas, of which Sentinels name the master.
	Sentinel
	// Sharded is a Redis Cluster.
	Sharded
)

// RedisOptions says where Redis is and how to get in.
type RedisOptions struct {
	Topology Topology
	// Addrs are host:port of the server, of the Sentinels, or of some nodes of the
	// Redis Cluster from which the others are learnt. At least one is needed.
	Addrs []string
	// Master is the name of the master that the Sentinels know.
	Master string
	// DB is the number of the database; a Redis Cluster has only 0.
	DB int
	// Username is that of an ACL; empty for requirepass or none.
	Username string
	// PasswordFile holds the password, a line end after it ignored; empty for none.
	PasswordFile string
	// SentinelPasswordFile likewise holds that of the Sentinels.
	SentinelPasswordFile string
	// TLS speaks it with all of these servers.
	TLS bool
	// CAFile holds the PEM certificates that TLS trusts; empty means the system's.
	CAFile string
	// Prefix begins the name of everything in Redis, so that several gateways can
	// share it. Empty means "postern".
	Prefix string
}

// Open returns the Cluster that o describes. A Redis that does not answer is no
// error: it is waited for, by others than the callers of methods. Errors are about
// what is wrong with the options, or with the files they name.
func Open(ctx context.Context, o Options) (Cluster, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	switch o.Driver {
	case "", DriverMemory:
		o.Metrics.ClusterUp(true)
		return NewMemory(o.Now), nil
	case DriverRedis:
		r, err := openRedis(ctx, o, defaultLimits())
		if err != nil {
			return nil, fmt.Errorf("open redis: %w", err)
		}
		return r, nil
	}
	return nil, fmt.Errorf("open cluster: no driver %q", o.Driver)
}
