//! Cuts a snapshot from a fold. This is where the clock comes in, as a parameter.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Fold, List, LogTime};
use edgefold_snapshot::{EncodeError, Generation, NewList, NewSnapshot, Settings, Snapshot};

/// What was cut.
#[derive(Debug)]
pub struct Cut {
    /// The snapshot, whole or an overlay over `base`.
    pub snapshot: Vec<u8>,
    /// Whether it is an overlay.
    pub is_overlay: bool,
    /// The number of ranges on all lists.
    pub ranges: u64,
    /// What the resource of the base has; `None` if there is no such resource.
    pub base: Option<Arc<Snapshot<Bytes>>>,
}

/// The whole snapshot of the lists at `time`, with what [`header`] says.
///
/// # Errors
/// [`EncodeError`] if the name or the settings are too long for the header, the settings are invalid, or the lists too large.
pub fn cut(fold: &Fold, header: NewSnapshot<'_>, time: LogTime) -> Result<Cut, EncodeError> {
    let ranges = Cell::new(0);
    let snapshot = header.encode(shipped_lists(fold, time).map(|list| {
        let counted = list.ranges_at(time).inspect(|_| ranges.set(ranges.get() + 1));
        NewList { name: list.name(), action: list.action(), ranges: counted }
    }))?;
    Ok(Cut { snapshot, is_overlay: false, ranges: ranges.get(), base: None })
}

/// Everything but the lists of the snapshot at `time`.
///
/// The bytes of a whole snapshot depend only on the log, on what has expired by `time`, on `name`, `epoch` and `settings`, and, if the
/// settings limit the age of a snapshot, on [`fresh_from`]. Replicas cut the same.
pub fn header<'a>(
    fold: &Fold,
    name: &'a str,
    epoch: u32,
    settings: &'a Settings,
    time: LogTime,
    fresh_from: u64,
) -> NewSnapshot<'a> {
    let generation = generation(fold, epoch, time);
    let as_of = fold.position().log_time.millis().max(generation.expiry.unwrap_or(0));
    NewSnapshot { name, generation, as_of, settings, cut_at: fresh_from }
}

/// The lists in the snapshot at `time`. A list that no command says anything about is gone once all that was on it has ended, even if no
/// command has come since.
pub fn shipped_lists(fold: &Fold, time: LogTime) -> impl Iterator<Item = &List> {
    fold.lists().iter().filter(move |list| {
        list.name().is_default() || list.stated_action().is_some() || list.ranges_at(time).next().is_some()
    })
}

/// Which state of the log is in force at `time`.
pub fn generation(fold: &Fold, epoch: u32, time: LogTime) -> Generation {
    let expiry = fold.newest_expiry(time).map(LogTime::millis);
    Generation { epoch, next_offset: fold.position().next_offset, expiry }
}

/// From when a snapshot counts as fresh if the log had nothing more at `last_contact`: that moment, rounded down to a multiple of a
/// quarter of the maximum age. So a snapshot is cut anew once a quarter, and all replicas cut the same. 0 if the settings do not
/// limit the age.
pub fn fresh_from(settings: &Settings, last_contact: LogTime) -> u64 {
    settings.freshness.map_or(0, |freshness| {
        let quarter = (freshness.max_age / 4).max(1);
        last_contact.millis() / quarter * quarter
    })
}

/// `1042`, or `1042@2026-11-23T03:00:00Z` if a range has expired since the last command; `2:1042` in epoch 2.
pub fn generation_text(generation: Generation) -> String {
    let Generation { epoch, next_offset, expiry } = generation;
    let epoch = if epoch == 0 { String::new() } else { format!("{epoch}:") };
    match expiry.map(LogTime::from_millis) {
        None => format!("{epoch}{next_offset}"),
        Some(Some(expiry)) => format!("{epoch}{next_offset}@{expiry}"),
        Some(None) => format!("{epoch}{next_offset}@?"),
    }
}

/// The version of a resource: its generation, and, if snapshots get stale, the moment from which this one is fresh, so that an
/// Envoy with the same generation still takes it: `1042+2026-11-23T03:15:00Z`. That of an overlay names its base too, since over another
/// one it has other bytes: `1042/b0cc6707ae634e46`.
pub fn version(generation: Generation, fresh_from: Option<u64>, base: Option<&Snapshot<Bytes>>) -> String {
    let mut version = generation_text(generation);
    if let Some(millis) = fresh_from {
        version += &format!("+{}", LogTime::from_millis(millis).unwrap_or(LogTime::LAST));
    }
    if let Some(base) = base {
        version += &format!("/{}", base.fingerprint());
    }
    version
}

/// The version of the resource of a base.
pub fn base_version(base: &Snapshot<Bytes>) -> String {
    format!("{}/{}", generation_text(base.header().generation), base.fingerprint())
}

#[cfg(test)]
mod tests {
    use edgefold_snapshot::{Freshness, WhenStale};

    use super::*;

    #[test]
    fn a_generation_is_named_by_what_it_accounts_for() {
        let text = |epoch, expiry| generation_text(Generation { epoch, next_offset: 1042, expiry });
        assert_eq!((text(0, None), text(2, None)), ("1042".to_owned(), "2:1042".to_owned()));
        assert_eq!(
            (text(0, Some(0)), text(0, Some(u64::MAX))),
            ("1042@1970-01-01T00:00:00Z".to_owned(), "1042@?".to_owned())
        );
    }

    #[test]
    fn a_snapshot_counts_as_fresh_from_whole_quarters_of_its_maximum_age() {
        let freshness = Some(Freshness { cut_at: 0, max_age: 4_000, when_stale: WhenStale::Keep });
        let settings = Settings { freshness, ..Settings::default() };
        let fresh_from_millis = |millis| fresh_from(&settings, LogTime::from_millis(millis).unwrap());
        assert_eq!([9_999, 10_000, 10_999].map(fresh_from_millis), [9_000, 10_000, 10_000]);
        assert_eq!(fresh_from(&Settings::default(), LogTime::LAST), 0);
    }
}
