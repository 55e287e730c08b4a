//! The edgefold filter: inside Envoy, on each request, it looks the client's address up in a range table.
//!
//! [`decision`] is pure: bytes and an address in, a decision out. `host` (wasm only) is the one file that talks to Envoy.
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

pub mod decision;
#[cfg(target_arch = "wasm32")]
mod host;
