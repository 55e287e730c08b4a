//! What a blocklist costs a real Envoy: `make bench-envoy`, or for a look
//! `cargo run --release --package edgefold-bench-envoy -- --quick`.
//!
//! Each contender has a long-lived Envoy of its own with one worker, keep-alive connections, and routes that answer by
//! themselves; each request has another address in X-Forwarded-For. In rounds by turns each gets a batch of requests, and
//! what it costs is the CPU time of all of Envoy's threads, by the kernel's account. What is printed is the median of the
//! rounds, and that of the differences to the empty chain of the same round. The empty chain comes twice: what differs by
//! no more than these two do does not differ. *Quiet* is the difference between the rounds of both that nine tenths took
//! longer than: on a shared machine it moves less from run to run. All filters come by ECDS, from a file.
//!
//! Each version of a list blocks an address of its own. A reload lasts from the renaming of the file to the first 403 for
//! that address on a connection that polls, with two workers; another connection sends requests all the time, and their
//! delays are those beyond the median of the 200 ms before. The same of requests before the reload is the machine's noise.
//!
//! Any answer but the right one is a panic, save in the soak, which counts them.
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

mod contenders;
mod cost;
mod list;
mod load;
mod plots;
mod reload;
mod report;
mod resources;
mod running;
mod sdk_filter;

use std::env;
use std::path::{self, PathBuf};

use clap::{Parser, ValueEnum};

use crate::contenders::EMPTY;
use crate::cost::Setup;
use crate::list::Lists;
use crate::report::Memory;
use crate::running::Running;

/// Reloads before memory is measured again.
const MEMORY_RELOADS: usize = 10;

/// Measures what a blocklist costs Envoy, and prints Markdown.
#[derive(Parser)]
struct Options {
    /// About two minutes: fewer rounds, smaller batches, fewer reloads
    #[arg(long)]
    quick: bool,
    /// What is measured
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Part::Cost, Part::Reload])]
    parts: Vec<Part>,
    /// Only the contenders whose name has this in it, as in `--only 1k`; the empty chains always
    #[arg(long, default_value = "")]
    only: String,
    /// Measures a further wasm module, configured with a snapshot of 1k ranges; may be repeated
    #[arg(long = "module", value_name = "FILE")]
    modules: Vec<PathBuf>,
    /// Rounds of each contender
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Requests of a round
    #[arg(long, default_value_t = 3_000)]
    batch: usize,
    /// Connections to each Envoy
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Reloads whose time is taken
    #[arg(long, default_value_t = 50)]
    reloads: usize,
    /// Reloads a million ranges so often under load
    #[arg(long, value_name = "RELOADS", default_value_t = 0)]
    soak: usize,
    /// Where the plots go; nowhere if it is not given
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Part {
    /// CPU time of a request, and memory
    Cost,
    /// Time to a new list
    Reload,
}

fn main() {
    let mut options = Options::parse();
    // Before the working directory changes.
    let absolute = |path: &PathBuf| path::absolute(path).unwrap();
    options.modules = options.modules.iter().map(absolute).collect();
    options.plots = options.plots.as_ref().map(absolute);
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    if options.quick {
        (options.rounds, options.batch, options.reloads) = (30, 2_000, 20);
    }
    let mut lists = Lists::default();
    if options.parts.contains(&Part::Cost) {
        cost_and_memory(&options, &mut lists);
    }
    if options.parts.contains(&Part::Reload) {
        reloads(&options, &mut lists);
    }
    if options.soak > 0 {
        let mut running = Running::start(contenders::soaked(), &mut lists, 2);
        let soak = reload::soak(&mut running, options.soak, options.connections);
        report::print_soak(&soak);
        assert_eq!(soak.failed, 0, "no request may fail");
    }
}

fn cost_and_memory(options: &Options, lists: &mut Lists) {
    let contenders = contenders::all(&options.modules).into_iter();
    let mut running: Vec<Running> = contenders
        .filter(|contender| contender.name.starts_with(EMPTY) || contender.name.contains(&options.only))
        .map(|contender| Running::start(contender, lists, 1))
        .collect();
    let started: Vec<f64> = running.iter().map(|running| running.megabytes("VmRSS")).collect();
    let Options { rounds, batch, connections, .. } = *options;
    let costs = cost::measure(&running, &Setup { rounds, batch, connections });
    report::print_cost(&costs);

    let memory: Vec<Memory> = running
        .iter_mut()
        .zip(started)
        .map(|(running, started)| {
            let loaded = running.megabytes("VmRSS");
            // Nothing that a request says shows when a network filter has a new list.
            let shows = running.contender.filter.as_ref().is_some_and(|filter| !filter.network);
            let reloaded = shows.then(|| {
                reload::repeatedly(running, MEMORY_RELOADS);
                ["VmRSS", "VmHWM"].map(|field| running.megabytes(field))
            });
            Memory { contender: running.contender.name.clone(), started, loaded, reloaded }
        })
        .collect();
    report::print_memory(&memory, MEMORY_RELOADS);
    if let Some(directory) = &options.plots {
        report::draw_cost(&costs, directory);
    }
}

fn reloads(options: &Options, lists: &mut Lists) {
    let contenders = contenders::reloaded().into_iter().filter(|contender| contender.name.contains(&options.only));
    let mut running: Vec<Running> = contenders.map(|contender| Running::start(contender, lists, 2)).collect();
    let measured = reload::measure(&mut running, options.reloads);
    report::print_reloads(&measured);
    if let Some(directory) = &options.plots {
        report::draw_reloads(&measured, directory);
    }
}
