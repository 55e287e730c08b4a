//! A log of commands in memory, which is read as one in Kafka is: there may be gaps between the offsets, where transaction markers are.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use edgefold::{
    Batch, CommandReader, Error, Log, LogTime, NewCommand, Position, Record, RecordHash, ViewReader, ViewWriter,
};

/// So few that a test has many batches.
const BATCH_RECORDS: usize = 4;

/// Where the offsets of a log start, and how far they are apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    pub(crate) first: u64,
    pub(crate) step: u64,
}

impl Offsets {
    pub(crate) const WITHOUT_GAPS: Self = Self { first: 0, step: 1 };
}

pub(crate) struct MemoryLog {
    state: Mutex<(Offsets, Vec<Record>)>,
}

impl MemoryLog {
    pub(crate) fn new(offsets: Offsets) -> Self {
        Self { state: Mutex::new((offsets, Vec::new())) }
    }

    /// Becomes another log, without a command.
    pub(crate) fn recreate(&self, offsets: Offsets) {
        *self.state() = (offsets, Vec::new());
    }

    /// Changes how far the offsets of the next commands are apart.
    pub(crate) fn set_step(&self, step: u64) {
        self.state().0.step = step;
    }

    /// Appends a command that the log receives at some time.
    pub(crate) fn receive(&self, time: LogTime, received: LogTime, text: &str) {
        let (offsets, records) = &mut *self.state();
        let offset = records.last().map_or(offsets.first, |last| last.offset + offsets.step);
        let (key, value) = (Some(time.to_string().into()), Some(text.into()));
        records.push(Record { offset, timestamp: Some(received), key, value });
    }

    /// Changes records that have been read already, which no log does.
    pub(crate) fn rewrite(&self, text: &str, is_rewritten: impl Fn(u64) -> bool) {
        let (_, records) = &mut *self.state();
        let rewritten = records.iter_mut().filter(|record| is_rewritten(record.offset));
        rewritten.for_each(|record| record.value = Some(text.into()));
    }

    fn state(&self) -> MutexGuard<'_, (Offsets, Vec<Record>)> {
        self.state.lock().unwrap()
    }
}

impl Log for MemoryLog {
    fn init(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn append(&self, _commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        unimplemented!("MemoryLog::receive")
    }

    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error> {
        let (offsets, records) = &*self.state();
        let first = from.next_offset - u64::from(from.last_record.is_some());
        let end = records.last().map_or(0, |last| last.offset + offsets.step);
        if from.next_offset > end {
            return Err(Error::Gone { needed: first, found: format!("offsets 0 to {end}") });
        }
        let records = records.iter().filter(|record| record.offset >= first).cloned().collect();
        Ok(Box::new(Reader { unproved: from.last_record, next_offset: from.next_offset, records, end }))
    }

    fn view(&self) -> Result<Box<dyn ViewReader>, Error> {
        unimplemented!("there is no view")
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error> {
        unimplemented!("there is no view")
    }
}

struct Reader {
    /// The hash of the record before the others, until it is compared.
    unproved: Option<RecordHash>,
    next_offset: u64,
    records: VecDeque<Record>,
    end: u64,
}

impl CommandReader for Reader {
    fn read(&mut self, _timeout: Duration) -> Result<Batch, Error> {
        if let Some(hash) = self.unproved.take()
            && self.records.pop_front().is_none_or(|record| record.hash() != hash)
        {
            return Err(Error::OtherLog { offset: self.next_offset - 1 });
        }
        let records: Vec<Record> = self.records.drain(..self.records.len().min(BATCH_RECORDS)).collect();
        let at_end = self.records.is_empty();
        Ok(Batch { records, at_end, contact: at_end.then(Instant::now), end: Some(self.end), trouble: None })
    }

    fn end(&self) -> u64 {
        self.end
    }
}
