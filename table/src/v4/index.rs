//! The index of the IPv4 section: it maps the top bits of an address to the edges of its chunk.
//!
//! Chunks are in groups of sixteen. A u32 says where the edges of the group start, and a u16 for each chunk how far
//! after that its own start, in units of one edge. The top bit of the u16 says whether a range continues into the
//! chunk. A last u32 says where the edges end.

use alloc::vec::Vec;

use crate::bytes::{array_at, u16_at, u32_at};

const GROUP: usize = Index::GROUP;
const GROUP_BYTES: usize = 4 + 2 * GROUP;
/// The bit of a chunk's u16 that says whether a range continues into it.
const GOES_ON: u16 = 0x8000;
/// The most units between the start of a group and the start of a chunk in it.
pub(super) const MOST_UNITS: usize = 0x7fff;

#[derive(Clone, Copy, Debug)]
pub(super) struct Index {
    /// Where the index starts, in bytes from the start of the table.
    start: usize,
    bits: u32,
}

/// Where the edges of a chunk are, in units of one edge from the first.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) goes_on: bool,
}

impl Index {
    /// Chunks in a group.
    pub(super) const GROUP: usize = 16;

    /// The index at offset `start` of the table; `None` unless `bits` is 4 to 17.
    pub(super) fn new(start: usize, bits: u32) -> Option<Self> {
        (4..=super::FINE).contains(&bits).then_some(Self { start, bits })
    }

    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.bits
    }

    pub(super) fn chunks(self) -> usize {
        1 << self.bits
    }

    /// The size of an index of `bits`, in bytes.
    pub(super) const fn bytes(bits: u32) -> usize {
        (1 << bits) / GROUP * GROUP_BYTES + 4
    }

    /// Where the index ends and the edges start.
    pub(super) fn end(self) -> usize {
        self.start + Self::bytes(self.bits)
    }

    /// The total number of units.
    pub(super) fn units(self, table: &[u8]) -> Option<u32> {
        u32_at(table, self.end() - 4)
    }

    #[inline]
    pub(super) fn extent(self, table: &[u8], chunk: usize) -> Option<Extent> {
        let (group, place) = (chunk / GROUP, chunk % GROUP);
        let group: &[u8; GROUP_BYTES + 4] = array_at(table, self.start + group * GROUP_BYTES)?;
        let base = u32_at(group, 0)?;
        let (here, next) = (u16_at(group, 4 + 2 * place)?, u16_at(group, 6 + 2 * place)?);
        // After the last chunk of a group comes the u32 of the next group, and `next` is its low 16 bits. This is not a
        // branch, since one chunk in sixteen would be mispredicted.
        let last = u16::from(place == GROUP - 1);
        let end = next.wrapping_sub(base as u16 & last.wrapping_neg()) & (!GOES_ON | last << 15);
        let start = here & !GOES_ON;
        let len = end.checked_sub(start)?.into();
        Some(Extent { start: base as usize + usize::from(start), len, goes_on: here & GOES_ON != 0 })
    }

    /// Whether the starts ascend from zero, and each group has at most 65535 units, as [`Self::extent`] assumes. `None`
    /// if the table ends early.
    pub(super) fn is_in_order(self, table: &[u8]) -> Option<bool> {
        let index = table.get(self.start..self.end())?;
        if u32_at(index, 0)? != 0 {
            return Some(false);
        }
        for group in (0..index.len() - 4).step_by(GROUP_BYTES) {
            let (base, next_base) = (u32_at(index, group)?, u32_at(index, group + GROUP_BYTES)?);
            let starts = array_at::<{ 2 * GROUP }>(index, group + 4)?.as_chunks().0;
            let mut starts = starts.iter().map(|&start| u16::from_le_bytes(start) & !GOES_ON);
            let in_group = next_base.checked_sub(base).and_then(|units| u16::try_from(units).ok());
            if !starts.clone().is_sorted() || starts.next() != Some(0) || in_group < starts.next_back() {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Whether a range continues past `chunk`, into the next one.
    pub(super) fn goes_on_after(self, table: &[u8], chunk: usize) -> Option<bool> {
        if chunk + 1 == self.chunks() { Some(false) } else { Some(self.extent(table, chunk + 1)?.goes_on) }
    }

    /// Appends the index of `chunks`: the size of each in units, and whether a range continues into it.
    pub(super) fn write(chunks: impl Iterator<Item = (usize, bool)>, out: &mut Vec<u8>) {
        let (mut start, mut base) = (0_u32, 0_u32);
        for (chunk, (units, goes_on)) in chunks.enumerate() {
            if chunk % GROUP == 0 {
                base = start;
                out.extend_from_slice(&base.to_le_bytes());
            }
            let offset = (start - base) as u16;
            out.extend_from_slice(&(if goes_on { offset | GOES_ON } else { offset }).to_le_bytes());
            start += units as u32;
        }
        out.extend_from_slice(&start.to_le_bytes());
    }
}
