//! Runs the fuzz targets on the files in `fuzz/regressions/`, as plain tests. These are inputs that once made a fuzzer
//! fail, and a few that reach parts of the code that fuzzing rarely does. A file's name says what is in it. Native
//! only.
#![allow(clippy::unwrap_used, reason = "a test helper may panic, like the test")]
#![cfg(not(target_arch = "wasm32"))]

use std::fs;
use std::path::Path;

use edgefold_format_tests::fuzzed;
use edgefold_snapshot::VERSION;

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/regressions");

/// Runs the body of a target on each of its regression files.
fn run_each(target: &str, body: fn(&[u8])) {
    let folder = Path::new(REGRESSIONS).join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| body(&bytes));
        assert!(outcome.is_ok(), "{} fails with the panic above", path.display());
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

/// A snapshot of an older version is refused by its number, and then tests nothing else.
#[test]
fn the_example_of_the_format_has_the_current_version() {
    let example = fs::read(Path::new(REGRESSIONS).join("open_anything/the-example-of-the-format")).unwrap();
    assert_eq!(
        example[8..12],
        VERSION.to_le_bytes(),
        "write the example of docs/format.md there, without its checksum"
    );
}
