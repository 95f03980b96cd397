# make test is what has to pass before a change goes in; .ci/run does the same.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build test lint unit e2e bench install-deps clean

# A part that a test needs and does not find is a failure, not a reason to skip.
export POSTERN_REQUIRE_PARTS := 1

# Package e2e runs the real program against other real ones. The race detector
# watches only the test there, and costs the database in it most of its speed.
REPORT := go run ./scripts/testreport

build:
	go build -trimpath -o postern ./cmd/postern

test: install-deps lint unit e2e

lint:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

unit:
	go test -race -shuffle=on -timeout 15m -json $$(go list ./... | grep -v '/internal/e2e') | $(REPORT)

e2e:
	@if [ -d internal/e2e ]; then set -x; go test -shuffle=on -timeout 15m -json ./internal/e2e/... | $(REPORT); fi

# Runs the reference programs in turn with ours and prints the ratios.
bench: install-deps
	go run ./internal/bench $(BENCHFLAGS)

install-deps:
	@./scripts/install-deps

clean:
	rm -rf postern bench-out
