//! A section of a table: the ranges of one family, in chunks. This file has what both families share; [`crate::v4`] and
//! [`crate::v6`] define the bytes of a chunk.

use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};

use crate::columns::OVERREAD;
use crate::order::{Bits, Order, Pairs};
use crate::{Address, AddressRange};

/// Where the parts of a section are, and how to read them. On bytes that are not a valid section, a method returns
/// `None`, an error or a wrong answer, but never panics.
pub(crate) trait Layout: Copy {
    /// An address of the family.
    type Address: Address + From<Self::Bits>;
    /// An address as a number.
    type Bits: Bits;
    /// `IPv4` or `IPv6`.
    const FAMILY: &'static str;

    /// Reads and checks everything but the chunks of the section at `bytes` of the table, which must not be empty.
    fn open(table: &[u8], bytes: Range<usize>) -> Result<Self, &'static str>;

    /// The number of chunks.
    fn chunks(&self) -> usize;

    /// Whether `address` is in a range.
    fn contains(&self, table: &[u8], address: Self::Bits) -> Option<bool>;

    /// Moves from `address` towards the end of its range on this side. `Break` is that end. `Continue` is an address of
    /// the same range to continue from: there is no edge between the two. The range must extend from `address` to the
    /// other side, too.
    fn edge(&self, table: &[u8], address: Self::Bits, side: Side) -> Option<ControlFlow<Self::Bits, Self::Bits>>;

    /// Whether a range continues into `chunk` from before it.
    fn goes_on(&self, table: &[u8], chunk: usize) -> Option<bool>;

    /// Reads `chunk`, checks everything but the order of its edges, and passes each edge to `sink`, with whether it
    /// begins a range.
    fn edges(&self, table: &[u8], chunk: usize, sink: impl FnMut(Self::Bits, bool)) -> Result<(), &'static str>;
}

/// On which side of an address to look for an end of its range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Before,
    After,
}

impl Side {
    /// Searches `places`, in which those that are passed come before those that are not. `Before` finds the last one
    /// that `is_passed`, `After` the first one that is not. All searches share this function to keep the filter small.
    #[inline(never)]
    pub(crate) fn nearest(self, places: Range<usize>, is_passed: &dyn Fn(usize) -> Option<bool>) -> Option<usize> {
        let Range { start: mut low, end: mut high } = places;
        while low < high {
            let middle = low.midpoint(high);
            if is_passed(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let place = if self == Self::Before { low.checked_sub(1)? } else { low };
        places.contains(&place).then_some(place)
    }

    /// The nearest chunk on this side of `chunk` that is not empty. `extent` returns where a chunk is. Chunks are in
    /// order and have no gaps, so a binary search skips the empty ones.
    pub(crate) fn next_chunk(
        self,
        chunk: usize,
        chunks: usize,
        extent: &dyn Fn(usize) -> Option<Range<usize>>,
    ) -> Option<usize> {
        let here = extent(chunk)?;
        match self {
            Self::Before => self.nearest(0..chunk, &|other| Some(extent(other)?.start < here.start)),
            Self::After => self.nearest(chunk + 1..chunks, &|other| Some(extent(other)?.end <= here.end)),
        }
    }

    /// Whether `next` is on this side of `address`.
    fn is_further<N: Ord>(self, next: N, address: N) -> bool {
        match self {
            Self::Before => next < address,
            Self::After => next > address,
        }
    }

    /// The end of an interval that is reached first when moving to this side.
    pub(crate) fn near<N>(self, (first, last): (N, N)) -> N {
        match self {
            Self::Before => last,
            Self::After => first,
        }
    }

    /// The first address past an interval when moving to this side, if there is one.
    pub(crate) fn past<N: Bits>(self, (first, last): (N, N)) -> Option<N> {
        match self {
            Self::Before => first.predecessor(),
            Self::After => last.successor(),
        }
    }
}

/// Checks that the section at `bytes` ends with padding right after its chunks, which end at `chunks_end`. This is a
/// u64 because a wasm usize cannot hold every length that a hostile index may claim.
pub(crate) fn check_end(table: &[u8], bytes: &Range<usize>, chunks_end: u64) -> Result<(), &'static str> {
    if bytes.end as u64 != chunks_end + OVERREAD as u64 {
        return Err("its length does not match its index");
    }
    if table.get(bytes.clone()).and_then(<[u8]>::last_chunk) != Some(&[0; OVERREAD]) {
        return Err("its padding is not zero");
    }
    Ok(())
}

/// A validated section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<L: Layout> {
    /// `None` if there are no ranges.
    layout: Option<L>,
    ranges: usize,
}

/// Why a section is refused.
pub(crate) struct Refused {
    /// The bad chunk; `None` if the fault is not in a chunk.
    pub(crate) chunk: Option<usize>,
    pub(crate) what: &'static str,
}

impl<L: Layout> Section<L> {
    /// Validates the section at `bytes` of the table, in one pass.
    pub(crate) fn open(table: &[u8], bytes: Range<usize>) -> Result<Self, Refused> {
        if bytes.is_empty() {
            return Ok(Self { layout: None, ranges: 0 });
        }
        let layout = L::open(table, bytes).map_err(|what| Refused { chunk: None, what })?;
        let mut order = Order::new();
        for chunk in 0..layout.chunks() {
            let refused = |what| Refused { chunk: Some(chunk), what };
            if layout.goes_on(table, chunk) != Some(order.begun) {
                return Err(refused("the index and the previous chunk disagree on whether a range continues into it"));
            }
            layout.edges(table, chunk, |edge, begins| order.step(edge, begins)).map_err(refused)?;
            if order.is_broken {
                return Err(refused("its ranges are out of order, overlap, touch or do not end"));
            }
        }
        let whole = |what| Refused { chunk: None, what };
        if order.begun {
            return Err(whole("its last range does not end"));
        }
        if order.ended == 0 {
            return Err(whole("it has no ranges but is not empty"));
        }
        Ok(Self { layout: Some(layout), ranges: order.ended as usize })
    }

    /// Opens the section at `bytes` of the table, which is known to be valid and to have this many ranges. Checks only
    /// the index.
    pub(crate) fn open_known(table: &[u8], bytes: Range<usize>, ranges: usize) -> Result<Self, Refused> {
        let layout = if bytes.is_empty() { None } else { Some(L::open(table, bytes)) };
        let layout = layout.transpose().map_err(|what| Refused { chunk: None, what })?;
        Ok(Self { layout, ranges })
    }

    /// The number of ranges.
    pub(crate) fn ranges(&self) -> usize {
        self.ranges
    }

    /// Not inlined, so that [`crate::Table::contains`] can be inlined and passes the address in registers.
    #[inline(never)]
    pub(crate) fn contains(&self, table: &[u8], address: L::Bits) -> bool {
        let Some(layout) = &self.layout else { return false };
        layout.contains(table, address).unwrap_or(false)
    }

    /// The range that contains `address`.
    #[inline(never)]
    pub(crate) fn range(&self, table: &[u8], address: L::Bits) -> Option<AddressRange<L::Address>> {
        let is_in = |address: &L::Bits| self.contains(table, *address);
        Some(address).filter(is_in)?;
        // Ranges do not touch, so a neighbour that is in a range is in the same one.
        let first = match address.predecessor().filter(is_in) {
            Some(before) => self.edge(table, before, Side::Before)?,
            None => address,
        };
        let last = match address.successor().filter(is_in) {
            Some(after) => self.edge(table, after, Side::After)?,
            None => address,
        };
        AddressRange::new(first.into(), last.into()).ok()
    }

    /// The end on this side of the range that contains `address`. The range must extend to the other side, too.
    #[inline(never)]
    fn edge(&self, table: &[u8], mut address: L::Bits, side: Side) -> Option<L::Bits> {
        let layout = self.layout.as_ref()?;
        loop {
            match layout.edge(table, address, side)? {
                ControlFlow::Break(edge) => return Some(edge),
                // Each step must make progress, so that this ends even if the bytes have changed since `open`.
                ControlFlow::Continue(next) if side.is_further(next, address) => address = next,
                ControlFlow::Continue(_) => return None,
            }
        }
    }

    /// All ranges, in order.
    pub(crate) fn iter(self, table: &[u8]) -> impl Iterator<Item = AddressRange<L::Address>> {
        let chunks = self.layout.into_iter().flat_map(|layout| (0..layout.chunks()).map(move |chunk| (layout, chunk)));
        let mut pairs = Pairs { begun: None };
        chunks.flat_map(move |(layout, chunk)| {
            let mut ranges = Vec::new();
            let push = |edge: L::Bits, begins| {
                let range = pairs.step(edge, begins).map(|(first, last)| AddressRange::new(first.into(), last.into()));
                ranges.extend(range.and_then(Result::ok));
            };
            // Validated at `open`: an error means that the bytes have changed since, and skips the rest of the chunk.
            let _validated = layout.edges(table, chunk, push);
            ranges
        })
    }
}
