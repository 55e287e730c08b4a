//! The IPv4 section of a table: an index on the top bits of an address, then the edges of each chunk.
//!
//! A range is stored as its edges: its first address with the flag "begins", and its last without it. A single address
//! is one edge without the flag. A lookup finds the greatest edge that is at most the address. The address is in a
//! range if that edge begins one, or is the address itself. If its chunk has no such edge, a bit of the index says
//! whether a range continues into the chunk from before it.

#![allow(
    clippy::cast_possible_truncation,
    reason = "bit layouts: a cast keeps the bits that are wanted, or a number that the format keeps small"
)]

mod dense;
mod encode;
mod index;
mod list;

use core::net::Ipv4Addr;
use core::ops::{ControlFlow, Range};

use crate::bytes::array_at;
use crate::columns::Columns;
use crate::section::{self, Side};

pub(crate) use encode::Encoder;
use index::{Extent, Index};

/// The index bits that leave 15 bits for a position in its chunk, so that an edge with its flag is two bytes.
const FINE: u32 = 17;
const OUTSIDE: &str = "it extends past the end of the table";

/// Where the parts of a section are, in bytes from the start of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    index: Index,
    edges: usize,
}

impl section::Layout for Layout {
    type Address = Ipv4Addr;
    type Bits = u32;
    const FAMILY: &'static str = "IPv4";

    fn open(table: &[u8], bytes: Range<usize>) -> Result<Self, &'static str> {
        let &bits = table.get(bytes.start).ok_or(OUTSIDE)?;
        let index = Index::new(bytes.start + 1, bits.into()).ok_or("its index must have 4 to 17 bits")?;
        let edges = index.end();
        let units = index.units(table).ok_or("it ends inside its index")?;
        section::check_end(table, &bytes, edges as u64 + u64::from(units) * width(bits.into()) as u64)?;
        if index.is_in_order(table) != Some(true) {
            return Err("the offsets in its index do not ascend from zero");
        }
        Ok(Self { index, edges })
    }

    fn chunks(&self) -> usize {
        self.index.chunks()
    }

    #[inline]
    fn contains(&self, table: &[u8], address: u32) -> Option<bool> {
        match self.index.bits() {
            FINE => self.contains_fine(table, address),
            9.. => self.contains_coarse::<3>(table, address),
            _ => self.contains_coarse::<4>(table, address),
        }
    }

    #[inline(never)]
    fn edge(&self, table: &[u8], address: u32, side: Side) -> Option<ControlFlow<u32, u32>> {
        let chunk = self.chunk_of(address);
        let ends = |chunk: usize| {
            let first = (chunk as u32) << (32 - self.index.bits());
            (first, first | u32::MAX >> self.index.bits())
        };
        let (first, _) = ends(chunk);
        if let Some(position) = self.position(table, chunk, address ^ first, side) {
            return Some(ControlFlow::Break(first | position));
        }
        let extent = |chunk| self.index.extent(table, chunk).map(|Extent { start, len, .. }| start..start + len);
        let next = side.next_chunk(chunk, self.index.chunks(), &extent)?;
        Some(ControlFlow::Continue(side.near(ends(next))))
    }

    fn goes_on(&self, table: &[u8], chunk: usize) -> Option<bool> {
        Some(self.index.extent(table, chunk)?.goes_on)
    }

    fn edges(&self, table: &[u8], chunk: usize, mut sink: impl FnMut(u32, bool)) -> Result<(), &'static str> {
        let width = width(self.index.bits());
        let extent = self.index.extent(table, chunk).ok_or(OUTSIDE)?;
        let edges = table.get(self.edges + extent.start * width..).ok_or(OUTSIDE)?;
        let first = (chunk as u32) << (32 - self.index.bits());
        let mut edge = |position: u32, begins: bool| sink(first | position, begins);
        if self.index.bits() == FINE {
            return match extent.len {
                0..=list::MOST_EDGES => {
                    list::read(edges.get(..2 * extent.len).ok_or(OUTSIDE)?, edge);
                    Ok(())
                }
                dense::BITMAP_UNITS => {
                    let goes_on_after = self.index.goes_on_after(table, chunk).ok_or(OUTSIDE)?;
                    dense::read_bitmap(array_at(edges, 0).ok_or(OUTSIDE)?, extent.goes_on, goes_on_after, edge)
                }
                units @ ..dense::BITMAP_UNITS => dense::Split::new(edges, units).ok_or(OUTSIDE)?.read(units, edge),
                _ => Err("it is longer than a bitmap"),
            };
        }
        let columns = Columns::new(edges, width, extent.len);
        let position_bits = 32 - self.index.bits();
        // Bits between the position and the flag, and bits of a u32 that an edge does not use.
        let spare = 8 * width as u32 - position_bits - 1;
        let unused = 32 - 8 * width as u32;
        (0..extent.len).try_for_each(|index| {
            let bits: u32 = columns.get(index).ok_or(OUTSIDE)?;
            let (position, begins) = (bits >> unused >> 1, bits >> unused & 1 == 1);
            if position & ((1 << spare) - 1) != 0 {
                return Err("an edge has bits set between its position and its flag");
            }
            edge(position >> spare, begins);
            Ok(())
        })
    }
}

impl Layout {
    /// The chunk of `address`.
    fn chunk_of(&self, address: u32) -> usize {
        (address >> (32 - self.index.bits())) as usize
    }

    #[inline]
    fn contains_fine(&self, table: &[u8], address: u32) -> Option<bool> {
        let (chunk, position) = (address >> 15, address as u16 & 0x7fff);
        let extent = self.index.extent(table, chunk as usize)?;
        let edges = self.edges + extent.start * width(FINE);
        match extent.len {
            0..=list::MOST_EDGES => list::contains(table, edges, extent.len, position, extent.goes_on),
            dense::BITMAP_UNITS => dense::bitmap_contains(table.get(edges..)?, position),
            units => dense::Split::new(table.get(edges..)?, units)?.contains(position, extent.goes_on),
        }
    }

    #[inline]
    fn contains_coarse<const WIDTH: usize>(&self, table: &[u8], address: u32) -> Option<bool> {
        let extent = self.index.extent(table, self.chunk_of(address))?;
        let columns = Columns::new(table.get(self.edges + extent.start * WIDTH..)?, WIDTH, extent.len);
        let begins = 1 << (32 - 8 * WIDTH);
        let key = address << self.index.bits() | begins;
        let Some(last) = columns.rank(key)?.checked_sub(1) else { return Some(extent.goes_on) };
        let edge: u32 = columns.get(last)?;
        Some((edge & begins != 0) | (edge | begins == key))
    }

    /// The position of the edge of `chunk` at `position`, or nearest to it on this side; `None` if there is none.
    fn position(&self, table: &[u8], chunk: usize, position: u32, side: Side) -> Option<u32> {
        let (bits, width) = (self.index.bits(), width(self.index.bits()));
        let extent = self.index.extent(table, chunk)?;
        let edges = table.get(self.edges + extent.start * width..)?;
        let nearest = |len, position_at: &dyn Fn(usize) -> Option<u32>| {
            let is_passed =
                |place| position_at(place).map(|edge| edge < position || edge == position && side == Side::Before);
            position_at(side.nearest(0..len, &is_passed)?)
        };
        match extent.len {
            dense::BITMAP_UNITS if bits == FINE => {
                let goes_on_after = self.index.goes_on_after(table, chunk)?;
                dense::bitmap_end(array_at(edges, 0)?, position, side, extent.goes_on, goes_on_after)
            }
            units if bits == FINE && units > list::MOST_EDGES => {
                let split = dense::Split::new(edges, units)?;
                nearest(split.len(), &|place| split.position(place))
            }
            // A list is a single column.
            len => {
                let columns = Columns::new(edges, width, len);
                nearest(len, &|place| columns.get(place).map(|edge: u32| edge >> bits))
            }
        }
    }
}

/// Bytes of an edge: the address bits that the index does not cover, and the flag.
const fn width(index_bits: u32) -> usize {
    (32 - index_bits + 1).div_ceil(8) as usize
}
