//! The filter over a host that is a few fields: what it decides, natively and without any ABI.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use edgefold_filter::filter::{Action, Filter};
use edgefold_filter::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost};
use edgefold_snapshot::{
    ClientAddress, Fingerprint, Freshness, Generation, Mode, NewSnapshot, NoAddress, Settings, TrustedProxies,
    WhenStale,
};

/// Status, content type, body and details.
type Response = (u16, Option<String>, Vec<u8>, String);

/// A host, and what the filter has done to it.
#[derive(Default)]
struct FakeHost {
    plugin: Vec<u8>,
    configuration: Option<Vec<u8>>,
    validated: Cell<Option<Fingerprint>>,
    now: Cell<Option<u64>>,
    source: Option<IpAddr>,
    connection: Option<Option<IpAddr>>,
    header: Option<Vec<u8>>,
    metrics: RefCell<Vec<(String, u64)>>,
    filter_state: RefCell<BTreeMap<String, String>>,
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
}

impl ConfigurationHost for FakeHost {
    fn plugin_name(&self) -> Option<Vec<u8>> {
        Some(self.plugin.clone())
    }

    fn configuration(&self) -> Option<Vec<u8>> {
        self.configuration.clone()
    }

    fn validated(&self) -> Option<Fingerprint> {
        self.validated.get()
    }

    fn share_validated(&self, fingerprint: Fingerprint) {
        self.validated.set(Some(fingerprint));
    }

    fn header_key(&self, name: &str) -> Vec<u8> {
        format!("key of {name}").into_bytes()
    }

    fn define_counter(&self, name: &str) -> Option<Metric> {
        let mut metrics = self.metrics.borrow_mut();
        metrics.push((name.to_owned(), 0));
        Some(Metric(u32::try_from(metrics.len() - 1).unwrap()))
    }

    fn define_gauge(&self, name: &str) -> Option<Metric> {
        self.define_counter(name)
    }

    fn log(&self, level: Level, line: &str) {
        self.log.borrow_mut().push((level, line.to_owned()));
    }
}

impl RequestHost for FakeHost {
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
        assert_eq!(key, b"key of X-Real-IP");
        read(self.header.as_deref())
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
    fn request(&mut self, filter: &Filter, source: &str) -> Option<(u16, String)> {
        self.source = source.parse().ok();
        self.filter_state.borrow_mut().clear();
        let action = filter.on_request(self);
        let response = self.response.take();
        assert_eq!(action, if response.is_some() { Action::Stop } else { Action::Continue });
        response.map(|(status, _, _, details)| (status, details))
    }

    /// Whether a connection from `source` is accepted.
    fn connects(&mut self, filter: &Filter, source: &str) -> bool {
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
    let cut_at = settings.freshness.map_or(0, |freshness| freshness.cut_at);
    let new = NewSnapshot { list: "edgefold", generation, as_of: 5_000, settings, cut_at };
    new.encode(["10.0.0.0/24".parse().unwrap()]).unwrap()
}

fn configured(settings: &Settings) -> (Filter, FakeHost) {
    let (mut filter, mut host) = (Filter::new(), FakeHost { plugin: b"my.list".to_vec(), ..FakeHost::default() });
    host.configuration = Some(snapshot(settings));
    assert!(filter.on_configure(&host), "{:?}", host.log);
    (filter, host)
}

const DENIED: &str = "edgefold_denied[10.0.0.0-10.0.0.255]";

#[test]
fn blocked_clients_are_refused_and_counted() {
    let (filter, mut host) = configured(&Settings::default());
    assert_eq!(host.request(&filter, "10.0.0.7"), Some((403, DENIED.to_owned())));
    assert_eq!(host.request(&filter, "10.0.1.7"), None);
    assert!(!host.connects(&filter, "10.0.0.7") && host.connects(&filter, "10.0.1.7"));
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
    let (filter, mut host) = configured(&Settings::default());
    host.source = "10.0.1.7".parse().ok();
    assert_eq!((filter.on_data(&host), host.is_closed.get()), (Action::Continue, false));
    host.source = "10.0.0.7".parse().ok();
    assert_eq!((filter.on_data(&host), host.is_closed.get()), (Action::Stop, true));
    assert_eq!(host.metric("my%2elist.denied_connections"), 1);
    let (filter, mut host) = configured(&Settings { mode: Mode::Shadow, ..Settings::default() });
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
    let (filter, mut host) = configured(&Settings { client_address, ..Settings::default() });
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
    let (filter, mut host) = configured(&Settings { mode: Mode::Shadow, ..Settings::default() });
    assert_eq!(host.request(&filter, "10.0.0.7"), None);
    assert_eq!(host.filter_state.borrow().get("edgefold").cloned(), Some(format!("shadow_{DENIED}")));
    assert!(host.connects(&filter, "10.0.0.7"));
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
    assert!(host.request(&filter, "10.0.0.7").is_some());
    assert_eq!(host.request(&filter, "10.0.1.7"), None);
}

#[test]
fn without_a_snapshot_nothing_passes() {
    let (filter, mut host) = (Filter::new(), FakeHost::default());
    assert_eq!(host.request(&filter, "10.0.1.7"), Some((503, "edgefold_denied[no_snapshot]".to_owned())));
    assert!(!host.connects(&filter, "10.0.1.7"));
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
        assert_eq!(host.request(&filter, "10.0.0.7").is_none(), is_accepted, "{next:?} is in shadow mode");
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
    assert_eq!(host.request(&worker, "10.0.1.7"), None);
    assert_eq!(host.metric("my%2elist.generation"), 8);
}

#[test]
fn plugins_in_one_vm_are_told_apart_by_their_names() {
    let (mut filter, mut host) = configured(&Settings::default());
    host.plugin = b"other".to_vec();
    let empty = Settings { no_address: NoAddress::Deny, ..Settings::default() };
    let generation = Generation { epoch: 0, next_offset: 9, expiry: None };
    let new = NewSnapshot { list: "other", generation, as_of: 0, settings: &empty, cut_at: 0 };
    host.configuration = Some(new.encode([]).unwrap());
    assert!(filter.on_configure(&host));
    assert_eq!(host.request(&filter, "10.0.0.7"), None);
    assert_eq!(host.request(&filter, "none"), Some((403, "edgefold_denied[no_address]".to_owned())));
    host.plugin = b"my.list".to_vec();
    assert!(host.request(&filter, "10.0.0.7").is_some());
    host.plugin = b"third".to_vec();
    assert_eq!(host.request(&filter, "10.0.1.7").map(|(status, _)| status), Some(503));
    assert_eq!((host.metric("other.no_address"), host.metric("my%2elist.no_address")), (1, 0));
}

#[test]
fn a_stale_snapshot_is_noticed_by_the_clock() {
    let freshness = Some(Freshness { cut_at: 10_000, max_age: 5_000, when_stale: WhenStale::Deny });
    let (filter, mut host) = configured(&Settings { freshness, ..Settings::default() });
    host.now.set(Some(15_000));
    assert_eq!(host.request(&filter, "10.0.1.7"), None);
    assert_eq!(host.metric("my%2elist.fresh_from_timestamp_seconds"), 10);
    assert_eq!((filter.on_request_data(&host), filter.on_data(&host)), (Action::Continue, Action::Continue));
    host.now.set(Some(15_001));
    assert_eq!(host.request(&filter, "10.0.1.7"), Some((503, "edgefold_denied[stale]".to_owned())));
    assert!(!host.connects(&filter, "10.0.1.7"));
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
        let (filter, mut host) =
            configured(&Settings { client_address: client_address.clone(), ..Settings::default() });
        host.connection = connection.map(|ip| ip.parse().ok());
        host.header = value.map(|value| value.as_bytes().to_vec());
        let outcome = host.request(&filter, source);
        assert_eq!(outcome.is_some(), refused, "{client_address:?}, {source}, {connection:?}, {value:?}");
    }
}
