//! The metrics of a plugin and of its lists.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use edgefold_snapshot::{Header, ListName};

use crate::host::{ConfigurationHost, Metric, MetricsHost};

/// How many lists of a plugin get metrics of their own while its VM, or its process, lives. A host keeps metrics forever, so lists that come and go must not fill
/// its memory.
const MOST_LISTS: usize = 256;

/// The metrics of a plugin. They are defined once, because a host returns a new number for each definition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metrics {
    pub(crate) denied: Option<Metric>,
    pub(crate) denied_connections: Option<Metric>,
    pub(crate) shadow_denied: Option<Metric>,
    pub(crate) shadow_denied_connections: Option<Metric>,
    pub(crate) unavailable: Option<Metric>,
    pub(crate) no_address: Option<Metric>,
    pub(crate) stale: Option<Metric>,
    pub(crate) snapshot_rejected: Option<Metric>,
    pub(crate) snapshot_kept: Option<Metric>,
    pub(crate) overlay_waiting: Option<Metric>,
    pub(crate) generation: Option<Metric>,
    pub(crate) ranges: Option<Metric>,
    pub(crate) as_of: Option<Metric>,
    pub(crate) fresh_from: Option<Metric>,
}

/// The lists of a plugin that have metrics of their own, up to [`MOST_LISTS`].
#[derive(Debug)]
pub(crate) struct ListsSeen {
    /// What the names of their metrics begin with.
    prefix: String,
    metrics: Vec<(ListName, ListMetrics)>,
}

/// The metrics of a list of a plugin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListMetrics {
    pub(crate) denied: Option<Metric>,
    pub(crate) shadowed: Option<Metric>,
    pub(crate) exempted: Option<Metric>,
    pub(crate) tagged: Option<Metric>,
}

impl Metrics {
    /// The metrics of a plugin. Its name is the second part of theirs, so that Envoy's `stats_tags` can turn it into a label.
    pub(crate) fn new(plugin: &[u8], host: &impl ConfigurationHost) -> Self {
        let plugin = label(plugin);
        let name = |of: &str| format!("edgefold_filter.{plugin}.{of}");
        let counter = |of: &str| host.define_counter(&name(of));
        let gauge = |of: &str| host.define_gauge(&name(of));
        Self {
            denied: counter("denied"),
            denied_connections: counter("denied_connections"),
            shadow_denied: counter("shadow_denied"),
            shadow_denied_connections: counter("shadow_denied_connections"),
            unavailable: counter("unavailable"),
            no_address: counter("no_address"),
            stale: counter("stale"),
            snapshot_rejected: counter("snapshot_rejected"),
            snapshot_kept: counter("snapshot_kept"),
            overlay_waiting: counter("overlay_waiting"),
            generation: gauge("generation"),
            ranges: gauge("ranges"),
            as_of: gauge("as_of_timestamp_seconds"),
            fresh_from: gauge("fresh_from_timestamp_seconds"),
        }
    }
}

impl ListsSeen {
    /// Those of a plugin that has seen no list yet.
    pub(crate) fn of(plugin: &[u8]) -> Self {
        Self { prefix: format!("edgefold_filter.{}.list", label(plugin)), metrics: Vec::new() }
    }

    /// The metrics of all lists of a snapshot, by their index.
    pub(crate) fn metrics_of_lists(&mut self, header: &Header, host: &impl MetricsHost) -> Vec<ListMetrics> {
        header.lists.iter().map(|list| self.metrics_of(list.name, host)).collect()
    }

    /// The metrics of a list, which are defined when it is first seen. Beyond [`MOST_LISTS`] it has none.
    fn metrics_of(&mut self, list: ListName, host: &impl MetricsHost) -> ListMetrics {
        if let Some((_, metrics)) = self.metrics.iter().find(|(name, _)| *name == list) {
            return *metrics;
        }
        if self.metrics.len() >= MOST_LISTS {
            return ListMetrics::default();
        }
        let prefix = format!("{}.{}", self.prefix, label(list.as_str().as_bytes()));
        let counter = |of: &str| host.define_counter(&format!("{prefix}.{of}"));
        let metrics = ListMetrics {
            denied: counter("denied"),
            shadowed: counter("shadowed"),
            exempted: counter("exempted"),
            tagged: counter("tagged"),
        };
        self.metrics.push((list, metrics));
        metrics
    }
}

/// A name as a part of the name of a metric.
fn label(name: &[u8]) -> String {
    let mut label = String::new();
    for &byte in name {
        // A dot would end the part. What is written instead must differ for different names.
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            label.push(char::from(byte));
        } else {
            label.push('%');
            label.extend([byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
        }
    }
    label
}

pub(crate) fn increment(host: &impl MetricsHost, counter: Option<Metric>) {
    if let Some(counter) = counter {
        host.increment(counter);
    }
}

pub(crate) fn set_gauge(host: &impl MetricsHost, gauge: Option<Metric>, value: u64) {
    if let Some(gauge) = gauge {
        host.set_gauge(gauge, value);
    }
}
