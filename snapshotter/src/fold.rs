//! The fold: what the commands below an offset mean. Pure: no Kafka, no clock, no async.
//!
//! For every address the fold knows how long it is blocked; it keeps that as disjoint ranges, each as long as it can be.
//! `docs/semantics.md` is the authority for what a command means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold_table::{Address, AddressRange, IpRange};

use crate::blocks::{Block, Blocks};
use crate::edits::Edits;
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
    pub(crate) v4: Blocks<Ipv4Addr>,
    pub(crate) v6: Blocks<Ipv6Addr>,
}

impl Fold {
    /// A fold that goes on from a view: `ranges` as [`Fold::ranges`] gave them at `position`, in any order.
    ///
    /// # Errors
    /// The range that overlaps another, or touches one with the same end: no fold gives such ranges.
    pub fn resume(position: Position, ranges: impl IntoIterator<Item = (IpRange, Until)>) -> Result<Self, IpRange> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (range, until) in ranges {
            match range {
                IpRange::V4(range) => v4.push(Block::new(range, until)),
                IpRange::V6(range) => v6.push(Block::new(range, until)),
            }
        }
        let (v4, v6) = (Blocks::restore(v4).map_err(IpRange::V4)?, Blocks::restore(v6).map_err(IpRange::V6)?);
        Ok(Self { position, v4, v6 })
    }

    /// Folds one record, which must be the next: offsets never fall, though some may be missing.
    ///
    /// What changes is added to `edits`.
    ///
    /// # Errors
    /// [`Reject`] if the record cannot be read. It is skipped then, and the position moves on all the same.
    pub fn apply(&mut self, record: &Record, edits: &mut Edits) -> Result<(), Reject> {
        let change = record.change().inspect_err(|_| self.advance(record.offset))?;
        self.apply_change(record.offset, &change, edits);
        Ok(())
    }

    /// Folds the change that [`Record::change`] gave for the record at `offset`, as [`Fold::apply`] does.
    pub fn apply_change(&mut self, offset: u64, change: &Change, edits: &mut Edits) {
        self.advance(offset);
        let Change { time, range, until } = *change;
        if time > self.position.log_time {
            self.position.log_time = time;
            self.v4.expire(time, &mut edits.v4);
            self.v6.expire(time, &mut edits.v6);
        }
        match (range, until) {
            (IpRange::V4(range), None) => self.v4.allow(range, &mut edits.v4),
            (IpRange::V6(range), None) => self.v6.allow(range, &mut edits.v6),
            (_, Some(until)) if !until.holds_at(self.position.log_time) => {}
            (IpRange::V4(range), Some(until)) => self.v4.block(range, until, &mut edits.v4),
            (IpRange::V6(range), Some(until)) => {
                for range in without_mapped(range).into_iter().flatten() {
                    self.v6.block(range, until, &mut edits.v6);
                }
            }
        }
    }

    fn advance(&mut self, offset: u64) {
        debug_assert!(offset >= self.position.next_offset, "records come in order");
        self.position.next_offset = offset + 1;
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
