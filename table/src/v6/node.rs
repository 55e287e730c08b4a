//! An index on some bits of an IPv6 address behind those that all addresses with edges share, and the chunks behind it.

use super::leaf::Leaf;
use super::{OUTSIDE, UNIT, low_ones, upper_half};
use crate::bytes::{array_at, u32_at};

/// Where in a node its prefix starts: behind the two bytes that count bits.
const PREFIX: usize = 2;
/// Where in a node its index starts.
const INDEX: usize = PREFIX + 8;
/// The most bits of the shared prefix and the index together: they lie in the upper half of the address.
pub(super) const MOST_BITS: u32 = 63;
/// The most bits of the index.
pub(super) const MOST_INDEX_BITS: u32 = 20;
/// The bits of an index entry: where the chunk starts in units, whether it is a node of its own, how many columns its
/// positions have less one if it is not, and whether a range goes on into it.
pub(super) const START_BITS: u32 = 27;
pub(super) const IS_NODE: u32 = 1 << START_BITS;
pub(super) const COLUMNS_SHIFT: u32 = 28;
pub(super) const GOES_ON: u32 = 1 << 31;

/// Where the parts of a node lie, in bytes from the table's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    shared_bits: u32,
    index_bits: u32,
    /// The upper half of an address, zeros behind the shared bits.
    prefix: u64,
    index: usize,
    chunks: usize,
}

/// Where a chunk is, in bytes from the table's start.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) is_node: bool,
    /// Of 16 bits, 1 to 8.
    pub(super) columns: usize,
    pub(super) goes_on: bool,
}

impl Node {
    /// The node at `start` of the table; `None` if the table ends early.
    #[inline]
    pub(super) fn at(table: &[u8], start: usize) -> Option<Self> {
        let &[shared_bits, index_bits] = array_at(table, start)?;
        let prefix = u64::from_le_bytes(*array_at(table, start + PREFIX)?);
        let index = start + INDEX;
        let (shared_bits, index_bits) = (shared_bits.into(), u32::from(index_bits));
        // More bits than any node has are refused by `check`, and must not overflow here.
        let index_bytes = if index_bits <= MOST_INDEX_BITS { (4 << index_bits) + 4 } else { 4 };
        Some(Self { shared_bits, index_bits, prefix, index, chunks: index + index_bytes })
    }

    /// Checks all but the chunks: the node is to begin with the first `depth` bits of `first`. Gives where its chunks end.
    pub(super) fn check(&self, table: &[u8], first: u64, depth: u32) -> Result<u64, &'static str> {
        if !(1..=MOST_INDEX_BITS).contains(&self.index_bits) || self.shared_bits + self.index_bits > MOST_BITS {
            return Err("its index is not of 1 to 20 bits, or is behind the upper half of the address");
        }
        if self.prefix << self.shared_bits != 0 {
            return Err("the prefix that its ranges share has bits behind its length");
        }
        if self.shared_bits < depth || (self.prefix ^ first) >> 1 >> (63 - depth) != 0 {
            return Err("an index is not about the addresses of its chunk");
        }
        let (start, end) = (u32_at(table, self.index).ok_or(OUTSIDE)?, u32_at(table, self.chunks - 4).ok_or(OUTSIDE)?);
        if start & (IS_NODE - 1) != 0 {
            return Err("its index does not start at zero");
        }
        if end & !GOES_ON >= IS_NODE {
            return Err("the end of an index has bits that tell nothing");
        }
        Ok(self.chunks as u64 + u64::from(end & !GOES_ON) * UNIT as u64)
    }

    /// Bits of an address before those that tell addresses of a chunk apart.
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

    /// The first and the last address that have the shared prefix.
    pub(super) fn ends(&self) -> (u128, u128) {
        (self.first(0), self.first(0) | low_ones(self.shared_bits))
    }

    #[inline]
    pub(super) fn shares_prefix(&self, upper: u64) -> bool {
        // In two steps, since all 64 bits may not be shifted out in one.
        (upper ^ self.prefix) >> 1 >> (63 - self.shared_bits) == 0
    }

    /// The chunk of an address that has the shared prefix.
    #[inline]
    pub(super) fn chunk_of(&self, upper: u64) -> usize {
        (upper << self.shared_bits >> (64 - self.index_bits)) as usize
    }

    /// Whether an address that does not have the shared prefix is in a range.
    #[inline]
    pub(super) fn contains_outside(&self, table: &[u8], upper: u64) -> Option<bool> {
        let entry = if upper < self.prefix { self.index } else { self.chunks - 4 };
        Some(u32_at(table, entry)? & GOES_ON != 0)
    }

    /// Whether a range goes on behind the last chunk.
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

    /// Checks a chunk, and gives each edge of a range in it to `sink`. A chunk that is a node goes a level deeper, and each
    /// level has at least one bit of an address more than the one above: there are 62 at most.
    pub(super) fn read(
        &self,
        table: &[u8],
        chunk: usize,
        begun: bool,
        sink: &mut impl FnMut(u128, bool),
    ) -> Result<bool, &'static str> {
        let extent = self.extent(table, chunk).ok_or("its end in the index is before its start")?;
        if extent.goes_on != begun {
            return Err("an index says otherwise than the chunk before whether a range goes on");
        }
        let Extent { start, len, .. } = extent;
        let first = self.first(chunk);
        if !extent.is_node {
            let leaf = Leaf::new(table, start, len, extent.columns).ok_or(OUTSIDE)?;
            return leaf.read(len, first, self.depth(), begun, sink);
        }
        let node = Self::at(table, start).ok_or(OUTSIDE)?;
        if node.check(table, upper_half(first), self.depth())? != (start + len) as u64 {
            return Err("an index in it asks for another length");
        }
        let begun = (0..node.chunks()).try_fold(begun, |begun, chunk| node.read(table, chunk, begun, sink))?;
        if node.goes_on_after(table) != Some(begun) {
            return Err("an index in it says otherwise than its last chunk whether a range goes on");
        }
        Ok(begun)
    }
}
