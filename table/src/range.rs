//! A range of addresses: a first and a last address, both included.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Address;

/// The IPv4-mapped addresses (RFC 4291, section 2.5.5.2), `::ffff:0:0/96`. Each is the IPv4 address in it everywhere in
/// edgefold, so IPv6 ranges say nothing about them.
pub const IPV4_MAPPED: AddressRange<Ipv6Addr> =
    AddressRange { first: Ipv6Addr::from_bits(0xffff_0000_0000), last: Ipv6Addr::from_bits(0xffff_ffff_ffff) };

/// The addresses of one family from `first` to `last`, both included. A range is never empty.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressRange<A> {
    first: A,
    last: A,
}

impl<A: Address> AddressRange<A> {
    /// The range from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`RangeError::Reversed`] if `last` is below `first`.
    #[inline]
    pub fn new(first: A, last: A) -> Result<Self, RangeError> {
        if first > last {
            return Err(RangeError::Reversed { first: first.into(), last: last.into() });
        }
        Ok(Self { first, last })
    }

    /// The lowest address of the range.
    #[inline]
    pub fn first(self) -> A {
        self.first
    }

    /// The highest address of the range.
    #[inline]
    pub fn last(self) -> A {
        self.last
    }

    /// Whether the range contains `address`.
    #[inline]
    pub fn contains(self, address: A) -> bool {
        self.first <= address && address <= self.last
    }

    /// The addresses that are in both ranges, if there are any.
    #[inline]
    pub fn common(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// Whether `next` starts right after this range, so that the two are one range without a gap.
    #[inline]
    pub fn touches(self, next: Self) -> bool {
        self.last.successor() == Some(next.first)
    }
}

/// A range of IPv4 or of IPv6 addresses. IPv4 ranges sort before IPv6 ranges, then by first address.
///
/// ```
/// use edgefold_table::IpRange;
///
/// let block: IpRange = "10.0.0.0/24".parse()?;
/// assert_eq!(block, "10.0.0.0-10.0.0.255".parse()?);
/// assert!(block.contains("::ffff:10.0.0.7".parse()?), "IPv4-mapped IPv6 is IPv4");
/// assert_eq!(block.to_string(), "10.0.0.0-10.0.0.255");
/// assert_eq!(block.cidr().unwrap().to_string(), "10.0.0.0/24");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IpRange {
    /// IPv4 addresses.
    V4(AddressRange<Ipv4Addr>),
    /// IPv6 addresses.
    V6(AddressRange<Ipv6Addr>),
}

impl IpRange {
    /// The range from `first` to `last`, both included. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is treated as
    /// the IPv4 address in it.
    ///
    /// # Errors
    /// [`RangeError::Reversed`] if `last` is below `first`, [`RangeError::MixedFamilies`] if one is IPv4 and one IPv6.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => AddressRange::new(first, last).map(Self::V4),
            (IpAddr::V6(first), IpAddr::V6(last)) => AddressRange::new(first, last).map(Self::V6),
            _ => Err(RangeError::MixedFamilies { first, last }),
        }
    }

    /// The lowest address of the range.
    pub fn first(self) -> IpAddr {
        match self {
            Self::V4(range) => range.first.into(),
            Self::V6(range) => range.first.into(),
        }
    }

    /// The highest address of the range.
    pub fn last(self) -> IpAddr {
        match self {
            Self::V4(range) => range.last.into(),
            Self::V6(range) => range.last.into(),
        }
    }

    /// Whether the range contains `ip`. An IPv4-mapped IPv6 address is treated as the IPv4 address in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        match (self, ip.to_canonical()) {
            (Self::V4(range), IpAddr::V4(address)) => range.contains(address),
            (Self::V6(range), IpAddr::V6(address)) => range.contains(address),
            _ => false,
        }
    }

    /// The addresses that are in both ranges, if there are any.
    ///
    /// ```
    /// let range = |text: &str| text.parse::<edgefold_table::IpRange>();
    /// assert_eq!(range("10.0.0.0/24")?.common(range("10.0.0.200-10.0.2.0")?), Some(range("10.0.0.200-10.0.0.255")?));
    /// assert_eq!(range("10.0.0.0/24")?.common(range("::/0")?), None);
    /// # Ok::<(), edgefold_table::ParseRangeError>(())
    /// ```
    pub fn common(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::V4(range), Self::V4(other)) => range.common(other).map(Self::V4),
            (Self::V6(range), Self::V6(other)) => range.common(other).map(Self::V6),
            _ => None,
        }
    }

    /// The range from the start of this one to the end of `next`, if `next` starts right after this one.
    pub fn joined(self, next: Self) -> Option<Self> {
        let touches = match (self, next) {
            (Self::V4(range), Self::V4(next)) => range.touches(next),
            (Self::V6(range), Self::V6(next)) => range.touches(next),
            _ => false,
        };
        if touches { Self::new(self.first(), next.last()).ok() } else { None }
    }
}

impl From<AddressRange<Ipv4Addr>> for IpRange {
    fn from(range: AddressRange<Ipv4Addr>) -> Self {
        Self::V4(range)
    }
}

impl From<AddressRange<Ipv6Addr>> for IpRange {
    fn from(range: AddressRange<Ipv6Addr>) -> Self {
        Self::V6(range)
    }
}

/// `first-last`, or only the address where both are the same.
impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first(), self.last());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// Why two addresses do not form a range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// The last address is below the first.
    #[error("the last address {last} is below the first address {first}: swap them")]
    Reversed {
        /// The address given as the first.
        first: IpAddr,
        /// The address given as the last.
        last: IpAddr,
    },
    /// One address is IPv4 and the other IPv6.
    #[error("{first} and {last} are of different families: both must be IPv4 or both IPv6 (IPv4-mapped IPv6 is IPv4)")]
    MixedFamilies {
        /// The address given as the first.
        first: IpAddr,
        /// The address given as the last.
        last: IpAddr,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_addresses_of_its_family_only() {
        let contains = |range: &str, ip: &str| range.parse::<IpRange>().unwrap().contains(ip.parse().unwrap());
        for (range, ip, expected) in [
            ("10.0.0.0/24", "10.0.0.255", true),
            ("10.0.0.0/24", "10.0.1.0", false),
            ("10.0.0.0/24", "::ffff:10.0.0.7", true),
            ("2001:db8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::/0", "10.0.0.7", false),
            ("0.0.0.0/0", "2001:db8::1", false),
        ] {
            assert_eq!(contains(range, ip), expected, "{range}, {ip}");
        }
    }

    #[test]
    fn ranges_touch_if_no_address_lies_between_them() {
        let range = |first: &str, last: &str| {
            AddressRange::<Ipv6Addr>::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        assert!(range("::1", "::3").touches(range("::4", "::5")));
        assert!(!range("::1", "::3").touches(range("::5", "::6")));
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert!(!range("::1", last).touches(range("::", "::")));
    }
}
