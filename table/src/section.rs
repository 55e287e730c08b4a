//! A section of a table: the ranges of one family, in chunks. What the families share is here; how the bytes of a chunk lie
//! is the matter of [`crate::v4`] and [`crate::v6`].

use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};

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

    /// Goes from `address` to the end of its range on this side. `Break` is that end; `Continue` is an address of the same
    /// range from which to go on, since there is no edge up to it. The range goes on from `address` to the other side, too.
    fn edge(&self, table: &[u8], address: Self::Bits, side: Side) -> Option<ControlFlow<Self::Bits, Self::Bits>>;

    /// Whether a range goes on into `chunk` from before it.
    fn goes_on(&self, table: &[u8], chunk: usize) -> Option<bool>;

    /// Reads `chunk`, checks all but the order of its edges, and gives each edge with whether it begins a range to `sink`.
    fn edges(&self, table: &[u8], chunk: usize, sink: impl FnMut(Self::Bits, bool)) -> Result<(), &'static str>;
}

/// The side of an address on which an end of its range is sought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Before,
    Behind,
}

impl Side {
    /// The last place that `is_passed`, or the first that is not: places that are passed come before those that are not.
    /// For every search by one function, since the filter should be small.
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

    /// The nearest chunk on this side of `chunk` that is not empty. `extent` says where a chunk lies. Chunks lie in order
    /// without gaps, so that empty ones need not be gone through one by one.
    pub(crate) fn next_chunk(
        self,
        chunk: usize,
        chunks: usize,
        extent: &dyn Fn(usize) -> Option<Range<usize>>,
    ) -> Option<usize> {
        let here = extent(chunk)?;
        match self {
            Self::Before => self.nearest(0..chunk, &|other| Some(extent(other)?.start < here.start)),
            Self::Behind => self.nearest(chunk + 1..chunks, &|other| Some(extent(other)?.end <= here.end)),
        }
    }

    /// Whether `next` lies on this side of `address`.
    fn is_further<N: Ord>(self, next: N, address: N) -> bool {
        match self {
            Self::Before => next < address,
            Self::Behind => next > address,
        }
    }

    /// Of these ends of a stretch of addresses, the one that is met first.
    pub(crate) fn near<N>(self, (first, last): (N, N)) -> N {
        match self {
            Self::Before => last,
            Self::Behind => first,
        }
    }

    /// The address that comes when this stretch of addresses is over, if there is one.
    pub(crate) fn past<N: Bits>(self, (first, last): (N, N)) -> Option<N> {
        match self {
            Self::Before => first.predecessor(),
            Self::Behind => last.successor(),
        }
    }
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
    /// How many ranges have ended at the start of a chunk: one every so many chunks, or none if the chunks were not read.
    marks: Vec<u32>,
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
                marks.push(order.ended);
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

    /// The section at `bytes` of the table, of which all but the index is known to be good, with so many ranges.
    pub(crate) fn open_known(table: &[u8], bytes: Range<usize>, ranges: usize) -> Result<Self, Refused> {
        let layout = if bytes.is_empty() { None } else { Some(L::open(table, bytes)) };
        let layout = layout.transpose().map_err(|what| Refused { chunk: None, what })?;
        Ok(Self { layout, ranges, marks: Vec::new() })
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

    /// The range that holds `address`.
    #[inline(never)]
    pub(crate) fn range(&self, table: &[u8], address: L::Bits) -> Option<AddressRange<L::Address>> {
        let is_in = |address: &L::Bits| self.contains(table, *address);
        Some(address).filter(is_in)?;
        // Ranges do not touch: a neighbour that is in one is in the same.
        let first = match address.predecessor().filter(is_in) {
            Some(before) => self.edge(table, before, Side::Before)?,
            None => address,
        };
        let last = match address.successor().filter(is_in) {
            Some(behind) => self.edge(table, behind, Side::Behind)?,
            None => address,
        };
        AddressRange::new(first.into(), last.into()).ok()
    }

    /// The end on this side of the range that holds `address` and goes on from it to the other side.
    #[inline(never)]
    fn edge(&self, table: &[u8], mut address: L::Bits, side: Side) -> Option<L::Bits> {
        let layout = self.layout.as_ref()?;
        loop {
            match layout.edge(table, address, side)? {
                ControlFlow::Break(edge) => return Some(edge),
                // Whatever the bytes have become since `open`, this comes to an end.
                ControlFlow::Continue(next) if side.is_further(next, address) => address = next,
                ControlFlow::Continue(_) => return None,
            }
        }
    }

    /// The range that holds `address`, and its place.
    pub(crate) fn find(&self, table: &[u8], address: L::Bits) -> Option<(AddressRange<L::Address>, usize)> {
        let range = self.range(table, address)?;
        let layout = self.layout.as_ref()?;
        let (chunk, stride) = (layout.chunk_of(address), layout.chunks().div_ceil(MOST_MARKS));
        let place = if self.marks.is_empty() { 0 } else { chunk / stride };
        let mut index = self.marks.get(place).map_or(0, |&mark| mark as usize);
        for chunk in place * stride..=chunk {
            let count = |edge, begins: bool| index += usize::from(!begins & (edge < address));
            layout.edges(table, chunk, count).ok()?;
        }
        Some((range, index))
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
