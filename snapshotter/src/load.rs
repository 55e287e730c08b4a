//! From a log to a fold: the view first, then the commands behind it; or the commands alone, to any moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::edits::Edits;
use crate::fold::Fold;
use crate::log::{CommandReader, Log, LogError, ViewReader};
use crate::progress::Shown;
use crate::record::{Record, Reject};
use crate::time::LogTime;
use crate::view::{View, ViewError};

/// How long a log may say nothing before its end is reached.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for records at a time.
const WAIT: Duration = Duration::from_millis(100);

/// A fold that follows a log.
pub struct Follower {
    /// The fold so far.
    pub fold: Fold,
    /// What changed in it since this was last cleared.
    pub edits: Edits,
    /// How many of the records read here could not be read.
    pub rejected: u64,
    reader: Box<dyn CommandReader>,
}

impl Follower {
    /// Goes on from `fold`.
    ///
    /// # Errors
    /// [`LogError::Gone`] if the commands behind it are no longer there.
    pub fn resume(log: &dyn Log, fold: Fold) -> Result<Self, LogError> {
        let reader = log.commands(fold.position().next_offset)?;
        Ok(Self { fold, edits: Edits::default(), rejected: 0, reader })
    }

    /// Reads the view, and stands ready to read the commands behind it. A view that is missing or cannot be read is
    /// replaced by a replay of all commands.
    ///
    /// # Errors
    /// [`LoadError`]: a log that cannot be read, or commands that are gone.
    pub fn bootstrap(log: &dyn Log) -> Result<Self, LoadError> {
        let fold = match read_view(log) {
            Ok(fold) => fold,
            Err(error) => {
                let error = error.of_the_view()?;
                let follower = Self::resume(log, Fold::default())?; // If there are no commands either, it says so.
                warn!("replaying all commands, since the view of ranges is of no use: {error}");
                return Ok(follower);
            }
        };
        if fold.position().next_offset == 0 {
            info!("the view of ranges is empty: replaying all commands");
        }
        Ok(Self::resume(log, fold)?)
    }

    /// Bootstraps and catches up with the end of the log.
    ///
    /// # Errors
    /// As [`Follower::bootstrap`], and [`LoadError::Stalled`].
    pub fn load(log: &dyn Log) -> Result<Self, LoadError> {
        let mut follower = Self::bootstrap(log)?;
        follower.catch_up()?;
        Ok(follower)
    }

    /// Folds all commands up to the end of the log, and forgets the edits.
    ///
    /// # Errors
    /// Those of the log, and [`LoadError::Stalled`] if it neither gives commands nor comes to an end.
    pub fn catch_up(&mut self) -> Result<(), LoadError> {
        let Self { fold, edits, rejected, reader } = self;
        let start = fold.position().next_offset;
        drain(&mut **reader, start, "folding commands", |record| {
            *rejected += u64::from(apply(fold, record, edits).is_err());
            edits.clear();
            true
        })
    }

    /// Waits for commands, at most `timeout`, and folds them.
    ///
    /// # Errors
    /// Those of the log.
    pub fn follow(&mut self, timeout: Duration) -> Result<(), LogError> {
        let batch = self.reader.read(timeout)?;
        for record in &batch.records {
            if let Err(reject) = apply(&mut self.fold, record, &mut self.edits) {
                self.rejected += 1;
                warn!("skipped the record at offset {}: {reject}", record.offset);
            }
        }
        Ok(())
    }
}

/// Folds a record, unless it is in already: what is delivered twice counts once.
fn apply(fold: &mut Fold, record: &Record, edits: &mut Edits) -> Result<(), Reject> {
    if record.offset < fold.position().next_offset { Ok(()) } else { fold.apply(record, edits) }
}

/// Hands the records of `reader`, which starts at offset `start`, to `each`, up to the end of the log or until it says no.
fn drain(
    reader: &mut dyn CommandReader,
    start: u64,
    what: &'static str,
    mut each: impl FnMut(&Record) -> bool,
) -> Result<(), LoadError> {
    let end = reader.end();
    let total = end.saturating_sub(start);
    let mut shown = Shown::new(what, total);
    let mut next_offset = start;
    let mut heard = Instant::now();
    // Up to the end as it was at the start: while commands keep coming, there is no other.
    while next_offset < end {
        let batch = reader.read(WAIT)?;
        for record in &batch.records {
            if !each(record) {
                return Ok(());
            }
            next_offset = record.offset + 1;
        }
        if batch.at_end {
            return Ok(());
        }
        if !batch.records.is_empty() {
            heard = Instant::now();
            shown.at(next_offset - start, total.max(next_offset - start));
        } else if heard.elapsed() > STALL_TIMEOUT {
            return Err(LoadError::Stalled { next_offset });
        }
    }
    Ok(())
}

/// Hands all commands to `each`, from offset 0 up to the end of the log.
///
/// # Errors
/// Those of the log, [`LogError::Gone`] if it does not start at offset 0, and [`LoadError::Stalled`].
pub fn each_command(log: &dyn Log, mut each: impl FnMut(&Record)) -> Result<(), LoadError> {
    drain(&mut *log.commands(0)?, 0, "reading commands", |record| {
        each(record);
        true
    })
}

/// A moment of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// Behind all commands below an offset.
    Offset(u64),
    /// Before the first command that moves log time past a time.
    Time(LogTime),
}

/// Replays the commands from offset 0 up to `moment`. The view is not asked.
///
/// # Errors
/// Those of the log, [`LogError::Gone`] if it does not start at offset 0, [`LoadError::Stalled`], and
/// [`LoadError::NotYet`].
pub fn replay(log: &dyn Log, moment: Moment) -> Result<Fold, LoadError> {
    let mut fold = Fold::default();
    let (mut edits, mut stopped) = (Edits::default(), false);
    drain(&mut *log.commands(0)?, 0, "replaying commands", |record| {
        stopped = match moment {
            Moment::Offset(until) => record.offset >= until,
            Moment::Time(until) => record.change().is_ok_and(|change| change.time > until),
        };
        if !stopped {
            let _rejected = apply(&mut fold, record, &mut edits);
            edits.clear();
        }
        !stopped
    })?;
    let end = fold.position().next_offset;
    match moment {
        Moment::Offset(wanted) if !stopped && wanted > end => Err(LoadError::NotYet { wanted, end }),
        _ => Ok(fold),
    }
}

/// Reads the view as a fold.
///
/// # Errors
/// [`LoadError`]: a view that cannot be read.
pub fn read_view(log: &dyn Log) -> Result<Fold, LoadError> {
    let mut view = View::default();
    watch_view(log, |key, value| view.read(key, value))?;
    Ok(view.into_fold()?)
}

/// Reads the view as it is, whatever it holds.
///
/// # Errors
/// Those of the log.
pub fn read_raw_view(log: &dyn Log) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LoadError> {
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

/// Hands what the view holds to `each`, and gives the reader, which follows the view from there.
///
/// # Errors
/// Those of the log.
pub fn watch_view(
    log: &dyn Log,
    mut each: impl FnMut(Option<&[u8]>, Option<&[u8]>),
) -> Result<Box<dyn ViewReader>, LoadError> {
    let mut reader = log.view()?;
    let mut shown = Shown::new("reading the view of ranges", reader.progress().total);
    let (mut done, mut heard) = (0, Instant::now());
    while reader.progress().total > 0 && !reader.read(WAIT, &mut each)? {
        let progress = reader.progress();
        if progress.done > done {
            (done, heard) = (progress.done, Instant::now());
            shown.at(done, progress.total);
        } else if heard.elapsed() > STALL_TIMEOUT {
            return Err(LoadError::StalledView { done, total: progress.total });
        }
    }
    Ok(reader)
}

/// Why a log gives no fold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The log's own words.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The view is not as edgefold writes it.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The log says neither more commands nor its end.
    #[error("the log gave no command from offset {next_offset} on for {} seconds, nor its end: is the broker up?", STALL_TIMEOUT.as_secs())]
    Stalled {
        /// The next offset.
        next_offset: u64,
    },
    /// The view says neither more records nor its end.
    #[error("the view of ranges gave {done} of {total} records, and then nothing for {} seconds: is the broker up?", STALL_TIMEOUT.as_secs())]
    StalledView {
        /// How many were read.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// A moment that the log has not come to.
    #[error("the log ends at offset {end}: offset {wanted} is still to come")]
    NotYet {
        /// What was asked for.
        wanted: u64,
        /// The next command's offset.
        end: u64,
    },
}

impl LoadError {
    /// What is wrong with the view, if that is the trouble, and not the log or the way to it.
    ///
    /// # Errors
    /// This error, if it is another one.
    pub fn of_the_view(self) -> Result<Self, Self> {
        match self {
            Self::View(_) | Self::Log(LogError::Missing(_) | LogError::Settings(_)) => Ok(self),
            _ => Err(self),
        }
    }

    /// Whether it may pass by itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Log(error) => error.may_pass(),
            Self::Stalled { .. } | Self::StalledView { .. } => true,
            Self::View(_) | Self::NotYet { .. } => false,
        }
    }
}
