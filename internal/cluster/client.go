package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// limits are how long things may take.
type limits struct {
	dial time.Duration // to connect, TLS included
	io   time.Duration // one read or write, where nothing below is shorter
	// call is one method of Cluster altogether. A Redis that takes longer is no
	// help, so this is also what an answer may take for it to count as up.
	call   time.Duration
	check  time.Duration // between looks at a Redis that is up
	again  time.Duration // before the first look at one that is down; then twice as long each time
	rarely time.Duration // the longest of these
	hold   time.Duration // HoldOff
	silent time.Duration // after which a subscription that hears nothing is made anew
}

func defaultLimits() limits {
	return limits{
		dial: 500 * time.Millisecond, io: 200 * time.Millisecond, call: 25 * time.Millisecond,
		check: time.Second, again: 100 * time.Millisecond, rarely: 2 * time.Second, hold: HoldOff, silent: 4 * time.Second,
	}
}

const (
	// poolSize is the most connections to one server. With a round trip of 0.1 ms
	// it carries far more calls than mail makes.
	poolSize   = 64
	bufferSize = 8 << 10 // each of two a connection
	idleTime   = 5 * time.Minute
)

// access is how servers are reached: what RedisOptions say, with its files read.
type access struct {
	RedisOptions
	limits
	password, sentinelPassword string
	tls                        *tls.Config // nil for none
}

func newAccess(o RedisOptions, l limits) (*access, error) {
	if len(o.Addrs) == 0 {
		return nil, errors.New("no address")
	}
	a := &access{RedisOptions: o, limits: l}
	var err error
	if a.password, err = readSecret(o.PasswordFile); err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	if a.sentinelPassword, err = readSecret(o.SentinelPasswordFile); err != nil {
		return nil, fmt.Errorf("password of the sentinels: %w", err)
	}
	if !o.TLS {
		return a, nil
	}
	a.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificates to trust: %w", err)
		}
		a.tls.RootCAs = x509.NewCertPool()
		if !a.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates to trust: none in %s", o.CAFile)
		}
	}
	return a, nil
}

func readSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// dial connects, by TLS if that is wanted; the connection is guarded, and closed is
// told of its end.
func (a *access) dial(ctx context.Context, network, addr string, closed func()) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.limits.dial)
	defer cancel()
	var conn net.Conn
	var err error
	if a.tls == nil {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
	} else {
		conn, err = (&tls.Dialer{Config: a.tls}).DialContext(ctx, network, addr)
	}
	if err != nil {
		return nil, err
	}
	return guarded(conn, closed), nil
}

// connect returns a client, which connects when it is used, and the Sentinels if
// there are any. connected is told of every connection to a server.
//
// Nothing is tried again by the client itself: a call is over quickly, and its caller
// knows what to do without an answer.
func (a *access) connect(connected func(context.Context, *redis.Conn) error) (redis.UniversalClient, *sentinels) {
	// What the library logs by itself goes to standard error, past our logger, and
	// with addresses. All of it comes back as an error of some call too.
	redis.SetLogger(&logging.VoidLogger{})
	if a.Topology == Sharded {
		return redis.NewClusterClient(a.sharded(connected)), nil
	}
	o := a.options(a.Addrs[0])
	o.DB, o.Username, o.Password, o.OnConnect = a.DB, a.Username, a.password, connected
	var s *sentinels
	if a.Topology == Sentinel {
		s = newSentinels(a)
		o.Dialer = s.dial
	}
	return redis.NewClient(o), s
}

// options are those of a client of one server.
func (a *access) options(addr string) *redis.Options {
	return &redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return a.dial(ctx, network, addr, nil)
		},
		DialTimeout: a.limits.dial, ReadTimeout: a.io, WriteTimeout: a.io, PoolTimeout: a.call,
		ContextTimeoutEnabled: true,
		MaxRetries:            -1, DialerRetries: 1,
		PoolSize: poolSize, MaxActiveConns: poolSize, PipelinePoolSize: -1, ConnMaxIdleTime: idleTime,
		ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (a *access) sharded(connected func(context.Context, *redis.Conn) error) *redis.ClusterOptions {
	o := a.options("")
	return &redis.ClusterOptions{
		Addrs: a.Addrs, Username: a.Username, Password: a.password, OnConnect: connected,
		Protocol: o.Protocol, DisableIdentity: o.DisableIdentity, Dialer: o.Dialer,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, PoolTimeout: o.PoolTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled,
		MaxRetries:            o.MaxRetries, DialerRetries: o.DialerRetries,
		MaxRedirects: 3, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 5 * time.Millisecond,
		PoolSize: o.PoolSize, MaxActiveConns: o.MaxActiveConns, PipelinePoolSize: o.PipelinePoolSize, ConnMaxIdleTime: o.ConnMaxIdleTime,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
		DisableRoutingPolicies:   true, // for commands of many keys, of which there are none
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	}
}

// masters calls each with every server that can be written, some at the same time.
func masters(ctx context.Context, client redis.UniversalClient, each func(ctx context.Context, server redis.Cmdable) error) error {
	if c, ok := client.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error { return each(ctx, server) })
	}
	return each(ctx, client)
}
