//! The two families of addresses.

use edgefold_bench_wasm::Bits;

use crate::shapes::{self, Shape};

/// First and last address of a range.
pub type Range<A> = [A; 2];

/// An address family, implemented for the number type of its addresses.
pub trait Family: Bits {
    /// `IPv4` or `IPv6`.
    const NAME: &'static str;
    /// `4` or `6`.
    const VERSION: u8;
    /// Bits of an address.
    const WIDTH: u32;
    /// The addresses that are in use. For IPv6 this is only a part of the address space.
    const UNIVERSE: Range<Self>;
    /// The typical prefix length of a large network.
    const NETWORK: u32;

    /// `count` ranges of a generated shape.
    fn generate(shape: Shape, count: usize, random: &mut fastrand::Rng) -> Vec<Range<Self>>;
}

impl Family for u32 {
    const NAME: &'static str = "IPv4";
    const VERSION: u8 = 4;
    const WIDTH: u32 = 32;
    const UNIVERSE: Range<Self> = [0, u32::MAX];
    const NETWORK: u32 = 16;

    fn generate(shape: Shape, count: usize, random: &mut fastrand::Rng) -> Vec<Range<Self>> {
        match shape {
            Shape::Uniform => shapes::uniform_v4(count, random),
            Shape::Blocklist => shapes::blocklist_v4(count, random),
            Shape::Real => shapes::real(),
        }
    }
}

impl Family for u128 {
    const NAME: &'static str = "IPv6";
    const VERSION: u8 = 6;
    const WIDTH: u32 = 128;
    const UNIVERSE: Range<Self> = [0x2 << 124, (0x4 << 124) - 1];
    const NETWORK: u32 = 32;

    fn generate(shape: Shape, count: usize, random: &mut fastrand::Rng) -> Vec<Range<Self>> {
        match shape {
            Shape::Uniform => shapes::uniform_v6(count, random),
            Shape::Blocklist => shapes::blocklist_v6(count, random),
            Shape::Real => shapes::real(),
        }
    }
}

/// Converts a number that is known to fit an address.
pub fn address<A: Bits>(number: u128) -> A {
    A::try_from(number).ok().unwrap()
}

/// The fewest CIDR blocks that cover exactly the ranges: network and prefix length.
pub fn prefixes<A: Family>(ranges: &[Range<A>]) -> impl Iterator<Item = (A, u8)> {
    ranges.iter().flat_map(|range| {
        let [first, last] = range.map(Into::into);
        let mut rest = Some(first);
        std::iter::from_fn(move || {
            let network = rest?;
            // This cannot overflow: no list has a range that is a whole family.
            let bits = network.trailing_zeros().min((last - network + 1).ilog2()).min(A::WIDTH);
            rest = (network + (1 << bits)..=last).next();
            Some((address(network), u8::try_from(A::WIDTH - bits).unwrap()))
        })
    })
}
