//! A fold that follows a log: bootstrapped from the view, then kept up to date from the commands.

use std::time::Duration;

use tracing::{info, warn};

use crate::log::{Batch, CommandReader, Log};
use crate::replay::read_to_end;
use crate::view::read_view;
use crate::{Edits, Error, Fold, Record, Reject};

/// A fold that follows a log.
pub struct Follower {
    /// The fold so far.
    pub fold: Fold,
    /// What changed in it since the edits were last cleared.
    pub edits: Edits,
    /// How many of the records that this follower has read were rejected.
    pub rejected: u64,
    pub(crate) reader: Box<dyn CommandReader>,
}

impl Follower {
    /// Follows the log from the position of `fold` on.
    ///
    /// # Errors
    /// Those of the log, and [`Error::Gone`] if it does not have the commands from there on.
    pub fn resume(log: &dyn Log, fold: Fold) -> Result<Self, Error> {
        let reader = log.commands(fold.position().next_offset)?;
        Ok(Self { fold, edits: Edits::default(), rejected: 0, reader })
    }

    /// Reads the view, and is then ready to read the commands after it. If the view is missing or invalid, it starts at
    /// offset 0 instead.
    ///
    /// # Errors
    /// Those of the log, and [`Error::Gone`] if it does not have the commands that are needed.
    pub fn bootstrap(log: &dyn Log) -> Result<Self, Error> {
        let fold = match read_view(log) {
            Ok(fold) => fold,
            Err(error) if error.is_unusable_view() => {
                let follower = Self::resume(log, Fold::default())?; // If the commands are missing too, it says so.
                warn!("replaying all commands, because the view of ranges cannot be used: {error}");
                return Ok(follower);
            }
            Err(error) => return Err(error),
        };
        if fold.position().next_offset == 0 {
            info!("the view of ranges is empty: replaying all commands");
        }
        Self::resume(log, fold)
    }

    /// Bootstraps, and catches up with the end of the log.
    ///
    /// # Errors
    /// As for [`Follower::bootstrap`], and [`Error::Stalled`].
    pub fn load(log: &dyn Log) -> Result<Self, Error> {
        let mut follower = Self::bootstrap(log)?;
        follower.catch_up()?;
        Ok(follower)
    }

    /// Folds all commands up to the end of the log, and clears the edits.
    ///
    /// # Errors
    /// Those of the log, and [`Error::Stalled`] if it returns neither commands nor its end.
    pub fn catch_up(&mut self) -> Result<(), Error> {
        let Self { fold, edits, rejected, reader } = self;
        let start = fold.position().next_offset;
        read_to_end(&mut **reader, start, |record| {
            *rejected += u64::from(apply(fold, record, edits).is_err());
            edits.clear();
            true
        })
    }

    /// Waits at most `timeout` for commands, folds them, and returns what was read.
    ///
    /// # Errors
    /// Those of the log.
    pub fn follow(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let batch = self.reader.read(timeout)?;
        for record in &batch.records {
            if let Err(reject) = apply(&mut self.fold, record, &mut self.edits) {
                self.rejected += 1;
                warn!("skipped the record at offset {}: {reject}", record.offset);
            }
        }
        Ok(batch)
    }
}

/// Folds a record unless it is folded already: a record that is delivered twice counts once.
pub(crate) fn apply(fold: &mut Fold, record: &Record, edits: &mut Edits) -> Result<(), Reject> {
    if record.offset < fold.position().next_offset { Ok(()) } else { fold.apply(record, edits) }
}
