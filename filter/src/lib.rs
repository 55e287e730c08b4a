//! The edgefold filter: inside Envoy, on each request or new connection, it looks the client's address up in a range table.
//!
//! - [`address`] reads addresses as Envoy and proxies write them.
//! - [`decision`] is pure: a snapshot and an address in, a verdict out.
//! - [`filter`] is what the filter does when its host calls it, over the trait [`filter::Host`].
//! - `abi` (wasm only) is the one file that talks to a host: proxy-wasm, and the one file with `unsafe`.
//!
//! Without std, of which the panics alone would be a fifth of the module.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod abi;
pub mod address;
pub mod configuration;
pub mod decision;
pub mod filter;
