//! Who is connected, and who enforces what.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgefold::{LogTime, now};
use prometheus_client::metrics::histogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::session::{Heard, Session};
use crate::admin::histogram;
use crate::ship::ecds::FilterKind;

/// Events that a slow listener has not read yet. It misses what is more.
const MOST_EVENTS: usize = 1024;

/// All streams, and what the proxies at their other ends have said.
#[derive(Debug)]
pub(crate) struct Fleet {
    state: Mutex<State>,
    /// Changes whenever anything does.
    changed: watch::Sender<u64>,
    events: broadcast::Sender<String>,
    /// How long after a command was appended a proxy had accepted it.
    pub(crate) command_to_ack: Histogram,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    streams: BTreeMap<u64, Stream>,
    target: Target,
    counts: Counts,
}

/// What every proxy should have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    /// The versions, by kind.
    pub(crate) versions: [String; FilterKind::ALL.len()],
    /// The names of the resources, by kind.
    pub(crate) names: [String; FilterKind::ALL.len()],
    /// All commands below this offset are accounted for by them.
    pub(crate) covers: u64,
    /// The time of the oldest command that came with them.
    pub(crate) commanded_at: Option<LogTime>,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Responses sent, by kind.
    pub(crate) pushes: [u64; FilterKind::ALL.len()],
    /// Bytes of resources sent, by kind.
    pub(crate) pushed_bytes: [u64; FilterKind::ALL.len()],
    /// Responses refused.
    pub(crate) nacks: u64,
}

/// One stream.
#[derive(Debug)]
struct Stream {
    peer: SocketAddr,
    since: LogTime,
    node: Option<(String, String)>,
    resources: [Option<Held>; FilterKind::ALL.len()],
    unknown: Vec<String>,
}

/// What a proxy has of a resource that it wants.
#[derive(Clone, Debug, Default)]
struct Held {
    version: Option<String>,
    accepted_at: Option<LogTime>,
    nack: Option<Nack>,
}

/// What a proxy has refused.
#[derive(Clone, Debug)]
struct Nack {
    version: String,
    message: String,
    times: u32,
    at: LogTime,
}

/// A proxy: all streams from one address with one node id and cluster.
#[derive(Debug)]
pub(crate) struct Proxy {
    node: String,
    cluster: String,
    address: IpAddr,
    since: LogTime,
    resources: [Option<Held>; FilterKind::ALL.len()],
    unknown: Vec<String>,
}

/// The state of all proxies.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) target: Target,
    pub(crate) proxies: Vec<Proxy>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(MOST_EVENTS),
            command_to_ack: histogram(),
        }
    }
}

impl Fleet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// What changes whenever anything does.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What happens from now on, each event a line of JSON.
    pub(crate) fn events(&self) -> broadcast::Receiver<String> {
        self.events.subscribe()
    }

    /// Tells whoever listens. The event is only made if somebody does.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Value) {
        if self.events.receiver_count() > 0 {
            let _heard = self.events.send(event().to_string());
        }
    }

    /// Every proxy should have this now.
    pub(crate) fn set_target(&self, target: Target) {
        self.state().target = target;
        self.changed();
    }

    /// What every proxy should have accounts for all commands below this offset. The oldest of those that came since the last time
    /// was appended at `oldest`.
    pub(crate) fn note_covered(&self, next_offset: u64, oldest: Option<LogTime>) {
        let mut state = self.state();
        state.target.commanded_at = oldest.or(state.target.commanded_at);
        if state.target.covers < next_offset {
            state.target.covers = next_offset;
            drop(state);
            self.changed();
        }
    }

    /// What was counted since the start, and how many streams there are.
    pub(crate) fn counts(&self) -> (Counts, usize) {
        let state = self.state();
        (state.counts.clone(), state.streams.len())
    }

    pub(super) fn connect(&self, peer: SocketAddr) -> u64 {
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        let stream = Stream { peer, since: now(), node: None, resources: Default::default(), unknown: Vec::new() };
        state.streams.insert(id, stream);
        id
    }

    pub(super) fn disconnect(&self, id: u64) {
        let stream = self.state().streams.remove(&id);
        if let Some((node, cluster)) = stream.as_ref().and_then(|stream| stream.node.as_ref()) {
            let address = stream.as_ref().map(|stream| stream.peer);
            self.tell(|| json!({ "event": "disconnected", "node": node, "cluster": cluster, "address": address }));
        }
        self.changed();
    }

    /// Whether the proxy with this id and cluster, at this address, asks for a base on any stream.
    pub(super) fn has_base(&self, node: Option<&(String, String)>, address: IpAddr) -> bool {
        self.state().streams.values().any(|stream| {
            stream.node.as_ref() == node
                && stream.peer.ip() == address
                && stream.resources[FilterKind::Base as usize].is_some()
        })
    }

    pub(super) fn note_sent(&self, kind: FilterKind, bytes: usize) {
        let mut state = self.state();
        state.counts.pushes[kind as usize] += 1;
        state.counts.pushed_bytes[kind as usize] += bytes as u64;
    }

    /// A request has come, and `heard` is what it did.
    pub(super) fn note(&self, id: u64, session: &Session, heard: Heard) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(stream) = state.streams.get_mut(&id) else { return };
        if stream.node.is_none() {
            stream.node = session.node().cloned();
            let node = stream.node.clone().unwrap_or_default();
            self.tell(|| json!({ "event": "connected", "node": node.0, "cluster": node.1, "address": stream.peer }));
        }
        stream.unknown = session.unknown().iter().cloned().collect();
        for kind in FilterKind::ALL {
            let (slot, held) = (session.slot(kind), &mut stream.resources[kind as usize]);
            if slot.is_subscribed {
                let held = held.get_or_insert_default();
                held.version.clone_from(&slot.has);
                if slot.refused.is_none() {
                    held.nack = None;
                }
            } else {
                *held = None;
            }
        }
        let (node, peer) = (stream.node.clone().unwrap_or_default().0, stream.peer);
        match heard {
            Heard::Nothing => {}
            Heard::Ack { kind, version } => {
                if let Some(held) = &mut stream.resources[kind as usize] {
                    held.accepted_at = Some(now());
                }
                let is_target = state.target.versions[kind as usize] == version && kind != FilterKind::Base;
                if let Some(at) = state.target.commanded_at.filter(|_| is_target) {
                    let took = Duration::from_millis(now().millis().saturating_sub(at.millis()));
                    self.command_to_ack.observe(took.as_secs_f64());
                }
                self.tell(|| json!({ "event": "ack", "node": node, "address": peer, "version": version }));
            }
            Heard::Nack { kind, version, message } => {
                state.counts.nacks += 1;
                let times = session.slot(kind).refused.as_ref().map_or(1, |refused| refused.times);
                if let Some(held) = &mut stream.resources[kind as usize] {
                    held.nack = Some(Nack { version: version.clone(), message: message.clone(), times, at: now() });
                }
                self.tell(|| {
                    json!({ "event": "nack", "node": node, "address": peer, "version": version, "message": message })
                });
            }
        }
        drop(guard);
        self.changed();
    }

    /// Who has what now.
    pub(crate) fn report(&self) -> Report {
        let state = self.state();
        Report { target: state.target.clone(), proxies: state.proxies() }
    }
}

impl State {
    fn proxies(&self) -> Vec<Proxy> {
        let mut proxies: BTreeMap<(&str, &str, IpAddr), Proxy> = BTreeMap::new();
        // The newest stream counts: an old one may not have been noticed to be gone yet.
        for stream in self.streams.values() {
            let Some((node, cluster)) = &stream.node else { continue };
            let address = stream.peer.ip().to_canonical();
            let proxy = proxies.entry((node, cluster, address)).or_insert_with(|| Proxy {
                node: node.clone(),
                cluster: cluster.clone(),
                address,
                since: stream.since,
                resources: Default::default(),
                unknown: Vec::new(),
            });
            for (of_proxy, held) in proxy.resources.iter_mut().zip(&stream.resources) {
                if held.is_some() {
                    of_proxy.clone_from(held);
                }
            }
            proxy.unknown.extend(stream.unknown.iter().cloned());
        }
        proxies.into_values().collect()
    }
}

/// The offset in a version: the proxy that has it accounts for all commands below. It follows the epoch, if that is not 0.
fn offset_in(version: &str) -> Option<u64> {
    let generation = version.split_once(':').filter(|(epoch, _)| epoch.parse::<u32>().is_ok());
    let rest = generation.map_or(version, |(_, rest)| rest);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The fingerprint of the base in a version.
pub(super) fn base_in(version: &str) -> Option<&str> {
    let before_hash = version.split_once('#').map_or(version, |(version, _)| version);
    before_hash.rsplit_once('/').map(|(_, base)| base)
}

impl Proxy {
    fn version(&self, kind: FilterKind) -> Option<&str> {
        self.resources[kind as usize].as_ref()?.version.as_deref()
    }

    /// All commands below this offset are enforced by it, as far as it has said; `None` if it has no filter, or one that waits for its base.
    fn enforces(&self, target: &Target) -> Option<u64> {
        let mut enforces = None;
        for kind in [FilterKind::Http, FilterKind::Network] {
            if self.resources[kind as usize].is_none() {
                continue;
            }
            let version = self.version(kind)?;
            let base = base_in(version);
            if base.is_some() && base != self.version(FilterKind::Base).and_then(base_in) {
                return None;
            }
            let is_target = version == target.versions[kind as usize];
            let offset = if is_target { target.covers } else { offset_in(version)?.min(target.covers) };
            enforces = Some(enforces.map_or(offset, |enforces: u64| enforces.min(offset)));
        }
        enforces
    }

    /// Whether it has a filter, rather than only a base.
    fn has_filter(&self) -> bool {
        [FilterKind::Http, FilterKind::Network].iter().any(|kind| self.resources[*kind as usize].is_some())
    }

    fn json(&self, target: &Target) -> Value {
        let resources: Vec<Value> = FilterKind::ALL
            .into_iter()
            .filter_map(|kind| {
                let held = self.resources[kind as usize].as_ref()?;
                let nack = held.nack.as_ref().map(|nack| {
                    json!({
                        "version": nack.version,
                        "message": nack.message,
                        "times": nack.times,
                        "at": nack.at.to_string(),
                    })
                });
                Some(json!({
                    "name": target.names[kind as usize],
                    "version": held.version,
                    "accepted_at": held.accepted_at.map(|at| at.to_string()),
                    "is_current": held.version.as_ref() == Some(&target.versions[kind as usize]),
                    "nack": nack,
                }))
            })
            .collect();
        json!({
            "node": self.node,
            "cluster": self.cluster,
            "address": self.address,
            "connected_at": self.since.to_string(),
            "enforces_below": self.enforces(target),
            "resources": resources,
            "unknown_resources": self.unknown,
        })
    }
}

impl Report {
    /// Whether all proxies that have a filter enforce all commands below this offset, and what is shipped accounts for these.
    pub(crate) fn is_enforced(&self, next_offset: u64) -> bool {
        let enforces = |proxy: &Proxy| proxy.enforces(&self.target).is_some_and(|offset| offset >= next_offset);
        self.target.covers >= next_offset && self.proxies.iter().all(|proxy| !proxy.has_filter() || enforces(proxy))
    }

    /// Whether a proxy with a filter is connected.
    pub(crate) fn has_proxies(&self) -> bool {
        self.proxies.iter().any(Proxy::has_filter)
    }

    /// How many proxies with a filter do not enforce everything yet that is shipped.
    pub(crate) fn behind(&self) -> usize {
        let is_behind = |proxy: &&Proxy| {
            proxy.has_filter() && proxy.enforces(&self.target).is_none_or(|of| of < self.target.covers)
        };
        self.proxies.iter().filter(is_behind).count()
    }

    /// As `/fleet` returns it.
    pub(crate) fn json(&self) -> Value {
        let proxies: Vec<Value> = self.proxies.iter().map(|proxy| proxy.json(&self.target)).collect();
        json!({ "next_offset": self.target.covers, "proxies": proxies })
    }
}
