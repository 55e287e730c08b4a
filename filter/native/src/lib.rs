//! The edgefold filter as an Envoy dynamic module: the same decisions as in wasm, in Envoy's own process.
//!
//! - [`process`] is what the whole process shares: for each filter one table, which all workers read. It is safe code.
//! - [`sync`] is what its threads wait with, which a model replaces.
//! - [`snapshot_file`] reads a large snapshot from its file.
//! - `dynamic_module` is the host layer: Envoy's ABI, and the only file with `unsafe`.
//!
//! The module is in Envoy's process, so it must not take Envoy down. It does not panic across the boundary, does not block a request, has
//! no threads, and writes nothing for a request but metrics, filter states and answers.
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

#[cfg(not(feature = "model"))]
pub mod dynamic_module;
pub mod process;
pub mod snapshot_file;
pub mod sync;
