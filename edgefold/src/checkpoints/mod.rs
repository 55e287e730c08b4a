//! Checkpoints of the fold: what makes a replay to any moment fast, after the first one.
//!
//! Two things are kept. A *fold* of an earlier moment is where a replay begins: there are as many as a bound allows. A *segment* says
//! what a part of the log is about, so that [`Checkpoints::explain`] need not read it: there is one for each part of the log that was
//! read. Both are derived from the log and can be lost at any time. Nothing that is kept is trusted without a proof: bytes have a
//! checksum and state the fold's hash, and a position states the last record before it, which the log's reader compares.

mod bytes;
mod fold_bytes;
mod folder;
mod ranges;
mod segment;
mod store;
mod timeline;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use folder::{FoldName, Folder};
use segment::{OpenSegment, Segment, crosses};
use store::{Limits, NotAfter, Store};

pub(crate) use segment::Summary;
pub use timeline::Timeline;

use crate::explain::{Scan, explain_exactly};
use crate::replay::{Step, read_to_end, replay_on};
use crate::{
    Effect, Error, Explanation, Fold, History, IpRange, List, Log, LogTime, ManyLists, Moment, Position, Record,
};

/// Folds of earlier moments, so that a replay need not begin at offset 0.
///
/// One instance is for one log. Threads can share it: it is not locked while the log is read.
///
/// ```
/// use edgefold::{Checkpoints, LogUrl, Moment};
/// # let directory = tempfile::tempdir()?;
/// # let url: LogUrl = format!("sqlite:{}", directory.path().join("log.db").display()).parse()?;
/// # let log = url.open()?;
/// # log.init()?;
///
/// let checkpoints = Checkpoints::in_memory();
/// let fold = checkpoints.replay(&*log, Moment::Offset(0))?; // as `edgefold::replay`, and the next one is faster
/// assert_eq!(checkpoints.timeline().next_offset, fold.position().next_offset);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoints {
    store: Mutex<Store>,
}

impl Checkpoints {
    /// Checkpoints in memory. Their folds take at most 256 MiB: if they took more, every other one is dropped, and the distance between
    /// them doubles. What segments are about takes about 64 MiB more at most, apart from some hundred bytes for each segment.
    pub fn in_memory() -> Self {
        Self::new(Limits::IN_MEMORY, None)
    }

    /// Checkpoints in a folder, for one log. It is created when the first checkpoint is written, and it can be deleted at any time. Several
    /// processes can use it at once. Its folds take at most 1 GiB, as for [`Checkpoints::in_memory`], and what segments are about 256 MiB.
    ///
    /// If it cannot be read or written, there is a warning, and the checkpoints are kept in memory from then on. While files are listed,
    /// written, or read for the first time, other threads wait.
    pub fn in_folder(folder: &Path) -> Self {
        Self::new(Limits::IN_FOLDER, Some(Folder::new(folder)))
    }

    fn new(limits: Limits, folder: Option<Folder>) -> Self {
        Self { store: Mutex::new(Store::new(limits, folder)) }
    }

    /// The same with other limits, for tests: records between two checkpoints, and bytes of all folds.
    #[doc(hidden)]
    #[must_use]
    pub fn with_limits(self, every: u64, fold_bytes: u64) -> Self {
        let mut store = self.store.into_inner().unwrap_or_else(PoisonError::into_inner);
        let limits = Limits { every, fold_bytes, ..store.limits };
        store.set_limits(limits);
        Self { store: Mutex::new(store) }
    }

    /// As [`replay`](crate::replay()), but it begins at the last checkpoint that is not after the moment, and it leaves checkpoints on the
    /// way. If the log is not the one that the checkpoints are of, they are thrown away, and it begins at offset 0.
    ///
    /// # Errors
    /// Those of [`replay`](crate::replay()), but not [`Error::OtherLog`] because of a checkpoint.
    pub fn replay(&self, log: &dyn Log, moment: Moment) -> Result<Fold, Error> {
        self.replay_from(NotAfter::Moment(moment), log, moment)
    }

    /// Replays from the newest fold that is not after `from`.
    fn replay_from(&self, from: NotAfter, log: &dyn Log, moment: Moment) -> Result<Fold, Error> {
        self.lock().refresh();
        if let Some(fold) = self.newest_until(from) {
            match self.replay_on(log, fold, moment) {
                Err(Error::OtherLog { .. } | Error::Gone { .. }) => self.clear(),
                outcome => return outcome,
            }
        }
        self.replay_on(log, Fold::default(), moment)
    }

    /// The newest checkpoint, from which a log can be followed; `None` if there is none. Whether it is of the same log is known once the
    /// log's reader has proved it.
    pub fn newest(&self) -> Option<Fold> {
        self.lock().refresh();
        self.newest_until(NotAfter::Known)
    }

    /// Takes the records that a follower of the log has just folded, with the position before them and the fold after them, and leaves
    /// a checkpoint if one is due. The follower starts at [`Checkpoints::newest`] or at offset 0. Records that are known are skipped. If
    /// there may be others between what is known and `before`, all are ignored: the next replay reads them.
    pub fn note(&self, before: Position, records: &[Record], after: &Fold) {
        let Some(last) = records.last() else { return };
        let end = after.position();
        if last.offset.checked_add(1) != Some(end.next_offset) {
            return;
        }
        let mut store = self.lock();
        if before.next_offset > store.end().next_offset {
            return;
        }
        let mut learned = Learned::new(store.take_open(), before);
        for record in records {
            let effect = record.effect().ok();
            // If the log time of a command is later than that of the fold after it, the command was rejected.
            let time = effect.as_ref().map_or(LogTime::EPOCH, |effect| effect.time).min(end.log_time);
            let log_time = learned.end().log_time.max(time);
            let last_record = Some(record.hash());
            learned.add(record, effect.as_ref(), Position { next_offset: record.offset + 1, log_time, last_record });
        }
        if learned.is_other_log {
            store.clear();
            return;
        }
        store.extend(learned.done, learned.open);
        drop(store);
        self.leave_fold(after, end.next_offset);
    }

    /// How many commands there were in each interval of log time, up to where the log was read.
    pub fn timeline(&self) -> Timeline {
        let mut store = self.lock();
        store.refresh();
        store.timeline()
    }

    /// As [`explain`](crate::explain()), but it only reads the parts of the log that may be about the range, and those that are not
    /// known yet. If there are many of the latter, it replays them first, so that the next explanation need not.
    ///
    /// # Errors
    /// Those of [`explain`](crate::explain()), but not [`Error::OtherLog`] because of a checkpoint.
    pub fn explain(
        &self,
        log: &dyn Log,
        range: IpRange,
        at: Option<LogTime>,
        now: LogTime,
    ) -> Result<Explanation, Error> {
        self.explain_last(log, range, at, now, usize::MAX)
    }

    /// As [`Checkpoints::explain`], but of what happened it only keeps about `most_events` events, the last: see [`History::keeping`].
    ///
    /// # Errors
    /// As for [`Checkpoints::explain`].
    pub fn explain_last(
        &self,
        log: &dyn Log,
        range: IpRange,
        at: Option<LogTime>,
        now: LogTime,
        most_events: usize,
    ) -> Result<Explanation, Error> {
        let history = |history: History| history.keeping(most_events);
        let explain = || self.explain_by_segments(log, &history(History::new(range)), at, now);
        let outcome = explain().or_else(|error| match error {
            Error::OtherLog { .. } | Error::Gone { .. } => {
                self.clear();
                explain()
            }
            error => Err(error),
        });
        match outcome {
            Ok(Ok(explanation)) => Ok(explanation),
            Ok(Err(ManyLists)) => explain_exactly(log, history(History::exact(range)), at, now),
            Err(error) => Err(error),
        }
    }

    fn explain_by_segments(
        &self,
        log: &dyn Log,
        history: &History,
        at: Option<LogTime>,
        now: LogTime,
    ) -> Result<Result<Explanation, ManyLists>, Error> {
        self.lock().refresh();
        let known = || {
            let (mut segments, open) = {
                let store = self.lock();
                (store.segments().to_vec(), store.open().clone())
            };
            segments.extend(open.so_far().map(Arc::new));
            let end = segments.last().map_or(Position::default(), |segment| segment.to);
            (segments, end)
        };
        let every = self.lock().limits.every;
        let (mut segments, mut end) = known();
        let mut rest = log.commands(end)?;
        if rest.end().saturating_sub(end.next_offset) > every {
            self.replay_from(NotAfter::Known, log, Moment::Time(LogTime::LAST))?;
            (segments, end) = known();
            rest = log.commands(end)?;
        }

        let mut scan = Scan::new(|| history.clone(), at, now);
        let mut segments = segments.iter();
        while !scan.has_failed()
            && let Some(segment) = segments.next()
        {
            if scan.skip(&segment.summary) {
                continue;
            }
            // One reader reads on as long as the next segment is needed too.
            let mut until = segment.to.next_offset;
            let from = segment.from;
            read_to_end(&mut *log.commands(from)?, from.next_offset, |record| {
                while record.offset >= until {
                    match segments.next() {
                        Some(next) if !scan.skip(&next.summary) => until = next.to.next_offset,
                        _ => return false,
                    }
                }
                scan.read(record)
            })?;
        }
        if !scan.has_failed() {
            // This also proves that the segments are of this log.
            read_to_end(&mut *rest, end.next_offset, |record| scan.read(record))?;
        }
        Ok(scan.finish())
    }

    /// Throws all checkpoints away.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // If a panic left something wrong in it, that is noticed like damage from outside.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest fold that is not after `until`. Damaged folds are removed.
    fn newest_until(&self, until: NotAfter) -> Option<Fold> {
        loop {
            let (name, stored) = self.lock().newest(until)?;
            let Ok(bytes) = stored.read() else {
                // It may be readable later.
                self.lock().forget(name);
                continue;
            };
            let fold = bytes.and_then(|bytes| fold_bytes::decode(&bytes));
            if let Some(fold) = fold.filter(|fold| FoldName::of(fold) == name) {
                return Some(fold);
            }
            self.lock().remove(name);
        }
    }

    /// Replays from `fold`, and leaves checkpoints.
    fn replay_on(&self, log: &dyn Log, fold: Fold, moment: Moment) -> Result<Fold, Error> {
        let (open, every) = {
            let store = self.lock();
            (store.open().clone(), store.limits.every)
        };
        let mut learned = Learned::new(open, fold.position());
        let mut reader = log.commands(fold.position())?;
        let (mut due, log_end) = (0, reader.end());
        let outcome = replay_on(&mut *reader, fold, moment, |step, fold| {
            let position = fold.position();
            // As segments do: if the record before a multiple is missing, the next one shows it.
            let is_end_of_segment = match step {
                Step::Next(record) => crosses(position.next_offset, record.offset, every),
                Step::Folded(record, effect) => {
                    learned.add(record, effect, position);
                    position.next_offset.is_multiple_of(every)
                }
            };
            if !learned.done.is_empty() {
                learned.leave(&mut self.lock());
            }
            // At the end of a segment, so that a replay from there reads whole segments.
            if is_end_of_segment && position.next_offset >= due {
                due = self.leave_fold(fold, log_end);
            }
        });
        if learned.is_other_log {
            self.clear();
        } else {
            learned.leave(&mut self.lock());
        }
        outcome
    }

    /// Keeps the fold if it is due, and returns at which offset the next one may be. The log ends at `log_end` or later.
    fn leave_fold(&self, fold: &Fold, log_end: u64) -> u64 {
        let next_offset = fold.position().next_offset;
        // With fewer ranges it is due earlier, and counting them takes long.
        let due = self.lock().due(next_offset, 0, log_end);
        if due > next_offset {
            return due;
        }
        let ranges = fold.lists().iter().map(List::len).sum();
        let due = self.lock().due(next_offset, ranges, log_end);
        if due > next_offset {
            return due;
        }
        let bytes = fold_bytes::encode(fold);
        let mut store = self.lock();
        store.insert(FoldName::of(fold), bytes, ranges);
        store.due(next_offset, ranges, log_end)
    }
}

impl FoldName {
    fn of(fold: &Fold) -> Self {
        let position = fold.position();
        Self { next_offset: position.next_offset, log_time: position.log_time }
    }
}

/// What a reader of the log learns about its records.
struct Learned {
    open: OpenSegment,
    done: Vec<Segment>,
    /// The position before the next record that is read.
    before: Position,
    /// Whether what is known is of another log.
    is_other_log: bool,
}

impl Learned {
    /// Learns what comes after what is known. The records after `before` are read.
    fn new(open: OpenSegment, before: Position) -> Self {
        let mut learned = Self { open, done: Vec::new(), before, is_other_log: false };
        learned.is_other_log = before.next_offset == learned.end().next_offset && !learned.is_end(before);
        learned
    }

    fn end(&self) -> Position {
        self.open.position()
    }

    fn is_end(&self, position: Position) -> bool {
        let end = self.end();
        (position.next_offset, position.last_record) == (end.next_offset, end.last_record)
    }

    /// Takes the next record, with the position after it. It may be known already.
    fn add(&mut self, record: &Record, effect: Option<&Effect>, position: Position) {
        if position.next_offset <= self.before.next_offset {
            return;
        }
        let before = std::mem::replace(&mut self.before, position);
        let end = self.end().next_offset;
        if position.next_offset <= end {
            self.is_other_log |= position.next_offset == end && !self.is_end(position);
        } else if before.next_offset <= end {
            // What is known ends after a record, which must be the last one that was read.
            self.is_other_log |= !self.is_end(before);
            if !self.is_other_log {
                self.open.add(record, effect, position, &mut self.done);
            }
        }
    }

    /// Keeps what was learned since the last time.
    fn leave(&mut self, store: &mut Store) {
        store.extend(std::mem::take(&mut self.done), self.open.clone());
    }
}
