//! The edgefold filter: inside Envoy, on each request or new connection, it looks the client's address up in a snapshot.
//!
//! - [`decision`] is pure: a snapshot and an address in, a verdict out.
//! - [`client`] determines the client's address, and [`address`] parses addresses as Envoy and proxies write them.
//! - [`configuration`] finds the snapshot in a plugin's configuration, and `configuration_text` one that is bare base64.
//! - [`plugin`] is how snapshots arrive, and [`serving`] is what answers requests. Their `metrics` are a file of their own.
//! - [`filter`] has all plugins of a VM.
//! - [`host`] has the traits of a host, and each wasm host a file (wasm only): `proxy_wasm` is Envoy, for the lean modules, and `portable`
//!   (a feature) is every other host. They call the host through `abi`, and pass it headers by `header_map`. These files are the only
//!   ones with `unsafe`. Envoy's dynamic modules are a host too, with a crate of their own: `native/`.
//!
//! On wasm the lean modules have no standard library: its panics alone would be a fifth of the module.
#![cfg_attr(all(target_arch = "wasm32", not(feature = "portable")), no_std)]
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
pub mod client;
pub mod configuration;
#[cfg(any(test, all(target_arch = "wasm32", feature = "portable")))]
mod configuration_text;
pub mod decision;
pub mod filter;
#[cfg(any(test, target_arch = "wasm32"))]
mod header_map;
pub mod host;
mod metrics;
pub mod plugin;
#[cfg(all(target_arch = "wasm32", feature = "portable"))]
mod portable;
#[cfg(all(target_arch = "wasm32", not(feature = "portable")))]
mod proxy_wasm;
pub mod serving;
