//! The view: the records of the ranges topic. Edits become records here, and [`ViewContent`] reads them back into a fold.
//!
//! The key of a record is a range's first address. Its value is the last address, followed by ` until=TIME` if the block ends.
//! The key `@offset` has the value `NEXT_COMMAND_OFFSET LOG_TIME`: the ranges are the fold of all commands below that offset.

mod content;
mod read;

use std::collections::{BTreeMap, HashSet};

pub use content::{ViewContent, ViewError};
pub use read::{read_raw_view, read_view, watch_view};

use crate::log::ViewRecord;
use crate::{Block, Edits, Fold, LogTime, Position};

/// The key of the record that ends each transaction.
pub const OFFSET_KEY: &str = "@offset";

/// The records that apply `edits` to the view and bring it to `position`. The last is `@offset`.
pub fn records(edits: &Edits, position: Position) -> impl Iterator<Item = ViewRecord> {
    let ranges = edits.net().map(|(first, block)| (first.to_string().into_bytes(), block.map(entry_text)));
    let offset = format!("{} {}", position.next_offset, position.log_time);
    ranges.chain([(OFFSET_KEY.as_bytes().to_vec(), Some(offset))])
}

/// The records that turn the view from `current`, whatever that is, into `fold`. The last is `@offset`.
pub fn repair(current: &BTreeMap<Vec<u8>, Vec<u8>>, fold: &Fold) -> impl Iterator<Item = ViewRecord> {
    let whole: Vec<ViewRecord> = records(&fold.edits_since(&Fold::default()), fold.position()).collect();
    let keys: HashSet<&[u8]> = whole.iter().map(|(key, _)| key.as_slice()).collect();
    let strays = current.keys().filter(|key| !keys.contains(key.as_slice()));
    let strays: Vec<ViewRecord> = strays.map(|key| (key.clone(), None)).collect();
    let changed = |(key, value): &ViewRecord| {
        key == OFFSET_KEY.as_bytes() || current.get(key).map(Vec::as_slice) != value.as_deref().map(str::as_bytes)
    };
    strays.into_iter().chain(whole.into_iter().filter(changed))
}

/// The next command offset that a record of the view states; `None` unless it is a valid record with the key `@offset`.
pub fn stated_offset(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<u64> {
    if key? != OFFSET_KEY.as_bytes() {
        return None;
    }
    parse_position(str::from_utf8(value?).ok()?).map(|position| position.next_offset)
}

fn entry_text(Block { range, until }: Block) -> String {
    match until.time() {
        None => range.last().to_string(),
        Some(time) => format!("{} until={time}", range.last()),
    }
}

fn parse_position(value: &str) -> Option<Position> {
    let (next_offset, log_time) = value.split_once(' ')?;
    Some(Position { next_offset: next_offset.parse().ok()?, log_time: LogTime::parse(log_time).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    #[test]
    fn a_repair_writes_only_what_differs_and_ends_with_the_offset() {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(["BLACKLIST 10.0.0.0/24", "BLACKLIST 192.0.2.1"]) {
            let record = Record { offset, timestamp: LogTime::from_millis(0), key: None, value: Some(text.into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        let bytes = |text: &str| text.as_bytes().to_vec();
        let offset = (bytes(OFFSET_KEY), Some("2 1970-01-01T00:00:00Z".to_owned()));
        let mut current: BTreeMap<Vec<u8>, Vec<u8>> = [("10.0.0.0", "10.0.0.255"), ("192.0.2.1", "192.0.2.1")]
            .into_iter()
            .chain([(OFFSET_KEY, "2 1970-01-01T00:00:00Z")])
            .map(|(key, value)| (bytes(key), bytes(value)))
            .collect();
        assert_eq!(repair(&current, &fold).collect::<Vec<_>>(), std::slice::from_ref(&offset));
        current.insert(bytes("hello"), bytes("world"));
        current.insert(bytes("10.0.0.0"), bytes("10.0.0.9"));
        let expected = [(bytes("hello"), None), (bytes("10.0.0.0"), Some("10.0.0.255".to_owned())), offset];
        assert_eq!(repair(&current, &fold).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn only_a_valid_offset_record_states_an_offset() {
        let stated = |key: &str, value: &str| stated_offset(Some(key.as_bytes()), Some(value.as_bytes()));
        assert_eq!(stated("@offset", "7 2026-01-01T00:00:00Z"), Some(7));
        assert_eq!(stated("10.0.0.1", "7 2026-01-01T00:00:00Z"), None);
        assert_eq!(stated("@offset", "7"), None);
        assert_eq!((stated_offset(None, None), stated_offset(Some(b"@offset"), None)), (None, None));
    }
}
