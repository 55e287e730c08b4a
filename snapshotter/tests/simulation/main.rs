//! All of `edgefold serve` but its threads: what ships and what keeps the view, in one to three processes, over a log in memory
//! that fails in every way a real one does: crashes between any two steps, lost acknowledgements, duplicate deliveries, open,
//! foreign and aborted transactions, writers that pause and come back, compaction, a log that becomes another one. Disks are
//! full at times, and clocks jump. There are thousands of runs, each drawn from a seed.
//!
//! In all of them, the view is a plain replay of the commands, and what is shipped is what a replay blocks, and no fresher than
//! the log confirms.
//!
//! A run that fails prints its seed. `EDGEFOLD_SEED=N cargo test -p edgefold-snapshotter --test simulation` repeats it.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use edgefold::view::{ViewContent, read_view, stated};
use edgefold::{Edits, Error, Fold, Log, LogTime, Now, Position};
use edgefold_snapshot::{Freshness, Settings, WhenStale};
use edgefold_snapshotter::keeper::{Role, rebuild};
use fastrand::Rng;

use self::process::{Disk, Process};
use self::topics::{Memory, Transaction, command, replayed};

mod process;
mod standbys;
mod topics;

const RUNS: u64 = 12_000;
const FEWER_RUNS: u64 = 4_000;
const STEPS: usize = 250;

/// How often each event happened. A simulation in which nothing goes wrong proves nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    crashes_in_a_transaction: u32,
    crashes_in_a_takeover: u32,
    crashes_after_a_commit: u32,
    failures: u32,
    lost_acknowledgements: u32,
    duplicates: u32,
    written_once_more: u32,
    fenced: u32,
    aborted: u32,
    compacted: u32,
    /// Times that a keeper became the writer.
    takeovers: u32,
    /// Times that a keeper took over although the view had moved on since it decided to.
    late_takeovers: u32,
    /// Times that somebody else opened a transaction on the ranges topic.
    foreign: u32,
    /// Views that were invalid and then valid again.
    rebuilt: u32,
    /// Times that a reader found another log.
    other_logs: u32,
    clock_jumps: u32,
    shipments: u32,
    bases: u32,
    half_pairs: u32,
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.crashes_in_a_transaction += other.crashes_in_a_transaction;
        self.crashes_in_a_takeover += other.crashes_in_a_takeover;
        self.crashes_after_a_commit += other.crashes_after_a_commit;
        self.failures += other.failures;
        self.lost_acknowledgements += other.lost_acknowledgements;
        self.duplicates += other.duplicates;
        self.written_once_more += other.written_once_more;
        self.fenced += other.fenced;
        self.aborted += other.aborted;
        self.compacted += other.compacted;
        self.takeovers += other.takeovers;
        self.late_takeovers += other.late_takeovers;
        self.foreign += other.foreign;
        self.rebuilt += other.rebuilt;
        self.other_logs += other.other_logs;
        self.clock_jumps += other.clock_jumps;
        self.shipments += other.shipments;
        self.bases += other.bases;
        self.half_pairs += other.half_pairs;
    }
}

/// One run.
struct Simulation {
    random: Rng,
    memory: Memory,
    processes: Vec<Process>,
    instant: Instant,
    /// The broker's time, which never jumps.
    time: u64,
    /// How far the clock of the processes is ahead of it, in milliseconds.
    ahead: i64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let faults = [0, 20, 60, 200][random.usize(..4)];
        let instant = Instant::now();
        let memory = Memory::new(random.fork(), faults, instant);
        let mut this = Self { random, memory, processes: Vec::new(), instant, time: 1_000_000_000_000, ahead: 0 };
        for _ in 0..this.random.usize(1..4) {
            let freshness = Freshness { cut_at: 0, max_age: 8_000, when_stale: WhenStale::Deny };
            let settings = Settings { freshness: this.random.bool().then_some(freshness), ..Settings::default() };
            let disk = Disk::new(this.random.fork(), faults);
            let min_interval = Duration::from_millis([0, 500][this.random.usize(..2)]);
            // With 0 every snapshot is a pair, with the others those of many ranges.
            let least_bytes = [0, 100, 200][this.random.usize(..3)];
            let log = this.memory.process();
            this.processes.push(Process::new(log, disk, settings, least_bytes, min_interval, this.now()));
        }
        this
    }

    fn now(&self) -> Now {
        Now { instant: self.instant, time: LogTime::from_millis(self.time.saturating_add_signed(self.ahead)).unwrap() }
    }

    fn wait(&mut self, millis: u64) {
        self.instant += Duration::from_millis(millis);
        self.time += millis;
        self.memory.topics().now = self.instant;
    }

    fn append(&mut self) {
        let mut topics = self.memory.topics();
        for _ in 0..self.random.usize(1..10) {
            // Offsets have gaps, as with the markers of a producer that writes in transactions.
            let offset = topics.end() + self.random.u64(..2);
            let record = command(&mut self.random, offset, LogTime::from_millis(self.time).unwrap());
            topics.commands.push(record);
        }
    }

    fn step(&mut self) {
        let at = self.random.usize(..self.processes.len());
        match self.random.u8(..30) {
            0..4 => self.append(),
            4..6 => {
                let millis = self.random.u64(..4000);
                self.wait(millis);
            }
            6 => self.memory.topics().compact(),
            7 => self.memory.topics().finish(Transaction::Aborted), // It has timed out at the broker.
            8 if self.random.u8(..4) == 0 => {
                let is_taking_over = self.processes[at].keeper.role() == Role::TakingOver;
                self.memory.topics().met.crashes_in_a_takeover += u32::from(is_taking_over);
                self.restart(at);
            }
            9 => self.bootstrap(at),
            10 => {
                let opens = self.random.bool();
                let mut topics = self.memory.topics();
                topics.foreign_transaction(opens);
                topics.met.foreign += u32::from(opens);
            }
            // A process whose settings limit the age of a snapshot needs a clock that it can trust.
            11 if self.random.u8(..10) == 0 => {
                self.ahead = self.random.i64(-5_000..5_000);
                self.memory.topics().met.clock_jumps += 1;
                (0..self.processes.len()).for_each(|at| self.restart(at));
            }
            12 => self.memory.topics().met.bases += u32::from(self.processes[at].rebase()),
            13..21 => self.step_shipper(at),
            _ => self.step_keeper(at),
        }
    }

    fn step_keeper(&mut self, at: usize) {
        self.processes[at].step_keeper(self.instant);
        if self.processes[at].log.has_crashed() {
            self.restart(at);
        }
    }

    fn step_shipper(&mut self, at: usize) {
        let now = self.now();
        let (deliveries, halves) = (self.processes[at].disk.deliveries(), self.processes[at].disk.halves());
        if !self.processes[at].ship(now) {
            self.restart(at);
        }
        let new_halves = self.processes[at].disk.halves() - halves;
        self.memory.topics().met.shipments += self.processes[at].disk.deliveries() - deliveries;
        self.memory.topics().met.half_pairs += new_halves;
        // It is killed between the two files.
        if new_halves > 0 && self.random.bool() {
            self.restart(at);
        }
    }

    /// Crashes a process, and starts a new one.
    fn restart(&mut self, at: usize) {
        self.processes[at] = self.processes[at].restarted(self.now());
    }

    /// A process that bootstraps now gets the result of a replay, or an error.
    fn bootstrap(&self, at: usize) {
        if let Ok(follower) = edgefold::Follower::load(&self.processes[at].log.process()) {
            let commands = &self.memory.topics().commands;
            let fold = replayed(commands, follower.fold.position().next_offset);
            assert_eq!(follower.fold, fold, "a bootstrap");
        }
    }

    /// Lets the processes bring the view, and what they ship, to the end of the commands, without further faults.
    fn settle(&mut self) {
        {
            let mut topics = self.memory.topics();
            topics.faults = 0;
            topics.foreign_transaction(false);
        }
        self.processes.iter().for_each(|process| process.disk.repair());
        let end = self.memory.topics().end();
        let is_done = |process: &Process| process.keeper.view_offset() == end && process.shipped_next_offset() == end;
        for _ in 0..2000 {
            if self.processes.iter().all(is_done) {
                return;
            }
            for at in 0..self.processes.len() {
                self.step_keeper(at);
                self.step_shipper(at);
            }
            self.wait(200);
        }
        let offsets: Vec<_> = self
            .processes
            .iter()
            .map(|process| (process.keeper.view_offset(), process.shipped_next_offset()))
            .collect();
        panic!("the view or a shipment never reached offset {end}; they are at {offsets:?}");
    }

    /// At every `@offset` that was ever committed, the view was a replay up to there. `@offset` never went back.
    fn assert_history(&self) {
        let topics = self.memory.topics();
        let (mut commands, mut expected) = (topics.commands.iter(), Fold::default());
        let (mut keys, mut last) = (BTreeMap::new(), 0);
        for (key, value) in &topics.history {
            keys.insert(key.clone(), value.clone());
            let Some(stated) = stated(Some(key), value.as_deref().map(str::as_bytes)) else { continue };
            let next_offset = stated.next_offset;
            assert!(next_offset >= last, "the view went back from {last} to {next_offset}");
            last = next_offset;
            while expected.position().next_offset < next_offset {
                let record = commands.next().expect("the view is ahead of the commands");
                let _rejected = expected.apply(record, &mut Edits::default());
            }
            let mut view = ViewContent::default();
            keys.iter().for_each(|(key, value)| view.read(Some(key), value.as_deref().map(str::as_bytes)));
            assert_eq!(view.into_fold().unwrap(), expected, "at offset {next_offset}");
        }
    }

    /// The view that a new process reads is a replay of all commands.
    fn assert_view(&self) {
        let view = read_view(&self.memory.process()).unwrap();
        let topics = self.memory.topics();
        assert_eq!(view, replayed(&topics.commands, topics.end()), "at the end");
    }
}

/// Prints the seed if its run panics.
struct Seed(u64);

impl Drop for Seed {
    #[allow(clippy::print_stderr, reason = "the seed is needed to repeat the run")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the run with EDGEFOLD_SEED={} failed", self.0);
        }
    }
}

/// Calls `run` for `count` seeds, or only for the one in `EDGEFOLD_SEED`. Returns what was met, unless it was only one.
#[allow(clippy::print_stdout, reason = "the counts show that faults were met")]
fn runs(count: u64, mut run: impl FnMut(&mut Simulation)) -> Option<Met> {
    let only = std::env::var("EDGEFOLD_SEED").ok().map(|seed| seed.parse().expect("EDGEFOLD_SEED is a number"));
    let mut met = Met::default();
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let _printed = Seed(seed);
        let mut simulation = Simulation::new(seed);
        run(&mut simulation);
        met += simulation.memory.topics().met;
    }
    println!("{count} runs met {met:?}");
    only.is_none().then_some(met)
}

#[test]
fn the_view_and_the_shipments_are_a_replay_of_the_commands_no_matter_what_fails() {
    let met = runs(RUNS, |simulation| {
        for _ in 0..STEPS {
            simulation.step();
        }
        simulation.settle();
        simulation.assert_history();
        simulation.assert_view();
    });
    if let Some(met) = met {
        let Met { crashes_in_a_transaction, crashes_in_a_takeover, crashes_after_a_commit, .. } = met;
        let Met {
            failures,
            lost_acknowledgements,
            late_takeovers,
            foreign,
            clock_jumps,
            shipments,
            bases,
            half_pairs,
            ..
        } = met;
        let Met { duplicates, written_once_more, fenced, aborted, compacted, takeovers, .. } = met;
        let crashes = [crashes_in_a_transaction, crashes_in_a_takeover, crashes_after_a_commit];
        let faults = [failures, lost_acknowledgements, late_takeovers, foreign, clock_jumps];
        let events =
            [duplicates, written_once_more, fenced, aborted, compacted, takeovers, shipments, bases, half_pairs];
        let mut counts = crashes.into_iter().chain(faults).chain(events);
        assert!(counts.all(|count| count > 100), "something happened too rarely: {met:?}");
    }
}

/// Records that edgefold did not write, and ranges that are lost: the view is never used, and is rebuilt.
#[test]
fn a_wrong_view_is_rebuilt_at_the_next_start() {
    let met = runs(FEWER_RUNS, |simulation| {
        for _ in 0..STEPS / 2 {
            simulation.step();
        }
        {
            let mut topics = simulation.memory.topics();
            topics.finish(Transaction::Aborted);
            topics.foreign_transaction(false);
            if simulation.random.bool() {
                topics.lose_a_range();
            } else {
                let strays =
                    [("10.0.0.3", "10.0.0.9"), ("hello", "world"), ("10.0.0.0", "10.0.0.31"), ("@offset", "none")];
                for (key, value) in &strays[..simulation.random.usize(1..=4)] {
                    topics.add((key.as_bytes().to_vec(), Some((*value).to_owned())), Transaction::Open);
                }
                topics.finish(Transaction::Committed);
            }
        }
        let invalid = read_view(&simulation.memory.process()).is_err();
        for at in 0..simulation.processes.len() {
            simulation.restart(at);
        }
        simulation.append();
        simulation.settle();
        simulation.assert_view();
        simulation.memory.topics().met.rebuilt += u32::from(invalid);
    });
    assert!(met.is_none_or(|met| met.rebuilt > 500), "{met:?}");
}

/// The commands topic is deleted and created anew, longer than before. The view is kept, as that of the log that was there.
#[test]
fn another_log_is_never_mixed_with_the_one_before() {
    let met = runs(FEWER_RUNS, |simulation| {
        for _ in 0..STEPS / 2 {
            simulation.step();
        }
        simulation.settle();
        let before = simulation.memory.topics().end();
        simulation.wait(60_000);
        let time = LogTime::from_millis(simulation.time).unwrap();
        let commands = (0..before + 5).map(|offset| command(&mut simulation.random, offset, time)).collect();
        simulation.memory.topics().recreate(commands);
        let history = simulation.memory.topics().history.len();
        // Some processes go on, and others start. Neither folds anything: `check` compares with a replay of the new log.
        for _ in 0..STEPS / 4 {
            let at = simulation.random.usize(..simulation.processes.len());
            match simulation.random.u8(..8) {
                0 => simulation.restart(at),
                1 => simulation.wait(2_000),
                2..5 => simulation.step_keeper(at),
                _ => {
                    let now = simulation.now();
                    let process = &mut simulation.processes[at];
                    let shipped = process.disk.deliveries();
                    let goes_on = process.ship(now);
                    let is_new = before == 0; // Nothing was folded, so nothing can be mixed.
                    assert!(is_new || process.disk.deliveries() == shipped, "shipped from another log");
                    if !goes_on {
                        simulation.restart(at);
                    }
                }
            }
        }
        if before > 0 {
            assert_eq!(simulation.memory.topics().history.len(), history, "the view was written");
            let log = simulation.memory.process();
            let position = read_view(&log).unwrap().position();
            assert!(matches!(log.commands(position).unwrap().read(Duration::ZERO), Err(Error::OtherLog { .. })));
            assert!(log.commands(Position::default()).unwrap().read(Duration::ZERO).is_ok());
        }
        // The operator accepts it.
        rebuild(&simulation.memory.process()).map(drop).unwrap();
        for at in 0..simulation.processes.len() {
            simulation.restart(at);
        }
        simulation.settle();
        simulation.assert_view();
    });
    assert!(met.is_none_or(|met| met.other_logs > 500), "{met:?}");
}
