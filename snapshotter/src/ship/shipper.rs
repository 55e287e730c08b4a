//! Follows the log, and ships whatever changes what is blocked: the state of `edgefold serve`, without its threads and clocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgefold::{Batch, Contact, Error, Follower, Log, LogTime, Now};
use edgefold_snapshot::{EncodeError, Snapshot};
use tracing::{info, warn};

use super::{Publisher, Rebase, ShipError, Shipment, Subscriber};
use crate::retry::Retry;

/// What a shipper has done, for metrics.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// All commands below this offset are folded.
    pub next_offset: u64,
    /// What was shipped last accounts for all commands below this offset.
    pub shipped_next_offset: u64,
    /// The number of ranges in what was shipped last.
    pub ranges: u64,
    /// Its bytes.
    pub shipped_bytes: u64,
    /// How long after the oldest command in it was appended it was shipped; `None` if no command has led to it.
    pub shipped_after: Option<Duration>,
    /// How many shipments were delivered.
    pub shipped: u64,
    /// How many bases were among them.
    pub bases: u64,
    /// How many could not be.
    pub ship_failures: u64,
    /// How many records were rejected.
    pub rejected: u64,
    /// How many records had a key that is not a time.
    pub undated: u64,
    /// How often what was delivered had to be delivered again, because somebody else had changed or removed it.
    pub repaired: u64,
    /// The offset after the last command of the log, as far as is known.
    pub log_end: u64,
    /// When the log last confirmed that it had nothing beyond what is folded.
    pub last_contact: LogTime,
    /// Why the log cannot be read at the moment.
    pub trouble: Option<String>,
}

/// Follows a log and delivers shipments.
pub struct Shipper<S> {
    follower: Follower,
    publisher: Publisher,
    subscriber: S,
    /// The last shipment that was delivered.
    delivered: Option<Arc<Shipment>>,
    /// When that was.
    delivered_at: Option<Instant>,
    /// How long to wait after a delivery before the next.
    min_interval: Duration,
    log_retry: Retry,
    ship_retry: Retry,
    contact: Contact,
    /// When the oldest of the commands was appended that are not accounted for by what was shipped.
    oldest: Option<LogTime>,
    status: Status,
}

impl<S: Subscriber> Shipper<S> {
    /// Ships what `follower` has folded. It had reached the end of the log that there was at `contact`. At least `min_interval`
    /// lies between two deliveries: a change is delivered at once if none came for that long.
    pub fn new(
        follower: Follower,
        publisher: Publisher,
        subscriber: S,
        min_interval: Duration,
        contact: Contact,
    ) -> Self {
        let next_offset = follower.fold.position().next_offset;
        let (rejected, undated) = (follower.rejected, follower.undated);
        let status = Status {
            next_offset,
            log_end: next_offset,
            rejected,
            undated,
            last_contact: contact.time(),
            ..Status::default()
        };
        Self {
            follower,
            publisher,
            subscriber,
            delivered: None,
            delivered_at: None,
            min_interval,
            log_retry: Retry::default(),
            ship_retry: Retry::default(),
            contact,
            oldest: None,
            status,
        }
    }

    /// How many deliveries have failed that are tried again elsewhere.
    pub fn other_failures(&self) -> u64 {
        self.subscriber.failures()
    }

    /// What it has done so far.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What delivers the shipments.
    pub fn into_subscriber(self) -> S {
        self.subscriber
    }

    /// What follows the log.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Whether nothing kept it from shipping all that it knew when it last [handled](Self::handle) something, at `now`.
    pub fn has_nothing_to_ship(&self, now: Now) -> bool {
        self.delivered.is_some() && !self.ship_retry.has_failed() && self.pause(now).is_none()
    }

    /// Ships for the first time.
    ///
    /// # Errors
    /// What does not go away by itself, such as a wrong path. A full disk may have room later.
    pub fn ship_first(&mut self, now: Now) -> Result<(), ShipError> {
        match self.ship(now) {
            Err(error) if !error.is_transient() => Err(error),
            outcome => {
                self.note_shipped(outcome, now);
                Ok(())
            }
        }
    }

    /// How long reading may wait for commands at `now`, `most` at the most: until a block ends, or something is retried.
    pub fn poll_timeout(&self, now: Now, most: Duration) -> Duration {
        let expiry = self.follower.fold.next_expiry(now.time);
        let expiry = expiry.map(|at| Duration::from_millis(at.millis() - now.time.millis()));
        let retries = [self.log_retry.wait(now.instant), self.ship_retry.wait(now.instant), self.pause(now)];
        retries.into_iter().chain([expiry]).flatten().fold(most, Duration::min)
    }

    /// How long it is too early for the next delivery.
    fn pause(&self, now: Now) -> Option<Duration> {
        let until = self.delivered_at? + self.min_interval;
        until.checked_duration_since(now.instant).filter(|wait| !wait.is_zero())
    }

    /// Whether the log can be read at `now`. It cannot be while there is time to wait after a failure.
    pub fn can_read(&self, now: Now) -> bool {
        self.log_retry.wait(now.instant).is_none()
    }

    /// Waits at most `timeout` for commands. After a failure it opens the log again.
    ///
    /// # Errors
    /// Those of the log.
    pub fn read(&mut self, log: &dyn Log, timeout: Duration) -> Result<Batch, Error> {
        if self.log_retry.has_failed() {
            self.follower.reopen(log)?;
        }
        self.follower.read(timeout)
    }

    /// Does what there is to do at `now`, with what was read; `None` if nothing was.
    ///
    /// # Errors
    /// Those of the log that do not go away by themselves. Everything else is logged and retried.
    pub fn handle(&mut self, read: Option<Result<Batch, Error>>, now: Now) -> Result<(), Error> {
        match read {
            None => {}
            Some(Ok(batch)) => self.take(&batch, now),
            Some(Err(error)) if error.is_transient() => {
                self.log_retry.report(&error, now.instant);
                self.status.trouble = Some(error.to_string());
            }
            Some(Err(error)) => return Err(error),
        }
        // Even without new commands: blocks expire by the wall clock.
        if self.ship_retry.wait(now.instant).is_none() {
            let outcome = if self.pause(now).is_none() { self.ship(now) } else { Ok(()) };
            let outcome = outcome.and_then(|()| self.repair());
            self.note_shipped(outcome, now);
        }
        Ok(())
    }

    fn take(&mut self, batch: &Batch, now: Now) {
        self.follower.fold(&batch.records);
        self.oldest = batch.records.iter().filter_map(|record| record.timestamp).chain(self.oldest).min();
        self.status.next_offset = self.follower.fold.position().next_offset;
        (self.status.rejected, self.status.undated) = (self.follower.rejected, self.follower.undated);
        self.contact.note(batch.contact, now);
        self.status.last_contact = self.contact.time();
        self.status.log_end = batch.end.unwrap_or(self.status.log_end);
        let had_failed = self.log_retry.succeeded();
        match (&self.status.trouble, &batch.trouble) {
            (before, Some(trouble)) if before.as_ref() != Some(trouble) => warn!("{trouble}; Envoy keeps what it has"),
            (Some(_), None) => info!("reading the log again"),
            _ if had_failed => info!("reading the log again"),
            _ => {}
        }
        self.status.trouble.clone_from(&batch.trouble);
    }

    /// Ships, unless what is blocked is what was shipped last.
    fn ship(&mut self, now: Now) -> Result<(), ShipError> {
        let Follower { fold, edits, .. } = &mut self.follower;
        let position = fold.position();
        let shipment = self.publisher.publish(fold, edits, now.time, self.status.last_contact)?;
        if !self.delivered.as_ref().is_some_and(|delivered| Arc::ptr_eq(delivered, shipment)) {
            let bytes = self.subscriber.deliver(shipment)?;
            match bytes {
                0 => info!("generation {} is shipped already", shipment.version),
                _ => info!("shipped generation {}: {bytes} bytes", shipment.version),
            }
            let base = |shipment: &Shipment| {
                shipment.base.as_ref().filter(|_| shipment.is_overlay).map(|base| base.fingerprint())
            };
            let before = self.delivered.as_deref().and_then(base);
            self.status.bases += u64::from(base(shipment).is_some_and(|base| Some(base) != before));
            self.delivered = Some(Arc::clone(shipment));
            self.delivered_at = Some(now.instant);
            self.status.shipped += 1;
            self.status.shipped_after =
                self.oldest.map(|oldest| Duration::from_millis(now.time.millis().saturating_sub(oldest.millis())));
            (self.status.ranges, self.status.shipped_bytes) = (shipment.ranges, bytes);
        }
        self.status.shipped_next_offset = position.next_offset;
        self.subscriber.note_covered(position.next_offset, self.oldest.take());
        Ok(())
    }

    /// Ships again what was delivered last, if somebody else has changed it.
    fn repair(&mut self) -> Result<(), ShipError> {
        if let Some(delivered) = &self.delivered
            && self.subscriber.repair(delivered)?
        {
            warn!("somebody else has changed or removed what was shipped: shipped it again");
            self.status.repaired += 1;
        }
        Ok(())
    }

    /// The work for the next base, once it is due, to be done beside this thread. Its outcome goes to [`Shipper::rebased`].
    pub fn rebase(&mut self) -> Option<Rebase> {
        self.publisher.rebase()
    }

    /// Takes the outcome of a [`Rebase`]; `None` if it has none. The base is shipped when the shipper next handles something.
    pub fn rebased(&mut self, outcome: Option<Result<Vec<u8>, EncodeError>>) {
        if let Err(error) = self.publisher.rebased(outcome) {
            warn!("changes are still shipped over the last base, because there is no new one: {error}");
            self.status.ship_failures += 1;
        }
    }

    /// Goes on with the base of another replica instead of one of its own.
    pub fn adopt(&mut self, base: Snapshot<Bytes>) {
        self.publisher.adopt(base);
    }

    fn note_shipped(&mut self, outcome: Result<(), ShipError>, now: Now) {
        match outcome {
            Ok(()) => drop(self.ship_retry.succeeded()),
            Err(error) => {
                self.status.ship_failures += 1;
                self.ship_retry.report(&error, now.instant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use edgefold::SqliteLog;
    use edgefold_snapshot::Settings;

    use super::*;

    struct Nowhere;

    impl Subscriber for Nowhere {
        fn deliver(&mut self, _shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
            Ok(0)
        }

        fn repair(&mut self, _shipment: &Arc<Shipment>) -> Result<bool, ShipError> {
            Ok(false)
        }
    }

    /// Found by a review: it became a contact at the moment of the correction.
    #[test]
    fn a_contact_under_a_clock_that_was_ahead_is_corrected_with_the_clock() {
        let directory = tempfile::tempdir().unwrap();
        let log = SqliteLog::new(directory.path().join("log.db"));
        log.init().unwrap();
        let (start, hour) = (Instant::now(), 3_600_000);
        let now = |seconds, millis| Now {
            instant: start + Duration::from_secs(seconds),
            time: LogTime::from_millis(hour + seconds * 1000 + millis).unwrap(),
        };
        let publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut shipper =
            Shipper::new(Follower::load(&log).unwrap(), publisher, Nowhere, Duration::ZERO, Contact::new(now(0, hour)));
        let handle = |shipper: &mut Shipper<Nowhere>, contact: Option<u64>, now| {
            let contact = contact.map(|seconds| start + Duration::from_secs(seconds));
            shipper.handle(Some(Ok(Batch { contact, ..Batch::default() })), now).unwrap();
            shipper.status().last_contact.millis()
        };
        assert_eq!(handle(&mut shipper, Some(10), now(11, hour)), 2 * hour + 10_000, "an hour ahead");
        assert_eq!(handle(&mut shipper, None, now(12, hour - 1)), 2 * hour + 10_000, "the clocks are not that exact");
        // The log is cut off, and the clock is right again.
        assert_eq!(handle(&mut shipper, Some(10), now(60, 0)), hour + 10_000);
        assert_eq!(handle(&mut shipper, None, now(61, hour)), hour + 10_000, "ahead again");
        assert_eq!(handle(&mut shipper, Some(70), now(70, 0)), hour + 70_000);
    }
}
