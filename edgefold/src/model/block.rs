//! A blocked range, and when its block ends.

use std::fmt;

use edgefold_table::{Address, AddressRange, IpRange};

use super::time::LogTime;

/// A blocked range: every address in it is blocked until the same moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Block<R = IpRange> {
    /// The blocked addresses.
    pub range: R,
    /// When the block ends.
    pub until: Until,
}

impl<A> From<Block<AddressRange<A>>> for Block
where
    IpRange: From<AddressRange<A>>,
{
    fn from(block: Block<AddressRange<A>>) -> Self {
        Self { range: block.range.into(), until: block.until }
    }
}

/// The end of a block: a time, or [`Until::FOREVER`], which is later than every time.
///
/// ```
/// use edgefold::{LogTime, Until};
///
/// let end: LogTime = "2026-12-01T00:00:00Z".parse()?;
/// let until = Until::from(end);
/// assert!(!until.holds_at(end), "the end is the first moment at which the address passes again");
/// assert_eq!((until.to_string(), until.time()), ("2026-12-01T00:00:00Z".to_owned(), Some(end)));
/// assert_eq!((Until::FOREVER.to_string(), Until::FOREVER.time()), ("forever".to_owned(), None));
/// # Ok::<(), edgefold::TimeError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Until(
    /// Milliseconds since 1970, or `u64::MAX` for forever, which no [`LogTime`] reaches: 8 bytes where an enum takes 16, and
    /// a fold of a million blocks is smaller by as much as its ranges take.
    u64,
);

impl Until {
    /// The block has no end.
    pub const FOREVER: Self = Self(u64::MAX);

    /// Whether a block with this end is still in force at `time`.
    #[inline]
    pub fn holds_at(self, time: LogTime) -> bool {
        self > Self::from(time)
    }

    /// The first moment at which the address passes again; `None` for [`Until::FOREVER`].
    #[inline]
    pub fn time(self) -> Option<LogTime> {
        LogTime::from_millis(self.0)
    }
}

impl From<LogTime> for Until {
    #[inline]
    fn from(time: LogTime) -> Self {
        Self(time.millis())
    }
}

/// RFC 3339, or `forever`.
impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time() {
            Some(time) => time.fmt(f),
            None => f.write_str("forever"),
        }
    }
}

/// `ranges`, which are sorted, with those that touch joined.
pub(super) fn joined<A: Address>(
    ranges: impl Iterator<Item = AddressRange<A>>,
) -> impl Iterator<Item = AddressRange<A>> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let mut range = ranges.next()?;
        while let Some(next) = ranges.next_if(|next| range.touches(*next)) {
            range = AddressRange::new(range.first(), next.last()).unwrap_or(range);
        }
        Some(range)
    })
}
