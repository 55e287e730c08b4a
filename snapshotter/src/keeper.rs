//! Keeps the view of ranges in step with the commands, as one of any number of snapshotters, of which one writes.
//!
//! No one assigns the writer. A standby watches the position of the view, and takes over when the view has been behind the
//! commands without moving for a while, whether its writer died, hangs or is cut off. Taking over fences the old writer, so that
//! it cannot write again. After any failure everything is dropped and restarted from what the view contains: a failed writer
//! is like a new process.
//!
//! The keeper has its own fold and reader, so shipping never waits for a commit.

use std::time::{Duration, Instant};

use edgefold::view::{ViewContent, read_raw_view, read_view, records, repair, stated_offset, watch_view};
use edgefold::{Backoff, Error, Fold, Follower, Log, ViewReader, ViewWriter};
use tracing::{info, warn};

/// How long the view may stay behind the commands, without moving, before a standby takes over.
pub const PATIENCE: Duration = Duration::from_secs(3);
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
    backoff: Backoff,
    view_offset: u64,
}

enum State {
    /// Waiting to start, or to restart, until then.
    Resting {
        until: Instant,
    },
    /// Watching the view, if there is one. It has been behind the commands or invalid, without moving, since `behind`.
    Standby {
        view: Option<Box<dyn ViewReader>>,
        valid: bool,
        behind: Option<Instant>,
    },
    TakingOver,
    Writer {
        writer: Box<dyn ViewWriter>,
        follower: Box<Follower>,
    },
}

impl Keeper {
    /// A standby that starts at `now`. It waits for [`PATIENCE`] and `jitter`, so that not all standbys take over at once.
    pub fn new(now: Instant, jitter: Duration) -> Self {
        let patience = PATIENCE + jitter;
        let (state, backoff) = (State::Resting { until: now }, Backoff::default());
        Self { state, least_patience: patience, patience, backoff, view_offset: 0 }
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

    /// Does what there is to do. It waits at most `wait` for that, plus whatever calls to the log take. The log is known to
    /// have the commands below offset `folded`. Failures are logged and retried: only the next start needs the view.
    pub fn step(&mut self, log: &dyn Log, folded: u64, now: Instant, wait: Duration) {
        let done = match &mut self.state {
            State::Resting { until } if now < *until => {
                std::thread::sleep(wait.min(*until - now));
                Ok(())
            }
            State::Resting { .. } => self.stand_by(log),
            State::Standby { .. } => self.watch(folded, now, wait),
            State::TakingOver => self.take_over(log),
            State::Writer { .. } => self.write(wait),
        };
        match done {
            Ok(()) => {}
            Err(Error::Fenced) => {
                info!("another snapshotter writes the view of ranges now: on standby");
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
                self.state = State::Resting { until: now };
            }
            Err(error) => {
                let delay = self.backoff.delay();
                warn!("cannot write the view of ranges: {error}; trying again in {} s", delay.as_secs());
                self.state = State::Resting { until: now + delay };
            }
        }
    }

    fn stand_by(&mut self, log: &dyn Log) -> Result<(), Error> {
        let mut content = ViewContent::default();
        let view = match watch_view(log, |key, value| content.read(key, value)) {
            Ok(view) => Some(view),
            Err(error) if error.is_unusable_view() => None,
            Err(error) => return Err(error),
        };
        if content.next_offset() > self.view_offset {
            // The writer makes progress, so there is no reason for more patience than usual.
            self.patience = (self.patience / 2).max(self.least_patience);
        }
        self.view_offset = content.next_offset();
        let valid = view.is_some() && content.into_fold().is_ok();
        info!("on standby, with the view of ranges at offset {}", self.view_offset);
        self.state = State::Standby { view, valid, behind: None };
        Ok(())
    }

    fn watch(&mut self, folded: u64, now: Instant, wait: Duration) -> Result<(), Error> {
        let State::Standby { view, valid, behind } = &mut self.state else { return Ok(()) };
        let mut written = None;
        match view {
            Some(view) => drop(view.read(wait, &mut |key, value| written = stated_offset(key, value).or(written))?),
            None => std::thread::sleep(wait),
        }
        if !*valid && written.is_some_and(|written| written != self.view_offset) {
            // Somebody else has written the view, which may be valid now.
            self.state = State::Resting { until: now };
            return Ok(());
        }
        let seen = written.unwrap_or(self.view_offset);
        if seen > self.view_offset {
            self.patience = (self.patience / 2).max(self.least_patience);
        }
        if seen >= folded && *valid {
            *behind = None;
        } else if seen != self.view_offset || behind.is_none() {
            *behind = Some(now);
        }
        self.view_offset = seen;
        if behind.is_some_and(|since| now.saturating_duration_since(since) >= self.patience) {
            if *valid {
                info!("the view of ranges has stopped at offset {seen}, and the commands are at {folded}: taking over");
            } else {
                info!("the view of ranges cannot be used, and nobody has rewritten it: taking over");
            }
            self.state = State::TakingOver;
        }
        Ok(())
    }

    fn take_over(&mut self, log: &dyn Log) -> Result<(), Error> {
        // This comes first, so that nobody else changes the view that is read here.
        let writer = log.view_writer()?;
        let (writer, follower) = match read_view(log) {
            Ok(fold) => (writer, Follower::resume(log, fold)?),
            Err(error) if error.is_unusable_view() => {
                warn!("rebuilding the view of ranges from the commands: {error}");
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
            writer.write(&mut records(&follower.edits, position))?;
            follower.edits.clear();
            self.view_offset = position.next_offset;
            (self.patience, self.backoff) = (self.least_patience, Backoff::default());
        }
        Ok(())
    }
}

/// Replays all commands, and replaces whatever the view contains with the result, in one transaction. Returns the writer, and
/// a follower that continues from there.
///
/// # Errors
/// Those of the log, and [`Error::Gone`] if it does not start at offset 0.
pub fn rebuild(log: &dyn Log) -> Result<(Box<dyn ViewWriter>, Follower), Error> {
    // The replay comes before the takeover, because it takes long: a standby would take over in the meantime.
    let mut follower = Follower::resume(log, Fold::default())?;
    follower.catch_up()?;
    let mut writer = log.view_writer()?;
    let current = read_raw_view(log)?;
    follower.follow(Duration::ZERO)?;
    follower.edits.clear();
    writer.write(&mut repair(&current, &follower.fold))?;
    Ok((writer, follower))
}
