//! One xDS stream, without its IO: what a proxy asks for, what it has, and what to send next.
//!
//! The rules are those of the [xDS protocol](https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol), with four of our own:
//!
//! - A resource is never removed, and a name that does not exist gets no answer: Envoy would drop its filter.
//! - A response has one resource: Envoy's ECDS takes no more at a time.
//! - Envoy refuses a resource whose module it has to fetch first. So a proxy that has nothing yet gets the module inside its first
//!   resources. Then it gets a small one once more without the module, so that it fetches the module before the next change.
//! - Nothing more of a resource is sent until the proxy has answered what was sent before. So a slow proxy skips to the newest.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fleet::base_in;
use super::resources::{Form, Offer, Resources};
use crate::ship::ecds::{EXTENSION_CONFIG, FilterKind};

/// Texts of a client are cut to this length before they are kept.
const MOST_TEXT: usize = 512;
/// How many names of resources that do not exist are kept, to tell people.
const MOST_UNKNOWN: usize = 8;
/// The requests that a client may send beside those that answer a response, and how many more each second.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 10.0;
/// How soon a resource that was refused is sent again: twice as late each time, up to the second of these.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A proxy that refuses a resource this many times may not be able to fetch the module.
const MOST_FETCHES: u32 = 4;
/// When it may try again.
const FETCH_AGAIN: Duration = Duration::from_secs(300);
/// How long a client may take to answer a response. What it has not answered stays in memory.
const MOST_SILENCE: Duration = Duration::from_secs(300);

/// The variants of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    /// The state of the world: each request names all resources.
    Sotw,
    /// Incremental: each request says what changes.
    Delta,
}

/// A request of either protocol.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Request {
    /// The id and the cluster of the proxy, in the first request at least.
    pub(super) node: Option<(String, String)>,
    pub(super) type_url: String,
    /// The response that this is an answer to; empty if none.
    pub(super) nonce: String,
    /// Why the proxy refused that response.
    pub(super) error: Option<String>,
    pub(super) names: Names,
}

/// Which resources a client wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Names {
    /// These, and it has this version of the last that it accepted.
    All { names: Vec<String>, version: String },
    /// These in addition, and these no more. It has these versions, if this is its first request.
    Changes { subscribe: Vec<String>, unsubscribe: Vec<String>, has: HashMap<String, String> },
}

impl Default for Names {
    fn default() -> Self {
        Self::All { names: Vec::new(), version: String::new() }
    }
}

/// Why a stream is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Violation {
    #[error("the first request must have a node with an id: set `node` in Envoy's bootstrap")]
    NoNode,
    #[error("over ADS each request must have a type_url")]
    NoType,
    #[error("this service has resources of type {EXTENSION_CONFIG} only")]
    OtherType,
    #[error("too many requests that answer no response")]
    TooMany,
}

/// What a request did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// It answers nothing.
    Nothing,
    /// The proxy has accepted this version. It had another one before, if this `is_update`.
    Ack { kind: FilterKind, version: String, is_update: bool },
    /// The proxy has refused this version.
    Nack { kind: FilterKind, version: String, message: String },
}

/// A response to be sent.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) nonce: u64,
    pub(super) offer: Arc<Offer>,
    pub(super) form: Form,
}

/// What is known about a stream.
#[derive(Debug)]
pub(super) struct Session {
    protocol: Protocol,
    is_aggregated: bool,
    node: Option<(String, String)>,
    /// Whether a request for our type has come.
    has_asked: bool,
    /// Whether the client has ever named a resource, so that no names mean none and not all.
    has_named: bool,
    is_wildcard: bool,
    slots: [Slot; FilterKind::ALL.len()],
    unknown: BTreeSet<String>,
    last_nonce: u64,
    allowance: f64,
    refilled_at: Instant,
}

/// What is known about one resource on a stream.
#[derive(Debug, Default)]
pub(super) struct Slot {
    is_named: bool,
    /// Whether the client wants it.
    pub(super) is_subscribed: bool,
    /// The version that the client has.
    pub(super) has: Option<String>,
    /// Whether it has only accepted resources with the module in them, though it could fetch the module.
    is_cold: bool,
    /// Until when it is not asked to fetch the module, because it has tried often enough.
    no_fetch_until: Option<Instant>,
    /// What was sent, and is not answered yet.
    pub(super) sent: Option<Sent>,
    /// What the client has refused, until it accepts something.
    pub(super) refused: Option<Refused>,
}

/// What was sent.
#[derive(Debug)]
pub(super) struct Sent {
    nonce: u64,
    at: Instant,
    version: String,
    /// Whether the proxy has to fetch the module, or could have.
    is_remote: bool,
    form: Form,
}

/// What was refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    version: String,
    pub(super) times: u32,
    retry_at: Instant,
}

impl Session {
    /// A stream that has just started. On one that `is_aggregated`, the client asks for resources of other types too.
    pub(super) fn new(protocol: Protocol, is_aggregated: bool, now: Instant) -> Self {
        Self {
            protocol,
            is_aggregated,
            node: None,
            has_asked: false,
            has_named: false,
            is_wildcard: false,
            slots: Default::default(),
            unknown: BTreeSet::new(),
            last_nonce: 0,
            allowance: BURST,
            refilled_at: now,
        }
    }

    /// The id and the cluster of the proxy, once it has said them.
    pub(super) fn node(&self) -> Option<&(String, String)> {
        self.node.as_ref()
    }

    /// What is known about the resource of this kind.
    pub(super) fn slot(&self, kind: FilterKind) -> &Slot {
        &self.slots[kind as usize]
    }

    /// Names that the client wants, and that do not exist.
    pub(super) fn unknown(&self) -> &BTreeSet<String> {
        &self.unknown
    }

    /// Takes a request that came at `now`.
    ///
    /// # Errors
    /// [`Violation`]: the stream is to be ended.
    pub(super) fn take(&mut self, request: Request, resources: &Resources, now: Instant) -> Result<Heard, Violation> {
        if let Some((id, cluster)) = request.node.filter(|(id, _)| !id.is_empty()) {
            self.node.get_or_insert_with(|| (shortened(id), shortened(cluster)));
        }
        if self.node.is_none() {
            return Err(Violation::NoNode);
        }
        match request.type_url.as_str() {
            EXTENSION_CONFIG => {}
            "" if self.is_aggregated => return Err(Violation::NoType),
            "" => {}
            _ if self.is_aggregated => {
                // It gets no answer: an empty one would take everything of that type from Envoy.
                self.pay(now)?;
                return Ok(Heard::Nothing);
            }
            _ => return Err(Violation::OtherType),
        }
        let heard = match self.answered(&request.nonce) {
            Some(kind) => self.answer(kind, request.error, now),
            None => {
                self.pay(now)?;
                Heard::Nothing
            }
        };
        match request.names {
            Names::All { names, version } => self.want_all(&names, &version, resources),
            Names::Changes { subscribe, unsubscribe, has } => {
                // Whoever subscribes again gets something again.
                if self.has_asked && !subscribe.is_empty() {
                    self.pay(now)?;
                }
                self.change(&subscribe, &unsubscribe, &has, resources);
            }
        }
        self.has_asked = true;
        Ok(heard)
    }

    /// Counts a request that answers nothing.
    fn pay(&mut self, now: Instant) -> Result<(), Violation> {
        let since = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.allowance = (self.allowance + since * PER_SECOND).min(BURST) - 1.0;
        self.refilled_at = now;
        if self.allowance < 0.0 { Err(Violation::TooMany) } else { Ok(()) }
    }

    /// The resource whose response this nonce is of, if that is still to be answered. Any other nonce is stale: what the request
    /// says about a response is ignored, but not which resources it wants.
    fn answered(&self, nonce: &str) -> Option<FilterKind> {
        let nonce: u64 = nonce.parse().ok()?;
        let is_of = |kind: &FilterKind| self.slot(*kind).sent.as_ref().is_some_and(|sent| sent.nonce == nonce);
        FilterKind::ALL.into_iter().find(is_of)
    }

    /// Only `error` tells a refusal from an acceptance.
    fn answer(&mut self, kind: FilterKind, error: Option<String>, now: Instant) -> Heard {
        let slot = &mut self.slots[kind as usize];
        let Some(sent) = slot.sent.take() else { return Heard::Nothing };
        let Sent { version, is_remote, form, .. } = sent;
        let Some(message) = error.map(shortened) else {
            let is_update = slot.has.as_ref().is_some_and(|has| *has != version);
            (slot.has, slot.refused) = (Some(version.clone()), None);
            slot.is_cold = is_remote && form == Form::Inline;
            return Heard::Ack { kind, version, is_update };
        };
        let has_to_fetch = slot.refused.is_none() && is_remote && form == Form::Usual;
        let times = slot.refused.as_ref().map_or(0, |refused| refused.times).saturating_add(1);
        if is_remote && form == Form::Usual && times >= MOST_FETCHES {
            slot.no_fetch_until = Some(now + FETCH_AGAIN);
        }
        let wait = FIRST_RETRY.saturating_mul(1 << (times - 1).min(16)).min(LAST_RETRY);
        slot.refused = Some(Refused { version: version.clone(), times, retry_at: now + wait });
        if has_to_fetch { Heard::Nothing } else { Heard::Nack { kind, version, message } }
    }

    /// The state of the world: these are all names. On the first request without names, all resources are wanted.
    fn want_all(&mut self, names: &[String], version: &str, resources: &Resources) {
        self.has_named |= !names.is_empty();
        self.is_wildcard = !self.has_named || names.iter().any(|name| name == "*");
        self.unknown.clear();
        self.slots.iter_mut().for_each(|slot| slot.is_named = false);
        for name in names.iter().filter(|name| *name != "*") {
            match resources.kind_of(name) {
                Some(kind) => self.slots[kind as usize].is_named = true,
                None => self.note_unknown(name),
            }
        }
        // One version for all resources says nothing about each of several.
        let is_one = names.len() == 1 && !self.is_wildcard;
        let has = (!self.has_asked && is_one && !version.is_empty()).then(|| shortened(version.to_owned()));
        for slot in &mut self.slots {
            slot.subscribe(slot.is_named || self.is_wildcard, has.as_ref());
        }
    }

    fn change(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        has: &HashMap<String, String>,
        resources: &Resources,
    ) {
        let is_first = !self.has_asked;
        self.is_wildcard |= is_first && subscribe.is_empty();
        for name in subscribe {
            match resources.kind_of(name) {
                _ if name == "*" => self.is_wildcard = true,
                Some(kind) => {
                    let slot = &mut self.slots[kind as usize];
                    // Whoever subscribes again wants it again.
                    if slot.is_subscribed && !is_first {
                        slot.has = None;
                    }
                    slot.is_named = true;
                }
                None => self.note_unknown(name),
            }
        }
        for name in unsubscribe {
            match resources.kind_of(name) {
                _ if name == "*" => self.is_wildcard = false,
                Some(kind) => {
                    let slot = &mut self.slots[kind as usize];
                    slot.is_named = false;
                    // As one of all resources it is still wanted, and the client has to be told so.
                    slot.has = None;
                }
                None => drop(self.unknown.remove(name)),
            }
        }
        for kind in FilterKind::ALL {
            let has = has.get(&resources.get(kind).name).filter(|_| is_first).cloned().map(shortened);
            let slot = &mut self.slots[kind as usize];
            slot.subscribe(slot.is_named || self.is_wildcard, has.as_ref());
        }
    }

    fn note_unknown(&mut self, name: &str) {
        if self.unknown.len() < MOST_UNKNOWN {
            self.unknown.insert(shortened(name.to_owned()));
        }
    }

    /// The next response to send at `now`, if there is one. It counts as sent.
    pub(super) fn next(&mut self, resources: &Resources, now: Instant) -> Option<Response> {
        // With the state of the world, a newer nonce would make the one before it stale.
        if self.protocol == Protocol::Sotw && self.slots.iter().any(|slot| slot.sent.is_some()) {
            return None;
        }
        // What a proxy has to fetch it refuses at first, and an Envoy that starts waits for no resource any more once it has refused one.
        let has_all = self.slots.iter().all(|slot| !slot.is_subscribed || slot.has.is_some());
        let is_due = |kind: &FilterKind| self.slot(*kind).is_due(resources.get(*kind), has_all, now);
        // The base first: without it, nothing else serves.
        let kind = [FilterKind::Base, FilterKind::Http, FilterKind::Network].into_iter().find(is_due)?;
        let (slot, offer) = (self.slot(kind), Arc::clone(resources.get(kind)));
        let is_remote = offer.is_remote();
        let needs_module = slot.has.is_none() || slot.may_not_fetch(now);
        let form = if is_remote && needs_module { Form::Inline } else { Form::Usual };
        self.last_nonce += 1;
        let nonce = self.last_nonce;
        let sent = Sent { nonce, at: now, version: offer.version.clone(), is_remote, form };
        self.slots[kind as usize].sent = Some(sent);
        Some(Response { nonce, offer, form })
    }

    /// How long after `now` something that was refused is due again.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let retries = self.slots.iter().filter(|slot| slot.is_subscribed && slot.sent.is_none());
        retries
            .flat_map(|slot| {
                [slot.refused.as_ref().map(|refused| refused.retry_at), slot.no_fetch_until.filter(|_| slot.is_cold)]
            })
            .filter_map(|at| Some(at?.saturating_duration_since(now)))
            .filter(|wait| !wait.is_zero())
            .min()
    }

    /// Whether the client has a filter that needs a base, and does not ask for that on this stream.
    pub(super) fn waits_for_base(&self) -> bool {
        let needs_base = |kind| self.slot(kind).has.as_deref().and_then(base_in).is_some();
        !self.slot(FilterKind::Base).is_subscribed && (needs_base(FilterKind::Http) || needs_base(FilterKind::Network))
    }

    /// When a response is overdue to be answered.
    pub(super) fn answer_deadline(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| Some(slot.sent.as_ref()?.at + MOST_SILENCE)).min()
    }
}

impl Slot {
    /// Whether this resource is to be sent at `now`, if only so that the proxy fetches the module.
    fn is_due(&self, offer: &Offer, may_fetch: bool, now: Instant) -> bool {
        // A base is not sent again for the module: it is large, and the others need the same module.
        let is_cold = self.is_cold && offer.kind != FilterKind::Base && !self.may_not_fetch(now);
        let is_wanted = self.has.as_ref() != Some(&offer.version) || (is_cold && may_fetch);
        self.is_subscribed
            && self.sent.is_none()
            && is_wanted
            && self.refused.as_ref().is_none_or(|refused| refused.is_over(&offer.version, now))
    }

    fn may_not_fetch(&self, now: Instant) -> bool {
        self.no_fetch_until.is_some_and(|until| now < until)
    }

    /// Sets whether the client wants it. If that is new, it has the version `has`.
    fn subscribe(&mut self, is_subscribed: bool, has: Option<&String>) {
        if !is_subscribed {
            *self = Self::default();
        } else if !self.is_subscribed {
            *self = Self { is_named: self.is_named, is_subscribed, has: has.cloned(), ..Self::default() };
        }
    }
}

impl Refused {
    /// Whether it is time to send `version` at `now`. One that was not refused is sent at once, unless most are refused.
    fn is_over(&self, version: &str, now: Instant) -> bool {
        self.retry_at <= now || (self.version != version && self.times < 3)
    }
}

/// Cuts a text of a client to what is kept.
fn shortened(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
    }
    text
}
