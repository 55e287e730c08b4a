//! The two topics of a log in memory, which fail in every way that real ones do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use edgefold::view::{records, stated};
use edgefold::{
    Batch, CommandReader, EachRecord, Edits, Error, Fold, Log, LogTime, NewCommand, Position, Progress, Record,
    RecordHash, ViewReader, ViewRecord, ViewWriter,
};
use fastrand::Rng;

use crate::Met;

/// A record of the ranges topic, with its offset.
#[derive(Clone)]
struct Written {
    offset: u64,
    record: ViewRecord,
    transaction: Transaction,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transaction {
    /// That of the writer of the view.
    Open,
    /// That of a producer which has nothing to do with edgefold.
    Foreign,
    Committed,
    Aborted,
}

/// The two topics.
pub(crate) struct Topics {
    pub(crate) random: Rng,
    /// One in this many calls fails; none if it is 0.
    pub(crate) faults: u32,
    pub(crate) commands: Vec<Record>,
    ranges: Vec<Written>,
    /// The offset after the last record of the ranges, counting transaction markers.
    ranges_end: u64,
    /// All that was ever committed, in order. Compaction removes nothing here.
    pub(crate) history: Vec<ViewRecord>,
    /// That of the last writer. Older ones are fenced.
    epoch: u64,
    /// How often somebody began to read the view.
    pub(crate) views_opened: u32,
    /// The time, for the contact that readers confirm.
    pub(crate) now: Instant,
    pub(crate) met: Met,
}

impl Topics {
    fn fails(&mut self) -> bool {
        self.faults > 0 && self.random.u32(..self.faults) == 0
    }

    /// The offset after the last command.
    pub(crate) fn end(&self) -> u64 {
        self.commands.last().map_or(0, |record| record.offset + 1)
    }

    /// The next command offset that the newest committed view states.
    pub(crate) fn view_offset(&self) -> u64 {
        let stated = |(key, value): &ViewRecord| stated(Some(key), value.as_deref().map(str::as_bytes));
        self.history.iter().rev().find_map(stated).map_or(0, |stated| stated.next_offset)
    }

    /// Ends the open transaction of the writer, if there is one, with a marker.
    pub(crate) fn finish(&mut self, outcome: Transaction) {
        self.end_transaction(Transaction::Open, outcome);
        self.met.aborted += u32::from(outcome == Transaction::Aborted);
    }

    /// Opens a transaction of somebody else, or aborts it.
    pub(crate) fn foreign_transaction(&mut self, opens: bool) {
        if opens {
            self.add((b"10.0.0.3".to_vec(), Some("10.0.0.9".to_owned())), Transaction::Foreign);
        } else {
            self.end_transaction(Transaction::Foreign, Transaction::Aborted);
        }
    }

    fn end_transaction(&mut self, which: Transaction, outcome: Transaction) {
        let open = self.ranges.iter_mut().filter(|written| written.transaction == which);
        let mut ended = false;
        for written in open {
            ended = true;
            written.transaction = outcome;
            if outcome == Transaction::Committed {
                self.history.push(written.record.clone());
            }
        }
        self.ranges_end += u64::from(ended);
    }

    /// The writer that is about to be fenced commits one more transaction just before.
    fn write_once_more(&mut self) {
        let next_offset = self.view_offset();
        let (mut fold, mut edits) = (replayed(&self.commands, next_offset), Edits::default());
        for record in self.commands.iter().filter(|record| record.offset >= next_offset) {
            let _rejected = fold.apply(record, &mut edits);
        }
        for record in records(&edits, &fold) {
            self.add(record, Transaction::Open);
        }
        self.finish(Transaction::Committed);
        self.met.written_once_more += 1;
    }

    pub(crate) fn add(&mut self, record: ViewRecord, transaction: Transaction) -> u64 {
        let offset = self.ranges_end;
        self.ranges_end += 1;
        self.ranges.push(Written { offset, record, transaction });
        offset
    }

    /// Where a reader of committed records stops: before the first open record.
    fn last_stable_offset(&self) -> u64 {
        let is_open = |written: &&Written| matches!(written.transaction, Transaction::Open | Transaction::Foreign);
        self.ranges.iter().find(is_open).map_or(self.ranges_end, |written| written.offset)
    }

    /// Drops aborted records, and committed ones that a later one with the same key supersedes, as far as a broker does: up to
    /// the last stable offset.
    pub(crate) fn compact(&mut self) {
        let end = self.last_stable_offset();
        let mut newest = BTreeMap::new();
        let committed = |written: &&Written| written.transaction == Transaction::Committed && written.offset < end;
        for Written { offset, record, .. } in self.ranges.iter().filter(committed) {
            newest.insert(record.0.clone(), *offset);
        }
        let before = self.ranges.len();
        self.ranges.retain(|Written { offset, record, transaction }| match transaction {
            _ if *offset >= end => true,
            Transaction::Open | Transaction::Foreign => true,
            Transaction::Aborted => false,
            Transaction::Committed => newest.get(&record.0) == Some(offset),
        });
        self.met.compacted += u32::from(self.ranges.len() < before);
    }

    /// Loses a range of the view without a trace.
    pub(crate) fn lose_a_range(&mut self) -> bool {
        let kept: Vec<usize> = (0..self.ranges.len())
            .filter(|&at| {
                let Written { record: (key, value), transaction, .. } = &self.ranges[at];
                let superseded = self.ranges[at + 1..]
                    .iter()
                    .any(|later| later.record.0 == *key && later.transaction == Transaction::Committed);
                *transaction == Transaction::Committed && value.is_some() && key != b"@offset" && !superseded
            })
            .collect();
        let Some(at) = self.random.choice(kept) else { return false };
        // What came before under its key must not come back.
        let key = self.ranges[at].record.0.clone();
        self.ranges.retain(|written| written.record.0 != key);
        true
    }

    /// Deletes the commands, and appends others: to a reader this is another log.
    pub(crate) fn recreate(&mut self, commands: Vec<Record>) {
        self.commands = commands;
    }
}

/// A log as one process sees it. Once the process has crashed, every call fails.
#[derive(Clone)]
pub(crate) struct Memory {
    topics: Arc<Mutex<Topics>>,
    dead: Arc<Mutex<bool>>,
}

impl Memory {
    pub(crate) fn new(random: Rng, faults: u32, now: Instant) -> Self {
        let topics = Topics {
            random,
            faults,
            commands: Vec::new(),
            ranges: Vec::new(),
            ranges_end: 0,
            history: Vec::new(),
            epoch: 0,
            views_opened: 0,
            now,
            met: Met::default(),
        };
        Self { topics: Arc::new(Mutex::new(topics)), dead: Arc::default() }
    }

    /// The same log, as another process sees it.
    pub(crate) fn process(&self) -> Self {
        Self { topics: Arc::clone(&self.topics), dead: Arc::default() }
    }

    pub(crate) fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap()
    }

    pub(crate) fn has_crashed(&self) -> bool {
        *self.dead.lock().unwrap()
    }

    /// The topics, unless this call fails: by chance, or because the process has crashed.
    fn call(&self) -> Result<MutexGuard<'_, Topics>, Error> {
        let mut topics = self.topics();
        if self.has_crashed() {
            return Err(failure());
        }
        if topics.fails() {
            topics.met.failures += 1;
            return Err(failure());
        }
        Ok(topics)
    }

    /// The process crashes in the middle of a call.
    fn crash(&self) -> Error {
        *self.dead.lock().unwrap() = true;
        failure()
    }
}

fn failure() -> Error {
    Error::Io { path: "memory".into(), source: std::io::Error::other("a fault") }
}

impl Log for Memory {
    fn init(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn append(&self, _commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        Err(failure()) // The simulation appends without it.
    }

    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error> {
        let Position { next_offset: next, last_record, .. } = from;
        let end = self.call()?.end();
        if next > end {
            return Err(Error::Gone { needed: next, found: format!("offsets 0 to {end}") });
        }
        Ok(Box::new(Commands { log: self.clone(), next, last_record, end }))
    }

    fn view(&self) -> Result<Box<dyn ViewReader>, Error> {
        let mut topics = self.call()?;
        topics.views_opened += 1;
        let total = topics.last_stable_offset();
        Ok(Box::new(Ranges { log: self.clone(), progress: Progress { done: 0, total } }))
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error> {
        let mut topics = self.call()?;
        topics.finish(Transaction::Aborted);
        if topics.fails() {
            topics.write_once_more();
        }
        topics.epoch += 1;
        if topics.fails() {
            topics.met.crashes_in_a_takeover += 1;
            return Err(self.crash());
        }
        topics.met.takeovers += 1;
        // The writer's own abort marker.
        let fence = topics.add((b"@offset".to_vec(), None), Transaction::Open) + 1;
        topics.finish(Transaction::Aborted);
        Ok(Box::new(Writer { log: self.clone(), epoch: topics.epoch, fence }))
    }
}

struct Commands {
    log: Memory,
    next: u64,
    last_record: Option<RecordHash>,
    end: u64,
}

impl CommandReader for Commands {
    fn read(&mut self, _timeout: Duration) -> Result<Batch, Error> {
        let mut topics = self.log.call()?;
        let mut from = topics.commands.partition_point(|record| record.offset < self.next);
        if let Some(hash) = self.last_record
            && from.checked_sub(1).is_none_or(|last| topics.commands[last].hash() != hash)
        {
            topics.met.other_logs += 1;
            return Err(Error::OtherLog { offset: self.next.saturating_sub(1) });
        }
        if from > 0 && topics.fails() {
            topics.met.duplicates += 1;
            from -= 1;
        }
        let count = topics.random.usize(..12).min(topics.commands.len() - from);
        let records = topics.commands[from..from + count].to_vec();
        if let Some(last) = records.last().filter(|last| last.offset >= self.next) {
            (self.next, self.last_record) = (last.offset + 1, Some(last.hash()));
        }
        let at_end = from + count == topics.commands.len();
        Ok(Batch { at_end, records, contact: at_end.then_some(topics.now), ..Batch::default() })
    }

    fn end(&self) -> u64 {
        self.end
    }
}

struct Ranges {
    log: Memory,
    progress: Progress,
}

impl ViewReader for Ranges {
    fn read(&mut self, _timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, Error> {
        let mut topics = self.log.call()?;
        let end = topics.last_stable_offset();
        let most = topics.random.usize(..20);
        let from = self.progress.done;
        let next: Vec<&Written> =
            topics.ranges.iter().filter(|at| (from..end).contains(&at.offset)).take(most).collect();
        for Written { record: (key, value), .. } in next.iter().filter(|at| at.transaction == Transaction::Committed) {
            each(Some(key), value.as_deref().map(str::as_bytes));
        }
        // After the last record there may be a marker or a gap.
        self.progress.done = if next.len() < most { end } else { next.last().map_or(from, |at| at.offset + 1) };
        Ok(self.progress.done >= end)
    }

    fn progress(&self) -> Progress {
        self.progress
    }
}

struct Writer {
    log: Memory,
    epoch: u64,
    fence: u64,
}

impl ViewWriter for Writer {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn write(&mut self, records: &mut dyn Iterator<Item = ViewRecord>) -> Result<(), Error> {
        for record in records {
            let mut topics = self.log.call()?;
            if topics.epoch != self.epoch {
                topics.met.fenced += 1;
                return Err(Error::Fenced);
            }
            if topics.fails() {
                topics.met.crashes_in_a_transaction += 1;
                return Err(self.log.crash());
            }
            if topics.fails() {
                // It pauses here. In the meantime another process takes over, and crashes.
                topics.epoch += 1;
                topics.finish(Transaction::Aborted);
                continue;
            }
            topics.add(record, Transaction::Open);
        }
        let mut topics = self.log.call()?;
        if topics.epoch != self.epoch {
            topics.met.fenced += 1;
            return Err(Error::Fenced);
        }
        topics.finish(Transaction::Committed);
        if topics.fails() {
            topics.met.lost_acknowledgements += 1;
            return Err(failure());
        }
        if topics.fails() {
            topics.met.crashes_after_a_commit += 1;
            return Err(self.log.crash());
        }
        Ok(())
    }
}

/// A command about a few addresses of a few lists. Some blocks end within the run, and some commands are invalid.
pub(crate) fn command(random: &mut Rng, offset: u64, now: LogTime) -> Record {
    let (a, b) = (random.u8(..32), random.u8(..32));
    let range = format!("10.0.0.{}-10.0.0.{}", a.min(b), a.max(b));
    let list = ["a", "b"][random.usize(..2)];
    let of_list = if random.bool() { String::new() } else { format!(" list={list}") };
    let value = match random.u8(..20) {
        0..6 => format!("BLACKLIST {range}{of_list}"),
        6..10 => format!("BLACKLIST {range} ttl={}s{of_list}", random.u8(1..30)),
        10..14 => format!("WHITELIST {range}{of_list}"),
        14 => format!("WHITELIST {range} list=*"),
        15..17 => {
            let action = ["deny", "deny share=5%", "shadow", "exempt", "tag"][random.usize(..5)];
            format!("LIST {} action={action}", if random.u8(..4) == 0 { "default" } else { list })
        }
        17..19 => format!("UNLIST {list}"),
        _ => format!("BLACKLIST {range} junk"),
    };
    // One producer's clock is a year ahead.
    let ahead = if random.u8(..20) == 0 { Duration::from_secs(365 * 86_400) } else { Duration::ZERO };
    let key = Some(now.checked_add(ahead).unwrap().to_string().into());
    Record { offset, timestamp: Some(now), key, value: Some(value.into()) }
}

/// The fold of the commands below `next_offset`.
pub(crate) fn replayed(commands: &[Record], next_offset: u64) -> Fold {
    let mut fold = Fold::default();
    replay(commands, next_offset, &mut fold);
    fold
}

/// Brings `fold` to the commands below `next_offset`.
pub(crate) fn replay(commands: &[Record], next_offset: u64, fold: &mut Fold) {
    let from = commands.partition_point(|record| record.offset < fold.position().next_offset);
    for record in commands[from..].iter().take_while(|record| record.offset < next_offset) {
        let _rejected = fold.apply(record, &mut Edits::default());
    }
}
