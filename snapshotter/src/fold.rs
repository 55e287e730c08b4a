//! The fold: what the commands below an offset mean. Pure: no Kafka, no clock, no async.
//!
//! For every address the fold knows how long it is blocked; it keeps that as disjoint ranges, each as long as it can be.
//! `docs/semantics.md` is the authority for what a command means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use edgefold_table::{Address, AddressRange, IpRange};

use crate::edits::{Edits, Entry};
use crate::range_text::MAPPED;
use crate::record::{Change, Record, Reject, Until};
use crate::time::LogTime;

/// How far the log is folded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// All commands below this offset are in.
    pub next_offset: u64,
    /// The latest command time among them; [`LogTime::EPOCH`] before the first.
    pub log_time: LogTime,
}

/// The ranges that are blocked after the commands so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fold {
    position: Position,
    v4: Blocks<Ipv4Addr>,
    v6: Blocks<Ipv6Addr>,
}

impl Fold {
    /// A fold that goes on from a view: `ranges` as [`Fold::ranges`] gave them at `position`, in any order.
    ///
    /// # Errors
    /// The range that overlaps another, or touches one with the same end: no fold gives such ranges.
    pub fn resume(position: Position, ranges: impl IntoIterator<Item = (IpRange, Until)>) -> Result<Self, IpRange> {
        let mut fold = Self { position, ..Self::default() };
        for (range, until) in ranges {
            match range {
                IpRange::V4(range) => fold.v4.restore(range, until),
                IpRange::V6(range) => fold.v6.restore(range, until),
            }
        }
        fold.v4.out_of_order().map(IpRange::V4).or(fold.v6.out_of_order().map(IpRange::V6)).map_or(Ok(fold), Err)
    }

    /// Folds one record, which must be the next: offsets never fall, though some may be missing.
    ///
    /// What changes is added to `edits`.
    ///
    /// # Errors
    /// [`Reject`] if the record cannot be read. It is skipped then, and the position moves on all the same.
    pub fn apply(&mut self, record: &Record, edits: &mut Edits) -> Result<(), Reject> {
        debug_assert!(record.offset >= self.position.next_offset, "records come in order");
        self.position.next_offset = record.offset + 1;
        let Change { time, range, until } = record.change()?;
        if time > self.position.log_time {
            self.position.log_time = time;
            self.v4.expire(time, edits);
            self.v6.expire(time, edits);
        }
        match (range, until) {
            (IpRange::V4(range), None) => self.v4.allow(range, edits),
            (IpRange::V6(range), None) => self.v6.allow(range, edits),
            (_, Some(until)) if !until.holds_at(self.position.log_time) => {}
            (IpRange::V4(range), Some(until)) => self.v4.block(range, until, edits),
            (IpRange::V6(range), Some(until)) => {
                for range in without_mapped(range).into_iter().flatten() {
                    self.v6.block(range, until, edits);
                }
            }
        }
        Ok(())
    }

    /// How far the log is folded.
    pub fn position(&self) -> Position {
        self.position
    }

    /// All ranges, IPv4 before IPv6, sorted and disjoint. Neighbours may touch, with different ends then.
    pub fn ranges(&self) -> impl Iterator<Item = (IpRange, Until)> {
        let v4 = self.v4.iter().map(|(range, until)| (range.into(), until));
        v4.chain(self.v6.iter().map(|(range, until)| (range.into(), until)))
    }

    /// The ranges that are blocked at `time`, as [`edgefold_table::encode`] wants them: touching ones are one.
    pub fn blocked_at(&self, time: LogTime) -> impl Iterator<Item = IpRange> {
        let v4 = joined(self.v4.iter().filter(move |(_, until)| until.holds_at(time)).map(|(range, _)| range));
        let v6 = joined(self.v6.iter().filter(move |(_, until)| until.holds_at(time)).map(|(range, _)| range));
        v4.map(IpRange::V4).chain(v6.map(IpRange::V6))
    }

    /// The range that holds `ip` and is blocked at `time`, and until when.
    pub fn find(&self, ip: IpAddr, time: LogTime) -> Option<(IpRange, Until)> {
        let found = match ip.to_canonical() {
            IpAddr::V4(address) => self.v4.find(address).map(|(range, until)| (range.into(), until)),
            IpAddr::V6(address) => self.v6.find(address).map(|(range, until)| (range.into(), until)),
        };
        found.filter(|(_, until)| until.holds_at(time))
    }

    /// The first moment after `time` at which a range expires.
    pub fn next_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.v4.next_expiry(time).into_iter().chain(self.v6.next_expiry(time)).min()
    }

    /// The last moment up to `time` at which a range expired that is still among [`Fold::ranges`], since no command has come
    /// since then.
    pub fn newest_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.v4.newest_expiry(time).into_iter().chain(self.v6.newest_expiry(time)).max()
    }
}

/// The parts of `range` outside the IPv4-mapped block, whose addresses are IPv4.
fn without_mapped(range: AddressRange<Ipv6Addr>) -> [Option<AddressRange<Ipv6Addr>>; 2] {
    let (first_mapped, last_mapped) = MAPPED;
    let before = first_mapped.predecessor().filter(|_| range.first() < first_mapped);
    let after = last_mapped.successor().filter(|_| range.last() > last_mapped);
    [
        before.and_then(|before| AddressRange::new(range.first(), range.last().min(before)).ok()),
        after.and_then(|after| AddressRange::new(range.first().max(after), range.last()).ok()),
    ]
}

/// `ranges`, sorted, with those that touch made one.
fn joined<A: Address>(ranges: impl Iterator<Item = AddressRange<A>>) -> impl Iterator<Item = AddressRange<A>> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let mut range = ranges.next()?;
        while let Some(next) = ranges.next_if(|next| range.last().successor() == Some(next.first())) {
            range = AddressRange::new(range.first(), next.last()).unwrap_or(range);
        }
        Some(range)
    })
}

/// The blocks of one family: disjoint, and no two with the same end touch.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Blocks<A> {
    /// Last address and end of the block, by its first address.
    by_first: BTreeMap<A, (A, Until)>,
    /// The blocks that end, by their end.
    expiries: BTreeSet<(LogTime, A)>,
}

impl<A> Default for Blocks<A> {
    fn default() -> Self {
        Self { by_first: BTreeMap::new(), expiries: BTreeSet::new() }
    }
}

impl<A: Address> Blocks<A> {
    fn block(&mut self, range: AddressRange<A>, until: Until, edits: &mut Edits) {
        let (first, last) = (range.first(), range.last());
        // Neighbours too, since a block with the same end becomes one with them.
        let old = self.take(first.predecessor().unwrap_or(first), last.successor().unwrap_or(last), edits);
        let mut new = Pieces(Vec::with_capacity(2 * old.len() + 1));
        // The first address of the range that no piece holds yet; none at the end.
        let mut open = Some(first);
        for (block, end) in old {
            if let Some(before) = first.predecessor() {
                new.push(block.first(), block.last().min(before), end);
            }
            let (inner_first, inner_last) = (block.first().max(first), block.last().min(last));
            if inner_first <= inner_last {
                if let (Some(open), Some(before)) = (open, inner_first.predecessor()) {
                    new.push(open, before, until);
                }
                new.push(inner_first, inner_last, end.max(until));
                open = inner_last.successor();
            }
            if let Some(after) = last.successor().filter(|after| block.last() >= *after) {
                if let Some(open) = open.take() {
                    new.push(open, last, until);
                }
                new.push(block.first().max(after), block.last(), end);
            }
        }
        if let Some(open) = open {
            new.push(open, last, until);
        }
        for (piece, until) in new.0 {
            self.put(piece, until, edits);
        }
    }

    fn allow(&mut self, range: AddressRange<A>, edits: &mut Edits) {
        let mut rest = Pieces(Vec::with_capacity(2));
        for (block, until) in self.take(range.first(), range.last(), edits) {
            if let Some(before) = range.first().predecessor() {
                rest.push(block.first(), block.last().min(before), until);
            }
            if let Some(after) = range.last().successor() {
                rest.push(block.first().max(after), block.last(), until);
            }
        }
        for (piece, until) in rest.0 {
            self.put(piece, until, edits);
        }
    }

    /// Drops what has expired by `time`.
    fn expire(&mut self, time: LogTime, edits: &mut Edits) {
        while let Some(&(end, first)) = self.expiries.first()
            && end <= time
        {
            self.remove(first, edits);
        }
    }

    /// Removes the blocks with an address from `from` to `to`, and gives them back in order.
    fn take(&mut self, from: A, to: A, edits: &mut Edits) -> Vec<(AddressRange<A>, Until)> {
        let before = self.by_first.range(..from).next_back().filter(|(_, (last, _))| *last >= from);
        let firsts: Vec<A> =
            before.into_iter().chain(self.by_first.range(from..=to)).map(|(&first, _)| first).collect();
        firsts.into_iter().filter_map(|first| self.remove(first, edits)).collect()
    }

    fn remove(&mut self, first: A, edits: &mut Edits) -> Option<(AddressRange<A>, Until)> {
        let (last, until) = self.by_first.remove(&first)?;
        if let Until::Time(end) = until {
            self.expiries.remove(&(end, first));
        }
        edits.record(first.into(), Some(Entry { last: last.into(), until }), None);
        Some((AddressRange::new(first, last).ok()?, until))
    }

    fn put(&mut self, range: AddressRange<A>, until: Until, edits: &mut Edits) {
        self.restore(range, until);
        edits.record(range.first().into(), None, Some(Entry { last: range.last().into(), until }));
    }

    fn restore(&mut self, range: AddressRange<A>, until: Until) {
        self.by_first.insert(range.first(), (range.last(), until));
        if let Until::Time(end) = until {
            self.expiries.insert((end, range.first()));
        }
    }

    /// The first block that overlaps the one before it, or should be one with it.
    fn out_of_order(&self) -> Option<AddressRange<A>> {
        let next = self.iter().skip(1);
        let wrong = self.iter().zip(next).find(|((before, end), (next, next_end))| {
            before.last() >= next.first() || (end == next_end && before.last().successor() == Some(next.first()))
        });
        wrong.map(|(_, (next, _))| next)
    }

    fn iter(&self) -> impl Iterator<Item = (AddressRange<A>, Until)> {
        self.by_first.iter().filter_map(|(&first, &(last, until))| Some((AddressRange::new(first, last).ok()?, until)))
    }

    fn find(&self, address: A) -> Option<(AddressRange<A>, Until)> {
        let (&first, &(last, until)) = self.by_first.range(..=address).next_back()?;
        let range = AddressRange::new(first, last).ok()?;
        range.contains(address).then_some((range, until))
    }

    fn next_expiry(&self, time: LogTime) -> Option<LogTime> {
        let after = (Bound::Excluded((time, A::LAST)), Bound::Unbounded);
        self.expiries.range(after).next().map(|&(end, _)| end)
    }

    fn newest_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.expiries.range(..=(time, A::LAST)).next_back().map(|&(end, _)| end)
    }
}

/// Pieces of ranges in order, those that touch and have the same end made one.
struct Pieces<A>(Vec<(AddressRange<A>, Until)>);

impl<A: Address> Pieces<A> {
    /// Adds the addresses from `first` to `last`, if there are any.
    fn push(&mut self, first: A, last: A, until: Until) {
        let Ok(mut piece) = AddressRange::new(first, last) else { return };
        if let Some((before, _)) =
            self.0.pop_if(|(before, end)| *end == until && before.last().successor() == Some(first))
        {
            piece = AddressRange::new(before.first(), last).unwrap_or(piece);
        }
        self.0.push((piece, until));
    }
}
