//! What differs between two sets of blocks.

use std::iter;

use edgefold_table::{Address, AddressRange, IpRange};

use super::block::{Block, Until};
use super::edits::ListEdits;
use super::list::List;
use super::time::LogTime;

/// Addresses that one of two lists has, or that both have with different ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The addresses.
    pub range: IpRange,
    /// Until when they were on the list; `None` if they were not.
    pub before: Option<Until>,
    /// Until when they are on the list; `None` if they are not.
    pub after: Option<Until>,
}

/// What leads from `before` at the time `then` to `after` at the time `now`: sorted and disjoint, with as few ranges as possible.
///
/// ```
/// use edgefold::{Block, List, ListName, LogTime, Until, differences};
///
/// let list = |texts: &[&str]| -> Result<List, Box<dyn std::error::Error>> {
///     let mut list = List::new(ListName::DEFAULT);
///     for text in texts {
///         list.put(Block { range: text.parse()?, until: Until::FOREVER });
///     }
///     Ok(list)
/// };
/// let now = LogTime::EPOCH;
/// let (before, after) = (list(&["10.0.0.0/24"])?, list(&["10.0.0.0-10.0.0.99", "10.0.0.101-10.0.1.0"])?);
/// let differences: Vec<String> = differences((&before, now), (&after, now))
///     .map(|change| format!("{} {}", if change.after.is_some() { '+' } else { '-' }, change.range))
///     .collect();
/// assert_eq!(differences, ["- 10.0.0.100", "+ 10.0.1.0"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn differences<'a>(
    (before, then): (&'a List, LogTime),
    (after, now): (&'a List, LogTime),
) -> impl Iterator<Item = Difference> + 'a {
    let v4 = between(at(before.v4.iter(), then), at(after.v4.iter(), now));
    v4.chain(between(at(before.v6.iter(), then), at(after.v6.iter(), now)))
}

impl ListEdits {
    /// What the edits change, as [`differences`] between the list before and after them.
    pub(super) fn differences(&self) -> impl Iterator<Item = Difference> {
        let ([before_v4, after_v4], [before_v6, after_v6]) = (self.v4.net_blocks(), self.v6.net_blocks());
        let v4 = between(before_v4.into_iter(), after_v4.into_iter());
        v4.chain(between(before_v6.into_iter(), after_v6.into_iter()))
    }
}

/// The blocks in force at `time`.
fn at<'a, A: Address + 'a>(
    blocks: impl Iterator<Item = &'a Block<AddressRange<A>>>,
    time: LogTime,
) -> impl Iterator<Item = Block<AddressRange<A>>> {
    blocks.copied().filter(move |block| block.until.holds_at(time))
}

/// The differences between two sequences of blocks, each sorted and disjoint.
fn between<A: Address>(
    before: impl Iterator<Item = Block<AddressRange<A>>>,
    after: impl Iterator<Item = Block<AddressRange<A>>>,
) -> impl Iterator<Item = Difference>
where
    IpRange: From<AddressRange<A>>,
{
    let (mut before, mut after) = (Side::new(before), Side::new(after));
    let pieces = iter::from_fn(move || {
        let first = before.first().into_iter().chain(after.first()).min()?;
        // A piece ends where a block of either side ends, or before one begins.
        let last = before.end_of_piece(first).into_iter().chain(after.end_of_piece(first)).min()?;
        Some((AddressRange::new(first, last).ok()?, before.take(first, last), after.take(first, last)))
    });
    let mut pieces = pieces.filter(|(_, before, after)| before != after).peekable();
    iter::from_fn(move || {
        let (mut range, before, after) = pieces.next()?;
        let continues = |range: AddressRange<A>, next: &(AddressRange<A>, Option<Until>, Option<Until>)| {
            range.touches(next.0) && (next.1, next.2) == (before, after)
        };
        while let Some((next, ..)) = pieces.next_if(|next| continues(range, next)) {
            range = AddressRange::new(range.first(), next.last()).unwrap_or(range);
        }
        Some(Difference { range: range.into(), before, after })
    })
}

/// The blocks of one side that no piece contains yet.
struct Side<A, I: Iterator<Item = Block<AddressRange<A>>>> {
    blocks: I,
    /// What is left of the block that the next piece may be in.
    open: Option<Block<AddressRange<A>>>,
}

impl<A: Address, I: Iterator<Item = Block<AddressRange<A>>>> Side<A, I> {
    fn new(mut blocks: I) -> Self {
        let open = blocks.next();
        Self { blocks, open }
    }

    fn first(&self) -> Option<A> {
        self.open.map(|block| block.range.first())
    }

    /// Where a piece ends at the latest that starts at `first`.
    fn end_of_piece(&self, first: A) -> Option<A> {
        let range = self.open?.range;
        if range.first() <= first { Some(range.last()) } else { range.first().predecessor() }
    }

    /// Takes the piece, and returns the end of the block that it is in.
    fn take(&mut self, first: A, last: A) -> Option<Until> {
        let block = self.open.filter(|block| block.range.contains(first))?;
        let rest = last.successor().and_then(|next| AddressRange::new(next, block.range.last()).ok());
        self.open = rest.map(|range| Block { range, ..block }).or_else(|| self.blocks.next());
        Some(block.until)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use edgefold_snapshot::ListName;

    use super::*;

    const NOW: LogTime = LogTime::EPOCH;

    /// Random blocks in a few addresses at both ends of a family, and what each address has.
    fn random(random: &mut fastrand::Rng) -> (List, BTreeMap<IpAddr, Until>) {
        let (mut list, mut naive) = (List::new(ListName::DEFAULT), BTreeMap::new());
        for _ in 0..random.u32(0..8) {
            let base = if random.bool() { 0 } else { u32::MAX - 39 };
            let (first, len) = (random.u32(0..40), random.u32(1..10));
            let last = (first + len - 1).min(39);
            let until = [Until::FOREVER, LogTime::from_millis(random.u64(1..4)).unwrap().into()][random.usize(0..2)];
            let ip = |at: u32| IpAddr::from(Ipv4Addr::from_bits(base + at));
            list.put(Block { range: IpRange::new(ip(first), ip(last)).unwrap(), until });
            for at in first..=last {
                let entry = naive.entry(ip(at)).or_insert(until);
                *entry = until.max(*entry);
            }
        }
        (list, naive)
    }

    #[test]
    fn the_differences_are_those_of_each_address() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let ((before, naive_before), (after, naive_after)) = (random(&mut rng), random(&mut rng));
            let mut found = BTreeMap::new();
            let mut previous: Option<Difference> = None;
            for change in differences((&before, NOW), (&after, NOW)) {
                let IpRange::V4(range) = change.range else { panic!("{change:?}") };
                for bits in range.first().to_bits()..=range.last().to_bits() {
                    let ip = IpAddr::from(Ipv4Addr::from_bits(bits));
                    assert_eq!(found.insert(ip, (change.before, change.after)), None, "{ip} comes twice");
                }
                if let Some(previous) = previous {
                    let IpRange::V4(last) = previous.range else { panic!("{previous:?}") };
                    let same = (previous.before, previous.after) == (change.before, change.after);
                    assert!(!(same && last.touches(range)), "{previous:?} and {change:?} should be one");
                }
                previous = Some(change);
            }
            let naive: BTreeMap<_, _> = naive_before
                .keys()
                .chain(naive_after.keys())
                .map(|ip| (*ip, (naive_before.get(ip).copied(), naive_after.get(ip).copied())))
                .filter(|(_, (before, after))| before != after)
                .collect();
            assert_eq!(found, naive);
        }
    }

    #[test]
    fn each_side_is_looked_at_in_its_own_time() {
        let mut list = List::new(ListName::DEFAULT);
        list.put(Block { range: "2001:db8::/32".parse().unwrap(), until: LogTime::from_millis(5).unwrap().into() });
        let later = LogTime::from_millis(5).unwrap();
        assert_eq!(differences((&list, NOW), (&list, NOW)).next(), None);
        let change = differences((&list, NOW), (&list, later)).next().unwrap();
        assert_eq!((change.before, change.after), (Some(later.into()), None));
    }
}
