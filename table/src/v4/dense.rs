//! Chunks of 2^15 addresses with many edges: split into sixteen groups, or a bitmap.

use alloc::vec::Vec;
use core::hint::select_unpredictable;

use super::list;
use crate::bytes::{array_at, u16_at};
use crate::section::Side;
use crate::simd::{self, LANES, above_u8, equal_u8};

/// Units of two bytes in a bitmap, which has a bit for each address.
pub(super) const BITMAP_UNITS: usize = 2048;
const BITMAP_BYTES: usize = 2 * BITMAP_UNITS;

/// Groups in a split chunk, of 2^11 addresses each.
const GROUPS: usize = 16;
/// The most edges of a split chunk whose counts take one byte each.
const NARROW_EDGES: usize = u8::MAX as usize;

/// A chunk whose edges are split into parts. The first four of the 15 bits of a position are its group. They are not
/// stored with each edge: the chunk starts with how many edges there are up to the end of each group. The next four
/// bits are half a byte for each edge, and the last seven bits and the flag are a byte for each edge.
#[derive(Clone, Copy)]
pub(super) struct Split<'a> {
    /// How many edges there are up to the end of each group: u8 if `narrow`, else u16.
    ends: &'a [u8],
    narrow: bool,
    len: usize,
    /// Half a byte for each edge, and whatever follows.
    nibbles: &'a [u8],
    /// A byte for each edge, and whatever follows.
    bytes: &'a [u8],
}

impl<'a> Split<'a> {
    /// The split chunk of `units` at the start of `chunk`; `None` if `chunk` ends early.
    #[inline]
    pub(super) fn new(chunk: &'a [u8], units: usize) -> Option<Self> {
        let narrow = units <= split_bytes(NARROW_EDGES) / 2;
        let (counts, len) = if narrow {
            (GROUPS, usize::from(*chunk.get(GROUPS - 1)?))
        } else {
            (2 * GROUPS, usize::from(u16_at(chunk, 2 * GROUPS - 2)?))
        };
        let nibbles = chunk.get(counts..)?;
        Some(Self { ends: chunk, narrow, len, nibbles, bytes: nibbles.get(len.div_ceil(2)..)? })
    }

    /// How many edges there are up to the end of `group`.
    #[inline]
    fn end(self, group: usize) -> Option<usize> {
        if self.narrow {
            self.ends.get(group).copied().map(usize::from)
        } else {
            u16_at(self.ends, 2 * group).map(usize::from)
        }
    }

    #[inline]
    fn nibble(self, index: usize) -> Option<u8> {
        Some(self.nibbles.get(index / 2)? >> (index % 2 * 4) & 0xf)
    }

    /// The edge at `index`, which is in `group`: its position, and whether it begins a range.
    #[inline]
    fn edge(self, group: usize, index: usize) -> Option<(u32, bool)> {
        let (&byte, nibble) = (self.bytes.get(index)?, self.nibble(index)?);
        Some(((group as u32) << 11 | u32::from(nibble) << 7 | u32::from(byte >> 1), byte & 1 == 1))
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    /// The position of the edge at `index`.
    pub(super) fn position(self, index: usize) -> Option<u32> {
        let group = Side::After.nearest(0..GROUPS, &|group| Some(self.end(group)? <= index))?;
        self.edge(group, index).map(|(position, _)| position)
    }

    #[inline]
    pub(super) fn contains(self, position: u16, goes_on: bool) -> Option<bool> {
        let [byte, nibble] = (position << 1 | 1).to_le_bytes();
        let (group, nibble) = (usize::from(nibble >> 4), nibble & 0xf);
        let start = select_unpredictable(group == 0, 0, self.end(group.saturating_sub(1))?);
        let end = self.end(group)?;
        // Starts at a whole byte of half bytes. If that is one edge too early, that edge is skipped.
        let mut at = start & !1;
        let mut skipped = (start & 1) as u32;
        let rank = loop {
            let nibbles = simd::nibbles(array_at(self.nibbles, at / 2)?);
            let bytes = above_u8(array_at(self.bytes, at)?, byte);
            let above = above_u8(&nibbles, nibble) | equal_u8(&nibbles, nibble) & bytes;
            let here = simd::rank(above & !skipped, end.saturating_sub(at));
            at += here;
            if here < LANES {
                break at;
            }
            skipped = 0;
        };
        let Some(last) = rank.checked_sub(1) else { return Some(goes_on) };
        let &edge = self.bytes.get(last)?;
        Some((edge & 1 == 1) | (last >= start) & (edge | 1 == byte) & (self.nibble(last)? == nibble))
    }

    /// Checks the chunk of `units`, and passes on each edge: its position, and whether it begins a range.
    pub(super) fn read(self, units: usize, mut edge: impl FnMut(u32, bool)) -> Result<(), &'static str> {
        const OUTSIDE: &str = "a split chunk extends past the end of the table";
        if self.len <= list::MOST_EDGES || 2 * units != split_bytes(self.len) {
            return Err("the length of a split chunk does not match its number of edges");
        }
        let mut start = 0;
        for group in 0..GROUPS {
            let end = self.end(group).ok_or(OUTSIDE)?;
            if end < start {
                return Err("the edge counts of a split chunk do not ascend");
            }
            for index in start..end {
                let (position, begins) = self.edge(group, index).ok_or(OUTSIDE)?;
                edge(position, begins);
            }
            start = end;
        }
        let odd = self.len % 2 == 1;
        let padding = split_bytes(self.len) - counts_bytes(self.len) - self.len.div_ceil(2);
        let spare = self.bytes.get(self.len..padding).ok_or(OUTSIDE)?;
        if odd && self.nibble(self.len) != Some(0) || spare.iter().any(|&byte| byte != 0) {
            return Err("the padding of a split chunk is not zero");
        }
        Ok(())
    }
}

const fn counts_bytes(edges: usize) -> usize {
    if edges <= NARROW_EDGES { GROUPS } else { 2 * GROUPS }
}

/// Bytes of a split chunk, rounded up to whole units.
const fn split_bytes(edges: usize) -> usize {
    2 * (counts_bytes(edges) + edges.div_ceil(2) + edges).div_ceil(2)
}

/// Units of a chunk with too many edges for a list: those of a split chunk or of a bitmap, whichever is smaller.
pub(super) const fn units(edges: usize) -> usize {
    let split = split_bytes(edges) / 2;
    if split < BITMAP_UNITS { split } else { BITMAP_UNITS }
}

/// Appends a chunk of [`units`] with these edges (positions and flags). `goes_on` says if a range continues into it.
pub(super) fn write(edges: impl ExactSizeIterator<Item = (u16, bool)> + Clone, goes_on: bool, out: &mut Vec<u8>) {
    if units(edges.len()) == BITMAP_UNITS { write_bitmap(edges, goes_on, out) } else { write_split(edges, out) }
}

fn write_split(edges: impl ExactSizeIterator<Item = (u16, bool)> + Clone, out: &mut Vec<u8>) {
    let (start, len) = (out.len(), edges.len());
    let mut counts = [0_u16; GROUPS];
    for (position, _) in edges.clone() {
        if let Some(count) = counts.get_mut(usize::from(position >> 11)) {
            *count += 1;
        }
    }
    let mut end = 0;
    for count in counts {
        end += count;
        let [low, high] = u16::to_le_bytes(end);
        out.push(low);
        if len > NARROW_EDGES {
            out.push(high);
        }
    }
    let mut nibbles = edges.clone().map(|(position, _)| (position >> 7 & 0xf) as u8);
    while let Some(low) = nibbles.next() {
        out.push(low | nibbles.next().unwrap_or(0) << 4);
    }
    out.extend(edges.map(|(position, begins)| (position << 1) as u8 | u8::from(begins)));
    out.resize(start + split_bytes(len), 0);
}

#[inline]
pub(super) fn bitmap_contains(bytes: &[u8], position: u16) -> Option<bool> {
    let bitmap: &[u8; BITMAP_BYTES] = array_at(bytes, 0)?;
    Some(bitmap.get(usize::from(position / 8))? >> (position % 8) & 1 == 1)
}

/// The end on this side of the run of ones that `position` is in; `None` if the run continues past the chunk there.
pub(super) fn bitmap_end(
    bitmap: &[u8; BITMAP_BYTES],
    position: u32,
    side: Side,
    goes_on: bool,
    goes_on_after: bool,
) -> Option<u32> {
    let (word, bit) = (position as usize / 64, position % 64);
    // The zeros of a word that has any. In the word of `position`, those on the other side of it are masked out.
    let zeros = |(place, &bytes): (usize, &[u8; 8])| {
        let mask = match side {
            _ if place != word => u64::MAX,
            Side::Before => u64::MAX >> (63 - bit),
            Side::After => u64::MAX << bit,
        };
        Some((64 * place as u32, !u64::from_le_bytes(bytes) & mask)).filter(|&(_, zeros)| zeros != 0)
    };
    let words = bitmap.as_chunks().0.iter().enumerate();
    match side {
        Side::Before => match words.take(word + 1).rev().find_map(zeros) {
            Some((start, zeros)) => Some(start + 64 - zeros.leading_zeros()),
            None => (!goes_on).then_some(0),
        },
        Side::After => match words.skip(word).find_map(zeros) {
            Some((start, zeros)) => (start + zeros.trailing_zeros()).checked_sub(1),
            None => (!goes_on_after).then_some(8 * BITMAP_BYTES as u32 - 1),
        },
    }
}

/// Passes on each edge of a bitmap: the ends of its runs of ones, except where a range continues past the chunk.
pub(super) fn read_bitmap(
    bitmap: &[u8; BITMAP_BYTES],
    goes_on: bool,
    goes_on_after: bool,
    mut edge: impl FnMut(u32, bool),
) -> Result<(), &'static str> {
    let is_set = |position: u32| bitmap.get(position as usize / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1);
    let last = 8 * BITMAP_BYTES as u32 - 1;
    if goes_on && !is_set(0) || goes_on_after && !is_set(last) {
        return Err("a range continues across an end of a bitmap, but the bit there is not set");
    }
    let words = bitmap.as_chunks().0.iter().copied().map(u64::from_le_bytes);
    // The bit before the current word. A range that continues into the chunk has no first edge here.
    let mut before = goes_on;
    let mut begun = None;
    for (word, start) in words.zip((0_u32..).step_by(64)) {
        // Bits that differ from the one before: runs of ones begin and end there.
        let mut changes = word ^ (word << 1 | u64::from(before));
        before = word >> 63 == 1;
        while changes != 0 {
            let at = start + changes.trailing_zeros();
            changes &= changes - 1;
            if word >> (at - start) & 1 == 1 {
                begun = Some(at);
            } else {
                run(begun.take(), at - 1, &mut edge);
            }
        }
    }
    match (before, goes_on_after) {
        (true, false) => run(begun, last, &mut edge),
        (true, true) => {
            if let Some(first) = begun {
                edge(first, true);
            }
        }
        (false, _) => {}
    }
    Ok(())
}

/// Passes on the edges of a run of ones; `first` is `None` if the run continues from before the chunk.
fn run(first: Option<u32>, last: u32, edge: &mut impl FnMut(u32, bool)) {
    if let Some(first) = first.filter(|&first| first < last) {
        edge(first, true);
    }
    edge(last, false);
}

fn write_bitmap(edges: impl Iterator<Item = (u16, bool)>, goes_on: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + BITMAP_BYTES, 0);
    let Some(bitmap) = out.get_mut(start..) else { return };
    let mut set = |first: u16, last: u16| {
        for position in first..=last {
            if let Some(byte) = bitmap.get_mut(usize::from(position / 8)) {
                *byte |= 1 << (position % 8);
            }
        }
    };
    let mut begun = goes_on.then_some(0);
    for (position, begins) in edges {
        if begins {
            begun = Some(position);
        } else {
            set(begun.take().unwrap_or(position), position);
        }
    }
    if let Some(first) = begun {
        set(first, 0x7fff);
    }
}
