//! Measures how soon a moment of a long log is there, from checkpoints and without: `cargo bench --package edgefold --bench checkpoints`.
//! It writes some gigabytes to the folder for temporary files (`TMPDIR`).
//!
//! The arguments after `--` are the number of commands, by default 10 million, and URLs of logs, which must be empty, to measure instead of
//! those in SQLite.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]
#![allow(clippy::print_stdout, reason = "the tables are the output")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use edgefold::{Checkpoints, IpRange, Log, LogTime, LogUrl, Moment, NewCommand, explain, replay};
use rustix::time::{ClockId, clock_gettime};

const SEED: u64 = 20_160_912;
/// The time of the first command, in milliseconds. Commands are 10 milliseconds apart.
const START: u64 = 1_700_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes `--bench`; `cargo test --benches` does not, and must not run this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let commands = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(10_000_000);
    let folder = tempfile::tempdir().unwrap();
    println!("| log | what | seconds | of CPU |\n|---|---|--:|--:|");
    let urls: Vec<&String> = arguments.iter().filter(|argument| argument.contains(":/")).collect();
    for url in &urls {
        measure(url, url, commands, false, folder.path());
    }
    for (name, ttl) in [("forever", false), ("with ttl", true)].into_iter().filter(|_| urls.is_empty()) {
        let url = format!("sqlite:{}", folder.path().join("log.db").display());
        measure(name, &url, commands, ttl, folder.path());
        std::fs::remove_file(folder.path().join("log.db")).unwrap();
    }
}

fn measure(name: &str, url: &str, commands: u64, ttl: bool, folder: &Path) {
    let log = url.parse::<LogUrl>().unwrap().open().unwrap();
    log.init().unwrap();
    append(&*log, commands, ttl);
    let folder = folder.join("checkpoints");
    let time = |what: &str, run: &mut dyn FnMut()| {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        run();
        println!("| {name} | {what} | {:.3} | {:.3} |", started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    };
    let range = IpRange::V4(edgefold::AddressRange::new(address(commands / 2), address(commands / 2)).unwrap());
    let now = LogTime::LAST;
    time("replay, without", &mut || drop(replay(&*log, Moment::Offset(commands)).unwrap()));
    time("explain, without", &mut || drop(explain(&*log, range, None, now).unwrap()));
    for (kind, keeps) in [("in a folder", true), ("in memory", false)] {
        let kept = Checkpoints::in_memory();
        let open = || if keeps { Checkpoints::in_folder(&folder) } else { Checkpoints::in_memory() };
        time(&format!("the first replay, {kind}"), &mut || {
            let first = if keeps { &open() } else { &kept };
            drop(first.replay(&*log, Moment::Offset(commands)).unwrap());
        });
        for part in [0.1, 0.331, 0.555, 0.801, 0.95, 0.999, 1.0] {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a part of it"
            )]
            let offset = (commands as f64 * part) as u64;
            // With a folder, each is a process of its own.
            let new = open();
            let checkpoints = if keeps { &new } else { &kept };
            let moment = Moment::Time(LogTime::from_millis(START + 10 * offset).unwrap());
            time(&format!("as of {part} of it, {kind}"), &mut || drop(checkpoints.replay(&*log, moment).unwrap()));
        }
        let new = open();
        let checkpoints = if keeps { &new } else { &kept };
        time(&format!("explain, {kind}"), &mut || drop(checkpoints.explain(&*log, range, None, now).unwrap()));
        let at = LogTime::from_millis(START + 10 * (commands * 3 / 4));
        time(&format!("explain at a moment, {kind}"), &mut || {
            drop(checkpoints.explain(&*log, range, at, now).unwrap());
        });
    }
    let files: Vec<u64> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
    println!("| {name} | the folder: {} files, {} MB | | |", files.len(), files.iter().sum::<u64>() / 1_000_000);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// How long all threads of this process have run, which other processes do not change.
#[expect(clippy::cast_precision_loss, reason = "for the table")]
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn append(log: &dyn Log, commands: u64, ttl: bool) {
    for first in (0..commands).step_by(50_000) {
        let batch: Vec<NewCommand> = (first..commands.min(first + 50_000))
            .map(|at| {
                // A million are on the list at a time.
                let ttl = if ttl { " ttl=10000s" } else { "" };
                let text = format!("BLACKLIST {}{ttl} origin=waf", address(at));
                NewCommand { time: LogTime::from_millis(START + 10 * at).unwrap(), text }
            })
            .collect();
        log.append(&batch).unwrap();
    }
}

fn address(at: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(fastrand::Rng::with_seed(SEED ^ (at << 20)).u32(..))
}
