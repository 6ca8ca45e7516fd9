# Two commands: `make demo` and `make test`. Each does all set-up, is idempotent, and says what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CARGO ?= cargo
# One profile for tests, demo and bench: a clean machine compiles the tree once.
RELEASE := target/release
SCRATCH := .scratch

.PHONY: help setup build plugins readers demo test lint fmt bench parity torture clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: ## Check what is needed, and install what can be
	@tests/setup

build: setup ## Build the thimble binary in release
	@echo "== building the host (the first time takes several minutes)"
	# The whole workspace, so that every target asks its dependencies for the same features.
	$(CARGO) build --release --locked --workspace

plugins: build ## Build the connectors to target/plugins/*.wasm
	@echo "== building the connectors"
	$(RELEASE)/thimble-xtask plugins tests/guests/bench

demo: plugins ## Sync real data into the embedded lake, then keep serving (ONCE=1: exit)
	@tests/demo/run $(if $(ONCE),--once)

readers: setup
	@tests/readers

test: plugins readers ## Pass every test
	@echo "== tests"
	$(CARGO) test --release --locked --workspace

lint: build ## Clippy and the house rules
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(RELEASE)/thimble-xtask check

fmt: ## Format the tree
	$(CARGO) fmt --all

parity: ## Compare declarative manifests with their reference (MANIFEST=… FIXTURES=…, or all cases; OURS=reference: with itself)
	@tests/parity/setup
	@.scratch/parity/bin/python tests/parity/run.py $(if $(MANIFEST),$(MANIFEST) $(FIXTURES)) $(if $(OURS),--ours "$(OURS)") $(ARGS)

bench: plugins ## Measure, beside floors of the same run
	$(RELEASE)/thimble-bench $(ARGS)

torture: plugins ## 2,000 kills at random moments of each kind of sync, and a million simulated ones
	SIM_SEEDS=1000000 $(CARGO) test --release --locked --workspace --test simulation -- --nocapture
	TORTURE_KILLS=2000 $(CARGO) test --release --locked --workspace --test thimble -- --nocapture crash::torture

clean: ## Remove build outputs and scratch data
	$(CARGO) clean
	rm -rf $(SCRATCH)
