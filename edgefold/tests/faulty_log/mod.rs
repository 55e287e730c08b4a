//! A log of commands in memory, whose readers fail on demand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure in a helper must fail the test")]

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use edgefold::{
    Batch, CommandReader, EachRecord, Error, Log, NewCommand, Position, Progress, Record, ViewReader, ViewWriter, now,
};

/// How reading the commands fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// With an error that can go away by itself.
    Transient,
    /// With an error that needs somebody to change the log.
    Permanent,
    /// The reader reports [`TROUBLE`], and retries by itself.
    Trouble,
    /// The reader does not return before the fault is over.
    Hang,
    /// The reader panics.
    Panic,
}

/// What a reader reports during [`Fault::Trouble`].
pub(crate) const TROUBLE: &str = "all brokers are down";

/// A handle of the log, which exists as long as one of its handles or readers does. The view is always empty.
#[derive(Clone, Default)]
pub(crate) struct FaultyLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    fault: Option<Fault>,
    /// Whether a reader hangs.
    hangs: bool,
    /// How many readers were opened.
    opened: usize,
    /// When opening a reader, or reading, returned an error.
    errors: Vec<Instant>,
}

impl FaultyLog {
    /// Another handle of the same log, as a blocklist takes it.
    pub(crate) fn handle(&self) -> Arc<dyn Log> {
        Arc::new(self.clone())
    }

    /// From now on, every read fails with `fault`, or none does.
    pub(crate) fn set_fault(&self, fault: impl Into<Option<Fault>>) {
        self.state().fault = fault.into();
        self.0.changed.notify_all();
    }

    /// Appends a command with the current time.
    pub(crate) fn append_text(&self, text: &str) {
        self.append(&[NewCommand { time: now(), text: text.to_owned() }]).unwrap();
    }

    /// Whether a reader hangs at the moment.
    pub(crate) fn hangs(&self) -> bool {
        self.state().hangs
    }

    pub(crate) fn readers_opened(&self) -> usize {
        self.state().opened
    }

    /// When opening a reader, or reading, returned an error.
    pub(crate) fn errors(&self) -> Vec<Instant> {
        self.state().errors.clone()
    }

    /// Whether this is the only handle, and nobody reads the log.
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

impl State {
    /// Returns the error that the fault demands, if it demands one.
    fn check(&mut self) -> Result<(), Error> {
        let error = match self.fault {
            Some(Fault::Transient) => Error::Stalled { next_offset: 0, seconds: 30 },
            Some(Fault::Permanent) => Error::Gone { needed: 0, found: "nothing".to_owned() },
            Some(Fault::Trouble | Fault::Hang | Fault::Panic) | None => return Ok(()),
        };
        self.errors.push(Instant::now());
        Err(error)
    }
}

impl Log for FaultyLog {
    fn init(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        let mut state = self.state();
        let next = state.records.len() as u64;
        state.records.extend((next..).zip(commands).map(|(offset, NewCommand { time, text })| Record {
            offset,
            timestamp: None,
            key: Some(time.to_string().into()),
            value: Some(text.clone().into()),
        }));
        self.0.changed.notify_all();
        Ok((next..state.records.len() as u64).collect())
    }

    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error> {
        let mut state = self.state();
        state.check()?;
        state.opened += 1;
        // It starts one record early: a log may deliver a record twice.
        let next = usize::try_from(from.next_offset).unwrap().saturating_sub(1);
        Ok(Box::new(Commands { log: self.clone(), next, end: state.records.len() as u64 }))
    }

    fn view(&self) -> Result<Box<dyn ViewReader>, Error> {
        Ok(Box::new(EmptyView))
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error> {
        Err(Error::Fenced)
    }
}

struct Commands {
    log: FaultyLog,
    next: usize,
    end: u64,
}

impl CommandReader for Commands {
    fn read(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let Shared { state, changed } = &*self.log.0;
        let nothing_to_do = |state: &mut State| match state.fault {
            None => state.records.len() == self.next,
            Some(Fault::Trouble) => true,
            Some(_) => false,
        };
        let (mut state, _) = changed.wait_timeout_while(state.lock().unwrap(), timeout, nothing_to_do).unwrap();
        state.check()?;
        match state.fault {
            Some(Fault::Trouble) => return Ok(Batch { trouble: Some(TROUBLE.to_owned()), ..Batch::default() }),
            Some(Fault::Panic) => {
                drop(state); // It must not be poisoned.
                panic!("a bug in the log");
            }
            _ => {}
        }
        state.hangs = state.fault == Some(Fault::Hang);
        let mut state = changed.wait_while(state, |state| state.fault == Some(Fault::Hang)).unwrap();
        state.hangs = false;
        let records = state.records[self.next..].to_vec();
        self.next = state.records.len();
        Ok(Batch { records, at_end: true, contact: Some(Instant::now()), ..Batch::default() })
    }

    fn end(&self) -> u64 {
        self.end
    }
}

struct EmptyView;

impl ViewReader for EmptyView {
    fn read(&mut self, _timeout: Duration, _each: &mut EachRecord<'_>) -> Result<bool, Error> {
        Ok(true)
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }
}
