//! Reading the view from a log.

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
    read_view_after(log, 0)
}

/// Reads the view as a fold, for a writer that has taken over: with all that the writers before it have committed, which is what
/// lies before `fence`, its [`ViewWriter::fence`](crate::ViewWriter::fence).
///
/// # Errors
/// Those of [`read_view`], and [`Error::HeldBack`] if some of that is not visible yet.
pub fn read_view_after(log: &dyn Log, fence: u64) -> Result<Fold, Error> {
    Ok(read_content(log, fence)?.into_fold()?)
}

/// Reads the view, valid or not, for a writer that has taken over, as [`read_view_after`] does.
///
/// # Errors
/// Those of the log, [`Error::StalledView`] and [`Error::HeldBack`].
pub fn read_content(log: &dyn Log, fence: u64) -> Result<ViewContent, Error> {
    let mut content = ViewContent::default();
    read_to_end(&mut *view_after(log, fence)?, |key, value| content.read(key, value))?;
    Ok(content)
}

/// Passes all records of the view to `each`, and returns the reader, which follows the view from there.
///
/// # Errors
/// Those of the log, and [`Error::StalledView`].
pub fn watch_view(log: &dyn Log, each: impl FnMut(Option<&[u8]>, Option<&[u8]>)) -> Result<Box<dyn ViewReader>, Error> {
    let mut reader = log.view()?;
    read_to_end(&mut *reader, each)?;
    Ok(reader)
}

/// A reader of the view that can reach `fence`.
fn view_after(log: &dyn Log, fence: u64) -> Result<Box<dyn ViewReader>, Error> {
    let reader = log.view()?;
    let end = reader.progress().total;
    if end < fence { Err(Error::HeldBack { end, fence }) } else { Ok(reader) }
}

fn read_to_end(reader: &mut dyn ViewReader, mut each: impl FnMut(Option<&[u8]>, Option<&[u8]>)) -> Result<(), Error> {
    let (mut done, mut progressed) = (0, Instant::now());
    while reader.progress().total > 0 && !reader.read(POLL, &mut each)? {
        let progress = reader.progress();
        if progress.done > done {
            (done, progressed) = (progress.done, Instant::now());
        } else if progressed.elapsed() > STALL_TIMEOUT {
            return Err(Error::StalledView { done, total: progress.total, seconds: STALL_TIMEOUT.as_secs() });
        }
    }
    Ok(())
}
