//! Sets of addresses as sorted ranges, for one look at a part of the lists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{array, slice};

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
        ranges.dedup_by(|next, before| joins(before, *next));
        Self(ranges)
    }

    /// The union of ranges that are sorted by their first addresses.
    pub(super) fn sorted(ranges: impl Iterator<Item = (A, A)>) -> Self {
        let mut all = Self::default();
        ranges.for_each(|(first, last)| all.push(first, last));
        all
    }

    /// What is in any of them.
    pub(super) fn any(mut sets: Vec<Self>) -> Self {
        match sets.pop() {
            Some(set) if sets.is_empty() => set,
            last => Self::union(sets.iter().chain(&last).flat_map(Self::iter).collect()),
        }
    }

    /// Cuts ranges that all have an address in `bounds` to it: only the first and the last can go beyond.
    pub(super) fn cut(mut self, bounds: AddressRange<A>) -> Self {
        if let Some(range) = self.0.first_mut() {
            range.0 = range.0.max(bounds.first());
        }
        if let Some(range) = self.0.last_mut() {
            range.1 = range.1.min(bounds.last());
        }
        self
    }

    /// Adds a range that does not start before any of them.
    pub(super) fn push(&mut self, first: A, last: A) {
        if !self.0.last_mut().is_some_and(|before| joins(before, (first, last))) {
            self.0.push((first, last));
        }
    }

    /// All ranges, in order: their first and last addresses.
    pub(super) fn iter(&self) -> impl Iterator<Item = (A, A)> {
        self.0.iter().copied()
    }

    /// Those with an address in `bounds`. They may go beyond.
    pub(super) fn in_range(&self, bounds: AddressRange<A>) -> &[(A, A)] {
        let from = self.0.partition_point(|range| range.1 < bounds.first());
        let to = self.0.partition_point(|range| range.0 <= bounds.last());
        &self.0[from..to]
    }

    /// All ranges, in order.
    pub(super) fn as_slice(&self) -> &[(A, A)] {
        &self.0
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

/// Takes `next` into `before`, which does not start after it, if they overlap or touch.
fn joins<A: Family>(before: &mut (A, A), next: (A, A)) -> bool {
    let touches = before.1.successor().is_none_or(|after| next.0 <= after);
    if touches {
        before.1 = before.1.max(next.1);
    }
    touches
}

/// Walks some sets of sorted and disjoint ranges at once: visits each stretch of addresses that are in the same of them, in order, with whether they are in each set.
/// What is in none of them is left out.
pub(super) fn stretches<const SETS: usize>(
    sets: [&[(Ipv4Addr, Ipv4Addr)]; SETS],
    mut visit: impl FnMut([bool; SETS], Ipv4Addr, Ipv4Addr),
) {
    // As numbers that go beyond the last address. Without a range, a set has one that is out of reach.
    let next = |ranges: &mut slice::Iter<'_, (Ipv4Addr, Ipv4Addr)>| {
        ranges.next().map_or((u64::MAX, u64::MAX), |range| (range.0.to_bits().into(), range.1.to_bits().into()))
    };
    let mut rest = sets.map(<[_]>::iter);
    let mut ranges: [(u64, u64); SETS] = array::from_fn(|set| next(&mut rest[set]));
    let mut from = 0;
    loop {
        let first = ranges.iter().fold(u64::MAX, |first, range| first.min(range.0.max(from)));
        // Up to where one of them ends, or before where one starts.
        let end = |range: &(u64, u64)| if range.0 > first { range.0 - 1 } else { range.1 };
        let last = ranges.iter().fold(u64::MAX, |last, range| last.min(end(range)));
        let (Ok(first_address), Ok(last_address)) = (u32::try_from(first), u32::try_from(last)) else { return };
        visit(ranges.map(|range| range.0 <= first), first_address.into(), last_address.into());
        for (range, rest) in ranges.iter_mut().zip(&mut rest) {
            if range.1 == last {
                *range = next(rest);
            }
        }
        from = last + 1;
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
                let (first, last) = (base + fastrand::u32(..32), base + fastrand::u32(32..64));
                let bounds = AddressRange::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).unwrap();
                let part = Ranges(one.in_range(bounds).to_vec());
                assert!(part.iter().all(|range| range.0 <= bounds.last() && range.1 >= bounds.first()), "seed {seed}");
                assert_eq!(addresses(&part.cut(bounds)), naive.range(first..=last).copied().collect(), "seed {seed}");
                assert_eq!(
                    addresses(&Ranges::any(vec![one.clone(), other.clone()])),
                    &naive | &naive_other,
                    "seed {seed}"
                );
                assert_eq!(addresses(&one.clone().without(&other)), &naive - &naive_other, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_walk_visits_the_addresses_of_each_set_in_order() {
        for seed in 0..2_000 {
            fastrand::seed(seed);
            for base in SPACES {
                let sets: [Pair; 3] = array::from_fn(|_| random(base));
                let mut visited = Vec::new();
                stretches(sets.each_ref().map(|(set, _)| set.as_slice()), |is_in, first, last| {
                    visited.extend((first.to_bits()..=last.to_bits()).map(|address| (address, is_in)));
                });
                let all = sets.iter().flat_map(|(_, naive)| naive).collect::<BTreeSet<_>>();
                let expected = all.into_iter().map(|at| (*at, sets.each_ref().map(|(_, naive)| naive.contains(at))));
                assert_eq!(visited, expected.collect::<Vec<_>>(), "seed {seed}");
            }
        }
    }
}
