//! Makes ranges from arbitrary bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use edgefold_table::{Address, AddressRange, IpRange};

/// About the most ranges that one input makes, to encode or as the base of mutations. More would be slow.
const MOST_RANGES: usize = 33_000;
const MOST_BASE_RANGES: usize = 3_000;
/// How many of the last IPv4 chunks of 2^15 addresses are full of edges, if the input asks for it. They are enough for
/// the encoder to choose the finest index.
const DENSE_CHUNKS: u32 = 6;
const CHUNK: u32 = 1 << 15;

/// The bytes that have not been used yet.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

/// Makes the ranges of one family. Addresses are numbers here.
struct Run {
    last_address: u128,
    /// Where the next range may begin; above the last address once the family is full.
    next: u128,
}

impl Input<'_> {
    /// The next `N` bytes; `None` if fewer are left.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(bytes)
    }

    /// A few ranges in order. Leaves out those that are not.
    pub(super) fn base_ranges(&mut self) -> Vec<IpRange> {
        in_order(by_family(self.steps(MOST_BASE_RANGES)))
    }

    /// Ranges that may be in order or not. The first byte says how to arrange them.
    pub(super) fn ranges(&mut self) -> Vec<IpRange> {
        const AS_MADE: u8 = 1;
        const ANY_ORDER: u8 = 2;
        const DENSE: u8 = 0xf0;
        let Some([how]) = self.take() else { return Vec::new() };
        let mut ranges = self.steps(MOST_RANGES);
        if how & AS_MADE == 0 {
            ranges = by_family(ranges);
        }
        if how & DENSE == DENSE {
            let start = u32::MAX - DENSE_CHUNKS * CHUNK + 2;
            ranges.retain(|range| range.last() < Ipv4Addr::from_bits(start - 1) || range.last().is_ipv6());
            let at = ranges.iter().take_while(|range| matches!(range, IpRange::V4(_))).count();
            let dense = (start..u32::MAX - 2).step_by(3);
            ranges.splice(at..at, dense.map(|first| range4(first.into(), u128::from(first) + 1)));
        }
        if how & ANY_ORDER == 0 { in_order(ranges) } else { ranges }
    }

    /// About `most` ranges. Each six bytes make some.
    fn steps(&mut self, most: usize) -> Vec<IpRange> {
        let mut v4 = Run { last_address: u32::MAX.into(), next: 0 };
        let mut v6 = Run { last_address: u128::MAX, next: 0x2001_0db8 << 96 };
        let mut ranges = Vec::new();
        while let Some(step) = self.take()
            && ranges.len() < most
        {
            let is_v4 = step[0] & 0x80 == 0;
            let made = if is_v4 { v4.step(step) } else { v6.step(step) };
            ranges.extend(
                made.into_iter().map(|(first, last)| if is_v4 { range4(first, last) } else { range6(first, last) }),
            );
        }
        ranges
    }
}

impl Run {
    /// Makes ranges, or moves to another address. Distances of any size are a mantissa and a shift.
    fn step(&mut self, [what, count, gap, gap_shift, more, more_shift]: [u8; 6]) -> Vec<(u128, u128)> {
        let bits = if self.last_address == u128::MAX { 128 } else { 32 };
        let distance = |mantissa: u8, shift: u8| u128::from(mantissa) << (u32::from(shift) % bits) & self.last_address;
        let (gap, more) = (distance(gap, gap_shift), distance(more, more_shift));
        match what % 8 {
            // After a gap, touching, CIDR prefixes, or single addresses and longer ranges alternating.
            what @ 0..=3 => {
                let count = if count < 240 { u32::from(count) + 1 } else { (u32::from(count) - 239) * 512 };
                return (0..count).map_while(|place| self.range(what, place, gap, more)).collect();
            }
            4 => self.next = gap | more,
            // Near the border of a chunk.
            5 => {
                let size = 1_u128 << (u32::from(gap_shift) % bits);
                self.next = (self.next | (size - 1)).saturating_add(1).saturating_sub(more);
            }
            6 => self.next = self.last_address - more,
            // Before the mapped block, or in it; for IPv4, back by `more`.
            _ if bits == 128 => self.next = (0xffff_0000_0000 | gap & 0xffff_ffff).saturating_sub(more),
            _ => self.next = self.next.saturating_sub(more),
        }
        Vec::new()
    }

    /// The next range; `None` if the family is full.
    fn range(&mut self, what: u8, place: u32, gap: u128, more: u128) -> Option<(u128, u128)> {
        let free = if what == 1 { gap } else { gap.saturating_add(1) };
        let mut first = self.next.checked_add(free).filter(|&first| first <= self.last_address)?;
        let more = match what {
            2 => {
                let size = more.checked_next_power_of_two().unwrap_or(1);
                first = first.checked_next_multiple_of(size).filter(|&first| first <= self.last_address)?;
                size - 1
            }
            3 if place.is_multiple_of(2) => 0,
            _ => more,
        };
        let last = first.saturating_add(more).min(self.last_address);
        self.next = last.saturating_add(1);
        Some((first, last))
    }
}

/// Moves IPv4 before IPv6, and keeps the order within each family.
fn by_family(mut ranges: Vec<IpRange>) -> Vec<IpRange> {
    ranges.sort_by_key(|range| matches!(range, IpRange::V6(_)));
    ranges
}

fn in_order(ranges: Vec<IpRange>) -> Vec<IpRange> {
    let mut kept: Vec<IpRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if kept.last().is_none_or(|&previous| super::refusal(previous, range).is_none()) {
            kept.push(range);
        }
    }
    kept
}

pub(super) fn range4(first: u128, last: u128) -> IpRange {
    range(Ipv4Addr::from_bits(first as u32), Ipv4Addr::from_bits(last as u32))
}

/// Unlike [`IpRange::new`], this keeps IPv4-mapped addresses as IPv6.
pub(super) fn range6(first: u128, last: u128) -> IpRange {
    range(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last))
}

fn range<A: Address>(first: A, last: A) -> IpRange
where
    IpRange: From<AddressRange<A>>,
{
    AddressRange::new(first, last).unwrap().into()
}
