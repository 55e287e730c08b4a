//! What the benchmark times both natively and inside wasm: edgefold's table, sorted pairs, and the loops over addresses.
//!
//! For `wasm32-unknown-unknown` this is a module whose exports a host calls; it has no clock, the host times whole calls.
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

#[cfg(target_arch = "wasm32")]
mod exports;
mod lookup;
mod sets;

pub use lookup::{Bits, Lookup, Lookups, WASH_WORDS, wash};
pub use sets::{Branchy, Edgefold, Nothing, PartitionPoint, encode, pairs_to_bytes};
