//! The index of the IPv4 ranges: by the top bits of an address, where the edges of its chunk are.
//!
//! Chunks are counted in groups of sixteen: a u32 says where the edges of the group start, and a u16 for each chunk how far
//! behind it its own start, in units of one edge. The u16's top bit says whether a range goes on into the chunk. A last u32
//! says where the edges end.

use alloc::vec::Vec;

use crate::bytes::{array_at, u16_at, u32_at};

const GROUP: usize = Index::GROUP;
const GROUP_BYTES: usize = 4 + 2 * GROUP;
/// The bit of a chunk that says whether a range goes on into it.
const GOES_ON: u16 = 0x8000;
/// The most units between the starts of a group and of a chunk in it.
pub(super) const MOST_UNITS: usize = 0x7fff;

#[derive(Clone, Copy, Debug)]
pub(super) struct Index {
    /// Where it starts, in bytes from the table's start.
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
    /// Chunks of a group.
    pub(super) const GROUP: usize = 16;

    /// An index that starts at `start` of the table; `None` if `bits` is not one of 4 to 17.
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

    /// Bytes of an index of `bits`.
    pub(super) const fn bytes(bits: u32) -> usize {
        (1 << bits) / GROUP * GROUP_BYTES + 4
    }

    /// Where it ends, and the edges start.
    pub(super) fn end(self) -> usize {
        self.start + Self::bytes(self.bits)
    }

    /// How many units there are in all.
    pub(super) fn units(self, table: &[u8]) -> Option<u32> {
        u32_at(table, self.end() - 4)
    }

    #[inline]
    pub(super) fn extent(self, table: &[u8], chunk: usize) -> Option<Extent> {
        let (group, place) = (chunk / GROUP, chunk % GROUP);
        let group: &[u8; GROUP_BYTES + 4] = array_at(table, self.start + group * GROUP_BYTES)?;
        let base = u32_at(group, 0)?;
        let (here, next) = (u16_at(group, 4 + 2 * place)?, u16_at(group, 6 + 2 * place)?);
        // Behind the last chunk of a group comes the start of the next group, of which these are the low 16 bits. One chunk
        // in sixteen would be mispredicted, so this is no branch.
        let last = u16::from(place == GROUP - 1);
        let end = next.wrapping_sub(base as u16 & last.wrapping_neg()) & (!GOES_ON | last << 15);
        let start = here & !GOES_ON;
        let len = end.checked_sub(start)?.into();
        Some(Extent { start: base as usize + usize::from(start), len, goes_on: here & GOES_ON != 0 })
    }

    /// Whether the starts rise from zero, and as slowly as [`Self::extent`] relies on. `None` if the table ends early.
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

    /// Whether a range goes on behind `chunk`: into the next one, if there is one.
    pub(super) fn goes_on_after(self, table: &[u8], chunk: usize) -> Option<bool> {
        if chunk + 1 == self.chunks() { Some(false) } else { Some(self.extent(table, chunk + 1)?.goes_on) }
    }

    /// Appends the index of chunks of these sizes, in units, each with whether a range goes on into it.
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
