//! A proxy-wasm host for the filter's built modules, in wasmtime. It implements only the part of ABI 0.2.1 that the
//! filter uses, so a module that imports anything else does not start. It follows the [`Rules`] of one of several hosts.
//!
//! A [`Host`] is one VM with one plugin, which a test configures, sends requests and connections to, and inspects. It
//! has no threads, no timeouts and no clock of its own. In what it passes to the module it follows proxy-wasm-cpp-host,
//! which Envoy embeds: it only calls what the module exports, and empty data is a null pointer.
//!
//! Everything panics if the module traps or breaks the ABI, and so fails the test.
#![allow(clippy::unwrap_used, reason = "a test helper may panic, like the test")]

mod abi;
mod host;
mod rules;

pub use host::{Connection, Host, Plugin, Response, State};
pub use rules::Rules;
