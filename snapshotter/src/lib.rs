//! edgefold: an event-sourced IP blocklist for Envoy.
//!
//! The pure core: [`command`] is the grammar, [`record`] how a record of the log is read, [`fold`] what the commands mean,
//! [`edits`] and [`view`] what the ranges topic is told and tells. The edges: [`log`] (SQLite, Kafka), [`load`] (a log into a
//! fold), [`keeper`] (a fold into the ranges topic), [`snapshot`] (a fold into bytes), [`ecds`] (bytes to Envoy), [`cli`].

mod admin;
mod backoff;
mod blocks;
pub mod cli;
pub mod clock;
pub mod command;
pub mod ecds;
pub mod edits;
pub mod fold;
pub mod keeper;
pub mod load;
pub mod log;
mod metrics;
mod progress;
pub mod range_text;
pub mod record;
pub mod snapshot;
pub mod time;
pub mod view;
