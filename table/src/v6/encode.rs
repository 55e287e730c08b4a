//! Writes the IPv6 section of a table.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::leaf::{BEGINS, ENDS};
use super::node::{COLUMNS_SHIFT, GOES_ON, IS_NODE, MOST_BITS, MOST_INDEX_BITS};
use super::{UNIT, low_ones, upper_half};
use crate::AddressRange;
use crate::columns::{self, OVERREAD};

/// The fewest ranges per chunk, on average; the most is twice that. At this size nearly all chunks need one comparison.
const RANGES: usize = 4;
/// The most entries of a chunk before it gets a nested index, if it can have one.
const MOST_ENTRIES: usize = 32;

/// Collects sorted ranges, and writes the section that holds them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    ranges: Vec<AddressRange<Ipv6Addr>>,
}

/// The chunks take more bytes than an index can address.
#[derive(Debug)]
pub(crate) struct TooLarge;

/// A range, or only one edge of it if the other one is in another chunk.
#[derive(Clone, Copy, Debug)]
struct Piece {
    first: Option<u128>,
    last: Option<u128>,
}

/// An entry: an address, and its kind as in the format.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u128,
    kind: u8,
}

impl Encoder {
    #[inline]
    pub(crate) fn push(&mut self, range: AddressRange<Ipv6Addr>) {
        self.ranges.push(range);
    }

    /// Appends the section, or nothing if there are no ranges.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let piece = |range: &AddressRange<Ipv6Addr>| Piece {
            first: Some(range.first().to_bits()),
            last: Some(range.last().to_bits()),
        };
        let (Some(first), Some(last)) = (self.ranges.first().map(piece), self.ranges.last().map(piece)) else {
            return Ok(());
        };
        let shape = Shape::new(self.ranges.len(), first, last, 0);
        shape.write(&mut self.ranges.iter().map(piece), false, out)?;
        out.extend_from_slice(&[0; OVERREAD]);
        Ok(())
    }
}

impl Piece {
    fn edges(self) -> impl DoubleEndedIterator<Item = u128> {
        self.first.into_iter().chain(self.last)
    }

    /// The entries for this piece in a chunk whose addresses share `depth` bits.
    fn entries(self, depth: u32) -> impl Iterator<Item = Entry> {
        let entry = |address, kind| Some(Entry { address, kind });
        let prefix = self.first.zip(self.last).and_then(|(first, last)| prefix_length(first, last));
        let entries = match (prefix.and_then(|length| length.checked_sub(depth)), self.first, self.last) {
            (Some(length), Some(first), _) => [entry(first, length as u8), None],
            (_, first, last) => [first.and_then(|first| entry(first, BEGINS)), last.and_then(|last| entry(last, ENDS))],
        };
        entries.into_iter().flatten()
    }
}

/// How the index of a node is laid out.
struct Shape {
    shared_bits: u32,
    index_bits: u32,
    /// The first edge in the node.
    first: u128,
}

impl Shape {
    /// For `pieces` pieces, from `first` to `last`, whose addresses share `depth` bits.
    fn new(pieces: usize, first: Piece, last: Piece, depth: u32) -> Self {
        let (first, last) = (first.edges().next().unwrap_or(0), last.edges().next_back().unwrap_or(0));
        let index_bits = (pieces / RANGES).max(2).ilog2().min(MOST_INDEX_BITS).min(MOST_BITS - depth);
        Self { shared_bits: (first ^ last).leading_zeros().min(MOST_BITS - index_bits), index_bits, first }
    }

    /// Appends the node: its index, then its chunks. `goes_on` says whether a range continues into the first chunk.
    fn write(
        &self,
        pieces: &mut dyn Iterator<Item = Piece>,
        mut goes_on: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let depth = self.shared_bits + self.index_bits;
        out.extend_from_slice(&[self.shared_bits as u8, self.index_bits as u8]);
        out.extend_from_slice(&upper_half(self.first & !low_ones(self.shared_bits)).to_le_bytes());
        let index = out.len();
        out.resize(index + (4 << self.index_bits) + 4, 0);
        let chunks = out.len();
        let set_entry = |out: &mut Vec<u8>, chunk: usize, start: usize, flags: u32| {
            let start = u32::try_from((start - chunks) / UNIT).ok().filter(|&start| start < IS_NODE).ok_or(TooLarge)?;
            if let Some(place) = out.get_mut(index + 4 * chunk..index + 4 * chunk + 4) {
                place.copy_from_slice(&(start | flags).to_le_bytes());
            }
            Ok(())
        };
        let flag = |goes_on| if goes_on { GOES_ON } else { 0 };
        let chunk_of = |address: u128| (address << self.shared_bits >> (128 - self.index_bits)) as usize;
        let (mut pending, mut here) = (None, Vec::new());
        for chunk in 0..1 << self.index_bits {
            here.clear();
            while let Some(piece) = pending.take().or_else(|| pieces.next()) {
                let Piece { first, last } = piece;
                if piece.edges().next().map(chunk_of) != Some(chunk) {
                    pending = Some(piece);
                    break;
                }
                if first.is_some() && last.is_some_and(|last| chunk_of(last) != chunk) {
                    here.push(Piece { first, last: None });
                    pending = Some(Piece { first: None, last });
                } else {
                    here.push(piece);
                }
            }
            let start = out.len();
            let kind = write_chunk(&here, depth, goes_on, out)?;
            set_entry(out, chunk, start, kind | flag(goes_on))?;
            goes_on = here.last().map_or(goes_on, |piece| piece.last.is_none());
        }
        set_entry(out, 1 << self.index_bits, out.len(), flag(goes_on))
    }
}

/// Appends a chunk whose addresses share `depth` bits, and returns the bits for its kind in the index.
fn write_chunk(pieces: &[Piece], depth: u32, goes_on: bool, out: &mut Vec<u8>) -> Result<u32, TooLarge> {
    let entries: Vec<Entry> = pieces.iter().flat_map(|piece| piece.entries(depth)).collect();
    if let ([first, .., last], true) = (pieces, entries.len() > MOST_ENTRIES && depth < MOST_BITS) {
        Shape::new(pieces.len(), *first, *last, depth).write(&mut pieces.iter().copied(), goes_on, out)?;
        return Ok(IS_NODE);
    }
    let columns = column_count(&entries, depth);
    let start = out.len();
    columns::write(entries.iter().map(|entry| entry.address << depth), 2 * columns as usize, out);
    out.extend(entries.iter().map(|entry| entry.kind));
    out.resize(start + (out.len() - start).next_multiple_of(UNIT), 0);
    Ok((columns - 1) << COLUMNS_SHIFT)
}

/// The length of the CIDR prefix that spans exactly `first` to `last`, if there is one.
fn prefix_length(first: u128, last: u128) -> Option<u32> {
    let length = (first ^ last).leading_zeros();
    (first & low_ones(length) == 0 && last & low_ones(length) == low_ones(length)).then_some(length)
}

/// How many columns of 16 bits a chunk must store. The bits that it leaves out must all be zeros, or ones for an entry
/// that ends a range. One column if there are no entries.
fn column_count(entries: &[Entry], depth: u32) -> u32 {
    let bits = |entry: &Entry| match entry.kind {
        BEGINS => 128 - entry.address.trailing_zeros(),
        ENDS => 128 - entry.address.trailing_ones(),
        length => depth + u32::from(length),
    };
    entries.iter().map(|entry| bits(entry).saturating_sub(depth)).max().unwrap_or(0).div_ceil(16).max(1)
}
