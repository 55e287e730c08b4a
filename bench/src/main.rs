//! The range table beside other ways to look addresses up, natively and inside wasm: `make bench`, or for a look
//! `cargo run --profile filter --package edgefold-bench -- --quick`. All is optimised as the filter is: what LTO inlines
//! makes some of the crates a quarter faster.
//!
//! For each list of ranges all contenders are built, must agree on the answer for every address asked, and then take
//! turns in rounds, so that the noise of the machine meets all of them alike; what is printed is the median of the rounds.
//!
//! - *independent*: a loop over all addresses, whose lookups overlap in the processor: what a lookup costs.
//! - *dependent*: each address depends on the answer before it: how long a lookup takes.
//! - *washed*: 4 MiB are read beforehand, which leaves nothing of the contender in the first and second level of cache.
//!   Independent lookups then come in bursts of eight, dependent ones alone. A third level of hundreds of megabytes, as
//!   servers have, keeps what it has.
//!
//! Times are CPU time. What follows a washing is too short for that clock and is taken by wall clock, without what the same
//! call to a contender that looks nothing up takes.
//!
//! Those who know prefixes alone get the fewest CIDR blocks that make up the ranges; `encode` is then how long it takes to
//! build them from the sorted ranges, and `open` is for those with a format. Resident bytes are those allocated.
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

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

/// Measures the range table and prints Markdown.
#[derive(Parser)]
struct Options {
    /// Only 1k and 100k ranges, and three rounds
    #[arg(long)]
    quick: bool,
    /// Only the lists whose name has all these words, as in `--only "1M IPv4"`; names are like `1M blocklist-like IPv4`
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds of each list
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Where the plots go; `docs/plots` if all lists are measured, else nowhere
    #[arg(long)]
    plots: Option<PathBuf>,
}

fn main() {
    let options = Options::parse();
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    let modules = SIMD.map(wasm::build);
    let node = Node::start(&modules);
    let setup = Setup { rounds: if options.quick { 3 } else { options.rounds }, modules, node };
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
