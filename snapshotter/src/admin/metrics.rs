//! What `edgefold serve` reports about itself to Prometheus.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::ship::shipper::Status;

/// A gauge of whole numbers that are not negative.
pub(crate) type Gauge = prometheus_client::metrics::gauge::Gauge<u64, AtomicU64>;

/// The metrics of one snapshotter.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) writer: Gauge,
    pub(crate) taking_over: Gauge,
    pub(crate) next_offset: Gauge,
    pub(crate) view_next_offset: Gauge,
    pub(crate) shipped_next_offset: Gauge,
    pub(crate) ranges: Gauge,
    pub(crate) shipped_bytes: Gauge,
    pub(crate) shipped: Counter,
    pub(crate) bases: Counter,
    pub(crate) ship_failures: Counter,
    pub(crate) unusable_views: Counter,
    pub(crate) rejected: Gauge,
    pub(crate) undated: Gauge,
    pub(crate) log_end: Gauge,
    pub(crate) lag: Gauge,
    pub(crate) last_contact: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) repaired: Counter,
    pub(crate) keeper_panics: Counter,
    /// When the loop that ships last went round.
    alive_at: Mutex<Instant>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("edgefold");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let writer = gauge("writer", "1 if this process writes the view of ranges, 0 if it is on standby");
        let taking_over = gauge("taking_over", "1 while this process becomes the writer of the view of ranges");
        let next_offset = gauge("next_offset", "All commands below this offset are folded");
        let view_next_offset = gauge("view_next_offset", "All commands below this offset are in the view of ranges");
        let shipped_next_offset =
            gauge("shipped_next_offset", "The last snapshot shipped accounts for all commands below this offset");
        let ranges = gauge("ranges", "The ranges of the last snapshot shipped");
        let shipped_bytes = gauge(
            "shipped_bytes",
            "The bytes that were shipped last, with the filter and the base if they were among them",
        );
        let rejected = gauge("rejected_records", "Records rejected since this process started");
        let undated = gauge(
            "undated_records",
            "Records since this process started whose key is not a time, so that their timestamp was used",
        );
        let log_end = gauge("log_end_offset", "The offset after the last command of the log, as far as is known");
        let lag = gauge("lag", "Commands of the log that are not folded yet, as far as is known");
        let last_contact = gauge(
            "last_contact_timestamp_seconds",
            "When the log last confirmed that it had nothing beyond the commands that are folded",
        );
        let connected = gauge("log_connected", "1 if the log can be read, 0 if not");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let shipped = counter("snapshots_shipped", "Snapshots shipped");
        let bases = counter("bases_shipped", "Bases shipped, of which each snapshot after it says what has changed");
        let ship_failures = counter("ship_failures", "Snapshots that could not be shipped");
        let repaired = counter("files_repaired", "Times that a shipped file was changed or removed, and shipped again");
        let keeper_panics = counter("keeper_panics", "Times that the keeper of the view of ranges has panicked");
        let unusable_views =
            counter("unusable_views", "Times that the view of ranges was missing or wrong, and was not used");
        Self {
            writer,
            taking_over,
            next_offset,
            view_next_offset,
            shipped_next_offset,
            ranges,
            shipped_bytes,
            shipped,
            bases,
            ship_failures,
            unusable_views,
            rejected,
            undated,
            log_end,
            lag,
            last_contact,
            connected,
            repaired,
            keeper_panics,
            alive_at: Mutex::new(Instant::now()),
            registry,
        }
    }
}

impl Metrics {
    /// Takes over what a shipper has done. Nothing else sets these metrics.
    pub(crate) fn note(&self, status: &Status) {
        self.next_offset.set(status.next_offset);
        self.shipped_next_offset.set(status.shipped_next_offset);
        self.ranges.set(status.ranges);
        self.shipped_bytes.set(status.shipped_bytes);
        self.rejected.set(status.rejected);
        self.undated.set(status.undated);
        self.log_end.set(status.log_end);
        self.lag.set(status.log_end.saturating_sub(status.next_offset));
        self.repaired.inner().store(status.repaired, Ordering::Relaxed);
        self.last_contact.set(status.last_contact.millis() / 1000);
        self.connected.set(u64::from(status.trouble.is_none()));
        self.shipped.inner().store(status.shipped, Ordering::Relaxed);
        self.bases.inner().store(status.bases, Ordering::Relaxed);
        self.ship_failures.inner().store(status.ship_failures, Ordering::Relaxed);
    }

    /// The loop that ships has gone round.
    pub(crate) fn is_alive(&self) {
        *self.alive_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long the loop that ships has not gone round.
    pub(crate) fn stuck_for(&self) -> Duration {
        self.alive_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// None: writing to a `String` does not fail.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}
