//! How long a new list takes to serve, and how much a reload delays other requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use edgefold_bench_lists::median;
use fastrand::Rng;

use crate::load::{Connection, DENIED, Load, PASSED};
use crate::running::Running;

/// How long to watch requests before a reload.
const BEFORE: Duration = Duration::from_millis(200);
/// How long to watch requests after the new list serves, while Envoy drops the old one.
const AFTER: Duration = Duration::from_millis(100);
/// The pause between two polls.
const PAUSE: Duration = Duration::from_micros(100);

/// Sets the flag that stops the other thread, also when this one panics.
pub(crate) struct Done<'a>(pub(crate) &'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The measured reloads of a contender, in milliseconds.
#[derive(Default)]
pub(crate) struct Reloads {
    pub(crate) contender: String,
    /// From the renaming of the file to the first response from the new list.
    pub(crate) latencies: Vec<f64>,
    /// How much longer the requests of another connection took than the median before the reload: all of them, and the
    /// longest of each reload.
    pub(crate) delays: Vec<f64>,
    pub(crate) longest: Vec<f64>,
    /// The same for the requests before the reload, which shows the noise of the machine.
    pub(crate) quiet: Vec<f64>,
    pub(crate) longest_quiet: Vec<f64>,
}

/// A request and its response.
struct Exchange {
    start: Instant,
    end: Instant,
}

impl Exchange {
    fn millis(&self) -> f64 {
        (self.end - self.start).as_secs_f64() * 1e3
    }
}

/// Reloads all contenders in turns.
pub(crate) fn measure(running: &mut [Running], reloads: usize) -> Vec<Reloads> {
    let mut measured: Vec<Reloads> = running
        .iter()
        .map(|running| Reloads { contender: running.contender.name.clone(), ..Reloads::default() })
        .collect();
    for _ in 0..reloads {
        for (running, measured) in running.iter_mut().zip(&mut measured) {
            let canary = running.prepare();
            measured.add(watched(running, canary));
        }
    }
    measured
}

impl Reloads {
    fn add(&mut self, Watched { renamed, served, exchanges }: Watched) {
        self.latencies.push((served - renamed).as_secs_f64() * 1e3);
        // A request in flight when the file is renamed may wait for the reload.
        let (quiet, reloading): (Vec<_>, Vec<_>) = exchanges.iter().partition(|exchange| exchange.end < renamed);
        let ordinary = median(quiet.iter().map(|exchange| exchange.millis()).collect());
        for (exchanges, all, longest) in
            [(quiet, &mut self.quiet, &mut self.longest_quiet), (reloading, &mut self.delays, &mut self.longest)]
        {
            let first = all.len();
            all.extend(exchanges.into_iter().map(|exchange| exchange.millis() - ordinary));
            longest.push(all[first..].iter().copied().fold(0.0, f64::max));
        }
    }
}

/// What was observed during one reload.
struct Watched {
    /// When the file was renamed.
    renamed: Instant,
    /// When the new list gave its first response.
    served: Instant,
    /// The requests of another connection, before and during the reload.
    exchanges: Vec<Exchange>,
}

/// Reloads once, while another connection sends one request after another. Envoy may put it on another worker.
fn watched(running: &Running, canary: u32) -> Watched {
    let done = AtomicBool::new(false);
    let passing = running.list.passing(1024, &mut Rng::new());
    let address = running.address();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut connection = Connection::open(address);
            let mut exchanges = Vec::new();
            for &client in passing.iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let start = Instant::now();
                assert_eq!(connection.status_for(client), PASSED);
                exchanges.push(Exchange { start, end: Instant::now() });
                // Send a few thousand requests per second, so that this leaves the cores to the reload.
                thread::sleep(PAUSE);
            }
            exchanges
        });
        let done = Done(&done);
        let mut connection = Connection::open(address);
        let mut poll = || {
            thread::sleep(PAUSE);
            let status = connection.status_for(canary);
            assert!([PASSED, DENIED].contains(&status), "{status}");
            status == DENIED
        };
        let start = Instant::now();
        while start.elapsed() < BEFORE {
            assert!(!poll(), "the new list serves before it was shipped");
        }
        let renamed = running.ship();
        while !poll() {
            running.assert_recent(renamed);
        }
        let served = Instant::now();
        while served.elapsed() < AFTER {
            assert!(poll(), "the old list serves again");
        }
        drop(done);
        Watched { renamed, served, exchanges: other.join().unwrap() }
    })
}

/// Reloads several times, without timing it.
pub(crate) fn repeatedly(running: &mut Running, reloads: usize) {
    let mut connection = Connection::open(running.address());
    for _ in 0..reloads {
        let canary = running.prepare();
        let renamed = running.ship();
        while connection.status_for(canary) != DENIED {
            running.assert_recent(renamed);
            thread::sleep(PAUSE);
        }
    }
    // Give Envoy time to drop the old list.
    thread::sleep(AFTER);
}

/// The results of many reloads under load.
pub(crate) struct Soak {
    pub(crate) reloads: usize,
    pub(crate) requests: usize,
    /// Requests with a wrong response.
    pub(crate) failed: usize,
    /// Resident megabytes of Envoy after a tenth of the reloads, and at the end.
    pub(crate) after_a_tenth: f64,
    pub(crate) at_the_end: f64,
}

pub(crate) fn soak(running: &mut Running, reloads: usize, connections: usize) -> Soak {
    let done = AtomicBool::new(false);
    let passing = running.list.passing(1 << 16, &mut Rng::new());
    let mut load = Load::open(running.address(), connections);
    thread::scope(|scope| {
        let load = scope.spawn(|| load.send_until(&done, &passing, 1024, Duration::ZERO));
        let done = Done(&done);
        repeatedly(running, reloads / 10);
        let after_a_tenth = running.megabytes("VmRSS");
        repeatedly(running, reloads - reloads / 10);
        let at_the_end = running.megabytes("VmRSS");
        drop(done);
        let (requests, failed) = load.join().unwrap();
        Soak { reloads, requests, failed, after_a_tenth, at_the_end }
    })
}
