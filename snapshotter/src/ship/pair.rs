//! A base, and what the lists have become since it was cut.
//!
//! A base travels rarely, and an overlay with each change. A new base is due when the overlays over the old one have cost as many bytes
//! as a base: so all together never cost more than twice what the best moments for new bases would have cost, however many changes there
//! are, and however many of them are shipped at once.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Edits, Fold, List, LogTime};
use edgefold_snapshot::{EncodeError, ListName, NewList, NewOverlayList, NewSnapshot, Snapshot, table_bytes};
use edgefold_table::IpRange;

use super::cut::{self, Cut};
use super::difference::{BaseTable, Difference};

/// A base is not worn before more ranges than this have changed, however few it has.
const LEAST_WORN: usize = 64;
/// It is worn when more than this have, however many it has.
const MOST_WORN: usize = 4_000_000;

/// A base, and how each list differs from it.
#[derive(Debug)]
pub(super) struct Pair {
    base: Arc<Snapshot<Bytes>>,
    lists: BTreeMap<ListName, FromBase>,
    /// A moment at which the lists were exactly that.
    true_at: LogTime,
    /// The bytes of the tables of all overlays over this base so far: what they would not have had over a new one.
    spent: usize,
    next: Next,
}

/// How a list differs from the one in the base.
#[derive(Debug, Default)]
struct FromBase {
    /// The index of the list in the base; `None` if it has nothing to do with the base.
    extends: Option<usize>,
    difference: Difference,
}

/// How far the next base is.
#[derive(Debug)]
enum Next {
    NotDue,
    Due,
    /// It is being encoded. The changes since then are collected.
    Running(Since),
    Done(Arc<Snapshot<Bytes>>, Since),
}

/// What has changed since the overlay that the next base is made of.
#[derive(Debug, Default)]
struct Since {
    /// Where something has changed, and the ranges that were there before, each as a whole. So every range of the next base that is not on
    /// the list as it was is among them.
    changes: BTreeMap<ListName, Vec<IpRange>>,
    /// Lists that were gone at some point.
    gone: BTreeSet<ListName>,
}

impl Pair {
    /// A pair of which nothing has changed since its base, which was cut at `now`.
    pub(super) fn new(base: Arc<Snapshot<Bytes>>, now: LogTime) -> Self {
        let lists = base.header().lists.iter().enumerate();
        let lists =
            lists.map(|(at, list)| (list.name, FromBase { extends: Some(at), ..FromBase::default() })).collect();
        Self { base, lists, true_at: now, spent: 0, next: Next::NotDue }
    }

    /// A pair of a base with any content, for instance that of another process; `None` if that has little of what is on the lists. It takes
    /// one pass over all lists, and little memory whatever the base has.
    pub(super) fn resume(base: Arc<Snapshot<Bytes>>, fold: &Fold, now: LogTime) -> Option<Self> {
        let mut this = Self::new(base, now);
        let most = this.most_changed();
        this.lists.retain(|name, _| fold.list(name).is_some());
        for list in fold.lists() {
            let of = this.lists.entry(list.name()).or_default();
            of.difference = Difference::between(table(&this.base, of.extends), list.ranges_at(now), most)?;
        }
        (!this.is_worn()).then_some(this)
    }

    /// Whether the base has little of what is on the lists.
    fn is_worn(&self) -> bool {
        self.lists.values().map(|list| list.difference.ranges()).sum::<usize>() > self.most_changed()
    }

    /// How many ranges may have changed until a new base is due, whatever was shipped. Few of them are no reason for one.
    fn most_changed(&self) -> usize {
        let (ipv4, ipv6) = self.base.header().ranges();
        // Of a base with very many ranges, as only somebody else can have made it, at most so many are compared.
        usize::try_from((ipv4 + ipv6) / 4).unwrap_or(usize::MAX).clamp(LEAST_WORN, MOST_WORN)
    }

    /// The lists are still what they were, at `now`.
    pub(super) fn note_unchanged(&mut self, now: LogTime) {
        self.true_at = now;
    }

    /// Takes over what has changed in `fold`. `edits` are those since the last time.
    pub(super) fn update(&mut self, fold: &Fold, edits: &Edits, now: LogTime) {
        let changes = fold.changes(self.true_at, edits, now);
        let mut since = match &mut self.next {
            Next::Running(since) | Next::Done(_, since) => Some(since),
            Next::NotDue | Next::Due => None,
        };
        self.lists.retain(|name, _| {
            let is_there = fold.list(name).is_some();
            if let Some(since) = since.as_mut().filter(|_| !is_there) {
                since.changes.remove(name);
                since.gone.insert(*name);
            }
            is_there
        });
        for (name, changed) in changes {
            let Some(list) = fold.list(&name) else { continue };
            let mut touched = self.lists.entry(name).or_default().update(&self.base, list, changed.clone(), now);
            if let Some(since) = since.as_mut().filter(|since| !since.gone.contains(&name)) {
                touched.extend(changed);
                since.changes.entry(name).or_default().append(&mut touched);
            }
        }
        self.true_at = now;
    }

    /// The overlay for the lists of `fold` at `now`. If the next base is there, it is over that. The two together have at most `most_bytes`.
    pub(super) fn cut(
        &mut self,
        fold: &Fold,
        new: NewSnapshot<'_>,
        now: LogTime,
        most_bytes: usize,
    ) -> Result<Cut, EncodeError> {
        match mem::replace(&mut self.next, Next::NotDue) {
            Next::Done(base, since) => *self = Self::after(base, since, fold, now),
            other => self.next = other,
        }
        let mut ranges = 0;
        let none = FromBase::default();
        let lists = cut::shipped_lists(fold, now).map(|list| {
            let FromBase { extends, difference } = self.lists.get(&list.name()).unwrap_or(&none);
            let below = table(&self.base, *extends).map_or(0, |table| table.ipv4_ranges() + table.ipv6_ranges());
            let count = difference.count(below);
            ranges += count as u64;
            // Where little is left of what the base has, it is shorter to say what is left.
            let (added, removed) = if count < difference.ranges() {
                (list.ranges_at(now).collect(), None)
            } else {
                (difference.added(), extends.map(|_| difference.removed()))
            };
            NewOverlayList { added: NewList { name: list.name(), action: list.action(), ranges: added }, removed }
        });
        let overlay = new.encode_overlay(self.base.fingerprint(), lists)?;
        let (overlay_bytes, base_bytes) = (table_bytes(&overlay), table_bytes(self.base.bytes()));
        // A base that has both must be possible.
        let length = self.base.bytes().len() + overlay_bytes;
        if length > most_bytes && self.lists.values().any(|list| list.difference.ranges() > 0) {
            return Err(EncodeError::TooLong { length });
        }
        self.spent = self.spent.saturating_add(overlay_bytes);
        if matches!(self.next, Next::NotDue) && (self.spent >= base_bytes || self.is_worn()) {
            self.next = Next::Due;
        }
        Ok(Cut { snapshot: overlay, is_overlay: true, ranges, base: Some(Arc::clone(&self.base)) })
    }

    /// The pair over the next base, which was made of an overlay before the changes `since`.
    fn after(base: Arc<Snapshot<Bytes>>, since: Since, fold: &Fold, now: LogTime) -> Self {
        let Since { mut changes, gone } = since;
        let mut this = Self::new(base, now);
        this.lists.retain(|name, _| !gone.contains(name) && fold.list(name).is_some());
        for list in fold.lists() {
            let name = list.name();
            if gone.contains(&name) {
                let difference = Difference::of(list.ranges_at(now));
                this.lists.insert(name, FromBase { extends: None, difference });
            } else if let Some(changed) = changes.remove(&name) {
                this.lists.entry(name).or_default().update(&this.base, list, changed, now);
            }
        }
        this
    }

    /// The base that the next one is made of, if that is due and has not started.
    pub(super) fn start_rebase(&mut self) -> Option<Arc<Snapshot<Bytes>>> {
        matches!(self.next, Next::Due).then(|| {
            self.next = Next::Running(Since::default());
            Arc::clone(&self.base)
        })
    }

    /// The next base is there; `None` if it could not be made, which is tried again later.
    pub(super) fn end_rebase(&mut self, base: Option<Arc<Snapshot<Bytes>>>) {
        let is_new = |base: &Arc<Snapshot<Bytes>>| base.fingerprint() != self.base.fingerprint();
        self.next = match (base.filter(is_new), mem::replace(&mut self.next, Next::NotDue)) {
            (Some(base), Next::Running(since)) => Next::Done(base, since),
            _ => {
                self.spent = 0;
                Next::NotDue
            }
        };
    }

    /// Whether the next base is there.
    pub(super) fn has_new_base(&self) -> bool {
        matches!(self.next, Next::Done(..))
    }
}

impl FromBase {
    fn update(&mut self, base: &Snapshot<Bytes>, list: &List, changed: Vec<IpRange>, now: LogTime) -> Vec<IpRange> {
        self.difference.update(table(base, self.extends), changed, |range| list.ranges_within(range, now))
    }
}

/// The ranges that `base` has of the list at this index.
fn table(base: &Snapshot<Bytes>, list: Option<usize>) -> BaseTable<'_> {
    base.table(list?)
}
