//! A quick answer for most clients: that no list has their address.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use edgefold_table::IpRange;

/// A set of networks in which some list has a range. It may say of a network that it has one where none does, but never the other way
/// round. A lookup in each of several lists waits for memory each time; this waits once.
///
/// A network is a bit, by a hash of it: a Bloom filter with one hash function. Ranges of more than [`MOST_NETWORKS`] networks are kept
/// as larger networks, which are only looked up if there are some.
#[derive(Clone, Debug)]
pub(crate) struct Near {
    /// A power of two of them.
    bits: Vec<u64>,
    /// How far a hash of 64 bits is shifted to the right to be the number of a bit.
    shift: u32,
    has_large: bool,
    /// Whether there is a range that is too large even for that.
    has_all: bool,
}

/// Bits for each range: with 16, one in sixteen networks without a range seems to have one.
const BITS_PER_RANGE: usize = 16;
/// From 64 bytes to 2 MiB.
const LEAST_BITS: u32 = 9;
const MOST_BITS: u32 = 24;
/// The most networks of one range.
const MOST_NETWORKS: u64 = 4096;
/// The most networks of all ranges: so many for each range, and so many more. What would need more than that takes too long to make.
const MOST_PER_RANGE: u64 = 16;
const MOST_BESIDE: u64 = 1 << 18;

#[derive(Clone, Copy)]
enum Size {
    /// /24 for IPv4, and /48 for IPv6.
    Small,
    /// /12 for IPv4, and /32 for IPv6.
    Large,
}

impl Near {
    /// The networks of `ranges`, of which there are `count`; `None` if there is no memory for it.
    pub(crate) fn new(count: usize, ranges: impl Iterator<Item = IpRange>) -> Option<Self> {
        let log2 = count.saturating_mul(BITS_PER_RANGE).max(1).ilog2().saturating_add(1).clamp(LEAST_BITS, MOST_BITS);
        let words = 1_usize << (log2 - u64::BITS.ilog2());
        let mut bits = Vec::new();
        bits.try_reserve_exact(words).ok()?;
        bits.resize(words, 0);
        let mut this = Self { bits, shift: u64::BITS - log2, has_large: false, has_all: false };
        let mut left = (count as u64).saturating_mul(MOST_PER_RANGE).saturating_add(MOST_BESIDE);
        ranges.for_each(|range| this.insert(range, &mut left));
        Some(this)
    }

    /// Adds the networks of a range, unless there are too many. `left` is how many networks may still be added.
    fn insert(&mut self, range: IpRange, left: &mut u64) {
        for size in [Size::Small, Size::Large] {
            let (first, last) = (network(range.first(), size), network(range.last(), size));
            let count = last.saturating_sub(first).saturating_add(1);
            if count <= MOST_NETWORKS
                && let Some(rest) = left.checked_sub(count)
            {
                *left = rest;
                self.has_large |= matches!(size, Size::Large);
                for network in first..=last {
                    let (word, bit) = self.place(network);
                    if let Some(word) = self.bits.get_mut(word) {
                        *word |= bit;
                    }
                }
                return;
            }
        }
        self.has_all = true;
    }

    /// Whether a list may have the address, which is not IPv4-mapped.
    #[inline]
    pub(crate) fn may_have(&self, ip: IpAddr) -> bool {
        self.has(network(ip, Size::Small)) || self.has_large && self.has(network(ip, Size::Large)) || self.has_all
    }

    #[inline]
    fn has(&self, network: u64) -> bool {
        let (word, bit) = self.place(network);
        self.bits.get(word).is_none_or(|word| word & bit != 0)
    }

    /// The word and the bit in it.
    #[inline]
    fn place(&self, network: u64) -> (usize, u64) {
        // Fibonacci hashing. Whoever chooses the ranges can make networks collide, and lookups as slow as without this.
        let place = network.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        (usize::try_from(place / 64).unwrap_or(usize::MAX), 1 << (place % 64))
    }
}

/// The network of an address, as a number that no network of another size or family has.
#[inline]
fn network(ip: IpAddr, size: Size) -> u64 {
    const IPV6: u64 = 1 << 62;
    const LARGE: u64 = 1 << 63;
    match (ip, size) {
        (IpAddr::V4(ip), Size::Small) => u64::from(ip.to_bits() >> 8),
        (IpAddr::V4(ip), Size::Large) => u64::from(ip.to_bits() >> 20) | LARGE,
        (IpAddr::V6(ip), Size::Small) => upper_half(ip) >> 16 | IPV6,
        (IpAddr::V6(ip), Size::Large) => upper_half(ip) >> 32 | IPV6 | LARGE,
    }
}

#[inline]
fn upper_half(ip: Ipv6Addr) -> u64 {
    u64::try_from(ip.to_bits() >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(ranges: &[&str]) -> Near {
        let ranges: Vec<IpRange> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Near::new(ranges.len(), ranges.into_iter()).unwrap()
    }

    fn has(near: &Near, ip: &str) -> bool {
        near.may_have(ip.parse().unwrap())
    }

    #[test]
    fn every_address_of_a_range_may_be_there() {
        for (range, inside) in [
            ("10.0.0.7", &["10.0.0.7"][..]),
            ("10.0.0.255-10.0.1.0", &["10.0.0.255", "10.0.1.0"]),
            ("10.0.0.0/12", &["10.0.0.0", "10.7.1.2", "10.15.255.255"]),
            ("10.0.0.255-10.200.0.1", &["10.0.0.255", "10.16.0.0", "10.199.1.1", "10.200.0.1"]),
            ("0.0.0.0/0", &["0.0.0.0", "127.1.2.3", "255.255.255.255"]),
            ("2001:db8::1", &["2001:db8::1"]),
            ("2001:db8::/36", &["2001:db8::", "2001:db8:7ff::1", "2001:db8:fff:ffff::"]),
            ("2001:db8::/29", &["2001:db8::", "2001:dbf:ffff::1"]),
            ("2001:db8:ffff:ffff::-2001:dba::", &["2001:db8:ffff:ffff::", "2001:db9::1", "2001:dba::"]),
            ("2000::/3", &["2000::", "2001:db8::1", "3fff::1"]),
            ("::/0", &["::", "2001:db8::1", "ffff::1"]),
        ] {
            let near = near(&[range]);
            assert!(inside.iter().all(|ip| has(&near, ip)), "{range}");
        }
    }

    #[test]
    fn few_other_networks_seem_to_be_there() {
        let singles: Vec<String> =
            (0..1000_u32).map(|at| core::net::Ipv4Addr::from(at * 4_000_037).to_string()).collect();
        let near = near(&singles.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(singles.iter().all(|ip| has(&near, ip)));
        let others = (0..10_000_u32).map(|at| IpAddr::V4(core::net::Ipv4Addr::from(at.wrapping_mul(2_654_435_761))));
        let found = others.filter(|ip| near.may_have(*ip)).count();
        assert!(found < 1_500, "{found} of 10000");
        let others = (0..10_000_u128).map(|at| IpAddr::V6(core::net::Ipv6Addr::from((0x2001_0db8 << 96) + (at << 80))));
        let found = others.filter(|ip| near.may_have(*ip)).count();
        assert!(found < 1_500, "{found} of 10000");
    }

    /// A hostile list must not take minutes to open.
    #[test]
    fn ranges_of_very_many_networks_are_not_all_taken_apart() {
        let ranges = (0..1_000_000_u128).map(|at| {
            let first = (at << 92) + (1 << 120);
            IpRange::new(core::net::Ipv6Addr::from(first).into(), core::net::Ipv6Addr::from(first + (1 << 91)).into())
                .unwrap()
        });
        let near = Near::new(1_000_000, ranges).unwrap();
        assert!(near.has_all && has(&near, "ffff::"));
    }
}
