//! The filter over a host that is a few fields: what it decides, natively and without any ABI.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use edgefold_filter::filter::{Action, Filter};
use edgefold_filter::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};
use edgefold_snapshot::{
    ClientAddress, Fingerprint, Freshness, Generation, ListAction, Mode, NewList, NewOverlayList, NewSnapshot,
    NoAddress, Refusal, Role, Settings, Share, Snapshot, TrustedProxies, WhenStale, make_base,
};
use edgefold_table::IpRange;

/// Status, content type, body and details.
type Response = (u16, Option<String>, Vec<u8>, String);

/// A host, and what the filter has done to it.
#[derive(Default)]
struct FakeHost {
    plugin: Vec<u8>,
    configuration: Option<Vec<u8>>,
    /// For the filter and for its base.
    validated: [Cell<Option<Fingerprint>>; 2],
    shared_base: RefCell<Option<Vec<u8>>>,
    asked_for_base: Cell<u32>,
    now: Cell<Option<u64>>,
    source: Option<IpAddr>,
    connection: Option<Option<IpAddr>>,
    header: Option<Vec<u8>>,
    metrics: RefCell<Vec<(String, u64)>>,
    filter_state: RefCell<BTreeMap<String, String>>,
    /// Whether the client sends the header for tags, which is removed then.
    forges: bool,
    removed: RefCell<Vec<String>>,
    added: RefCell<Vec<(String, String)>>,
    response: RefCell<Option<Response>>,
    is_closed: Cell<bool>,
    is_reset: Cell<bool>,
    log: RefCell<Vec<(Level, String)>>,
}

impl MetricsHost for FakeHost {
    fn increment(&self, Metric(counter): Metric) {
        self.metrics.borrow_mut()[counter as usize].1 += 1;
    }

    fn set_gauge(&self, Metric(gauge): Metric, value: u64) {
        self.metrics.borrow_mut()[gauge as usize].1 = value;
    }

    fn define_counter(&self, name: &str) -> Option<Metric> {
        let mut metrics = self.metrics.borrow_mut();
        metrics.push((name.to_owned(), 0));
        Some(Metric(u32::try_from(metrics.len() - 1).unwrap()))
    }
}

impl ConfigurationHost for FakeHost {
    fn plugin_name(&self) -> Option<Vec<u8>> {
        Some(self.plugin.clone())
    }

    fn configuration(&self) -> Option<Vec<u8>> {
        self.configuration.clone()
    }

    fn validated(&self, from: Resource) -> Option<Fingerprint> {
        self.validated[from as usize].get()
    }

    fn share_validated(&self, from: Resource, fingerprint: Fingerprint) {
        self.validated[from as usize].set(Some(fingerprint));
    }

    fn share_base(&self, base: &[u8]) {
        assert_eq!(Snapshot::open(base).unwrap().header().role, Role::Base);
        self.shared_base.replace(Some(base.to_vec()));
    }

    fn header_key(&self, name: &str) -> Vec<u8> {
        format!("key of {name}").into_bytes()
    }

    fn define_gauge(&self, name: &str) -> Option<Metric> {
        self.define_counter(name)
    }

    fn log(&self, level: Level, line: &str) {
        self.log.borrow_mut().push((level, line.to_owned()));
    }
}

impl RequestHost for FakeHost {
    fn shared_base(&self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        let is_there = self.validated[Resource::Base as usize].get() == Some(fingerprint);
        let base = self.shared_base.borrow().clone().filter(|_| is_there);
        self.asked_for_base.set(self.asked_for_base.get() + u32::from(base.is_some()));
        base
    }

    fn with_plugin_name<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        read(Some(&self.plugin))
    }

    fn source_address(&self) -> Option<IpAddr> {
        self.source
    }

    fn connection_address(&self) -> Option<Option<IpAddr>> {
        self.connection
    }

    fn with_header<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        match key {
            b"key of X-Real-IP" => read(self.header.as_deref()),
            b"key of x-edgefold-lists" | b"key of x-on" => read(self.forges.then_some(b"".as_slice())),
            _ => panic!("the filter needs no other header"),
        }
    }

    fn remove_request_header(&self, name: &str) {
        self.removed.borrow_mut().push(name.to_owned());
    }

    fn add_request_header(&self, name: &str, value: &str) {
        self.added.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        self.filter_state.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    fn respond(&self, response: &LocalResponse<'_>) {
        let LocalResponse { status, content_type, body, details, .. } = *response;
        let content_type = content_type.map(str::to_owned);
        let before = self.response.replace(Some((status, content_type, body.to_vec(), details.to_owned())));
        assert_eq!(before, None, "a request is answered once");
    }

    fn now(&self) -> u64 {
        self.now.get().expect("the clock is not read unless the settings limit the age")
    }

    fn reset_request(&self) {
        self.is_reset.set(true);
    }

    fn close_connection(&self) {
        self.is_closed.set(true);
    }
}

impl FakeHost {
    fn metric(&self, name: &str) -> u64 {
        let name = format!("edgefold_filter.{name}");
        let found: Vec<u64> =
            self.metrics.borrow().iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect();
        assert_eq!(found.len(), 1, "{name} is defined once");
        found[0]
    }

    /// The outcome of a request from `source`: the status, and the response code details.
    fn request(&mut self, filter: &mut Filter, source: &str) -> Option<(u16, String)> {
        self.source = source.parse().ok();
        self.filter_state.borrow_mut().clear();
        let action = filter.on_request(self);
        let response = self.response.take();
        assert_eq!(action, if response.is_some() { Action::Stop } else { Action::Continue });
        response.map(|(status, _, _, details)| (status, details))
    }

    /// Whether a connection from `source` is accepted.
    fn connects(&mut self, filter: &mut Filter, source: &str) -> bool {
        self.source = source.parse().ok();
        let action = filter.on_connection(self);
        assert_eq!(action == Action::Stop, self.is_closed.get());
        !self.is_closed.take()
    }
}

/// A snapshot in which 10.0.0.0/24 is blocked.
fn snapshot(settings: &Settings) -> Vec<u8> {
    snapshot_of(Generation { epoch: 0, next_offset: 7, expiry: None }, settings)
}

fn snapshot_of(generation: Generation, settings: &Settings) -> Vec<u8> {
    snapshot_with(generation, settings, &[("default", ListAction::default(), "10.0.0.0/24")])
}

fn snapshot_with(generation: Generation, settings: &Settings, lists: &[(&str, ListAction, &str)]) -> Vec<u8> {
    let cut_at = settings.freshness.map_or(0, |freshness| freshness.cut_at);
    let new = NewSnapshot { name: "edgefold", generation, as_of: 5_000, settings, cut_at };
    let lists = lists.iter().map(|(name, action, range)| NewList {
        name: name.parse().unwrap(),
        action,
        ranges: range.parse().into_iter().collect::<Vec<IpRange>>(),
    });
    new.encode(lists).unwrap()
}

fn configured_with(settings: &Settings, lists: &[(&str, ListAction, &str)]) -> (Filter, FakeHost) {
    let (mut filter, mut host) = (Filter::new(), FakeHost { plugin: b"my.list".to_vec(), ..FakeHost::default() });
    host.configuration = Some(snapshot_with(Generation::default(), settings, lists));
    assert!(filter.on_configure(&host), "{:?}", host.log);
    (filter, host)
}

fn configured(settings: &Settings) -> (Filter, FakeHost) {
    let (mut filter, mut host) = (Filter::new(), FakeHost { plugin: b"my.list".to_vec(), ..FakeHost::default() });
    host.configuration = Some(snapshot(settings));
    assert!(filter.on_configure(&host), "{:?}", host.log);
    (filter, host)
}

const DENIED: &str = "edgefold_denied[default:10.0.0.0-10.0.0.255]";

#[test]
fn blocked_clients_are_refused_and_counted() {
    let (mut filter, mut host) = configured(&Settings::default());
    assert_eq!(host.request(&mut filter, "10.0.0.7"), Some((403, DENIED.to_owned())));
    assert_eq!(host.request(&mut filter, "10.0.1.7"), None);
    assert!(!host.connects(&mut filter, "10.0.0.7") && host.connects(&mut filter, "10.0.1.7"));
    assert_eq!(host.filter_state.borrow().get("edgefold_connection").map(String::as_str), Some(DENIED));
    let metrics = ["denied", "denied_connections", "shadow_denied", "no_address", "generation", "ranges"];
    assert_eq!(host.metric("my%2elist.as_of_timestamp_seconds"), 5);
    assert_eq!(metrics.map(|name| host.metric(&format!("my%2elist.{name}"))), [1, 1, 0, 0, 7, 1]);
    host.source = "10.0.0.7".parse().ok();
    filter.on_request(&host);
    let (_, content_type, body, _) = host.response.take().unwrap();
    assert_eq!((content_type.as_deref(), &*body), (Some("text/plain"), &b"Forbidden\n"[..]));
}

#[test]
fn bytes_of_a_connection_are_judged_by_the_newest_snapshot() {
    let (mut filter, mut host) = configured(&Settings::default());
    host.source = "10.0.1.7".parse().ok();
    assert_eq!((filter.on_data(&host), host.is_closed.get()), (Action::Continue, false));
    host.source = "10.0.0.7".parse().ok();
    assert_eq!((filter.on_data(&host), host.is_closed.get()), (Action::Stop, true));
    assert_eq!(host.metric("my%2elist.denied_connections"), 1);
    let (mut filter, mut host) = configured(&Settings { mode: Mode::Shadow, ..Settings::default() });
    host.source = "10.0.0.7".parse().ok();
    assert_eq!((filter.on_data(&host), host.is_closed.get()), (Action::Continue, false));
    assert_eq!((filter.on_request_data(&host), host.is_reset.get()), (Action::Continue, false));
}

#[test]
fn bytes_of_a_request_are_judged_by_the_address_that_its_headers_were() {
    let client_address = ClientAddress::Header {
        name: "X-Real-IP".to_owned(),
        trusted_hops: 1,
        trusted_proxies: TrustedProxies::default(),
    };
    let (mut filter, mut host) = configured(&Settings { client_address, ..Settings::default() });
    (host.source, host.header) = ("10.0.0.7".parse().ok(), Some(b"10.0.1.7".to_vec()));
    assert_eq!((filter.on_request_data(&host), host.is_reset.get()), (Action::Continue, false));
    host.header = Some(b"10.0.0.7".to_vec());
    assert_eq!((filter.on_request_data(&host), host.is_reset.get()), (Action::Stop, true));
    assert_eq!((host.metric("my%2elist.denied"), host.metric("my%2elist.no_address")), (1, 0));
    assert_eq!(host.filter_state.borrow().get("edgefold").map(String::as_str), Some(DENIED));
    assert!(host.response.take().is_none(), "its response may have begun");
}

#[test]
fn in_shadow_mode_clients_pass_with_a_filter_state() {
    let (mut filter, mut host) = configured(&Settings { mode: Mode::Shadow, ..Settings::default() });
    assert_eq!(host.request(&mut filter, "10.0.0.7"), None);
    assert_eq!(host.filter_state.borrow().get("edgefold").cloned(), Some(format!("shadow_{DENIED}")));
    assert!(host.connects(&mut filter, "10.0.0.7"));
    let metrics = ["shadow_denied", "shadow_denied_connections", "denied", "denied_connections"];
    assert_eq!(metrics.map(|name| host.metric(&format!("my%2elist.{name}"))), [1, 1, 0, 0]);
    assert!(host.log.borrow()[0].1.ends_with("1 IPv4 and 0 IPv6 ranges, in shadow mode"), "{:?}", host.log);
}

#[test]
fn a_rejected_configuration_leaves_the_last_one_in_place() {
    let (mut filter, mut host) = configured(&Settings::default());
    for configuration in [Some(b"EDGEFOLD".to_vec()), None] {
        host.configuration = configuration;
        assert!(
            !Filter::new().on_configure(&FakeHost { configuration: host.configuration.clone(), ..FakeHost::default() })
        );
        // Envoy would let every request on this worker pass.
        assert!(filter.on_configure(&host), "a worker that serves keeps serving");
    }
    assert_eq!((host.metric("my%2elist.snapshot_rejected"), host.metric("my%2elist.snapshot_kept")), (0, 2));
    assert_eq!(host.log.borrow().iter().filter(|(level, _)| *level == Level::Error).count(), 2);
    assert!(host.request(&mut filter, "10.0.0.7").is_some());
    assert_eq!(host.request(&mut filter, "10.0.1.7"), None);
}

#[test]
fn without_a_snapshot_nothing_passes() {
    let (mut filter, mut host) = (Filter::new(), FakeHost::default());
    assert_eq!(host.request(&mut filter, "10.0.1.7"), Some((503, "edgefold_denied[no_snapshot]".to_owned())));
    assert!(!host.connects(&mut filter, "10.0.1.7"));
    assert_eq!((filter.on_data(&host), host.is_closed.get()), (Action::Stop, true));
    assert_eq!((filter.on_request_data(&host), host.is_reset.get()), (Action::Stop, true));
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer_one() {
    let generation = |epoch, next_offset, expiry| Generation { epoch, next_offset, expiry };
    let before = generation(1, 7, Some(500));
    for (next, is_accepted) in [
        (before, true),
        (generation(1, 8, None), true),
        (generation(1, 7, Some(501)), true),
        (generation(2, 0, None), true),
        // A clock was ahead, and is right again.
        (generation(1, 7, Some(499)), true),
        (generation(1, 7, None), true),
        (generation(1, 6, Some(900)), false),
        (generation(0, 9, Some(900)), false),
    ] {
        let (mut filter, mut host) = (Filter::new(), FakeHost { plugin: b"my.list".to_vec(), ..FakeHost::default() });
        host.configuration = Some(snapshot_of(before, &Settings::default()));
        assert!(filter.on_configure(&host));
        host.configuration = Some(snapshot_of(next, &Settings { mode: Mode::Shadow, ..Settings::default() }));
        // A worker that serves nothing yet must not reject what a canary has accepted, whatever came in the meantime.
        assert!(Filter::new().on_configure(&host));
        assert!(filter.on_configure(&host));
        assert_eq!(host.request(&mut filter, "10.0.0.7").is_none(), is_accepted, "{next:?} is in shadow mode");
        let refused = "it is older than the one in force";
        assert_eq!(host.log.borrow().iter().any(|(_, line)| line.contains(refused)), !is_accepted);
        // Another plugin has generations of its own.
        host.plugin = b"other".to_vec();
        assert!(Filter::new().on_configure(&host));
    }
}

/// A canary accepts a snapshot before any worker serves it, and some time may pass in between.
#[test]
fn gauges_say_what_is_in_force() {
    let (mut canary, mut host) = (Filter::new(), FakeHost { plugin: b"my.list".to_vec(), ..FakeHost::default() });
    let generation =
        |next_offset| snapshot_of(Generation { next_offset, ..Generation::default() }, &Settings::default());
    host.configuration = Some(generation(7));
    assert!(canary.on_configure(&host));
    assert_eq!(host.metric("my%2elist.generation"), 0);
    host.metrics = RefCell::default();
    let mut worker = Filter::new();
    assert!(worker.on_configure(&host));
    assert_eq!(host.metric("my%2elist.generation"), 7);
    // A host that has no canary: whoever serves a request serves.
    host.configuration = Some(generation(8));
    assert!(worker.on_configure(&host));
    assert_eq!(host.metric("my%2elist.generation"), 7);
    assert_eq!(host.request(&mut worker, "10.0.1.7"), None);
    assert_eq!(host.metric("my%2elist.generation"), 8);
}

#[test]
fn plugins_in_one_vm_are_told_apart_by_their_names() {
    let (mut filter, mut host) = configured(&Settings::default());
    host.plugin = b"other".to_vec();
    let empty = Settings { no_address: NoAddress::Deny, ..Settings::default() };
    let generation = Generation { epoch: 0, next_offset: 9, expiry: None };
    host.configuration = Some(snapshot_with(generation, &empty, &[("default", ListAction::default(), "none")]));
    assert!(filter.on_configure(&host));
    assert_eq!(host.request(&mut filter, "10.0.0.7"), None);
    assert_eq!(host.request(&mut filter, "none"), Some((403, "edgefold_denied[no_address]".to_owned())));
    host.plugin = b"my.list".to_vec();
    assert!(host.request(&mut filter, "10.0.0.7").is_some());
    host.plugin = b"third".to_vec();
    assert_eq!(host.request(&mut filter, "10.0.1.7").map(|(status, _)| status), Some(503));
    assert_eq!((host.metric("other.no_address"), host.metric("my%2elist.no_address")), (1, 0));
}

#[test]
fn a_stale_snapshot_is_noticed_by_the_clock() {
    let freshness = Some(Freshness { cut_at: 10_000, max_age: 5_000, when_stale: WhenStale::Deny });
    let (mut filter, mut host) = configured(&Settings { freshness, ..Settings::default() });
    host.now.set(Some(15_000));
    assert_eq!(host.request(&mut filter, "10.0.1.7"), None);
    assert_eq!(host.metric("my%2elist.fresh_from_timestamp_seconds"), 10);
    assert_eq!((filter.on_request_data(&host), filter.on_data(&host)), (Action::Continue, Action::Continue));
    host.now.set(Some(15_001));
    assert_eq!(host.request(&mut filter, "10.0.1.7"), Some((503, "edgefold_denied[stale]".to_owned())));
    assert!(!host.connects(&mut filter, "10.0.1.7"));
    assert_eq!((filter.on_request_data(&host), filter.on_data(&host)), (Action::Stop, Action::Stop));
    let metrics = ["stale", "unavailable", "denied", "denied_connections"];
    assert_eq!(metrics.map(|name| host.metric(&format!("my%2elist.{name}"))), [2, 4, 0, 0]);
}

#[test]
fn the_client_is_the_one_that_the_settings_name() {
    let header = |trusted_hops, proxies: &[&str]| ClientAddress::Header {
        name: "X-Real-IP".to_owned(),
        trusted_hops,
        trusted_proxies: TrustedProxies(proxies.iter().map(|range| range.parse().unwrap()).collect()),
    };
    let (blocked, free) = ("10.0.0.7", "192.0.2.1");
    // Source address, connection address, header, and whether the client is refused.
    for (client_address, source, connection, value, refused) in [
        (ClientAddress::Envoy, blocked, Some(free), Some(free), true),
        (ClientAddress::Connection, free, Some(blocked), Some(free), true),
        (ClientAddress::Connection, blocked, None, None, false),
        (header(1, &[]), free, None, Some("10.0.0.7"), true),
        (header(1, &[]), blocked, None, Some("192.0.2.1"), false),
        (header(1, &[]), blocked, None, None, true),
        (header(2, &[]), free, None, Some("10.0.0.7, 192.0.2.1"), true),
        (header(2, &[]), blocked, None, Some("192.0.2.1"), true),
        (header(1, &["192.0.2.0/24"]), free, None, Some("10.0.0.7"), true),
        (header(1, &["192.0.2.0/24"]), "198.51.100.1", None, Some("10.0.0.7"), false),
        // The connection overrides the source address, which may be forged.
        (header(1, &["192.0.2.0/24"]), free, Some("198.51.100.1"), Some("10.0.0.7"), false),
        (header(1, &["192.0.2.0/24"]), "198.51.100.1", Some(free), Some("10.0.0.7"), true),
    ] {
        let (mut filter, mut host) =
            configured(&Settings { client_address: client_address.clone(), ..Settings::default() });
        host.connection = connection.map(|ip| ip.parse().ok());
        host.header = value.map(|value| value.as_bytes().to_vec());
        let outcome = host.request(&mut filter, source);
        assert_eq!(outcome.is_some(), refused, "{client_address:?}, {source}, {connection:?}, {value:?}");
    }
}

/// A list of each action, whose ranges overlap.
fn lists() -> Vec<(&'static str, ListAction, &'static str)> {
    let refusal = Refusal { status: 429, body: "slow down\n".to_owned(), ..Refusal::default() };
    vec![
        ("default", ListAction::default(), "10.0.0.0/24"),
        ("cloud", ListAction::Tag, "10.0.0.0/8"),
        ("feed", ListAction::Deny { share: Share::ALL, refusal: Some(refusal) }, "10.0.0.0/16"),
        ("monitoring", ListAction::Exempt, "10.0.0.7"),
        ("tor.exits", ListAction::Tag, "10.1.0.0-10.2.255.255"),
        ("trial", ListAction::Shadow, "10.2.0.0/16"),
    ]
}

#[test]
fn each_list_does_what_it_is_for() {
    let (mut filter, mut host) = configured_with(&Settings::default(), &lists());
    let denied = |list, range| format!("edgefold_denied[{list}:{range}]");
    let first = denied("default", "10.0.0.0-10.0.0.255");
    assert_eq!(host.request(&mut filter, "10.0.0.8"), Some((403, first)), "of two that refuse, the first one does");
    assert_eq!(host.request(&mut filter, "10.0.1.1"), Some((429, denied("feed", "10.0.0.0-10.0.255.255"))));
    assert_eq!((host.removed.take().len(), host.added.take().len()), (0, 0), "a refused request goes nowhere");
    // Exempt, tagged, tagged twice, marked by both, on no list.
    for (source, tags, state) in [
        ("10.0.0.7", None, None),
        ("10.9.0.1", Some("cloud"), None),
        ("10.1.0.1", Some("cloud,tor.exits"), None),
        ("10.2.0.1", Some("cloud,tor.exits"), Some("shadow_edgefold_denied[trial:10.2.0.0-10.2.255.255]")),
        ("192.0.2.1", None, None),
    ] {
        for forges in [false, true] {
            host.forges = forges;
            let before = host.metrics.borrow().clone();
            assert_eq!(host.request(&mut filter, source), None, "{source}");
            let added: Vec<_> = tags.into_iter().map(|tags| ("x-edgefold-lists".to_owned(), tags.to_owned())).collect();
            assert_eq!(host.added.take(), added);
            let removed = if forges { vec!["x-edgefold-lists".to_owned()] } else { vec![] };
            assert_eq!(host.removed.take(), removed, "{source}: a request that is left alone is not routed again");
            if forges {
                // The first of the two requests counts.
                *host.metrics.borrow_mut() = before;
            }
        }
        assert_eq!(host.filter_state.borrow().get("edgefold").map(String::as_str), state, "{source}");
    }
    let count = |list: &str| {
        ["denied", "shadowed", "exempted", "tagged"].map(|of| host.metric(&format!("my%2elist.list.{list}.{of}")))
    };
    assert_eq!(count("default"), [1, 0, 0, 0]);
    assert_eq!(count("feed"), [1, 0, 0, 0]);
    assert_eq!(count("monitoring"), [0, 0, 1, 0]);
    assert_eq!(count("cloud"), [0, 0, 0, 3]);
    assert_eq!(count("tor%2eexits"), [0, 0, 0, 2]);
    assert_eq!(count("trial"), [0, 1, 0, 0]);
    assert_eq!((host.metric("my%2elist.denied"), host.metric("my%2elist.shadow_denied")), (2, 1));
    assert!(host.log.borrow()[0].1.ends_with("6 IPv4 and 0 IPv6 ranges on 6 lists"), "{:?}", host.log);
}

#[test]
fn connections_honour_exempt_deny_and_shadow() {
    let (mut filter, mut host) = configured_with(&Settings::default(), &lists());
    assert!(!host.connects(&mut filter, "10.0.0.8") && !host.connects(&mut filter, "10.0.1.1"));
    assert!(host.connects(&mut filter, "10.0.0.7") && host.connects(&mut filter, "10.1.0.1"));
    host.filter_state.take();
    assert!(host.connects(&mut filter, "10.2.0.1"));
    let state = host.filter_state.borrow().get("edgefold_connection").cloned();
    assert_eq!(state.as_deref(), Some("shadow_edgefold_denied[trial:10.2.0.0-10.2.255.255]"));
    let metrics = ["denied_connections", "shadow_denied_connections", "list.monitoring.exempted", "list.cloud.tagged"];
    assert_eq!(metrics.map(|name| host.metric(&format!("my%2elist.{name}"))), [2, 1, 1, 0]);
    assert!(host.removed.borrow().is_empty() && host.added.borrow().is_empty());
    // Bytes of open requests and connections: an exempt client keeps them.
    for (source, action) in [("10.0.0.7", Action::Continue), ("10.2.0.1", Action::Continue), ("10.0.1.1", Action::Stop)]
    {
        host.source = source.parse().ok();
        assert_eq!((filter.on_data(&host), filter.on_request_data(&host)), (action, action), "{source}");
    }
}

/// The kill switch.
#[test]
fn in_shadow_mode_no_list_has_an_effect() {
    let (mut filter, mut host) = configured_with(&Settings { mode: Mode::Shadow, ..Settings::default() }, &lists());
    host.forges = true;
    for source in ["10.0.0.8", "10.0.1.1", "10.1.0.1", "10.2.0.1", "10.0.0.7"] {
        assert_eq!(host.request(&mut filter, source), None);
        assert!(host.connects(&mut filter, source));
        assert_eq!(host.removed.take(), ["x-edgefold-lists"], "what the client sent must not pass for a tag");
        assert_eq!(host.added.take(), []);
    }
    let count = |name: &str| host.metric(&format!("my%2elist.list.{name}"));
    assert_eq!((count("default.shadowed"), count("default.denied")), (2, 0));
    assert_eq!((count("cloud.shadowed"), count("cloud.tagged"), count("trial.shadowed")), (2, 0, 2));
}

#[test]
fn without_a_list_that_tags_no_header_is_touched() {
    let lists: Vec<_> = lists().into_iter().filter(|(_, action, _)| *action != ListAction::Tag).collect();
    let (mut filter, mut host) = configured_with(&Settings::default(), &lists);
    host.forges = true;
    assert_eq!(host.request(&mut filter, "10.9.0.1"), None);
    assert!(host.removed.borrow().is_empty() && host.added.borrow().is_empty());
    // An empty list that tags is enough to remove what clients send.
    let tagging = [lists.clone(), vec![("xtra", ListAction::Tag, "none")]].concat();
    let settings = Settings { tag_header: "x-on".to_owned(), ..Settings::default() };
    let (mut filter, mut host) = configured_with(&settings, &tagging);
    host.forges = true;
    assert_eq!(host.request(&mut filter, "10.9.0.1"), None);
    assert_eq!((host.removed.take(), host.added.take().len()), (vec!["x-on".to_owned()], 0));
}

#[test]
fn a_share_of_the_clients_is_refused() {
    let share: Share = "25%".parse().unwrap();
    let (mut filter, mut host) =
        configured_with(&Settings::default(), &[("default", ListAction::Deny { share, refusal: None }, "10.0.0.0/16")]);
    let mut refused = 0;
    for host_part in 0..10_000_u32 {
        let ip = IpAddr::V4((0x0a00_0000 + host_part).into());
        let is_refused = host.request(&mut filter, &ip.to_string()).is_some();
        assert_eq!(is_refused, share.contains(ip), "{ip}");
        refused += u32::from(is_refused);
    }
    assert!(refused.abs_diff(2_500) < 100, "{refused}");
}

/// Envoy keeps metrics forever.
#[test]
fn lists_that_come_and_go_do_not_define_metrics_without_end() {
    let (mut filter, mut host) = configured(&Settings::default());
    for round in 0..100 {
        let names: Vec<String> = (0..10).map(|at| format!("l{round}-{at}")).collect();
        let lists = names.iter().map(|name| (&**name, ListAction::default(), "10.0.0.7"));
        let lists: Vec<_> = [("default", ListAction::default(), "none")].into_iter().chain(lists).collect();
        host.configuration = Some(snapshot_with(
            Generation { next_offset: round + 8, ..Generation::default() },
            &Settings::default(),
            &lists,
        ));
        // Envoy makes a new canary for each shipment. It is the first to see it.
        host.validated[0].set(None);
        assert!(Filter::new().on_configure(&host));
        assert!(filter.on_configure(&host));
        assert!(host.request(&mut filter, "10.0.0.7").is_some(), "it works without metrics of its own");
    }
    let of_lists = host.metrics.borrow().iter().filter(|(name, _)| name.contains(".list.")).count();
    assert_eq!(of_lists, 256 * 4);
}

/// A base below `next_offset` in which 10.0.0.0/24 is blocked.
fn base(next_offset: u64) -> Vec<u8> {
    let mut base = snapshot_of(Generation { next_offset, ..Generation::default() }, &Settings::default());
    make_base(&mut base);
    base
}

/// An overlay below `next_offset` over a base with 10.0.0.0/24, in which 10.0.0.100 is allowed and 192.0.2.1 blocked, with another status.
fn overlay(next_offset: u64, base: &[u8]) -> Vec<u8> {
    let mut settings = Settings::default();
    settings.refusal.status = 429;
    let generation = Generation { next_offset, ..Generation::default() };
    let new = NewSnapshot { name: "edgefold", generation, as_of: 6_000, settings: &settings, cut_at: 0 };
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpRange>>();
    let (name, action) = ("default".parse().unwrap(), &ListAction::default());
    let added = ranges(&["10.0.0.0-10.0.0.99", "10.0.0.101-10.0.0.255", "192.0.2.1"]);
    let removed = Some(ranges(&["10.0.0.0/24"]));
    let list = NewOverlayList { added: NewList { name, action, ranges: added }, removed };
    new.encode_overlay(Fingerprint::of(base).unwrap(), [list]).unwrap()
}

/// A worker, and how it is configured after a canary that shares what it has validated.
struct Worker(Filter, FakeHost);

impl Worker {
    fn new() -> Self {
        Self(Filter::new(), FakeHost { plugin: b"edgefold".to_vec(), ..FakeHost::default() })
    }

    fn configure(&mut self, configuration: Vec<u8>) -> bool {
        let Self(filter, host) = self;
        host.configuration = Some(configuration);
        assert!(Filter::new().on_configure(host));
        filter.on_configure(host)
    }

    fn request(&mut self, source: &str) -> Option<(u16, String)> {
        self.1.request(&mut self.0, source)
    }

    fn metric(&self, name: &str) -> u64 {
        // Canaries define all of them once more. Those of the worker are the first.
        let name = format!("edgefold_filter.edgefold.{name}");
        self.1.metrics.borrow().iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).sum()
    }
}

const NO_SNAPSHOT: &str = "edgefold_denied[no_snapshot]";

#[test]
fn an_overlay_serves_with_its_base_and_only_with_that() {
    let mut worker = Worker::new();
    assert!(worker.configure(overlay(8, &base(7))));
    for client in ["10.0.0.7", "192.0.2.2"] {
        assert_eq!(worker.request(client), Some((503, NO_SNAPSHOT.to_owned())), "what is not known may be a block");
    }
    assert!(!worker.1.connects(&mut worker.0, "192.0.2.2"));
    assert_eq!((worker.metric("unavailable"), worker.metric("overlay_waiting")), (3, 1), "a canary does not count");
    // An older base.
    assert!(worker.configure(base(6)));
    assert_eq!(worker.request("192.0.2.2"), Some((503, NO_SNAPSHOT.to_owned())));
    assert!(worker.configure(base(7)));
    let denied = |range: &str| Some((429, format!("edgefold_denied[default:{range}]")));
    for (client, expected) in [
        ("10.0.0.7", denied("10.0.0.0-10.0.0.99")),
        ("10.0.0.100", None),
        ("10.0.0.101", denied("10.0.0.101-10.0.0.255")),
        ("192.0.2.1", denied("192.0.2.1")),
        ("192.0.2.2", None),
    ] {
        assert_eq!(worker.request(client), expected, "{client}");
    }
    assert_eq!(["generation", "ranges", "as_of_timestamp_seconds"].map(|name| worker.metric(name)), [8, 3, 6]);
    // The next base, and the next overlay over the first one.
    assert!(worker.configure(base(9)));
    assert_eq!(worker.request("10.0.0.100"), None, "a base has no effect of its own");
    assert!(worker.configure(overlay(10, &base(7))));
    assert_eq!((worker.request("10.0.0.100"), worker.metric("generation")), (None, 10));
    assert!(worker.configure(overlay(11, &base(9))));
    assert_eq!((worker.request("10.0.0.100"), worker.metric("generation")), (None, 11));
    // Its base has never come.
    assert!(worker.configure(overlay(12, &base(5))));
    assert_eq!((worker.request("192.0.2.1"), worker.metric("generation")), (denied("192.0.2.1"), 11));
    assert_eq!(worker.metric("snapshot_kept"), 0);
    // A whole one replaces everything.
    assert!(
        worker.configure(snapshot_of(Generation { next_offset: 13, ..Generation::default() }, &Settings::default()))
    );
    assert_eq!((worker.request("192.0.2.1"), worker.request("10.0.0.100")), (None, Some((403, DENIED.to_owned()))));
}

#[test]
fn a_base_that_is_newer_than_the_overlay_serves_where_nothing_else_does() {
    let mut worker = Worker::new();
    assert!(worker.configure(overlay(8, &base(7))) && worker.configure(base(8)));
    assert_eq!((worker.request("192.0.2.1"), worker.request("10.0.0.100")), (None, Some((403, DENIED.to_owned()))));
    assert!(worker.configure(overlay(9, &base(8))));
    assert_eq!((worker.request("10.0.0.100"), worker.metric("generation")), (None, 9));
}

#[test]
fn a_fresh_vm_gets_the_base_of_its_overlay_from_the_host() {
    let mut worker = Worker::new();
    assert!(worker.configure(base(7)) && worker.configure(overlay(8, &base(7))));
    // Its VM crashes, and the next request is for the plugin of the overlay.
    worker.0 = Filter::new();
    assert!(worker.0.on_configure(&worker.1));
    assert_eq!((worker.request("192.0.2.2"), worker.request("10.0.0.100")), (None, None));
    assert_eq!(worker.request("10.0.0.7").map(|(status, _)| status), Some(429));
}

#[test]
fn a_worker_rejects_no_base_and_a_canary_rejects_a_damaged_one() {
    let mut damaged = base(7);
    damaged[20] ^= 1;
    let mut worker = Worker::new();
    worker.1.configuration = Some(damaged.clone());
    assert!(!Filter::new().on_configure(&worker.1));
    let served = base(6);
    assert!(worker.configure(served.clone()));
    let lines = worker.1.log.borrow().len();
    worker.1.configuration = Some(served);
    assert!(worker.0.on_configure(&worker.1));
    assert_eq!(worker.1.log.borrow().len(), lines, "the same base again is nothing new");
    worker.1.configuration = Some(damaged);
    assert!(worker.0.on_configure(&worker.1), "Envoy would let everything pass");
    assert_eq!(worker.metric("snapshot_kept"), 1);
}

/// Found by a review: it enforced its old state until the next base came.
#[test]
fn a_worker_that_has_missed_a_base_gets_it_from_the_host() {
    let mut worker = Worker::new();
    assert!(worker.configure(base(7)) && worker.configure(overlay(8, &base(7))));
    // Only a canary sees it.
    worker.1.configuration = Some(base(9));
    assert!(Filter::new().on_configure(&worker.1));
    assert!(worker.configure(overlay(10, &base(9))));
    assert_eq!((worker.request("10.0.0.100"), worker.metric("generation")), (None, 10));
    assert_eq!(worker.metric("overlay_waiting"), 1);
    // The host has another one than it says, which is not taken, and not asked for again.
    worker.1.configuration = Some(base(11));
    assert!(Filter::new().on_configure(&worker.1));
    assert!(worker.configure(overlay(12, &base(11))));
    worker.1.asked_for_base.set(0);
    worker.1.shared_base.replace(Some(base(9)));
    for _ in 0..3 {
        assert_eq!((worker.request("10.0.0.100"), worker.metric("generation")), (None, 10));
    }
    assert_eq!(worker.1.asked_for_base.get(), 1);
}

/// Found by a review: it took the header names of the overlay.
#[test]
fn a_base_that_serves_by_itself_removes_the_header_of_its_own_lists() {
    let tagging = [("default", ListAction::default(), "10.0.0.0/24"), ("a", ListAction::Tag, "192.0.2.0/24")];
    let mut base =
        snapshot_with(Generation { next_offset: 9, ..Generation::default() }, &Settings::default(), &tagging);
    make_base(&mut base);
    let mut worker = Worker::new();
    assert!(worker.configure(overlay(8, &self::base(7))) && worker.configure(base));
    worker.1.forges = true;
    assert_eq!(worker.request("192.0.2.7"), None);
    let (removed, added) = (worker.1.removed.take(), worker.1.added.take());
    assert_eq!((removed.len(), added.len()), (1, 1), "{removed:?} {added:?}");
}

/// Found by a review: it was served like a whole snapshot.
#[test]
fn a_base_whose_role_has_more_bytes_than_needed_is_a_base() {
    let base = base(7);
    let header_bytes = u32::from_le_bytes(base[12..16].try_into().unwrap()) + 2;
    let mut long = [&base[..12], &header_bytes.to_le_bytes(), &[0xfb, 1, 0], &base[17..base.len() - 8]].concat();
    long.extend(xxhash_rust::xxh3::xxh3_64(&long).to_le_bytes());
    let mut worker = Worker::new();
    assert!(worker.configure(long.clone()));
    assert_eq!(worker.request("192.0.2.7"), Some((503, NO_SNAPSHOT.to_owned())));
    assert!(worker.configure(overlay(8, &long)));
    assert_eq!(worker.request("192.0.2.7"), None);
}
