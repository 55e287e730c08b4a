//! What the fuzzers found, and an input or two for each that they start from, as plain tests. Native only.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]
#![cfg(not(target_arch = "wasm32"))]

mod fuzzed;

use std::fs;
use std::path::Path;

/// Runs the body of a target on every file that is kept for it.
fn run_each(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| body(&bytes));
        assert!(outcome.is_ok(), "{} fails: the panic is above", path.display());
    }
}

#[test]
fn open_anything() {
    run_each("open_anything", fuzzed::open_anything);
}

#[test]
fn open_mutated() {
    run_each("open_mutated", fuzzed::open_mutated);
}

#[test]
fn encode_anything() {
    run_each("encode_anything", fuzzed::encode_anything);
}
