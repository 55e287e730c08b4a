//! What the tests of `docs/format.md` share: [sample lists](samples) that together produce every kind of chunk, a naive
//! oracle, and the bodies of the [fuzz targets](fuzzed), which the regression tests run too.
#![allow(clippy::unwrap_used, reason = "a test helper may panic, like the test")]
#![allow(clippy::cast_possible_truncation, reason = "random numbers are cut to fewer bits")]

#[cfg(not(target_arch = "wasm32"))]
pub mod fuzzed;
pub mod samples;
