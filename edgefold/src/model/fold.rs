//! The fold: what the commands below an offset add up to.
//!
//! The fold knows for every address until when it is blocked. It keeps that as disjoint ranges, each as long as possible.
//! `docs/semantics.md` is the authority for what a command means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold_table::{Address, AddressRange, IPV4_MAPPED, IpRange};

use super::block::{Block, joined};
use super::blocks::Blocks;
use super::edits::{Edits, FamilyEdits};
use super::record::{Effect, Record, RecordHash, Reject};
use super::time::LogTime;

/// How far a log is folded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// All commands below this offset are folded.
    pub next_offset: u64,
    /// The latest command time among them; [`LogTime::EPOCH`] before the first.
    pub log_time: LogTime,
    /// The hash of the last record that was folded, at offset `next_offset` - 1, by which a reader that comes back recognizes
    /// the log. `None` before the first.
    pub last_record: Option<RecordHash>,
}

/// `offset 1042 (log time 2026-11-23T03:00:00Z)`
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} (log time {})", self.next_offset, self.log_time)
    }
}

/// The blocks that the commands so far add up to.
///
/// ```
/// use edgefold::{Edits, Fold, LogTime, Record};
///
/// let mut fold = Fold::default();
/// let mut edits = Edits::default();
/// for (offset, text) in (0..).zip(["BLACKLIST 10.0.0.0/24 ttl=4h", "WHITELIST 10.0.0.100"]) {
///     let key = Some(b"2016-09-12T15:32:00Z".to_vec());
///     fold.apply(&Record { offset, timestamp: None, key, value: Some(text.into()) }, &mut edits)?;
/// }
/// let ranges: Vec<String> = fold.blocks().map(|block| block.range.to_string()).collect();
/// assert_eq!(ranges, ["10.0.0.0-10.0.0.99", "10.0.0.101-10.0.0.255"]);
///
/// let at: LogTime = "2016-09-12T19:31:59Z".parse()?;
/// assert!(fold.find("10.0.0.7".parse()?, at).is_some());
/// assert_eq!(fold.next_expiry(at), Some("2016-09-12T19:32:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fold {
    position: Position,
    v4: Blocks<Ipv4Addr>,
    v6: Blocks<Ipv6Addr>,
}

impl Fold {
    /// Restores a fold from its `blocks`, in any order, as [`Fold::blocks`] returned them at `position`.
    ///
    /// # Errors
    /// A range that overlaps another, or that touches one with the same end. A fold never has such ranges.
    pub fn resume(position: Position, blocks: impl IntoIterator<Item = Block>) -> Result<Self, IpRange> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Block { range, until } in blocks {
            match range {
                IpRange::V4(range) => v4.push(Block { range, until }),
                IpRange::V6(range) => v6.push(Block { range, until }),
            }
        }
        let (v4, v6) = (Blocks::restore(v4).map_err(IpRange::V4)?, Blocks::restore(v6).map_err(IpRange::V6)?);
        Ok(Self { position, v4, v6 })
    }

    /// Folds the next record, and adds what changes to `edits`. Offsets must rise, but may have gaps.
    ///
    /// # Errors
    /// [`Reject`] if the record cannot be read. It is skipped, but the position still advances.
    pub fn apply(&mut self, record: &Record, edits: &mut Edits) -> Result<(), Reject> {
        self.advance(record.offset, record.hash());
        self.apply_effect(&record.effect()?, edits);
        Ok(())
    }

    /// Folds the [`Record::effect`] of a record, for callers that know it already. [`Fold::advance`] moves the position.
    pub fn apply_effect(&mut self, effect: &Effect, edits: &mut Edits) {
        let Effect { time, range, until } = *effect;
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
                for range in without_ipv4_mapped(range).into_iter().flatten() {
                    self.v6.block(range, until, &mut edits.v6);
                }
            }
        }
    }

    /// Moves the position past the record at `offset` with this hash. Whoever does not call [`Fold::apply`] calls this for every
    /// record, rejected or not.
    pub fn advance(&mut self, offset: u64, hash: RecordHash) {
        debug_assert!(offset >= self.position.next_offset, "offsets rise");
        self.position.next_offset = offset + 1;
        self.position.last_record = Some(hash);
    }

    /// How far the log is folded.
    pub fn position(&self) -> Position {
        self.position
    }

    /// A hash of the set of all blocks. It does not depend on how they came about.
    pub fn hash(&self) -> u64 {
        self.v4.hash().wrapping_add(self.v6.hash())
    }

    /// All blocks, IPv4 before IPv6, sorted and disjoint. Neighbours that touch have different ends. Blocks that have expired
    /// since the last command are still among them.
    pub fn blocks(&self) -> impl Iterator<Item = Block> {
        self.v4.iter().map(|&block| block.into()).chain(self.v6.iter().map(|&block| block.into()))
    }

    /// The ranges that are blocked at `time`, sorted, with ranges that touch joined: what [`edgefold_table::encode`] needs.
    pub fn blocked_at(&self, time: LogTime) -> impl Iterator<Item = IpRange> {
        let v4 = joined(self.v4.iter().filter(move |block| block.until.holds_at(time)).map(|block| block.range));
        let v6 = joined(self.v6.iter().filter(move |block| block.until.holds_at(time)).map(|block| block.range));
        v4.map(IpRange::V4).chain(v6.map(IpRange::V6))
    }

    /// The block that contains `ip` and is in force at `time`. An IPv4-mapped IPv6 address is looked up as the IPv4 address
    /// in it.
    pub fn find(&self, ip: IpAddr, time: LogTime) -> Option<Block> {
        let found: Option<Block> = match ip.to_canonical() {
            IpAddr::V4(address) => self.v4.find(address).map(|&block| block.into()),
            IpAddr::V6(address) => self.v6.find(address).map(|&block| block.into()),
        };
        found.filter(|block| block.until.holds_at(time))
    }

    /// The edits that lead from the blocks of `before` to those of this fold.
    pub fn edits_since(&self, before: &Self) -> Edits {
        Edits {
            v4: FamilyEdits::between(before.v4.iter(), self.v4.iter()),
            v6: FamilyEdits::between(before.v6.iter(), self.v6.iter()),
        }
    }

    /// Whether other addresses are blocked at `now` than were at `then`, before the `edits` that led to this fold. A block can be
    /// split, joined or prolonged without that.
    pub fn has_changed(&self, then: LogTime, edits: &Edits, now: LogTime) -> bool {
        edits.v4.change_what_is_blocked(then, now, self.v4.expired_between(then, now))
            || edits.v6.change_what_is_blocked(then, now, self.v6.expired_between(then, now))
    }

    /// The first moment after `time` at which a block expires.
    pub fn next_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.v4.next_expiry(time).into_iter().chain(self.v6.next_expiry(time)).min()
    }

    /// The last moment up to `time` at which a block expired that is still among [`Fold::blocks`], because no command has
    /// come since then.
    pub fn newest_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.v4.newest_expiry(time).into_iter().chain(self.v6.newest_expiry(time)).max()
    }
}

/// The parts of `range` outside the IPv4-mapped block, whose addresses are IPv4.
fn without_ipv4_mapped(range: AddressRange<Ipv6Addr>) -> [Option<AddressRange<Ipv6Addr>>; 2] {
    let before = IPV4_MAPPED.first().predecessor().filter(|_| range.first() < IPV4_MAPPED.first());
    let after = IPV4_MAPPED.last().successor().filter(|_| range.last() > IPV4_MAPPED.last());
    [
        before.and_then(|before| AddressRange::new(range.first(), range.last().min(before)).ok()),
        after.and_then(|after| AddressRange::new(range.first().max(after), range.last()).ok()),
    ]
}
