//! The edges of ranges, in the order in which a table has them.
//!
//! A range of more than one address has two edges: its first address, which begins it, and its last, which does not. A
//! single address is one edge, which does not begin a range.

/// An address as a number.
pub(crate) trait Bits: Copy + Ord {
    /// Whether this is the number after `other`.
    fn follows(self, other: Self) -> bool;

    /// The number after this one; `None` after the last.
    fn successor(self) -> Option<Self>;

    /// The number before this one; `None` before 0.
    fn predecessor(self) -> Option<Self>;
}

impl Bits for u32 {
    #[inline]
    fn follows(self, other: Self) -> bool {
        self.wrapping_sub(other) == 1
    }

    #[inline]
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }

    #[inline]
    fn predecessor(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Bits for u128 {
    #[inline]
    fn follows(self, other: Self) -> bool {
        self.wrapping_sub(other) == 1
    }

    #[inline]
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }

    #[inline]
    fn predecessor(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

/// Checks that edges rise, that each range that begins ends before the next, and that no range touches the one before. What
/// comes next is as random as the ranges are, so a step is no branch: at a million ranges that is half the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<N> {
    /// The last edge so far.
    pub(crate) last: Option<N>,
    /// Whether a range has begun and not ended.
    pub(crate) begun: bool,
    /// Ranges that have ended.
    pub(crate) ended: u32,
    pub(crate) is_broken: bool,
}

impl<N: Bits> Order<N> {
    pub(crate) fn new() -> Self {
        Self { last: None, begun: false, ended: 0, is_broken: false }
    }

    #[inline]
    pub(crate) fn step(&mut self, edge: N, begins: bool) {
        let out_of_order = match self.last {
            Some(last) => (edge <= last) | (!self.begun & edge.follows(last)),
            None => false,
        };
        self.is_broken |= out_of_order | (self.begun & begins);
        self.ended += u32::from(!begins);
        self.begun = begins;
        self.last = Some(edge);
    }
}

/// Puts edges that are in order together to ranges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pairs<N> {
    /// The first address of the range that has begun and not ended.
    pub(crate) begun: Option<N>,
}

impl<N: Copy> Pairs<N> {
    /// The range that ends with this edge, if one does.
    #[inline]
    pub(crate) fn step(&mut self, edge: N, begins: bool) -> Option<(N, N)> {
        if begins {
            self.begun = Some(edge);
            None
        } else {
            Some((self.begun.take().unwrap_or(edge), edge))
        }
    }
}
