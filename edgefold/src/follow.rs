//! A fold that follows a log: bootstrapped from the view, then kept up to date from the commands.

use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::log::{Batch, CommandReader, Log, ViewReader};
use crate::replay::read_to_end;
use crate::view::{ViewContent, watch_view};
use crate::{Contact, Edits, Error, Fold, Now, Record, Reject};

/// How long to wait for the log to confirm its end.
const CONTACT_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for commands at a time meanwhile.
const CONTACT_POLL: Duration = Duration::from_millis(10);

/// A fold that follows a log.
pub struct Follower {
    /// The fold so far.
    pub fold: Fold,
    /// What changed in it since the edits were last cleared.
    pub edits: Edits,
    /// How many of the records that this follower has read were rejected.
    pub rejected: u64,
    /// How many of them have a key that is not a time, so that their timestamp was used instead.
    pub undated: u64,
    /// The view as it was found when this follower was bootstrapped; `None` if it was not, or nothing could be read.
    pub view: Option<FoundView>,
    pub(crate) reader: Box<dyn CommandReader>,
}

/// A view that was read to its end.
pub struct FoundView {
    /// Follows it from there.
    pub reader: Box<dyn ViewReader>,
    /// The next command offset that it states; 0 if it states none.
    pub next_offset: u64,
    /// Whether it is a valid view of this version.
    pub is_usable: bool,
}

impl Follower {
    /// Follows the log from the position of `fold` on.
    ///
    /// # Errors
    /// Those of [`Log::commands`].
    pub fn resume(log: &dyn Log, fold: Fold) -> Result<Self, Error> {
        let reader = log.commands(fold.position())?;
        Ok(Self { fold, edits: Edits::default(), rejected: 0, undated: 0, view: None, reader })
    }

    /// Reads the view, and is then ready to read the commands after it. If the view is missing or invalid, it starts at
    /// offset 0 instead.
    ///
    /// # Errors
    /// Those of the log, and [`Error::Gone`] if it does not have the commands that are needed.
    pub fn bootstrap(log: &dyn Log) -> Result<Self, Error> {
        let mut content = ViewContent::default();
        let (reader, fold) = match watch_view(log, |key, value| content.read(key, value)) {
            Ok(reader) => {
                let next_offset = content.stated().map_or(0, |stated| stated.next_offset);
                (Some((reader, next_offset)), content.into_fold().map_err(Error::from))
            }
            Err(error) => (None, Err(error)),
        };
        let is_usable = fold.is_ok();
        let view = reader.map(|(reader, next_offset)| FoundView { reader, next_offset, is_usable });
        let fold = match fold {
            Ok(fold) => fold,
            Err(error) if error.is_unusable_view() => {
                let follower = Self::resume(log, Fold::default())?; // If the commands are missing too, it says so.
                error!("replaying all commands, because the view of ranges cannot be used: {error}");
                return Ok(Self { view, ..follower });
            }
            Err(error) => return Err(error),
        };
        if fold.position().next_offset == 0 {
            info!("the view of ranges is empty: replaying all commands");
        }
        Ok(Self { view, ..Self::resume(log, fold)? })
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
        let Self { fold, edits, rejected, undated, reader, .. } = self;
        let start = fold.position().next_offset;
        read_to_end(&mut **reader, start, |record| {
            *rejected += u64::from(apply(fold, record, edits).is_err());
            *undated += u64::from(record.has_other_key());
            edits.clear();
            true
        })
    }

    /// As [`Follower::load`], and then follows the log until it confirms that it has nothing more. If it does not do so in 5
    /// seconds, for instance because an open transaction may hide commands, there is no contact. `asked` is the time now.
    ///
    /// # Errors
    /// Those of the log.
    pub fn load_with_contact(log: &dyn Log, asked: Now) -> Result<(Self, Contact), Error> {
        let mut follower = Self::load(log)?;
        let started = Instant::now();
        let mut timeout = Duration::ZERO;
        loop {
            if follower.follow(timeout)?.contact.is_some() {
                // The clocks may drift apart meanwhile, but the log was asked after this.
                return Ok((follower, Contact::new(asked)));
            }
            if started.elapsed() > CONTACT_PATIENCE {
                return Ok((follower, Contact::none(asked)));
            }
            timeout = CONTACT_POLL;
        }
    }

    /// Waits at most `timeout` for commands, folds them, and returns what was read.
    ///
    /// # Errors
    /// Those of the log.
    pub fn follow(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let batch = self.read(timeout)?;
        self.fold(&batch.records);
        Ok(batch)
    }

    /// Waits at most `timeout` for commands, for [`Follower::fold`].
    ///
    /// # Errors
    /// Those of the log.
    pub fn read(&mut self, timeout: Duration) -> Result<Batch, Error> {
        self.reader.read(timeout)
    }

    /// Folds the commands that were read.
    pub fn fold(&mut self, records: &[Record]) {
        for record in records {
            if let Err(reject) = apply(&mut self.fold, record, &mut self.edits) {
                self.rejected += 1;
                warn_of_reject(record, &reject, self.rejected);
            }
            self.undated += u64::from(record.has_other_key());
        }
    }

    /// Opens the log again, after reading it has failed, and goes on where it was.
    ///
    /// # Errors
    /// Those of [`Log::commands`].
    pub fn reopen(&mut self, log: &dyn Log) -> Result<(), Error> {
        self.reader = log.commands(self.fold.position())?;
        Ok(())
    }
}

/// Logs the first rejects, and then only as often as their number doubles: whoever writes junk must not fill a disk.
pub(crate) fn warn_of_reject(record: &Record, reject: &Reject, rejected: u64) {
    if rejected <= 10 || rejected.is_power_of_two() {
        warn!("skipped the record at offset {}: {reject} ({rejected} skipped so far)", record.offset);
    }
}

/// Folds a record unless it is folded already: a record that is delivered twice counts once.
pub(crate) fn apply(fold: &mut Fold, record: &Record, edits: &mut Edits) -> Result<(), Reject> {
    if record.offset < fold.position().next_offset { Ok(()) } else { fold.apply(record, edits) }
}
