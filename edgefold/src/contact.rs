//! When a log last confirmed that it had nothing more. Pure: the clocks come in as a parameter.

use std::time::Instant;

use crate::LogTime;

/// By how many milliseconds the clock must go back to count as corrected. Less comes from rounding, and from reading two clocks one
/// after the other; it must not ship anything.
const CLOCK_JUMP: u64 = 1_000;

/// The two clocks, read at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what takes how long.
    pub instant: Instant,
    /// For what expires when.
    pub time: LogTime,
}

impl Now {
    /// What the wall clock showed at `instant`, which is not later than this.
    fn time_at(self, instant: Instant) -> LogTime {
        let ago = u64::try_from(self.instant.saturating_duration_since(instant).as_millis()).unwrap_or(u64::MAX);
        LogTime::from_millis(self.time.millis().saturating_sub(ago)).unwrap_or(LogTime::EPOCH)
    }
}

/// The last moment at which a log confirmed that it had nothing beyond what was read.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    instant: Instant,
    time: LogTime,
}

impl Contact {
    /// The log was asked at `asked`, and confirmed it.
    pub fn new(asked: Now) -> Self {
        Self { instant: asked.instant, time: asked.time }
    }

    /// The log was asked at `asked`, and has not confirmed it yet.
    pub fn none(asked: Now) -> Self {
        Self { instant: asked.instant, time: LogTime::EPOCH }
    }

    /// What the wall clock showed then; [`LogTime::EPOCH`] if there was no contact yet.
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// Notes what a read has `reported` until `now`: see [`Batch::contact`](crate::Batch::contact).
    ///
    /// If the clock was ahead and is right now, so is the time of the last contact. But it never gets later.
    pub fn note(&mut self, reported: Option<Instant>, now: Now) {
        let (last, corrected) = (self.time.min(now.time), now.time_at(self.instant));
        let has_jumped = last.millis().saturating_sub(corrected.millis()) > CLOCK_JUMP;
        self.time = if has_jumped { corrected } else { last };
        // The wall clock of an earlier contact is not asked again: the two clocks may have drifted apart, as in a suspension.
        if let Some(newer) = reported.filter(|reported| self.instant < *reported) {
            self.instant = newer;
            self.time = self.time.max(now.time_at(newer));
        }
    }
}
