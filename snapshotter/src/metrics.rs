//! What `edgefold serve` says about itself to Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of one snapshotter.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// 1 if it writes the view of ranges, 0 if it stands by.
    pub(crate) writer: Gauge<u64, AtomicU64>,
    /// All commands below this offset are folded.
    pub(crate) next_offset: Gauge<u64, AtomicU64>,
    /// All commands below this offset are in the view of ranges.
    pub(crate) view_next_offset: Gauge<u64, AtomicU64>,
    /// The ranges of the last snapshot shipped.
    pub(crate) ranges: Gauge<u64, AtomicU64>,
    /// Its bytes, with the filter.
    pub(crate) shipped_bytes: Gauge<u64, AtomicU64>,
    /// Snapshots shipped.
    pub(crate) shipped: Counter,
    /// Snapshots that could not be shipped.
    pub(crate) ship_failures: Counter,
    /// Records that could not be read.
    pub(crate) rejected: Gauge<u64, AtomicU64>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("edgefold");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::<u64, AtomicU64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let writer = gauge("writer", "1 if this snapshotter writes the view of ranges, 0 if it stands by");
        let next_offset = gauge("next_offset", "All commands below this offset are folded");
        let view_next_offset = gauge("view_next_offset", "All commands below this offset are in the view of ranges");
        let ranges = gauge("ranges", "The ranges of the last snapshot shipped");
        let shipped_bytes = gauge("shipped_bytes", "The bytes of the last snapshot shipped, with the filter");
        let rejected = gauge("rejected_records", "Records since the start that could not be read");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let shipped = counter("snapshots_shipped", "Snapshots shipped");
        let ship_failures = counter("ship_failures", "Snapshots that could not be shipped");
        Self {
            writer,
            next_offset,
            view_next_offset,
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
    /// In the OpenMetrics text format.
    ///
    /// # Errors
    /// None that a `String` gives.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}
