//! The edgefold filter: inside Envoy, on each request or new connection, it looks the client's address up in a snapshot.
//!
//! - [`decision`] is pure: a snapshot and an address in, a verdict out.
//! - [`client`] determines the client's address, and [`address`] parses addresses as Envoy and proxies write them.
//! - [`configuration`] opens the snapshot in a plugin's configuration.
//! - [`plugin`] is how snapshots arrive, and [`serving`] is what answers requests. Their `metrics` are a file of their own.
//! - [`filter`] has all plugins of a VM.
//! - [`host`] has the traits of a host, and `proxy_wasm` (wasm only) is the one that the module is built for. It is the only
//!   file that speaks proxy-wasm, and the only one with `unsafe`. Another host gets a file beside it.
//!
//! On wasm there is no standard library: its panics alone would be a fifth of the module.
#![cfg_attr(target_arch = "wasm32", no_std)]
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

pub mod address;
pub mod client;
pub mod configuration;
pub mod decision;
pub mod filter;
pub mod host;
mod metrics;
pub mod plugin;
#[cfg(target_arch = "wasm32")]
mod proxy_wasm;
pub mod serving;
