//! A set of addresses that some commands are about, in a few bytes for each.

use std::net::{Ipv4Addr, Ipv6Addr};

use edgefold_table::AddressRange;

use super::bytes::{Number, put_range, take_range};
use crate::IpRange;

/// Ranges of addresses, in any order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    v4: Vec<AddressRange<Ipv4Addr>>,
    v6: Vec<AddressRange<Ipv6Addr>>,
}

impl Ranges {
    pub(super) fn add(&mut self, range: IpRange) {
        match range {
            IpRange::V4(range) => self.v4.push(range),
            IpRange::V6(range) => self.v6.push(range),
        }
    }

    pub(super) fn encode(&self) -> EncodedRanges {
        EncodedRanges { v4: encode(self.v4.clone()), v6: encode(self.v6.clone()) }
    }
}

/// The same addresses, as sorted ranges with gaps between them: see [`put_range`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct EncodedRanges {
    pub(super) v4: Vec<u8>,
    pub(super) v6: Vec<u8>,
}

impl EncodedRanges {
    /// Whether it has an address of `range`. Bytes that are not ranges have all of them.
    pub(super) fn touch(&self, range: IpRange) -> bool {
        match range {
            IpRange::V4(range) => touch(&self.v4, range),
            IpRange::V6(range) => touch(&self.v6, range),
        }
    }

    pub(super) fn len(&self) -> u64 {
        (self.v4.len() + self.v6.len()) as u64
    }
}

fn encode<A: Number>(mut ranges: Vec<AddressRange<A>>) -> Vec<u8> {
    ranges.sort_unstable_by_key(|range| range.first());
    let (mut bytes, mut before) = (Vec::new(), None);
    let mut ranges = ranges.into_iter().peekable();
    while let Some(mut range) = ranges.next() {
        while let Some(next) = ranges.next_if(|next| next.first() <= range.last() || range.touches(*next)) {
            range = AddressRange::new(range.first(), range.last().max(next.last())).unwrap_or(range);
        }
        put_range(range, before, false, &mut bytes);
        before = Some(range.last());
    }
    bytes.shrink_to_fit();
    bytes
}

fn touch<A: Number>(mut bytes: &[u8], wanted: AddressRange<A>) -> bool {
    let mut before: Option<A> = None;
    while !bytes.is_empty() {
        let Some((range, _)) = take_range(before, &mut bytes) else { return true };
        if range.last() >= wanted.first() {
            return range.first() <= wanted.last();
        }
        before = Some(range.last());
    }
    false
}

#[cfg(test)]
mod tests {
    use edgefold_table::Address;
    use proptest::prelude::*;

    use super::*;

    fn range<A: Number>(first: A, last: A) -> AddressRange<A> {
        AddressRange::new(first.min(last), first.max(last)).unwrap()
    }

    proptest! {
        #[test]
        fn the_addresses_are_those_that_were_added(
            pairs in proptest::collection::vec((0..200_u8, 0..6_u8), 0..40),
            high in any::<bool>(),
            wanted in (0..210_u8, 0..6_u8),
        ) {
            let v4 = |at: u8| Ipv4Addr::from_bits(if high { u32::MAX - 255 + u32::from(at) } else { u32::from(at) });
            let v6 = |at: u8| Ipv6Addr::from_bits(if high { u128::MAX - 255 + u128::from(at) } else { u128::from(at) });
            let mut ranges = Ranges::default();
            let mut model = std::collections::BTreeSet::new();
            for &(first, more) in &pairs {
                ranges.add(IpRange::V4(range(v4(first), v4(first + more))));
                ranges.add(IpRange::V6(range(v6(first), v6(first + more))));
                model.extend(first..=first + more);
            }
            let (first, last) = (wanted.0, wanted.0 + wanted.1);
            let expected = (first..=last).any(|at| model.contains(&at));
            let encoded = ranges.encode();
            for wanted in [IpRange::V4(range(v4(first), v4(last))), IpRange::V6(range(v6(first), v6(last)))] {
                prop_assert_eq!(encoded.touch(wanted), expected);
            }
        }
    }

    #[test]
    fn the_whole_space_is_one_range() {
        let all = IpRange::V6(range(Ipv6Addr::FIRST, Ipv6Addr::LAST));
        let mut ranges = Ranges::default();
        ranges.add(all);
        ranges.add(all);
        let encoded = ranges.encode();
        assert!(encoded.touch(all) && encoded.len() < 24);
        assert!(!encoded.touch("0.0.0.0/0".parse().unwrap()), "the families are apart");
    }
}
