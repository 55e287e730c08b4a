//! The code that is timed both natively and inside wasm: edgefold's table, sorted pairs, and the loops over addresses.
//!
//! Built for `wasm32-unknown-unknown`, this is a module whose exports a host calls. It has no clock: the host times
//! whole calls.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]

#[cfg(target_arch = "wasm32")]
mod exports;
mod lookup;
mod sets;

pub use lookup::{Bits, Lookup, Lookups, WASH_WORDS, wash};
pub use sets::{Branchy, Edgefold, Nothing, PartitionPoint, encode, pairs_to_bytes};
