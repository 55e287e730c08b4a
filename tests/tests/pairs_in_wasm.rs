//! Bases and overlays in the built modules, in any order: what it answers is always the state at the generation that it says it
//! enforces.
#![expect(clippy::unwrap_used, reason = "a failed unwrap in a helper is a failed test")]

mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Edits, Fold, LogTime, Record};
use edgefold_snapshot::{Role, Settings, Snapshot};
use edgefold_snapshotter::ship::{BaseLimits, Publisher, Rebase, Shipment};
use edgefold_tests::seed;
use edgefold_wasm_host::{Host, Response};
use fastrand::Rng;

use crate::worlds::{World, worlds};

worlds! {
    everywhere {}
    in_envoy {
        whatever_arrives_in_whatever_order_the_answers_are_those_of_one_generation,
    }
}

const WORKERS: usize = 2;
const HOSTS: u8 = 20;

/// What `edgefold serve` has in its two files, now and before.
struct Serve {
    fold: Fold,
    edits: Edits,
    publisher: Publisher,
    least_bytes: usize,
    rebase: Option<Rebase>,
    /// All contents that the file of the filter and that of the base ever had, with the offset of the newest command in them.
    filters: Vec<Bytes>,
    bases: Vec<Bytes>,
    /// The refused hosts at each offset.
    refused: BTreeMap<u64, BTreeSet<u8>>,
}

impl Serve {
    fn new(least_bytes: usize) -> Self {
        let mut this = Self {
            fold: Fold::default(),
            edits: Edits::default(),
            publisher: publisher(least_bytes, None),
            least_bytes,
            rebase: None,
            filters: Vec::new(),
            bases: Vec::new(),
            refused: BTreeMap::new(),
        };
        this.publish();
        this
    }

    fn command(&mut self, random: &mut Rng) {
        let list = ["default", "a", "b"][random.usize(..3)];
        let (first, length) = (random.u8(..HOSTS), random.u8(..4));
        let range = format!("10.0.0.{first}-10.0.0.{}", first + length);
        let text = match random.u8(..12) {
            0..6 => format!("ADD {range} list={list}"),
            6..10 => format!("REMOVE {range} list={list}"),
            10 if list != "default" => format!("LIST {list} action={}", ["deny", "exempt", "tag"][random.usize(..3)]),
            _ if list != "default" => format!("UNLIST {list}"),
            _ => "REMOVE 10.0.0.0/24".to_owned(),
        };
        let offset = self.fold.position().next_offset;
        let record = Record { offset, timestamp: Some(time()), key: None, value: Some(text.into()) };
        self.fold.apply(&record, &mut self.edits).unwrap();
        let is_refused = |host: &u8| {
            matches!(self.fold.verdict(address(*host).parse().unwrap(), time()), edgefold::Verdict::Deny(_))
        };
        let refused = (0..HOSTS + 4).filter(is_refused).collect();
        self.refused.insert(offset + 1, refused);
    }

    fn publish(&mut self) -> Arc<Shipment> {
        let shipment = Arc::clone(self.publisher.publish(&self.fold, &mut self.edits, time(), time()).unwrap());
        let base = shipment.base.as_ref().unwrap().bytes().clone();
        for (contents, new) in [(&mut self.filters, shipment.snapshot.clone()), (&mut self.bases, base)] {
            if contents.last() != Some(&new) {
                contents.push(new);
            }
        }
        shipment
    }

    fn rebase(&mut self) {
        match self.rebase.take() {
            Some(work) => self.publisher.rebased(Some(work.run())).unwrap(),
            None => self.rebase = self.publisher.rebase(),
        }
    }

    /// Another process that finds the files of this one.
    fn restart(&mut self) {
        let base = self.bases.last().map(|base| Snapshot::open(base.clone()).unwrap());
        self.publisher = publisher(self.least_bytes, base);
        (self.rebase, self.edits) = (None, Edits::default());
    }
}

fn publisher(least_bytes: usize, found: Option<Snapshot<Bytes>>) -> Publisher {
    Publisher::new("edgefold", 0, Settings::default(), b"module")
        .with_bases(BaseLimits { least_bytes, ..BaseLimits::default() }, found)
        .unwrap()
}

fn time() -> LogTime {
    LogTime::from_millis(1_000_000).unwrap()
}

fn address(host: u8) -> String {
    format!("10.0.0.{host}")
}

/// One Envoy.
struct Envoy {
    world: World,
    workers: Vec<Worker>,
    shared: BTreeMap<String, Vec<u8>>,
}

struct Worker {
    host: Host,
    /// The generation that it enforced last.
    generation: Option<u64>,
    /// The newest generation that it was told to enforce.
    told: u64,
}

impl Envoy {
    fn new(world: World) -> Self {
        Self { world, workers: (0..WORKERS).map(|_| Worker::new(world)).collect(), shared: BTreeMap::new() }
    }

    /// An update. The canary sees it first, and some workers may never see it.
    fn update(&mut self, configuration: &[u8], lost_on: Option<usize>) {
        let mut canary = self.world.start();
        canary.state().shared = self.shared.clone();
        assert!(canary.configure(configuration), "the bytes are valid: {:?}", canary.log());
        self.shared = std::mem::take(&mut canary.state().shared);
        for (at, worker) in self.workers.iter_mut().enumerate().filter(|(at, _)| Some(*at) != lost_on) {
            assert!(worker.configure(configuration, &self.shared), "worker {at}: {:?}", worker.host.log());
        }
    }

    /// The VM of a worker has crashed. Envoy starts another, and configures the plugin whose request comes next: never that of the base.
    fn crash(&mut self, at: usize, filter: &[u8]) {
        self.workers[at] = Worker::new(self.world);
        assert!(self.workers[at].configure(filter, &self.shared), "{:?}", self.workers[at].host.log());
    }
}

impl Worker {
    fn new(world: World) -> Self {
        Self { host: world.start(), generation: None, told: 0 }
    }

    fn configure(&mut self, configuration: &[u8], shared: &BTreeMap<String, Vec<u8>>) -> bool {
        let header = Snapshot::open(configuration).unwrap().header().clone();
        if header.role != Role::Base {
            self.told = self.told.max(header.generation.next_offset);
        }
        self.host.state().shared = shared.clone();
        self.host.configure(configuration)
    }

    /// Checks all answers. Returns whether it has something to answer from.
    fn check(&mut self, refused: &BTreeMap<u64, BTreeSet<u8>>) -> bool {
        let mut answers = Vec::new();
        for host in 0..HOSTS + 4 {
            answers.push(self.host.request_from(Some(format!("{}:1234", address(host)).as_bytes())));
        }
        let unavailable = |answer: &Response| matches!(answer, Response::Refused { status: 503, .. });
        if answers.iter().any(unavailable) {
            assert!(answers.iter().all(unavailable), "{answers:?}");
            assert_eq!(self.generation, None, "what was enforced is enforced until the next is complete");
            return false;
        }
        let generation = self.host.metric("edgefold", "generation");
        let least = self.generation.replace(generation).unwrap_or(self.told);
        assert!(generation >= least, "{generation}, but it has enforced or knows of {least}");
        let none = BTreeSet::new();
        let expected = refused.get(&generation).unwrap_or(&none);
        for (host, answer) in (0..).zip(&answers) {
            assert_eq!(*answer != Response::Passed, expected.contains(&host), "host {host} at generation {generation}");
        }
        true
    }
}

#[derive(Debug, Default)]
struct Met {
    incomplete: u32,
    overlays: u32,
    bases: usize,
    recovered: u32,
}

fn whatever_arrives_in_whatever_order_the_answers_are_those_of_one_generation(world: World) {
    let mut random = Rng::with_seed(seed());
    let mut met = Met::default();
    for _ in 0..150 {
        let mut serve = Serve::new([0, 100, 180][random.usize(..3)]);
        let mut envoy = Envoy::new(world);
        for _ in 0..60 {
            (0..random.u8(..4)).for_each(|_| serve.command(&mut random));
            let shipment = serve.publish();
            met.overlays += u32::from(shipment.is_overlay);
            if random.bool() {
                serve.rebase();
            }
            let newest = |contents: &Vec<Bytes>| contents.last().unwrap().clone();
            let any = |contents: &Vec<Bytes>, random: &mut Rng| contents[random.usize(..contents.len())].clone();
            let lost_on = (random.u8(..5) == 0).then(|| random.usize(..WORKERS));
            match random.u8(..20) {
                0..5 => envoy.update(&newest(&serve.filters), lost_on),
                5..8 => envoy.update(&newest(&serve.bases), lost_on),
                // Both, one after the other.
                8 | 9 => {
                    envoy.update(&newest(&serve.bases), lost_on);
                    envoy.update(&newest(&serve.filters), None);
                }
                10 | 11 => {
                    envoy.update(&newest(&serve.filters), lost_on);
                    envoy.update(&newest(&serve.bases), None);
                }
                // An older one, or the same again.
                12 => envoy.update(&any(&serve.filters, &mut random), lost_on),
                13 => envoy.update(&any(&serve.bases, &mut random), lost_on),
                // Only the canary.
                14 => envoy.update(&newest(&serve.filters), Some(0).filter(|_| random.bool())),
                15 => serve.restart(),
                16 => envoy = Envoy::new(world),
                17 => {
                    let at = random.usize(..WORKERS);
                    envoy.crash(at, &newest(&serve.filters));
                    met.recovered += u32::from(envoy.workers[at].check(&serve.refused) && shipment.is_overlay);
                }
                _ => {}
            }
            for worker in &mut envoy.workers {
                met.incomplete += u32::from(!worker.check(&serve.refused));
            }
        }
        // In the end, everything arrives.
        serve.publish();
        envoy.update(&serve.bases.last().unwrap().clone(), None);
        envoy.update(&serve.filters.last().unwrap().clone(), None);
        met.bases += serve.bases.len();
        for worker in &mut envoy.workers {
            assert!(worker.check(&serve.refused));
            assert_eq!(worker.generation, Some(newest_change(&serve)), "the newest state is enforced");
        }
    }
    let Met { incomplete, overlays, bases, recovered } = met;
    assert!(
        incomplete > 500 && overlays > 1_000 && bases > 500 && recovered > 100,
        "something came up too rarely: {met:?}"
    );
}

/// The generation of the last shipment. Commands after it have changed nothing.
fn newest_change(serve: &Serve) -> u64 {
    Snapshot::open(serve.filters.last().unwrap().clone()).unwrap().header().generation.next_offset
}
