//! What was shipped last, for whoever asks. That is what proxies enforce, so a change that is not shipped yet is not in it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use edgefold::{IpRange, ListAction, ListActionText, ListName};
use edgefold_snapshot::{Fingerprint, Layers, ListSet, Mode, Ruling, Snapshot};
use serde_json::{Value, json};

use crate::addresses::Addresses;
use crate::ship::Shipment;

/// The last shipment.
#[derive(Debug, Default)]
pub(crate) struct Shipped {
    shipment: RwLock<Option<Arc<Shipment>>>,
    /// The last one that was asked for.
    opened: Mutex<Option<Arc<Opened>>>,
}

/// A shipment that can be asked.
#[derive(Debug)]
pub(crate) struct Opened {
    shipment: Arc<Shipment>,
    layers: Layers<Bytes>,
    lists: Mutex<Option<Arc<Vec<ListCount>>>>,
}

/// How much is on a list.
#[derive(Clone, Debug)]
pub(crate) struct ListCount {
    pub(crate) name: String,
    pub(crate) action: ListAction,
    pub(crate) ranges: u64,
    pub(crate) ipv4_addresses: u64,
    pub(crate) ipv6_addresses: u128,
}

impl Shipped {
    /// This was shipped.
    pub(crate) fn set(&self, shipment: &Arc<Shipment>) {
        *self.shipment.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(shipment));
    }

    /// The last shipment; `None` before the first.
    pub(crate) fn open(&self) -> Option<Arc<Opened>> {
        let shipment = self.shipment.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = opened.as_ref().filter(|opened| Arc::ptr_eq(&opened.shipment, &shipment)) {
            return Some(Arc::clone(opened));
        }
        // This process has encoded it.
        let known = Fingerprint::of(&shipment.snapshot);
        let snapshot = Arc::new(Snapshot::open_known(shipment.snapshot.clone(), known).ok()?);
        let layers = match shipment.base.as_ref().filter(|_| shipment.is_overlay) {
            Some(base) => Layers::over(snapshot, base)?,
            None => Layers::alone(snapshot),
        };
        Some(Arc::clone(opened.insert(Arc::new(Opened { shipment, layers, lists: Mutex::default() }))))
    }
}

impl Opened {
    /// Whether there is a list with this name.
    pub(crate) fn has_list(&self, name: &ListName) -> bool {
        self.layers.header().lists.iter().any(|list| list.name == *name)
    }

    /// The number of lists, with the default list.
    pub(crate) fn lists_count(&self) -> usize {
        self.layers.header().lists.len()
    }

    /// What is on each list. It takes as long as the lists are large, but only once.
    pub(crate) fn lists(&self) -> Arc<Vec<ListCount>> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |index: usize, header: &edgefold_snapshot::ListHeader| {
            let Addresses { ranges, ipv4, ipv6 } = Addresses::of(self.layers.iter(index));
            let (name, action) = (header.name.to_string(), header.action.clone());
            ListCount { name, action, ranges, ipv4_addresses: ipv4, ipv6_addresses: ipv6 }
        };
        let all = || self.layers.header().lists.iter().enumerate().map(|(index, list)| count(index, list)).collect();
        Arc::clone(lists.get_or_insert_with(|| Arc::new(all())))
    }

    /// As `/lists` returns it.
    pub(crate) fn lists_json(&self) -> Value {
        let lists: Vec<Value> = self.lists().iter().map(ListCount::json).collect();
        json!({ "version": self.shipment.version, "lists": lists })
    }

    /// What happens to the client `ip`, as `/check` returns it.
    pub(crate) fn check_json(&self, ip: IpAddr) -> Value {
        let (ip, header) = (ip.to_canonical(), self.layers.header());
        let kinds = header.lists.iter().map(|list| list.action.kind());
        let applies = |index: usize| header.lists.get(index).is_some_and(|list| list.action.applies_to(ip));
        let ruling = Ruling::new(kinds, |index| self.layers.contains(index, ip), applies);
        let name = |index: usize| header.lists.get(index).map(|list| list.name.to_string());
        let names = |set: ListSet| set.iter().filter_map(name).collect::<Vec<_>>();
        let (action, list, shadow, tag) = match ruling {
            Ruling::Pass => ("pass", None, vec![], vec![]),
            Ruling::Exempt(list) => ("exempt", name(list), vec![], vec![]),
            Ruling::Deny(list) => ("deny", name(list), vec![], vec![]),
            Ruling::Mark { shadow, tag } => ("pass", None, names(shadow), names(tag)),
        };
        let entry = |(index, list): (usize, &edgefold_snapshot::ListHeader)| {
            let range: IpRange = self.layers.range(index, ip)?;
            let does = ListActionText(&list.action).to_string();
            Some(json!({ "list": list.name.to_string(), "does": does, "first": range.first(), "last": range.last() }))
        };
        let entries: Vec<Value> = header.lists.iter().enumerate().filter_map(entry).collect();
        json!({
            "address": ip,
            "version": self.shipment.version,
            "mode": if header.settings.mode == Mode::Shadow { "shadow" } else { "enforce" },
            "verdict": { "action": action, "list": list, "shadow": shadow, "tag": tag },
            "entries": entries,
        })
    }
}

impl ListCount {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "action": self.action.name(),
            "does": ListActionText(&self.action).to_string(),
            "ranges": self.ranges,
            "ipv4_addresses": self.ipv4_addresses,
            // Numbers of JSON are often read as floating point.
            "ipv6_addresses": self.ipv6_addresses.to_string(),
        })
    }
}
