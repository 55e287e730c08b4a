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

/// A proxy: all streams over one connection with one node id and cluster. An Envoy that has connected again is shown twice until it is
/// known that the old connection is dead.
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
            Heard::Ack { kind, version, is_update } => {
                if let Some(held) = &mut stream.resources[kind as usize] {
                    held.accepted_at = Some(now());
                }
                // Not one that has just started.
                let is_counted =
                    is_update && state.target.versions[kind as usize] == version && kind != FilterKind::Base;
                if let Some(at) = state.target.commanded_at.filter(|_| is_counted) {
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
        let mut proxies: BTreeMap<(&str, &str, SocketAddr), Proxy> = BTreeMap::new();
        for stream in self.streams.values() {
            let Some((node, cluster)) = &stream.node else { continue };
            let address = stream.peer.ip().to_canonical();
            let proxy = proxies.entry((node, cluster, stream.peer)).or_insert_with(|| Proxy {
                node: node.clone(),
                cluster: cluster.clone(),
                address,
                since: stream.since,
                resources: Default::default(),
                unknown: Vec::new(),
            });
            for kind in FilterKind::ALL {
                let (of_proxy, held) = (&mut proxy.resources[kind as usize], &stream.resources[kind as usize]);
                // Of several streams for one resource, the one that is behind counts.
                let target = &self.target.versions[kind as usize];
                if of_proxy.as_ref().is_none_or(|of_proxy| of_proxy.version.as_ref() == Some(target)) && held.is_some()
                {
                    of_proxy.clone_from(held);
                }
            }
            proxy.unknown.extend(stream.unknown.iter().cloned());
        }
        proxies.into_values().collect()
    }
}

/// The epoch and the offset in a version: whoever has it accounts for all commands below the offset.
fn generation_in(version: &str) -> Option<(u32, u64)> {
    let (epoch, rest) = match version.split_once(':').map(|(epoch, rest)| (epoch.parse(), rest)) {
        Some((Ok(epoch), rest)) => (epoch, rest),
        // The other colons are those of times.
        _ => (0, version),
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((epoch, rest[..digits].parse().ok()?))
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
            let wanted = &target.versions[kind as usize];
            let (epoch, offset) = generation_in(version)?;
            // Offsets of another epoch may be those of another log.
            if epoch != generation_in(wanted)?.0 {
                return None;
            }
            let offset = if version == wanted { target.covers } else { offset.min(target.covers) };
            enforces = Some(enforces.map_or(offset, |enforces: u64| enforces.min(offset)));
        }
        enforces
    }

    /// Whether it has all that it should have. Blocks that have ended since are a new version of the same offset.
    fn is_current(&self, target: &Target) -> bool {
        let is_current = |kind: FilterKind| {
            self.resources[kind as usize].is_none() || self.version(kind) == Some(&target.versions[kind as usize])
        };
        is_current(FilterKind::Http) && is_current(FilterKind::Network) && self.enforces(target).is_some()
    }

    /// Whether it has a filter, rather than only a base.
    fn has_filter(&self) -> bool {
        [FilterKind::Http, FilterKind::Network].iter().any(|kind| self.resources[*kind as usize].is_some())
    }

    /// Whether it should enforce something: it has a filter, or asks for one by a wrong name.
    fn should_enforce(&self) -> bool {
        self.has_filter() || !self.unknown.is_empty()
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
            "has_filter": self.has_filter(),
            "resources": resources,
            "unknown_resources": self.unknown,
        })
    }
}

impl Report {
    /// The proxies that should enforce all commands below this offset, and do not.
    fn late(&self, next_offset: u64) -> impl Iterator<Item = &Proxy> {
        let is_late = move |proxy: &&Proxy| proxy.enforces(&self.target).is_none_or(|offset| offset < next_offset);
        self.proxies.iter().filter(|proxy| proxy.should_enforce()).filter(is_late)
    }

    /// The same, as they are in `/fleet`.
    pub(crate) fn late_json(&self, next_offset: u64) -> Vec<Value> {
        self.late(next_offset).map(|proxy| proxy.json(&self.target)).collect()
    }

    /// Whether no proxy is late, and what is shipped accounts for all commands below this offset.
    pub(crate) fn is_enforced(&self, next_offset: u64) -> bool {
        self.target.covers >= next_offset && self.late(next_offset).next().is_none()
    }

    /// Whether a proxy with a filter is connected.
    pub(crate) fn has_proxies(&self) -> bool {
        self.proxies.iter().any(Proxy::has_filter)
    }

    /// How many proxies with a filter do not enforce everything yet that is shipped.
    pub(crate) fn behind(&self) -> usize {
        let is_behind = |proxy: &&Proxy| proxy.should_enforce() && !proxy.is_current(&self.target);
        self.proxies.iter().filter(is_behind).count()
    }

    /// As `/fleet` returns it.
    pub(crate) fn json(&self) -> Value {
        let proxies: Vec<Value> = self.proxies.iter().map(|proxy| proxy.json(&self.target)).collect();
        json!({ "next_offset": self.target.covers, "proxies": proxies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(http: Option<&str>, base: Option<&str>) -> Proxy {
        let held = |version: Option<&str>| Some(Held { version: version.map(str::to_owned), ..Held::default() });
        Proxy {
            node: "edge-1".to_owned(),
            cluster: "edge".to_owned(),
            address: IpAddr::from([127, 0, 0, 1]),
            since: now(),
            resources: [held(http), None, base.and_then(|base| held(Some(base)))],
            unknown: Vec::new(),
        }
    }

    #[test]
    fn a_version_says_which_commands_it_accounts_for_and_which_base_it_needs() {
        for (version, generation, base) in [
            ("1042#00ff", Some((0, 1042)), None),
            ("1042/b0cc6707ae634e46#00ff", Some((0, 1042)), Some("b0cc6707ae634e46")),
            ("7@2026-11-23T03:00:00Z#00ff", Some((0, 7)), None),
            ("2:7@2026-11-23T03:00:00Z+2026-11-23T03:15:00Z/b0cc#00ff", Some((2, 7)), Some("b0cc")),
            ("", None, None),
            ("forged", None, None),
        ] {
            assert_eq!((generation_in(version), base_in(version)), (generation, base), "{version}");
        }
    }

    #[test]
    fn a_proxy_enforces_what_it_has_in_full() {
        let versions = ["9/b1#1", "9/b1#2", "5/b1#3"].map(str::to_owned);
        let target = Target { versions, covers: 12, ..Target::default() };
        let enforces = |http, base| proxy(http, base).enforces(&target);
        assert_eq!(enforces(Some("9/b1#1"), Some("5/b1#3")), Some(12), "nothing has changed since");
        assert_eq!(enforces(Some("7/b1#9"), Some("5/b1#3")), Some(7));
        assert_eq!(enforces(Some("9/b1#1"), Some("3/b0#3")), None, "it waits for the base");
        assert_eq!(enforces(Some("9/b1#1"), None), None, "it does not ask for the base");
        assert_eq!(enforces(Some("7#9"), None), Some(7), "a whole snapshot needs none");
        assert_eq!(enforces(None, Some("5/b1#3")), None, "it has no snapshot yet");
        assert_eq!(enforces(Some("99#9"), None), Some(12), "it cannot know more than there is");
        assert_eq!(enforces(Some("1:99#9"), None), None, "that is another log");
        let report = |proxies| Report { target: target.clone(), proxies };
        let current = || proxy(Some("9/b1#1"), Some("5/b1#3"));
        assert!(report(vec![current()]).is_enforced(12) && !report(vec![current()]).is_enforced(13));
        assert!(!report(vec![current(), proxy(Some("7#9"), None)]).is_enforced(8));
        assert!(report(vec![]).is_enforced(12) && !report(vec![]).has_proxies());
        assert_eq!(report(vec![current(), proxy(None, None), proxy(Some("7#9"), None)]).behind(), 2);
    }
}
