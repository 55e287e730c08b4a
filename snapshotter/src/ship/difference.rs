//! How a list differs from what a base has of it, kept up to date in time proportional to what changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use edgefold_table::{Address, IpRange, Table};

/// The ranges that a list has and its base does not have, and the other way round: what an overlay says about the list.
///
/// All ranges are whole, as long as possible. So a range of the base that has changed in any way is removed, and what became of it is
/// added.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Difference {
    /// By first address.
    added: BTreeMap<IpAddr, IpRange>,
    removed: BTreeMap<IpAddr, IpRange>,
}

/// The ranges that a base has of a list; `None` if it has none.
pub(super) type BaseTable<'a> = Option<Table<&'a [u8]>>;

impl Difference {
    /// That of a list with these ranges, which has nothing to do with a base.
    pub(super) fn of(current: impl Iterator<Item = IpRange>) -> Self {
        Self { added: current.map(by_first).collect(), removed: BTreeMap::new() }
    }

    /// The difference between all ranges of a base and the `current` ones, both sorted; `None` if that is more than `most` ranges, or the
    /// base has what no list has. It takes one pass over both.
    pub(super) fn between(base: BaseTable<'_>, current: impl Iterator<Item = IpRange>, most: usize) -> Option<Self> {
        let mut this = Self::default();
        let (mut base, mut current) = (base.into_iter().flat_map(Table::into_ranges).peekable(), current.peekable());
        while this.ranges() <= most {
            match (base.peek(), current.peek()) {
                (None, None) => return Some(this),
                (Some(old), Some(new)) if old == new => {
                    base.next();
                    current.next();
                }
                // IPv4-mapped addresses are IPv4, and would be removed as such.
                (Some(old), _) if !is_canonical(old.first()) || !is_canonical(old.last()) => return None,
                (Some(old), new) if new.is_none_or(|new| old < new) => {
                    this.removed.extend(base.next().map(by_first));
                }
                _ => this.added.extend(current.next().map(by_first)),
            }
        }
        None
    }

    /// The ranges that are added, sorted.
    pub(super) fn added(&self) -> Vec<IpRange> {
        self.added.values().copied().collect()
    }

    /// The ranges of the base that are removed, sorted.
    pub(super) fn removed(&self) -> Vec<IpRange> {
        self.removed.values().copied().collect()
    }

    /// How many ranges are added and removed.
    pub(super) fn ranges(&self) -> usize {
        self.added.len() + self.removed.len()
    }

    /// How many ranges the list has, if its base has so many.
    pub(super) fn count(&self, base: usize) -> usize {
        (base + self.added.len()).saturating_sub(self.removed.len())
    }

    /// Takes over what has changed. Every address whose state may have changed is in one of the ranges `changed`, and each of them
    /// begins where a block began before or begins now, as those of [`edgefold::Fold::changes`] do. `current` are the parts of a
    /// range that are on the list now.
    ///
    /// Returns the ranges that were on the list before and may have changed, each as a whole.
    pub(super) fn update(
        &mut self,
        base: BaseTable<'_>,
        mut changed: Vec<IpRange>,
        current: impl Fn(IpRange) -> Vec<IpRange>,
    ) -> Vec<IpRange> {
        changed.sort_unstable();
        let mut touched = Vec::new();
        let mut changed = changed.into_iter().peekable();
        while let Some(first) = changed.next() {
            let (mut region, mut firsts) = (first, vec![first.first()]);
            while let Some(next) = changed.next_if(|next| joins(region, *next)) {
                region = IpRange::new(region.first(), region.last().max(next.last())).unwrap_or(region);
                firsts.push(next.first());
            }
            touched.extend(self.update_region(base, region, &firsts, current(region)));
        }
        touched
    }

    /// Replaces what is on the list in `region` by the ranges `inner`. A range that was on the list as a whole within the region began
    /// at one of `firsts`.
    fn update_region(
        &mut self,
        base: BaseTable<'_>,
        region: IpRange,
        firsts: &[IpAddr],
        inner: Vec<IpRange>,
    ) -> BTreeSet<IpRange> {
        let outside = [predecessor(region.first()), successor(region.last())];
        // Nothing outside has changed: what is there now is the rest of what was.
        let [before, after] = outside.map(|ip| ip.and_then(|ip| self.range(base, ip)));
        let within = firsts.iter().filter_map(|ip| self.range(base, *ip));
        let old: BTreeSet<IpRange> = within.chain(before).chain(after).collect();
        let rest_before = before.zip(outside[0]).and_then(|(before, end)| IpRange::new(before.first(), end).ok());
        let rest_after = after.zip(outside[1]).and_then(|(after, start)| IpRange::new(start, after.last()).ok());
        for range in old.iter().copied() {
            if self.added.remove(&range.first()).is_none() {
                self.removed.extend([by_first(range)]);
            }
        }
        let mut new = rest_before.into_iter().chain(inner).chain(rest_after).peekable();
        while let Some(mut range) = new.next() {
            while let Some(next) = new.next_if(|next| joins(range, *next)) {
                range = IpRange::new(range.first(), next.last()).unwrap_or(range);
            }
            if self.removed.get(&range.first()) == Some(&range) {
                self.removed.remove(&range.first());
            } else {
                self.added.extend([by_first(range)]);
            }
        }
        old
    }

    /// The range that the address is in.
    fn range(&self, base: BaseTable<'_>, ip: IpAddr) -> Option<IpRange> {
        let added = self.added.range(..=ip).next_back().map(|(_, range)| *range);
        added
            .filter(|range| range.contains(ip))
            .or_else(|| base?.range(ip).filter(|range| !self.removed.contains_key(&range.first())))
    }
}

fn by_first(range: IpRange) -> (IpAddr, IpRange) {
    (range.first(), range)
}

/// Whether `next`, which does not sort before `range`, overlaps or touches it.
fn joins(range: IpRange, next: IpRange) -> bool {
    let is_same_family = range.first().is_ipv4() == next.first().is_ipv4();
    is_same_family && (next.first() <= range.last() || successor(range.last()) == Some(next.first()))
}

/// The address before this one that a list can have: IPv4-mapped addresses are none.
fn predecessor(ip: IpAddr) -> Option<IpAddr> {
    let before = match ip {
        IpAddr::V4(ip) => ip.predecessor().map(IpAddr::from),
        IpAddr::V6(ip) => ip.predecessor().map(IpAddr::from),
    };
    before.filter(|ip| is_canonical(*ip))
}

/// Whether it is not IPv4-mapped.
fn is_canonical(ip: IpAddr) -> bool {
    ip.to_canonical() == ip
}

/// As [`predecessor`], but the address after this one.
fn successor(ip: IpAddr) -> Option<IpAddr> {
    let after = match ip {
        IpAddr::V4(ip) => ip.successor().map(IpAddr::from),
        IpAddr::V6(ip) => ip.successor().map(IpAddr::from),
    };
    after.filter(|ip| is_canonical(*ip))
}
