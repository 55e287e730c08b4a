//! The view: the records of the ranges topic. Edits become records here, and [`ViewContent`] reads them back into a fold.
//!
//! The key of a record is a range's first address, after the list's name and a blank if it is not the default list. Its value
//! is the last address, followed by ` until=TIME` if the block ends. The value of the key `@list NAME` says what a list does. The
//! value of the key `@offset` says which commands the ranges are the fold of, in which versions they are written, and a hash of
//! all of them: a view is only trusted if it proves what it is. `docs/semantics.md` is the authority.

mod content;
mod key;
mod offset;
mod read;

use std::iter;
use std::net::IpAddr;

pub use content::{ViewContent, ViewError};
pub use offset::{FORMAT, Stated, Version, stated};
pub use read::{read_content, read_view, read_view_after, watch_view};

use crate::log::ViewRecord;
use crate::model::list_action::ListActionText;
use crate::{Block, Edits, Fold, List, ListAction};

/// The key of the record that ends each transaction.
pub const OFFSET_KEY: &str = "@offset";

/// The records that apply `edits`, which lead to `fold`, to the view. The last is `@offset`.
pub fn records(edits: &Edits, fold: &Fold) -> impl Iterator<Item = ViewRecord> {
    let lists = edits.lists().flat_map(|(name, edits)| {
        let action = edits.action().map(|action| (key::of_action(name), action.map(action_text)));
        let ranges = edits.net().map(move |(first, block)| (key::of_range(name, first), block.map(entry_text)));
        action.into_iter().chain(ranges)
    });
    lists.chain([(OFFSET_KEY.as_bytes().to_vec(), Some(offset::text(fold)))])
}

/// The records that turn the view from what was read, whatever that is, into `fold`. The last is `@offset`.
///
/// Of a view with more than ten thousand foreign keys, not all are removed at once.
pub fn repair(current: ViewContent, fold: &Fold) -> impl Iterator<Item = ViewRecord> {
    let (mut lists, strays) = current.into_lists();
    let strays = strays.into_iter().map(|key| (key, None));
    for list in fold.lists() {
        lists.entry(list.name()).or_default();
    }
    let lists = lists.into_iter().flat_map(|(name, old)| {
        let new = fold.list(&name);
        let action = new.and_then(List::stated_action);
        let action = (old.action.as_ref() != action).then(|| (key::of_action(name), action.map(action_text)));
        let ranges = differences(old.blocks, new.into_iter().flat_map(List::blocks));
        action.into_iter().chain(ranges.map(move |(first, block)| (key::of_range(name, first), block.map(entry_text))))
    });
    strays.chain(lists).chain([(OFFSET_KEY.as_bytes().to_vec(), Some(offset::text(fold)))])
}

/// What leads from the `old` blocks to the `new` ones, which are sorted like them. What is the same is skipped.
fn differences(old: Vec<Block>, new: impl Iterator<Item = Block>) -> impl Iterator<Item = (IpAddr, Option<Block>)> {
    let (mut old, mut new) = (old.into_iter().peekable(), new.peekable());
    iter::from_fn(move || {
        loop {
            let (before, after) =
                (old.peek().map(|block| block.range.first()), new.peek().map(|block| block.range.first()));
            match (before, after) {
                (None, None) => return None,
                (Some(first), after) if after.is_none_or(|after| first < after) => {
                    old.next();
                    return Some((first, None));
                }
                (before, _) => {
                    let replaced = if before == after { old.next() } else { None };
                    let block = new.next()?;
                    if replaced != Some(block) {
                        return Some((block.range.first(), Some(block)));
                    }
                }
            }
        }
    })
}

fn entry_text(Block { range, until }: Block) -> String {
    match until.time() {
        None => range.last().to_string(),
        Some(time) => format!("{} until={time}", range.last()),
    }
}

fn action_text(action: &ListAction) -> String {
    ListActionText(action).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogTime, Record};

    #[test]
    fn a_repair_writes_only_what_differs_and_ends_with_the_offset() {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(["BLACKLIST 10.0.0.0/24", "BLACKLIST 192.0.2.1"]) {
            let record = Record { offset, timestamp: LogTime::from_millis(0), key: None, value: Some(text.into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        let bytes = |text: &str| text.as_bytes().to_vec();
        let offset = (bytes(OFFSET_KEY), Some(offset::text(&fold)));
        let repaired = |records: &[(&str, &str)]| {
            let mut content = ViewContent::default();
            records.iter().for_each(|(key, value)| content.read(Some(key.as_bytes()), Some(value.as_bytes())));
            repair(content, &fold).collect::<Vec<_>>()
        };
        let right = [("10.0.0.0", "10.0.0.255"), ("192.0.2.1", "192.0.2.1"), (OFFSET_KEY, &*offset::text(&fold))];
        assert_eq!(repaired(&right), std::slice::from_ref(&offset));
        let wrong = [("hello", "world"), ("10.0.0.0", "10.0.0.9"), ("10.0.0.11", "10.0.0.12")];
        let expected = [
            (bytes("hello"), None),
            (bytes("10.0.0.0"), Some("10.0.0.255".to_owned())),
            (bytes("10.0.0.11"), None),
            offset,
        ];
        assert_eq!(repaired(&[&right[..], &wrong].concat()), expected);
    }
}
