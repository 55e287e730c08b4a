//! Builds the plain SDK filter.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip1";

/// Builds the module with the profile of edgefold's filter, and returns its path.
pub(crate) fn build() -> PathBuf {
    let directory = "target/bench/sdk-filter";
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--package", "edgefold-bench-sdk-filter", "--lib", "--locked"]);
    cargo.args(["--target", TARGET, "--profile", "filter", "--target-dir", directory]);
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "-C target-feature=+simd128");
    assert!(cargo.status().unwrap().success(), "the plain SDK filter does not build");
    Path::new(directory).join(TARGET).join("filter/edgefold_bench_sdk_filter.wasm")
}
