//! Sorted positions, stored in columns of 16 bits so that one SIMD comparison covers sixteen of them.
//!
//! `n` positions of `width` bytes are `width / 2` columns of `n` little-endian u16, the most significant first. If the
//! width is odd, a last column of `n` bytes follows.

use alloc::vec::Vec;
use core::hint::select_unpredictable;

use crate::bytes::array_at;
use crate::simd::{self, LANES, above_u8, above_u16, equal_u16};

/// How many bytes a search may read past the columns. Their values do not matter.
pub(crate) const OVERREAD: usize = 2 * LANES;

/// A number whose most significant bytes are stored in columns.
pub(crate) trait Position: Copy + Ord {
    const ZERO: Self;

    /// The 16 bits of column `index`. Column 0 is the most significant.
    fn column(self, index: usize) -> u16;

    /// Sets column `index`, which must be zero, to `bits`.
    fn with_column(self, index: usize, bits: u16) -> Self;
}

impl Position for u32 {
    const ZERO: Self = 0;

    #[expect(clippy::cast_possible_truncation, reason = "keeps the 16 bits of the column")]
    #[inline]
    fn column(self, index: usize) -> u16 {
        (self >> (16 - 16 * (index & 1))) as u16
    }

    #[inline]
    fn with_column(self, index: usize, bits: u16) -> Self {
        self | u32::from(bits) << (16 - 16 * (index & 1))
    }
}

impl Position for u64 {
    const ZERO: Self = 0;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "keeps the 16 bits of the column")]
    fn column(self, index: usize) -> u16 {
        (self >> (48 - 16 * (index & 3))) as u16
    }

    #[inline]
    fn with_column(self, index: usize, bits: u16) -> Self {
        self | u64::from(bits) << (48 - 16 * (index & 3))
    }
}

impl Position for u128 {
    const ZERO: Self = 0;

    #[expect(clippy::cast_possible_truncation, reason = "keeps a half, then the 16 bits of the column")]
    #[inline]
    fn column(self, index: usize) -> u16 {
        // In halves: a 128-bit shift is a function call in wasm.
        let half = if index < 4 { (self >> 64) as u64 } else { self as u64 };
        (half >> (48 - 16 * (index & 3))) as u16
    }

    #[inline]
    fn with_column(self, index: usize, bits: u16) -> Self {
        let half = u128::from(u64::from(bits) << (48 - 16 * (index & 3)));
        self | if index < 4 { half << 64 } else { half }
    }
}

/// Sorted positions, stored in columns.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    bytes: &'a [u8],
    width: usize,
    len: usize,
}

impl<'a> Columns<'a> {
    /// `len` positions of `width` bytes at the start of `bytes`. At least [`OVERREAD`] more bytes must follow them.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], width: usize, len: usize) -> Self {
        Self { bytes, width, len }
    }

    /// How many positions are at most `key`, by their first `width` bytes. At most `len`, even on invalid bytes.
    #[inline(always)]
    pub(crate) fn rank<P: Position>(&self, key: P) -> Option<usize> {
        // The rank is in `low..=low + len`. Each step is as random as the addresses looked up, so it must not branch.
        let (mut low, mut len) = (0, self.len);
        while len > LANES {
            let half = len / 2;
            low = select_unpredictable(self.is_at_most(low + half, key)?, low + half, low);
            len -= half;
        }
        // A position is above the key if its first column is, or if that is equal and the rest is above.
        let mut above = 0;
        let wide = self.width / 2;
        if self.width % 2 == 1 {
            let [key, _] = key.column(wide).to_be_bytes();
            above = above_u8(array_at(self.bytes, wide * 2 * self.len + low)?, key);
        }
        for column in (0..wide).rev() {
            let block = array_at(self.bytes, (column * self.len + low) * 2)?;
            let key = key.column(column);
            above = above_u16(block, key) | equal_u16(block, key) & above;
        }
        Some(low + simd::rank(above, len))
    }

    #[inline(always)]
    fn is_at_most<P: Position>(&self, index: usize, key: P) -> Option<bool> {
        let (mut position, mut sought) = (0_u32, 0_u32);
        for column in 0..self.width.div_ceil(2) {
            // The first two columns nearly always decide, and they fit into one comparison.
            if column > 1 && position != sought {
                break;
            }
            let key = key.column(column);
            position = position << 16 | u32::from(self.bits(index, column)?);
            sought = sought << 16 | u32::from(if column == self.width / 2 { key & 0xff00 } else { key });
        }
        Some(position <= sought)
    }

    /// The position at `index`, with zeros after its `width` bytes.
    #[inline(always)]
    pub(crate) fn get<P: Position>(&self, index: usize) -> Option<P> {
        let mut position = P::ZERO;
        for column in 0..self.width.div_ceil(2) {
            position = position.with_column(column, self.bits(index, column)?);
        }
        Some(position)
    }

    #[inline(always)]
    fn bits(&self, index: usize, column: usize) -> Option<u16> {
        let start = column * 2 * self.len;
        if column == self.width / 2 {
            Some(u16::from(*self.bytes.get(start + index)?) << 8)
        } else {
            array_at(self.bytes, start + 2 * index).copied().map(u16::from_le_bytes)
        }
    }
}

/// Appends `positions` in columns, `width` bytes for each position.
pub(crate) fn write<P: Position>(positions: impl Iterator<Item = P> + Clone, width: usize, out: &mut Vec<u8>) {
    for column in 0..width / 2 {
        for position in positions.clone() {
            out.extend_from_slice(&position.column(column).to_le_bytes());
        }
    }
    if width % 2 == 1 {
        out.extend(positions.map(|position| position.column(width / 2).to_be_bytes()[0]));
    }
}
