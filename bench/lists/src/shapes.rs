//! The lists of ranges, and the addresses to look up.

use std::fs::File;
use std::path::Path;

use fastrand::Rng;

use crate::family::{Family, Range, address};

const SEED: u64 = 20_160_912;
/// The number of addresses to look up: too many for branch predictors to learn, and for the part of a large table that
/// they touch to fit a second-level cache.
const ASKED: usize = 1 << 16;

/// How the ranges of a list are distributed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Shape {
    /// IPv4: half single addresses, half ranges of up to 256 addresses, anywhere. IPv6: prefixes of /32 to /64, most of
    /// them /48 or longer, anywhere in 2000::/3.
    Uniform,
    /// Clustered: some networks have many entries and most have few. IPv4: 70 % single addresses, 20 % CIDR blocks of
    /// /24 to /29, 10 % other ranges of up to 64 addresses. IPv6: 60 % /64, 30 % single addresses, 10 % /48.
    Blocklist,
    /// The ranges of a pseudo-random half of the AS numbers of `@ip-location-db/asn`.
    Real,
}

impl Shape {
    /// The name in the printed tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Blocklist => "blocklist-like",
            Self::Real => "real",
        }
    }
}

/// `count` ranges, sorted, disjoint and not touching. The real list ignores `count`.
pub fn ranges<A: Family>(shape: Shape, count: usize) -> Vec<Range<A>> {
    A::generate(shape, count, &mut Rng::with_seed(SEED))
}

/// The addresses to look up. Half of them are inside a random range. For the uniform shape the other half is anywhere.
/// For the other shapes it is in the networks of random ranges, since addresses near a range are harder to tell from
/// it; some of these are inside a range too.
pub fn asked<A: Family>(shape: Shape, ranges: &[Range<A>]) -> Vec<A> {
    let mut random = Rng::with_seed(SEED + 1);
    let mut asked: Vec<A> = (0..ASKED)
        .map(|at| {
            let [first, last] = ranges[random.usize(..ranges.len())].map(Into::into);
            let [low, high] = match (at % 2, shape) {
                (0, _) => [first, last],
                (_, Shape::Uniform) => A::UNIVERSE.map(Into::into),
                _ => block(first, A::WIDTH - A::NETWORK),
            };
            address(random.u128(low..=high))
        })
        .collect();
    random.shuffle(&mut asked);
    asked
}

/// Uniformly distributed over all lists of ranges with these lengths: random gaps with the lengths between them.
pub(crate) fn uniform_v4(count: usize, random: &mut Rng) -> Vec<Range<u32>> {
    let lengths: Vec<u64> = (0..count).map(|at| if at % 2 == 0 { 1 } else { random.u64(2..=256) }).collect();
    let mut lengths = lengths;
    random.shuffle(&mut lengths);
    // One more address per range keeps neighbours from touching.
    let used = lengths.iter().sum::<u64>() + count as u64;
    let mut gaps: Vec<u64> = (0..count).map(|_| random.u64(..(1 << 32) - used)).collect();
    gaps.sort_unstable();
    let mut before = 0;
    gaps.into_iter()
        .zip(lengths)
        .map(|(gap, length)| {
            let first = gap + before;
            before += length + 1;
            [first, first + length - 1].map(|number| address(number.into()))
        })
        .collect()
}

pub(crate) fn uniform_v6(count: usize, random: &mut Rng) -> Vec<Range<u128>> {
    let [low, high] = u128::UNIVERSE;
    gather(count, random, |random| {
        let length = match random.u8(..20) {
            0..2 => random.u32(32..48),
            2..7 => 48,
            7..10 => random.u32(49..64),
            10..14 => 56,
            _ => 64,
        };
        block(random.u128(low..=high), 128 - length)
    })
}

pub(crate) fn blocklist_v4(count: usize, random: &mut Rng) -> Vec<Range<u32>> {
    // About half of the 57,000 networks between 1.0.0.0 and 224.0.0.0 have an entry.
    let mut networks: Vec<u32> = (0x0100..0xe000).collect();
    random.shuffle(&mut networks);
    let crowd = Crowd::new(30_000, 50.0);
    gather(count, random, |random| {
        let network = u128::from(networks[crowd.draw(random)]) << 16;
        let [_, end] = block(network, 16);
        let first = network + random.u128(..1 << 16);
        let range = match random.u8(..10) {
            0..7 => [first, first],
            7..9 => block(first, random.u32(3..=8)),
            _ => [first, (first + random.u128(1..64)).min(end)],
        };
        range.map(address)
    })
}

pub(crate) fn blocklist_v6(count: usize, random: &mut Rng) -> Vec<Range<u128>> {
    let [low, high] = u128::UNIVERSE;
    let networks: Vec<u128> = (0..4096).map(|_| block(random.u128(low..=high), 96)[0]).collect();
    let crowd = Crowd::new(networks.len(), 10.0);
    gather(count, random, |random| {
        let subnet = networks[crowd.draw(random)] + (random.u128(..1 << 32) << 64);
        // Half of the hosts have a low number, as if assigned by hand.
        let host = if random.bool() { random.u128(1..256) } else { random.u128(..1 << 64) };
        match random.u8(..10) {
            0..6 => block(subnet, 64),
            6..9 => [subnet + host; 2],
            _ => block(subnet, 80),
        }
    })
}

/// The first and last address of the block of `2^bits` addresses that contains `around`.
fn block(around: u128, bits: u32) -> Range<u128> {
    let rest = (1 << bits) - 1;
    [around & !rest, around | rest]
}

/// Draws from a Zipf-Mandelbrot distribution: the k-th element has a weight of 1 / (k + shift)^0.8. The shift keeps the
/// first networks from filling up when there are many ranges.
struct Crowd(Vec<f64>);

impl Crowd {
    fn new(count: usize, shift: f64) -> Self {
        let mut sum = 0.0;
        let weight = |rank| {
            sum += (f64::from(rank) + shift).powf(-0.8);
            sum
        };
        Self((1..).take(count).map(weight).collect())
    }

    fn draw(&self, random: &mut Rng) -> usize {
        let all = self.0[self.0.len() - 1];
        let weight = random.f64() * all;
        self.0.partition_point(|&sum| sum <= weight).min(self.0.len() - 1)
    }
}

/// Draws until there are `count` ranges that neither overlap nor touch.
fn gather<A: Family>(count: usize, random: &mut Rng, mut draw: impl FnMut(&mut Rng) -> Range<A>) -> Vec<Range<A>> {
    let mut ranges = Vec::new();
    while ranges.len() < count {
        let missing = count - ranges.len();
        ranges.extend((0..missing + missing / 8 + 1).map(|_| draw(random)));
        ranges = merge(ranges);
    }
    // There are too many now: drop some at random.
    let (mut left, mut wanted) = (ranges.len(), count);
    ranges.retain(|_| {
        let keep = random.usize(..left) < wanted;
        left -= 1;
        wanted -= usize::from(keep);
        keep
    });
    ranges
}

fn merge<A: Family>(mut ranges: Vec<Range<A>>) -> Vec<Range<A>> {
    ranges.sort_unstable();
    ranges.dedup_by(|[first, last], [_, before]| {
        let touches = (*first).into() <= (*before).into().saturating_add(1);
        if touches {
            *before = (*before).max(*last);
        }
        touches
    });
    ranges
}

pub(crate) fn real<A: Family>() -> Vec<Range<A>> {
    let path = format!(".tools/asn/asn-ipv{}-num.csv", A::VERSION);
    let file = File::open(Path::new(&path)).unwrap_or_else(|error| panic!("{path}: {error}; `make tools` fetches it"));
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    let ranges = rows
        .records()
        .map(Result::unwrap)
        .filter(|row| Rng::with_seed(SEED + row[2].parse::<u64>().unwrap()).bool())
        .map(|row| [&row[0], &row[1]].map(|number| address(number.parse().unwrap())))
        .collect();
    merge(ranges)
}
