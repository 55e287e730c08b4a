//! The largest snapshots that there may be, in a real Envoy: each of its VMs has to change from one to the next. It takes about 40
//! seconds and 8 GB of memory.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod json;

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use edgefold_snapshot::{
    Fingerprint, Generation, ListAction, ListName, MAX_SNAPSHOT_BYTES, NewList, NewOverlayList, NewSnapshot, Settings,
    make_base,
};
use edgefold_snapshotter::modules::FILTER;
use edgefold_snapshotter::replace::replace_file;
use edgefold_snapshotter::ship::ecds::{Code, FailurePolicy, FilterHost, FilterKind, Payload, Resource};
use edgefold_table::{AddressRange, IpRange};
use edgefold_tests::{Edgefold, Envoy, eventually, http_manager};

use crate::json::{Json, with_json};

/// How a snapshot travels.
#[derive(Clone, Copy, Debug)]
enum Form {
    Bytes,
    Json(Json),
}

impl Form {
    /// The most ranges of [`snapshot`] that fit.
    fn most_ranges(self) -> u32 {
        match self {
            Self::Bytes => 8_790_000,
            Self::Json(_) => 6_550_000,
        }
    }

    /// The most bytes of a snapshot.
    fn limit(self) -> usize {
        match self {
            Self::Bytes => MAX_SNAPSHOT_BYTES,
            Self::Json(_) => MAX_SNAPSHOT_BYTES / 4 * 3,
        }
    }
}

/// A snapshot of one blocked address and this number of IPv6 ranges.
fn snapshot(next_offset: u64, blocked: &str, ranges: u32) -> Vec<u8> {
    // Not a prefix, and far from each other: these take the most bytes for a range.
    let range = |first| AddressRange::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(first + 1)).unwrap();
    let ranges = (0..ranges).map(|at| IpRange::V6(range(u128::from(at) << 100 | 1)));
    let generation = Generation { epoch: 0, next_offset, expiry: None };
    let settings = &Settings::default();
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings, cut_at: 0 };
    new.encode_default_list([blocked.parse().unwrap()].into_iter().chain(ranges)).unwrap()
}

fn resource(kind: FilterKind, shipment: u64, snapshot: Bytes) -> Vec<u8> {
    let shipment = &*shipment.to_string();
    let (name, host) = ("edgefold", FilterHost::Wasm(FailurePolicy::Reload));
    let (code, snapshot) = (Code::Inline(FILTER), Payload::Inline(snapshot));
    Resource { kind, name, version: shipment, shipment, host, code, snapshot }.encode()
}

fn ship_as(kind: FilterKind, file: &Path, shipment: u64, snapshot: Vec<u8>) {
    replace_file(file, &resource(kind, shipment, snapshot.into())).unwrap();
}

fn ship(file: &Path, form: Form, shipment: u64, snapshot: Vec<u8>) {
    match form {
        Form::Bytes => ship_as(FilterKind::Http, file, shipment, snapshot),
        Form::Json(json) => {
            let resource = resource(FilterKind::Http, shipment, Bytes::new());
            replace_file(file, &with_json(&resource, json, &snapshot)).unwrap();
        }
    }
}

/// An Envoy with one worker. Its main thread has a VM as well.
fn start_envoy(edgefold: &Edgefold) -> Envoy {
    let directory = PathBuf::from(edgefold.path("envoy"));
    std::fs::create_dir(&directory).unwrap();
    let mut configuration = CONFIGURATION.replace("HTTP_MANAGER", &http_manager("edgefold", &edgefold.ecds_file()));
    let base = edgefold.base_ecds_file();
    if base.exists() {
        configuration += &BASE_LISTENER.replace("HTTP_MANAGER", &http_manager("edgefold-base", &base));
    }
    Envoy::start_with(&directory, &configuration, 1)
}

/// A VM has 1 GiB. JSON used to need more of it than there was: the VMs trapped, and Envoy let everything pass.
#[test]
fn workers_change_from_one_snapshot_of_the_greatest_size_to_the_next() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let edgefold = Edgefold::uninitialized();
    let file = edgefold.ecds_file();
    let blocked = |shipment: u64| format!("127.0.0.{shipment}");
    let ship_largest = |form: Form, shipment: u64| {
        let snapshot = snapshot(shipment, &blocked(shipment), form.most_ranges());
        let (least, most) = (form.limit() / 100 * 99, form.limit());
        assert!((least..=most).contains(&snapshot.len()), "{} bytes are not {least} to {most}", snapshot.len());
        ship(&file, form, shipment, snapshot);
    };
    ship_largest(Form::Bytes, 1);
    let envoy = start_envoy(&edgefold);
    let status = |shipment| envoy.client(&blocked(shipment)).status();
    assert_eq!((status(1), status(2)), (Some(403), Some(200)));
    for (shipment, form) in (2..).zip([Form::Bytes, Form::Bytes, Form::Json(Json::Text), Form::Json(Json::Struct)]) {
        ship_largest(form, shipment);
        eventually(&format!("shipment {shipment}, {form:?}"), || (status(shipment) == Some(403)).then_some(()));
        assert_eq!(status(shipment - 1), Some(200), "{form:?}");
    }
    let counted = |name| envoy.metric(name, "edgefold");
    assert_eq!((counted("snapshot_rejected"), counted("snapshot_kept")), (Some(0), Some(0)));

    let mut over = snapshot(6, &blocked(6), 0);
    over.resize(MAX_SNAPSHOT_BYTES + 1, 0);
    ship(&file, Form::Bytes, 6, over);
    eventually("the canary's refusal", || (counted("snapshot_rejected") == Some(1)).then_some(()));
    assert_eq!((status(5), status(6)), (Some(403), Some(200)));
    assert_eq!(counted("snapshot_kept"), Some(0), "no worker has seen it");
    let rejected = envoy.admin("stats?filter=http_filter.edgefold.update_rejected");
    assert_eq!(rejected, "extension_config_discovery.http_filter.edgefold.update_rejected: 1\n");
}

/// In the worst case a worker has a base in force and another one that waits for its overlay when a third comes.
#[test]
fn workers_change_from_one_base_of_the_greatest_size_to_the_next() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let edgefold = Edgefold::uninitialized();
    let blocked = |shipment: u64| format!("127.0.0.{shipment}");
    let ship_base = |shipment: u64| {
        let mut base = snapshot(shipment, &blocked(shipment), Form::Bytes.most_ranges());
        make_base(&mut base);
        let fingerprint = Fingerprint::of(&base).unwrap();
        ship_as(FilterKind::Base, &edgefold.base_ecds_file(), shipment, base);
        fingerprint
    };
    let ship_overlay = |shipment: u64, base: Fingerprint| {
        let generation = Generation { epoch: 0, next_offset: shipment, expiry: None };
        let (settings, action) = (Settings::default(), ListAction::default());
        let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
        let added = NewList { name: ListName::DEFAULT, action: &action, ranges: Vec::new() };
        let overlay = new.encode_overlay(base, [NewOverlayList { added, removed: Some(Vec::new()) }]).unwrap();
        ship_as(FilterKind::Http, &edgefold.ecds_file(), shipment, overlay);
    };
    ship_overlay(1, ship_base(1));
    let envoy = start_envoy(&edgefold);
    let status = |shipment| envoy.client(&blocked(shipment)).status();
    assert_eq!((status(1), status(2)), (Some(403), Some(200)));
    let bases = || envoy.output().matches("edgefold: base of").count();
    for shipment in 2..4 {
        // A base that no overlay is for, and the next one, which replaces it.
        let before = bases();
        ship_base(10 * shipment);
        eventually("the worker and the main thread to have the base", || (bases() >= before + 2).then_some(()));
        ship_overlay(shipment, ship_base(shipment));
        eventually(&format!("shipment {shipment}"), || (status(shipment) == Some(403)).then_some(()));
        assert_eq!(status(shipment - 1), Some(200));
    }
    let counted = |name| envoy.metric(name, "edgefold");
    assert_eq!((counted("snapshot_rejected"), counted("snapshot_kept")), (Some(0), Some(0)));
}

/// Each takes gigabytes.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const CONFIGURATION: &str = r#"
node: { id: edge-1, cluster: edge }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
stats_config:
  stats_tags: [ { tag_name: edgefold_filter, regex: '^wasmcustom\.edgefold_filter\.(([^.]+)\.)' } ]
static_resources:
  listeners:
  - name: ingress
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - HTTP_MANAGER
"#;

/// What is added to it for a base.
const BASE_LISTENER: &str = r#"
  - name: edgefold-base
    bind_to_port: false
    address: { socket_address: { address: 127.0.0.1, port_value: 1 } }
    filter_chains:
    - filters:
      - HTTP_MANAGER
"#;
