//go:build unix && !linux

package server

// notDumpable does nothing: here the limit on core dumps has to do.
func notDumpable() error { return nil }
