//! A base with an overlay has, at any time and however the two came about, exactly the ranges that a whole snapshot would have.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Edits, Fold, LogTime, Record};
use edgefold_snapshot::{Layers, Settings, Snapshot};
use edgefold_snapshotter::ship::{Publisher, Rebase, Shipment};
use edgefold_table::IpRange;
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
    least_bytes: usize,
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
}

fn time(millis: u64) -> LogTime {
    LogTime::from_millis(millis).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        // With 0 every snapshot is a pair. With more, small ones are whole.
        let least_bytes = [0, 400, 700][random.usize(..3)];
        let (fold, edits, met) = (Fold::default(), Edits::default(), Met::default());
        let publisher = publisher(least_bytes, None);
        Self { random, fold, edits, now: 1_000_000, publisher, rebase: None, least_bytes, met }
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
        let record = Record { offset, timestamp: Some(time(self.now)), key: None, value: Some(text.clone().into()) };
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
                    self.publisher.rebased(Some(rebase.run())).unwrap();
                    self.met.bases += 1;
                } else {
                    self.rebase = self.publisher.rebase();
                }
            }
            18 if self.random.u8(..4) == 0 && self.rebase.take().is_some() => self.publisher.rebased(None).unwrap(),
            19 if self.random.u8(..4) == 0 => self.restart(),
            _ => {}
        }
        let shipment = self.publish();
        self.met.changes_while_encoding += u32::from(self.rebase.is_some());
        self.check(&shipment);
    }

    /// Another process that finds some base, perhaps an older one.
    fn restart(&mut self) {
        let base = self.publish().base.clone().unwrap();
        (0..self.random.u8(..4)).for_each(|_| self.command());
        self.publisher = publisher(self.least_bytes, Some((*base).clone()));
        (self.rebase, self.edits) = (None, Edits::default());
        let shipment = self.publish();
        self.met.resumed += u32::from(shipment.base.as_ref().unwrap().fingerprint() == base.fingerprint());
    }

    fn publish(&mut self) -> Arc<Shipment> {
        let now = time(self.now);
        Arc::clone(self.publisher.publish(&self.fold, &mut self.edits, now, now).unwrap())
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

fn publisher(least_bytes: usize, found: Option<Snapshot<Bytes>>) -> Publisher {
    Publisher::new("edgefold", 0, Settings::default(), b"module").with_bases(least_bytes, found).unwrap()
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
    }
    let Met { overlays, wholes, bases, resumed, changes_while_encoding } = met;
    assert!(overlays > 1_000 && wholes > 1_000 && bases > 100, "{overlays} overlays, {wholes} wholes, {bases} bases");
    assert!(resumed > 20 && changes_while_encoding > 100, "{resumed} resumed, {changes_while_encoding} while encoding");
}
