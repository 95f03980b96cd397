package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/internal/telemetry"
)

// serveHTTP serves health and metrics on a loopback port until ctx ends.
func (g *Gateway) serveHTTP(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler:           g.handler(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler serves /livez, /readyz and /metrics.
func (g *Gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("alive\n"))
	})
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.Metrics.Gatherer(), promhttp.HandlerOpts{}))
	return mux
}

// readyz says whether mail would be accepted now, and carried on: the database answers, a
// blob can be written, and the queue can claim.
func (g *Gateway) readyz(w http.ResponseWriter, req *http.Request) {
	ctx, cancel := context.WithTimeout(req.Context(), 2*time.Second)
	defer cancel()
	for _, part := range []struct {
		name  string
		ready func(context.Context) error
	}{{"store", g.storeAnswers}, {"blobs", g.blobsTakeMore}, {"queue", g.queueWorks}} {
		if err := part.ready(ctx); err != nil {
			g.Log.Warn("not ready", telemetry.KeyPart, part.name, telemetry.KeyError, err)
			http.Error(w, "not ready: "+part.name, http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = w.Write([]byte("ready\n"))
}

func (g *Gateway) storeAnswers(ctx context.Context) error {
	_, err := g.Store.HeldCount(ctx, 0)
	return err
}

func (g *Gateway) queueWorks(ctx context.Context) error {
	if g.Queue == nil {
		return nil
	}
	return g.Queue.Ready(ctx)
}

// blobsTakeMore writes to the disk under the blobs, since beginning a blob does not.
func (g *Gateway) blobsTakeMore(ctx context.Context) error {
	b, err := g.Blobs.Create(ctx)
	if err != nil {
		return err
	}
	b.Abort()
	f, err := os.CreateTemp(blobsDir(g.Config), "ready-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}
