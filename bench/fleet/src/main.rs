//! What a fleet costs one `edgefold serve --xds`, with simulated proxies on this machine: `make bench-fleet`.
//!
//! CPU and memory are those of `serve`. The proxies run beside it, so times are upper bounds: on two cores, most of a time is theirs.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]
#![allow(clippy::print_stdout, reason = "the tables are the output")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use edgefold::{Log, LogUrl, NewCommand, now};
use edgefold_bench_lists::median;
use edgefold_bench_lists::shapes::{Shape, ranges};
use edgefold_tests::{Edgefold, FleetOptions, Kafka, Serve, Xds};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

mod proxy;

use proxy::{Arrival, Proxies};

/// How many commands are appended at a time to build a list.
const AT_ONCE: usize = 100_000;
/// Time after which nothing more is expected of a change.
const REST: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Parser)]
struct Args {
    /// The numbers of ranges
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    ranges: Vec<usize>,
    /// The numbers of proxies
    #[arg(long, value_delimiter = ',', default_value = "500,2000")]
    proxies: Vec<usize>,
    /// The changes of which the median is taken
    #[arg(long, default_value_t = 50)]
    changes: u32,
    /// The changes until a real Envoy enforces each, over Kafka; 0 for none
    #[arg(long, default_value_t = 200)]
    enforced: u32,
}

fn main() {
    let args = Args::parse();
    println!(
        "| ranges | proxies | cold start | serve CPU, a proxy | MB, a proxy | memory before | memory, a proxy | a change: first, median, last proxy | bytes, a proxy | serve CPU | reconnect, all at once | serve CPU, a proxy | a new base: last proxy | MB, a proxy |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for &ranges in &args.ranges {
        for &proxies in &args.proxies {
            println!("{}", fleet(ranges, proxies, args.changes));
        }
    }
    if args.enforced > 0 {
        println!(
            "\n| ranges | from the acknowledged append to Kafka to the 403: p50 | p99 | bytes, a change |\n|--:|--:|--:|--:|"
        );
        for &ranges in &args.ranges {
            println!("{}", enforced(ranges, args.enforced));
        }
    }
}

fn append(log: &dyn Log, texts: impl IntoIterator<Item = String>) -> u64 {
    let commands: Vec<NewCommand> = texts.into_iter().map(|text| NewCommand { time: now(), text }).collect();
    log.append(&commands).unwrap().last().unwrap() + 1
}

/// Commands that build a list.
fn build(log: &dyn Log, count: usize) {
    let texts: Vec<String> = ranges::<u32>(Shape::Blocklist, count)
        .into_iter()
        .map(|[first, last]| format!("BLACKLIST {}-{}", Ipv4Addr::from(first), Ipv4Addr::from(last)))
        .collect();
    for texts in texts.chunks(AT_ONCE) {
        append(log, texts.iter().cloned());
    }
}

/// The command that blocks another address, which is not beside one before.
fn another(number: u32) -> String {
    format!("BLACKLIST {}", Ipv4Addr::from((240 << 24) + 2 * number))
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = ((values.len() - 1) as f64 * q).round() as usize;
    values[at]
}

/// CPU seconds of a process.
fn cpu(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    // utime and stime, in ticks of 10 ms.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Resident memory of a process in megabytes.
fn megabytes(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// A `serve` with proxies.
struct World {
    runtime: Runtime,
    proxies: Proxies,
    count: usize,
    sender: UnboundedSender<Arrival>,
    arrivals: UnboundedReceiver<Arrival>,
    serve: Serve,
}

impl World {
    /// What arrives until every proxy has something that `counts`, once.
    fn until_all(&mut self, counts: impl Fn(&Arrival) -> bool) -> Vec<Arrival> {
        let (mut all, mut seen, mut missing) = (Vec::new(), vec![false; self.count], self.count);
        let deadline = Instant::now() + PATIENCE;
        while missing > 0 {
            let arrival = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.arrivals.recv()).await });
            let arrival = arrival.expect("in time").expect("an arrival");
            assert!(Instant::now() < deadline, "{missing} proxies are missing");
            self.proxies.note(&arrival);
            if counts(&arrival) && !std::mem::replace(&mut seen[arrival.proxy], true) {
                missing -= 1;
            }
            all.push(arrival);
        }
        all
    }

    /// Everything that has arrived, after a rest.
    fn drain(&mut self) -> Vec<Arrival> {
        thread::sleep(REST);
        let mut all = Vec::new();
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.proxies.note(&arrival);
            all.push(arrival);
        }
        all
    }

    /// Waits until `serve` knows that all proxies enforce all commands below this offset.
    fn wait_until_enforced(&self, next_offset: u64) {
        let start = Instant::now();
        loop {
            let waited = self.serve.admin(&format!("/wait?next_offset={next_offset}"));
            let connected = waited["proxies"].as_array().map_or(0, Vec::len);
            if waited["enforced"] == true && connected == self.count {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{connected} proxies");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn fleet(ranges: usize, count: usize, changes: u32) -> String {
    let edgefold = Edgefold::sqlite();
    let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
    build(&*log, ranges);
    let end = ranges as u64;
    let serve = edgefold.serve_xds(&[]);
    // It takes over the view and writes it, on a thread of its own. That is not part of anything here.
    serve.wait_for_view(end);
    let pid = serve.pid();
    let (sender, arrivals) = mpsc::unbounded_channel();
    let proxies = Proxies::new(serve.xds_address(), count);
    let mut world = World { runtime: Runtime::new().unwrap(), proxies, count, sender, arrivals, serve };
    let memory_before = megabytes(pid);

    // All of them start at the same time, with nothing.
    let (start, cpu_before) = (Instant::now(), cpu(pid));
    connect(&mut world);
    let came = world.until_all(|arrival| arrival.name == "edgefold");
    world.wait_until_enforced(end);
    let cold = start.elapsed().as_secs_f64();
    let cold_cpu = (cpu(pid) - cpu_before) * 1e3 / count as f64;
    let bytes: usize = came.iter().chain(&world.drain()).map(|arrival| arrival.bytes).sum();
    let cold_megabytes = bytes as f64 / count as f64 / 1e6;
    let memory = (megabytes(pid) - memory_before) * 1024.0 / count as f64;

    // Changes, one after the other.
    let (mut first, mut middle, mut last, mut per_proxy) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut changed = 0.0;
    let mut next_offset = end;
    for number in 0..changes {
        let (start, before) = (Instant::now(), cpu(pid));
        next_offset = append(&*log, [another(number)]);
        let wanted = next_offset.to_string();
        let came = world.until_all(|arrival| arrival.version.starts_with(&wanted));
        let mut times: Vec<f64> = came.iter().map(|arrival| (arrival.at - start).as_secs_f64() * 1e3).collect();
        first.push(quantile(&mut times, 0.0));
        middle.push(quantile(&mut times, 0.5));
        last.push(quantile(&mut times, 1.0));
        per_proxy.push(came.iter().map(|arrival| arrival.bytes).sum::<usize>() as f64 / count as f64);
        world.drain();
        changed += cpu(pid) - before;
    }
    let change_cpu = changed * 1e3 / f64::from(changes);

    // The network blinks, or a replica goes away: all of them connect at once, with what they have.
    world.proxies.cut();
    wait_for_proxies(&world.serve, 0);
    world.drain();
    let (start, before) = (Instant::now(), cpu(pid));
    connect(&mut world);
    world.wait_until_enforced(next_offset);
    let storm = start.elapsed().as_secs_f64();
    let storm_cpu = (cpu(pid) - before) * 1e3 / count as f64;
    let again = world.drain();
    assert!(again.is_empty(), "{} resources came again", again.len());

    // A new base, because a third of the list has changed.
    let (rebase, rebase_megabytes) = if ranges < 100_000 {
        ("-".to_owned(), "-".to_owned())
    } else {
        let before = world.proxies.has[0]["edgefold-base"].clone();
        let start = Instant::now();
        append(&*log, (0..ranges / 3).map(|number| another(changes + u32::try_from(number).unwrap())));
        let came = world.until_all(|arrival| arrival.name == "edgefold-base" && arrival.version != before);
        let took = start.elapsed().as_secs_f64();
        let bytes: usize = came.iter().chain(&world.drain()).map(|arrival| arrival.bytes).sum();
        (format!("{took:.1} s"), format!("{:.1}", bytes as f64 / count as f64 / 1e6))
    };
    format!(
        "| {ranges} | {count} | {cold:.1} s | {cold_cpu:.2} ms | {cold_megabytes:.2} | {memory_before:.0} MB | {memory:.0} KiB | {:.1}, {:.1}, {:.1} ms | {:.0} | {change_cpu:.1} ms | {storm:.1} s | {storm_cpu:.2} ms | {rebase} | {rebase_megabytes} |",
        median(first),
        median(middle),
        median(last),
        median(per_proxy),
    )
}

fn connect(world: &mut World) {
    let _entered = world.runtime.enter();
    world.proxies.connect(&world.sender);
}

fn wait_for_proxies(serve: &Serve, count: u64) {
    while serve.metric("edgefold_xds_connected_proxies") != Some(count) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// From a command in Kafka to the 403 of a real Envoy.
fn enforced(ranges: usize, changes: u32) -> String {
    let kafka = Kafka::start();
    let edgefold = Edgefold::kafka(&kafka, &format!("bench-{ranges}"));
    let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
    build(&*log, ranges);
    let serve = edgefold.serve_xds(&[]);
    serve.wait_for_view(ranges as u64);
    let replicas = [serve.xds_address()];
    let envoy =
        edgefold.envoy_over_xds(FleetOptions { id: "edge-1", xds: Xds::DeltaAds, replicas: &replicas, tls: None });
    let client = envoy.client("127.0.0.1");
    let pushed = || serve.metric("edgefold_xds_pushed_bytes_total{resource=\"http\"}").unwrap();
    // It fetches the module once.
    thread::sleep(Duration::from_secs(2));
    let before = pushed();
    let mut times: Vec<f64> = (0..changes)
        .map(|number| {
            let text = another(number);
            let address = text.split_once(' ').unwrap().1.to_owned();
            append(&*log, [text]);
            let start = Instant::now();
            while client.status_for(&address) != 403 {
                assert!(start.elapsed() < PATIENCE, "{address} is not enforced");
                thread::sleep(Duration::from_micros(200));
            }
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let bytes = (pushed() - before) / u64::from(changes);
    format!("| {ranges} | {:.1} ms | {:.1} ms | {bytes} |", quantile(&mut times, 0.5), quantile(&mut times, 0.99))
}
