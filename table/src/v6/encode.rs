//! Writes the IPv6 section of a table.

use std::net::Ipv6Addr;

use super::{BEGINS, COLUMNS_SHIFT, ENDS, GOES_ON, MOST_BITS, MOST_INDEX_BITS, START_BITS, UNIT, low_ones, upper_half};
use crate::AddressRange;
use crate::columns::{self, OVERREAD};

/// The fewest ranges to a chunk, on average; the most is twice as many. So few that nearly all chunks are one comparison.
const RANGES: usize = 4;

/// Gathers sorted ranges, and writes the section that holds them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    ranges: Vec<AddressRange<Ipv6Addr>>,
}

/// An entry: an address and what it tells, as the kind of the format.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u128,
    kind: u8,
}

impl Encoder {
    pub(crate) fn push(&mut self, range: AddressRange<Ipv6Addr>) {
        self.ranges.push(range);
    }

    /// Appends the section; nothing if there are no ranges.
    ///
    /// # Errors
    /// If the chunks take more bytes than the index can count.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let (Some(first), Some(last)) = (self.ranges.first(), self.ranges.last()) else { return Ok(()) };
        let (first, last) = (first.first().to_bits(), last.last().to_bits());
        let index_bits = (self.ranges.len() / RANGES).max(2).ilog2().min(MOST_INDEX_BITS);
        let shared_bits = (first ^ last).leading_zeros().min(MOST_BITS - index_bits);
        let depth = shared_bits + index_bits;

        out.extend_from_slice(&[shared_bits as u8, index_bits as u8]);
        out.extend_from_slice(&upper_half(first & !low_ones(shared_bits)).to_le_bytes());
        let index = out.len();
        out.resize(index + (4 << index_bits) + 4, 0);
        let chunks = out.len();
        let mut rest = Entries { ranges: &self.ranges, depth, end: None };
        let mut goes_on = false;
        let mut entries = Vec::new();
        for chunk in 0..=1_usize << index_bits {
            let start = u32::try_from((out.len() - chunks) / UNIT).ok().filter(|start| start >> START_BITS == 0);
            let start = start.ok_or(TooLarge)?;
            entries.clear();
            let is_here = |address: u128| (address << shared_bits >> (128 - index_bits)) as usize == chunk;
            while let Some(entry) = rest.next_if(is_here) {
                entries.push(entry);
            }
            let columns = column_count(&entries, depth);
            if let Some(place) = out.get_mut(index + 4 * chunk..index + 4 * chunk + 4) {
                let entry = start | (columns - 1) << COLUMNS_SHIFT | if goes_on { GOES_ON } else { 0 };
                place.copy_from_slice(&entry.to_le_bytes());
            }
            goes_on = entries.last().map_or(goes_on, |entry| entry.kind == BEGINS);
            columns::write(entries.iter().map(|entry| entry.address << depth), 2 * columns as usize, out);
            out.extend(entries.iter().map(|entry| entry.kind));
            out.resize(chunks + (out.len() - chunks).next_multiple_of(UNIT), 0);
        }
        out.extend_from_slice(&[0; OVERREAD]);
        Ok(())
    }
}

/// The chunks take more bytes than the index can count.
#[derive(Debug)]
pub(crate) struct TooLarge;

/// The entries of sorted ranges.
struct Entries<'a> {
    ranges: &'a [AddressRange<Ipv6Addr>],
    depth: u32,
    /// The end of a range of which the beginning was given.
    end: Option<u128>,
}

impl Entries<'_> {
    /// The next entry, if there is one and `is_here` holds for its address.
    fn next_if(&mut self, is_here: impl Fn(u128) -> bool) -> Option<Entry> {
        if let Some(address) = self.end.filter(|&end| is_here(end)) {
            self.end = None;
            return Some(Entry { address, kind: ENDS });
        }
        if self.end.is_some() {
            return None;
        }
        let (range, behind) = self.ranges.split_first()?;
        let (address, last) = (range.first().to_bits(), range.last().to_bits());
        if !is_here(address) {
            return None;
        }
        self.ranges = behind;
        let length = prefix_length(address, last).and_then(|length| length.checked_sub(self.depth));
        if length.is_none() {
            self.end = Some(last);
        }
        Some(Entry { address, kind: length.map_or(BEGINS, |length| length as u8) })
    }
}

/// The length of the CIDR prefix that has these as its first and last address, if there is one.
fn prefix_length(first: u128, last: u128) -> Option<u32> {
    let length = (first ^ last).leading_zeros();
    (first & low_ones(length) == 0 && last & low_ones(length) == low_ones(length)).then_some(length)
}

/// How many columns of 16 bits a chunk must keep, so that zeros, or behind an end ones, are all that it leaves out. One
/// if there are no entries.
fn column_count(entries: &[Entry], depth: u32) -> u32 {
    let bits = |entry: &Entry| match entry.kind {
        BEGINS => 128 - entry.address.trailing_zeros(),
        ENDS => 128 - entry.address.trailing_ones(),
        length => depth + u32::from(length),
    };
    entries.iter().map(|entry| bits(entry).saturating_sub(depth)).max().unwrap_or(0).div_ceil(16).max(1)
}
