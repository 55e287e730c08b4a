//! Reading the view back into a fold.

use std::collections::BTreeMap;
use std::net::IpAddr;

use edgefold_table::{IpRange, shorten};

use super::key::Key;
use super::offset::{self, Proof, Stated, Version};
use super::{FORMAT, OFFSET_KEY};
use crate::model::list_action::{ListActionText, parse_list_action};
use crate::{Block, Fold, GRAMMAR, ListAction, ListName, LogTime, ResumeError, SavedList, Until};

/// The most foreign keys that are remembered. Whoever writes them chooses their number and length.
const MOST_STRAYS: usize = 10_000;
/// The longest of them.
const LONGEST_STRAY: usize = 1024;

/// The content of the view, as it is read record by record.
#[derive(Debug, Default)]
pub struct ViewContent {
    lists: BTreeMap<ListName, Entries>,
    /// The number of entries of all lists, and how many there may be before the superseded ones are dropped.
    count: usize,
    limit: usize,
    offset: Option<(Stated, Option<Proof>)>,
    /// The keys whose newest record edgefold did not write.
    strays: BTreeMap<Vec<u8>, ViewError>,
    /// One of the strays beyond those that are remembered. It is unknown whether they are removed later.
    beyond_repair: Option<ViewError>,
}

/// What was read of one list.
#[derive(Debug, Default)]
struct Entries {
    action: Option<ListAction>,
    /// In the order in which they were read: a range with its end, or with `None` if its first address was removed. Sorting it once
    /// at the end costs less than a map that is always sorted.
    ranges: Vec<(IpRange, Option<Until>)>,
}

/// A list as it is in the view.
#[derive(Debug, Default)]
pub(super) struct ListContent {
    pub(super) action: Option<ListAction>,
    /// Sorted by first address.
    pub(super) blocks: Vec<Block>,
}

impl ViewContent {
    /// About 15 MB of entries.
    const LEAST_LIMIT: usize = 1 << 18;

    /// Reads the next record of the topic. A record without a key, which a compacted topic does not accept, is ignored.
    pub fn read(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(key) = key else { return };
        match (self.take(key, value), value) {
            (None, Some(value)) if self.has_room_for(key) => {
                self.strays.insert(key.to_vec(), ViewError::stray(key, value));
            }
            (None, Some(value)) => self.beyond_repair = Some(ViewError::stray(key, value)),
            // A tombstone removes whatever the key had.
            _ => drop(self.strays.remove(key)),
        }
    }

    fn has_room_for(&self, stray: &[u8]) -> bool {
        stray.len() <= LONGEST_STRAY && (self.strays.len() < MOST_STRAYS || self.strays.contains_key(stray))
    }

    /// Returns `None` if edgefold cannot have written the record.
    fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<()> {
        let key = str::from_utf8(key).ok().and_then(Key::parse)?;
        let text = value.map(str::from_utf8);
        match key {
            Key::Offset => {
                self.offset = None;
                self.offset = Some(offset::parse(text?.ok()?)?);
                Some(())
            }
            Key::Action(list) => {
                let action = &mut self.lists.entry(list).or_default().action;
                *action = None;
                let Some(text) = text else { return Some(()) };
                *action = text.ok().and_then(parse_action);
                action.as_ref().map(drop)
            }
            Key::Range(list, first) => {
                let removed = (IpRange::new(first, first).ok()?, None);
                let entry = match text {
                    None => Some(removed),
                    Some(text) => text.ok().and_then(|text| parse_entry(first, text)),
                };
                if self.count >= self.limit {
                    self.compact();
                    self.limit = (2 * self.count).max(Self::LEAST_LIMIT);
                }
                self.count += 1;
                self.lists.entry(list).or_default().ranges.push(entry.unwrap_or(removed));
                entry.map(drop)
            }
        }
    }

    /// Drops the entries that later ones supersede, and sorts the rest.
    fn compact(&mut self) {
        self.lists.values_mut().for_each(Entries::compact);
        self.lists.retain(|_, entries| entries.action.is_some() || !entries.ranges.is_empty());
        self.count = self.lists.values().map(|entries| entries.ranges.len()).sum();
    }

    /// What the last `@offset` that was read states, if there was one.
    pub fn stated(&self) -> Option<Stated> {
        self.offset.map(|(stated, _)| stated)
    }

    /// Its lists, and its foreign keys as far as they are remembered.
    pub(super) fn into_lists(mut self) -> (BTreeMap<ListName, ListContent>, Vec<Vec<u8>>) {
        self.compact();
        let lists = self.lists.into_iter().map(|(name, Entries { action, ranges })| {
            let blocks = ranges.into_iter().filter_map(|(range, until)| Some(Block { range, until: until? }));
            (name, ListContent { action, blocks: blocks.collect() })
        });
        (lists.collect(), self.strays.into_keys().collect())
    }

    /// The fold that the view contains, once all of it has been read. An empty view is that of an empty log.
    ///
    /// # Errors
    /// [`ViewError`] if a fold does not have such ranges, if they are not those that `@offset` states, or if another version of
    /// edgefold has written them.
    pub fn into_fold(self) -> Result<Fold, ViewError> {
        let (fold, stated) = self.into_unproved_fold()?;
        if fold.hash() == stated { Ok(fold) } else { Err(ViewError::Hash { stated, found: fold.hash() }) }
    }

    /// The fold that its ranges add up to, and the hash that `@offset` states, to find out what is wrong with it.
    ///
    /// # Errors
    /// As for [`ViewContent::into_fold`], except that the hash is not compared.
    pub fn into_unproved_fold(mut self) -> Result<(Fold, u64), ViewError> {
        // First of all: a newer version may have other records too.
        if let Some((Stated { version, .. }, None)) = self.offset {
            return Err(if version.is_newer() { ViewError::Newer { version } } else { ViewError::Older { version } });
        }
        if let Some(error) = self.beyond_repair.take().or_else(|| self.strays.pop_first().map(|(_, error)| error)) {
            return Err(error);
        }
        let proof = self.offset.and_then(|(_, proof)| proof);
        let (lists, _strays) = self.into_lists();
        match proof {
            None if lists.is_empty() => Ok((Fold::default(), Fold::default().hash())),
            None => Err(ViewError::NoOffset { ranges: lists.values().map(|list| list.blocks.len()).sum() }),
            Some(Proof { position, hash }) => {
                let lists = lists.into_iter().map(|(name, list)| {
                    let ListContent { action, blocks } = list;
                    SavedList { name, action, blocks }
                });
                Ok((Fold::resume(position, lists)?, hash))
            }
        }
    }
}

impl Entries {
    fn compact(&mut self) {
        self.ranges.sort_by_key(|(range, _)| range.first());
        // The sort is stable, so the newest entry of a key is the last, but `dedup` keeps the first.
        self.ranges.reverse();
        self.ranges.dedup_by_key(|(range, _)| range.first());
        self.ranges.reverse();
        self.ranges.retain(|(_, until)| until.is_some());
    }
}

/// What a list does, if edgefold has written this text.
fn parse_action(text: &str) -> Option<ListAction> {
    parse_list_action(text).ok().filter(|action| ListActionText(action).to_string() == text)
}

fn parse_entry(first: IpAddr, value: &str) -> Option<(IpRange, Option<Until>)> {
    let (last, until) = match value.split_once(' ') {
        Some((last, until)) => (last, LogTime::parse(until.strip_prefix("until=")?).ok()?.into()),
        None => (value, Until::FOREVER),
    };
    Some((IpRange::new(first, last.parse().ok()?).ok()?, Some(until)))
}

/// Why the ranges topic is not a view.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// A record that edgefold did not write.
    #[error("edgefold did not write the record with key {key:?} and value {value:?}")]
    Record {
        /// Its key, shortened.
        key: String,
        /// Its value, shortened.
        value: String,
    },
    /// There are ranges, but not the offset that they belong to.
    #[error("there are {ranges} ranges, but no record with the key {OFFSET_KEY}")]
    NoOffset {
        /// The number of ranges.
        ranges: usize,
    },
    /// The ranges are not those that were written.
    #[error(
        "its ranges have the hash {found:016x}, and {OFFSET_KEY} states {stated:016x}: a range was lost, added or changed"
    )]
    Hash {
        /// What `@offset` states.
        stated: u64,
        /// That of the ranges.
        found: u64,
    },
    /// An older edgefold has written the view.
    #[error("an older edgefold has written it ({version}); this one writes {}", Version::CURRENT)]
    Older {
        /// Its version.
        version: Version,
    },
    /// A newer edgefold has written the view. This one must neither read nor write it.
    #[error(
        "a newer edgefold has written the view of ranges ({version}), and this one only knows format {FORMAT} and grammar \
         {GRAMMAR}: update edgefold"
    )]
    Newer {
        /// Its version.
        version: Version,
    },
    /// Lists that a fold does not have.
    #[error(transparent)]
    Resume(#[from] ResumeError),
}

impl ViewError {
    fn stray(key: &[u8], value: &[u8]) -> Self {
        let shown = |bytes: &[u8]| shorten(&String::from_utf8_lossy(bytes));
        Self::Record { key: shown(key), value: shown(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_keys_are_remembered_within_limits() {
        let offset = (OFFSET_KEY.as_bytes(), offset::text(&Fold::default()));
        let filled = |count: usize| {
            let mut view = ViewContent::default();
            view.read(Some(offset.0), Some(offset.1.as_bytes()));
            (0..count).for_each(|at| view.read(Some(format!("stray {at}").as_bytes()), Some(b"?")));
            view
        };
        let remove_all = |mut view: ViewContent, count: usize| {
            (0..count).for_each(|at| view.read(Some(format!("stray {at}").as_bytes()), None));
            view.into_fold().is_ok()
        };
        assert!(remove_all(filled(MOST_STRAYS), MOST_STRAYS));
        assert!(!remove_all(filled(MOST_STRAYS + 1), MOST_STRAYS + 1), "it is unknown which were removed");
        let mut full = filled(MOST_STRAYS);
        full.read(Some(b"stray 0"), Some(b"once more"));
        assert!(remove_all(full, MOST_STRAYS), "it was remembered already");
        let long = vec![b'x'; LONGEST_STRAY + 1];
        for (key, is_forgotten) in [(&long[1..], false), (&long[..], true)] {
            let mut view = filled(0);
            view.read(Some(key), Some(b"?"));
            view.read(Some(key), None);
            assert_eq!(view.into_fold().is_err(), is_forgotten);
        }
    }

    #[test]
    fn a_topic_without_compaction_does_not_fill_the_memory() {
        let mut view = ViewContent::default();
        for round in 0..4_000 {
            for host in 0..100 {
                let (key, last) = (format!("10.0.{host}.0"), format!("10.0.{host}.{}", round % 250));
                let value = (round % 7 != host % 7).then_some(last.as_bytes());
                view.read(Some(key.as_bytes()), value);
            }
        }
        assert!(view.count <= ViewContent::LEAST_LIMIT);
        let (lists, _strays) = view.into_lists();
        let ranges: Vec<_> = lists[&ListName::DEFAULT].blocks.iter().map(|block| block.range.to_string()).collect();
        // The last round is 3999: 3999 % 250 is 249, and 3999 % 7 is 2.
        let expected: Vec<_> =
            (0..100).filter(|host| host % 7 != 2).map(|host| format!("10.0.{host}.0-10.0.{host}.249")).collect();
        assert_eq!(ranges, expected);
    }
}
