//! What the whole process shares: for each name of a filter its plugin, and what that serves.
//!
//! Envoy configures on its main thread, and requests are on its workers. A request reads what serves through [`ArcSwap`], so it never
//! waits, and has one complete state for as long as it looks. The last one that looks at an old state frees it.

use std::sync::{Arc, PoisonError, Weak};

use edgefold_filter::host::{ConfigurationHost, Metric};
use edgefold_filter::plugin::Plugin;
use edgefold_filter::serving::Serving;

use crate::sync::{ArcSwap, Guard, Mutex, MutexGuard, yield_now};

/// How often whoever configures lets requests go on that still look at what served before. A request looks for microseconds.
const MOST_YIELDS: u32 = 100;

/// All filters that have a configuration. Envoy destroys an old configuration after it has a new one, so a filter stays as long as Envoy
/// has it.
#[derive(Debug, Default)]
pub struct Process {
    filters: Mutex<Vec<(Vec<u8>, Weak<SharedFilter>)>>,
}

/// The filter with one name, for HTTP and for connections.
#[derive(Debug)]
pub struct SharedFilter {
    configured: Mutex<Configured>,
    serving: ArcSwap<Serving>,
}

#[derive(Debug, Default)]
struct Configured {
    plugin: Option<Plugin>,
    metrics: MetricNames,
}

/// The names of a filter's metrics, in the order of their numbers.
///
/// Envoy numbers metrics anew in each configuration. The filter defines a metric once, and each later configuration must define all of them
/// again.
#[derive(Clone, Debug, Default)]
pub struct MetricNames(Vec<(MetricKind, String)>);

/// What a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It is set.
    Gauge,
}

/// A host that defines the metrics of one configuration.
pub trait MetricsDefiner {
    /// Defines the metric with the next number: 0 for the first one.
    fn define(&self, kind: MetricKind, name: &str);
    /// The names of what was defined.
    fn names(&self) -> MetricNames;
}

impl Process {
    /// One that has no filter yet.
    pub const fn new() -> Self {
        Self { filters: Mutex::new(Vec::new()) }
    }

    /// The filter with this name, which is created if there is none.
    pub fn filter(&self, name: &[u8]) -> Arc<SharedFilter> {
        let mut filters = lock(&self.filters);
        filters.retain(|(_, filter)| filter.strong_count() > 0);
        let known = filters.iter().find(|(known, _)| known == name).and_then(|(_, filter)| filter.upgrade());
        known.unwrap_or_else(|| {
            let filter = Arc::new(SharedFilter { configured: Mutex::default(), serving: ArcSwap::default() });
            filters.retain(|(known, _)| known != name);
            filters.push((name.to_vec(), Arc::downgrade(&filter)));
            filter
        })
    }
}

impl SharedFilter {
    /// Configures the filter with what `host` has. `false` rejects that, and leaves everything as it was.
    ///
    /// What it serves from now on is shared in one step, after everything is complete. What it served before is freed here and not by a
    /// request, if no request takes long: to free a large table takes milliseconds.
    pub fn configure<H: ConfigurationHost + MetricsDefiner>(&self, name: &[u8], host: &H) -> bool {
        let mut configured = lock(&self.configured);
        // If this panics, the next one begins from nothing, with numbers of metrics that are right.
        let before = std::mem::take(&mut *configured);
        for (kind, name) in &before.metrics.0 {
            host.define(*kind, name);
        }
        let mut plugin = before.plugin.unwrap_or_else(|| Plugin::new(name.to_vec(), host));
        let is_accepted = plugin.configure(host);
        let serving = Arc::clone(plugin.serving());
        *configured = Configured { plugin: Some(plugin), metrics: host.names() };
        // Still under the lock: of two that configure, the later one must be the one that stays. Most change nothing: one of each kind of filter and
        // listener comes with the same snapshot.
        if is_accepted && !Arc::ptr_eq(&self.serving(), &serving) {
            let before = self.serving.swap(serving);
            for _ in 0..MOST_YIELDS {
                if Arc::strong_count(&before) == 1 {
                    break;
                }
                yield_now();
            }
        }
        is_accepted
    }

    /// What answers requests now. It lives as long as the guard.
    #[inline]
    pub fn serving(&self) -> Guard<Arc<Serving>> {
        self.serving.load()
    }
}

impl MetricNames {
    /// Adds a metric, and returns its number.
    pub fn add(&mut self, kind: MetricKind, name: &str) -> Option<Metric> {
        let number = u32::try_from(self.0.len()).ok()?;
        self.0.push((kind, name.to_owned()));
        Some(Metric(number))
    }
}

/// What a thread that panicked has left is whole: see [`SharedFilter::configure`].
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
