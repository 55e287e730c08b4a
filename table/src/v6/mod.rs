//! The IPv6 ranges of a table: an index on the bits behind those that all ranges share, and behind it the entries of each
//! chunk of addresses.
//!
//! Most IPv6 ranges are CIDR prefixes, and such a range is one entry: its first address, and how many bits of it count. Any
//! other range is two entries: where it begins and where it ends. Each chunk keeps as many bits of its addresses as it
//! needs: 48 or fewer of a chunk of /64s in a large table, all of them where there are single addresses.

#![allow(
    clippy::cast_possible_truncation,
    reason = "a layout of bits: a cast keeps the bits that are asked for, or a number that the format keeps small"
)]

mod encode;

use std::hint::select_unpredictable;
use std::net::Ipv6Addr;
use std::ops::{BitXor, Range};

use crate::bytes::{array_at, u32_at};
use crate::columns::{Columns, Position};
use crate::section;

pub(crate) use encode::Encoder;

/// Where in the section the prefix starts that all ranges share: behind the two bytes that count bits.
const PREFIX: usize = 2;
/// Where in the section the index starts.
const INDEX: usize = PREFIX + 8;
/// The most bits of the shared prefix and the index together: they lie in the upper half of the address.
const MOST_BITS: u32 = 63;
/// The most bits of the index.
const MOST_INDEX_BITS: u32 = 20;
/// The bits of an index entry: where the chunk starts in units, how many columns of 16 bits its positions have less one,
/// and whether a range goes on into it from before.
const START_BITS: u32 = 28;
const COLUMNS_SHIFT: u32 = START_BITS;
const GOES_ON: u32 = 1 << 31;
/// Chunks start at a multiple of this many bytes.
const UNIT: usize = 2;
/// The kind of an entry that begins a range; less is a prefix, of which so many bits count behind those of the index.
const BEGINS: u8 = 0xfe;
/// The kind of an entry that ends a range.
const ENDS: u8 = 0xff;
const OUTSIDE: &str = "it reaches over the end of the table";

/// Where the parts of a section lie, in bytes from the table's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    shared_bits: u32,
    index_bits: u32,
    /// The upper half of an address, zeros behind the shared bits.
    prefix: u64,
    index: usize,
    chunks: usize,
}

/// Where a chunk is, in bytes from the table's start.
#[derive(Clone, Copy)]
struct Extent {
    start: usize,
    len: usize,
    /// Of 16 bits, 1 to 8.
    columns: usize,
    goes_on: bool,
}

/// The entries of a chunk.
#[derive(Clone, Copy)]
struct Entries<'a> {
    positions: Columns<'a>,
    kinds: &'a [u8],
    len: usize,
    /// Bits of each position.
    bits: u32,
}

impl section::Layout for Layout {
    type Address = Ipv6Addr;
    type Bits = u128;
    const FAMILY: &'static str = "IPv6";

    fn open(table: &[u8], bytes: Range<usize>) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends within its index";
        let &[shared_bits, index_bits] = array_at(table, bytes.start).ok_or(SHORT)?;
        let (shared_bits, index_bits) = (u32::from(shared_bits), u32::from(index_bits));
        if !(1..=MOST_INDEX_BITS).contains(&index_bits) || shared_bits + index_bits > MOST_BITS {
            return Err("its index is not of 1 to 20 bits, or is behind the upper half of the address");
        }
        let prefix = array_at(table, bytes.start + PREFIX).copied().map(u64::from_le_bytes).ok_or(SHORT)?;
        if prefix << shared_bits != 0 {
            return Err("the prefix that its ranges share has bits behind its length");
        }
        let index = bytes.start + INDEX;
        let chunks = index + (4 << index_bits) + 4;
        let end = u64::from(u32_at(table, chunks - 4).ok_or(SHORT)?) * UNIT as u64;
        section::check_end(table, &bytes, chunks as u64 + end)?;
        Ok(Self { shared_bits, index_bits, prefix, index, chunks })
    }

    fn chunks(&self) -> usize {
        1 << self.index_bits
    }

    fn chunk_of(&self, address: u128) -> usize {
        self.index_of(upper_half(address))
    }

    #[inline]
    fn contains(&self, table: &[u8], address: u128) -> Option<bool> {
        let upper = upper_half(address);
        if !self.shares_prefix(upper) {
            return Some(false);
        }
        let extent = self.extent(table, self.index_of(upper))?;
        let position = self.position(address);
        // Half an address is enough for networks of up to /64, whatever the index leaves of it; and a loop over a number of
        // columns that the compiler knows is none. Together that is three times as fast.
        let upper = upper_half(position);
        match extent.columns {
            1 => Entries::new(table, extent, 1)?.contains(upper, extent.goes_on, u64::leading_zeros),
            2 => Entries::new(table, extent, 2)?.contains(upper, extent.goes_on, u64::leading_zeros),
            3 => Entries::new(table, extent, 3)?.contains(upper, extent.goes_on, u64::leading_zeros),
            4 => Entries::new(table, extent, 4)?.contains(upper, extent.goes_on, u64::leading_zeros),
            columns => Entries::new(table, extent, columns)?.contains(position, extent.goes_on, u128::leading_zeros),
        }
    }

    fn goes_on(&self, table: &[u8], chunk: usize) -> Option<bool> {
        Some(self.extent(table, chunk)?.goes_on)
    }

    fn edges(&self, table: &[u8], chunk: usize, mut sink: impl FnMut(u128, bool)) -> Result<(), &'static str> {
        let extent = self.extent(table, chunk).ok_or("its end in the index is before its start")?;
        let entries = Entries::new(table, extent, extent.columns).ok_or(OUTSIDE)?;
        let padding = extent.len - entries.len * (2 * extent.columns + 1);
        if padding >= UNIT || padding == 1 && entries.kinds.get(entries.len) != Some(&0) {
            return Err("it is not a whole number of entries, padded with zero to a whole unit");
        }
        let depth = self.depth();
        // In the address of an entry, behind the bits that the chunk keeps.
        let kept = (depth + entries.bits).min(128);
        let first = u128::from(self.prefix) << 64 | (chunk as u128) << (128 - depth);
        let mut begun = extent.goes_on;
        for index in 0..entries.len {
            let position: u128 = entries.positions.get(index).ok_or(OUTSIDE)?;
            if position << (128 - depth) != 0 {
                return Err("an entry has bits behind the end of an address");
            }
            let address = first | position >> depth;
            let kind = *entries.kinds.get(index).ok_or(OUTSIDE)?;
            match (kind, begun) {
                (BEGINS, false) => sink(address, true),
                (ENDS, true) => sink(address | low_ones(kept), false),
                (BEGINS | ENDS, _) => return Err("a range ends that has not begun, or begins inside another"),
                (_, true) => return Err("a prefix is inside a range"),
                (length, false) => {
                    let bits = depth + u32::from(length);
                    if bits > kept || address & low_ones(bits) != 0 {
                        return Err("a prefix has bits behind its length");
                    }
                    if low_ones(bits) != 0 {
                        sink(address, true);
                    }
                    sink(address | low_ones(bits), false);
                }
            }
            begun = kind == BEGINS;
        }
        Ok(())
    }
}

impl Layout {
    /// Bits of an address before those that a chunk keeps.
    #[inline]
    fn depth(&self) -> u32 {
        self.shared_bits + self.index_bits
    }

    #[inline]
    fn shares_prefix(&self, upper: u64) -> bool {
        // In two steps, since all 64 bits may not be shifted out in one.
        (upper ^ self.prefix) >> 1 >> (63 - self.shared_bits) == 0
    }

    #[inline]
    fn index_of(&self, upper: u64) -> usize {
        (upper << self.shared_bits >> (64 - self.index_bits)) as usize
    }

    /// What is behind the index, at the upper end.
    #[inline]
    fn position(&self, address: u128) -> u128 {
        // By halves, since a shift of 128 bits is a call in wasm; the depth is 1 to 63.
        let depth = self.depth();
        let (upper, lower) = (upper_half(address), lower_half(address));
        u128::from(upper << depth | lower >> (64 - depth)) << 64 | u128::from(lower << depth)
    }

    #[inline]
    fn extent(&self, table: &[u8], chunk: usize) -> Option<Extent> {
        let [here, next] = array_at::<8>(table, self.index + 4 * chunk)?.as_chunks().0 else { return None };
        let (here, next) = (u32::from_le_bytes(*here), u32::from_le_bytes(*next));
        let start = |entry: u32| (entry & ((1 << START_BITS) - 1)) as usize * UNIT;
        Some(Extent {
            start: self.chunks + start(here),
            len: start(next).checked_sub(start(here))?,
            columns: (here >> COLUMNS_SHIFT & 7) as usize + 1,
            goes_on: here & GOES_ON != 0,
        })
    }
}

impl<'a> Entries<'a> {
    /// `None` if the bytes end early. `columns` are those of the extent.
    #[inline(always)]
    fn new(table: &'a [u8], extent: Extent, columns: usize) -> Option<Self> {
        // In u32, of which a division is faster. What remains is the padding to a unit.
        let len = (extent.len as u32 / (2 * columns as u32 + 1)) as usize;
        let bytes = table.get(extent.start..)?;
        let positions = Columns::new(bytes, 2 * columns, len);
        Some(Self { positions, kinds: bytes.get(2 * columns * len..)?, len, bits: 16 * columns as u32 })
    }

    /// Whether `position`, which has all the columns of the chunk, is in a range.
    #[inline(always)]
    fn contains<P: Position + BitXor<Output = P>>(
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
}

#[inline]
fn upper_half(address: u128) -> u64 {
    (address >> 64) as u64
}

#[inline]
fn lower_half(address: u128) -> u64 {
    address as u64
}

/// Ones behind the first `bits` bits of an address.
fn low_ones(bits: u32) -> u128 {
    u128::MAX.checked_shr(bits).unwrap_or(0)
}
