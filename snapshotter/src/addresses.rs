//! How many addresses there are in ranges.

use std::net::IpAddr;

use edgefold::IpRange;

/// How much is on a list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Addresses {
    pub(crate) ranges: u64,
    pub(crate) ipv4: u64,
    pub(crate) ipv6: u128,
}

impl Addresses {
    /// Those of disjoint ranges.
    pub(crate) fn of(ranges: impl Iterator<Item = IpRange>) -> Self {
        ranges.fold(Self::default(), |sum, range| {
            let (mut ipv4, mut ipv6) = (sum.ipv4, sum.ipv6);
            match (range.first(), range.last()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => ipv4 += u64::from(last.to_bits() - first.to_bits()) + 1,
                // No list has all IPv6 addresses: the IPv4-mapped ones are IPv4. Ranges that are not disjoint may have more.
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    ipv6 = ipv6.saturating_add((last.to_bits() - first.to_bits()).saturating_add(1));
                }
                _ => {}
            }
            Self { ranges: sum.ranges + 1, ipv4, ipv6 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_ranges_are_counted() {
        let of = |text: &str| Addresses::of([text.parse().unwrap()].into_iter());
        assert_eq!(of("0.0.0.0/0"), Addresses { ranges: 1, ipv4: 1 << 32, ipv6: 0 });
        assert_eq!(of("8000::/1"), Addresses { ranges: 1, ipv4: 0, ipv6: 1 << 127 });
    }
}
