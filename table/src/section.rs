//! A section of a table: the ranges of one family, in chunks. What the families share is here; how the bytes of a chunk lie
//! is the matter of [`crate::v4`] and [`crate::v6`].

use std::ops::Range;

use crate::columns::OVERREAD;
use crate::order::{Bits, Order, Pairs};
use crate::{Address, AddressRange};

/// The most places where [`Section::find`] may begin to count: a bound on what a section allocates.
const MOST_MARKS: usize = 4096;

/// Where the parts of a section lie, and how they are read. Every method gives `None` or an error, and never panics, on
/// bytes that are not those of a section.
pub(crate) trait Layout: Copy {
    /// An address of the family.
    type Address: Address + From<Self::Bits>;
    /// The same as a number.
    type Bits: Bits;
    /// `IPv4` or `IPv6`.
    const FAMILY: &'static str;

    /// Reads and checks all but the chunks of the section that is at `bytes` of the table, and not empty.
    fn open(table: &[u8], bytes: Range<usize>) -> Result<Self, &'static str>;

    /// How many chunks there are.
    fn chunks(&self) -> usize;

    /// The chunk of an address that is in a range.
    fn chunk_of(&self, address: Self::Bits) -> usize;

    /// Whether a range holds `address`.
    fn contains(&self, table: &[u8], address: Self::Bits) -> Option<bool>;

    /// Whether a range goes on into `chunk` from before it.
    fn goes_on(&self, table: &[u8], chunk: usize) -> Option<bool>;

    /// Reads `chunk`, checks all but the order of its edges, and gives each edge with whether it begins a range to `sink`.
    fn edges(&self, table: &[u8], chunk: usize, sink: impl FnMut(Self::Bits, bool)) -> Result<(), &'static str>;
}

/// Checks that the section at `bytes` ends with padding behind its chunks, which end at `chunks_end`; in u64, since a wasm
/// usize cannot hold the length that a hostile index claims.
pub(crate) fn check_end(table: &[u8], bytes: &Range<usize>, chunks_end: u64) -> Result<(), &'static str> {
    if bytes.end as u64 != chunks_end + OVERREAD as u64 {
        return Err("its length is not what its index asks for");
    }
    if table.get(bytes.clone()).and_then(<[u8]>::last_chunk) != Some(&[0; OVERREAD]) {
        return Err("its padding is not zero");
    }
    Ok(())
}

/// A validated section.
#[derive(Clone, Debug)]
pub(crate) struct Section<L: Layout> {
    /// `None` if there are no ranges.
    layout: Option<L>,
    ranges: usize,
    /// One every so many chunks.
    marks: Vec<Mark<L::Bits>>,
}

/// What is known at the start of a chunk.
#[derive(Clone, Copy, Debug)]
struct Mark<N> {
    /// How many ranges have ended.
    ended: u32,
    /// The edge before. If a range goes on into the chunk, it began there.
    before: Option<N>,
}

/// Why a section is refused.
pub(crate) struct Refused {
    /// `None` if it is not a chunk that is wrong.
    pub(crate) chunk: Option<usize>,
    pub(crate) what: &'static str,
}

impl<L: Layout> Section<L> {
    /// Validates the section at `bytes` of the table: one pass, and at most [`MOST_MARKS`] marks.
    pub(crate) fn open(table: &[u8], bytes: Range<usize>) -> Result<Self, Refused> {
        if bytes.is_empty() {
            return Ok(Self { layout: None, ranges: 0, marks: Vec::new() });
        }
        let layout = L::open(table, bytes).map_err(|what| Refused { chunk: None, what })?;
        let stride = layout.chunks().div_ceil(MOST_MARKS);
        let mut marks = Vec::with_capacity(layout.chunks().div_ceil(stride));
        let mut order = Order::new();
        for chunk in 0..layout.chunks() {
            let refused = |what| Refused { chunk: Some(chunk), what };
            if chunk % stride == 0 {
                marks.push(Mark { ended: order.ended, before: order.last });
            }
            if layout.goes_on(table, chunk) != Some(order.begun) {
                return Err(refused("the index says otherwise than the chunk before it whether a range goes on"));
            }
            layout.edges(table, chunk, |edge, begins| order.step(edge, begins)).map_err(refused)?;
            if order.is_broken {
                return Err(refused("its ranges are not in order, or overlap, touch or do not end"));
            }
        }
        let whole = |what| Refused { chunk: None, what };
        if order.begun {
            return Err(whole("its last range does not end"));
        }
        if order.ended == 0 {
            return Err(whole("it has no ranges, and should be empty"));
        }
        Ok(Self { layout: Some(layout), ranges: order.ended as usize, marks })
    }

    /// How many ranges there are.
    pub(crate) fn ranges(&self) -> usize {
        self.ranges
    }

    /// Not inlined, so that [`crate::Table::contains`] can be, and the address comes here in registers.
    #[inline(never)]
    pub(crate) fn contains(&self, table: &[u8], address: L::Bits) -> bool {
        let Some(layout) = &self.layout else { return false };
        layout.contains(table, address).unwrap_or(false)
    }

    /// The range that holds `address`, and its place.
    pub(crate) fn find(&self, table: &[u8], address: L::Bits) -> Option<(AddressRange<L::Address>, usize)> {
        let layout = self.layout.filter(|_| self.contains(table, address))?;
        let stride = layout.chunks().div_ceil(MOST_MARKS);
        let place = layout.chunk_of(address) / stride;
        let mark = self.marks.get(place)?;
        let mut pairs = Pairs { begun: mark.before.filter(|_| layout.goes_on(table, place * stride) == Some(true)) };
        let (mut found, mut index) = (None, mark.ended as usize);
        for chunk in place * stride..layout.chunks() {
            let count = |edge, begins| {
                if found.is_none()
                    && let Some((first, last)) = pairs.step(edge, begins)
                {
                    if address <= last {
                        found = Some((first, last));
                    } else {
                        index += 1;
                    }
                }
            };
            layout.edges(table, chunk, count).ok()?;
            if let Some((first, last)) = found {
                return AddressRange::new(first.into(), last.into()).ok().map(|range| (range, index));
            }
        }
        None
    }

    /// All ranges, in order.
    pub(crate) fn iter(&self, table: &[u8]) -> impl Iterator<Item = AddressRange<L::Address>> {
        let chunks = self.layout.into_iter().flat_map(|layout| (0..layout.chunks()).map(move |chunk| (layout, chunk)));
        let mut pairs = Pairs { begun: None };
        chunks.flat_map(move |(layout, chunk)| {
            let mut ranges = Vec::new();
            let push = |edge: L::Bits, begins| {
                let range = pairs.step(edge, begins).map(|(first, last)| AddressRange::new(first.into(), last.into()));
                ranges.extend(range.and_then(Result::ok));
            };
            // Validated at `open`: an error would mean that the owner gives other bytes now, and ends the iteration.
            let _validated = layout.edges(table, chunk, push);
            ranges
        })
    }
}
