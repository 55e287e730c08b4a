//! What the filter does when its host calls it.
//!
//! All plugins with the same VM id and code share one VM on each worker of Envoy, and so one [`Filter`]. The last snapshot that
//! a plugin name was configured with serves all requests of that name: those that began under the snapshot before it, and those
//! of every listener and mode. That saves each request a call to find out which configuration it belongs to. Only if a VM has
//! plugins with several names is each request asked for its own.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use edgefold_snapshot::{ClientAddress, Mode, Quoted, Settings, Snapshot};

use crate::client::client_of_request;
use crate::configuration::{ConfigurationError, open};
use crate::decision::{Reason, Verdict, decide, is_stale};
use crate::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost};

/// How often gauges are set, and stale snapshots are noticed.
const TICK_MILLIS: u32 = 1000;
/// The filter state of a request with a verdict.
const REQUEST_VERDICT: &str = "edgefold";
/// The filter state of a connection with a verdict. The connection's requests see it too, and would overwrite it under the same
/// name.
const CONNECTION_VERDICT: &str = "edgefold_connection";

/// Whether a request or connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// To the next filter.
    Continue,
    /// It has been answered or closed.
    Stop,
}

/// Everything that the plugins in one VM serve.
#[derive(Debug, Default)]
pub struct Filter {
    plugins: Vec<Plugin>,
}

/// What the plugins with one name serve.
#[derive(Debug)]
struct Plugin {
    name: Vec<u8>,
    snapshot: Snapshot<Vec<u8>>,
    is_stale: bool,
    /// The host's key for the header of [`ClientAddress::Header`].
    header_key: Vec<u8>,
    metrics: Metrics,
}

/// The metrics of a plugin. They are defined once, because a host returns a new number for each definition.
#[derive(Clone, Copy, Debug)]
struct Metrics {
    denied: Option<Metric>,
    denied_connections: Option<Metric>,
    shadow_denied: Option<Metric>,
    shadow_denied_connections: Option<Metric>,
    no_address: Option<Metric>,
    stale: Option<Metric>,
    snapshot_rejected: Option<Metric>,
    generation: Option<Metric>,
    ranges: Option<Metric>,
    age: Option<Metric>,
}

impl Filter {
    /// The filter of a VM in which no plugin has been configured yet.
    pub const fn new() -> Self {
        Self { plugins: Vec::new() }
    }

    /// A plugin is configured. `false` rejects its configuration, and what served before keeps serving. The outcome depends
    /// only on the configuration, because Envoy configures a canary first and then every worker.
    pub fn on_configure(&mut self, host: &impl ConfigurationHost) -> bool {
        let name = host.plugin_name();
        let place = self.plugins.iter().position(|plugin| plugin.name == name);
        let metrics = place.and_then(|place| self.plugins.get(place)).map(|plugin| plugin.metrics);
        let metrics = metrics.unwrap_or_else(|| Metrics::new(&name, host));
        let validated = host.validated();
        let configuration = host.configuration().ok_or(ConfigurationError::NotProvided);
        let snapshot = match configuration.and_then(|bytes| open(bytes, validated)) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                increment(host, metrics.snapshot_rejected);
                host.log(Level::Error, &format!("edgefold: snapshot refused: {error}"));
                return false;
            }
        };
        if validated != Some(snapshot.fingerprint()) {
            host.share_validated(snapshot.fingerprint());
        }
        let header = snapshot.header();
        let ranges = u64::from(header.ipv4_ranges).saturating_add(header.ipv6_ranges.into());
        set_gauge(host, metrics.generation, header.generation.next_offset);
        set_gauge(host, metrics.ranges, ranges);
        host.log(Level::Info, &summary(&snapshot));
        let header_key = match &header.settings.client_address {
            ClientAddress::Header { name, .. } => host.header_key(name),
            ClientAddress::Envoy | ClientAddress::Connection => Vec::new(),
        };
        let mut plugin = Plugin { name, snapshot, is_stale: false, header_key, metrics };
        plugin.check_age(host);
        match place.and_then(|place| self.plugins.get_mut(place)) {
            Some(before) => *before = plugin,
            None => self.plugins.push(plugin),
        }
        host.set_tick_period(TICK_MILLIS);
        true
    }

    /// Some time has passed.
    pub fn on_tick(&mut self, host: &impl ConfigurationHost) {
        for plugin in &mut self.plugins {
            plugin.check_age(host);
        }
    }

    /// The headers of a request have arrived.
    pub fn on_request(&self, host: &impl RequestHost) -> Action {
        let Some(plugin) = self.plugin(host) else {
            // Envoy sends no requests to a plugin whose configuration was rejected. If a host does, they must not pass
            // unchecked.
            respond_unavailable(host, b"edgefold has no snapshot\n", Reason::NoSnapshot);
            return Action::Stop;
        };
        let settings = plugin.settings();
        let client = client_of_request(&settings.client_address, &plugin.header_key, host);
        let Some(reason) = plugin.judge(client, host) else {
            return Action::Continue;
        };
        if settings.mode == Mode::Shadow {
            increment(host, plugin.metrics.shadow_denied);
            host.set_filter_state(REQUEST_VERDICT, &shadow_details(reason));
            return Action::Continue;
        }
        increment(host, plugin.metrics.denied);
        if reason == Reason::Stale {
            // This is not the client's fault.
            respond_unavailable(host, b"edgefold has no fresh snapshot\n", reason);
        } else {
            respond_refusal(host, settings, reason);
        }
        Action::Stop
    }

    /// A connection has been opened.
    pub fn on_connection(&self, host: &impl RequestHost) -> Action {
        let Some(plugin) = self.plugin(host) else {
            host.close_connection();
            return Action::Stop;
        };
        let Some(reason) = plugin.judge(host.source_address(), host) else { return Action::Continue };
        if plugin.settings().mode == Mode::Shadow {
            increment(host, plugin.metrics.shadow_denied_connections);
            host.set_filter_state(CONNECTION_VERDICT, &shadow_details(reason));
            return Action::Continue;
        }
        plugin.refuse_connection(reason, host)
    }

    /// Bytes have arrived on a connection that is to be rechecked. Only a refusal is counted: everything else was counted when
    /// the connection was opened.
    pub fn on_data(&self, host: &impl RequestHost) -> Action {
        let Some(plugin) = self.plugin(host) else {
            host.close_connection();
            return Action::Stop;
        };
        if plugin.settings().mode == Mode::Shadow {
            return Action::Continue;
        }
        match decide(&plugin.snapshot, plugin.is_stale, host.source_address()) {
            Verdict::Pass => Action::Continue,
            Verdict::Deny(reason) => plugin.refuse_connection(reason, host),
        }
    }

    /// The plugin that a request or connection belongs to.
    fn plugin(&self, host: &impl RequestHost) -> Option<&Plugin> {
        match self.plugins.as_slice() {
            [only] => Some(only),
            several => host.with_plugin_name(|name| several.iter().find(|plugin| Some(&*plugin.name) == name)),
        }
    }
}

impl Plugin {
    fn settings(&self) -> &Settings {
        &self.snapshot.header().settings
    }

    fn check_age(&mut self, host: &impl ConfigurationHost) {
        let now = host.now();
        self.is_stale = is_stale(&self.snapshot, now);
        let header = self.snapshot.header();
        let true_at = header.settings.freshness.map_or(header.as_of, |freshness| freshness.cut_at);
        // An empty log has no time.
        let age = if true_at == 0 { 0 } else { now.saturating_sub(true_at) / 1000 };
        set_gauge(host, self.metrics.age, age);
    }

    fn refuse_connection(&self, reason: Reason, host: &impl RequestHost) -> Action {
        increment(host, self.metrics.denied_connections);
        host.set_filter_state(CONNECTION_VERDICT, &details(reason));
        host.close_connection();
        Action::Stop
    }

    /// Why this client must not pass, if so. Counts everything that does not depend on the verdict.
    fn judge(&self, client: Option<IpAddr>, host: &impl MetricsHost) -> Option<Reason> {
        if client.is_none() {
            increment(host, self.metrics.no_address);
        }
        if self.is_stale {
            increment(host, self.metrics.stale);
        }
        match decide(&self.snapshot, self.is_stale, client) {
            Verdict::Pass => None,
            Verdict::Deny(reason) => Some(reason),
        }
    }
}

fn respond_refusal(host: &impl RequestHost, settings: &Settings, reason: Reason) {
    let refusal = &settings.refusal;
    // Envoy omits the content type of a response without a body.
    let content_type = (!refusal.body.is_empty()).then_some(&*refusal.content_type);
    host.respond(&LocalResponse {
        status: refusal.status,
        content_type,
        headers: &refusal.headers,
        body: refusal.body.as_bytes(),
        details: &details(reason),
    });
}

fn respond_unavailable(host: &impl RequestHost, body: &[u8], reason: Reason) {
    let details = details(reason);
    host.respond(&LocalResponse { status: 503, content_type: None, headers: &[], body, details: &details });
}

/// The response code details of a refusal.
fn details(reason: Reason) -> String {
    format!("edgefold_denied[{reason}]")
}

fn shadow_details(reason: Reason) -> String {
    format!("shadow_{}", details(reason))
}

fn summary(snapshot: &Snapshot<Vec<u8>>) -> String {
    let header = snapshot.header();
    let shadow = if header.settings.mode == Mode::Shadow { ", in shadow mode" } else { "" };
    format!(
        "edgefold: list {} at offset {}: {} IPv4 and {} IPv6 ranges{shadow}",
        Quoted(&header.list),
        header.generation.next_offset,
        header.ipv4_ranges,
        header.ipv6_ranges
    )
}

impl Metrics {
    /// The metrics of a plugin. Its name is the second part of theirs, so that Envoy's `stats_tags` can turn it into a label.
    fn new(plugin: &[u8], host: &impl ConfigurationHost) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let plugin: String = plugin.iter().map(|&byte| if is_plain(byte) { char::from(byte) } else { '_' }).collect();
        let name = |name: &str| format!("edgefold_filter.{plugin}.{name}");
        let counter = |of: &str| host.define_counter(&name(of));
        let gauge = |of: &str| host.define_gauge(&name(of));
        Self {
            denied: counter("denied"),
            denied_connections: counter("denied_connections"),
            shadow_denied: counter("shadow_denied"),
            shadow_denied_connections: counter("shadow_denied_connections"),
            no_address: counter("no_address"),
            stale: counter("stale"),
            snapshot_rejected: counter("snapshot_rejected"),
            generation: gauge("generation"),
            ranges: gauge("ranges"),
            age: gauge("age_seconds"),
        }
    }
}

fn increment(host: &impl MetricsHost, counter: Option<Metric>) {
    if let Some(counter) = counter {
        host.increment(counter);
    }
}

fn set_gauge(host: &impl MetricsHost, gauge: Option<Metric>, value: u64) {
    if let Some(gauge) = gauge {
        host.set_gauge(gauge, value);
    }
}
