//! Compares the fold with other ways to keep ranges: `cargo bench --package edgefold --bench fold`.
//!
//! All contenders take turns with the same commands, in rounds, so that the noise of the machine affects all of them
//! alike.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]
#![allow(clippy::print_stdout, reason = "the tables are the output")]

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use edgefold::{
    AddressRange, Block, Change, Edits, Effect, Fold, IpRange, ListName, LogTime, Position, SavedList, Until,
};
use rangemap::{RangeInclusiveMap, StepLite};
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SEED: u64 = 20_160_912;
const ROUNDS: usize = 9;
/// Commands per round.
const ROUND: usize = 100_000;
/// Commands between two writes of the view.
const BATCH: usize = 5_000;

fn main() {
    // `cargo bench` passes `--bench`; `cargo test --benches` does not, and must not run this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("| live ranges | with ttl | contender | commands/s | times as fast | bytes per range |");
    println!("|---|---|---|--:|--:|--:|");
    for (family, live, ttl) in [
        (Family::V4, 1_000_000, 0),
        (Family::V4, 1_000_000, 10),
        (Family::V4, 1_000_000, 50),
        (Family::V6, 1_000_000, 0),
        (Family::V6, 1_000_000, 50),
        (Family::V4, 10_000, 0),
    ] {
        match family {
            Family::V4 => compare::<u32>(Commands::new(family, live, ttl)),
            Family::V6 => compare::<u128>(Commands::new(family, live, ttl)),
        }
    }
    println!("\n| edgefold only | |\n|---|--:|");
    extremes();
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

/// A log whose commands keep about `live` ranges blocked: half single addresses, a quarter CIDR blocks and a quarter
/// other ranges, all of up to 256 addresses and uniformly random. Commands are a millisecond apart. When there are more
/// than `live` ranges, one of them is whitelisted, or sometimes a single address inside it.
struct Commands {
    random: fastrand::Rng,
    family: Family,
    live: usize,
    /// The percentage of blocks with a ttl. It is up to `2 * live` milliseconds, so that some blocks expire before they
    /// are whitelisted.
    ttl: u8,
    now: u64,
    /// First and last address, and end.
    blocked: Vec<(u128, u128, u64)>,
}

impl Commands {
    fn new(family: Family, live: usize, ttl: u8) -> Self {
        Self { random: fastrand::Rng::with_seed(SEED), family, live, ttl, now: 0, blocked: Vec::new() }
    }

    fn take(&mut self, count: usize) -> Vec<Effect> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Effect {
        self.now += 1;
        if self.now.is_multiple_of(10_000) {
            self.blocked.retain(|&(_, _, end)| end > self.now);
        }
        let ((first, last), until) = if self.blocked.len() > self.live { (self.allow(), None) } else { self.block() };
        effect(time(self.now), self.range(first, last), until)
    }

    fn block(&mut self) -> ((u128, u128), Option<Until>) {
        // Not the last addresses, so that nothing below overflows. For IPv6 only 2000::/3, the part that is assigned.
        let address = match self.family {
            Family::V4 => u128::from(self.random.u32(..u32::MAX - 256)),
            Family::V6 => self.random.u128(0x2 << 124..0x4 << 124),
        };
        let (first, last) = match self.random.u8(..4) {
            0 => {
                let rest = (1 << self.random.u8(1..=8)) - 1;
                (address & !rest, address | rest)
            }
            1 => (address, address + self.random.u128(1..256)),
            _ => (address, address),
        };
        let ttl = (self.random.u8(..100) < self.ttl).then(|| self.random.u64(1..=2 * self.live as u64));
        let end = ttl.map_or(u64::MAX, |ttl| self.now + ttl);
        self.blocked.push((first, last, end));
        ((first, last), Some(ttl.map_or(Until::FOREVER, |_| time(end).into())))
    }

    fn allow(&mut self) -> (u128, u128) {
        let (first, last, end) = self.blocked.swap_remove(self.random.usize(..self.blocked.len()));
        if last - first < 2 || self.random.u8(..4) > 0 {
            return (first, last);
        }
        let inside = self.random.u128(first + 1..last);
        self.blocked.extend([(first, inside - 1, end), (inside + 1, last, end)]);
        (inside, inside)
    }

    fn range(&self, first: u128, last: u128) -> IpRange {
        let v4 = |bits| Ipv4Addr::from_bits(u32::try_from(bits).unwrap());
        match self.family {
            Family::V4 => IpRange::V4(AddressRange::new(v4(first), v4(last)).unwrap()),
            Family::V6 => {
                IpRange::V6(AddressRange::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last)).unwrap())
            }
        }
    }
}

fn time(millis: u64) -> LogTime {
    LogTime::from_millis(millis).unwrap()
}

trait Contender {
    fn fold(&mut self, commands: &[Effect]);
    fn ranges(&self) -> usize;
}

/// A command about the default list.
fn effect(time: LogTime, range: IpRange, until: Option<Until>) -> Effect {
    let list = ListName::DEFAULT;
    let change = match until {
        Some(until) => Change::Block { list, range, until },
        None => Change::Allow { list: Some(list), range },
    };
    Effect { time, change }
}

/// What [`effect`] was made of.
fn parts(effect: &Effect) -> (LogTime, IpRange, Option<Until>) {
    match effect.change {
        Change::Block { range, until, .. } => (effect.time, range, Some(until)),
        Change::Allow { range, .. } => (effect.time, range, None),
        Change::List { .. } | Change::Unlist { .. } => unreachable!("the benchmark has no such commands"),
    }
}

fn default_list(blocks: Vec<Block>) -> SavedList {
    SavedList { name: ListName::DEFAULT, action: None, blocks }
}

/// Edgefold's fold. Its edits are cleared after each batch; `read` says whether they are read before.
struct Edgefold {
    fold: Fold,
    edits: Edits,
    read: bool,
}

impl Contender for Edgefold {
    fn fold(&mut self, commands: &[Effect]) {
        for batch in commands.chunks(BATCH) {
            for effect in batch {
                self.fold.apply_effect(effect, &mut self.edits).unwrap();
            }
            if self.read {
                self.edits.lists().flat_map(|(_, edits)| edits.net()).for_each(|edit| _ = black_box(edit));
            }
            self.edits.clear();
        }
    }

    fn ranges(&self) -> usize {
        self.fold.default_list().blocks().count()
    }
}

/// An address as a number.
trait Bits: Copy + Ord + StepLite {
    fn ends(range: IpRange) -> (Self, Self);
    fn before(self) -> Option<Self>;
    fn after(self) -> Option<Self>;
}

impl Bits for u32 {
    fn ends(range: IpRange) -> (Self, Self) {
        let IpRange::V4(range) = range else { unreachable!("all commands are of one family") };
        (range.first().to_bits(), range.last().to_bits())
    }

    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Bits for u128 {
    fn ends(range: IpRange) -> (Self, Self) {
        let IpRange::V6(range) = range else { unreachable!("all commands are of one family") };
        (range.first().to_bits(), range.last().to_bits())
    }

    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// The same rules over two trees, as a simple implementation. It collects no edits.
struct Tree<B> {
    by_first: BTreeMap<B, (B, Until)>,
    expiries: BTreeSet<(LogTime, B)>,
}

impl<B: Bits> Tree<B> {
    /// Removes and returns the ranges that overlap or touch this one.
    fn cut(&mut self, first: B, last: B) -> Vec<(B, B, Until)> {
        let (from, to) = (first.before().unwrap_or(first), last.after().unwrap_or(last));
        let mut cut = Vec::new();
        while let Some((&old_first, &(old_last, until))) = self.by_first.range(..=to).next_back()
            && old_last >= from
        {
            self.remove(old_first);
            cut.push((old_first, old_last, until));
        }
        cut.reverse();
        cut
    }

    fn remove(&mut self, first: B) {
        if let Some((_, until)) = self.by_first.remove(&first)
            && let Some(end) = until.time()
        {
            self.expiries.remove(&(end, first));
        }
    }

    fn insert(&mut self, first: B, last: B, until: Until) {
        self.by_first.insert(first, (last, until));
        if let Some(end) = until.time() {
            self.expiries.insert((end, first));
        }
    }

    fn set(&mut self, first: B, last: B, until: Option<Until>) {
        let mut pieces: Vec<(B, B, Until)> = Vec::new();
        let mut push = |first: B, last: B, until: Until| match pieces.last_mut() {
            _ if first > last => {}
            Some(before) if before.2 == until && before.1.after() == Some(first) => before.1 = last,
            _ => pieces.push((first, last, until)),
        };
        let mut open = Some(first);
        for (old_first, old_last, old) in self.cut(first, last) {
            if let Some(before) = first.before() {
                push(old_first, old_last.min(before), old);
            }
            let (inner_first, inner_last) = (old_first.max(first), old_last.min(last));
            if let Some(until) = until
                && inner_first <= inner_last
            {
                if let (Some(open), Some(before)) = (open, inner_first.before()) {
                    push(open, before, until);
                }
                push(inner_first, inner_last, old.max(until));
                open = inner_last.after();
            }
            if let Some(after) = last.after().filter(|after| old_last >= *after) {
                if let (Some(open), Some(until)) = (open.take(), until) {
                    push(open, last, until);
                }
                push(old_first.max(after), old_last, old);
            }
        }
        if let (Some(open), Some(until)) = (open, until) {
            push(open, last, until);
        }
        for (first, last, until) in pieces {
            self.insert(first, last, until);
        }
    }
}

impl<B: Bits> Contender for Tree<B> {
    fn fold(&mut self, commands: &[Effect]) {
        for (time, range, until) in commands.iter().map(parts) {
            while let Some(&(end, first)) = self.expiries.first()
                && end <= time
            {
                self.remove(first);
            }
            let (first, last) = B::ends(range);
            self.set(first, last, until);
        }
    }

    fn ranges(&self) -> usize {
        self.by_first.len()
    }
}

/// The crate `rangemap`. The last command wins, so a shorter block shortens a longer one, and nothing expires.
struct RangeMap<B>(RangeInclusiveMap<B, Until>);

impl<B: Bits + Clone> Contender for RangeMap<B> {
    fn fold(&mut self, commands: &[Effect]) {
        for (_, range, until) in commands.iter().map(parts) {
            let (first, last) = B::ends(range);
            match until {
                Some(until) => self.0.insert(first..=last, until),
                None => self.0.remove(first..=last),
            }
        }
    }

    fn ranges(&self) -> usize {
        self.0.len()
    }
}

fn compare<B: Bits + 'static>(mut commands: Commands) {
    let warm_up = commands.take(commands.live / 2 * 3);
    let edgefold = |read| Box::new(Edgefold { fold: Fold::default(), edits: Edits::default(), read });
    let mut contenders: [(&str, Box<dyn Contender>); 4] = [
        ("edgefold, edits read", edgefold(true)),
        ("edgefold, edits dropped", edgefold(false)),
        ("`BTreeMap`, no edits", Box::new(Tree::<B> { by_first: BTreeMap::new(), expiries: BTreeSet::new() })),
        ("`rangemap`, no edits, no expiry", Box::new(RangeMap::<B>(RangeInclusiveMap::new()))),
    ];
    let bytes = contenders.each_mut().map(|(_, contender)| {
        let region = Region::new(ALLOCATOR);
        contender.fold(&warm_up);
        let change = region.change();
        (change.bytes_allocated - change.bytes_deallocated) as f64 / contender.ranges() as f64
    });
    let mut nanos = contenders.each_ref().map(|_| Vec::new());
    for _ in 0..ROUNDS {
        let round = commands.take(ROUND);
        for ((_, contender), nanos) in contenders.iter_mut().zip(&mut nanos) {
            nanos.push(seconds(|| contender.fold(&round)) * 1e9 / ROUND as f64);
        }
    }
    assert_eq!(contenders[0].1.ranges(), contenders[2].1.ranges(), "the same rules must give the same ranges");
    let Commands { family, ttl, .. } = commands;
    let medians = nanos.map(median);
    for (((name, contender), nanos), bytes) in contenders.iter().zip(medians).zip(bytes) {
        let (rate, times) = (1e3 / nanos, medians[2] / nanos);
        let ranges = contender.ranges();
        println!("| {ranges} {family:?} | {ttl} % | {name} | {rate:.2} M | {times:.1} | {bytes:.0} |");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn extremes() {
    let mut full = Edgefold { fold: Fold::default(), edits: Edits::default(), read: false };
    let mut commands = Commands::new(Family::V4, 1_000_000, 50);
    full.fold(&commands.take(2_000_000));
    let sorted: Vec<Block> = full.fold.default_list().blocks().collect();
    let mut shuffled = sorted.clone();
    fastrand::Rng::with_seed(SEED).shuffle(&mut shuffled);
    let count = sorted.len() as f64;
    for (name, blocks) in [("sorted", &sorted), ("shuffled", &shuffled)] {
        let taken = timed(|| Fold::resume(full.fold.position(), [default_list(blocks.clone())]).unwrap());
        println!("| `Fold::resume`, {count} ranges, half with ttl, {name} | {:.1} M ranges/s |", count / taken / 1e6);
    }
    let taken = timed(|| full.fold.edits_since(&Fold::default()));
    println!("| `Fold::edits_since` an empty fold | {:.1} M ranges/s |", count / taken / 1e6);

    let everything = commands.range(0, u128::from(u32::MAX));
    let whitelist = effect(time(commands.now), everything, None);
    let taken = timed(|| {
        let mut full = Edgefold { fold: full.fold.clone(), edits: Edits::default(), read: true };
        full.fold(std::slice::from_ref(&whitelist));
        full.fold
    });
    println!(
        "| `WHITELIST 0.0.0.0/0` on this fold, including a copy of it and reading the edits | {:.0} ms |",
        taken * 1e3
    );

    for count in [1_000_000_u32, 10_000_000] {
        let blocks = (0..count).map(|at| {
            let range = commands.range(u128::from(at) * 400, u128::from(at) * 400);
            // A few last for longer, so that no chunk gets empty by itself.
            let until = if at % 100 == 0 { Until::FOREVER } else { time(1_000).into() };
            Block { range, until }
        });
        let mut fold = Fold::resume(Position::default(), [default_list(blocks.collect())]).unwrap();
        let mut edits = Edits::default();
        let later = effect(time(2_000), commands.range(1, 1), None);
        let taken = seconds(|| fold.apply_effect(&later, &mut edits));
        println!("| {count} blocks, of which 99 in 100 end at once | {:.0} ms |", taken * 1e3);
        drop(edits);
    }

    let step = 4_000;
    let ascending: Vec<_> =
        (0..1_000_000).map(|at| effect(time(0), commands.range(at * step, at * step), Some(Until::FOREVER))).collect();
    let region = Region::new(ALLOCATOR);
    let mut fold = Edgefold { fold: Fold::default(), edits: Edits::default(), read: true };
    let ascended = seconds(|| fold.fold(&ascending));
    let change = region.change();
    let bytes = (change.bytes_allocated - change.bytes_deallocated) / 1_000_000;
    println!("| 1000000 ascending addresses | {:.1} M commands/s, {bytes} bytes per range |", 1.0 / ascended);
}

/// The median of five runs, in seconds.
fn timed<T>(mut run: impl FnMut() -> T) -> f64 {
    median((0..5).map(|_| seconds(&mut run)).collect())
}

/// The CPU seconds that this thread spends on it. Not wall clock, because a shared machine may take the core away for
/// longer than a round.
fn seconds<T>(run: impl FnOnce() -> T) -> f64 {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = cpu();
    black_box(run());
    (cpu() - start).as_secs_f64()
}
