//! What is kept: folds, as many as the bound allows, and what all segments are about.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tracing::warn;

use super::folder::{FoldName, Folder, SegmentName};
use super::segment::{OpenSegment, Segment};
use super::timeline::Timeline;
use crate::{Moment, Position};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A segment ends where offsets pass a multiple of this, and there is a fold in this distance at best.
    pub(super) every: u64,
    /// The most bytes of all folds.
    pub(super) fold_bytes: u64,
    /// The most bytes of what segments are about. Segments after that are always read.
    pub(super) touched_bytes: u64,
}

impl Limits {
    /// A fold and the records up to the next one are read in a tenth of a second.
    const EVERY: u64 = 100_000;
    pub(super) const IN_MEMORY: Self = Self { every: Self::EVERY, fold_bytes: 256 << 20, touched_bytes: 64 << 20 };
    pub(super) const IN_FOLDER: Self = Self { every: Self::EVERY, fold_bytes: 1 << 30, touched_bytes: 256 << 20 };

    fn min(self, other: Self) -> Self {
        Self {
            every: self.every,
            fold_bytes: self.fold_bytes.min(other.fold_bytes),
            touched_bytes: self.touched_bytes.min(other.touched_bytes),
        }
    }
}

/// A fold is at least as many records away from the one before it as it has ranges, divided by this: encoding it takes as long as it
/// is large.
const RANGES_FOR_EACH_RECORD: u64 = 40;

/// Where the bytes of a fold are.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Memory(Arc<Vec<u8>>),
    File(Folder, FoldName),
}

impl Stored {
    /// The bytes; `None` if they are gone.
    pub(super) fn read(&self) -> io::Result<Option<Arc<Vec<u8>>>> {
        match self {
            Self::Memory(bytes) => Ok(Some(Arc::clone(bytes))),
            Self::File(folder, name) => Ok(folder.read(*name)?.map(Arc::new)),
        }
    }
}

/// Which folds are not too late.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotAfter {
    /// The end of the records that are known. A reader that starts at such a fold learns what comes next.
    Known,
    Moment(Moment),
}

/// Everything that is kept. With a folder, that is what the folder has, and the open segment.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) limits: Limits,
    folder: Option<Folder>,
    /// The folds that are in memory; none with a folder.
    memory: BTreeMap<FoldName, Arc<Vec<u8>>>,
    /// The folds in the folder when it was last looked at, with their sizes.
    listed: BTreeMap<FoldName, u64>,
    /// From offset 0 on, without a gap.
    segments: Vec<Arc<Segment>>,
    /// That of the segments.
    segments_timeline: Timeline,
    /// What comes after them.
    open: OpenSegment,
    /// That of all, if it is up to date.
    timeline: Option<Timeline>,
    /// Bytes for each range of the last fold, or of a usual one, for an estimate.
    bytes_for_each_range: f64,
    /// The offset of the last fold that was too large to be kept.
    refused: Option<u64>,
}

impl Store {
    pub(super) fn new(limits: Limits, folder: Option<Folder>) -> Self {
        Self {
            limits,
            folder,
            memory: BTreeMap::new(),
            listed: BTreeMap::new(),
            segments: Vec::new(),
            segments_timeline: Timeline::default(),
            open: OpenSegment::new(Position::default(), limits.every),
            timeline: None,
            bytes_for_each_range: 2.5,
            refused: None,
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        *self = Self::new(limits, self.folder.take());
    }

    /// Looks at what other processes have written to the folder, or removed from it.
    pub(super) fn refresh(&mut self) {
        let Some(folder) = self.folder.clone() else { return };
        if let Err(error) = self.read(&folder) {
            self.go_on_without_folder(&folder, &error);
        }
    }

    /// Reads the segments up to the first one that is missing. The files of those after it stay: once the missing one is written again,
    /// they are read.
    fn read(&mut self, folder: &Folder) -> io::Result<()> {
        let listing = folder.list()?;
        self.listed = listing.folds;
        let (mut segments, mut end): (Vec<Arc<Segment>>, _) = (Vec::new(), Position::default());
        loop {
            let from = end.next_offset;
            let candidates = listing.segments.range(SegmentName { from, to: 0 }..=SegmentName { from, to: u64::MAX });
            let mut next = None;
            for &name in candidates.rev() {
                let known = self.segments.get(segments.len()).filter(|known| SegmentName::of(known) == name);
                let segment = match known {
                    Some(known) => Some(Arc::clone(known)),
                    None => folder.read(name)?.and_then(|bytes| Segment::decode(&bytes)).map(Arc::new),
                };
                next = segment.filter(|segment| segment.from == end && SegmentName::of(segment) == name);
                if next.is_some() {
                    break;
                }
                let _maybe_read_only = folder.remove(name);
            }
            let Some(segment) = next else { break };
            end = segment.to;
            segments.push(segment);
        }
        let is_same = |(one, other): (&Arc<Segment>, &Arc<Segment>)| Arc::ptr_eq(one, other);
        if segments.len() != self.segments.len() || !segments.iter().zip(&self.segments).all(is_same) {
            self.segments_timeline = Timeline::default();
            segments.iter().for_each(|segment| self.segments_timeline.extend(&segment.timeline));
            self.segments = segments;
            self.timeline = None;
        }
        if self.open.from() != end {
            self.open = OpenSegment::new(end, self.limits.every);
            self.timeline = None;
        }
        Ok(())
    }

    /// What is known stays in memory, and what comes is limited to what may be there.
    fn go_on_without_folder(&mut self, folder: &Folder, error: &io::Error) {
        warn!("going on without the checkpoints in {}: {error}", folder.path().display());
        self.folder = None;
        self.listed.clear();
        self.limits = self.limits.min(Limits::IN_MEMORY);
        let mut touched = 0;
        for segment in &mut self.segments {
            touched += segment.touched_len();
            if touched > self.limits.touched_bytes {
                Arc::make_mut(segment).forget_touched();
            }
        }
    }

    /// Up to where it is known what the records are about.
    pub(super) fn end(&self) -> Position {
        self.open.position()
    }

    pub(super) fn open(&self) -> &OpenSegment {
        &self.open
    }

    /// Takes what [`Store::extend`] gives back. Until then, the records in it are not known.
    pub(super) fn take_open(&mut self) -> OpenSegment {
        let next = OpenSegment::new(self.open.from(), self.limits.every);
        std::mem::replace(&mut self.open, next)
    }

    pub(super) fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    pub(super) fn timeline(&mut self) -> Timeline {
        let Self { timeline, segments_timeline, open, .. } = self;
        timeline
            .get_or_insert_with(|| {
                let mut all = segments_timeline.clone();
                all.extend(open.timeline());
                all
            })
            .clone()
    }

    /// Adds these segments and what comes after them, if they start where what is known ends.
    pub(super) fn extend(&mut self, segments: Vec<Segment>, open: OpenSegment) {
        for mut segment in segments {
            if segment.from != self.segments_end() {
                continue;
            }
            let touched: u64 = self.segments.iter().map(|segment| segment.touched_len()).sum();
            if touched + segment.touched_len() > self.limits.touched_bytes {
                segment.forget_touched();
            }
            if let Some(folder) = self.folder.clone()
                && let Err(error) = folder.write(SegmentName::of(&segment), &segment.encode())
            {
                self.go_on_without_folder(&folder, &error);
            }
            self.segments_timeline.extend(&segment.timeline);
            self.segments.push(Arc::new(segment));
            self.open = OpenSegment::new(self.segments_end(), self.limits.every);
            self.timeline = None;
        }
        if open.from() == self.open.from() && open.position().next_offset >= self.open.position().next_offset {
            self.open = open;
            self.timeline = None;
        }
    }

    fn segments_end(&self) -> Position {
        self.segments.last().map_or(Position::default(), |segment| segment.to)
    }

    /// The newest fold that is not after `until`.
    pub(super) fn newest(&self, until: NotAfter) -> Option<(FoldName, Stored)> {
        let end = self.end().next_offset;
        let is_usable = |name: &FoldName| match until {
            NotAfter::Known => name.next_offset <= end,
            NotAfter::Moment(Moment::Offset(until)) => name.next_offset <= until,
            // Log time never goes back: the first command that is later comes after it.
            NotAfter::Moment(Moment::Time(until)) => name.log_time <= until,
        };
        let in_memory = self.memory.iter().rev().find(|(name, _)| is_usable(name));
        let in_folder = self.folder.iter().flat_map(|folder| {
            let name = self.listed.keys().rev().find(|name| is_usable(name));
            name.map(|name| (*name, Stored::File(folder.clone(), *name)))
        });
        let in_memory = in_memory.map(|(name, bytes)| (*name, Stored::Memory(Arc::clone(bytes))));
        in_memory.into_iter().chain(in_folder).max_by_key(|(name, _)| *name)
    }

    /// The offset from which on a fold should be kept. The one at `next_offset` has this number of ranges, and the log ends at `log_end`.
    /// With more ranges, it is not earlier.
    pub(super) fn due(&self, next_offset: u64, ranges: u64, log_end: u64) -> u64 {
        // If the folds grow on as they did, all of them fit with this distance: on average they have half of the bytes of the last.
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let [now, end, ranges_now, bound] =
            [next_offset.max(1), log_end, ranges, self.limits.fold_bytes.max(1)].map(|number| number as f64);
        let last_bytes = ranges_now * self.bytes_for_each_range * end / now;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is not below 0")]
        let fitting = (end * last_bytes / 2.0 / bound) as u64;
        let folds = || self.memory.keys().chain(self.listed.keys()).map(|name| name.next_offset);
        let mut distance = self.limits.every.max(ranges / RANGES_FOR_EACH_RECORD).max(fitting);
        // Once half of the room is taken, the distance stays what it is on average, and doubles when every other fold is dropped.
        if let Some(last) = folds().max()
            && 2 * self.fold_bytes() > self.limits.fold_bytes
        {
            distance = distance.max(last / (folds().count() as u64));
        }
        let before = folds().chain(self.refused).filter(|at| *at <= next_offset).max().unwrap_or(0);
        let after = folds().filter(|at| *at > next_offset).min();
        let due = before.saturating_add(distance);
        match after {
            // Not right before the next one.
            Some(after) if due.saturating_add(distance / 2) > after => after.saturating_add(distance),
            _ => due,
        }
    }

    fn fold_bytes(&self) -> u64 {
        self.listed.values().sum::<u64>() + self.memory.values().map(|bytes| bytes.len() as u64).sum::<u64>()
    }

    /// Keeps a fold with this number of ranges, unless it is too large.
    pub(super) fn insert(&mut self, name: FoldName, bytes: Vec<u8>, ranges: u64) {
        let size = bytes.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes_for_each_range = size as f64 / ranges.max(1) as f64;
        self.bytes_for_each_range = bytes_for_each_range;
        if 2 * size > self.limits.fold_bytes {
            self.refused = Some(name.next_offset);
            return;
        }
        if let Some(folder) = self.folder.clone() {
            match folder.write(name, &bytes) {
                Ok(()) => _ = self.listed.insert(name, size),
                Err(error) => self.go_on_without_folder(&folder, &error),
            }
        }
        if self.folder.is_none() {
            self.memory.insert(name, bytes.into());
        }
        self.thin_out();
    }

    /// Drops every other fold, from the last one but one on, while there are too many.
    fn thin_out(&mut self) {
        if self.fold_bytes() <= self.limits.fold_bytes {
            return;
        }
        // Another process may have done it already.
        self.refresh();
        while self.fold_bytes() > self.limits.fold_bytes {
            let names: Vec<FoldName> = self.memory.keys().chain(self.listed.keys()).copied().collect();
            for name in names.iter().rev().skip(1).step_by(2) {
                self.remove(*name);
            }
            if names.len() <= 1 {
                return;
            }
        }
    }

    /// Does not read a fold again until the folder is listed again.
    pub(super) fn forget(&mut self, name: FoldName) {
        self.memory.remove(&name);
        self.listed.remove(&name);
    }

    /// Drops a fold.
    pub(super) fn remove(&mut self, name: FoldName) {
        self.forget(name);
        if let Some(folder) = self.folder.clone()
            && let Err(error) = folder.remove(name)
        {
            self.go_on_without_folder(&folder, &error);
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        let folder = self.folder.take();
        *self = Self::new(self.limits, folder.clone());
        if let Some(folder) = folder
            && let Err(error) = folder.clear()
        {
            self.go_on_without_folder(&folder, &error);
        }
    }
}

impl SegmentName {
    fn of(segment: &Segment) -> Self {
        Self { from: segment.from.next_offset, to: segment.to.next_offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogTime;

    fn name(next_offset: u64) -> FoldName {
        FoldName { next_offset, log_time: LogTime::EPOCH }
    }

    /// The limits of a folder are for disks.
    #[test]
    fn a_folder_that_fails_leaves_no_more_than_fits_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        std::fs::write(&path, "a file").unwrap();
        let mut store = Store::new(Limits::IN_FOLDER, Some(Folder::new(&path)));
        store.insert(name(1), vec![0; 10], 1);
        let Limits { fold_bytes, touched_bytes, .. } = store.limits;
        assert_eq!((store.memory.len(), fold_bytes, touched_bytes), (1, 256 << 20, 64 << 20));
    }

    /// Encoding a fold takes as long as it is large.
    #[test]
    fn a_fold_that_is_too_large_is_not_due_again_at_once() {
        let mut store = Store::new(Limits { every: 10, fold_bytes: 1_000, touched_bytes: 0 }, None);
        store.insert(name(100), vec![0; 600], 300);
        assert!(store.memory.is_empty() && store.due(100, 300, 1_000) >= 200, "a tenth of the log");
        assert!(store.due(100, 0, 1_000) > 100);
    }
}
