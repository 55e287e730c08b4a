//! The loops that are timed. They are the same for all contenders and hosts.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{BitAnd, BitXor};

/// An address as a number.
pub trait Bits:
    Copy + Ord + From<bool> + Into<u128> + TryFrom<u128> + BitAnd<Output = Self> + BitXor<Output = Self> + 'static
{
    /// Bytes of an address.
    const BYTES: usize;

    /// The address.
    fn ip(self) -> IpAddr;

    /// Reads the first `BYTES` bytes, little-endian.
    fn read(bytes: &[u8]) -> Self;

    /// Appends what [`Bits::read`] reads.
    fn write(self, out: &mut Vec<u8>);
}

impl Bits for u32 {
    const BYTES: usize = 4;

    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    fn read(bytes: &[u8]) -> Self {
        Self::from_le_bytes(*bytes.first_chunk().unwrap())
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl Bits for u128 {
    const BYTES: usize = 16;

    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }

    fn read(bytes: &[u8]) -> Self {
        Self::from_le_bytes(*bytes.first_chunk().unwrap())
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

/// A set of addresses.
pub trait Lookup<A> {
    /// Whether the set contains `address`.
    fn contains(&self, address: A) -> bool;
}

/// Many lookups in one call, so that the lookup itself is inlined into the loop for every contender.
pub trait Lookups<A> {
    /// How many of `addresses` the set contains. Each lookup may overlap with the next.
    fn independent(&self, addresses: &[A]) -> usize;

    /// The same, but no address is known until the previous lookup is done. `zero` must be 0, hidden from the compiler.
    fn dependent(&self, addresses: &[A], zero: A) -> usize;
}

impl<A: Bits, T: Lookup<A>> Lookups<A> for T {
    fn independent(&self, addresses: &[A]) -> usize {
        addresses.iter().filter(|&&address| self.contains(address)).count()
    }

    fn dependent(&self, addresses: &[A], zero: A) -> usize {
        let mut hits = 0;
        let mut hit = false;
        for &address in addresses {
            // The black box keeps the compiler from making one loop for hits and another for misses, which would have
            // no dependency. The processor may still predict the end of a search with branches, as it would in a
            // filter.
            hit = self.contains(address ^ (A::from(black_box(hit)) & zero));
            hits += usize::from(hit);
        }
        hits
    }
}

/// 4 MiB: twice the second-level cache of a large core.
pub const WASH_WORDS: usize = 4 << 20 >> 3;

/// Reads a word of each cache line, to evict everything else from the first two levels of cache. The instruction cache,
/// the branch predictors and a larger third level are not affected.
pub fn wash(words: &[u64]) -> u64 {
    words.iter().step_by(8).fold(0, |sum, word| sum ^ word)
}
