//! Lists of ranges that together produce every kind of chunk in a table, and an oracle to compare lookups with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold_table::{AddressRange, IpRange};

/// A list of ranges, named after what its table contains.
pub struct Sample {
    /// What the table contains.
    pub name: &'static str,
    /// The ranges, sorted, disjoint and not touching.
    pub ranges: Vec<IpRange>,
}

/// All samples but [`long_ranges`]. They are the same on every call and every platform.
pub fn samples() -> Vec<Sample> {
    let mut random = SplitMix(0x5eed);
    let mut sample =
        |name, ranges: &mut dyn FnMut(&mut SplitMix) -> Vec<IpRange>| Sample { name, ranges: ranges(&mut random) };
    vec![
        sample("nothing", &mut |_| Vec::new()),
        sample("all of both families", &mut |_| [v4(&[(0, u32::MAX)]), v6(&[(0, u128::MAX)])].concat()),
        sample("the ends of both families", &mut |_| {
            [v4(&[(0, 0), (u32::MAX, u32::MAX)]), v6(&[(0, 0), (u128::MAX, u128::MAX)])].concat()
        }),
        sample("four-byte edges", &mut |random| v4(&scattered4(random, 100, 1 << 25))),
        sample("four-byte edges, long ranges", &mut |random| v4(&scattered4(random, 40, 1 << 27))),
        sample("three-byte edges", &mut |random| v4(&scattered4(random, 2_000, 1 << 21))),
        sample("three-byte edges, most in one chunk", &mut |random| {
            let mut ranges = within4(random, 0x0a00_0000, 1 << 16, 3_000);
            ranges.extend(scattered4(random, 100, 1 << 24).iter().filter(|range| range.0 > 0x0b00_0000));
            v4(&ranges)
        }),
        // Found by fuzzing: the offsets of a coarse index hold only 2^15 - 1 edges of a group, and no index was chosen.
        sample("2^15 edges of one chunk", &mut |_| {
            v4(&(0..1 << 15).map(|place| (2 * place, 2 * place)).collect::<Vec<_>>())
        }),
        sample("two-byte edges of every density", &mut |random| v4(&every_density(random))),
        sample("prefixes of few lengths", &mut |random| {
            v6(&(0..300)
                .map(|place| prefix(place << 112 | u128::from(random.next() as u32) << 64, 64))
                .collect::<Vec<_>>())
        }),
        sample("prefixes of every length", &mut |_| {
            v6(&(1..=128_u32).rev().step_by(2).map(|length| prefix(1 << (128 - length), length)).collect::<Vec<_>>())
        }),
        sample("any IPv6 ranges", &mut |random| v6(&scattered6(random, 500))),
        sample("IPv6 clusters", &mut |random| v6(&clusters(random))),
        sample("neighbours in one /64", &mut |random| {
            let mut at = 0x2001_0db8_0000_0001_u128 << 64;
            let mut ranges = Vec::new();
            for _ in 0..400 {
                let last = at + u128::from(random.next() % 3);
                ranges.push((at, last));
                at = last + 2 + u128::from(random.next() % 5);
            }
            v6(&ranges)
        }),
        sample("both families", &mut |random| {
            [v4(&scattered4(random, 50, 1 << 26)), v6(&scattered6(random, 50))].concat()
        }),
    ]
}

/// Chunks of 2^15 addresses with any number of edges from none to the most possible, ranges across several chunks, and
/// ranges that begin or end at the end of a chunk. There are enough edges for the encoder to choose the finest index.
fn every_density(random: &mut SplitMix) -> Vec<(u32, u32)> {
    const CHUNK: u32 = 1 << 15;
    let mut ranges = Vec::new();
    let mut chunk = 0_u32;
    for edges in
        [1_u32, 15, 16, 17, 31, 32, 33, 34, 57, 100, 255, 256, 257, 700, 2000, 2600, 2709, 2710, 3700, 9000, 16384]
    {
        for long in [false, true] {
            ranges.extend(within4(random, chunk * CHUNK, CHUNK, if long { edges.div_ceil(2) } else { edges }));
            chunk += 1;
            // Across the end of a chunk, across two whole chunks, up to the end of a chunk, and from the start of one.
            let at = chunk * CHUNK;
            ranges.extend([(at + 7, at + CHUNK), (at + CHUNK + 100, at + 4 * CHUNK - 1)]);
            ranges.extend([(at + 5 * CHUNK - 1, at + 5 * CHUNK - 1), (at + 6 * CHUNK, at + 6 * CHUNK + 9)]);
            chunk += 8;
        }
    }
    // Every other address of many chunks.
    ranges.extend((chunk * CHUNK..(chunk + 4) * CHUNK).step_by(2).map(|address| (address, address)));
    // A dense chunk with a range that continues into it and one that continues out of it.
    let at = (chunk + 9) * CHUNK;
    ranges.push((at - 5, at + 5));
    ranges.extend((at + 7..at + CHUNK - 9).step_by(3).map(|address| (address, address + 1)));
    ranges.push((at + CHUNK - 3, at + CHUNK + 3));
    let at = at + 5 * CHUNK;
    ranges.push((at - 5, at + 5));
    ranges.extend((at + 70..at + CHUNK - 9).step_by(400).map(|address| (address, address + 1)));
    ranges.push((at + CHUNK - 3, at + CHUNK + 3));
    ranges.push((u32::MAX - 4, u32::MAX));
    ranges
}

/// Ranges from one dense chunk to another, and long runs in them. Not in [`samples`], because some tests flip every bit
/// of those.
pub fn long_ranges() -> Sample {
    const CHUNK: u32 = 1 << 15;
    // Enough edges for the encoder to choose the finest index.
    let mut ranges = (0..10 * CHUNK).step_by(2).map(|address| (address, address)).collect::<Vec<_>>();
    // A range from one dense chunk across many empty ones into another, and long runs of ones in them.
    let at = 1000 * CHUNK;
    ranges.extend((at..at + 9000).step_by(3).map(|address| (address, address + 1)));
    ranges.push((at + 9500, at + 9800));
    ranges.push((at + 10_000, at + 50 * CHUNK + 20_000));
    ranges.extend((at + 50 * CHUNK + 20_010..at + 51 * CHUNK - 2).step_by(3).map(|address| (address, address)));
    // A dense chunk that begins and ends with runs that do not continue past it.
    let at = at + 60 * CHUNK;
    ranges.push((at - 2, at - 2));
    ranges.push((at, at + 99));
    ranges.extend((at + 101..at + CHUNK - 200).step_by(3).map(|address| (address, address + 1)));
    ranges.push((at + CHUNK - 150, at + CHUNK - 1));
    // The largest list, and the smallest split chunk.
    for edges in [32, 33] {
        let at = (1100 + edges) * CHUNK;
        ranges.extend((0..edges / 2).map(|place| (at + 1000 * place, at + 1000 * place + 9)));
        ranges.extend((0..edges % 2).map(|_| (at + 20_000, at + 20_000)));
    }
    // A nested index that covers only the middle of its chunk, with ranges that continue into it and out of it.
    let network = 0x2001_0db8_8000_u128 << 80;
    let mut ranges6 = vec![(0x2001 << 112, network + 5)];
    ranges6.extend((1..60).map(|place| (network + 100 * place, network + 100 * place)));
    ranges6.push((network + 100_000, 0x2400 << 112));
    Sample { name: "long ranges", ranges: [v4(&ranges), v6(&ranges6)].concat() }
}

/// About `count` ranges of one or a few addresses among the `len` addresses from `first` on.
fn within4(random: &mut SplitMix, first: u32, len: u32, count: u32) -> Vec<(u32, u32)> {
    let step = (len / count).max(2);
    (0..len / step)
        .map(|place| {
            // The last address of each step stays out of the range.
            let gap = random.next() as u32 % (step - 1);
            let first = first + place * step + gap;
            let more = (random.next() as u32 % 200).min(step - 2 - gap);
            let last = if random.next().is_multiple_of(2) { first } else { first + more };
            (first, last)
        })
        .collect()
}

fn scattered4(random: &mut SplitMix, count: usize, gap: u64) -> Vec<(u32, u32)> {
    let mut ranges = Vec::new();
    let mut next = 0_u64;
    for _ in 0..count {
        let first = next + random.next() % gap;
        let last = first + [0, random.next() % gap][(random.next() % 2) as usize];
        let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last)) else { break };
        ranges.push((first, last));
        next = u64::from(last) + 2;
    }
    ranges
}

fn scattered6(random: &mut SplitMix, count: usize) -> Vec<(u128, u128)> {
    let mut ranges = Vec::new();
    let mut next = 0x2001_0000_u128 << 96;
    for _ in 0..count {
        let first = next + (u128::from(random.next()) << (random.next() % 50));
        let last = match random.next() % 4 {
            0 => first,
            1 => first | ((1 << (random.next() % 70)) - 1),
            _ => first + (u128::from(random.next()) >> (random.next() % 64)),
        };
        ranges.push((first, last));
        next = last + 2;
    }
    ranges
}

/// Networks with hundreds of ranges each, so that they have nested indexes, and ranges that continue from one network
/// to another, into one, and out of one.
fn clusters(random: &mut SplitMix) -> Vec<(u128, u128)> {
    let mut ranges = Vec::new();
    for cluster in 0..40_u128 {
        let network = (0x2a00_0000_u128 << 96) + ((cluster * cluster) << 98);
        let mut next = network + [0, 1 << 40, 1 << 70][(random.next() % 3) as usize];
        for _ in 0..300 {
            let first = next + (u128::from(random.next()) << (random.next() % 30));
            let last = match random.next() % 4 {
                0 => first,
                1 => first | ((1 << (random.next() % 66)) - 1),
                2 => first + u128::from(random.next() % 1000),
                _ => first | u128::from(u64::MAX),
            };
            ranges.push((first, last));
            next = last + 2;
        }
        if cluster % 3 == 0 {
            ranges.push((next + 7, next + (cluster + 1) * (1 << 97)));
        }
    }
    ranges.sort_unstable();
    // Merge ranges that overlap or touch.
    ranges.dedup_by(|next, before| {
        let overlaps = next.0 <= before.1.saturating_add(1);
        before.1 = if overlaps { before.1.max(next.1) } else { before.1 };
        overlaps
    });
    ranges
}

fn prefix(address: u128, length: u32) -> (u128, u128) {
    let host_mask = u128::MAX.checked_shr(length).unwrap_or(0);
    (address & !host_mask, address | host_mask)
}

/// IPv4 ranges from pairs of first and last address.
///
/// # Panics
/// If a last address is below its first.
pub fn v4(ranges: &[(u32, u32)]) -> Vec<IpRange> {
    let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
    ranges.iter().map(|&(first, last)| IpRange::new(address(first), address(last)).unwrap()).collect()
}

/// IPv6 ranges from pairs of first and last address. Unlike [`IpRange::new`], this keeps IPv4-mapped addresses as IPv6.
///
/// # Panics
/// If a last address is below its first.
pub fn v6(ranges: &[(u128, u128)]) -> Vec<IpRange> {
    let address = |bits| Ipv6Addr::from_bits(bits);
    let range = |first, last| AddressRange::new(address(first), address(last)).unwrap();
    ranges.iter().map(|&(first, last)| range(first, last).into()).collect()
}

/// The naive oracle: the last address of each range by its first.
pub struct Oracle(BTreeMap<IpAddr, IpAddr>);

impl Oracle {
    /// An oracle for `ranges`, which must be disjoint.
    pub fn new(ranges: &[IpRange]) -> Self {
        Self(ranges.iter().map(|range| (range.first(), range.last())).collect())
    }

    /// The first and last address of the range that contains `ip`. An IPv4-mapped address is looked up as the IPv4 address in it.
    pub fn find(&self, ip: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let ip = ip.to_canonical();
        let (&first, &last) = self.0.range(..=ip).next_back()?;
        (ip <= last && first.is_ipv4() == ip.is_ipv4()).then_some((first, last))
    }
}

/// The addresses to look up: the ends of each range and their neighbours, addresses between them, and random ones.
pub fn asked(ranges: &[IpRange]) -> Vec<IpAddr> {
    let mut random = SplitMix(0xa5ced);
    let mut ips = Vec::new();
    for range in ranges {
        for end in [range.first(), range.last()] {
            ips.extend((0..3_u8).map(|step| match end {
                IpAddr::V4(ip) => {
                    IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(step.into()).wrapping_sub(1)))
                }
                IpAddr::V6(ip) => {
                    IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().wrapping_add(step.into()).wrapping_sub(1)))
                }
            }));
        }
    }
    for range in ranges {
        // At a random distance of any magnitude from either end, and in the middle.
        let (from_first, from_last) = (random.next(), random.next());
        match (range.first(), range.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                let step = |random: u64| (random as u32 >> (random >> 59)).min(last - first);
                let inside = [first + step(from_first), last - step(from_last), first.midpoint(last)];
                ips.extend(inside.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))));
            }
            (first, last) => {
                let bits = |ip| if let IpAddr::V6(ip) = ip { ip.to_bits() } else { 0 };
                let (first, last) = (bits(first), bits(last));
                let step = |random: u64| (u128::from(random) << 64 >> (random & 127)).min(last - first);
                let inside = [first + step(from_first), last - step(from_last), first.midpoint(last)];
                ips.extend(inside.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
            }
        }
    }
    for _ in 0..2_000 {
        let (high, low) = (random.next(), random.next());
        ips.push(Ipv4Addr::from_bits(high as u32).into());
        ips.push(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into());
        ips.push(Ipv6Addr::from_bits(u128::from(high) << 45 | 0x2001_u128 << 112).into());
    }
    ips
}

/// Sebastiano Vigna's SplitMix64: the same numbers natively and in wasm.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
