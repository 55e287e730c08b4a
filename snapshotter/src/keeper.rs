//! Keeps the view of ranges on the log in step with the commands: as one of any number of snapshotters, of which one
//! writes.
//!
//! Nobody is told who writes. A standby watches how far the view has come, and takes the place when the view has stood still
//! behind the commands for a while, whatever became of its writer: dead, hung or cut off. Taking the place fences the old
//! writer, so that it cannot write again. After any failure everything is dropped and begun anew from what the view holds:
//! a writer that failed is no other than one that has just started.
//!
//! It has a fold and a reader of its own: shipping waits for no commit.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::fold::Fold;
use crate::load::{Follower, LoadError, read_raw_view, read_view, watch_view};
use crate::log::{Log, LogError, ViewReader, ViewWriter};
use crate::view::{View, records, repair, stated_offset};

/// How long the view may stand still behind the commands before a standby takes over.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A standby that was fenced off waits twice as long each time, up to this: a writer with much to write in one transaction
/// comes to its end.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// Whether this snapshotter writes the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It does.
    Writer,
    /// It would, if nobody else did.
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
    /// To begin (again) then.
    Resting {
        until: Instant,
    },
    /// Watching the view, if there is one. It has been behind the commands, or not sound, and stood still since `behind`.
    Standby {
        view: Option<Box<dyn ViewReader>>,
        sound: bool,
        behind: Option<Instant>,
    },
    Writer {
        writer: Box<dyn ViewWriter>,
        follower: Box<Follower>,
    },
}

impl Keeper {
    /// A standby that begins at `now`. It waits for `more` than [`PATIENCE`], so that not all take over at once.
    pub fn new(now: Instant, more: Duration) -> Self {
        let patience = PATIENCE + more;
        let (state, backoff) = (State::Resting { until: now }, Backoff::default());
        Self { state, least_patience: patience, patience, backoff, view_offset: 0 }
    }

    /// Whether it writes the view.
    pub fn role(&self) -> Role {
        match self.state {
            State::Writer { .. } => Role::Writer,
            State::Resting { .. } | State::Standby { .. } => Role::Standby,
        }
    }

    /// How far the view has come, as far as is known here: the next command offset.
    pub fn view_offset(&self) -> u64 {
        self.view_offset
    }

    /// Does what there is to do, and waits at most `wait` for it, beside what the log takes. The commands below offset
    /// `folded` are known to be there. What goes wrong is told and tried again: nothing but the next start needs the view.
    pub fn step(&mut self, log: &dyn Log, folded: u64, now: Instant, wait: Duration) {
        let done = match &mut self.state {
            State::Resting { until } if now < *until => {
                std::thread::sleep(wait.min(*until - now));
                Ok(())
            }
            State::Resting { .. } => self.stand_by(log),
            State::Standby { .. } => self.watch(log, folded, now, wait),
            State::Writer { .. } => self.write(wait),
        };
        match done {
            Ok(()) => {}
            Err(LoadError::Log(LogError::Fenced)) => {
                info!("another snapshotter keeps the view of ranges now: on standby");
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
                self.state = State::Resting { until: now };
            }
            Err(error) => {
                let delay = self.backoff.delay();
                warn!("cannot keep the view of ranges, will try again in {} s: {error}", delay.as_secs());
                self.state = State::Resting { until: now + delay };
            }
        }
    }

    fn stand_by(&mut self, log: &dyn Log) -> Result<(), LoadError> {
        let mut content = View::default();
        let view = match watch_view(log, |key, value| content.read(key, value)) {
            Ok(view) => Some(view),
            Err(error) => {
                error.of_the_view()?;
                None
            }
        };
        if content.next_offset() > self.view_offset {
            // Whoever writes comes to its end, and needs no longer than others.
            self.patience = (self.patience / 2).max(self.least_patience);
        }
        self.view_offset = content.next_offset();
        let sound = view.is_some() && content.into_fold().is_ok();
        info!("on standby, with the view of ranges at offset {}", self.view_offset);
        self.state = State::Standby { view, sound, behind: None };
        Ok(())
    }

    fn watch(&mut self, log: &dyn Log, folded: u64, now: Instant, wait: Duration) -> Result<(), LoadError> {
        let State::Standby { view, sound, behind } = &mut self.state else { return Ok(()) };
        let mut written = None;
        match view {
            Some(view) => drop(view.read(wait, &mut |key, value| written = stated_offset(key, value).or(written))?),
            None => std::thread::sleep(wait),
        }
        if !*sound && written.is_some_and(|written| written != self.view_offset) {
            // Somebody else has written what may be sound now.
            self.state = State::Resting { until: now };
            return Ok(());
        }
        let seen = written.unwrap_or(self.view_offset);
        if seen > self.view_offset {
            self.patience = (self.patience / 2).max(self.least_patience);
        }
        if seen >= folded && *sound {
            *behind = None;
        } else if seen != self.view_offset || behind.is_none() {
            *behind = Some(now);
        }
        self.view_offset = seen;
        if behind.is_some_and(|since| now.saturating_duration_since(since) >= self.patience) {
            info!("the view of ranges stands still at offset {seen}, and the commands at {folded}: taking over");
            self.take_over(log)?;
        }
        Ok(())
    }

    fn take_over(&mut self, log: &dyn Log) -> Result<(), LoadError> {
        // First of all: afterwards nobody else changes the view that is read here.
        let writer = log.view_writer()?;
        let (writer, follower) = match read_view(log) {
            Ok(fold) => (writer, Follower::resume(log, fold)?),
            Err(error) => {
                let error = error.of_the_view()?;
                warn!("rebuilding the view of ranges from the commands: {error}");
                rebuild(log)?
            }
        };
        self.view_offset = follower.fold.position().next_offset;
        self.state = State::Writer { writer, follower: Box::new(follower) };
        info!("keeping the view of ranges now, from offset {}", self.view_offset);
        Ok(())
    }

    fn write(&mut self, wait: Duration) -> Result<(), LoadError> {
        let State::Writer { writer, follower } = &mut self.state else { return Ok(()) };
        // All that has come meanwhile makes one transaction: a lone command goes at once, a flood in large batches.
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

/// Replays all commands, and writes what they give in place of whatever the view holds, at once. Gives the writer, and what
/// goes on from there.
///
/// # Errors
/// Those of the log, and [`LogError::Gone`] if it does not start at offset 0.
pub fn rebuild(log: &dyn Log) -> Result<(Box<dyn ViewWriter>, Follower), LoadError> {
    // What takes long comes before the place is taken: a standby would take it in turn.
    let mut follower = Follower::resume(log, Fold::default())?;
    follower.catch_up()?;
    let mut writer = log.view_writer()?;
    let there = read_raw_view(log)?;
    follower.follow(Duration::ZERO)?;
    follower.edits.clear();
    writer.write(&mut repair(&there, &follower.fold))?;
    Ok((writer, follower))
}
