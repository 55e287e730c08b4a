//! What the crate needs from an address of either family: an order, a first and a last address, and neighbours.

use core::fmt::Debug;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of one family.
pub trait Address: Copy + Debug + Hash + Into<IpAddr> + Ord {
    /// The first address of the family: `0.0.0.0` or `::`.
    const FIRST: Self;
    /// The last address of the family: `255.255.255.255` or `ffff:…:ffff`.
    const LAST: Self;

    /// The address after this one; `None` after [`Address::LAST`].
    fn successor(self) -> Option<Self>;

    /// The address before this one; `None` before [`Address::FIRST`].
    fn predecessor(self) -> Option<Self>;
}

impl Address for Ipv4Addr {
    const FIRST: Self = Ipv4Addr::from_bits(u32::MIN);
    const LAST: Self = Ipv4Addr::from_bits(u32::MAX);

    #[inline]
    fn successor(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    #[inline]
    fn predecessor(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
}

impl Address for Ipv6Addr {
    const FIRST: Self = Ipv6Addr::from_bits(u128::MIN);
    const LAST: Self = Ipv6Addr::from_bits(u128::MAX);

    #[inline]
    fn successor(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    #[inline]
    fn predecessor(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
}
