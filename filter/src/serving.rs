//! What answers requests and connections: a snapshot that is complete, and what the filter does with its verdicts.
//!
//! Nothing here changes once it serves, so a host may let all its threads read one copy.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use edgefold_snapshot::{
    ClientAddress, Header, Layers, ListAction, ListSet, Mode, OpenConnections, Refusal, Settings, Snapshot,
};

use crate::client::client_of_request;
use crate::decision::{Reason, Verdict, decide, is_stale, reason};
use crate::host::{ConfigurationHost, LocalResponse, Metric, MetricsHost, RequestHost};
use crate::metrics::{ListMetrics, ListsSeen, Metrics, increment, set_gauge};

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

/// What the plugins with one name serve.
#[derive(Debug, Default)]
pub struct Serving {
    /// `None` as long as nothing was complete.
    pub(crate) in_force: Option<InForce>,
    /// Counts what is refused as long as nothing is in force.
    pub(crate) unavailable: Option<Metric>,
}

/// A snapshot, or an overlay with its base.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    pub(crate) snapshot: Layers<Vec<u8>>,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    /// Those of each list, by its index. Only set once it serves: see [`InForce::export`].
    pub(crate) lists: Option<Vec<ListMetrics>>,
}

/// The host's keys for the headers that a snapshot is about.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// That of [`ClientAddress::Header`].
    client_address: Vec<u8>,
    /// That of the header that tells the upstream about tags; `None` if no list has some.
    tags: Option<Vec<u8>>,
}

impl Serving {
    /// What a plugin serves that has no snapshot, and no metric for that.
    pub(crate) const NOTHING: Self = Self { in_force: None, unavailable: None };

    /// Whether bytes of what was let pass are to be judged again: [`Self::on_request_data`] and [`Self::on_data`]. True while nothing is in
    /// force.
    #[inline]
    pub fn rechecks(&self) -> bool {
        let setting = |in_force: &InForce| in_force.settings().open_connections == OpenConnections::Recheck;
        self.in_force.as_ref().is_none_or(setting)
    }

    /// The headers of a request have arrived.
    pub fn on_request(&self, host: &impl RequestHost) -> Action {
        let Some(in_force) = self.in_force(host) else {
            // Envoy sends no requests to a plugin whose configuration was rejected. If a host does, they must not pass
            // unchecked.
            respond_unavailable(host, b"edgefold has no snapshot\n", Reason::NoSnapshot);
            return Action::Stop;
        };
        let client = in_force.client(host);
        let verdict = in_force.judge(client, host);
        let is_shadow = in_force.settings().mode == Mode::Shadow;
        let mut tags = None;
        match verdict {
            Verdict::Pass => {}
            Verdict::Exempt(list) => in_force.count(list, |metrics| metrics.exempted, host),
            Verdict::Mark { shadow, tag } => {
                in_force.report(shadow, client, host, in_force.metrics.shadow_denied, REQUEST_VERDICT);
                if is_shadow {
                    in_force.count_all(tag, |metrics| metrics.shadowed, host);
                } else {
                    in_force.count_all(tag, |metrics| metrics.tagged, host);
                    tags = Some(tag);
                }
            }
            Verdict::Deny(reason) if is_shadow => {
                in_force.count_reason(reason, |metrics| metrics.shadowed, host);
                increment(host, in_force.metrics.shadow_denied);
                host.set_filter_state(REQUEST_VERDICT, &shadow_details(reason));
            }
            Verdict::Deny(reason) => {
                in_force.count_refusal(reason, in_force.metrics.denied, host);
                if reason == Reason::Stale {
                    // This is not the client's fault.
                    respond_unavailable(host, b"edgefold has no fresh snapshot\n", reason);
                } else {
                    respond_refusal(host, in_force.refusal(reason), reason);
                }
                return Action::Stop;
            }
        }
        in_force.send_tags(tags.unwrap_or_default(), host);
        Action::Continue
    }

    /// Bytes have arrived for a request that was let pass, and is to be rechecked: it may be a WebSocket, or a call that lasts
    /// for days. Only a refusal is counted: everything else was counted at its headers.
    pub fn on_request_data(&self, host: &impl RequestHost) -> Action {
        let Some(in_force) = self.in_force(host) else {
            host.reset_request();
            return Action::Stop;
        };
        let Some(reason) = in_force.recheck(|| in_force.client(host), host) else { return Action::Continue };
        in_force.count_refusal(reason, in_force.metrics.denied, host);
        host.set_filter_state(REQUEST_VERDICT, &details(reason));
        host.reset_request();
        Action::Stop
    }

    /// A connection has been opened.
    pub fn on_connection(&self, host: &impl RequestHost) -> Action {
        let Some(in_force) = self.in_force(host) else {
            host.close_connection();
            return Action::Stop;
        };
        let client = host.source_address();
        match in_force.judge(client, host) {
            Verdict::Pass => {}
            Verdict::Exempt(list) => in_force.count(list, |metrics| metrics.exempted, host),
            // Nobody can be told about tags: a connection has no headers.
            Verdict::Mark { shadow, .. } => {
                let total = in_force.metrics.shadow_denied_connections;
                in_force.report(shadow, client, host, total, CONNECTION_VERDICT);
            }
            Verdict::Deny(reason) if in_force.settings().mode == Mode::Shadow => {
                in_force.count_reason(reason, |metrics| metrics.shadowed, host);
                increment(host, in_force.metrics.shadow_denied_connections);
                host.set_filter_state(CONNECTION_VERDICT, &shadow_details(reason));
            }
            Verdict::Deny(reason) => return in_force.refuse_connection(reason, host),
        }
        Action::Continue
    }

    /// Bytes have arrived on a connection that is to be rechecked. Only a refusal is counted: everything else was counted when
    /// the connection was opened.
    pub fn on_data(&self, host: &impl RequestHost) -> Action {
        let Some(in_force) = self.in_force(host) else {
            host.close_connection();
            return Action::Stop;
        };
        match in_force.recheck(|| host.source_address(), host) {
            None => Action::Continue,
            Some(reason) => in_force.refuse_connection(reason, host),
        }
    }

    /// What is in force. If that is nothing, the refusal that follows is counted.
    fn in_force(&self, host: &impl RequestHost) -> Option<&InForce> {
        if self.in_force.is_none() {
            increment(host, self.unavailable);
        }
        self.in_force.as_ref()
    }
}

impl Keys {
    pub(crate) fn new(snapshot: &Snapshot<Vec<u8>>, host: &impl ConfigurationHost) -> Self {
        let Header { settings, lists, .. } = snapshot.header();
        let client_address = match &settings.client_address {
            ClientAddress::Header { name, .. } => host.header_key(name),
            ClientAddress::Envoy | ClientAddress::Connection => Vec::new(),
        };
        let has_tags = lists.iter().any(|list| list.action == ListAction::Tag);
        Self { client_address, tags: has_tags.then(|| host.header_key(&settings.tag_header)) }
    }
}

impl InForce {
    fn settings(&self) -> &Settings {
        &self.snapshot.header().settings
    }

    /// The address of the client of a request.
    fn client(&self, host: &impl RequestHost) -> Option<IpAddr> {
        client_of_request(&self.settings().client_address, &self.keys.client_address, host)
    }

    /// Whether the snapshot is too old. The clock is only read if that matters.
    fn is_stale(&self, host: &impl RequestHost) -> bool {
        self.settings().freshness.is_some() && is_stale(&self.snapshot, host.now())
    }

    /// The same, with gauges set, and with the metrics of its lists: what they say is in force now. A canary never serves, so it must do
    /// neither: there is one for each shipment, and none knows which metrics those before it have defined.
    pub(crate) fn export(self, lists_seen: &mut ListsSeen, host: &impl MetricsHost) -> Self {
        let header = self.snapshot.header();
        let lists = Some(lists_seen.metrics_of_lists(header, host));
        let (ipv4_ranges, ipv6_ranges) = self.snapshot.ranges();
        set_gauge(host, self.metrics.generation, header.generation.next_offset);
        set_gauge(host, self.metrics.ranges, ipv4_ranges.saturating_add(ipv6_ranges));
        set_gauge(host, self.metrics.as_of, header.as_of / 1000);
        let fresh_from = header.settings.freshness.map_or(0, |freshness| freshness.cut_at);
        set_gauge(host, self.metrics.fresh_from, fresh_from / 1000);
        Self { lists, ..self }
    }

    fn refuse_connection(&self, reason: Reason, host: &impl RequestHost) -> Action {
        self.count_refusal(reason, self.metrics.denied_connections, host);
        host.set_filter_state(CONNECTION_VERDICT, &details(reason));
        host.close_connection();
        Action::Stop
    }

    /// The verdict on a client. Counts everything that does not depend on it.
    fn judge(&self, client: Option<IpAddr>, host: &impl RequestHost) -> Verdict {
        let is_stale = self.is_stale(host);
        if client.is_none() {
            increment(host, self.metrics.no_address);
        }
        if is_stale {
            increment(host, self.metrics.stale);
        }
        decide(&self.snapshot, is_stale, client)
    }

    /// Why a client that was let pass before must not any more, if so.
    fn recheck(&self, client: impl FnOnce() -> Option<IpAddr>, host: &impl RequestHost) -> Option<Reason> {
        if self.settings().mode == Mode::Shadow {
            return None;
        }
        match decide(&self.snapshot, self.is_stale(host), client()) {
            Verdict::Pass | Verdict::Exempt(_) | Verdict::Mark { .. } => None,
            Verdict::Deny(reason) => Some(reason),
        }
    }

    /// The response to a refused request: that of the list, or else that of the settings.
    fn refusal(&self, reason: Reason) -> &Refusal {
        let header = self.snapshot.header();
        let list = if let Reason::List { index, .. } = reason { header.lists.get(index) } else { None };
        match list.map(|list| &list.action) {
            Some(ListAction::Deny { refusal: Some(refusal), .. }) => refusal,
            _ => &header.settings.refusal,
        }
    }

    /// The names of lists, as the upstream is told them.
    fn names(&self, lists: ListSet) -> String {
        let mut names = String::new();
        for list in lists.iter().filter_map(|list| self.snapshot.header().lists.get(list)) {
            if !names.is_empty() {
                names.push(',');
            }
            names.push_str(list.name.as_str());
        }
        names
    }

    /// Reports a client that is on lists which only report.
    fn report(
        &self,
        lists: ListSet,
        client: Option<IpAddr>,
        host: &impl RequestHost,
        total: Option<Metric>,
        filter_state: &str,
    ) {
        let (Some(first), Some(ip)) = (lists.iter().next(), client) else { return };
        self.count_all(lists, |metrics| metrics.shadowed, host);
        increment(host, total);
        host.set_filter_state(filter_state, &shadow_details(reason(&self.snapshot, first, ip)));
    }

    fn count_refusal(&self, reason: Reason, total: Option<Metric>, host: &impl MetricsHost) {
        increment(host, if reason == Reason::Stale { self.metrics.unavailable } else { total });
        self.count_reason(reason, |metrics| metrics.denied, host);
    }

    /// Counts for the list of a reason, if it has one.
    fn count_reason(&self, reason: Reason, of: fn(&ListMetrics) -> Option<Metric>, host: &impl MetricsHost) {
        if let Reason::List { index, .. } = reason {
            self.count(index, of, host);
        }
    }

    fn count_all(&self, lists: ListSet, of: fn(&ListMetrics) -> Option<Metric>, host: &impl MetricsHost) {
        lists.iter().for_each(|list| self.count(list, of, host));
    }

    fn count(&self, list: usize, of: fn(&ListMetrics) -> Option<Metric>, host: &impl MetricsHost) {
        increment(host, self.lists.as_ref().and_then(|lists| lists.get(list)).and_then(of));
    }

    /// Tells the upstream about the lists that the client is on. Whatever the client sent under that name must not get there.
    ///
    /// A request whose headers change is routed again, so others are left alone.
    fn send_tags(&self, tags: ListSet, host: &impl RequestHost) {
        let Some(key) = &self.keys.tags else { return };
        let name = &self.settings().tag_header;
        if host.with_header(key, |sent| sent.is_some()) {
            host.remove_request_header(name);
        }
        let names = self.names(tags);
        if !names.is_empty() {
            host.add_request_header(name, &names);
        }
    }
}

fn respond_refusal(host: &impl RequestHost, refusal: &Refusal, reason: Reason) {
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
