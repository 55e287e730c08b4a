//! Cuts a snapshot from a fold. Here the clock comes in, as a parameter.

use edgefold_table::{BuildError, Freshness, Generation, Settings, Snapshot};

use crate::fold::Fold;
use crate::time::LogTime;

/// The snapshot of what is blocked at `time`.
///
/// The bytes depend on the log, on what has expired by `time` and on `list` and `settings`, and on nothing else: replicas
/// cut the same.
///
/// # Errors
/// [`BuildError`] if `list` or the settings are too long for the header, or the settings are wrong.
pub fn cut(fold: &Fold, list: &str, settings: Settings, time: LogTime) -> Result<Vec<u8>, BuildError> {
    let position = fold.position();
    let as_of = fold.newest_expiry(time).unwrap_or_default().max(position.log_time);
    Snapshot::build(list, generation(fold, time), as_of.millis(), settings, fold.blocked_at(time))
}

/// Which state of the log is seen at `time`.
pub fn generation(fold: &Fold, time: LogTime) -> Generation {
    let expiry = fold.newest_expiry(time).map(LogTime::millis);
    Generation { next_offset: fold.position().next_offset, expiry }
}

/// `1042`, or `1042@2026-11-23T03:00:00Z` where a range has expired since the last command.
pub fn generation_text(generation: Generation) -> String {
    match generation.expiry.map(LogTime::from_millis) {
        None => generation.next_offset.to_string(),
        Some(Some(expiry)) => format!("{}@{expiry}", generation.next_offset),
        Some(None) => format!("{}@?", generation.next_offset),
    }
}

/// The version of a resource: its generation, and, where snapshots get stale, the moment that this one is fresh from, so that
/// an Envoy that has the generation takes it: `1042+2026-11-23T03:15:00Z`.
pub fn version(generation: Generation, freshness: Option<Freshness>) -> String {
    let generation = generation_text(generation);
    match freshness.map(|freshness| LogTime::from_millis(freshness.cut_at).unwrap_or(LogTime::LAST)) {
        None => generation,
        Some(cut_at) => format!("{generation}+{cut_at}"),
    }
}
