package config

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// RedisURL is what a URL of cluster.url says.
type RedisURL struct {
	TLS      bool
	Sharded  bool     // a Redis Cluster
	Addrs    []string // host:port of the server, the Sentinels or some nodes
	Username string   // "" for none
	Master   string   // the name that Sentinels know; "" without Sentinels
	DB       int
}

const (
	redisPort    = "6379"
	sentinelPort = "26379"
	maxRedisDB   = 1 << 16
)

// ParseRedisURL reads
//
//	redis://[USER@]HOST[:PORT][/DB]
//	redis-sentinel://[USER@]HOST[:PORT][,HOST[:PORT]...]/MASTER[/DB]
//	redis-cluster://[USER@]HOST[:PORT][,HOST[:PORT]...]
//
// and the same with rediss for TLS. A URL with a password is refused, because URLs
// are shown. Errors do not quote what they are about.
func ParseRedisURL(s string) (RedisURL, error) {
	var u RedisURL
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return u, errors.New("it is not a URL such as \"redis://127.0.0.1:6379\"")
	}
	kind, sentinel := strings.CutSuffix(scheme, "-sentinel")
	kind, u.Sharded = strings.CutSuffix(kind, "-cluster")
	if kind != "redis" && kind != "rediss" || sentinel && u.Sharded {
		return u, errors.New("it does not begin with one of \"redis://\", \"redis-sentinel://\", \"redis-cluster://\", or the same with \"rediss\"")
	}
	u.TLS = kind == "rediss"
	if strings.ContainsAny(rest, "?#") {
		return u, errors.New("it must not have a \"?\" or \"#\": there are no parameters")
	}
	// The last one: a password can have another.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		u.Username, rest = rest[:i], rest[i+1:]
		if u.Username == "" || strings.ContainsAny(u.Username, ":/@ ") {
			return u, errors.New("before the \"@\" there has to be a user name alone: the password belongs into a file, named by password_file")
		}
	}
	hosts, path, hasPath := strings.Cut(rest, "/")
	port := redisPort
	if sentinel {
		port = sentinelPort
	}
	var err error
	if u.Addrs, err = redisAddrs(hosts, port); err != nil {
		return u, err
	}
	if len(u.Addrs) > 1 && !sentinel && !u.Sharded {
		return u, errors.New("several hosts need \"redis-sentinel://\" or \"redis-cluster://\"")
	}
	if sentinel {
		u.Master, path, hasPath = strings.Cut(path, "/")
		if u.Master == "" || strings.ContainsAny(u.Master, " \t") {
			return u, errors.New("after the hosts there has to be the name of the master, such as \"/mymaster\"")
		}
	}
	return u, u.database(path, hasPath)
}

func (u *RedisURL) database(path string, hasPath bool) error {
	if !hasPath || path == "" {
		return nil
	}
	n, err := strconv.ParseUint(path, 10, 32)
	if err != nil || n >= maxRedisDB {
		return errors.New("at its end there has to be the number of a database, or nothing")
	}
	if u.Sharded && n != 0 {
		return errors.New("a Redis Cluster has only the database 0")
	}
	u.DB = int(n)
	return nil
}

func redisAddrs(hosts, port string) (addrs []string, err error) {
	for host := range strings.SplitSeq(hosts, ",") {
		at := port
		if h, p, err := net.SplitHostPort(host); err == nil {
			host, at = h, p
		} else {
			host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		}
		n, err := strconv.ParseUint(at, 10, 16)
		_, notIP := netip.ParseAddr(host)
		if err != nil || n == 0 || notIP != nil && !isHost(host) {
			return nil, errors.New("its hosts have to be names or IP addresses with or without a port, such as \"redis.example.org:6379\" or \"[::1]:6379\"")
		}
		addrs = append(addrs, net.JoinHostPort(host, at))
	}
	return addrs, nil
}

// isHost is isDomain for names that may have capitals and "_", as in container
// networks.
func isHost(s string) bool { return isDomain(strings.ToLower(strings.ReplaceAll(s, "_", "x"))) }
