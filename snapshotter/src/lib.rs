//! The snapshotter: the `edgefold` binary.
//!
//! - [`cli`] reads flags, and nothing else does. There is one file for each subcommand.
//! - `answers` is what is said about the lists, to people and to programs, for the command line and any other front end.
//! - [`serve`] is the engine of `edgefold serve`: it follows the log, publishes, and starts the keeper and the admin server.
//! - [`ship`] decides what is published, and delivers it: a snapshot is [cut](ship::cut) from the fold, becomes an
//!   [ECDS resource](ship::ecds), and is written to [files](ship::files).
//! - [`xds`] delivers it to a fleet of Envoys over gRPC, and knows who has what.
//! - [`keeper`] keeps the view of ranges in step with the commands, as one of any number of snapshotters.
//! - `admin` answers who has what, `api` takes commands over HTTP, and `net` is what servers have in common.

mod addresses;
mod admin;
mod answers;
pub mod api;
pub mod cli;
pub mod keeper;
pub mod modules;
pub mod net;
pub mod replace;
mod retry;
pub mod serve;
pub mod ship;
mod ui;
pub mod xds;
