//! Something that fails now and then, and is retried after a while.

use std::error::Error;
use std::time::{Duration, Instant};

use edgefold::Backoff;
use tracing::warn;

/// When something that has failed is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retry {
    backoff: Backoff,
    until: Option<Instant>,
}

impl Retry {
    /// How long it is too early to retry at `now`; `None` if it is time, or nothing has failed.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// It failed. Returns after how long it is retried: longer each time.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        let delay = self.backoff.delay();
        self.until = Some(now + delay);
        delay
    }

    /// It [failed](Self::failed), and Envoy gets nothing new until it succeeds. Says so.
    pub(crate) fn report(&mut self, error: &dyn Error, now: Instant) -> Duration {
        let delay = self.failed(now);
        warn!("{error}; Envoy keeps what it has; trying again in {} s", delay.as_secs());
        delay
    }

    /// Whether it has failed, and not succeeded since.
    pub(crate) fn has_failed(&self) -> bool {
        self.until.is_some()
    }

    /// It succeeded. Returns whether it had failed before.
    pub(crate) fn succeeded(&mut self) -> bool {
        std::mem::take(self).until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_until_it_succeeds() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut retry = Retry::default();
        assert_eq!((retry.wait(start), retry.succeeded()), (None, false));
        assert_eq!((retry.failed(start), retry.wait(start)), (second, Some(second)));
        assert_eq!(retry.wait(start + second), None);
        assert_eq!(retry.failed(start + second), 2 * second);
        assert!(retry.has_failed() && retry.succeeded() && !retry.has_failed());
        assert_eq!((retry.wait(start), retry.failed(start)), (None, second));
    }
}
