//! One filter for all threads of a process: while one configures it again and again, the others look through it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use edgefold_filter::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};
use edgefold_filter::serving::{Action, Serving};
use edgefold_filter_native::process::{MetricKind, MetricNames, MetricsDefiner, Process, SharedFilter};
use edgefold_snapshot::{
    Fingerprint, Generation, ListAction, NewList, NewOverlayList, NewSnapshot, Settings, make_base,
};
use edgefold_table::IpRange;

/// How often the filter is configured, and how many threads look.
const RELOADS: u64 = 1_000;
const READERS: usize = 3;

/// A host that has one snapshot, and remembers the names of metrics.
#[derive(Default)]
struct Configuring {
    snapshot: Vec<u8>,
    names: RefCell<MetricNames>,
    errors: RefCell<Vec<String>>,
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
struct Requesting {
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
fn request(serving: &Serving, source: IpAddr) -> Option<(u16, String)> {
    let host = Requesting { source, answer: RefCell::default() };
    let action = serving.on_request(&host);
    assert_eq!(action == Action::Stop, host.answer.borrow().is_some());
    host.answer.into_inner()
}

/// Everything about generation `number` tells which one it is: the list, the status and the body.
fn settings(number: u64) -> Settings {
    let mut settings = Settings::default();
    settings.refusal.status = 400 + u16::try_from(number % 100).unwrap();
    settings.refusal.body = number.to_string();
    settings
}

fn address_of(number: u64) -> IpAddr {
    IpAddr::from((0x0a00_0000 + u32::try_from(number).unwrap()).to_be_bytes())
}

fn ranges(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpRange> {
    addresses.into_iter().map(|address| IpRange::new(address, address).unwrap()).collect()
}

/// A list of 192.0.2.1 and of the address of its number, whole or as a base.
fn snapshot(number: u64) -> Vec<u8> {
    let (settings, generation) = (settings(number), Generation { next_offset: number, ..Generation::default() });
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    new.encode_default_list(ranges([address_of(number), [192, 0, 2, 1].into()])).unwrap()
}

fn base(number: u64) -> Vec<u8> {
    let mut base = snapshot(number);
    make_base(&mut base);
    base
}

/// An overlay over `base`, with its own address in place of that of the base.
fn overlay(number: u64, base: &[u8], base_number: u64) -> Vec<u8> {
    let (settings, generation) = (settings(number), Generation { next_offset: number, ..Generation::default() });
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    let action = &ListAction::default();
    let added = NewList { name: "default".parse().unwrap(), action, ranges: ranges([address_of(number)]) };
    let removed = Some(ranges([address_of(base_number)]));
    new.encode_overlay(Fingerprint::of(base).unwrap(), [NewOverlayList { added, removed }]).unwrap()
}

fn configure(filter: &SharedFilter, snapshot: Vec<u8>) -> bool {
    let host = Configuring { snapshot, ..Configuring::default() };
    filter.configure(b"edgefold", &host)
}

/// The number of the generation that serves. Everything that can be seen of it must be of the same one.
fn number_of(serving: &Serving) -> u64 {
    let (status, body) = request(serving, [192, 0, 2, 1].into()).expect("it is on each list");
    let number: u64 = body.parse().unwrap();
    assert_eq!(status, settings(number).refusal.status);
    assert_eq!(request(serving, address_of(number)), Some((status, body)));
    assert_eq!(request(serving, address_of(number - 1)), None, "the one before is not on it");
    assert_eq!(request(serving, address_of(number + 1)), None);
    number
}

/// Configures the filter with each of `generations`, while threads look. No thread may ever see anything but one whole generation, nor go
/// back, and what no thread looks at any more must be freed.
fn reload(filter: &Arc<SharedFilter>, generations: impl Iterator<Item = (u64, Vec<Vec<u8>>)>) {
    let is_over = AtomicBool::new(false);
    let looks: Vec<AtomicU64> = (0..READERS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for looks in &looks {
            let (filter, is_over) = (Arc::clone(filter), &is_over);
            scope.spawn(move || {
                // Whoever panics must not be waited for.
                let _end = OnDrop(|| is_over.store(true, Ordering::Relaxed));
                let mut newest = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let number = number_of(&filter.serving());
                    assert!(number >= newest, "{number} after {newest}");
                    newest = number;
                    looks.fetch_add(1, Ordering::Relaxed);
                    // There may be fewer cores than threads.
                    thread::yield_now();
                }
            });
        }
        let all_have_looked_twice = || {
            // The first of them may have begun before.
            let before: Vec<u64> = looks.iter().map(|looks| looks.load(Ordering::Relaxed)).collect();
            let have_looked =
                || looks.iter().zip(&before).all(|(looks, before)| looks.load(Ordering::Relaxed) >= before + 2);
            while !have_looked() && !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        };
        // Whatever happens, the threads must end.
        let _end = OnDrop(|| is_over.store(true, Ordering::Relaxed));
        for (number, snapshots) in generations {
            let before = Arc::downgrade(&filter.serving());
            for snapshot in snapshots {
                assert!(configure(filter, snapshot));
            }
            assert_eq!(number_of(&filter.serving()), number);
            all_have_looked_twice();
            assert_eq!(Weak::strong_count(&before), 0, "what served before {number} is freed");
        }
    });
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn threads_see_one_whole_snapshot_at_a_time_and_old_ones_are_freed() {
    let filter = Process::new().filter(b"edgefold");
    assert!(configure(&filter, snapshot(1)));
    reload(&filter, (2..RELOADS).map(|number| (number, vec![snapshot(number)])));
}

#[test]
fn threads_see_one_whole_pair_at_a_time_and_old_ones_are_freed() {
    let filter = Process::new().filter(b"edgefold");
    assert!(configure(&filter, base(1)) && configure(&filter, overlay(2, &base(1), 1)));
    // A new base comes with every tenth overlay, before or after it.
    let mut base_number = 1;
    reload(
        &filter,
        (3..RELOADS).map(|number| {
            if number % 10 != 0 {
                return (number, vec![overlay(number, &base(base_number), base_number)]);
            }
            base_number = number - 1;
            let mut pair = vec![base(base_number), overlay(number, &base(base_number), base_number)];
            if number % 20 == 0 {
                pair.reverse();
            }
            (number, pair)
        }),
    );
}

#[test]
fn a_filter_lives_as_long_as_something_has_it() {
    let process = Process::new();
    let (first, again) = (process.filter(b"edgefold"), process.filter(b"edgefold"));
    assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &process.filter(b"other")));
    assert!(configure(&first, snapshot(7)));
    drop(first);
    assert_eq!(number_of(&again.serving()), 7);
    drop(again);
    let fresh = process.filter(b"edgefold");
    assert_eq!(request(&fresh.serving(), [192, 0, 2, 9].into()).map(|(status, _)| status), Some(503));
}

#[test]
fn what_is_rejected_changes_nothing() {
    let filter = Process::new().filter(b"edgefold");
    assert!(configure(&filter, snapshot(7)));
    let mut damaged = snapshot(8);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert!(!configure(&filter, damaged) && !configure(&filter, b"EDGEFOLD".to_vec()));
    assert!(configure(&filter, snapshot(6)), "an older one is accepted, because another kind of filter may need it");
    assert_eq!(number_of(&filter.serving()), 7, "and does not serve");
}

/// Envoy numbers metrics anew in each configuration, so each must define the same ones in the same order.
#[test]
fn each_configuration_defines_the_metrics_of_those_before_it() {
    let filter = Process::new().filter(b"edgefold");
    let defined = |number, lists: &[&str]| {
        let (settings, generation) = (settings(number), Generation { next_offset: number, ..Generation::default() });
        let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
        let action = &ListAction::default();
        let lists = lists.iter().map(|name| NewList { name: name.parse().unwrap(), action, ranges: ranges([]) });
        let host = Configuring { snapshot: new.encode(lists).unwrap(), ..Configuring::default() };
        assert!(filter.configure(b"edgefold", &host), "{:?}", host.errors);
        format!("{:?}", host.names.into_inner())
    };
    let first = defined(1, &["default"]);
    assert_eq!(defined(2, &["default"]), first);
    let with_feed = defined(3, &["default", "feed"]);
    assert!(with_feed.starts_with(first.trim_end_matches("])")) && with_feed.contains("feed"), "{with_feed}");
    assert_eq!(defined(4, &["default"]), with_feed);
}
