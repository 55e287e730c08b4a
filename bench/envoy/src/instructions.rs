//! The instructions of Envoy per request and its misses of the first caches, as valgrind's callgrind counts them. Unlike time, they do not depend on
//! what else the machine does.

use std::fs;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;

use crate::contenders::Contender;
use crate::list::Lists;
use crate::load::{DENIED, Load, PASSED};
use crate::running::Running;

/// Requests sent before counting. V8 optimizes hot code, and callgrind translates what runs for the first time.
const WARM_UP: usize = 10_000;
/// Requests that are counted.
const COUNTED: usize = 5_000;

/// What is counted per request.
pub(crate) struct Instructions {
    pub(crate) contender: String,
    pub(crate) passed: Counts,
    /// `None` if not counted.
    pub(crate) denied: Option<Counts>,
}

#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    /// Of the first cache of instructions, and that of data.
    pub(crate) misses: f64,
}

/// Counts for one contender after the other: under callgrind, Envoy takes up to fifty times as long.
pub(crate) fn measure(contenders: Vec<Contender>, lists: &mut Lists) -> Vec<Instructions> {
    let there = Command::new("valgrind").arg("--version").output();
    assert!(there.is_ok_and(|there| there.status.success()), "valgrind is missing: install it (Debian: valgrind)");
    contenders.into_iter().map(|contender| count(contender, lists)).collect()
}

fn count(contender: Contender, lists: &mut Lists) -> Instructions {
    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("profile");
    let out = format!("--callgrind-out-file={}", profile.display());
    let launcher = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--cache-sim=yes", &out];
    let running = Running::start_under(&launcher, contender, lists, 1);
    let mut load = Load::open(running.address(), 1);
    let mut random = Rng::with_seed(1);
    let mut counted = |status| {
        let mut clients = |count| match status {
            DENIED => running.list.blocked(count, &mut random),
            _ => running.list.passing(count, &mut random),
        };
        load.send(&clients(WARM_UP), status);
        control(&running, "--instr=on");
        // Whatever was translated without counting is translated again.
        load.send(&clients(COUNTED), status);
        control(&running, "--zero");
        load.send(&clients(COUNTED), status);
        control(&running, "--dump");
        control(&running, "--instr=off");
        total(directory.path())
    };
    let passed = counted(PASSED);
    let denied = running.contender.denied.then(|| counted(DENIED));
    Instructions { contender: running.contender.name.clone(), passed, denied }
}

fn control(running: &Running, what: &str) {
    let output = Command::new("callgrind_control").arg(what).arg(running.pid().to_string()).output().unwrap();
    assert!(output.status.success(), "callgrind_control {what}: {output:?}");
}

/// What was counted, by the only dump in this folder, which is removed.
fn total(directory: &Path) -> Counts {
    let dumps = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let dump = dumps.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let text = fs::read_to_string(&dump).unwrap();
    fs::remove_file(dump).unwrap();
    let line = |name| text.lines().find_map(|line: &str| line.strip_prefix(name)).unwrap().split_whitespace();
    let counted: Vec<(&str, f64)> = line("events:").zip(line("summary:").map(|count| count.parse().unwrap())).collect();
    let of = |names: &[&str]| -> f64 {
        let counts = counted.iter().filter(|(name, _)| names.contains(name));
        counts.map(|(_, count)| count).sum::<f64>() / COUNTED as f64
    };
    Counts { instructions: of(&["Ir"]), misses: of(&["I1mr", "D1mr", "D1mw"]) }
}
