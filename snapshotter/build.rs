//! Builds the variants of the filter and embeds them, so that one `cargo build` makes everything that is shipped.
#![expect(clippy::unwrap_used, reason = "Cargo sets these variables for every build script")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const WASM: &str = "wasm32-wasip1";

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let workspace = manifest.parent().unwrap();
    for input in [
        "filter/src",
        "filter/Cargo.toml",
        "filter/native/src",
        "filter/native/Cargo.toml",
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
    build_wasm(workspace, "edgefold_filter.wasm", &[])?;
    build_wasm(workspace, "edgefold_filter_recheck.wasm", &["--features", "recheck"])?;
    build_wasm(workspace, "edgefold_filter_portable.wasm", &["--features", "portable"])?;
    build_native(workspace)
}

fn build_wasm(workspace: &Path, name: &str, features: &[&str]) -> Result<(), String> {
    let mut cargo = cargo(workspace, "edgefold-filter", WASM, "filter");
    cargo.args(features);
    // Envoy's V8 has had SIMD128 since 2021. Without it the search of the table takes twice as long.
    // The module travels with each snapshot. With half the inlining it is a tenth smaller, and lookups are not slower.
    // A stack of 256 KiB rather than 1 MiB is enough for a recursion of 62 levels, and the memory of a VM never shrinks.
    cargo.env(
        "RUSTFLAGS",
        "-C target-feature=+simd128 -C llvm-args=--inline-threshold=40 -C link-arg=-zstack-size=262144",
    );
    run(cargo)?;
    embed(&Path::new(WASM).join("filter/edgefold_filter.wasm"), name)
}

/// The dynamic module is for the machine that the binary is for. Envoy takes them on Linux, where it needs glibc.
fn build_native(workspace: &Path) -> Result<(), String> {
    let name = "edgefold_filter_native.so";
    let target = env::var("TARGET").unwrap();
    let is_for_envoy = ["CARGO_CFG_TARGET_OS", "CARGO_CFG_TARGET_ENV"].map(|name| env::var(name).unwrap());
    if is_for_envoy != ["linux", "gnu"] {
        let path = out_dir().join(name);
        return std::fs::write(&path, []).map_err(|error| format!("{}: {error}", path.display()));
    }
    let mut cargo = cargo(workspace, "edgefold-filter-native", &target, "native");
    cargo.env_remove("RUSTFLAGS");
    run(cargo)?;
    embed(&Path::new(&target).join("native/libedgefold_filter_native.so"), name)
}

fn cargo(workspace: &Path, package: &str, target: &str, profile: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap());
    cargo.current_dir(workspace).args(["build", "--package", package, "--lib", "--locked"]);
    // A separate target directory, because the build that runs this has locked its own.
    cargo.args(["--target", target, "--profile", profile, "--target-dir"]).arg(out_dir().join("filter"));
    // What the outer build sets for the host is wrong for wasm.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(name);
    }
    cargo
}

fn run(mut cargo: Command) -> Result<(), String> {
    let output = cargo.output().map_err(|error| format!("cannot run cargo for the filter: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("can't find crate for `core`") || stderr.contains("can't find crate for `std`") {
            return Err(format!("the wasm target of the filter is missing: run `rustup target add {WASM}`"));
        }
        return Err(format!("the filter does not build:\n{stderr}"));
    }
    Ok(())
}

/// Puts what was built at `built` in the target directory of the filter where `include_bytes` finds it.
fn embed(built: &Path, name: &str) -> Result<(), String> {
    let module = out_dir().join("filter").join(built);
    std::fs::copy(&module, out_dir().join(name)).map(drop).map_err(|error| format!("{}: {error}", module.display()))
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").unwrap())
}
