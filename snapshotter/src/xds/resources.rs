//! The resources that all streams deliver, each encoded once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use edgefold_snapshot::Fingerprint;
use xxhash_rust::xxh3::Xxh3;

use crate::ship::ecds::{Code, FailurePolicy, FilterKind, Resource};
use crate::ship::{Shipment, cut};

/// How Envoy gets the wasm module over gRPC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Module {
    /// From the server of the resources, by its SHA-256. A proxy that has nothing yet gets it inside the resource: it opens its listener even if
    /// it refuses the first resource, and has to refuse one with a module that it has to fetch.
    Remote {
        /// The cluster in Envoy's configuration that has that server.
        cluster: String,
    },
    /// From a file on Envoy's host.
    File(String),
    /// In each resource.
    Inline,
}

/// What resources have in common, whatever is shipped.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) failure_policy: FailurePolicy,
    pub(super) module: Module,
    /// The SHA-256 of the module in hexadecimal.
    pub(super) sha256: String,
    pub(super) uri: String,
}

/// The resources of one shipment. They are never removed, because Envoy would drop its filter with them.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    by_kind: [Arc<Offer>; FilterKind::ALL.len()],
}

/// One of them.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) kind: FilterKind,
    pub(super) name: String,
    /// Equal on all replicas if what it does is equal, and different if not.
    pub(super) version: String,
    shipment: Arc<Shipment>,
    common: Arc<Common>,
    /// The number of times that a proxy refused it, or was cut off before it answered.
    failures: AtomicU32,
    /// The encodings after the latest number of failures.
    encoded: Mutex<HashMap<Form, Encoded>>,
}

/// The forms in which a resource can be sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Form {
    /// As [`XdsConfig`](super::XdsConfig) says.
    Usual,
    /// With the module in it.
    Inline,
}

/// What is sent of a resource.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    /// The encoded `Any`.
    pub(super) any: Bytes,
    pub(super) form: Form,
    failures: u32,
}

impl Resources {
    /// Those of `shipment`. What is the same as `before` is the same resource.
    pub(super) fn new(shipment: &Arc<Shipment>, common: &Arc<Common>, before: Option<&Self>) -> Self {
        let by_kind = FilterKind::ALL.map(|kind| {
            let offer = Offer::new(kind, shipment, common);
            match before.map(|before| before.get(kind)) {
                Some(before) if before.version == offer.version => Arc::clone(before),
                _ => Arc::new(offer),
            }
        });
        Self { by_kind }
    }

    pub(super) fn get(&self, kind: FilterKind) -> &Arc<Offer> {
        &self.by_kind[kind as usize]
    }

    /// The base; `None` if the lists are small, so that it has nothing in it.
    pub(super) fn base(&self) -> Option<Bytes> {
        let shipment = &self.get(FilterKind::Http).shipment;
        shipment.base.as_ref().filter(|_| shipment.is_overlay).map(|base| base.bytes().clone())
    }

    /// The kind of the resource with this name.
    pub(super) fn kind_of(&self, name: &str) -> Option<FilterKind> {
        FilterKind::ALL.into_iter().find(|kind| self.get(*kind).name == name)
    }
}

impl Offer {
    fn new(kind: FilterKind, shipment: &Arc<Shipment>, common: &Arc<Common>) -> Self {
        let name = kind.resource_name(&shipment.name);
        let base = shipment.base.as_deref().filter(|_| kind == FilterKind::Base);
        let version = base.map_or_else(|| shipment.version.clone(), cut::base_version);
        let this = Self {
            kind,
            name,
            version,
            shipment: Arc::clone(shipment),
            common: Arc::clone(common),
            failures: AtomicU32::new(0),
            encoded: Mutex::default(),
        };
        let version = format!("{}#{:016x}", this.version, this.hash());
        Self { version, ..this }
    }

    /// What it does, without the id that tells shipments apart. A proxy that has it needs nothing from another replica.
    fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        // The snapshot has a checksum over all of it.
        let snapshot = Fingerprint::of(&self.snapshot()).map(Fingerprint::to_bytes).unwrap_or_default();
        add(&snapshot);
        add(self.common.sha256.as_bytes());
        add(format!("{:?} {:?} {}", self.common.module, self.common.failure_policy, self.common.uri).as_bytes());
        hash.digest()
    }

    fn snapshot(&self) -> Bytes {
        match self.shipment.base.as_ref().filter(|_| self.kind == FilterKind::Base) {
            Some(base) => base.bytes().clone(),
            None => self.shipment.snapshot.clone(),
        }
    }

    /// What to send now: the same for all proxies, until one of them has [failed](Offer::failed) to take it. Envoy remembers the bytes that it
    /// refused last: if it gets the same again, it accepts them, and does nothing with them.
    pub(super) fn encoded(&self, form: Form) -> Encoded {
        let failures = self.failures.load(Ordering::Relaxed);
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        encoded.retain(|_, encoded| encoded.failures == failures);
        let encode = || Encoded { any: self.encode(form, failures), form, failures };
        encoded.entry(form).or_insert_with(encode).clone()
    }

    /// Whether the module is fetched if it is sent in the usual form.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.common.module, Module::Remote { .. })
    }

    /// A proxy has refused what was sent, or was cut off, so that it may have refused it. It gets other bytes next time.
    pub(super) fn failed(&self, sent: &Encoded) {
        self.failures.fetch_max(sent.failures.saturating_add(1), Ordering::Relaxed);
    }

    fn encode(&self, form: Form, failures: u32) -> Bytes {
        let Common { failure_policy, module, sha256, uri } = &*self.common;
        let code = match module {
            _ if form == Form::Inline => Code::Inline(self.shipment.module),
            Module::Remote { cluster } => Code::Remote { uri, cluster, sha256 },
            Module::File(path) => Code::File(path),
            Module::Inline => Code::Inline(self.shipment.module),
        };
        let base = self.shipment.base.as_ref().filter(|_| self.kind == FilterKind::Base);
        let what = base.map_or_else(String::new, |base| format!("{}.", base.fingerprint()));
        // The id of the shipment tells it from what other processes send.
        let id = format!("{what}{}.{failures}", self.shipment.id);
        let resource = Resource {
            kind: self.kind,
            name: &self.shipment.name,
            version: &self.version,
            shipment: &id,
            code,
            snapshot: self.snapshot(),
            failure_policy: *failure_policy,
        };
        resource.encode_any().into()
    }
}
