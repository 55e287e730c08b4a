//! Snapshots of which everything that can be seen tells which one it is, and hosts that configure a filter with them and ask it.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use edgefold_filter::configuration::ConfigurationError;
use edgefold_filter::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};
use edgefold_filter::serving::{Action, Serving};
use edgefold_filter_native::process::{MetricKind, MetricNames, MetricsDefiner, SharedFilter};
use edgefold_snapshot::{
    Fingerprint, Generation, ListAction, NewList, NewOverlayList, NewSnapshot, Settings, make_base,
};
use edgefold_table::IpRange;

/// A host that has one snapshot, or names it, and remembers the names of metrics.
#[derive(Default)]
pub(crate) struct Configuring {
    pub(crate) snapshot: Vec<u8>,
    /// Whether the configuration only names the snapshot, and how often that was read.
    pub(crate) is_named: bool,
    pub(crate) reads: Cell<u32>,
    pub(crate) names: RefCell<MetricNames>,
    pub(crate) errors: RefCell<Vec<String>>,
}

impl MetricsHost for Configuring {
    fn increment(&self, _counter: Metric) {}
    fn set_gauge(&self, _gauge: Metric, _value: u64) {}
    fn define_counter(&self, name: &str) -> Option<Metric> {
        self.names.borrow_mut().add(MetricKind::Counter, name)
    }
}

impl ConfigurationHost for Configuring {
    fn has_canary(&self) -> bool {
        false
    }
    fn plugin_name(&self) -> Option<Vec<u8>> {
        None
    }
    fn configuration(&self) -> Option<Vec<u8>> {
        Some(self.snapshot.clone())
    }
    fn named_snapshot(&self, configuration: &[u8]) -> Option<Fingerprint> {
        Fingerprint::of(configuration).filter(|_| self.is_named)
    }
    fn snapshot_in(&self, configuration: Vec<u8>) -> Result<Vec<u8>, ConfigurationError> {
        self.reads.set(self.reads.get() + 1);
        Ok(configuration)
    }
    fn validated(&self, _from: Resource) -> Option<Fingerprint> {
        None
    }
    fn share_validated(&self, _from: Resource, _fingerprint: Fingerprint) {}
    fn share_base(&self, _base: &[u8]) {}
    fn header_key(&self, name: &str) -> Vec<u8> {
        name.as_bytes().to_vec()
    }
    fn define_gauge(&self, name: &str) -> Option<Metric> {
        self.names.borrow_mut().add(MetricKind::Gauge, name)
    }
    fn log(&self, level: Level, line: &str) {
        if level == Level::Error {
            self.errors.borrow_mut().push(line.to_owned());
        }
    }
}

impl MetricsDefiner for Configuring {
    fn define(&self, kind: MetricKind, name: &str) {
        self.names.borrow_mut().add(kind, name);
    }
    fn names(&self) -> MetricNames {
        self.names.borrow().clone()
    }
}

/// A request from one address, and how it was answered.
pub(crate) struct Requesting {
    source: IpAddr,
    answer: RefCell<Option<(u16, String)>>,
}

impl MetricsHost for Requesting {
    fn increment(&self, _counter: Metric) {}
    fn set_gauge(&self, _gauge: Metric, _value: u64) {}
    fn define_counter(&self, _name: &str) -> Option<Metric> {
        None
    }
}

impl RequestHost for Requesting {
    fn shared_base(&self, _fingerprint: Fingerprint) -> Option<Vec<u8>> {
        None
    }
    fn with_plugin_name<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        read(None)
    }
    fn source_address(&self) -> Option<IpAddr> {
        Some(self.source)
    }
    fn connection_address(&self) -> Option<Option<IpAddr>> {
        None
    }
    fn with_header<R>(&self, _key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        read(None)
    }
    fn remove_request_header(&self, _name: &str) {}
    fn add_request_header(&self, _name: &str, _value: &str) {}
    fn set_filter_state(&self, _name: &str, _value: &str) {}
    fn respond(&self, response: &LocalResponse<'_>) {
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        self.answer.replace(Some((response.status, body)));
    }
    fn now(&self) -> u64 {
        0
    }
    fn reset_request(&self) {}
    fn close_connection(&self) {}
}

/// How a request from `source` is answered; `None` if it passes.
pub(crate) fn request(serving: &Serving, source: IpAddr) -> Option<(u16, String)> {
    let host = Requesting { source, answer: RefCell::default() };
    let action = serving.on_request(&host);
    assert_eq!(action == Action::Stop, host.answer.borrow().is_some());
    host.answer.into_inner()
}

/// Everything about generation `number` tells which one it is: the list, the status and the body.
pub(crate) fn settings(number: u64) -> Settings {
    let mut settings = Settings::default();
    settings.refusal.status = 400 + u16::try_from(number % 100).unwrap();
    settings.refusal.body = number.to_string();
    settings
}

pub(crate) fn address_of(number: u64) -> IpAddr {
    IpAddr::from((0x0a00_0000 + u32::try_from(number).unwrap()).to_be_bytes())
}

pub(crate) fn ranges(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpRange> {
    addresses.into_iter().map(|address| IpRange::new(address, address).unwrap()).collect()
}

/// A list of 192.0.2.1 and of the address of its number, whole or as a base.
pub(crate) fn snapshot(number: u64) -> Vec<u8> {
    let (settings, generation) = (settings(number), Generation { next_offset: number, ..Generation::default() });
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    new.encode_default_list(ranges([address_of(number), [192, 0, 2, 1].into()])).unwrap()
}

pub(crate) fn base(number: u64) -> Vec<u8> {
    let mut base = snapshot(number);
    make_base(&mut base);
    base
}

/// An overlay over `base`, with its own address in place of that of the base.
pub(crate) fn overlay(number: u64, base: &[u8], base_number: u64) -> Vec<u8> {
    let (settings, generation) = (settings(number), Generation { next_offset: number, ..Generation::default() });
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    let action = &ListAction::default();
    let added = NewList { name: "default".parse().unwrap(), action, ranges: ranges([address_of(number)]) };
    let removed = Some(ranges([address_of(base_number)]));
    new.encode_overlay(Fingerprint::of(base).unwrap(), [NewOverlayList { added, removed }]).unwrap()
}

pub(crate) fn configure(filter: &SharedFilter, snapshot: Vec<u8>) -> bool {
    let host = Configuring { snapshot, ..Configuring::default() };
    filter.configure(b"edgefold", &host)
}

/// The number of the generation that serves. Everything that can be seen of it must be of the same one.
pub(crate) fn number_of(serving: &Serving) -> u64 {
    let (status, body) = request(serving, [192, 0, 2, 1].into()).expect("it is on each list");
    let number: u64 = body.parse().unwrap();
    assert_eq!(status, settings(number).refusal.status);
    assert_eq!(request(serving, address_of(number)), Some((status, body)));
    assert_eq!(request(serving, address_of(number - 1)), None, "the one before is not on it");
    assert_eq!(request(serving, address_of(number + 1)), None);
    number
}
