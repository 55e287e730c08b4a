//! The instructions of Envoy per request, as valgrind's callgrind counts them. Unlike time, they do not depend on what else the machine does.

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

/// Instructions per request.
pub(crate) struct Instructions {
    pub(crate) contender: String,
    pub(crate) passed: f64,
    /// `None` if not counted.
    pub(crate) denied: Option<f64>,
}

/// Counts for one contender after the other: under callgrind, Envoy takes up to fifty times as long.
pub(crate) fn measure(contenders: Vec<Contender>, lists: &mut Lists) -> Vec<Instructions> {
    contenders.into_iter().map(|contender| count(contender, lists)).collect()
}

fn count(contender: Contender, lists: &mut Lists) -> Instructions {
    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("profile");
    let out = format!("--callgrind-out-file={}", profile.display());
    let launcher = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", &out];
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
        total(directory.path()) / COUNTED as f64
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
fn total(directory: &Path) -> f64 {
    let dumps = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let dump = dumps.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let text = fs::read_to_string(&dump).unwrap();
    fs::remove_file(dump).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("summary: ")).unwrap();
    line.trim().parse().unwrap()
}
