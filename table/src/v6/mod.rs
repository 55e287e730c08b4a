//! The IPv6 section of a table: an index on the bits after the prefix that all ranges share, then the entries of each
//! chunk. A chunk with many ranges has a nested index of its own instead.
//!
//! Most IPv6 ranges are CIDR prefixes. Such a range is one entry: its first address and its prefix length. Any other
//! range is two entries: where it begins and where it ends. Each chunk stores only as many bits of its addresses as it
//! needs: 48 or fewer for /64s in a large table, all of them for single addresses.

#![allow(
    clippy::cast_possible_truncation,
    reason = "bit layouts: a cast keeps the bits that are wanted, or a number that the format keeps small"
)]

mod encode;
mod leaf;
mod node;

use core::net::Ipv6Addr;
use core::ops::{ControlFlow, Range};

use crate::section::{self, Side};

pub(crate) use encode::Encoder;
use leaf::Leaf;
use node::{Extent, Node};

/// Chunks start at a multiple of this many bytes.
const UNIT: usize = 2;
const OUTSIDE: &str = "it extends past the end of the table";

/// The root of the nested indexes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    root: Node,
}

impl section::Layout for Layout {
    type Address = Ipv6Addr;
    type Bits = u128;
    const FAMILY: &'static str = "IPv6";

    fn open(table: &[u8], bytes: Range<usize>) -> Result<Self, &'static str> {
        let root = Node::at(table, bytes.start).ok_or("it ends inside its index")?;
        let end = root.check(table, 0, 0)?;
        section::check_end(table, &bytes, end)?;
        if root.goes_on_after(table) != Some(false) {
            return Err("its last range does not end");
        }
        Ok(Self { root })
    }

    fn chunks(&self) -> usize {
        self.root.chunks()
    }

    #[inline]
    fn contains(&self, table: &[u8], address: u128) -> Option<bool> {
        let (upper, lower) = (upper_half(address), address as u64);
        let mut node = self.root;
        let extent = loop {
            if !node.shares_prefix(upper) {
                return node.contains_outside(table, upper);
            }
            let extent = node.extent(table, node.chunk_of(upper))?;
            if !extent.is_node {
                break extent;
            }
            node = Node::at(table, extent.start)?;
        };
        // The position: the bits after the depth, left-aligned. Computed in halves, since a 128-bit shift is a function
        // call in wasm. The depth is 1 to 63.
        let depth = node.depth();
        let (upper, lower) = (upper << depth | lower >> (64 - depth), lower << depth);
        // Half an address is enough for prefixes of up to /64, whatever the depth. The compiler unrolls the loops over
        // a constant number of columns.
        let leaf = |columns| Leaf::new(table, extent.start, extent.len, columns);
        match extent.columns {
            1 => leaf(1)?.contains(upper, extent.goes_on, u64::leading_zeros),
            2 => leaf(2)?.contains(upper, extent.goes_on, u64::leading_zeros),
            3 => leaf(3)?.contains(upper, extent.goes_on, u64::leading_zeros),
            4 => leaf(4)?.contains(upper, extent.goes_on, u64::leading_zeros),
            columns => {
                let position = u128::from(upper) << 64 | u128::from(lower);
                leaf(columns)?.contains(position, extent.goes_on, u128::leading_zeros)
            }
        }
    }

    #[inline(never)]
    fn edge(&self, table: &[u8], address: u128, side: Side) -> Option<ControlFlow<u128, u128>> {
        let mut node = self.root;
        // The first and last address of the chunk that the node is, or of the family for the root.
        let mut around = (0, u128::MAX);
        let next = loop {
            // If the node's prefix lies ahead on this side, continue from its near end. If it lies on the other side,
            // the address stays outside it, and there is nothing to find in the node.
            let (first, last) = node.ends();
            let address = match side {
                Side::Before => address.min(last),
                Side::After => address.max(first),
            };
            if !node.shares_prefix(upper_half(address)) {
                break None;
            }
            let chunk = node.chunk_of(upper_half(address));
            let extent = node.extent(table, chunk)?;
            if !extent.is_node {
                let leaf = Leaf::new(table, extent.start, extent.len, extent.columns)?;
                if let Some(edge) = leaf.edge(node.first(chunk), node.depth(), address, side) {
                    return Some(ControlFlow::Break(edge));
                }
                let extent = |chunk| node.extent(table, chunk).map(|Extent { start, len, .. }| start..start + len);
                break side.next_chunk(chunk, node.chunks(), &extent).map(|chunk| side.near(node.chunk_ends(chunk)));
            }
            around = node.chunk_ends(chunk);
            node = Node::at(table, extent.start)?;
        };
        next.or_else(|| side.past(around)).map(ControlFlow::Continue)
    }

    fn goes_on(&self, table: &[u8], chunk: usize) -> Option<bool> {
        Some(self.root.extent(table, chunk)?.goes_on)
    }

    fn edges(&self, table: &[u8], chunk: usize, mut sink: impl FnMut(u128, bool)) -> Result<(), &'static str> {
        let begun = section::Layout::goes_on(self, table, chunk).ok_or(OUTSIDE)?;
        self.root.read(table, chunk, begun, &mut sink).map(|_goes_on| ())
    }
}

#[inline]
fn upper_half(address: u128) -> u64 {
    (address >> 64) as u64
}

/// Zeros for the first `bits` bits of an address, and ones for the rest.
fn low_ones(bits: u32) -> u128 {
    u128::MAX.checked_shr(bits).unwrap_or(0)
}
