//! Edits: what changed in the ranges, as the ranges topic is to be told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fold::Fold;
use crate::record::Until;

/// The changes since the last write, by the range's first address: at most one each, and none where all is as it was.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    changes: BTreeMap<IpAddr, (Option<Entry>, Option<Entry>)>,
}

/// What the view holds under a range's first address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The range's last address.
    pub last: IpAddr,
    /// The end of the block.
    pub until: Until,
}

impl Edits {
    /// What leads from the ranges of one fold to those of another.
    pub fn between(before: &Fold, after: &Fold) -> Self {
        let mut edits = Self::default();
        for (range, until) in before.ranges() {
            edits.record(range.first(), Some(Entry { last: range.last(), until }), None);
        }
        for (range, until) in after.ranges() {
            edits.record(range.first(), None, Some(Entry { last: range.last(), until }));
        }
        edits
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.changes.clear();
    }

    pub(crate) fn record(&mut self, first: IpAddr, before: Option<Entry>, after: Option<Entry>) {
        self.changes.entry(first).and_modify(|change| change.1 = after).or_insert((before, after));
    }

    /// The first address of each range that changed, in order, with what it is now; `None` where it is gone.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, Option<Entry>)> {
        self.changes.iter().filter(|(_, (before, after))| before != after).map(|(&first, &(_, after))| (first, after))
    }
}
