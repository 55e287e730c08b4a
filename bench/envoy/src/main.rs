//! Measures what a blocklist costs a real Envoy. Run it with `make bench-envoy`, or for a quick look, after
//! `cargo build --release`, `cargo run --release --package edgefold-bench-envoy -- --quick`.
//!
//! # Cost
//!
//! Each contender has its own long-lived Envoy with one worker, keep-alive connections, and routes with direct
//! responses. Each request has another random address in X-Forwarded-For, unless `--clients` says how many there are.
//! The contenders take turns in rounds, in which each gets a batch of requests. The cost is the CPU time of all of
//! Envoy's threads, as the kernel accounts it. The printed values are the median of the rounds, and the median of the
//! differences to the empty chain in the same round.
//!
//! The empty chain takes part twice: differences no larger than the one between these two are noise. *Quiet* is the
//! difference between the tenth percentiles of the rounds, which varies less from run to run on a shared machine. All
//! filters are loaded by ECDS from a file.
//!
//! # Instructions
//!
//! The same requests on one connection, one contender after the other, with Envoy under valgrind's callgrind, which counts the instructions
//! of all threads. The figures are the same on each run to about a percent. They are not time: a lookup that misses the caches costs more than
//! its instructions, and so does a system call, which has none here.
//!
//! # Reload
//!
//! Each version of a list blocks one address that no other version blocks. With two workers, a reload is timed from the
//! renaming of the file to the first 403 for that address on a polling connection. Another connection sends requests
//! all the time. Their delay is the time beyond the median of the 200 ms before the reload. The same figures for the
//! requests before the reload show the noise of the machine.
//!
//! # Change
//!
//! For each number of ranges there is a log in SQLite with as many commands, a `serve` and an Envoy with two workers. A change blocks one
//! more address. It is timed from the moment at which the log has it to the first 403 for that address on a polling connection.
//! What it costs is measured without polling: the CPU time of all threads over some changes, less that of the same time without
//! any.
//!
//! A wrong answer is a panic, except in the soak, which counts wrong answers.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]

mod change;
mod contenders;
mod cost;
mod instructions;
mod list;
mod load;
mod plots;
mod reload;
mod report;
mod resources;
mod running;

use std::env;
use std::path::{self, PathBuf};

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use edgefold_tests::Host;

use crate::change::{Form, World};
use crate::contenders::{Contender, EMPTY};
use crate::cost::Setup;
use crate::list::Lists;
use crate::report::{Memory, Shared};
use crate::running::Running;

/// Reloads before memory is measured again.
const MEMORY_RELOADS: usize = 10;
/// Workers of an Envoy whose memory is measured.
const WORKERS: usize = 4;

/// Measures what a blocklist costs Envoy, and prints Markdown tables.
#[derive(Parser)]
struct Options {
    /// Take about two minutes: lower defaults for --rounds, --batch and --reloads
    #[arg(long)]
    quick: bool,
    /// What to measure
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Part::Cost, Part::Memory, Part::Reload, Part::Change])]
    parts: Vec<Part>,
    /// Measure only the contenders whose name contains this, as in `--only 1k`, and the empty chains; may be repeated
    #[arg(long)]
    only: Vec<String>,
    /// Also measure this wasm module, configured with a snapshot of 1k ranges; may be repeated
    #[arg(long = "module", value_name = "FILE")]
    modules: Vec<PathBuf>,
    /// Rounds for each contender [default: 100, or 30 with --quick]
    #[arg(long, value_parser = at_least_one())]
    rounds: Option<usize>,
    /// Requests per round [default: 3000, or 2000 with --quick]
    #[arg(long, value_parser = at_least_one())]
    batch: Option<usize>,
    /// Addresses in a batch of allowed requests, which take turns [default: another one for each request]
    #[arg(long, value_parser = at_least_one())]
    clients: Option<usize>,
    /// Connections to each Envoy
    #[arg(long, default_value = "16", value_parser = at_least_one())]
    connections: usize,
    /// Reloads to time [default: 50, or 20 with --quick]
    #[arg(long, value_parser = at_least_one())]
    reloads: Option<usize>,
    /// Numbers of ranges whose changes are measured, the first of which is compared with
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    change_ranges: Vec<usize>,
    /// Changes to measure in each list [default: 200, or 50 with --quick]
    #[arg(long, value_parser = at_least_one())]
    changes: Option<usize>,
    /// Also make 1,000 changes a second for this many seconds, to a list of a million ranges under load
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    stream: usize,
    /// Also keep this many connections open, one for each change to a list of a million ranges
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 0)]
    pinned: usize,
    /// Also reload a list of a million ranges this many times under load
    #[arg(long, value_name = "RELOADS", default_value_t = 0)]
    soak: usize,
    /// Directory for the plots; no plots without it
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
}

impl Options {
    fn wants(&self, contender: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| contender.contains(part))
    }

    fn wants_in_cost(&self, contender: &Contender) -> bool {
        contender.name.starts_with(EMPTY) || self.wants(&contender.name)
    }
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Part {
    /// CPU time per request, and memory
    Cost,
    /// Instructions per request: needs valgrind, and takes a minute for each contender
    Instructions,
    /// Memory of one list with several workers
    Memory,
    /// Time until a new list serves
    Reload,
    /// What one change costs from the log to the 403
    Change,
}

/// None of what is counted can be zero: there would be no median.
fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1_000_000)
}

fn main() {
    let mut options = Options::parse();
    // Resolve paths before the working directory changes.
    let absolute = |path: &PathBuf| path::absolute(path).unwrap();
    options.modules = options.modules.iter().map(absolute).collect();
    options.plots = options.plots.as_ref().map(absolute);
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    contenders::write_native_module();
    let mut lists = Lists::default();
    if options.parts.contains(&Part::Cost) {
        cost_and_memory(&options, &mut lists);
    }
    if options.parts.contains(&Part::Instructions) {
        let contenders = contenders::counted().into_iter().filter(|contender| options.wants_in_cost(contender));
        report::print_instructions(&instructions::measure(contenders.collect(), &mut lists));
    }
    if options.parts.contains(&Part::Memory) {
        memory_of_workers(&mut lists);
    }
    if options.parts.contains(&Part::Reload) {
        reloads(&options, &mut lists);
    }
    if options.parts.contains(&Part::Change) {
        changes(&options, &mut lists);
    }
    if options.pinned > 0 {
        let mut world = World::start(1_000_000, Form::Pair, true, Host::Wasm, &mut lists);
        report::print_pinned(&change::pinned(&mut world, options.pinned));
    }
    if options.stream > 0 {
        let mut world = World::start(1_000_000, Form::Pair, false, Host::Wasm, &mut lists);
        let stream = change::stream(&mut world, 1_000, options.stream);
        report::print_stream(&stream);
        assert_eq!(stream.failed, 0, "no request may fail");
    }
    if options.soak > 0 {
        for contender in contenders::soaked() {
            let mut running = Running::start(contender, &mut lists, 2);
            let soak = reload::soak(&mut running, options.soak, options.connections);
            report::print_soak(&running.contender.name, &soak);
            assert_eq!(soak.failed, 0, "no request may fail");
        }
    }
}

fn cost_and_memory(options: &Options, lists: &mut Lists) {
    let contenders = contenders::all(&options.modules).into_iter();
    let mut running: Vec<Running> = contenders
        .filter(|contender| options.wants_in_cost(contender))
        .map(|contender| Running::start(contender, lists, 1))
        .collect();
    let started: Vec<f64> = running.iter().map(|running| running.megabytes("VmRSS")).collect();
    let (rounds, batch) = if options.quick { (30, 2_000) } else { (100, 3_000) };
    let setup = Setup {
        rounds: options.rounds.unwrap_or(rounds),
        batch: options.batch.unwrap_or(batch),
        clients: options.clients.unwrap_or(usize::MAX),
        connections: options.connections,
    };
    let costs = cost::measure(&running, &setup);
    report::print_cost(&costs);

    let memory: Vec<Memory> = running
        .iter_mut()
        .zip(started)
        .map(|(running, started)| {
            let loaded = running.megabytes("VmRSS");
            // No response shows when a network filter has a new list.
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

/// One after another, since each takes a lot.
fn memory_of_workers(lists: &mut Lists) {
    let rows: Vec<Shared> = contenders::remembered()
        .into_iter()
        .map(|contender| {
            let mut running = Running::start(contender, lists, WORKERS);
            let started = running.megabytes("VmRSS");
            if running.contender.filter.is_some() {
                reload::repeatedly(&mut running, MEMORY_RELOADS);
            }
            let reloaded = running.megabytes("VmRSS");
            let snapshot = if running.contender.filter.is_some() { running.list.snapshot(0).len() } else { 0 };
            let snapshot = snapshot as f64 / (1 << 20) as f64;
            Shared { contender: running.contender.name.clone(), snapshot, started, reloaded }
        })
        .collect();
    report::print_shared(&rows, MEMORY_RELOADS, WORKERS);
}

fn changes(options: &Options, lists: &mut Lists) {
    let count = options.changes.unwrap_or(if options.quick { 50 } else { 200 });
    let mut worlds: Vec<World> = options
        .change_ranges
        .iter()
        .map(|ranges| World::start(*ranges, Form::Pair, false, Host::Wasm, lists))
        .collect();
    // The largest of those for which whole snapshots are still worth a measurement, to compare.
    let whole = options.change_ranges.iter().copied().filter(|ranges| *ranges <= 1_000_000).max();
    worlds.extend(whole.map(|ranges| World::start(ranges, Form::Whole, false, Host::Wasm, lists)));
    worlds.extend(whole.map(|ranges| World::start(ranges, Form::Pair, false, Host::Native, lists)));
    report::print_changes(&change::measure(&mut worlds, count));
}

fn reloads(options: &Options, lists: &mut Lists) {
    let contenders = contenders::reloaded().into_iter().filter(|contender| options.wants(&contender.name));
    let mut running: Vec<Running> = contenders.map(|contender| Running::start(contender, lists, 2)).collect();
    let reloads = options.reloads.unwrap_or(if options.quick { 20 } else { 50 });
    let measured = reload::measure(&mut running, reloads);
    report::print_reloads(&measured);
    if let Some(directory) = &options.plots {
        report::draw_reloads(&measured, directory);
    }
}
