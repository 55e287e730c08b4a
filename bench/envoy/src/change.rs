//! What one change costs on its whole way: a producer, a log, `edgefold serve` and Envoy.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use edgefold::{Log, LogUrl, NewCommand, now};
use edgefold_snapshotter::ship::ecds::FilterKind;
use edgefold_tests::{Edgefold, Envoy, Host, Serve};
use fastrand::Rng;

use crate::contenders::IN_WASM;
use crate::cost::quantile;
use crate::list::{List, Lists, canary};
use crate::load::{Connection, DENIED, Load};
use crate::reload::Done;
use crate::resources::NAME;
use crate::running::{configuration, cpu_seconds, discovered, megabytes};

/// The pause between two polls.
const PAUSE: Duration = Duration::from_micros(200);
/// Time for Envoy to do everything that a change leads to.
const REST: Duration = Duration::from_millis(50);
/// How many commands are appended at a time to build a list.
const AT_ONCE: usize = 100_000;

/// How a list is shipped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// As one snapshot.
    Whole,
    /// As a base and an overlay, if it is large.
    Pair,
}

/// A log with a list, a `serve` and an Envoy with two workers.
pub(crate) struct World {
    pub(crate) name: String,
    list: List,
    log: Box<dyn Log>,
    next: u32,
    serve: Serve,
    envoy: Envoy,
    edgefold: Edgefold,
}

/// The measured changes of one world.
pub(crate) struct Changes {
    pub(crate) name: String,
    /// From the acknowledged append to the first 403, in milliseconds.
    pub(crate) latencies: Vec<f64>,
    /// Bytes written for Envoy.
    pub(crate) bytes: Vec<f64>,
    /// CPU milliseconds for each change.
    pub(crate) serve: f64,
    pub(crate) envoy: f64,
}

impl World {
    pub(crate) fn start(ranges: usize, form: Form, network: bool, host: Host, lists: &mut Lists) -> Self {
        let (list, edgefold) = (lists.of(ranges), Edgefold::sqlite().with_host(host));
        let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
        let texts: Vec<String> = list.ranges().map(|range| format!("BLACKLIST {range}")).collect();
        for texts in texts.chunks(AT_ONCE) {
            append(&*log, texts.iter().cloned());
        }
        let network_file = edgefold.network_ecds_file();
        let args = if network { &["--network-ecds-file", network_file.to_str().unwrap()][..] } else { &[] };
        let serve = if form == Form::Pair { edgefold.serve(args) } else { edgefold.serve_whole(args) };
        // It takes over the view and writes it, on a thread of its own. That is not part of a change.
        let end = u64::try_from(ranges).unwrap();
        while serve.metric("edgefold_view_next_offset").is_none_or(|next_offset| next_offset < end) {
            thread::sleep(Duration::from_millis(100));
        }
        let http_type = FilterKind::Http.type_url(IN_WASM);
        let http = discovered(NAME, http_type, &edgefold.ecds_file());
        let network_filters = if network {
            vec![discovered(
                &FilterKind::Network.resource_name(NAME),
                FilterKind::Network.type_url(IN_WASM),
                &network_file,
            )]
        } else {
            Vec::new()
        };
        let base = edgefold.base_ecds_file();
        let base = (form == Form::Pair).then_some((http_type, base.as_path()));
        let envoy = edgefold.envoy_with(&configuration(vec![http], network_filters, base).to_string());
        let name = match (form, host) {
            (Form::Whole, _) => format!("{ranges}, whole"),
            (Form::Pair, Host::Wasm) => format!("{ranges}"),
            (Form::Pair, Host::Native) => format!("{ranges}, native"),
        };
        Self { name, list, log, next: 0, serve, envoy, edgefold }
    }

    /// Blocks another address, and returns it.
    fn change(&mut self) -> u32 {
        self.next += 1;
        // Not beside each other: they would become one range.
        let address = canary(2 * self.next);
        append(&*self.log, [format!("BLACKLIST {}", Ipv4Addr::from_bits(address))]);
        address
    }

    /// The milliseconds until an address that was just blocked gets its 403.
    fn wait_for(&self, address: u32, connection: &mut Connection) -> f64 {
        let start = Instant::now();
        while connection.status_for(address) != DENIED {
            assert!(start.elapsed() < Duration::from_secs(60), "{} is not enforced", Ipv4Addr::from_bits(address));
            thread::sleep(PAUSE);
        }
        start.elapsed().as_secs_f64() * 1e3
    }

    fn shipped_bytes(&self) -> f64 {
        self.serve.metric("edgefold_shipped_bytes").unwrap() as f64
    }

    fn bases(&self) -> u64 {
        self.serve.metric("edgefold_bases_shipped_total").unwrap()
    }

    fn cpu(&self) -> [f64; 2] {
        [self.serve.pid(), self.envoy.pid()].map(cpu_seconds)
    }

    /// CPU seconds of `serve` and of Envoy while `act` runs, and how long that takes.
    fn spent(&mut self, act: impl FnOnce(&mut Self)) -> ([f64; 2], Duration) {
        let (before, start) = (self.cpu(), Instant::now());
        act(self);
        let (after, taken) = (self.cpu(), start.elapsed());
        ([after[0] - before[0], after[1] - before[1]], taken)
    }
}

fn append(log: &dyn Log, texts: impl IntoIterator<Item = String>) {
    let commands: Vec<NewCommand> = texts.into_iter().map(|text| NewCommand { time: now(), text }).collect();
    log.append(&commands).unwrap();
}

/// Measures `count` changes in each world, in turns: first how long they take, then what they cost.
pub(crate) fn measure(worlds: &mut [World], count: usize) -> Vec<Changes> {
    let mut changes: Vec<Changes> = worlds
        .iter()
        .map(|world| Changes {
            name: world.name.clone(),
            latencies: Vec::new(),
            bytes: Vec::new(),
            serve: 0.0,
            envoy: 0.0,
        })
        .collect();
    let mut connections: Vec<Connection> = worlds.iter().map(|world| Connection::open(world.envoy.address())).collect();
    for _ in 0..count {
        for ((world, connection), changes) in worlds.iter_mut().zip(&mut connections).zip(&mut changes) {
            let address = world.change();
            changes.latencies.push(world.wait_for(address, connection));
            changes.bytes.push(world.shipped_bytes());
        }
    }
    for (world, changes) in worlds.iter_mut().zip(&mut changes) {
        // Nothing else happens meanwhile, so what an idle process takes is what is left to subtract.
        let (spent, taken) = world.spent(|world| {
            for _ in 0..count {
                world.change();
                thread::sleep(REST);
            }
        });
        let (idle, _) = world.spent(|_| thread::sleep(taken));
        let millis = |of: usize| (spent[of] - idle[of]) * 1e3 / count as f64;
        (changes.serve, changes.envoy) = (millis(0), millis(1));
    }
    changes
}

/// What is kept for connections that stay open.
pub(crate) struct Pinned {
    pub(crate) changes: usize,
    pub(crate) bases: u64,
    /// Resident megabytes of Envoy more than before, with the connections open, and after they were closed.
    pub(crate) open: f64,
    /// The same for connections that were all opened after the last change: what a connection itself takes.
    pub(crate) control: f64,
}

/// Opens a connection after each of `count` changes, in a world with the network filter, and keeps it open.
pub(crate) fn pinned(world: &mut World, count: usize) -> Pinned {
    let mut connection = Connection::open(world.envoy.address());
    let mut settle = |world: &mut World| {
        let address = world.change();
        world.wait_for(address, &mut connection);
        thread::sleep(Duration::from_millis(500));
        megabytes(world.envoy.pid(), "VmRSS")
    };
    // What a VM and the connections take once, it takes for ever.
    let open = |world: &World| {
        let stream = TcpStream::connect(world.envoy.address()).unwrap();
        thread::sleep(Duration::from_millis(1));
        stream
    };
    let many: Vec<TcpStream> = (0..count).map(|_| open(world)).collect();
    drop(many);
    for _ in 0..100 {
        settle_quickly(world);
    }
    let before = settle(world);
    let many: Vec<TcpStream> = (0..count).map(|_| open(world)).collect();
    let control = settle(world) - before;
    drop(many);
    let (before, bases) = (settle(world), world.bases());
    let mut many = Vec::new();
    for _ in 0..count {
        settle_quickly(world);
        many.push(open(world));
    }
    let open = settle(world) - before;
    Pinned { changes: count, bases: world.bases() - bases, open, control }
}

/// A change, and as long as it takes to be enforced.
fn settle_quickly(world: &mut World) {
    world.change();
    thread::sleep(Duration::from_millis(15));
}

/// Many changes a second, under load.
pub(crate) struct Stream {
    pub(crate) changes: usize,
    pub(crate) seconds: f64,
    pub(crate) shipments: u64,
    pub(crate) bases: u64,
    /// From an append to the first 403, in milliseconds.
    pub(crate) staleness: Vec<f64>,
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    /// Resident megabytes of Envoy after a tenth of the time, and at the end.
    pub(crate) megabytes: [f64; 2],
    /// CPU milliseconds a second of Envoy, idle: before and afterwards.
    pub(crate) idle: [f64; 2],
}

/// Changes `rate` addresses a second for `seconds`, in batches of a hundredth of a second.
pub(crate) fn stream(world: &mut World, rate: usize, seconds: usize) -> Stream {
    let idle = |world: &mut World| {
        // What was just done has to settle: Envoy drops what it does not need any more a little later.
        thread::sleep(Duration::from_secs(10));
        let (spent, taken) = world.spent(|_| thread::sleep(Duration::from_secs(10)));
        spent[1] * 1e3 / taken.as_secs_f64()
    };
    let idle_before = idle(world);
    let shipped = |world: &World| world.serve.metric("edgefold_snapshots_shipped_total").unwrap();
    let before = (shipped(world), world.bases());
    let passing = world.list.passing(1 << 16, &mut Rng::new());
    let (mut load, mut connection) = (Load::open(world.envoy.address(), 4), Connection::open(world.envoy.address()));
    let done = AtomicBool::new(false);
    let (batches, per_batch) = (100 * seconds, rate / 100);
    let (sender, marks) = std::sync::mpsc::channel::<(u32, Instant)>();
    let (mut staleness, mut early) = (Vec::new(), 0.0);
    let start = Instant::now();
    let (requests, failed) = thread::scope(|scope| {
        // With a pause, because the machine has two cores for everything.
        let load = scope.spawn(|| load.send_until(&done, &passing, 16, Duration::from_millis(2)));
        let done = Done(&done);
        let connection = &mut connection;
        let poll = scope.spawn(move || {
            let mut staleness = Vec::new();
            while let Ok((address, appended)) = marks.recv() {
                while connection.status_for(address) != DENIED {
                    assert!(appended.elapsed() < Duration::from_secs(60), "it falls behind");
                    thread::sleep(PAUSE);
                }
                staleness.push(appended.elapsed().as_secs_f64() * 1e3);
            }
            staleness
        });
        let pid = world.envoy.pid();
        for batch in 0..batches {
            let due = start + Duration::from_millis(10) * u32::try_from(batch).unwrap();
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // Half of them undo what was done a second ago, so that the list keeps its size.
            let first = world.next + 1;
            world.next += u32::try_from(per_batch).unwrap();
            let old = first.checked_sub(u32::try_from(rate).unwrap());
            let texts = (0..per_batch).map(|at| {
                let at = u32::try_from(at).unwrap();
                match old.filter(|_| at % 2 == 1) {
                    Some(old) => format!("WHITELIST {}", Ipv4Addr::from_bits(canary(2 * (old + at - 1)))),
                    None => format!("BLACKLIST {}", Ipv4Addr::from_bits(canary(2 * (first + at)))),
                }
            });
            append(&*world.log, texts);
            if batch % 5 == 0 {
                sender.send((canary(2 * first), Instant::now())).unwrap();
            }
            if batch == batches / 10 {
                early = megabytes(pid, "VmRSS");
            }
        }
        drop(sender);
        staleness = poll.join().unwrap();
        drop(done);
        load.join().unwrap()
    });
    let taken = start.elapsed().as_secs_f64();
    let late = megabytes(world.envoy.pid(), "VmRSS");
    Stream {
        changes: batches * per_batch,
        seconds: taken,
        shipments: shipped(world) - before.0,
        bases: world.bases() - before.1,
        staleness,
        requests,
        failed,
        megabytes: [early, late],
        idle: [idle_before, idle(world)],
    }
}

impl Changes {
    pub(crate) fn columns(&self) -> [f64; 6] {
        let Self { latencies, bytes, serve, envoy, .. } = self;
        [
            quantile(bytes, 0.5),
            bytes.iter().sum::<f64>() / bytes.len() as f64,
            quantile(latencies, 0.5),
            quantile(latencies, 0.99),
            *serve,
            *envoy,
        ]
    }
}

impl Drop for World {
    /// A log of millions of commands takes gigabytes.
    fn drop(&mut self) {
        let _removed = fs::remove_file(self.edgefold.log().trim_start_matches("sqlite:"));
    }
}
