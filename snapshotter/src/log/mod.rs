//! The log behind one trait: the commands, which are the truth, and the view of ranges, which can be rebuilt from them.
//!
//! [`sqlite`] is the embedded log, [`kafka`] the real one; both pass one conformance suite.

use std::path::PathBuf;
use std::time::Duration;

use crate::record::Record;
use crate::time::LogTime;
use crate::view::ViewRecord;

pub mod kafka;
pub mod sqlite;
mod url;

pub use url::{LogUrl, UrlError};

/// A log of commands, with the view beside it.
pub trait Log: Send + Sync {
    /// Creates what is missing, and checks what is there. Says what it did and what it warns of, a line each.
    ///
    /// # Errors
    /// [`LogError::Settings`] if something is there and would lose data.
    fn init(&self) -> Result<Vec<String>, LogError>;

    /// Checks that the log is there and that its settings lose nothing. Gives what to warn of, a line each.
    ///
    /// # Errors
    /// [`LogError::Missing`] if there are no commands, [`LogError::Settings`] if something would lose data.
    fn check(&self) -> Result<Vec<String>, LogError>;

    /// Appends commands in order, and returns once the log has them for good. Gives their offsets.
    ///
    /// # Errors
    /// [`LogError::Unacknowledged`] and [`LogError::Partly`] say what is known; after any other error none is in.
    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, LogError>;

    /// Reads the commands from offset `from` on.
    ///
    /// # Errors
    /// [`LogError::Gone`] if commands from `from` on are no longer there.
    fn commands(&self, from: u64) -> Result<Box<dyn CommandReader>, LogError>;

    /// Reads the view from its start on.
    ///
    /// # Errors
    /// [`LogError::Missing`] if there is none, [`LogError::Settings`] if it has lost records.
    fn view(&self) -> Result<Box<dyn ViewReader>, LogError>;

    /// Becomes the writer of the view, which is created if it is missing. Whoever was it before is fenced off, so take the
    /// place before the view is read.
    ///
    /// # Errors
    /// Those of the log.
    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, LogError>;
}

/// Takes the key and the value of a record; no value is a tombstone.
pub type EachRecord<'a> = dyn FnMut(Option<&[u8]>, Option<&[u8]>) + 'a;

/// Follows the commands.
pub trait CommandReader: Send {
    /// Waits for commands, at most `timeout`, and gives those there are, up to some thousands.
    ///
    /// # Errors
    /// Those after which there is no use in reading on. What may pass is logged, and read over.
    fn read(&mut self, timeout: Duration) -> Result<Batch, LogError>;

    /// The offset behind the last command, as it stood when this reader was opened.
    fn end(&self) -> u64;
}

/// Commands in the order of their offsets.
#[derive(Debug, Default)]
pub struct Batch {
    /// The commands.
    pub records: Vec<Record>,
    /// Whether the reader has reached the end of the log behind them, as it stood a moment ago.
    pub at_end: bool,
}

/// Follows the view.
pub trait ViewReader: Send {
    /// Hands committed records to `each`, waiting at most `timeout` for the first, and says whether the view ends behind
    /// them. Up to that end each key comes at least once with its newest value; then `@offset` comes again at least
    /// whenever it has moved.
    ///
    /// # Errors
    /// Those after which there is no use in reading on. What may pass is logged, and read over.
    fn read(&mut self, timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, LogError>;

    /// How far this reader has come.
    fn progress(&self) -> Progress;
}

/// How far a reader has come, in records (Kafka: in offsets).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// So many are read.
    pub done: u64,
    /// So many there were when the reader was opened.
    pub total: u64,
}

/// Writes the view.
pub trait ViewWriter: Send {
    /// Writes `records`, all or none; the last one is `@offset`.
    ///
    /// # Errors
    /// [`LogError::Fenced`] if another one writes the view now. After any other error it cannot be known whether the records
    /// are in, and this writer is of no more use: a new one starts from what the view holds then.
    fn write(&mut self, records: &mut dyn Iterator<Item = ViewRecord>) -> Result<(), LogError>;
}

/// A command on its way into the log.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// The record's key.
    pub time: LogTime,
    /// The record's value.
    pub text: String,
}

/// What goes wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The log was never created.
    #[error("there is no log at {0}: create it with `edgefold init`")]
    Missing(String),
    /// A property of librdkafka that cannot be set.
    #[error("-X {key}={value}: {why}")]
    Property {
        /// Its name.
        key: String,
        /// The value given.
        value: String,
        /// Why.
        why: String,
    },
    /// What is there cannot serve as a log.
    #[error("{}", .0.join("; "))]
    Settings(Vec<String>),
    /// Commands that are needed are not there.
    #[error(
        "commands from offset {needed} on are needed, but the log has {found}: was it truncated, or is it another log?"
    )]
    Gone {
        /// The first offset needed.
        needed: u64,
        /// What the log has, in words.
        found: String,
    },
    /// The log did not say in time whether it has the commands.
    #[error(
        "the log did not acknowledge the command ({0}): it may or may not have been appended; `edgefold list` tells"
    )]
    Unacknowledged(String),
    /// The log has refused the commands.
    #[error("Kafka at {brokers} refused the command: {why}")]
    Refused {
        /// The brokers as the URL names them.
        brokers: String,
        /// Why.
        why: String,
    },
    /// Of several commands some are in, and others are not or it cannot be known.
    #[error(
        "of {commands} commands {} were appended, {refused} were not, and of {unknown} it cannot be known ({why})",
        offsets.len()
    )]
    Partly {
        /// How many there were.
        commands: usize,
        /// The offsets of those that are in.
        offsets: Vec<u64>,
        /// How many are not in.
        refused: usize,
        /// Of how many it cannot be known.
        unknown: usize,
        /// Why the first of them is not.
        why: String,
    },
    /// Another snapshotter writes the view.
    #[error("another snapshotter writes the ranges now")]
    Fenced,
    /// A file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite's own words.
    #[error("SQLite log {}: {source}", path.display())]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: Box<rusqlite::Error>,
    },
    /// Kafka's own words.
    #[error("Kafka at {brokers}: {doing}: {source}")]
    Kafka {
        /// The brokers as the URL names them.
        brokers: String,
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: Box<rdkafka::error::KafkaError>,
    },
}

impl LogError {
    /// Whether it may pass by itself: a broker that is down, a disk that is full, credentials that are put right. The rest
    /// needs somebody to change what is there.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Sqlite { .. } | Self::Kafka { .. })
    }
}
