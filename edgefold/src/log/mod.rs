//! The log behind one trait: the commands, which are the truth, and the view of ranges, which can be rebuilt from them.
//!
//! SQLite is the embedded log, Kafka the distributed one. Both pass the same conformance suite.

use std::time::{Duration, Instant};

use crate::{Error, LogTime, Position, Record};

#[cfg(feature = "kafka")]
mod kafka;
mod observed;
#[cfg(feature = "sqlite")]
mod sqlite;
mod url;

#[cfg(feature = "kafka")]
pub use kafka::KafkaLog;
pub use observed::{Observed, Reading};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLog;
pub use url::{LogUrl, UrlError};

/// A log of commands with the view of ranges beside it.
pub trait Log: Send + Sync {
    /// Creates what is missing, and checks what exists. Returns what it did, and any warnings, one line each.
    ///
    /// # Errors
    /// [`Error::Settings`] if something exists that would lose data.
    fn init(&self) -> Result<Vec<String>, Error>;

    /// Checks that the log exists and that its settings lose nothing. Returns any warnings, one line each.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no log, [`Error::Settings`] if something would lose data.
    fn check(&self) -> Result<Vec<String>, Error>;

    /// Appends commands in order, and returns their offsets once they are durable.
    ///
    /// # Errors
    /// [`Error::Unacknowledged`] and [`Error::Partly`] say what is known. After any other error nothing was appended.
    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, Error>;

    /// Reads the commands from `from` on. The reader proves, before it returns any and from time to time, that the log still has
    /// the record before them, [`Position::last_record`]: see [`CommandReader::read`].
    ///
    /// # Errors
    /// [`Error::Gone`] if the log does not have the commands from there on.
    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error>;

    /// Reads the view from its start on.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    fn view(&self) -> Result<Box<dyn ViewReader>, Error>;

    /// Becomes the writer of the view, which is created if it is missing. This fences the writer before it, so do it before
    /// reading the view.
    ///
    /// # Errors
    /// Those of the log.
    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error>;
}

/// Receives the key and the value of a record of the view. A record without a value is a tombstone.
pub type EachRecord<'a> = dyn FnMut(Option<&[u8]>, Option<&[u8]>) + 'a;

/// Follows the commands.
pub trait CommandReader: Send {
    /// Waits at most `timeout` for commands, and returns those that are there, up to some thousands.
    ///
    /// # Errors
    /// Those after which reading on is useless, such as [`Error::OtherLog`]. Transient trouble is reported in the [`Batch`], and
    /// the reader retries.
    fn read(&mut self, timeout: Duration) -> Result<Batch, Error>;

    /// The offset after the last command, as it was when this reader was opened.
    fn end(&self) -> u64;
}

/// Commands in the order of their offsets.
#[derive(Debug, Default)]
pub struct Batch {
    /// The commands.
    pub records: Vec<Record>,
    /// Whether the reader has reached the end of the log, and nothing has come since.
    pub at_end: bool,
    /// The last moment at which the log confirmed that it had nothing beyond this batch and those before it.
    pub contact: Option<Instant>,
    /// The offset after the last command of the log, as far as is known.
    pub end: Option<u64>,
    /// Why the log cannot be read at the moment.
    pub trouble: Option<String>,
}

/// Follows the view.
pub trait ViewReader: Send {
    /// Waits at most `timeout` for committed records, passes them to `each`, and says whether the view ends after them. Up to
    /// that end every key comes at least once with its newest value. After it, `@offset` comes at least whenever it moves.
    ///
    /// # Errors
    /// Those after which reading on is useless. Transient trouble is logged, and the reader retries.
    fn read(&mut self, timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, Error>;

    /// How far this reader has come. It also moves whenever another writer takes over, even if that one has written nothing yet.
    fn progress(&self) -> Progress;
}

/// How far a reader has come, in records (Kafka: in offsets).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Records read.
    pub done: u64,
    /// Records that there were when the reader was opened.
    pub total: u64,
}

/// A record of the view: key and value. A record without a value is a tombstone.
pub type ViewRecord = (Vec<u8>, Option<String>);

/// Writes the view.
pub trait ViewWriter: Send {
    /// Everything that the writers before this one have committed lies before this point, in the unit of [`Progress`]. A reader
    /// whose [`Progress::total`] is less does not see all of it.
    fn fence(&self) -> u64;

    /// Writes all of `records` or none. The last one is `@offset`.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another writer has taken over. After any other error it is unknown whether the records were
    /// written: drop this writer, and start from what the view contains then.
    fn write(&mut self, records: &mut dyn Iterator<Item = ViewRecord>) -> Result<(), Error>;
}

/// A command to be appended to the log.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// The record's key.
    pub time: LogTime,
    /// The record's value.
    pub text: String,
}
