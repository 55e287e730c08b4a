//! A log that reports how far its readers have come, for progress bars.

use std::sync::Arc;
use std::time::Duration;

use super::{Batch, CommandReader, EachRecord, Log, NewCommand, Progress, ViewReader, ViewWriter};
use crate::{Error, Position};

/// What a reader reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// The commands.
    Commands,
    /// The view of ranges.
    View,
}

type Observe = Arc<dyn Fn(Reading, Progress) + Send + Sync>;

/// A log whose readers report their progress until they have reached the end that they saw when they were opened. The last
/// report of a reader, at the latest when it is dropped, has `done` equal to `total`.
pub struct Observed {
    log: Box<dyn Log>,
    observe: Observe,
}

impl Observed {
    /// Calls `observe` after each read of `log` that makes progress.
    pub fn new(log: Box<dyn Log>, observe: impl Fn(Reading, Progress) + Send + Sync + 'static) -> Self {
        Self { log, observe: Arc::new(observe) }
    }

    fn reader<R>(&self, reader: R, reading: Reading, total: u64) -> ObservedReader<R> {
        ObservedReader { reader, reading, progress: Progress { done: 0, total }, observe: Arc::clone(&self.observe) }
    }
}

impl Log for Observed {
    fn init(&self) -> Result<Vec<String>, Error> {
        self.log.init()
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        self.log.check()
    }

    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        self.log.append(commands)
    }

    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error> {
        let reader = self.log.commands(from)?;
        let total = reader.end().saturating_sub(from.next_offset);
        Ok(Box::new(self.reader(reader, Reading::Commands, total)))
    }

    fn view(&self) -> Result<Box<dyn ViewReader>, Error> {
        let reader = self.log.view()?;
        let total = reader.progress().total;
        Ok(Box::new(self.reader(reader, Reading::View, total)))
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error> {
        self.log.view_writer()
    }
}

struct ObservedReader<R> {
    reader: R,
    reading: Reading,
    progress: Progress,
    observe: Observe,
}

impl<R> ObservedReader<R> {
    fn advance(&mut self, done: u64) {
        let Progress { done: before, total } = self.progress;
        if before < total && done > before {
            self.progress.done = done.min(total);
            (self.observe)(self.reading, self.progress);
        }
    }
}

impl<R> Drop for ObservedReader<R> {
    fn drop(&mut self) {
        self.advance(self.progress.total);
    }
}

impl CommandReader for ObservedReader<Box<dyn CommandReader>> {
    fn read(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let batch = self.reader.read(timeout)?;
        let done = self.progress.done.saturating_add(batch.records.len() as u64);
        self.advance(if batch.at_end { self.progress.total } else { done });
        Ok(batch)
    }

    fn end(&self) -> u64 {
        self.reader.end()
    }
}

impl ViewReader for ObservedReader<Box<dyn ViewReader>> {
    fn read(&mut self, timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, Error> {
        let at_end = self.reader.read(timeout, each)?;
        self.advance(if at_end { self.progress.total } else { self.reader.progress().done });
        Ok(at_end)
    }

    fn progress(&self) -> Progress {
        self.reader.progress()
    }
}
