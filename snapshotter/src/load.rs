//! From a log to a fold: the view first, then the commands behind it.

use std::time::{Duration, Instant};

use crate::edits::Edits;
use crate::fold::{Fold, Position};
use crate::log::{Batch, CommandReader, Log, LogError};
use crate::view::{View, ViewError};

/// How long a log may say nothing before its end is reached.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A fold that follows a log.
pub struct Follower {
    /// The fold so far.
    pub fold: Fold,
    /// What changed in it since `written`.
    pub edits: Edits,
    /// Where the view on the log stands.
    pub written: Position,
    /// How many of the records read here could not be read.
    pub rejected: u64,
    reader: Box<dyn CommandReader>,
}

impl Follower {
    /// Reads the view, and stands ready to read the commands behind it.
    ///
    /// # Errors
    /// [`LoadError`]: a view that cannot be read, or commands that are gone.
    pub fn bootstrap(log: &dyn Log) -> Result<Self, LoadError> {
        let fold = read_view(log)?;
        let written = fold.position();
        let reader = log.commands(written.next_offset)?;
        Ok(Self { fold, edits: Edits::default(), written, rejected: 0, reader })
    }

    /// Bootstraps and catches up with the end of the log.
    ///
    /// # Errors
    /// As [`Follower::bootstrap`], and [`LoadError::Stalled`].
    pub fn load(log: &dyn Log) -> Result<Self, LoadError> {
        let mut follower = Self::bootstrap(log)?;
        while !follower.catch_up()? {}
        Ok(follower)
    }

    /// Folds the next batch, and says whether the end of the log is reached.
    ///
    /// # Errors
    /// Those of the log, and [`LoadError::Stalled`] if it neither gives commands nor comes to an end.
    pub fn catch_up(&mut self) -> Result<bool, LoadError> {
        let deadline = Instant::now() + STALL_TIMEOUT;
        loop {
            let batch = self.follow(Duration::from_millis(100))?;
            if batch.at_end || !batch.records.is_empty() {
                return Ok(batch.at_end);
            }
            if Instant::now() > deadline {
                return Err(LoadError::Stalled { next_offset: self.fold.position().next_offset });
            }
        }
    }

    /// Waits for commands, at most `timeout`, and folds them.
    ///
    /// # Errors
    /// Those of the log.
    pub fn follow(&mut self, timeout: Duration) -> Result<Batch, LogError> {
        let batch = self.reader.read(timeout)?;
        for record in &batch.records {
            if let Err(reject) = self.fold.apply(record, &mut self.edits) {
                self.rejected += 1;
                tracing::warn!("skipped the record at offset {}: {reject}", record.offset);
            }
        }
        Ok(batch)
    }
}

/// Reads the view of ranges as a fold.
///
/// # Errors
/// [`LoadError`]: a view that cannot be read.
pub fn read_view(log: &dyn Log) -> Result<Fold, LoadError> {
    let mut view = View::default();
    let mut read = Ok(());
    log.read_view(&mut |key, value| {
        if read.is_ok() {
            read = view.read(key, value);
        }
    })?;
    Ok(read.and_then(|()| view.into_fold())?)
}

/// Why a log gives no fold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The log's own words.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The ranges are not as edgefold writes them.
    #[error(
        "the view of ranges cannot be read: {0}; the commands are the truth: stop every `edgefold serve`, delete the view, and the next start builds it anew"
    )]
    View(#[from] ViewError),
    /// The view is the fold of more commands than this one has read.
    #[error("the view of ranges is at offset {view}, and this snapshotter still at {fold}")]
    Behind {
        /// The view's next offset.
        view: u64,
        /// The fold's.
        fold: u64,
    },
    /// The log says neither more commands nor its end.
    #[error("the log gave no command from offset {next_offset} on for {} seconds, nor its end: is the broker up?", STALL_TIMEOUT.as_secs())]
    Stalled {
        /// The next offset.
        next_offset: u64,
    },
}
