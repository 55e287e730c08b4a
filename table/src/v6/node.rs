//! A node: an index on the bits of an IPv6 address that follow the prefix shared by all edges in it, then its chunks.

use super::leaf::Leaf;
use super::{OUTSIDE, UNIT, low_ones, upper_half};
use crate::bytes::{array_at, u32_at};

/// The offset of the prefix in a node, after the two bytes with numbers of bits.
const PREFIX: usize = 2;
/// The offset of the index in a node.
const INDEX: usize = PREFIX + 8;
/// The most bits of the shared prefix and the index together, so that they are in the upper half of the address.
pub(super) const MOST_BITS: u32 = 63;
/// The most bits of the index.
pub(super) const MOST_INDEX_BITS: u32 = 20;
/// The fields of an index entry, from the lowest bit: where the chunk starts in units, whether it is a node itself, the
/// number of columns of its positions less one if it is not, and whether a range continues into it.
pub(super) const START_BITS: u32 = 27;
pub(super) const IS_NODE: u32 = 1 << START_BITS;
pub(super) const COLUMNS_SHIFT: u32 = 28;
pub(super) const GOES_ON: u32 = 1 << 31;

/// Where the parts of a node are, in bytes from the start of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    shared_bits: u32,
    index_bits: u32,
    /// The upper half of an address, with zeros after the shared bits.
    prefix: u64,
    index: usize,
    chunks: usize,
}

/// Where a chunk is, in bytes from the start of the table.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) is_node: bool,
    /// The number of 16-bit columns, 1 to 8.
    pub(super) columns: usize,
    pub(super) goes_on: bool,
}

impl Node {
    /// The node at offset `start` of the table; `None` if the table ends early.
    #[inline]
    pub(super) fn at(table: &[u8], start: usize) -> Option<Self> {
        let &[shared_bits, index_bits] = array_at(table, start)?;
        let prefix = u64::from_le_bytes(*array_at(table, start + PREFIX)?);
        let index = start + INDEX;
        let (shared_bits, index_bits) = (shared_bits.into(), u32::from(index_bits));
        // `check` refuses a node with too many bits; until then the shift must not overflow.
        let index_bytes = if index_bits <= MOST_INDEX_BITS { (4 << index_bits) + 4 } else { 4 };
        Some(Self { shared_bits, index_bits, prefix, index, chunks: index + index_bytes })
    }

    /// Checks everything but the chunks, and returns where they end. The prefix of the node must begin with the first
    /// `depth` bits of `first`.
    pub(super) fn check(&self, table: &[u8], first: u64, depth: u32) -> Result<u64, &'static str> {
        if !(1..=MOST_INDEX_BITS).contains(&self.index_bits) || self.shared_bits + self.index_bits > MOST_BITS {
            return Err("its index must have 1 to 20 bits, within the first 63 bits of the address");
        }
        if self.prefix << self.shared_bits != 0 {
            return Err("the prefix that its ranges share has bits set past its length");
        }
        if self.shared_bits < depth || (self.prefix ^ first) >> 1 >> (63 - depth) != 0 {
            return Err("the prefix of a nested index is outside its chunk");
        }
        let (start, end) = (u32_at(table, self.index).ok_or(OUTSIDE)?, u32_at(table, self.chunks - 4).ok_or(OUTSIDE)?);
        if start & (IS_NODE - 1) != 0 {
            return Err("its index does not start at zero");
        }
        if end & !GOES_ON >= IS_NODE {
            return Err("the last entry of an index has unused bits set");
        }
        Ok(self.chunks as u64 + u64::from(end & !GOES_ON) * UNIT as u64)
    }

    /// How many leading bits all addresses of a chunk share.
    #[inline]
    pub(super) fn depth(&self) -> u32 {
        self.shared_bits + self.index_bits
    }

    pub(super) fn chunks(&self) -> usize {
        1 << self.index_bits
    }

    /// The first address of a chunk.
    pub(super) fn first(&self, chunk: usize) -> u128 {
        u128::from(self.prefix) << 64 | (chunk as u128) << (128 - self.depth())
    }

    /// The first and the last address of a chunk.
    pub(super) fn chunk_ends(&self, chunk: usize) -> (u128, u128) {
        (self.first(chunk), self.first(chunk) | low_ones(self.depth()))
    }

    /// The first and the last address with the shared prefix.
    pub(super) fn ends(&self) -> (u128, u128) {
        (self.first(0), self.first(0) | low_ones(self.shared_bits))
    }

    #[inline]
    pub(super) fn shares_prefix(&self, upper: u64) -> bool {
        // In two steps, since a shift by all 64 bits would overflow.
        (upper ^ self.prefix) >> 1 >> (63 - self.shared_bits) == 0
    }

    /// The chunk of an address with the shared prefix.
    #[inline]
    pub(super) fn chunk_of(&self, upper: u64) -> usize {
        (upper << self.shared_bits >> (64 - self.index_bits)) as usize
    }

    /// Whether an address without the shared prefix is in a range.
    #[inline]
    pub(super) fn contains_outside(&self, table: &[u8], upper: u64) -> Option<bool> {
        let entry = if upper < self.prefix { self.index } else { self.chunks - 4 };
        Some(u32_at(table, entry)? & GOES_ON != 0)
    }

    /// Whether a range continues past the last chunk.
    pub(super) fn goes_on_after(&self, table: &[u8]) -> Option<bool> {
        Some(u32_at(table, self.chunks - 4)? & GOES_ON != 0)
    }

    #[inline]
    pub(super) fn extent(&self, table: &[u8], chunk: usize) -> Option<Extent> {
        let [here, next] = array_at::<8>(table, self.index + 4 * chunk)?.as_chunks().0 else { return None };
        let (here, next) = (u32::from_le_bytes(*here), u32::from_le_bytes(*next));
        let start = |entry: u32| (entry & (IS_NODE - 1)) as usize * UNIT;
        Some(Extent {
            start: self.chunks + start(here),
            len: start(next).checked_sub(start(here))?,
            is_node: here & IS_NODE != 0,
            columns: (here >> COLUMNS_SHIFT & 7) as usize + 1,
            goes_on: here & GOES_ON != 0,
        })
    }

    /// Checks a chunk, passes each edge in it to `sink`, and returns whether a range continues past it. `begun` says
    /// whether one continues into it. Recurses into a chunk that is a node. Each level adds at least one bit of the
    /// address, so there are at most 62 levels.
    pub(super) fn read(
        &self,
        table: &[u8],
        chunk: usize,
        begun: bool,
        sink: &mut impl FnMut(u128, bool),
    ) -> Result<bool, &'static str> {
        let extent = self.extent(table, chunk).ok_or("its end in the index is before its start")?;
        if extent.goes_on != begun {
            return Err("a nested index and the previous chunk disagree on whether a range continues");
        }
        let Extent { start, len, .. } = extent;
        let first = self.first(chunk);
        if !extent.is_node {
            let leaf = Leaf::new(table, start, len, extent.columns).ok_or(OUTSIDE)?;
            return leaf.read(len, first, self.depth(), begun, sink);
        }
        let node = Self::at(table, start).ok_or(OUTSIDE)?;
        if node.check(table, upper_half(first), self.depth())? != (start + len) as u64 {
            return Err("its length does not match its nested index");
        }
        let begun = (0..node.chunks()).try_fold(begun, |begun, chunk| node.read(table, chunk, begun, sink))?;
        if node.goes_on_after(table) != Some(begun) {
            return Err("a nested index and its last chunk disagree on whether a range continues");
        }
        Ok(begun)
    }
}
