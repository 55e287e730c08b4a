//! The log behind one trait: the commands, which are the truth, and the view of ranges, which can be rebuilt from them.
//!
//! [`sqlite`] is the embedded log, [`kafka`] the real one; both pass one conformance suite.

use std::path::PathBuf;
use std::time::Duration;

use crate::edits::Edits;
use crate::fold::Position;
use crate::record::Record;
use crate::time::LogTime;

pub mod kafka;
pub mod sqlite;
mod url;

pub use url::{LogUrl, UrlError};

/// A log of commands, with the view beside it.
pub trait Log: Send {
    /// Creates what is missing, and checks what is there. Says what it did, a line each.
    ///
    /// # Errors
    /// [`LogError::Settings`] if something is there and would lose data.
    fn init(&self) -> Result<Vec<String>, LogError>;

    /// Appends commands in order, and returns once the log has them for good. Gives their offsets.
    ///
    /// # Errors
    /// [`LogError::Unacknowledged`] if it cannot be known whether they are in; any other error if they are not.
    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, LogError>;

    /// Reads the commands from offset `from` on.
    ///
    /// # Errors
    /// [`LogError::Gone`] if commands from `from` on are no longer there.
    fn commands(&self, from: u64) -> Result<Box<dyn CommandReader>, LogError>;

    /// Hands the committed records of the view, keys and values, to `each`, up to where the view ends now.
    ///
    /// # Errors
    /// Those of the log.
    fn read_view(&self, each: &mut EachRecord<'_>) -> Result<(), LogError>;

    /// Becomes the writer of the view. Whoever was it before is fenced off, so take the place before the view is read.
    ///
    /// # Errors
    /// Those of the log.
    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, LogError>;
}

/// Takes the key and the value of a record; no value is a tombstone.
pub type EachRecord<'a> = dyn FnMut(Option<&[u8]>, Option<&[u8]>) + 'a;

/// Follows the commands.
pub trait CommandReader {
    /// Waits for commands, at most `timeout`, and gives those there are, up to some thousands.
    ///
    /// # Errors
    /// Those after which there is no use in reading on. What may pass is logged, and read over.
    fn read(&mut self, timeout: Duration) -> Result<Batch, LogError>;
}

/// Commands in the order of their offsets.
#[derive(Debug, Default)]
pub struct Batch {
    /// The commands.
    pub records: Vec<Record>,
    /// Whether the reader has reached the end of the log behind them, as it stood a moment ago.
    pub at_end: bool,
}

/// Writes the view.
pub trait ViewWriter {
    /// Brings the view from `from` to `to`: all edits and the new `@offset`, or nothing.
    ///
    /// # Errors
    /// [`LogError::Fenced`] if another one writes the view now. After any other error it cannot be known whether the edits
    /// are in, and this writer is of no more use: a new one starts from what the view holds then.
    fn write(&mut self, edits: &Edits, from: Position, to: Position) -> Result<(), LogError>;
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
