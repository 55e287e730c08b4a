//! The resources that all streams deliver, with what is large in them in memory that they share.

use std::sync::Arc;

use bytes::Bytes;
use edgefold_snapshot::Fingerprint;
use xxhash_rust::xxh3::Xxh3;

use crate::ship::ecds::{Code, FilterHost, FilterKind, Payload, Resource};
use crate::ship::{Shipment, cut};

/// How Envoy gets the module over gRPC. A dynamic module only comes from a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Module {
    /// From the server of the resources, by its SHA-256. Envoy refuses a resource whose module it has to fetch first, and one that starts opens
    /// its listener after a refusal. So a proxy that has nothing yet gets the module inside its first resources.
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
    pub(super) host: FilterHost,
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
}

/// The forms in which a resource can be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// As [`XdsConfig`](super::XdsConfig) says.
    Usual,
    /// With the module in it.
    Inline,
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
        let this = Self { kind, name, version, shipment: Arc::clone(shipment), common: Arc::clone(common) };
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
        add(self.name.as_bytes());
        add(self.common.sha256.as_bytes());
        add(format!("{:?} {:?} {}", self.common.module, self.common.host, self.common.uri).as_bytes());
        hash.digest()
    }

    fn snapshot(&self) -> Bytes {
        match self.shipment.base.as_ref().filter(|_| self.kind == FilterKind::Base) {
            Some(base) => base.bytes().clone(),
            None => self.shipment.snapshot.clone(),
        }
    }

    /// Whether the module is fetched if it is sent in the usual form.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.common.module, Module::Remote { .. })
    }

    /// The encoded `Any` in parts, of which the snapshot and the module are shared by all. `id` must never come again: Envoy remembers the
    /// bytes that it refused last, and if it gets the same again, it accepts them and does nothing with them.
    pub(super) fn encode(&self, form: Form, id: &str) -> Vec<Bytes> {
        let Common { host, module, sha256, uri } = &*self.common;
        let code = match module {
            _ if form == Form::Inline => Code::Inline(self.shipment.module),
            Module::Remote { cluster } => Code::Remote { uri, cluster, sha256 },
            Module::File(path) => Code::File(path),
            Module::Inline => Code::Inline(self.shipment.module),
        };
        let resource = Resource {
            kind: self.kind,
            name: &self.shipment.name,
            version: &self.version,
            shipment: id,
            host: *host,
            code,
            snapshot: Payload::Inline(self.snapshot()),
        };
        resource.encode_parts()
    }
}
