//! How long to wait before what failed is tried again.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tracing::warn;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Delays that double from one failure to the next, from one second to half a minute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The delay after this failure.
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = self.0;
        self.0 = (delay * 2).min(LONGEST);
        delay
    }
}

/// Something that fails now and then, and is tried again after a while.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    backoff: Backoff,
    until: Option<Instant>,
}

impl Trouble {
    /// Whether it is too early to try again.
    pub(crate) fn waits(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// It failed: says so, and when it is tried again.
    pub(crate) fn tell(&mut self, error: impl Display) {
        let delay = self.backoff.delay();
        warn!("{error}; Envoy keeps what it has; trying again in {} s", delay.as_secs());
        self.until = Some(Instant::now() + delay);
    }

    /// It worked.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let delays: Vec<u64> = (0..7).map(|_| backoff.delay().as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    }
}
