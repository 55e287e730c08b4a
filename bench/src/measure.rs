//! Measures one list of ranges: all contenders in all hosts take turns in rounds.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use edgefold_bench_lists::median;
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::contenders::{Contended, Make};
use crate::family::{Family, Range};
use crate::node::{InNode, Node};
use crate::shapes::{self, Shape};
use crate::timing::{self, Native, ORDERS, Runner, timed};
use crate::wasm::{self, Buffers, InWasmtime, SIMD, Simd, Wasmtime};

/// A contender that would take longer to build is left out. The first tenth of the ranges serves as the estimate.
const BUILD_SECONDS: f64 = 20.0;
/// A contender that would need more memory is left out too.
const BUILD_BYTES: f64 = 4e9;
/// The number of ranges from which on the first tenth is built as an estimate.
const TRIED: usize = 5_000_000;

/// Where a contender runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Host {
    Native,
    Wasmtime(Simd),
    V8(Simd),
}

impl Host {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Wasmtime(Simd::With) => "wasmtime",
            Self::Wasmtime(Simd::Without) => "wasmtime, no SIMD",
            Self::V8(Simd::With) => "V8",
            Self::V8(Simd::Without) => "V8, no SIMD",
        }
    }
}

/// The kinds of lookup, in the order of [`Times`].
pub(crate) const WAYS: [&str; 4] = ["independent", "dependent", "independent, cold", "dependent, cold"];

/// Nanoseconds per lookup.
pub(crate) type Times = [f64; 4];

/// The results of a contender in a host.
pub(crate) struct Row {
    pub(crate) contender: &'static str,
    pub(crate) host: Host,
    /// The error is why the contender was left out.
    pub(crate) times: Result<Times, String>,
    /// Bytes per range.
    pub(crate) serialized: Option<f64>,
    pub(crate) resident: Option<f64>,
    /// Seconds.
    pub(crate) encode: Option<f64>,
    pub(crate) open: Option<f64>,
}

/// The results for a list.
pub(crate) struct Measured {
    pub(crate) list: List,
    /// The number of ranges.
    pub(crate) ranges: usize,
    pub(crate) rows: Vec<Row>,
    /// Seconds to open edgefold's table in a V8 that has just started. Only measured for some lists.
    pub(crate) first_open: Option<f64>,
}

/// Which list of ranges to measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct List {
    pub(crate) family: &'static str,
    pub(crate) shape: Shape,
    /// The name of the size.
    pub(crate) size: &'static str,
    /// The number of ranges; ignored for the real list.
    pub(crate) count: usize,
}

/// What all lists share.
pub(crate) struct Setup {
    pub(crate) rounds: usize,
    pub(crate) modules: [PathBuf; 2],
    pub(crate) node: Rc<RefCell<Node>>,
}

pub(crate) fn measure<A: Contended>(list: List, setup: &Setup) -> Measured {
    let ranges = shapes::ranges::<A>(list.shape, list.count);
    let addresses: Rc<[A]> = shapes::asked(list.shape, &ranges).into();
    let mut rows = Vec::new();
    // Each runner, with the row that it fills.
    let mut runners: Vec<(usize, Box<dyn Runner>)> = Vec::new();
    natives(&ranges, &addresses, &mut rows, &mut runners);
    hosted(&ranges, &addresses, setup, &mut rows, &mut runners);

    let answers = runners[0].1.answers();
    for (row, runner) in &mut runners {
        let Row { contender, host, .. } = &rows[*row];
        assert!(runner.answers() == answers, "{contender} ({}) gives other answers", host.name());
    }
    let hits = answers.iter().filter(|&&hit| hit).count();
    drop(answers);
    for (row, times) in rounds(&mut runners, setup.rounds, hits) {
        rows[row].times = Ok(times);
    }
    for (row, runner) in &mut runners {
        if rows[*row].host != Host::Native {
            rows[*row].open = Some(repeated(0.0, || runner.open().unwrap()));
        }
    }
    let first_open = (list.size == "1M").then(|| first_open(&ranges, &addresses, setup));
    Measured { list, ranges: ranges.len(), rows, first_open }
}

/// Seconds to open edgefold's table in a V8 that has not run the module before, and has not optimised it yet.
fn first_open<A: Family>(ranges: &[Range<A>], addresses: &[A], setup: &Setup) -> f64 {
    let node = Node::start(&setup.modules);
    node.borrow_mut().load::<A>(&Buffers::new(ranges, addresses));
    let (edgefold, ..) = wasm::CONTENDERS[0];
    InNode::new(&node, Simd::With, edgefold, addresses.len()).open().unwrap()
}

/// Adds the contenders that run in this process.
fn natives<A: Contended>(
    ranges: &[Range<A>],
    addresses: &Rc<[A]>,
    rows: &mut Vec<Row>,
    runners: &mut Vec<(usize, Box<dyn Runner>)>,
) {
    let wash = timing::wash_words();
    for candidate in A::candidates() {
        let mut row = Row {
            contender: candidate.name,
            host: Host::Native,
            times: Err(String::new()),
            serialized: None,
            resident: None,
            encode: None,
            open: None,
        };
        let too_much = (ranges.len() >= TRIED).then(|| too_much(&candidate.make, ranges)).flatten();
        let set = match candidate.make {
            Make::Never(why) => Err(why.to_owned()),
            _ if too_much.is_some() => Err(too_much.unwrap_or_default()),
            Make::Memory(build) => {
                let ((set, taken), bytes) = allocated(|| timed(|| build(ranges)));
                row.encode = Some(repeated(taken, || timed(|| build(ranges)).1));
                Ok((set, bytes))
            }
            Make::Format { encode, open } => {
                let (bytes, taken) = timed(|| encode(ranges));
                row.encode = Some(repeated(taken, || timed(|| encode(ranges)).1));
                row.serialized = Some(bytes.len() as f64 / ranges.len() as f64);
                // A clone has no spare capacity, like bytes that were read from a file.
                let open = |bytes: &Vec<u8>| {
                    let bytes = bytes.clone();
                    timed(|| open(bytes))
                };
                let ((set, taken), allocated) = allocated(|| open(&bytes));
                row.open = Some(repeated(taken, || open(&bytes).1));
                Ok((set, allocated))
            }
        };
        match set {
            Ok((set, bytes)) => {
                row.resident = Some(bytes / ranges.len() as f64);
                let native = Native { set, addresses: Rc::clone(addresses), wash: Rc::clone(&wash) };
                runners.push((rows.len(), Box::new(native)));
            }
            Err(why) => row.times = Err(why),
        }
        rows.push(row);
    }
}

/// Why a contender cannot be built from all of many ranges, estimated from the first tenth.
fn too_much<A: Family>(make: &Make<A>, ranges: &[Range<A>]) -> Option<String> {
    let Make::Memory(build) = make else { return None };
    let tenth = &ranges[..ranges.len() / 10];
    let ((_, taken), bytes) = allocated(|| timed(|| build(tenth)));
    let (taken, bytes) = (10.0 * taken, 10.0 * bytes);
    (taken > BUILD_SECONDS || bytes > BUILD_BYTES)
        .then(|| format!("would need about {taken:.0} s and {:.1} GB to build", bytes / 1e9))
}

fn allocated<T>(make: impl FnOnce() -> T) -> (T, f64) {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    (made, change.bytes_allocated as f64 - change.bytes_deallocated as f64)
}

/// The median of five more runs, or the first result if it took long.
fn repeated(first: f64, mut run: impl FnMut() -> f64) -> f64 {
    if first > 0.5 { first } else { median((0..5).map(|_| run()).collect()) }
}

/// Adds the contenders that run in wasm.
fn hosted<A: Family>(
    ranges: &[Range<A>],
    addresses: &[A],
    setup: &Setup,
    rows: &mut Vec<Row>,
    runners: &mut Vec<(usize, Box<dyn Runner>)>,
) {
    let buffers = Buffers::new(ranges, addresses);
    setup.node.borrow_mut().load::<A>(&buffers);
    for (simd, module) in SIMD.into_iter().zip(&setup.modules) {
        let wasmtime = Wasmtime::load::<A>(module, &buffers);
        for (number, contender, once) in wasm::CONTENDERS {
            if once && simd == Simd::Without {
                continue;
            }
            let in_wasmtime = InWasmtime::new(&wasmtime, number, addresses.len());
            let in_node = InNode::new(&setup.node, simd, number, addresses.len());
            let hosts: [(Host, Box<dyn Runner>); 2] =
                [(Host::Wasmtime(simd), Box::new(in_wasmtime)), (Host::V8(simd), Box::new(in_node))];
            for (host, mut runner) in hosts {
                runner.open();
                runners.push((rows.len(), runner));
                let times = Err(String::new());
                rows.push(Row { contender, host, times, serialized: None, resident: None, encode: None, open: None });
            }
        }
    }
}

/// The medians of the rounds, by row.
fn rounds(runners: &mut [(usize, Box<dyn Runner>)], rounds: usize, hits: usize) -> Vec<(usize, Times)> {
    // Warm up: V8 optimises hot code in the background.
    for _ in 0..3 {
        for (_, runner) in runners.iter_mut() {
            for order in ORDERS {
                runner.hot(order);
            }
        }
    }
    let mut times: Vec<[Vec<f64>; 4]> = runners.iter().map(|_| [const { Vec::new() }; 4]).collect();
    for turn in 0..rounds {
        for ((_, runner), times) in runners.iter_mut().zip(&mut times) {
            for (at, order) in ORDERS.into_iter().enumerate() {
                // Refill the cache, which the previous contenders have evicted.
                runner.hot(order);
                let (nanos, found) = runner.hot(order);
                assert_eq!(found, hits, "the same addresses must give the same hits");
                times[at].push(nanos);
                times[ORDERS.len() + at].push(runner.washed(order, turn));
            }
        }
    }
    runners.iter().zip(times).map(|((row, _), times)| (*row, times.map(median))).collect()
}
