//! What the filter does when its host calls it.
//!
//! All plugins with the same VM id and code share one VM on each worker of Envoy, and so one [`Filter`]. To spare each
//! request a call that says which plugin it belongs to, the last snapshot that a plugin name was configured with serves all
//! its requests: those that began under the one before, and those of every listener and mode. Where a VM has plugins of
//! several names, each request is asked for its own.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use edgefold_table::{ClientAddress, Fingerprint, Mode, Quoted, Settings, Snapshot};

use crate::address;
use crate::configuration::{ConfigurationError, open};
use crate::decision::{Reason, Verdict, decide, is_stale};

/// How often gauges are set, and snapshots found stale.
const TICK_MILLIS: u32 = 1000;
/// The path of Envoy's attribute with the client's address; parts end with NUL.
const SOURCE_ADDRESS: &[u8] = b"source\0address";
/// That of the filter state of [`ClientAddress::Connection`].
const CONNECTION_ADDRESS: &[u8] = b"filter_state\0edgefold.connection_address";
const PLUGIN_NAME: &[u8] = b"plugin_name";
/// Where a VM leaves the fingerprint of the last snapshot that it has validated. Envoy has a canary do so before it asks the
/// workers, where requests wait for them: for a million ranges this takes three quarters of their time.
const VALIDATED: &[u8] = b"edgefold.validated";
/// What becomes the filter state `wasm.edgefold` of a request.
const REQUEST_VERDICT: &[u8] = b"edgefold";
/// What becomes the filter state `wasm.edgefold_connection` of a connection. Its requests see it too, and would overwrite it
/// under the same name.
const CONNECTION_VERDICT: &[u8] = b"edgefold_connection";

/// What the filter asks of its host. No method fails: what a host cannot do is left undone, and what it has not is `None`.
pub trait Host {
    /// Reads an attribute; the parts of its path end with NUL.
    fn attribute<R>(&self, path: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R;
    /// Sets the filter state `wasm.` and `name` of the request or connection.
    fn set_state(&self, name: &[u8], value: &str);
    /// The plugin's configuration, while it is being configured.
    fn configuration(&self) -> Option<Vec<u8>>;
    /// Reads what another VM of the same plugin has shared.
    fn shared<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R;
    /// Shares this with all VMs of the plugin, and forgets what was shared before.
    fn share(&self, key: &[u8], value: &[u8]);
    /// Answers the request, with an encoded map of headers.
    fn respond(&self, status: u16, headers: &[u8], body: &[u8], details: &str);
    /// Closes the client's connection.
    fn close_connection(&self);
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> u64;
    /// Asks for a call of [`Filter::on_tick`] so often.
    fn set_tick_period(&self, millis: u32);
    /// The metric of this name.
    fn counter(&self, name: &str) -> Option<Metric>;
    /// The metric of this name.
    fn gauge(&self, name: &str) -> Option<Metric>;
    /// Adds one to a counter.
    fn increment(&self, metric: Metric);
    /// Sets a gauge.
    fn set(&self, metric: Metric, value: u64);
    /// Logs a line, at level error or info.
    fn log(&self, is_error: bool, line: &str);
}

/// A metric that the host knows by a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metric(pub u32);

/// Whether a request or connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// To the next filter.
    Continue,
    /// It has been answered or closed.
    Stop,
}

/// All that the plugins in one VM serve.
#[derive(Debug, Default)]
pub struct Filter {
    lists: Vec<List>,
}

/// What the plugins of one name serve.
#[derive(Debug)]
struct List {
    plugin: Vec<u8>,
    snapshot: Snapshot<Vec<u8>>,
    is_stale: bool,
    /// The headers of a refusal, as the host takes them.
    headers: Vec<u8>,
    /// The path of the attribute with the header of [`ClientAddress::Header`].
    header_path: String,
    metrics: Metrics,
}

/// The metrics of a plugin. They are defined once: a host gives each definition a number of its own.
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
    /// In a VM that no plugin is configured in yet.
    pub const fn new() -> Self {
        Self { lists: Vec::new() }
    }

    /// A plugin is configured; false rejects its configuration, and what served before keeps serving. The outcome depends on
    /// the configuration alone, since Envoy asks a canary first and every worker after it.
    pub fn on_configure(&mut self, host: &impl Host) -> bool {
        let plugin = host.attribute(PLUGIN_NAME, |name| name.unwrap_or_default().to_vec());
        let place = self.lists.iter().position(|list| list.plugin == plugin);
        let metrics = place.and_then(|place| self.lists.get(place)).map(|list| list.metrics);
        let metrics = metrics.unwrap_or_else(|| Metrics::new(&plugin, host));
        let known = host.shared(VALIDATED, |bytes| Fingerprint::from_bytes(bytes?));
        let configuration = host.configuration().ok_or(ConfigurationError::NotHandedOver);
        let snapshot = match configuration.and_then(|bytes| open(bytes, known)) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                refuse_snapshot(&error, metrics, host);
                return false;
            }
        };
        if known != Some(snapshot.fingerprint()) {
            host.share(VALIDATED, snapshot.fingerprint().as_bytes());
        }
        let header = snapshot.header();
        let ranges = u64::from(header.ipv4_ranges).saturating_add(header.ipv6_ranges.into());
        set(host, metrics.generation, header.generation.next_offset);
        set(host, metrics.ranges, ranges);
        host.log(false, &summary(&snapshot));
        let headers = encode_headers(&header.settings);
        let header_path = header_path(&header.settings.client_address);
        let mut list = List { plugin, snapshot, is_stale: false, headers, header_path, metrics };
        list.look_at_the_clock(host);
        match place.and_then(|place| self.lists.get_mut(place)) {
            Some(before) => *before = list,
            None => self.lists.push(list),
        }
        host.set_tick_period(TICK_MILLIS);
        true
    }

    /// Some time has passed.
    pub fn on_tick(&mut self, host: &impl Host) {
        for list in &mut self.lists {
            list.look_at_the_clock(host);
        }
    }

    /// A request has come, with its headers.
    pub fn on_request(&self, host: &impl Host) -> Action {
        let Some(list) = self.list(host) else {
            // Envoy sends no request to a plugin whose configuration it refused; should a host do, the request is not
            // passed unchecked.
            host.respond(503, &NO_HEADERS, b"edgefold has no snapshot\n", &details(Reason::NoSnapshot));
            return Action::Stop;
        };
        let settings = &list.snapshot.header().settings;
        let Some(reason) = list.judge(list.client_of_request(host), host) else {
            return Action::Continue;
        };
        if settings.mode == Mode::Shadow {
            increment(host, list.metrics.shadow_denied);
            host.set_state(REQUEST_VERDICT, &shadow_details(reason));
            return Action::Continue;
        }
        increment(host, list.metrics.denied);
        let refusal = &settings.refusal;
        let (status, headers, body) = match reason {
            // Not the client's fault.
            Reason::Stale => (503, &NO_HEADERS[..], &b"edgefold has no fresh snapshot\n"[..]),
            _ => (refusal.status, list.headers.as_slice(), refusal.body.as_bytes()),
        };
        host.respond(status, headers, body, &details(reason));
        Action::Stop
    }

    /// A connection has been opened.
    pub fn on_connection(&self, host: &impl Host) -> Action {
        let Some(list) = self.list(host) else {
            host.close_connection();
            return Action::Stop;
        };
        let Some(reason) = list.judge(source_address(host), host) else { return Action::Continue };
        if list.snapshot.header().settings.mode == Mode::Shadow {
            increment(host, list.metrics.shadow_denied_connections);
            host.set_state(CONNECTION_VERDICT, &shadow_details(reason));
            return Action::Continue;
        }
        list.refuse_connection(reason, host)
    }

    /// Bytes have come over a connection that is to be looked at again. Nothing is counted but that it is refused: the rest was
    /// counted when it was opened.
    pub fn on_data(&self, host: &impl Host) -> Action {
        let Some(list) = self.list(host) else {
            host.close_connection();
            return Action::Stop;
        };
        if list.snapshot.header().settings.mode == Mode::Shadow {
            return Action::Continue;
        }
        match decide(&list.snapshot, list.is_stale, source_address(host)) {
            Verdict::Pass => Action::Continue,
            Verdict::Deny(reason) => list.refuse_connection(reason, host),
        }
    }

    /// The list of the plugin that is asked.
    fn list(&self, host: &impl Host) -> Option<&List> {
        match self.lists.as_slice() {
            [only] => Some(only),
            several => host.attribute(PLUGIN_NAME, |name| several.iter().find(|list| Some(&*list.plugin) == name)),
        }
    }
}

impl List {
    fn look_at_the_clock(&mut self, host: &impl Host) {
        let now = host.now();
        self.is_stale = is_stale(&self.snapshot, now);
        let header = self.snapshot.header();
        let true_at = header.settings.freshness.map_or(header.as_of, |freshness| freshness.cut_at);
        // An empty log is of no moment.
        let age = if true_at == 0 { 0 } else { now.saturating_sub(true_at) / 1000 };
        set(host, self.metrics.age, age);
    }

    fn client_of_request(&self, host: &impl Host) -> Option<IpAddr> {
        match &self.snapshot.header().settings.client_address {
            ClientAddress::Envoy => source_address(host),
            ClientAddress::Connection => connection_address(host).flatten(),
            ClientAddress::Header { trusted_hops, trusted_proxies, .. } => {
                if !trusted_proxies.is_empty() {
                    let source = source_address(host);
                    // Where Envoy itself believes X-Forwarded-For, `source.address` may be forged.
                    let peer = connection_address(host).unwrap_or(source);
                    if !peer.is_some_and(|peer| trusted_proxies.iter().any(|proxies| proxies.contains(peer))) {
                        return source;
                    }
                }
                // The attribute joins several headers of the name; `proxy_get_header_map_value` would give the first alone,
                // which is whatever the client sent.
                let written = host.attribute(self.header_path.as_bytes(), |list| {
                    address::entry_from_right(list?, *trusted_hops).map(address::parse)
                });
                written.unwrap_or_else(|| source_address(host))
            }
        }
    }

    fn refuse_connection(&self, reason: Reason, host: &impl Host) -> Action {
        increment(host, self.metrics.denied_connections);
        host.set_state(CONNECTION_VERDICT, &details(reason));
        host.close_connection();
        Action::Stop
    }

    /// Why this client is not to pass, if it is not; counts what is not a matter of the verdict.
    fn judge(&self, client: Option<IpAddr>, host: &impl Host) -> Option<Reason> {
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

/// As `%RESPONSE_CODE_DETAILS%` has it.
fn details(reason: Reason) -> String {
    format!("edgefold_denied[{reason}]")
}

fn shadow_details(reason: Reason) -> String {
    format!("shadow_{}", details(reason))
}

fn source_address(host: &impl Host) -> Option<IpAddr> {
    host.attribute(SOURCE_ADDRESS, |text| address::parse(text?))
}

/// What Envoy says of who opened the connection, if it says so.
fn connection_address(host: &impl Host) -> Option<Option<IpAddr>> {
    host.attribute(CONNECTION_ADDRESS, |text| text.map(address::parse))
}

/// Envoy has names of headers in lower case.
fn header_path(client_address: &ClientAddress) -> String {
    match client_address {
        ClientAddress::Header { name, .. } => format!("request\0headers\0{}", name.to_ascii_lowercase()),
        ClientAddress::Envoy | ClientAddress::Connection => String::new(),
    }
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

fn refuse_snapshot(error: &ConfigurationError, metrics: Metrics, host: &impl Host) {
    increment(host, metrics.snapshot_rejected);
    host.log(true, &format!("edgefold: snapshot refused: {error}"));
}

impl Metrics {
    /// Those of a plugin, whose name is the second part of theirs, so that `stats_tags` can make it a label.
    fn new(plugin: &[u8], host: &impl Host) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let plugin: String = plugin.iter().map(|&byte| if is_plain(byte) { char::from(byte) } else { '_' }).collect();
        let name = |name: &str| format!("edgefold_filter.{plugin}.{name}");
        let counter = |of: &str| host.counter(&name(of));
        let gauge = |of: &str| host.gauge(&name(of));
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

fn increment(host: &impl Host, metric: Option<Metric>) {
    if let Some(metric) = metric {
        host.increment(metric);
    }
}

fn set(host: &impl Host, metric: Option<Metric>, value: u64) {
    if let Some(metric) = metric {
        host.set(metric, value);
    }
}

/// A map of no headers.
const NO_HEADERS: [u8; 4] = [0; 4];

/// The headers of a refusal as proxy-wasm wants a map: how many there are, the lengths of each name and value, and then each
/// name and value with a NUL behind it. Lengths are u32, little-endian.
fn encode_headers(settings: &Settings) -> Vec<u8> {
    let refusal = &settings.refusal;
    let content_type = ("content-type", &*refusal.content_type);
    // Envoy gives a response without a body no content type.
    let content_type = (!refusal.body.is_empty()).then_some(content_type);
    let others = refusal.headers.iter().map(|(name, value)| (&**name, &**value));
    let headers: Vec<(&str, &str)> = content_type.into_iter().chain(others).collect();
    // The header of a snapshot is far shorter than a u32 can count.
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let mut encoded = length(headers.len()).to_vec();
    for (name, value) in &headers {
        encoded.extend(length(name.len()));
        encoded.extend(length(value.len()));
    }
    for (name, value) in &headers {
        for text in [name, value] {
            encoded.extend(text.bytes());
            encoded.push(0);
        }
    }
    encoded
}
