//! Builds all variants of the filter for wasm and embeds them, so that one `cargo build` makes everything that is shipped.
#![expect(clippy::unwrap_used, reason = "Cargo sets these variables for every build script")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip1";

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let workspace = manifest.parent().unwrap();
    for input in [
        "filter/src",
        "filter/Cargo.toml",
        "snapshot/src",
        "snapshot/Cargo.toml",
        "table/src",
        "table/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    if let Err(error) = build_filter(workspace) {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

fn build_filter(workspace: &Path) -> Result<(), String> {
    build_module(workspace, "edgefold_filter.wasm", &[])?;
    build_module(workspace, "edgefold_filter_recheck.wasm", &["--features", "recheck"])?;
    build_module(workspace, "edgefold_filter_portable.wasm", &["--features", "portable"])
}

fn build_module(workspace: &Path, name: &str, features: &[&str]) -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    // A separate target directory, because the build that runs this has locked its own.
    let target = out.join("filter");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap());
    cargo.current_dir(workspace).args(["build", "--package", "edgefold-filter", "--lib", "--locked"]).args(features);
    cargo.args(["--target", TARGET, "--profile", "filter", "--target-dir"]).arg(&target);
    // What the outer build sets for the host is wrong for wasm.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(name);
    }
    // Envoy's V8 has had SIMD128 since 2021. Without it the search of the table takes twice as long.
    // The module travels with each snapshot. With half the inlining it is a tenth smaller, and lookups are not slower.
    // A stack of 256 KiB rather than 1 MiB is enough for a recursion of 62 levels, and the memory of a VM never shrinks.
    cargo.env(
        "RUSTFLAGS",
        "-C target-feature=+simd128 -C llvm-args=--inline-threshold=40 -C link-arg=-zstack-size=262144",
    );
    let output = cargo.output().map_err(|error| format!("cannot run cargo for the filter: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("can't find crate for `core`") || stderr.contains("can't find crate for `std`") {
            return Err(format!("the wasm target of the filter is missing: run `rustup target add {TARGET}`"));
        }
        return Err(format!("the filter does not build:\n{stderr}"));
    }
    let module = target.join(TARGET).join("filter/edgefold_filter.wasm");
    std::fs::copy(&module, out.join(name)).map_err(|error| format!("{}: {error}", module.display()))?;
    Ok(())
}
