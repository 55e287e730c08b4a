//! What `edgefold serve` reports about itself to Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

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
    pub(crate) ship_failures: Counter,
    pub(crate) rejected: Gauge,
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
            gauge("shipped_next_offset", "All commands below this offset are in the last snapshot shipped");
        let ranges = gauge("ranges", "The ranges of the last snapshot shipped");
        let shipped_bytes = gauge("shipped_bytes", "The bytes of the last snapshot shipped, with the filter");
        let rejected = gauge("rejected_records", "Records rejected since this process started");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let shipped = counter("snapshots_shipped", "Snapshots shipped");
        let ship_failures = counter("ship_failures", "Snapshots that could not be shipped");
        Self {
            writer,
            taking_over,
            next_offset,
            view_next_offset,
            shipped_next_offset,
            ranges,
            shipped_bytes,
            shipped,
            ship_failures,
            rejected,
            registry,
        }
    }
}

impl Metrics {
    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// None: writing to a `String` does not fail.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}
