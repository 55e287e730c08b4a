//! A range of addresses: a first and a last one, both inside it.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode, impl_borrow_decode};

use crate::Address;

/// The addresses of one family from `first` to `last`, both included; never empty.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressRange<A> {
    first: A,
    last: A,
}

impl<A: Address> AddressRange<A> {
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

    /// Whether `address` lies in the range.
    #[inline]
    pub fn contains(self, address: A) -> bool {
        self.first <= address && address <= self.last
    }
}

/// A range of IPv4 or of IPv6 addresses. IPv4 ranges sort before IPv6 ranges, then by first address.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IpRange {
    /// IPv4 addresses.
    V4(AddressRange<Ipv4Addr>),
    /// IPv6 addresses.
    V6(AddressRange<Ipv6Addr>),
}

impl IpRange {
    /// The range from `first` to `last`, both included. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is taken
    /// for the IPv4 address in it.
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

    /// Whether `ip` lies in the range; an IPv4-mapped IPv6 address is the IPv4 address in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        match (self, ip.to_canonical()) {
            (Self::V4(range), IpAddr::V4(address)) => range.contains(address),
            (Self::V6(range), IpAddr::V6(address)) => range.contains(address),
            _ => false,
        }
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

/// In the header of a snapshot: the first address, then the last. An address is its family, 0 or 1, and its bytes.
impl Encode for IpRange {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        for ip in [self.first(), self.last()] {
            match ip {
                IpAddr::V4(ip) => (0_u32, ip.octets()).encode(encoder)?,
                IpAddr::V6(ip) => (1_u32, ip.octets()).encode(encoder)?,
            }
        }
        Ok(())
    }
}

impl<Context> Decode<Context> for IpRange {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut address = || match u32::decode(decoder)? {
            0 => Ok(IpAddr::from(<[u8; 4]>::decode(decoder)?)),
            1 => Ok(IpAddr::from(<[u8; 16]>::decode(decoder)?)),
            _ => Err(DecodeError::Other("an address is neither IPv4 nor IPv6")),
        };
        let (first, last) = (address()?, address()?);
        Self::new(first, last).map_err(|_| DecodeError::Other("two addresses are no range"))
    }
}

impl_borrow_decode!(IpRange);

/// `first-last`, or the address alone where both are the same.
impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first(), self.last());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// Why two addresses are no range.
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
