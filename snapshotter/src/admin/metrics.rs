//! What `edgefold serve` reports about itself to Prometheus.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as AnyGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Shipped;
use crate::ship::ecds::FilterKind;
use crate::ship::shipper::Status;
use crate::xds::Fleet;

/// A gauge of whole numbers that are not negative.
pub(crate) type Gauge = prometheus_client::metrics::gauge::Gauge<u64, AtomicU64>;

/// A gauge of numbers that may be larger than 64 bits have room for.
type FloatGauge = AnyGauge<f64, AtomicU64>;

/// What a metric of a list is about.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ListLabels {
    list: String,
}

/// What a metric of a resource is about.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResourceLabels {
    resource: &'static str,
}

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
    lag_seconds: FloatGauge,
    command_to_shipped: Histogram,
    list_ranges: Family<ListLabels, Gauge>,
    list_ipv4_addresses: Family<ListLabels, Gauge>,
    list_ipv6_addresses: Family<ListLabels, FloatGauge>,
    proxies: Gauge,
    streams: Gauge,
    behind: Gauge,
    pushes: Family<ResourceLabels, Counter>,
    pushed_bytes: Family<ResourceLabels, Counter>,
    nacks: Counter,
    /// When the loop that ships last went round.
    alive_at: Mutex<Instant>,
    registry: Registry,
}

impl Metrics {
    /// All at zero. `fleet` has one of its own.
    pub(crate) fn new(fleet: &Fleet) -> Self {
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
        let proxies = gauge("xds_connected_proxies", "Proxies that have a stream to this process");
        let streams = gauge("xds_streams", "Streams that proxies have to this process");
        let behind = gauge(
            "xds_proxies_behind",
            "Proxies that do not enforce yet what was shipped last, as far as they have said",
        );
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
        let nacks = counter("xds_nacks", "Resources that a proxy has refused");
        let (pushes, pushed_bytes) = (Family::default(), Family::default());
        registry.register("xds_pushes", "Resources sent to proxies", Family::clone(&pushes));
        registry.register("xds_pushed_bytes", "Bytes of these resources", Family::clone(&pushed_bytes));
        let lag_seconds = FloatGauge::default();
        let help = "How long ago the log last confirmed that it had nothing beyond the commands that are folded";
        registry.register_with_unit("lag", help, Unit::Seconds, lag_seconds.clone());
        let command_to_shipped = histogram();
        let help = "From when the oldest command of a shipment was appended until it was shipped";
        registry.register_with_unit("command_to_shipped", help, Unit::Seconds, command_to_shipped.clone());
        let help = "From when the oldest command of a shipment was appended until a proxy had accepted it";
        registry.register_with_unit("command_to_ack", help, Unit::Seconds, fleet.command_to_ack.clone());
        let (list_ranges, list_ipv4_addresses, list_ipv6_addresses) =
            (Family::default(), Family::default(), Family::default());
        registry.register("list_ranges", "Ranges on a list, as shipped last", Family::clone(&list_ranges));
        registry.register("list_ipv4_addresses", "IPv4 addresses on a list", Family::clone(&list_ipv4_addresses));
        registry.register("list_ipv6_addresses", "IPv6 addresses on a list", Family::clone(&list_ipv6_addresses));
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
            lag_seconds,
            command_to_shipped,
            list_ranges,
            list_ipv4_addresses,
            list_ipv6_addresses,
            proxies,
            streams,
            behind,
            pushes,
            pushed_bytes,
            nacks,
            alive_at: Mutex::new(Instant::now()),
            registry,
        }
    }
}

/// From a millisecond to a minute.
pub(crate) fn histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

impl Metrics {
    /// Takes over what a shipper has done. Nothing else sets these metrics.
    pub(crate) fn note(&self, status: &Status, other_failures: u64) {
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
        let before = self.shipped.inner().swap(status.shipped, Ordering::Relaxed);
        if let Some(after) = status.shipped_after.filter(|_| status.shipped > before) {
            self.command_to_shipped.observe(after.as_secs_f64());
        }
        self.bases.inner().store(status.bases, Ordering::Relaxed);
        self.ship_failures.inner().store(status.ship_failures + other_failures, Ordering::Relaxed);
    }

    /// The loop that ships has gone round.
    pub(crate) fn is_alive(&self) {
        *self.alive_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long the loop that ships has not gone round.
    pub(crate) fn stuck_for(&self) -> Duration {
        self.alive_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// All metrics in the OpenMetrics text format. Counting what is on the lists takes as long as they are large, if they have changed.
    ///
    /// # Errors
    /// None: writing to a `String` does not fail.
    pub(crate) fn text(&self, fleet: &Fleet, shipped: &Shipped) -> Result<String, fmt::Error> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
        let last_contact = self.last_contact.get();
        #[allow(clippy::cast_precision_loss, reason = "seconds since 1970")]
        self.lag_seconds.set(if last_contact == 0 { 0.0 } else { (now - last_contact as f64).max(0.0) });
        let (counts, streams) = fleet.counts();
        let report = fleet.report();
        self.proxies.set(report.proxies.len() as u64);
        self.behind.set(report.behind() as u64);
        self.streams.set(streams as u64);
        self.nacks.inner().store(counts.nacks, Ordering::Relaxed);
        for kind in FilterKind::ALL {
            let labels = ResourceLabels { resource: kind.word() };
            let set = |family: &Family<ResourceLabels, Counter>, count| {
                family.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
            };
            set(&self.pushes, counts.pushes[kind as usize]);
            set(&self.pushed_bytes, counts.pushed_bytes[kind as usize]);
        }
        if let Some(shipped) = shipped.open() {
            self.list_ranges.clear();
            self.list_ipv4_addresses.clear();
            self.list_ipv6_addresses.clear();
            for list in shipped.lists().iter() {
                let labels = ListLabels { list: list.name.clone() };
                self.list_ranges.get_or_create(&labels).set(list.ranges);
                self.list_ipv4_addresses.get_or_create(&labels).set(list.ipv4_addresses);
                #[allow(clippy::cast_precision_loss, reason = "Prometheus has floating point only")]
                self.list_ipv6_addresses.get_or_create(&labels).set(list.ipv6_addresses as f64);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}
