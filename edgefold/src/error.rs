//! What can go wrong with a log.

use std::path::PathBuf;

use crate::view::ViewError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log was never created: [`Log::init`](crate::Log::init) does so.
    #[error("there is no log at {0}")]
    Missing(String),
    /// This build has no support for the kind of log.
    #[error("this build does not support {scheme} logs: build it with the feature {feature}")]
    Unsupported {
        /// The scheme of the URL.
        scheme: &'static str,
        /// The crate feature that adds it.
        feature: &'static str,
    },
    /// A property that cannot be set.
    #[error("the property {key}={value} is refused: {why}")]
    Property {
        /// Its name.
        key: String,
        /// The value given.
        value: String,
        /// Why.
        why: String,
    },
    /// What exists there cannot be used as a log, because it would lose data or is something else.
    #[error("{}", .0.join("; "))]
    Settings(Vec<String>),
    /// Commands that are needed are no longer in the log.
    #[error(
        "commands from offset {needed} on are needed, but the log has {found}: was it truncated, or is it another log?"
    )]
    Gone {
        /// The first offset needed.
        needed: u64,
        /// What the log has, in words.
        found: String,
    },
    /// The log neither acknowledged nor refused the commands in time.
    #[error("the log did not acknowledge the command ({0}): it may or may not have been appended")]
    Unacknowledged(String),
    /// The log refused the commands.
    #[error("Kafka at {brokers} refused the command: {why}")]
    Refused {
        /// The brokers as the URL names them.
        brokers: String,
        /// Why.
        why: String,
    },
    /// Of several commands, some were appended, and others were not or may not have been.
    #[error(
        "of {commands} commands, {} were appended, {refused} were refused, and {unknown} may or may not have been appended \
         ({why})",
        offsets.len()
    )]
    Partly {
        /// How many commands there were.
        commands: usize,
        /// The offsets of those that were appended.
        offsets: Vec<u64>,
        /// How many were refused.
        refused: usize,
        /// How many may or may not have been appended.
        unknown: usize,
        /// Why the first of them was not appended.
        why: String,
    },
    /// Another writer has taken over the view.
    #[error("another writer has taken over the view of ranges")]
    Fenced,
    /// A file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("SQLite log {}: {source}", path.display())]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// SQLite's error.
        source: Source,
    },
    /// Kafka failed.
    #[error("Kafka at {brokers}: cannot {doing}: {source}")]
    Kafka {
        /// The brokers as the URL names them.
        brokers: String,
        /// What was tried, such as `read edgefold.commands`.
        doing: String,
        /// Kafka's error.
        source: Source,
    },
    /// The view cannot be used.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Reading the commands made no progress for a while.
    #[error(
        "for {seconds} seconds the log returned neither a command from offset {next_offset} on nor its end: is the broker up?"
    )]
    Stalled {
        /// The offset waited for.
        next_offset: u64,
        /// How long, in seconds.
        seconds: u64,
    },
    /// Reading the view made no progress for a while.
    #[error(
        "the view of ranges returned {done} of {total} records, then nothing for {seconds} seconds: is the broker up?"
    )]
    StalledView {
        /// How many records were read.
        done: u64,
        /// How many there are.
        total: u64,
        /// How long, in seconds.
        seconds: u64,
    },
    /// The log has not reached a requested moment.
    #[error("the log ends at offset {end}: offset {wanted} is still to come")]
    NotYet {
        /// The offset that was requested.
        wanted: u64,
        /// The next command's offset.
        end: u64,
    },
}

impl Error {
    /// Whether it can go away by itself: a broker is down, a disk is full, credentials get fixed. Everything else needs
    /// somebody to change the log or the request.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::Sqlite { .. }
                | Self::Kafka { .. }
                | Self::Stalled { .. }
                | Self::StalledView { .. }
        )
    }

    /// Whether the view is missing or invalid, so that it has to be rebuilt from the commands. `false` if the log itself, or
    /// the way to it, has failed.
    pub fn is_unusable_view(&self) -> bool {
        matches!(self, Self::View(_) | Self::Missing(_) | Self::Settings(_))
    }
}
