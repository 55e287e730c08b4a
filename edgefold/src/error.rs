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
    ///
    /// The value is not shown: a secret must not get into a log because its name was mistyped.
    #[error("the property {key} is refused: {why}")]
    Property {
        /// Its name.
        key: String,
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
    /// The log is another one than before: it was deleted and created anew, or its name now leads somewhere else.
    #[error(
        "the record at offset {offset} is not the one that was there before: this is another log of the same name. Its commands \
         are not mixed with those before. To accept it, rebuild the view of ranges"
    )]
    OtherLog {
        /// The offset of the last record that was folded.
        offset: u64,
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
        "of {} commands, {} were appended, {} were refused, and {} may or may not have been appended ({why})",
        outcomes.len(),
        outcomes.iter().filter(|outcome| outcome.offset().is_some()).count(),
        outcomes.iter().filter(|outcome| **outcome == Appended::Refused).count(),
        outcomes.iter().filter(|outcome| **outcome == Appended::Unknown).count()
    )]
    Partly {
        /// What became of each command, in their order.
        outcomes: Vec<Appended>,
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
    /// The system does not start another thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
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
    /// Not everything that was committed to the view is visible.
    #[error(
        "another producer has a transaction open on the ranges topic at offset {end}, which hides what was written up to offset \
         {fence}: stop that producer, or abort its transaction with kafka-transactions.sh"
    )]
    HeldBack {
        /// Where the visible records end: the last stable offset.
        end: u64,
        /// Up to where they must be visible.
        fence: u64,
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

/// What became of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Appended {
    /// It was appended, at this offset.
    At(u64),
    /// It was not appended.
    Refused,
    /// It may or may not have been appended.
    Unknown,
}

impl Appended {
    /// The offset of a command that was appended.
    pub fn offset(self) -> Option<u64> {
        if let Self::At(offset) = self { Some(offset) } else { None }
    }
}

impl Error {
    /// Whether it can go away by itself: a broker is down, a disk is full, credentials get fixed. Everything else needs
    /// somebody to change the log or the request.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::Thread(_)
                | Self::Sqlite { .. }
                | Self::Kafka { .. }
                | Self::Stalled { .. }
                | Self::StalledView { .. }
                | Self::HeldBack { .. }
        )
    }

    /// Whether the view is missing or invalid, so that it has to be rebuilt from the commands. `false` if the log itself, or
    /// the way to it, has failed, and for a view that only a newer edgefold may write.
    pub fn is_unusable_view(&self) -> bool {
        match self {
            Self::View(error) => !matches!(error, ViewError::Newer { .. }),
            Self::Missing(_) | Self::Settings(_) => true,
            _ => false,
        }
    }
}
