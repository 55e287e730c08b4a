//! The edges of ranges, in the order in which a table stores them.
//!
//! A range of more than one address has two edges: its first address, which *begins* it, and its last, which does not.
//! A range of a single address has one edge, which does not begin it.

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

/// Checks that edges ascend, that each range ends before the next one begins, and that neighbours do not touch.
///
/// A step has no branches: the edges are as random as the ranges, so branches would be mispredicted. At a million
/// ranges this halves the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<N> {
    /// The last edge so far.
    pub(crate) last: Option<N>,
    /// Whether a range has begun and not ended.
    pub(crate) begun: bool,
    /// How many ranges have ended.
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

/// Joins sorted edges into ranges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pairs<N> {
    /// The first address of the range that has begun and not ended.
    pub(crate) begun: Option<N>,
}

impl<N: Copy> Pairs<N> {
    /// Takes the next edge, and returns the range that ends with it, if any.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_ascend_alternate_and_leave_a_gap_between_ranges() {
        fn is_broken<N: Bits>(edges: &[(N, bool)]) -> bool {
            let mut order = Order::new();
            edges.iter().for_each(|&(edge, begins)| order.step(edge, begins));
            order.is_broken
        }
        for (edges, expected) in [
            (&[(1_u8, true), (3, false), (5, true), (9, false)][..], false),
            (&[(1, true), (2, false)], false),
            (&[(1, true), (3, false), (4, true), (9, false)], true),
            (&[(1, true), (3, false), (3, true), (9, false)], true),
            (&[(5, true), (9, false), (1, true), (3, false)], true),
            (&[(1, true), (3, true), (9, false)], true),
        ] {
            assert_eq!(
                is_broken(&edges.iter().map(|&(edge, begins)| (u32::from(edge), begins)).collect::<Vec<_>>()),
                expected
            );
            assert_eq!(
                is_broken(&edges.iter().map(|&(edge, begins)| (u128::from(edge), begins)).collect::<Vec<_>>()),
                expected
            );
        }
    }
}
