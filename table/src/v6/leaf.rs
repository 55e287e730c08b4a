//! A leaf: the entries of a chunk of IPv6 addresses that has no nested index.

use core::hint::select_unpredictable;
use core::ops::BitXor;

use super::{OUTSIDE, UNIT, low_ones};
use crate::columns::{Columns, Position};
use crate::section::Side;

/// The kind of an entry that begins a range. Lower kinds are prefixes: the kind is the prefix length past the bits that
/// the chunk shares.
pub(super) const BEGINS: u8 = 0xfe;
/// The kind of an entry that ends a range.
pub(super) const ENDS: u8 = 0xff;

/// Sorted entries, stored in columns.
#[derive(Clone, Copy)]
pub(super) struct Leaf<'a> {
    positions: Columns<'a>,
    kinds: &'a [u8],
    len: usize,
    /// Bits of each position.
    bits: u32,
}

impl<'a> Leaf<'a> {
    /// The leaf of `len` bytes at offset `start` of the table, whose positions have this many `columns` of 16 bits;
    /// `None` if the table ends early.
    #[inline(always)]
    pub(super) fn new(table: &'a [u8], start: usize, len: usize, columns: usize) -> Option<Self> {
        // In u32, whose division is faster. The remainder is the padding to a unit.
        let entries = (len as u32 / (2 * columns as u32 + 1)) as usize;
        let bytes = table.get(start..)?;
        let positions = Columns::new(bytes, 2 * columns, entries);
        Some(Self { positions, kinds: bytes.get(2 * columns * entries..)?, len: entries, bits: 16 * columns as u32 })
    }

    /// Whether `position`, which has all the columns of the leaf, is in a range.
    #[inline(always)]
    pub(super) fn contains<P: Position + BitXor<Output = P>>(
        self,
        position: P,
        goes_on: bool,
        leading_zeros: impl Fn(P) -> u32,
    ) -> Option<bool> {
        let rank = self.positions.rank(position)?;
        let last = rank.saturating_sub(1);
        let same = leading_zeros(self.positions.get::<P>(last)? ^ position);
        let is_in = match *self.kinds.get(last)? {
            BEGINS => true,
            ENDS => same >= self.bits,
            length => same >= length.into(),
        };
        Some(select_unpredictable(rank == 0, goes_on, is_in))
    }

    /// The end on this side of the range that contains `address`; `None` if it is not in this leaf. The range must
    /// extend to the other side, too. `first` is the first address of the chunk, `depth` the number of bits that its
    /// addresses share.
    pub(super) fn edge(self, first: u128, depth: u32, address: u128, side: Side) -> Option<u128> {
        let rank = self.positions.rank(address << depth)?;
        let last = rank.wrapping_sub(1);
        // The stored bits of an end may be at most the address even if the end itself is above it.
        let candidates = match side {
            Side::Before => [last, last.wrapping_sub(1)],
            Side::After => [last, rank],
        };
        candidates.into_iter().filter_map(|index| self.ends(index, first, depth)).find_map(|(start, end)| match side {
            Side::Before => (start <= address).then_some(start),
            Side::After => (end >= address).then_some(end),
        })
    }

    /// The first and the last address of the entry at `index`; `None` if there is no such entry.
    #[inline(never)]
    fn ends(&self, index: usize, first: u128, depth: u32) -> Option<(u128, u128)> {
        let index = Some(index).filter(|&index| index < self.len)?;
        let start = first | self.positions.get::<u128>(index)? >> depth;
        let end = |bits| start | low_ones(bits);
        Some(match *self.kinds.get(index)? {
            BEGINS => (start, start),
            ENDS => (end(depth + self.bits), end(depth + self.bits)),
            length => (start, end(depth + u32::from(length))),
        })
    }

    /// Checks the leaf of `len` bytes, passes each edge to `sink`, and returns whether a range continues past the leaf.
    /// `first` is the first address of the chunk, `depth` the number of bits that its addresses share, and `begun`
    /// whether a range continues into it.
    pub(super) fn read(
        self,
        len: usize,
        first: u128,
        depth: u32,
        mut begun: bool,
        sink: &mut impl FnMut(u128, bool),
    ) -> Result<bool, &'static str> {
        let padding = len - self.len * (self.bits as usize / 8 + 1);
        let padding = self.kinds.get(self.len..self.len + padding).ok_or(OUTSIDE)?;
        if padding.len() >= UNIT || padding.iter().any(|&byte| byte != 0) {
            return Err("it is not a whole number of entries, padded with zeros to a whole unit");
        }
        // The leading bits of an address that are known: those of the chunk and those that the leaf stores.
        let kept = (depth + self.bits).min(128);
        for index in 0..self.len {
            let position: u128 = self.positions.get(index).ok_or(OUTSIDE)?;
            if position << (128 - depth) != 0 {
                return Err("an entry has bits set past the end of an address");
            }
            let address = first | position >> depth;
            let kind = *self.kinds.get(index).ok_or(OUTSIDE)?;
            match (kind, begun) {
                (BEGINS, false) => sink(address, true),
                (ENDS, true) => sink(address | low_ones(kept), false),
                (BEGINS | ENDS, _) => return Err("a range ends that never began, or begins inside another"),
                (_, true) => return Err("a prefix is inside a range"),
                (length, false) => {
                    let bits = depth + u32::from(length);
                    if bits > kept || address & low_ones(bits) != 0 {
                        return Err("a prefix has bits set past its length");
                    }
                    if low_ones(bits) != 0 {
                        sink(address, true);
                    }
                    sink(address | low_ones(bits), false);
                }
            }
            begun = kind == BEGINS;
        }
        Ok(begun)
    }
}
