//! Compares the range table with other ways to look up addresses, natively and inside wasm. Run it with `make bench`,
//! or for a quick look `cargo run --profile filter --package edgefold-bench -- --quick`. Everything is built with the
//! profile of the filter, because inlining by LTO makes some of the crates a quarter faster.
//!
//! For each list of ranges, all contenders are built and must agree on the answer for every address. They then take
//! turns in rounds, so that the noise of the machine affects all of them alike. The printed times are medians of the
//! rounds.
//!
//! - *independent*: a loop over all addresses, whose lookups overlap in the processor. This is the throughput.
//! - *dependent*: each address depends on the previous answer. This is the latency.
//! - *cold*: 4 MiB are read beforehand, which evicts the contender from the first two levels of cache. Independent
//!   lookups then come in bursts of eight, dependent ones one at a time. A third level of hundreds of megabytes, as
//!   servers have, is not evicted.
//!
//! Times are CPU time. Cold lookups are too short for that clock: they are timed by wall clock, minus the time of the
//! same call to a contender that does no lookup.
//!
//! Contenders that only support prefixes get the fewest CIDR blocks that cover the ranges. `encode` is the time to
//! build a contender from the sorted ranges; `open` applies to those with a serialized format. Resident bytes are
//! allocated bytes.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]

mod contenders;
mod measure;
mod node;
mod plots;
mod report;
mod timing;
mod wasm;

use std::alloc::System;
use std::env;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use edgefold_bench_lists::{family, shapes};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::family::Family;
use crate::measure::{List, Setup, measure};
use crate::node::Node;
use crate::report::Results;
use crate::shapes::Shape;
use crate::wasm::SIMD;

#[global_allocator]
pub(crate) static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SIZES: [(&str, usize); 4] = [("1k", 1_000), ("100k", 100_000), ("1M", 1_000_000), ("10M", 10_000_000)];

/// Measures the range table, and prints Markdown tables.
#[derive(Parser)]
struct Options {
    /// Measure only lists of 1k and 100k ranges
    #[arg(long)]
    quick: bool,
    /// Measure only the lists whose name has all these words, as in `--only "1M IPv4"`; a name is `1M uniform IPv4`
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds for each list [default: 7, or 3 with --quick]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    rounds: Option<usize>,
    /// Directory for the plots; by default `docs/plots` if all lists are measured, else no plots
    #[arg(long)]
    plots: Option<PathBuf>,
}

fn main() {
    let options = Options::parse();
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    let modules = SIMD.map(wasm::build);
    let node = Node::start(&modules);
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 7 });
    let setup = Setup { rounds, modules, node };
    report::print_head();
    let mut results = Results(Vec::new());
    for list in lists(&options) {
        let measured = match list.family {
            u32::NAME => measure::<u32>(list, &setup),
            _ => measure::<u128>(list, &setup),
        };
        report::print(&measured);
        results.0.push(measured);
    }
    let ten = edgefold_bench_wasm::encode(&shapes::ranges::<u32>(Shape::Uniform, 10)).len();
    report::print_targets(&results, ten);
    let everything = !options.quick && options.only.is_empty();
    if let Some(directory) = options.plots.or(everything.then(|| "docs/plots".into())) {
        plots::draw(&results, &directory).unwrap();
    }
}

fn lists(options: &Options) -> impl Iterator<Item = List> {
    let generated = [u32::NAME, u128::NAME].into_iter().flat_map(|family| {
        SIZES.into_iter().flat_map(move |(size, count)| {
            [Shape::Uniform, Shape::Blocklist].map(|shape| List { family, shape, size, count })
        })
    });
    let real = [u32::NAME, u128::NAME].map(|family| List { family, shape: Shape::Real, size: "all", count: 0 });
    generated.chain(real).filter(|list| {
        let name = format!("{} {} {}", list.size, list.shape.name(), list.family);
        let quick = !options.quick || (1..=100_000).contains(&list.count);
        quick && options.only.split_whitespace().all(|word| name.split(' ').any(|part| part == word))
    })
}
