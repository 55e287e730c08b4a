//! Keeps the view of ranges in step with the commands, as one of any number of snapshotters, of which one writes.
//!
//! No one assigns the writer. A standby watches the position of the view, and takes over when the view has been behind the
//! commands without moving for a while, whether its writer died, hangs or is cut off. Taking over fences the old writer, so that
//! it cannot write again. After any failure everything is dropped and restarted from what the view contains: a failed writer
//! is like a new process. A view that a newer edgefold has written is left alone.
//!
//! The keeper has its own fold and reader, so shipping never waits for a commit.

use std::time::{Duration, Instant};

use edgefold::view::{
    Stated, Version, ViewContent, ViewError, read_content, read_view_after, records, repair, stated, watch_view,
};
use edgefold::{Error, Fold, Follower, FoundView, Log, ViewReader, ViewWriter};
use tracing::{error, info, warn};

use crate::retry::Retry;

/// How long the view may stay behind the commands, without moving, before a standby takes over.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Each standby waits this much longer at most, and each another time, so that they do not all take over at once.
pub const MOST_JITTER: Duration = Duration::from_secs(2);
/// A standby that was fenced waits twice as long the next time, up to this, so that a writer with much to write in one
/// transaction can finish.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// Whether this snapshotter writes the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It writes the view.
    Writer,
    /// It is becoming the writer.
    TakingOver,
    /// It watches the view, and takes over if nobody writes it.
    Standby,
}

/// Keeps the view, one step at a time.
pub struct Keeper {
    state: State,
    least_patience: Duration,
    patience: Duration,
    retry: Retry,
    view_offset: u64,
    unusable_views: u64,
}

enum State {
    /// Waiting to start, or to restart, until then. The view was found to be invalid at `invalid_since`, if it was.
    Resting {
        until: Instant,
        invalid_since: Option<Instant>,
    },
    /// Watching the view, if there is one. It has been behind the commands, without moving, or invalid since `behind`.
    Standby {
        view: Option<Box<dyn ViewReader>>,
        seen: Seen,
        /// How far the reader has come: it moves whenever another writer takes over.
        read_to: u64,
        behind: Option<Instant>,
    },
    TakingOver,
    Writer {
        writer: Box<dyn ViewWriter>,
        follower: Box<Follower>,
    },
}

/// What a standby has seen in the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seen {
    Valid,
    Invalid,
    /// A newer edgefold has written it. `told` is whether the log says so.
    Newer {
        version: Version,
        told: bool,
    },
}

impl Keeper {
    /// A standby that starts at `now`. It waits for [`PATIENCE`] and `jitter`, a random time up to [`MOST_JITTER`].
    pub fn new(now: Instant, jitter: Duration) -> Self {
        let patience = PATIENCE + jitter;
        let (state, retry) = (State::Resting { until: now, invalid_since: None }, Retry::default());
        Self { state, least_patience: patience, patience, retry, view_offset: 0, unusable_views: 0 }
    }

    /// A standby that starts at `now` with a view that was just read, so that it need not be read again.
    pub fn continuing(view: FoundView, now: Instant, jitter: Duration) -> Self {
        let FoundView { reader, next_offset, is_usable } = view;
        let mut this = Self::new(now, jitter);
        let seen = if is_usable { Seen::Valid } else { Seen::Invalid };
        this.watch_from(Some(reader), next_offset, seen, None);
        this
    }

    /// Whether it writes the view.
    pub fn role(&self) -> Role {
        match self.state {
            State::Writer { .. } => Role::Writer,
            State::TakingOver => Role::TakingOver,
            State::Resting { .. } | State::Standby { .. } => Role::Standby,
        }
    }

    /// The next command offset of the view, as far as this keeper knows.
    pub fn view_offset(&self) -> u64 {
        self.view_offset
    }

    /// How many views it has found that had to be rebuilt.
    pub fn unusable_views(&self) -> u64 {
        self.unusable_views
    }

    /// Whether there is nothing to wait for at `now` but time: [`Keeper::step`] returns at once then.
    pub fn has_to_rest(&self, now: Instant) -> bool {
        match &self.state {
            State::Resting { until, .. } => now < *until,
            State::Standby { view, .. } => view.is_none(),
            State::TakingOver | State::Writer { .. } => false,
        }
    }

    /// Does what there is to do at `now`. It waits at most `wait` for the log to have something, plus whatever calls to the log
    /// take. The log is known to have the commands below offset `folded`. Failures are logged and retried: only the next start
    /// needs the view.
    pub fn step(&mut self, log: &dyn Log, folded: u64, now: Instant, wait: Duration) {
        let done = match &mut self.state {
            State::Resting { until, .. } if now < *until => Ok(()),
            State::Resting { invalid_since, .. } => {
                let invalid_since = *invalid_since;
                self.stand_by(log, invalid_since, now)
            }
            State::Standby { .. } => self.watch(folded, now, wait),
            State::TakingOver => self.take_over(log),
            State::Writer { .. } => self.write(wait),
        };
        match done {
            Ok(()) => {}
            Err(Error::Fenced) => {
                info!("another snapshotter writes the view of ranges now: on standby");
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
                self.state = State::Resting { until: now, invalid_since: None };
            }
            Err(error) => {
                let delay = self.retry.failed(now);
                warn!("cannot write the view of ranges: {error}; trying again in {} s", delay.as_secs());
                self.state = State::Resting { until: now + delay, invalid_since: None };
            }
        }
    }

    fn stand_by(&mut self, log: &dyn Log, invalid_since: Option<Instant>, now: Instant) -> Result<(), Error> {
        let mut content = ViewContent::default();
        let view = match watch_view(log, |key, value| content.read(key, value)) {
            Ok(view) => Some(view),
            Err(error) if error.is_unusable_view() => None,
            Err(error) => return Err(error),
        };
        let next_offset = content.stated().map_or(0, |stated| stated.next_offset);
        if next_offset > self.view_offset {
            // The writer makes progress, so there is no reason for more patience than usual.
            self.patience = (self.patience / 2).max(self.least_patience);
        }
        let seen = match content.into_fold() {
            Err(ViewError::Newer { version }) => Seen::Newer { version, told: false },
            Ok(_) if view.is_some() => Seen::Valid,
            _ => Seen::Invalid,
        };
        let invalid_since = invalid_since.filter(|_| seen == Seen::Invalid);
        self.watch_from(view, next_offset, seen, invalid_since);
        if invalid_since.is_some_and(|since| now.saturating_duration_since(since) >= self.patience) {
            info!("the view of ranges cannot be used, and nobody has rewritten it: taking over");
            self.state = State::TakingOver;
        }
        Ok(())
    }

    fn watch_from(&mut self, view: Option<Box<dyn ViewReader>>, next_offset: u64, seen: Seen, behind: Option<Instant>) {
        self.view_offset = next_offset;
        info!(
            "watching the view of ranges, which is at offset {}; taking over in {} s if nobody writes it",
            self.view_offset,
            self.patience.as_secs()
        );
        let read_to = view.as_ref().map_or(0, |view| view.progress().done);
        self.state = State::Standby { view, seen, read_to, behind };
    }

    fn watch(&mut self, folded: u64, now: Instant, wait: Duration) -> Result<(), Error> {
        let State::Standby { view, seen, read_to, behind } = &mut self.state else { return Ok(()) };
        let mut written: Option<Stated> = None;
        let (mut has_moved, mut has_records) = (false, false);
        if let Some(view) = view {
            view.read(wait, &mut |key, value| {
                has_records = true;
                written = stated(key, value).or(written);
            })?;
            has_moved = std::mem::replace(read_to, view.progress().done) != view.progress().done;
        }
        if let Some(Stated { next_offset, version }) = written {
            if version.is_newer() && !matches!(seen, Seen::Newer { .. }) {
                *seen = Seen::Newer { version, told: false };
            } else if version == Version::CURRENT
                && matches!(seen, Seen::Newer { .. })
                && (next_offset != self.view_offset || has_moved)
            {
                // Somebody else has written the view, which may be one for this edgefold now.
                self.state = State::Resting { until: now, invalid_since: None };
                return Ok(());
            }
        }
        let next_offset = written.map_or(self.view_offset, |written| written.next_offset);
        if next_offset > self.view_offset {
            self.patience = (self.patience / 2).max(self.least_patience);
            self.retry = Retry::default();
        }
        // A writer that goes on does not mend an invalid view. One that has just taken over may: the reader has moved then, but not past
        // records of a transaction.
        let has_new_writer = has_moved && next_offset == self.view_offset && has_records == written.is_some();
        let is_progress = match seen {
            Seen::Invalid => has_new_writer,
            Seen::Valid | Seen::Newer { .. } => next_offset != self.view_offset || has_moved,
        };
        if next_offset >= folded && *seen != Seen::Invalid {
            *behind = None;
        } else if is_progress || behind.is_none() {
            *behind = Some(now);
        }
        self.view_offset = next_offset;
        let Some(since) = behind.filter(|since| now.saturating_duration_since(*since) >= self.patience) else {
            return Ok(());
        };
        match seen {
            Seen::Newer { told: true, .. } => return Ok(()),
            Seen::Newer { version, told } => {
                *told = true;
                let error = ViewError::Newer { version: *version };
                warn!(
                    "the view of ranges has stopped at offset {next_offset}, and the commands are at {folded}: {error}"
                );
                return Ok(());
            }
            Seen::Valid => {
                info!(
                    "the view of ranges has stopped at offset {next_offset}, and the commands are at {folded}: taking over"
                );
            }
            Seen::Invalid => {
                // Somebody may have rewritten it, which takes reading all of it. So that is done only once before taking over.
                self.state = State::Resting { until: now, invalid_since: Some(since) };
                return Ok(());
            }
        }
        self.state = State::TakingOver;
        Ok(())
    }

    fn take_over(&mut self, log: &dyn Log) -> Result<(), Error> {
        // This comes first, so that nobody else changes the view that is read here.
        let writer = log.view_writer()?;
        let (writer, follower) = match read_view_after(log, writer.fence()) {
            Ok(fold) => (writer, Follower::resume(log, fold)?),
            Err(error) if error.is_unusable_view() => {
                error!("rebuilding the view of ranges from the commands: {error}");
                self.unusable_views += 1;
                rebuild(log)?
            }
            Err(error) => return Err(error),
        };
        self.view_offset = follower.fold.position().next_offset;
        self.state = State::Writer { writer, follower: Box::new(follower) };
        info!("writing the view of ranges now, from offset {}", self.view_offset);
        Ok(())
    }

    fn write(&mut self, wait: Duration) -> Result<(), Error> {
        let State::Writer { writer, follower } = &mut self.state else { return Ok(()) };
        // Everything that has come in the meantime is one transaction: a single command is written at once, a flood in large
        // batches.
        follower.follow(wait)?;
        let position = follower.fold.position();
        if position.next_offset > self.view_offset {
            writer.write(&mut records(&follower.edits, &follower.fold))?;
            follower.edits.clear();
            self.view_offset = position.next_offset;
            (self.patience, self.retry) = (self.least_patience, Retry::default());
        }
        Ok(())
    }
}

/// Replays all commands, and replaces whatever the view contains with the result, in one transaction. Returns the writer, and
/// a follower that continues from there.
///
/// # Errors
/// Those of the log, [`Error::Gone`] if it does not start at offset 0, and [`Error::View`] if a newer edgefold writes the view.
pub fn rebuild(log: &dyn Log) -> Result<(Box<dyn ViewWriter>, Follower), Error> {
    // The replay comes before the takeover, because it takes long: a standby would take over in the meantime.
    let mut follower = Follower::resume(log, Fold::default())?;
    follower.catch_up()?;
    let mut writer = log.view_writer()?;
    let current = read_content(log, writer.fence())?;
    if let Some(version) = current.stated().map(|stated| stated.version).filter(|version| version.is_newer()) {
        return Err(ViewError::Newer { version }.into());
    }
    // Up to the end that the log has now: the writer before may have come further than the replay.
    follower.reopen(log)?;
    follower.catch_up()?;
    writer.write(&mut repair(current, &follower.fold))?;
    Ok((writer, follower))
}
