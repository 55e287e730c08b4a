//! Sets of addresses as sorted ranges, for one look at a part of the lists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold::{AddressRange, Block, IpRange, List};
use edgefold_table::Address;

/// The addresses of a family as numbers.
pub(super) trait Family: Address {
    /// The bits of an address.
    const BITS: u32;

    /// The address as a number.
    fn number(self) -> u128;

    /// The address with this number, of which only the lowest bits count.
    fn at(number: u128) -> Self;

    /// The blocks of a list with an address in `range`, sorted.
    fn blocks(list: &List, range: AddressRange<Self>) -> impl Iterator<Item = Block<AddressRange<Self>>>;
}

impl Family for Ipv4Addr {
    const BITS: u32 = 32;

    fn number(self) -> u128 {
        self.to_bits().into()
    }

    fn at(number: u128) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "only the lowest bits count")]
        Self::from_bits(number as u32)
    }

    fn blocks(list: &List, range: AddressRange<Self>) -> impl Iterator<Item = Block<AddressRange<Self>>> {
        list.v4_blocks_in(range)
    }
}

impl Family for Ipv6Addr {
    const BITS: u32 = 128;

    fn number(self) -> u128 {
        self.to_bits()
    }

    fn at(number: u128) -> Self {
        Self::from_bits(number)
    }

    fn blocks(list: &List, range: AddressRange<Self>) -> impl Iterator<Item = Block<AddressRange<Self>>> {
        list.v6_blocks_in(range)
    }
}

/// Ranges that are sorted and disjoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ranges<A>(Vec<(A, A)>);

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: Family> Ranges<A> {
    /// The union of ranges in any order, each from a first to a last address. Those that touch become one.
    pub(super) fn union(mut ranges: Vec<(A, A)>) -> Self {
        // Mostly a few sorted runs, one for each list or colour, which a stable sort only merges.
        ranges.sort();
        ranges.dedup_by(|next, before| {
            let touches = before.1.successor().is_none_or(|after| next.0 <= after);
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        Self(ranges)
    }

    /// All ranges, in order: their first and last addresses.
    pub(super) fn iter(&self) -> impl Iterator<Item = (A, A)> {
        self.0.iter().copied()
    }

    /// The number of ranges.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of addresses; [`u128::MAX`] for all of IPv6.
    pub(super) fn addresses(&self) -> u128 {
        let of = |(first, last): (A, A)| (last.number() - first.number()).saturating_add(1);
        self.iter().map(of).fold(0, u128::saturating_add)
    }

    /// What is in both.
    pub(super) fn common(&self, other: &Self) -> Self {
        let (mut common, mut rest) = (Vec::new(), other.0.as_slice());
        for &(first, last) in &self.0 {
            rest = after(rest, first);
            let meets = rest.iter().take_while(|range| range.0 <= last);
            common.extend(meets.map(|range| (range.0.max(first), range.1.min(last))));
        }
        Self(common)
    }

    /// What is not in `other`.
    pub(super) fn without(self, other: &Self) -> Self {
        if other.0.is_empty() {
            return self;
        }
        let (mut left, mut rest) = (Vec::new(), other.0.as_slice());
        for &(first, last) in &self.0 {
            rest = after(rest, first);
            // The first address that is not decided yet; `None` after the last of all.
            let mut open = Some(first);
            for range in rest.iter().take_while(|range| range.0 <= last) {
                if let (Some(from), Some(before)) = (open.filter(|from| *from < range.0), range.0.predecessor()) {
                    left.push((from, before));
                }
                open = range.1.successor();
            }
            if let Some(from) = open.filter(|from| *from <= last) {
                left.push((from, last));
            }
        }
        Self(left)
    }
}

/// Without the ranges that end before `first`.
fn after<A: Family>(ranges: &[(A, A)], first: A) -> &[(A, A)] {
    let past = ranges.iter().take_while(|range| range.1 < first).count();
    &ranges[past..]
}

/// The range of addresses of one family, for whoever takes both.
pub(super) fn ip_range<A: Family>(first: A, last: A) -> Option<IpRange> {
    let (first, last): (IpAddr, IpAddr) = (first.into(), last.into());
    IpRange::new(first, last).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The ends of the space are where sums overflow.
    const SPACES: [u32; 2] = [0, u32::MAX - 63];

    type Pair = (Ranges<Ipv4Addr>, BTreeSet<u32>);

    fn random(base: u32) -> Pair {
        let range = |_| {
            let first = fastrand::u32(..64);
            (base + first, base + fastrand::u32(first..64.min(first + 12)))
        };
        let ranges: Vec<(u32, u32)> = (0..fastrand::usize(..8)).map(range).collect();
        let addresses = ranges.iter().flat_map(|&(first, last)| first..=last).collect();
        let ranges = ranges.into_iter().map(|(first, last)| (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)));
        (Ranges::union(ranges.collect()), addresses)
    }

    fn addresses(ranges: &Ranges<Ipv4Addr>) -> BTreeSet<u32> {
        assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "sorted and disjoint");
        ranges.iter().flat_map(|(first, last)| first.to_bits()..=last.to_bits()).collect()
    }

    #[test]
    fn the_sets_are_those_of_single_addresses() {
        for seed in 0..2_000 {
            fastrand::seed(seed);
            for base in SPACES {
                let ((one, naive), (other, naive_other)) = (random(base), random(base));
                assert_eq!(addresses(&one), naive, "seed {seed}");
                assert_eq!(one.addresses(), naive.len() as u128, "seed {seed}");
                assert_eq!(addresses(&one.common(&other)), &naive & &naive_other, "seed {seed}");
                assert_eq!(addresses(&one.clone().without(&other)), &naive - &naive_other, "seed {seed}");
            }
        }
    }
}
