//! How many lookups per second a `Blocklist` answers, beside a `RwLock<BTreeMap>`: `cargo bench --package edgefold --bench
//! blocklist`.
//!
//! One and two threads look random addresses up among a million ranges, first while nothing changes, then while 10,000 commands
//! per second are folded in. The contenders take turns in every round, so that the noise of the machine affects both.
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use edgefold::{
    Batch, Blocklist, CommandReader, Error, Log, LogTime, NewCommand, Position, Record, ViewReader, ViewWriter, now,
};
use fastrand::Rng;

const RANGES: u32 = 1_000_000;
/// The distance between the first addresses of two ranges, which leaves a gap after each.
const STRIDE: u32 = 4001;
/// Commands per millisecond while the writer is on.
const PER_MILLISECOND: u64 = 10;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(400);

fn main() {
    // Cargo passes `--bench`; `cargo test --benches` does not, and should not run this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let memory = Memory::default();
    let blocklist = Blocklist::follow(Box::new(memory.clone()) as Box<dyn Log>).unwrap();
    let tree = Tree::start(Arc::clone(&memory.writes));
    println!("| readers | commands/s | contender | million lookups/s | ns per lookup and thread | times the tree |");
    println!("|--:|--:|---|--:|--:|--:|");
    for readers in [1, 2] {
        for writes in [false, true] {
            memory.writes.store(writes, Ordering::Relaxed);
            let (mut ours, mut theirs, mut commands) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (before, started) = (blocklist.position().next_offset, Instant::now());
                ours.push(throughput(readers, |ip| blocklist.get_at(ip.into(), LogTime::EPOCH).denied().is_some()));
                theirs.push(throughput(readers, |ip| tree.contains(ip)));
                let folded = blocklist.position().next_offset - before;
                commands.push(folded as f64 / started.elapsed().as_secs_f64());
            }
            let (ours, theirs, commands) = (median(ours), median(theirs), median(commands));
            for (name, rate) in [("Blocklist", ours), ("RwLock<BTreeMap>", theirs)] {
                let nanos = readers as f64 / rate * 1e9;
                let (million, times) = (rate / 1e6, rate / theirs);
                println!("| {readers} | {commands:.0} | {name} | {million:.2} | {nanos:.0} | {times:.1} |");
            }
        }
    }
    tree.stop.store(true, Ordering::Relaxed);
}

/// Lookups per second of `readers` threads together.
fn throughput(readers: usize, contains: impl Fn(Ipv4Addr) -> bool + Sync) -> f64 {
    let lookups = AtomicU64::new(0);
    let started = Instant::now();
    thread::scope(|scope| {
        for seed in 0..readers {
            let (contains, lookups) = (&contains, &lookups);
            scope.spawn(move || {
                let (mut random, mut done) = (Rng::with_seed(seed as u64), 0);
                while started.elapsed() < ROUND {
                    for _ in 0..1_000 {
                        black_box(contains(Ipv4Addr::from_bits(random.u32(..))));
                    }
                    done += 1_000;
                }
                lookups.fetch_add(done, Ordering::Relaxed);
            });
        }
    });
    lookups.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The command number `offset`: first all ranges are blocked, then random ones are allowed and blocked again by turns.
fn command(offset: u64) -> (bool, u32) {
    match u32::try_from(offset) {
        Ok(at) if at < RANGES => (true, at * STRIDE),
        _ => (offset % 2 == 1, Rng::with_seed(offset / 2).u32(..RANGES) * STRIDE),
    }
}

/// A log in memory that has commands for every range, and goes on at a steady pace while `writes` is set.
#[derive(Clone, Default)]
struct Memory {
    writes: Arc<AtomicBool>,
}

struct Commands {
    writes: Arc<AtomicBool>,
    next: u64,
}

impl CommandReader for Commands {
    fn read(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let count = if self.next < RANGES.into() {
            1_000
        } else if self.writes.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
            PER_MILLISECOND
        } else {
            thread::sleep(timeout);
            return Ok(Batch { at_end: true, ..Batch::default() });
        };
        let record = |offset| {
            let (blocks, first) = command(offset);
            let verb = if blocks { "BLACKLIST" } else { "WHITELIST" };
            let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + 99));
            let value = Some(format!("{verb} {first}-{last}").into());
            Record { offset, timestamp: Some(now()), key: None, value }
        };
        let records: Vec<Record> = (self.next..self.next + count).map(record).collect();
        self.next += count;
        Ok(Batch { records, at_end: self.next >= RANGES.into(), ..Batch::default() })
    }

    fn end(&self) -> u64 {
        RANGES.into()
    }
}

impl Log for Memory {
    fn init(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn append(&self, _commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        Err(Error::Missing("memory".to_owned()))
    }

    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error> {
        Ok(Box::new(Commands { writes: Arc::clone(&self.writes), next: from.next_offset }))
    }

    fn view(&self) -> Result<Box<dyn ViewReader>, Error> {
        Err(Error::Missing("memory".to_owned()))
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error> {
        Err(Error::Missing("memory".to_owned()))
    }
}

/// What one would write first: a tree of ranges behind a lock.
struct Tree {
    ranges: Arc<RwLock<BTreeMap<u32, u32>>>,
    stop: Arc<AtomicBool>,
}

impl Tree {
    fn start(writes: Arc<AtomicBool>) -> Self {
        let ranges: BTreeMap<u32, u32> = (0..RANGES).map(|at| (at * STRIDE, at * STRIDE + 99)).collect();
        let ranges = Arc::new(RwLock::new(ranges));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&ranges), Arc::clone(&stop));
        thread::spawn(move || {
            let mut next = u64::from(RANGES);
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
                if !writes.load(Ordering::Relaxed) {
                    continue;
                }
                let mut ranges = shared.write().unwrap();
                for offset in next..next + PER_MILLISECOND {
                    match command(offset) {
                        (true, first) => drop(ranges.insert(first, first + 99)),
                        (false, first) => drop(ranges.remove(&first)),
                    }
                }
                next += PER_MILLISECOND;
            }
        });
        Self { ranges, stop }
    }

    fn contains(&self, ip: Ipv4Addr) -> bool {
        let ranges = self.ranges.read().unwrap();
        ranges.range(..=ip.to_bits()).next_back().is_some_and(|(_, &last)| ip.to_bits() <= last)
    }
}
