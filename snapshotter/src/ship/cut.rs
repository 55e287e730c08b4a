//! Cuts a snapshot from a fold. This is where the clock comes in, as a parameter.

use edgefold::{Fold, LogTime};
use edgefold_snapshot::{EncodeError, Generation, NewSnapshot, Settings};

/// The snapshot of what is blocked at `time`, and the number of its ranges.
///
/// The bytes depend only on the log, on what has expired by `time`, on `list` and `settings`, and, if the settings limit the
/// age of a snapshot, on [`cut_at`]. Replicas cut the same.
///
/// # Errors
/// [`EncodeError`] if `list` or the settings are too long for the header, or the settings are invalid.
pub fn cut(fold: &Fold, list: &str, settings: &Settings, time: LogTime) -> Result<(Vec<u8>, u64), EncodeError> {
    let (generation, cut_at) = (generation(fold, time), cut_at(settings, time));
    let as_of = fold.position().log_time.millis().max(generation.expiry.unwrap_or(0));
    let new = NewSnapshot { list, generation, as_of, settings, cut_at };
    let mut ranges = 0;
    let bytes = new.encode(fold.blocked_at(time).inspect(|_| ranges += 1))?;
    Ok((bytes, ranges))
}

/// Which state of the log is in force at `time`.
pub fn generation(fold: &Fold, time: LogTime) -> Generation {
    let expiry = fold.newest_expiry(time).map(LogTime::millis);
    Generation { next_offset: fold.position().next_offset, expiry }
}

/// From when a snapshot that is cut at `now` counts as fresh: `now`, rounded down to a multiple of a quarter of the maximum
/// age. So a snapshot is cut anew once a quarter, and all replicas cut the same. 0 if the settings do not limit the age.
pub fn cut_at(settings: &Settings, now: LogTime) -> u64 {
    settings.freshness.map_or(0, |freshness| {
        let quarter = (freshness.max_age / 4).max(1);
        now.millis() / quarter * quarter
    })
}

/// `1042`, or `1042@2026-11-23T03:00:00Z` if a range has expired since the last command.
pub fn generation_text(generation: Generation) -> String {
    match generation.expiry.map(LogTime::from_millis) {
        None => generation.next_offset.to_string(),
        Some(Some(expiry)) => format!("{}@{expiry}", generation.next_offset),
        Some(None) => format!("{}@?", generation.next_offset),
    }
}

/// The version of a resource: its generation, and, if snapshots get stale, the moment from which this one is fresh, so that an
/// Envoy with the same generation still takes it: `1042+2026-11-23T03:15:00Z`.
pub fn version(generation: Generation, fresh_from: Option<u64>) -> String {
    let generation = generation_text(generation);
    match fresh_from.map(|millis| LogTime::from_millis(millis).unwrap_or(LogTime::LAST)) {
        None => generation,
        Some(fresh_from) => format!("{generation}+{fresh_from}"),
    }
}

#[cfg(test)]
mod tests {
    use edgefold_snapshot::{Freshness, WhenStale};

    use super::*;

    #[test]
    fn a_snapshot_counts_as_fresh_from_whole_quarters_of_its_maximum_age() {
        let freshness = Some(Freshness { cut_at: 0, max_age: 4_000, when_stale: WhenStale::Keep });
        let settings = Settings { freshness, ..Settings::default() };
        let cut_at_millis = |millis| cut_at(&settings, LogTime::from_millis(millis).unwrap());
        assert_eq!([9_999, 10_000, 10_999].map(cut_at_millis), [9_000, 10_000, 10_000]);
        assert_eq!(cut_at(&Settings::default(), LogTime::LAST), 0);
    }
}
