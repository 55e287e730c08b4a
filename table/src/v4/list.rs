//! Chunks of 2^15 addresses with few edges. Each edge is a u16: its position, and the flag as the lowest bit.

use alloc::vec::Vec;
use core::hint::select_unpredictable;

use crate::bytes::{array_at, u16_at};
use crate::simd::{self, LANES, above_u16};

/// The most edges of a list. From there on [`super::dense::Split`] is smaller.
pub(super) const MOST_EDGES: usize = 32;

/// Whether `position` is in a range, by the list of `len` edges at offset `edges` of the table.
#[inline]
pub(super) fn contains(table: &[u8], edges: usize, len: usize, position: u16, goes_on: bool) -> Option<bool> {
    let key = position << 1 | 1;
    let mut rank = simd::rank(above_u16(array_at(table, edges)?, key), len);
    if rank == LANES {
        rank += simd::rank(above_u16(array_at(table, edges + 2 * LANES)?, key), len - LANES);
    }
    // No branch, which would be mispredicted. If no edge is at most the key, this reads other bytes, and ignores them.
    let edge = u16_at(table, edges + 2 * rank - 2)?;
    let is_in = (edge & 1 == 1) | (edge | 1 == key);
    Some(select_unpredictable(rank == 0, goes_on, is_in))
}

/// Passes on each edge of a list: its position, and whether it begins a range.
#[inline]
pub(super) fn read(edges: &[u8], mut edge: impl FnMut(u32, bool)) {
    for &bits in edges.as_chunks().0 {
        let bits = u16::from_le_bytes(bits);
        edge((bits >> 1).into(), bits & 1 == 1);
    }
}

pub(super) fn write(edges: impl Iterator<Item = (u16, bool)>, out: &mut Vec<u8>) {
    for (position, begins) in edges {
        out.extend_from_slice(&(position << 1 | u16::from(begins)).to_le_bytes());
    }
}
