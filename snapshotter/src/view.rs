//! The view: the records of the ranges topic, written from edits and read back into a fold.
//!
//! Key: a range's first address; value: its last address, then ` until=TIME` if it ends. The key `@offset` holds
//! `NEXT_COMMAND_OFFSET LOG_TIME`: the ranges are the fold of all commands below that offset.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use edgefold_table::IpRange;

use crate::edits::{Edits, Entry};
use crate::fold::{Fold, Position};
use crate::record::Until;
use crate::time::LogTime;

/// As many keys that are none of edgefold's are remembered: whoever writes them chooses their number and length.
const MOST_STRAYS: usize = 10_000;

/// The key of the record that closes each transaction.
pub const OFFSET_KEY: &str = "@offset";

/// A record of the view: key and value; no value is a tombstone.
pub type ViewRecord = (Vec<u8>, Option<String>);

/// The records that bring the view from before `edits` to `position`. The last is `@offset`.
pub fn records(edits: &Edits, position: Position) -> impl Iterator<Item = ViewRecord> {
    let ranges = edits.iter().map(|(first, entry)| (first.to_string().into_bytes(), entry.map(entry_text)));
    let offset = format!("{} {}", position.next_offset, position.log_time);
    ranges.chain([(OFFSET_KEY.as_bytes().to_vec(), Some(offset))])
}

/// The records that bring the view from `there`, whatever that is, to `fold`. The last is `@offset`.
pub fn repair(there: &BTreeMap<Vec<u8>, Vec<u8>>, fold: &Fold) -> impl Iterator<Item = ViewRecord> {
    let whole: Vec<ViewRecord> = records(&Edits::between(&Fold::default(), fold), fold.position()).collect();
    let keys: HashSet<&[u8]> = whole.iter().map(|(key, _)| key.as_slice()).collect();
    let strays = there.keys().filter(|key| !keys.contains(key.as_slice()));
    let strays: Vec<ViewRecord> = strays.map(|key| (key.clone(), None)).collect();
    let changed = |(key, value): &ViewRecord| {
        key == OFFSET_KEY.as_bytes() || there.get(key).map(Vec::as_slice) != value.as_deref().map(str::as_bytes)
    };
    strays.into_iter().chain(whole.into_iter().filter(changed))
}

/// The next command offset that a record of the view states; `None` if it is none with the key `@offset`.
pub fn stated_offset(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<u64> {
    (key? == OFFSET_KEY.as_bytes())
        .then(|| position(str::from_utf8(value?).ok()?))
        .flatten()
        .map(|position| position.next_offset)
}

fn entry_text(Entry { last, until }: Entry) -> String {
    match until {
        Until::Forever => last.to_string(),
        Until::Time(time) => format!("{last} until={time}"),
    }
}

/// The view as it is read, record by record.
#[derive(Debug, Default)]
pub struct View {
    /// What was read, in order: a range with its end, or with none if its first address was removed. It is put in order once
    /// it is all there, which costs less than a map that is always in order.
    entries: Vec<(IpRange, Option<Until>)>,
    /// How many entries there may be before the superseded ones are dropped.
    limit: usize,
    position: Option<Position>,
    /// The keys whose newest record edgefold cannot have written.
    strays: BTreeMap<Vec<u8>, ViewError>,
    /// One of more strays than are remembered, so that it is not known which of them are removed later.
    beyond_repair: Option<ViewError>,
}

impl View {
    /// Some 15 MB of them.
    const LEAST_LIMIT: usize = 1 << 18;

    /// Takes in the next record of the topic. One without a key, which no compacted topic takes, counts for nothing.
    pub fn read(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(key) = key else { return };
        match (self.take(key, value), value) {
            (None, Some(value)) if self.strays.len() < MOST_STRAYS => {
                self.strays.insert(key.to_vec(), ViewError::stray(key, value));
            }
            (None, Some(value)) => self.beyond_repair = Some(ViewError::stray(key, value)),
            // A tombstone takes away whatever stood under the key.
            _ => drop(self.strays.remove(key)),
        }
    }

    /// `None` if edgefold cannot have written the record.
    fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<()> {
        let key = str::from_utf8(key).ok()?;
        if key == OFFSET_KEY {
            self.position = None;
            self.position = Some(position(str::from_utf8(value?).ok()?)?);
            return Some(());
        }
        let first = key.parse().ok().filter(|first| is_plain(first, key))?;
        let removed = (IpRange::new(first, first).ok()?, None);
        let entry = match value {
            None => Some(removed),
            Some(value) => str::from_utf8(value).ok().and_then(|value| entry(first, value)),
        };
        if self.entries.len() >= self.limit {
            self.settle();
            self.limit = (2 * self.entries.len()).max(Self::LEAST_LIMIT);
        }
        self.entries.push(entry.unwrap_or(removed));
        entry.map(drop)
    }

    /// Drops the entries that later ones supersede, and sorts the rest.
    fn settle(&mut self) {
        self.entries.sort_by_key(|(range, _)| range.first());
        // Of those with one first address the last is the newest, and the first is kept.
        self.entries.reverse();
        self.entries.dedup_by_key(|(range, _)| range.first());
        self.entries.reverse();
        self.entries.retain(|(_, until)| until.is_some());
    }

    /// The next command offset as far as it is read; 0 if none is stated.
    pub fn next_offset(&self) -> u64 {
        self.position.map_or(0, |position| position.next_offset)
    }

    /// The fold that the view is, once all of it is read. An empty view is that of the empty log.
    ///
    /// # Errors
    /// [`ViewError`] if the ranges are not as a fold leaves them, or their `@offset` is missing.
    pub fn into_fold(mut self) -> Result<Fold, ViewError> {
        self.settle();
        if let Some(error) = self.beyond_repair.or_else(|| self.strays.into_values().next()) {
            return Err(error);
        }
        match self.position {
            None if self.entries.is_empty() => Ok(Fold::default()),
            None => Err(ViewError::NoOffset { ranges: self.entries.len() }),
            Some(position) => {
                let ranges = self.entries.into_iter().filter_map(|(range, until)| Some((range, until?)));
                Fold::resume(position, ranges).map_err(|range| ViewError::Overlap { range })
            }
        }
    }
}

/// Whether `text` is how edgefold writes the address. An IPv4 address has one form only.
fn is_plain(address: &IpAddr, text: &str) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && v6.to_string() == text,
    }
}

fn position(value: &str) -> Option<Position> {
    let (next_offset, log_time) = value.split_once(' ')?;
    Some(Position { next_offset: next_offset.parse().ok()?, log_time: LogTime::parse(log_time).ok()? })
}

fn entry(first: IpAddr, value: &str) -> Option<(IpRange, Option<Until>)> {
    let (last, until) = match value.split_once(' ') {
        Some((last, until)) => (last, Until::Time(LogTime::parse(until.strip_prefix("until=")?).ok()?)),
        None => (value, Until::Forever),
    };
    Some((IpRange::new(first, last.parse().ok()?).ok()?, Some(until)))
}

/// Why the ranges topic is no view.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// A record that edgefold cannot have written.
    #[error("the record with key {key:?} and value {value:?} is none of edgefold's")]
    Record {
        /// Its key, shortened.
        key: String,
        /// Its value, shortened.
        value: String,
    },
    /// Ranges without the offset that they are the fold of.
    #[error("there are {ranges} ranges, but no record with the key {OFFSET_KEY}")]
    NoOffset {
        /// How many ranges.
        ranges: usize,
    },
    /// A range that no fold leaves.
    #[error("the range {range} overlaps the one before it, or should be one with it")]
    Overlap {
        /// The range.
        range: IpRange,
    },
}

impl ViewError {
    fn stray(key: &[u8], value: &[u8]) -> Self {
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(64).collect();
        Self::Record { key: show(key), value: show(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_not_compacted_fills_no_memory() {
        let mut view = View::default();
        for round in 0..4_000 {
            for host in 0..100 {
                let (key, last) = (format!("10.0.{host}.0"), format!("10.0.{host}.{}", round % 250));
                let value = (round % 7 != host % 7).then_some(last.as_bytes());
                view.read(Some(key.as_bytes()), value);
            }
        }
        assert!(view.entries.len() <= View::LEAST_LIMIT);
        view.read(Some(OFFSET_KEY.as_bytes()), Some(b"400000 2026-11-23T00:00:00Z"));
        let ranges: Vec<_> = view.into_fold().unwrap().ranges().map(|(range, _)| range.to_string()).collect();
        // The last round is 3999: 3999 % 250 is 249, and 3999 % 7 is 2.
        let right: Vec<_> =
            (0..100).filter(|host| host % 7 != 2).map(|host| format!("10.0.{host}.0-10.0.{host}.249")).collect();
        assert_eq!(ranges, right);
    }
}
