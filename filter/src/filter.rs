//! What the filter does when its host calls it.
//!
//! All plugins with the same VM id and code share one VM on each worker of Envoy, and so one [`Filter`]. The last snapshot that
//! a plugin name was configured with serves all requests of that name: those that began under the snapshot before it, and those
//! of every listener and mode. That saves each request a call to find out which configuration it belongs to. Only if a VM has
//! plugins with several names is each request asked for its own.
//!
//! What a plugin serves is a whole snapshot, or an overlay with its base. The two of a pair come as configurations of two plugins with
//! the same name, in any order. A plugin only ever changes from what is complete to what is complete.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{OnceCell, RefCell};
use core::net::IpAddr;

use edgefold_snapshot::{
    ClientAddress, Fingerprint, Header, Layers, ListAction, ListName, ListSet, Mode, Quoted, Refusal, Role, Settings,
    Snapshot,
};

use crate::client::client_of_request;
use crate::configuration::{ConfigurationError, snapshot_in};
use crate::decision::{Reason, Verdict, decide, is_stale, reason};
use crate::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};

/// The filter state of a request with a verdict.
const REQUEST_VERDICT: &str = "edgefold";
/// The filter state of a connection with a verdict. The connection's requests see it too, and would overwrite it under the same
/// name.
const CONNECTION_VERDICT: &str = "edgefold_connection";
/// How many lists get metrics of their own while the VM lives. A host keeps metrics forever, so lists that come and go must not fill
/// its memory.
const MOST_LISTS: usize = 256;

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

/// The plugins with one name.
#[derive(Debug)]
struct Plugin {
    name: Vec<u8>,
    metrics: Metrics,
    /// Those of the lists.
    lists_seen: Rc<ListsSeen>,
    /// `None` as long as nothing was complete.
    in_force: Option<InForce>,
    /// The last base that has come, unless it is in force: an overlay over it will come.
    spare: Option<Spare>,
    /// The newest overlay that has come, if its base was not there.
    waiting: Option<Waiting>,
}

/// A base.
#[derive(Debug)]
struct Spare {
    base: Arc<Snapshot<Vec<u8>>>,
    /// Those of the base itself; `None` if it was not configured, but is from the host.
    keys: Option<Keys>,
}

/// An overlay whose base has not come.
#[derive(Debug)]
struct Waiting {
    overlay: Arc<Snapshot<Vec<u8>>>,
    keys: Keys,
    /// Whether the base that the host had was of no use.
    is_in_vain: bool,
}

/// What the plugins with one name serve.
#[derive(Debug)]
struct InForce {
    snapshot: Layers<Vec<u8>>,
    keys: Keys,
    metrics: Metrics,
    /// Those of each list, by its index. Only set once it serves: see [`InForce::export`].
    list_metrics: OnceCell<Vec<ListMetrics>>,
    lists_seen: Rc<ListsSeen>,
}

/// The host's keys for the headers that a snapshot is about.
#[derive(Clone, Debug)]
struct Keys {
    /// That of [`ClientAddress::Header`].
    client_address: Vec<u8>,
    /// That of the header that tells the upstream about tags; `None` if no list has some.
    tags: Option<Vec<u8>>,
}

/// The metrics of a plugin. They are defined once, because a host returns a new number for each definition.
#[derive(Clone, Copy, Debug)]
struct Metrics {
    denied: Option<Metric>,
    denied_connections: Option<Metric>,
    shadow_denied: Option<Metric>,
    shadow_denied_connections: Option<Metric>,
    unavailable: Option<Metric>,
    no_address: Option<Metric>,
    stale: Option<Metric>,
    snapshot_rejected: Option<Metric>,
    snapshot_kept: Option<Metric>,
    overlay_waiting: Option<Metric>,
    generation: Option<Metric>,
    ranges: Option<Metric>,
    as_of: Option<Metric>,
    fresh_from: Option<Metric>,
}

/// The lists of a plugin that have metrics of their own, up to [`MOST_LISTS`].
#[derive(Debug)]
struct ListsSeen {
    /// What the names of their metrics begin with.
    prefix: String,
    metrics: RefCell<Vec<(ListName, ListMetrics)>>,
}

/// The metrics of a list of a plugin.
#[derive(Clone, Copy, Debug, Default)]
struct ListMetrics {
    denied: Option<Metric>,
    shadowed: Option<Metric>,
    exempted: Option<Metric>,
    tagged: Option<Metric>,
}

impl Filter {
    /// The filter of a VM in which no plugin has been configured yet.
    pub const fn new() -> Self {
        Self { plugins: Vec::new() }
    }

    /// A plugin is configured. `false` rejects its configuration.
    ///
    /// Envoy configures a canary first, a VM in which no plugin has a snapshot yet. A rejection there leaves everything as it was.
    /// After a rejection by a worker, Envoy would let all requests on it pass. So where a snapshot is in force, it stays in force
    /// when the next one is refused, and the configuration is accepted.
    pub fn on_configure(&mut self, host: &impl ConfigurationHost) -> bool {
        // If the host does not say, it is the only one there is.
        let name =
            host.plugin_name().or_else(|| self.plugins.first().map(|only| only.name.clone())).unwrap_or_default();
        let index = self.plugins.iter().position(|plugin| plugin.name == name).unwrap_or_else(|| {
            self.plugins.push(Plugin::new(name, host));
            self.plugins.len().saturating_sub(1)
        });
        // It is always there.
        self.plugins.get_mut(index).is_some_and(|plugin| plugin.configure(host))
    }

    /// Gets the bases that plugins wait for from the host. To be called before each request, connection and data: a VM may have missed a
    /// base, or be a fresh one that was given an overlay only, because the one before has crashed.
    #[inline]
    pub fn recover(&mut self, host: &impl RequestHost) {
        for plugin in self.plugins.iter_mut().filter(|plugin| plugin.waiting.is_some()) {
            plugin.recover(host);
        }
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

    /// What the plugin serves that a request or connection belongs to. If that is nothing, the refusal that follows is counted.
    fn in_force(&self, host: &impl RequestHost) -> Option<&InForce> {
        let plugin = match self.plugins.as_slice() {
            [only] => Some(only),
            several => host.with_plugin_name(|name| several.iter().find(|plugin| Some(&*plugin.name) == name)),
        };
        let plugin = plugin?;
        if plugin.in_force.is_none() {
            increment(host, plugin.metrics.unavailable);
        }
        plugin.in_force.as_ref()
    }
}

impl Plugin {
    fn new(name: Vec<u8>, host: &impl ConfigurationHost) -> Self {
        let metrics = Metrics::new(&name, host);
        let prefix = format!("edgefold_filter.{}.list", label(&name));
        let lists_seen = Rc::new(ListsSeen { prefix, metrics: RefCell::default() });
        Self { name, metrics, lists_seen, in_force: None, spare: None, waiting: None }
    }

    /// As [`Filter::on_configure`].
    fn configure(&mut self, host: &impl ConfigurationHost) -> bool {
        match self.take(host) {
            Ok(()) => true,
            Err(error) => {
                // A plugin that waits for a base rejects nothing either: only workers wait.
                let keeps = self.in_force.is_some() || self.waiting.is_some() || self.spare.is_some();
                let counter = if keeps { self.metrics.snapshot_kept } else { self.metrics.snapshot_rejected };
                increment(host, counter);
                host.log(Level::Error, &format!("edgefold: snapshot refused: {error}"));
                keeps
            }
        }
    }

    /// Takes the snapshot that the plugin is configured with.
    fn take(&mut self, host: &impl ConfigurationHost) -> Result<(), ConfigurationError> {
        let configuration = host.configuration().or_else(|| {
            // There may be room without the base that nothing uses yet.
            self.spare.take()?;
            host.configuration()
        });
        let bytes = snapshot_in(configuration.ok_or(ConfigurationError::NotProvided)?)?;
        let from = if Role::is_base(&bytes) { Resource::Base } else { Resource::Filter };
        if from == Resource::Base && self.holds_base(Fingerprint::of(&bytes)) {
            return Ok(());
        }
        let validated = host.validated(from);
        let mut snapshot = Snapshot::open_known(bytes, validated)?;
        let is_canary = validated != Some(snapshot.fingerprint());
        let is_base = snapshot.header().role == Role::Base;
        if is_canary {
            // A worker that only looks like a canary may have an older one.
            if is_base && self.in_force.is_none() && self.waiting.is_none() {
                host.share_base(snapshot.bytes());
            }
            host.share_validated(from, snapshot.fingerprint());
        } else {
            // A canary looks nothing up.
            snapshot.prepare();
        }
        let is_overlay = matches!(snapshot.header().role, Role::Overlay(_));
        // One line for each overlay and worker would fill the log.
        if !is_overlay {
            host.log(Level::Info, &summary(&snapshot));
        }
        let snapshot = Arc::new(snapshot);
        let keys = Keys::new(&snapshot, host);
        if is_base {
            self.spare = Some(Spare { base: snapshot, keys: Some(keys) });
            self.settle();
        } else if is_overlay {
            self.check_order(&snapshot)?;
            self.waiting = Some(Waiting { overlay: snapshot, keys, is_in_vain: false });
            self.settle();
            // A canary has no base, and serves nothing.
            if self.waiting.is_some() && !is_canary {
                increment(host, self.metrics.overlay_waiting);
            }
        } else {
            self.check_order(&snapshot)?;
            self.serve(Layers::alone(snapshot), keys);
        }
        if !is_canary && let Some(in_force) = &self.in_force {
            in_force.export(host);
        }
        Ok(())
    }

    /// Only what this VM has been given counts: whatever else a canary has accepted in the meantime, a VM that has nothing must take
    /// this one.
    fn check_order(&self, next: &Snapshot<Vec<u8>>) -> Result<(), ConfigurationError> {
        let in_force = self.in_force.as_ref().map(|in_force| in_force.snapshot.top());
        let waiting = self.waiting.as_ref().map(|waiting| &*waiting.overlay);
        if in_force.into_iter().chain(waiting).any(|known| order(known) > order(next)) {
            return Err(ConfigurationError::Older);
        }
        Ok(())
    }

    fn holds_base(&self, fingerprint: Option<Fingerprint>) -> bool {
        self.bases().any(|base| Some(base.fingerprint()) == fingerprint)
    }

    fn bases(&self) -> impl Iterator<Item = &Arc<Snapshot<Vec<u8>>>> {
        let in_force = self.in_force.as_ref().and_then(|in_force| in_force.snapshot.base());
        self.spare.iter().map(|spare| &spare.base).chain(in_force)
    }

    /// Serves the overlay that waits, if its base is there.
    fn settle(&mut self) {
        let Some(Waiting { overlay, keys, .. }) = &self.waiting else { return };
        let complete = self.bases().find_map(|base| Layers::over(Arc::clone(overlay), base));
        // A fresh VM has nothing else, and the base has all that the overlay has: see docs/format.md.
        let alone = || {
            let Spare { base, keys } = self.spare.as_ref().filter(|_| self.in_force.is_none())?;
            let is_newer = order(base) >= order(overlay);
            Some((Layers::alone(Arc::clone(base)), keys.as_ref().filter(|_| is_newer)?.clone()))
        };
        if let Some((next, keys)) = complete.map(|next| (next, keys.clone())).or_else(alone) {
            self.serve(next, keys);
        }
    }

    /// From now on, `snapshot` is in force.
    fn serve(&mut self, snapshot: Layers<Vec<u8>>, keys: Keys) {
        if self.waiting.as_ref().is_some_and(|waiting| order(&waiting.overlay) <= order(snapshot.top())) {
            self.waiting = None;
        }
        let is_used = |spare: &Spare| snapshot.base().is_some_and(|used| Arc::ptr_eq(used, &spare.base));
        if self.spare.as_ref().is_some_and(is_used) {
            self.spare = None;
        }
        let (metrics, lists_seen) = (self.metrics, Rc::clone(&self.lists_seen));
        self.in_force = Some(InForce { snapshot, keys, metrics, list_metrics: OnceCell::new(), lists_seen });
    }

    /// Gets the base of the overlay that waits from the host, if it is there.
    #[cold]
    fn recover(&mut self, host: &impl RequestHost) {
        let Some(Waiting { overlay, is_in_vain: is_in_vain @ false, .. }) = &mut self.waiting else { return };
        let Role::Overlay(changes) = &overlay.header().role else { return };
        let Some(base) = host.shared_base(changes.base) else { return };
        // Each attempt takes a copy.
        *is_in_vain = true;
        let base = Snapshot::open_known(base, Some(changes.base));
        if let Ok(mut base) = base
            && base.fingerprint() == changes.base
        {
            base.prepare();
            self.spare = Some(Spare { base: Arc::new(base), keys: None });
            self.settle();
        }
    }
}

/// Not by expiry: if a clock was ahead and is right again, the later snapshot has the earlier expiry, and blocks more.
fn order(snapshot: &Snapshot<Vec<u8>>) -> (u32, u64) {
    (snapshot.header().generation.epoch, snapshot.header().generation.next_offset)
}

impl Keys {
    fn new(snapshot: &Snapshot<Vec<u8>>, host: &impl ConfigurationHost) -> Self {
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

    /// Sets the gauges, once: what they say is in force then. It also defines the metrics of lists that are new. A canary never serves,
    /// so it must do neither: there is one for each shipment, and none knows which metrics those before it have defined.
    fn export(&self, host: &impl MetricsHost) {
        if self.list_metrics.get().is_some() {
            return;
        }
        let header = self.snapshot.header();
        let metrics = header.lists.iter().map(|list| self.lists_seen.metrics_of(list.name, host)).collect();
        // It was not set before.
        let _set = self.list_metrics.set(metrics);
        let (ipv4_ranges, ipv6_ranges) = self.snapshot.ranges();
        set_gauge(host, self.metrics.generation, header.generation.next_offset);
        set_gauge(host, self.metrics.ranges, ipv4_ranges.saturating_add(ipv6_ranges));
        set_gauge(host, self.metrics.as_of, header.as_of / 1000);
        let fresh_from = header.settings.freshness.map_or(0, |freshness| freshness.cut_at);
        set_gauge(host, self.metrics.fresh_from, fresh_from / 1000);
    }

    fn refuse_connection(&self, reason: Reason, host: &impl RequestHost) -> Action {
        self.count_refusal(reason, self.metrics.denied_connections, host);
        host.set_filter_state(CONNECTION_VERDICT, &details(reason));
        host.close_connection();
        Action::Stop
    }

    /// The verdict on a client. Counts everything that does not depend on it.
    fn judge(&self, client: Option<IpAddr>, host: &impl RequestHost) -> Verdict {
        self.export(host);
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
        increment(host, self.list_metrics.get().and_then(|lists| lists.get(list)).and_then(of));
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

impl ListsSeen {
    /// The metrics of a list, which are defined when it is first seen. Beyond [`MOST_LISTS`] it has none.
    fn metrics_of(&self, list: ListName, host: &impl MetricsHost) -> ListMetrics {
        let mut known = self.metrics.borrow_mut();
        if let Some((_, metrics)) = known.iter().find(|(name, _)| *name == list) {
            return *metrics;
        }
        if known.len() >= MOST_LISTS {
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
        known.push((list, metrics));
        metrics
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

fn summary(snapshot: &Snapshot<Vec<u8>>) -> String {
    let header = snapshot.header();
    let shadow = if header.settings.mode == Mode::Shadow { ", in shadow mode" } else { "" };
    let (ipv4_ranges, ipv6_ranges) = header.ranges();
    let lists =
        if let [_default] = &*header.lists { String::new() } else { format!(" on {} lists", header.lists.len()) };
    let base = if header.role == Role::Base { "base" } else { "snapshot" };
    format!(
        "edgefold: {base} of {} at offset {}: {ipv4_ranges} IPv4 and {ipv6_ranges} IPv6 ranges{lists}{shadow}",
        Quoted(&header.name),
        header.generation.next_offset,
    )
}

impl Metrics {
    /// The metrics of a plugin. Its name is the second part of theirs, so that Envoy's `stats_tags` can turn it into a label.
    fn new(plugin: &[u8], host: &impl ConfigurationHost) -> Self {
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
