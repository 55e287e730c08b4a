//! Writes the IPv4 section of a table.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::index::{Index, MOST_UNITS};
use super::{FINE, dense, list, width};
use crate::AddressRange;
use crate::columns::{self, OVERREAD};

/// Collects the edges of sorted ranges, and writes the smallest section that holds them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// Zeros after the first `len`. `push` always stores two edges and then counts one or two, since a branch on that
    /// would be mispredicted.
    edges: Vec<Edge>,
    len: usize,
}

/// An address, and the flag "begins a range" as the lowest bit.
#[derive(Clone, Copy, Debug, Default)]
struct Edge(u64);

impl Edge {
    fn address(self) -> u32 {
        (self.0 >> 1) as u32
    }

    fn begins(self) -> bool {
        self.0 & 1 == 1
    }

    /// The first `bits` bits of the address.
    fn top(self, bits: u32) -> usize {
        (self.0 >> (33 - bits)) as usize
    }
}

impl Encoder {
    #[inline]
    pub(crate) fn push(&mut self, range: AddressRange<Ipv4Addr>) {
        let (first, last) = (range.first().to_bits(), range.last().to_bits());
        if self.edges.len() < self.len + 2 {
            self.edges.resize(2 * (self.len + 2), Edge::default());
        }
        let begins = usize::from(first != last);
        if let Some([one, two, ..]) = self.edges.get_mut(self.len..) {
            *one = Edge(u64::from(first) << 1 | begins as u64);
            *two = Edge(u64::from(last) << 1);
        }
        self.len += 1 + begins;
    }

    /// Appends the section, or nothing if there are no ranges.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let edges = self.edges.get(..self.len).unwrap_or_default();
        if !edges.is_empty() {
            Plan::best(edges).write(edges, out);
        }
    }
}

/// A layout for a set of edges.
struct Plan {
    index_bits: u32,
    /// How many edges each chunk has.
    counts: Vec<u32>,
}

impl Plan {
    /// The plan with the fewest bytes: an index of 4 to 8 bits with edges of four bytes, of 9 to 16 bits with edges of
    /// three, or of 17 bits with edges of two. A chunk should have eight to sixteen edges on average, as many as are
    /// compared at once.
    fn best(edges: &[Edge]) -> Self {
        let about = (edges.len() / 8).max(1).ilog2();
        // An upper bound for the finest index, whose dense chunks take less, and exact for the others.
        let bytes = |bits| Index::bytes(bits) + edges.len() * width(bits);
        let coarse = [about.clamp(4, 8), about.clamp(9, 16)].into_iter().filter(|&bits| bytes(bits) < bytes(FINE));
        let coarse = coarse.map(|bits| Self::new(edges, bits)).filter(Self::fits).min_by_key(Self::bytes);
        match coarse {
            Some(coarse) if coarse.bytes() < Index::bytes(FINE) => coarse,
            _ => {
                let fine = Self::new(edges, FINE);
                coarse.filter(|coarse| coarse.bytes() <= fine.bytes()).unwrap_or(fine)
            }
        }
    }

    fn new(edges: &[Edge], index_bits: u32) -> Self {
        let mut counts = vec![0; 1 << index_bits];
        for edge in edges {
            if let Some(count) = counts.get_mut(edge.top(index_bits)) {
                *count += 1;
            }
        }
        Self { index_bits, counts }
    }

    /// Whether the offsets in the index are large enough for each group. Those of the finest index always are.
    fn fits(&self) -> bool {
        let fits = |group: &[u32]| group.iter().sum::<u32>() as usize <= MOST_UNITS;
        self.index_bits == FINE || self.counts.chunks(Index::GROUP).all(fits)
    }

    /// Units of a chunk with this many edges.
    fn units(&self, edges: u32) -> usize {
        let edges = edges as usize;
        if self.index_bits == FINE && edges > list::MOST_EDGES { dense::units(edges) } else { edges }
    }

    /// Bytes of the section.
    fn bytes(&self) -> usize {
        let units: usize = self.counts.iter().map(|&edges| self.units(edges)).sum();
        1 + Index::bytes(self.index_bits) + units * width(self.index_bits) + OVERREAD
    }

    fn write(&self, edges: &[Edge], out: &mut Vec<u8>) {
        out.reserve(self.bytes());
        out.push(self.index_bits as u8);
        Index::write(self.chunks(edges).map(|(chunk, goes_on)| (self.units(chunk.len() as u32), goes_on)), out);
        for (chunk, goes_on) in self.chunks(edges) {
            self.write_chunk(chunk, goes_on, out);
        }
        out.extend_from_slice(&[0; OVERREAD]);
    }

    /// The edges of each chunk, and whether a range continues into it.
    fn chunks<'a>(&self, mut edges: &'a [Edge]) -> impl Iterator<Item = (&'a [Edge], bool)> {
        let mut goes_on = false;
        self.counts.iter().map(move |&count| {
            let (here, after) = edges.split_at(count as usize);
            let chunk = (here, goes_on);
            goes_on = here.last().map_or(goes_on, |edge| edge.begins());
            edges = after;
            chunk
        })
    }

    fn write_chunk(&self, edges: &[Edge], goes_on: bool, out: &mut Vec<u8>) {
        if self.index_bits != FINE {
            let width = width(self.index_bits);
            let flag = 32 - 8 * width;
            let position = |edge: &Edge| edge.address() << self.index_bits | u32::from(edge.begins()) << flag;
            columns::write(edges.iter().map(position), width, out);
            return;
        }
        let positions = edges.iter().map(|edge| (edge.address() as u16 & 0x7fff, edge.begins()));
        if edges.len() <= list::MOST_EDGES {
            list::write(positions, out);
        } else {
            dense::write(positions, goes_on, out);
        }
    }
}
