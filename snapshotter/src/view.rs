//! The view: the records of the ranges topic, written from edits and read back into a fold.
//!
//! Key: a range's first address; value: its last address, then ` until=TIME` if it ends. The key `@offset` holds
//! `NEXT_COMMAND_OFFSET LOG_TIME`: the ranges are the fold of all commands below that offset.

use std::collections::BTreeMap;
use std::net::IpAddr;

use edgefold_table::IpRange;

use crate::edits::{Edits, Entry};
use crate::fold::{Fold, Position};
use crate::record::Until;
use crate::time::LogTime;

/// The key of the record that closes each transaction.
pub const OFFSET_KEY: &str = "@offset";

/// The records that bring the view from before `edits` to `position`, keys and values; no value is a tombstone. The last
/// is `@offset`.
pub fn records(edits: &Edits, position: Position) -> impl Iterator<Item = (String, Option<String>)> {
    let ranges = edits.iter().map(|(first, entry)| (first.to_string(), entry.map(entry_text)));
    let offset = format!("{} {}", position.next_offset, position.log_time);
    ranges.chain([(OFFSET_KEY.to_owned(), Some(offset))])
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
    entries: BTreeMap<IpAddr, (IpRange, Until)>,
    position: Option<Position>,
}

impl View {
    /// Takes in the next record of the topic.
    ///
    /// # Errors
    /// [`ViewError`] if edgefold cannot have written it.
    pub fn read(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), ViewError> {
        let error = || {
            let show =
                |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).chars().take(64).collect());
            ViewError::Record { key: show(key), value: show(value) }
        };
        let key = key.and_then(|key| str::from_utf8(key).ok()).ok_or_else(error)?;
        let Some(value) = value else {
            if key == OFFSET_KEY {
                return Err(error());
            }
            self.entries.remove(&key.parse().map_err(|_| error())?);
            return Ok(());
        };
        let value = str::from_utf8(value).map_err(|_| error())?;
        if key == OFFSET_KEY {
            self.position = Some(position(value).ok_or_else(error)?);
            return Ok(());
        }
        let (range, until) = entry(key, value).ok_or_else(error)?;
        self.entries.insert(range.first(), (range, until));
        Ok(())
    }

    /// The fold that the view is, once all of it is read. An empty view is that of the empty log.
    ///
    /// # Errors
    /// [`ViewError`] if the ranges are not as a fold leaves them, or their `@offset` is missing.
    pub fn into_fold(self) -> Result<Fold, ViewError> {
        match self.position {
            None if self.entries.is_empty() => Ok(Fold::default()),
            None => Err(ViewError::NoOffset { ranges: self.entries.len() }),
            Some(position) => {
                Fold::resume(position, self.entries.into_values()).map_err(|range| ViewError::Overlap { range })
            }
        }
    }
}

fn position(value: &str) -> Option<Position> {
    let (next_offset, log_time) = value.split_once(' ')?;
    Some(Position { next_offset: next_offset.parse().ok()?, log_time: LogTime::parse(log_time).ok()? })
}

fn entry(key: &str, value: &str) -> Option<(IpRange, Until)> {
    let (last, until) = match value.split_once(" until=") {
        Some((last, until)) => (last, Until::Time(LogTime::parse(until).ok()?)),
        None => (value, Until::Forever),
    };
    Some((IpRange::new(key.parse().ok()?, last.parse().ok()?).ok()?, until))
}

/// Why the ranges topic is no view.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// A record that edgefold cannot have written.
    #[error("the record with key {key:?} and value {value:?} is none of edgefold's")]
    Record {
        /// Its key, shortened.
        key: Option<String>,
        /// Its value, shortened.
        value: Option<String>,
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
