//! What the commands in a part of the log are about, so that an explanation of something else need not read them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::bytes::{self, PositionBytes, put, take};
use super::ranges::{EncodedRanges, Ranges};
use super::timeline::Timeline;
use crate::{Change, Effect, IpRange, ListName, LogTime, MAX_NAMED_LISTS, Position, Record};

const MAGIC: [u8; 8] = *b"edgefseg";

/// What some records in a row are about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Summary {
    /// Log time after them, if none of them is rejected for creating one list too many.
    pub(crate) log_time: LogTime,
    /// The lists that they put something on. At most 65: one more than a log can have.
    pub(crate) names: Vec<ListName>,
    /// Whether one of them says what a list does, or removes one.
    pub(crate) lists_change: bool,
    /// The first of their command times.
    pub(crate) first_time: Option<LogTime>,
    /// When the log received the last of them, by its clock.
    pub(crate) last_received: Option<LogTime>,
    /// The addresses that they are about; `None` if that is not known.
    touched: Option<EncodedRanges>,
}

impl Summary {
    /// Whether one of them may be about an address of `range`.
    pub(crate) fn touch(&self, range: IpRange) -> bool {
        self.touched.as_ref().is_none_or(|touched| touched.touch(range))
    }
}

/// A part of the log that has been read.
///
/// The log is cut where its offsets pass a multiple of a constant, so each reader finds the same segments, wherever it starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    /// The position before it.
    pub(super) from: Position,
    /// The position after it.
    pub(super) to: Position,
    pub(super) timeline: Timeline,
    pub(super) summary: Summary,
}

#[derive(Deserialize, Serialize)]
struct SegmentBytes<'a> {
    from: PositionBytes,
    to: PositionBytes,
    resolution: u64,
    buckets: Vec<(u64, u64)>,
    #[serde(borrow)]
    names: Vec<&'a str>,
    lists_change: bool,
    first_time: Option<u64>,
    last_received: Option<u64>,
    #[serde(borrow)]
    touched: Option<(&'a [u8], &'a [u8])>,
}

impl Segment {
    /// How many bytes it takes to remember what it is about.
    pub(super) fn touched_len(&self) -> u64 {
        self.summary.touched.as_ref().map_or(0, EncodedRanges::len)
    }

    /// Forgets what it is about, so that it is always read.
    pub(super) fn forget_touched(&mut self) {
        self.summary.touched = None;
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { from, to, timeline, summary } = self;
        let bytes = SegmentBytes {
            from: (*from).into(),
            to: (*to).into(),
            resolution: timeline.resolution,
            buckets: timeline.buckets.iter().map(|(start, commands)| (start.millis(), *commands)).collect(),
            names: summary.names.iter().map(ListName::as_str).collect(),
            lists_change: summary.lists_change,
            first_time: summary.first_time.map(LogTime::millis),
            last_received: summary.last_received.map(LogTime::millis),
            touched: summary.touched.as_ref().map(|touched| (&*touched.v4, &*touched.v6)),
        };
        bytes::seal(put(&bytes, bytes::start(MAGIC)))
    }

    /// What [`Segment::encode`] has written; `None` for any other bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = bytes::open(bytes, MAGIC)?;
        let segment: SegmentBytes<'_> = take(&mut bytes)?;
        if !bytes.is_empty() {
            return None;
        }
        let (from, to) = (segment.from.position()?, segment.to.position()?);
        let time = |millis: Option<u64>| millis.map_or(Some(None), |millis| LogTime::from_millis(millis).map(Some));
        let buckets: Option<Vec<_>> = segment
            .buckets
            .into_iter()
            .map(|(start, commands)| LogTime::from_millis(start).map(|start| (start, commands)))
            .collect();
        let timeline =
            Timeline { next_offset: to.next_offset, resolution: segment.resolution, buckets: buckets?.into() };
        let names: Result<Vec<ListName>, _> = segment.names.into_iter().map(str::parse).collect();
        let summary = Summary {
            log_time: to.log_time,
            names: names.ok()?,
            lists_change: segment.lists_change,
            first_time: time(segment.first_time)?,
            last_received: time(segment.last_received)?,
            touched: segment.touched.map(|(v4, v6)| EncodedRanges { v4: v4.to_vec(), v6: v6.to_vec() }),
        };
        (from.next_offset < to.next_offset && timeline.is_valid()).then_some(Self { from, to, timeline, summary })
    }
}

/// The records after the last segment, until they are one.
#[derive(Clone, Debug)]
pub(super) struct OpenSegment {
    every: u64,
    from: Position,
    to: Position,
    timeline: Timeline,
    names: BTreeSet<ListName>,
    lists_change: bool,
    first_time: Option<LogTime>,
    last_received: Option<LogTime>,
    touched: Ranges,
}

impl OpenSegment {
    /// A segment from `from` on, up to a multiple of `every`.
    pub(super) fn new(from: Position, every: u64) -> Self {
        Self {
            every,
            from,
            to: from,
            timeline: Timeline { next_offset: from.next_offset, ..Timeline::default() },
            names: BTreeSet::new(),
            lists_change: false,
            first_time: None,
            last_received: None,
            touched: Ranges::default(),
        }
    }

    pub(super) fn from(&self) -> Position {
        self.from
    }

    /// The position after the records so far.
    pub(super) fn position(&self) -> Position {
        self.to
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Adds the next record, with what it says if that can be read, and the position after it. Adds the segments that end before or
    /// after it to `done`.
    pub(super) fn add(&mut self, record: &Record, effect: Option<&Effect>, to: Position, done: &mut Vec<Segment>) {
        if self.to != self.from && crosses(self.to.next_offset, record.offset, self.every) {
            done.push(self.finish());
        }
        self.to = to;
        self.timeline.next_offset = to.next_offset;
        if let Some(effect) = effect {
            self.add_effect(record, effect, to);
        }
        if to.next_offset.is_multiple_of(self.every) {
            done.push(self.finish());
        }
    }

    fn add_effect(&mut self, record: &Record, effect: &Effect, to: Position) {
        self.timeline.add(to.log_time, 1);
        self.first_time = Some(self.first_time.map_or(effect.time, |first| first.min(effect.time)));
        self.last_received = self.last_received.max(record.timestamp);
        match &effect.change {
            Change::Block { list, range, .. } => {
                if self.names.len() <= MAX_NAMED_LISTS && !list.is_default() {
                    self.names.insert(*list);
                }
                self.touched.add(*range);
            }
            Change::Allow { range, .. } => self.touched.add(*range),
            Change::List { .. } | Change::Unlist { .. } => self.lists_change = true,
        }
    }

    /// The segment so far. The next one starts after it.
    fn finish(&mut self) -> Segment {
        let done = std::mem::replace(self, Self::new(self.to, self.every));
        let summary = Summary {
            log_time: done.to.log_time,
            names: done.names.into_iter().collect(),
            lists_change: done.lists_change,
            first_time: done.first_time,
            last_received: done.last_received,
            touched: Some(done.touched.encode()),
        };
        Segment { from: done.from, to: done.to, timeline: done.timeline, summary }
    }

    /// The segment so far; `None` if it has no record.
    pub(super) fn so_far(mut self) -> Option<Segment> {
        (self.to != self.from).then(|| self.finish())
    }
}

/// Whether a record at `offset`, which comes next after the records below `next_offset`, is the first one after a multiple of `every`.
pub(super) fn crosses(next_offset: u64, offset: u64, every: u64) -> bool {
    next_offset.checked_sub(1).is_some_and(|last| offset / every != last / every)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// The segments of a log, and what is left of it.
    fn segments(texts: &[&str]) -> (Vec<Segment>, OpenSegment) {
        let (mut open, mut done) = (OpenSegment::new(Position::default(), 4), Vec::new());
        for (offset, text) in (0..).zip(texts) {
            let timestamp = LogTime::from_millis(1_000_000 + offset * 60_000);
            let record = Record { offset: offset * 2, timestamp, key: None, value: Some((*text).into()) };
            let position = Position {
                next_offset: record.offset + 1,
                log_time: timestamp.unwrap(),
                last_record: Some(record.hash()),
            };
            open.add(&record, record.effect().ok().as_ref(), position, &mut done);
        }
        (done, open)
    }

    const TEXTS: [&str; 6] = [
        "BLACKLIST 10.0.0.1",
        "junk",
        "ADD 2001:db8::1 list=feed",
        "LIST feed action=tag",
        "ALLOW 10.0.0.1-10.0.0.9",
        "junk",
    ];

    #[test]
    fn the_log_is_cut_at_multiples() {
        let (done, open) = segments(&TEXTS);
        let cuts: Vec<(u64, u64)> =
            done.iter().map(|segment| (segment.from.next_offset, segment.to.next_offset)).collect();
        assert_eq!((cuts, open.position().next_offset), (vec![(0, 3), (3, 7)], 11), "offsets rise by two");
        let [first, second] = [&done[0].summary, &done[1].summary];
        let touch = |summary: &Summary, range: &str| summary.touch(range.parse().unwrap());
        assert!(touch(first, "10.0.0.0/24") && !touch(first, "10.0.0.2") && !touch(first, "2001:db8::1"));
        assert!(touch(second, "2001:db8::1") && !touch(second, "0.0.0.0/0"));
        assert_eq!((first.lists_change, second.lists_change), (false, true));
        assert_eq!((first.names.len(), second.names.len()), (0, 1));
        assert_eq!(done[0].timeline.buckets.len(), 1, "junk is not counted");
    }

    proptest! {
        #[test]
        fn only_what_was_written_is_read(at in any::<Index>(), bit in 0..8_u32, cut in any::<Index>()) {
            for segment in segments(&TEXTS).0 {
                let sealed = segment.encode();
                prop_assert_eq!(Segment::decode(&sealed), Some(segment));
                let mut body = sealed[..sealed.len() - 8].to_vec();
                prop_assert!(Segment::decode(&sealed[..cut.index(sealed.len())]).is_none());
                let at = at.index(body.len());
                body[at] ^= 1 << bit;
                // No panic, also if the checksum is right.
                if let Some(other) = Segment::decode(&bytes::seal(body)) {
                    other.summary.touch("10.0.0.1".parse().unwrap());
                    let mut timeline = Timeline::default();
                    timeline.extend(&other.timeline);
                }
            }
        }
    }
}
