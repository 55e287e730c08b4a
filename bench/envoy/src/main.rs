//! What a blocklist costs a real Envoy: `make bench-envoy`, or for a look
//! `cargo run --release --package edgefold-bench-envoy -- --quick`.
//!
//! Each contender has a long-lived Envoy of its own with one worker, keep-alive connections, and routes that answer by
//! themselves; each request has another address in X-Forwarded-For. In rounds by turns each gets a batch of requests, and
//! what it costs is the CPU time of all of Envoy's threads, by the kernel's account. What is printed is the median of the
//! rounds, and that of the differences to the empty chain of the same round. All filters come by ECDS.
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

mod contenders;
mod cost;
mod list;
mod load;
mod report;
mod resources;
mod running;
mod sdk_filter;

use std::env;
use std::path::PathBuf;

use clap::Parser;

use crate::contenders::EMPTY;
use crate::cost::Setup;
use crate::list::Lists;
use crate::running::Running;

/// Measures what a blocklist costs Envoy, and prints Markdown.
#[derive(Parser)]
struct Options {
    /// Few rounds of small batches
    #[arg(long)]
    quick: bool,
    /// Only the contenders whose name has this in it, as in `--only 1k`; the empty chain always
    #[arg(long, default_value = "")]
    only: String,
    /// Measures a further wasm module, configured with a snapshot of 1k ranges; may be repeated
    #[arg(long = "module")]
    modules: Vec<PathBuf>,
    /// Rounds
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Requests a batch
    #[arg(long, default_value_t = 20_000)]
    batch: usize,
    /// Connections to each Envoy
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

fn main() {
    let options = Options::parse();
    let modules: Vec<PathBuf> = options.modules.iter().map(|module| module.canonicalize().unwrap()).collect();
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    let mut lists = Lists::default();
    let running: Vec<Running> = contenders::all(&modules)
        .into_iter()
        .filter(|contender| contender.name == EMPTY || contender.name.contains(&options.only))
        .map(|contender| Running::start(contender, &mut lists, 1))
        .collect();
    let (rounds, batch) = if options.quick { (7, 5_000) } else { (options.rounds, options.batch) };
    let costs = cost::measure(&running, &Setup { rounds, batch, connections: options.connections });
    report::print_cost(&costs);
}
