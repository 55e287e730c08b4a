//! Reading the view from a log.

use std::collections::BTreeMap;
use std::time::Instant;

use super::ViewContent;
use crate::log::{Log, ViewReader};
use crate::replay::{POLL, STALL_TIMEOUT};
use crate::{Error, Fold};

/// Reads the view as a fold.
///
/// # Errors
/// Those of the log, [`Error::View`] for an invalid view, and [`Error::StalledView`].
pub fn read_view(log: &dyn Log) -> Result<Fold, Error> {
    let mut content = ViewContent::default();
    watch_view(log, |key, value| content.read(key, value))?;
    Ok(content.into_fold()?)
}

/// Reads the records of the view, valid or not.
///
/// # Errors
/// Those of the log, and [`Error::StalledView`].
pub fn read_raw_view(log: &dyn Log) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut records = BTreeMap::new();
    watch_view(log, |key, value| {
        let Some(key) = key else { return };
        match value {
            Some(value) => drop(records.insert(key.to_vec(), value.to_vec())),
            None => drop(records.remove(key)),
        }
    })?;
    Ok(records)
}

/// Passes all records of the view to `each`, and returns the reader, which follows the view from there.
///
/// # Errors
/// Those of the log, and [`Error::StalledView`].
pub fn watch_view(
    log: &dyn Log,
    mut each: impl FnMut(Option<&[u8]>, Option<&[u8]>),
) -> Result<Box<dyn ViewReader>, Error> {
    let mut reader = log.view()?;
    let (mut done, mut progressed) = (0, Instant::now());
    while reader.progress().total > 0 && !reader.read(POLL, &mut each)? {
        let progress = reader.progress();
        if progress.done > done {
            (done, progressed) = (progress.done, Instant::now());
        } else if progressed.elapsed() > STALL_TIMEOUT {
            return Err(Error::StalledView { done, total: progress.total, seconds: STALL_TIMEOUT.as_secs() });
        }
    }
    Ok(reader)
}
