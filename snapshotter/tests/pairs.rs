//! A base with an overlay has, at any time and however the two came about, exactly the ranges that a whole snapshot would have.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Edits, Fold, LogTime, Record};
use edgefold_snapshot::{Generation, Layers, ListAction, ListName, NewList, NewSnapshot, Settings, Snapshot};
use edgefold_snapshotter::ship::{BaseLimits, Publisher, Rebase, Shipment};
use edgefold_table::{AddressRange, IpRange};
use fastrand::Rng;

/// Neighbours at both ends of IPv4, and on both sides of the IPv4-mapped addresses.
const ADDRESSES: [fn(u8) -> String; 5] = [
    |host| format!("0.0.0.{host}"),
    |host| format!("255.255.255.{}", 255 - host),
    |host| format!("::ffff:ffff:ffff:{:x}", u16::MAX - u16::from(host)),
    |host| format!("::fffe:ffff:{:x}", u16::MAX - u16::from(host)),
    |host| format!("::1:0:0:{host:x}"),
];

struct World {
    random: Rng,
    fold: Fold,
    edits: Edits,
    now: u64,
    publisher: Publisher,
    rebase: Option<Rebase>,
    limits: BaseLimits,
    /// How long commands take to arrive. Blocks may have ended before.
    lag: u64,
    /// How often something happened, so that the test is known to get there.
    met: Met,
}

#[derive(Default)]
struct Met {
    overlays: u32,
    wholes: u32,
    bases: u32,
    resumed: u32,
    changes_while_encoding: u32,
    too_long: u32,
}

fn time(millis: u64) -> LogTime {
    LogTime::from_millis(millis).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        // With 0 every snapshot is a pair. With more, small ones are whole.
        let least_bytes = [0, 150, 400][random.usize(..3)];
        // In some worlds there is often more than can be shipped.
        let most_bytes = [usize::MAX, usize::MAX, 700][random.usize(..3)];
        let limits = BaseLimits { least_bytes, most_bytes };
        let (fold, edits, met) = (Fold::default(), Edits::default(), Met::default());
        let lag = [0, 5_000, 20_000][random.usize(..3)];
        let publisher = publisher(limits, None);
        Self { random, fold, edits, now: 1_000_000, publisher, rebase: None, limits, lag, met }
    }

    fn range(&mut self) -> String {
        let place = ADDRESSES[self.random.usize(..ADDRESSES.len())];
        let (a, b) = (self.random.u8(..40), self.random.u8(..3));
        let (first, last): (IpRange, IpRange) = (place(a).parse().unwrap(), place(a + b).parse().unwrap());
        let (first, last) = (first.first().min(last.first()), first.first().max(last.first()));
        format!("{first}-{last}")
    }

    fn command(&mut self) {
        let list = ["default", "a", "b"][self.random.usize(..3)];
        let ttl = self.random.u64(1..30);
        let range = self.range();
        let text = match self.random.u8(..24) {
            0..8 => format!("ADD {range} list={list}"),
            8..14 => format!("ADD {range} list={list} ttl={ttl}s"),
            14..19 => format!("REMOVE {range} list={list}"),
            19 => format!("REMOVE {range} list=*"),
            20 => format!("ADD 0.0.0.0-0.0.0.50 list={list}"),
            21 => format!("REMOVE ::/0 list={list}"),
            22 if list != "default" => {
                format!("LIST {list} action={}", ["tag", "exempt", "deny"][self.random.usize(..3)])
            }
            _ if list != "default" => format!("UNLIST {list}"),
            _ => "BLACKLIST 0.0.0.0/0".to_owned(),
        };
        let offset = self.fold.position().next_offset;
        let timestamp = Some(time(self.now - self.lag));
        let record = Record { offset, timestamp, key: None, value: Some(text.clone().into()) };
        self.fold.apply(&record, &mut self.edits).unwrap_or_else(|reject| panic!("{text}: {reject}"));
    }

    fn step(&mut self) {
        match self.random.u8(..20) {
            0..12 => (0..self.random.u8(1..4)).for_each(|_| self.command()),
            12..15 => self.now += self.random.u64(..8_000),
            // The clock was ahead.
            15 => self.now -= self.random.u64(..8_000),
            16 | 17 => {
                if let Some(rebase) = self.rebase.take() {
                    let outcome = rebase.run();
                    self.publisher.rebased(Some(outcome)).unwrap();
                    self.met.bases += 1;
                } else {
                    self.rebase = self.publisher.rebase();
                }
            }
            18 if self.random.u8(..4) == 0 && self.rebase.take().is_some() => self.publisher.rebased(None).unwrap(),
            19 if self.random.u8(..4) == 0 => self.restart(),
            _ => {}
        }
        // It is too early for the next shipment.
        if self.random.u8(..5) == 0 {
            return;
        }
        match self.publish() {
            Some(shipment) => {
                self.met.changes_while_encoding += u32::from(self.rebase.is_some());
                self.check(&shipment);
            }
            None => self.met.too_long += 1,
        }
    }

    /// Another process that finds some base, perhaps an older one.
    fn restart(&mut self) {
        let Some(base) = self.publish().and_then(|shipment| shipment.base.clone()) else { return };
        (0..self.random.u8(..4)).for_each(|_| self.command());
        self.publisher = publisher(self.limits, Some((*base).clone()));
        (self.rebase, self.edits) = (None, Edits::default());
        let Some(shipment) = self.publish() else { return };
        self.met.resumed += u32::from(shipment.base.as_ref().unwrap().fingerprint() == base.fingerprint());
    }

    /// `None` if there is too much to ship.
    fn publish(&mut self) -> Option<Arc<Shipment>> {
        let now = time(self.now);
        self.publisher.publish(&self.fold, &mut self.edits, now, now).ok().map(Arc::clone)
    }

    /// What is shipped is the fold.
    fn check(&mut self, shipment: &Shipment) {
        let now = time(self.now);
        let base = shipment.base.as_ref().unwrap();
        // Both are opened with validation, as a canary does.
        Snapshot::open(base.bytes().clone()).unwrap();
        let snapshot = Arc::new(Snapshot::open(shipment.snapshot.clone()).unwrap());
        let layers = if shipment.is_overlay {
            self.met.overlays += 1;
            Layers::over(snapshot, base).unwrap()
        } else {
            self.met.wholes += 1;
            Layers::alone(snapshot)
        };
        let lists: Vec<_> = self
            .fold
            .lists()
            .iter()
            .filter(|list| {
                list.name().is_default() || list.stated_action().is_some() || list.ranges_at(now).next().is_some()
            })
            .collect();
        let names: Vec<_> = layers.header().lists.iter().map(|list| (list.name, &list.action)).collect();
        assert_eq!(names, lists.iter().map(|list| (list.name(), list.action())).collect::<Vec<_>>());
        let mut count = 0;
        for (index, list) in lists.iter().enumerate() {
            let expected: Vec<IpRange> = list.ranges_at(now).collect();
            assert_eq!(layers.iter(index).collect::<Vec<_>>(), expected, "list {}", list.name());
            count += expected.len() as u64;
            for ip in ADDRESSES.iter().flat_map(|place| (0..45).map(|host| place(host).parse().unwrap())) {
                let range = expected.iter().copied().find(|range| range.contains(ip));
                assert_eq!((layers.range(index, ip), layers.contains(index, ip)), (range, range.is_some()), "{ip}");
            }
        }
        let (ipv4, ipv6) = layers.ranges();
        assert_eq!((ipv4 + ipv6, shipment.ranges), (count, count));
    }
}

fn publisher(limits: BaseLimits, found: Option<Snapshot<Bytes>>) -> Publisher {
    Publisher::new("edgefold", 0, Settings::default(), b"module").with_bases(limits, found).unwrap()
}

#[test]
fn a_pair_has_what_a_whole_snapshot_would_have() {
    let mut met = Met::default();
    let seed = fastrand::u64(..);
    for seed in (0..300).map(|at| seed.wrapping_add(at)) {
        println!("seed {seed}"); // Only shown if the test fails.
        let mut world = World::new(seed);
        (0..120).for_each(|_| world.step());
        met.overlays += world.met.overlays;
        met.wholes += world.met.wholes;
        met.bases += world.met.bases;
        met.resumed += world.met.resumed;
        met.changes_while_encoding += world.met.changes_while_encoding;
        met.too_long += world.met.too_long;
    }
    let Met { overlays, wholes, bases, resumed, changes_while_encoding, too_long } = met;
    assert!(overlays > 1_000 && wholes > 1_000 && bases > 100, "{overlays} overlays, {wholes} wholes, {bases} bases");
    assert!(resumed > 20 && changes_while_encoding > 100, "{resumed} resumed, {changes_while_encoding} while encoding");
    assert!(too_long > 100, "{too_long} too long");
}

/// A base whose only list has these IPv4 and IPv6 ranges, whatever they are.
fn base_of(ipv4: &[IpRange], ipv6: &[IpRange]) -> Snapshot<Bytes> {
    let (settings, action) = (Settings::default(), ListAction::default());
    let generation = Generation { epoch: 0, next_offset: 1, expiry: None };
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    let ranges = ipv4.iter().chain(ipv6).copied();
    let base = new.encode_base([NewList { name: ListName::DEFAULT, action: &action, ranges }]).unwrap();
    Snapshot::open(base.into()).unwrap()
}

/// What is shipped for this fold by a process that finds `base` in its file.
fn resumed(base: &Snapshot<Bytes>, fold: &Fold) -> (bool, Layers<Bytes>) {
    let limits = BaseLimits { least_bytes: 0, ..BaseLimits::default() };
    let mut publisher = publisher(limits, Some(base.clone()));
    let now = time(1_000_000);
    let shipment = publisher.publish(fold, &mut Edits::default(), now, now).unwrap();
    let used = shipment.base.as_ref().unwrap();
    let snapshot = Arc::new(Snapshot::open(shipment.snapshot.clone()).unwrap());
    (used.fingerprint() == base.fingerprint(), Layers::over(snapshot, used).unwrap())
}

fn fold_of(ranges: impl IntoIterator<Item = String>) -> Fold {
    let mut fold = Fold::default();
    for (offset, range) in (0..).zip(ranges) {
        let value = Some(format!("BLACKLIST {range}").into());
        fold.apply(&Record { offset, timestamp: Some(time(1)), key: None, value }, &mut Edits::default()).unwrap();
    }
    fold
}

/// Found by a review: what such a base had and the log had not was removed as the IPv4 range, which the log had.
#[test]
fn a_base_with_ipv4_mapped_ranges_unblocks_nothing() {
    let ipv4: Vec<IpRange> = ["10.0.0.0/24", "20.0.0.0/24"].map(|range| range.parse().unwrap()).to_vec();
    let ipv6: Vec<IpRange> = (0..20).map(|at| format!("2001:db8::{:x}", 2 * at).parse().unwrap()).collect();
    let fold = fold_of(ipv4.iter().chain(&ipv6).map(ToString::to_string));
    for (first, last) in [("::ffff:10.0.0.0", "::ffff:10.0.0.255"), ("::1", "::ffff:10.0.0.255")] {
        let [first, last] = [first, last].map(|ip| ip.parse::<std::net::Ipv6Addr>().unwrap());
        let mapped = IpRange::V6(AddressRange::new(first, last).unwrap());
        let base = base_of(&ipv4, &[&[mapped], &ipv6[..]].concat());
        let (is_used, layers) = resumed(&base, &fold);
        assert!(!is_used, "no list has such a range");
        let expected: Vec<IpRange> = ipv4.iter().chain(&ipv6).copied().collect();
        assert_eq!(layers.iter(0).collect::<Vec<_>>(), expected);
        for (ip, is_listed) in [("10.0.0.7", true), ("20.0.0.7", true), ("::5", false)] {
            assert_eq!(layers.contains(0, ip.parse().unwrap()), is_listed, "{ip}");
        }
    }
}

/// Found by a review: a small file with a billion ranges took tens of gigabytes.
#[test]
fn a_base_that_has_little_of_what_is_on_the_lists_is_replaced() {
    let many: Vec<IpRange> =
        (0..100_000_u32).map(|at| std::net::Ipv4Addr::from(2 * at).to_string().parse().unwrap()).collect();
    let fold = fold_of(["10.0.0.0/24".to_owned()]);
    let (is_used, layers) = resumed(&base_of(&many, &[]), &fold);
    assert!(!is_used && layers.iter(0).eq(["10.0.0.0/24".parse().unwrap()]));
    // Most of it.
    let fold = fold_of(many.iter().take(90_000).map(ToString::to_string));
    let (is_used, layers) = resumed(&base_of(&many, &[]), &fold);
    assert!(is_used && layers.iter(0).eq(many.iter().take(90_000).copied()));
}
