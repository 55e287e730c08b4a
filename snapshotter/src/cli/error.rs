//! Why a subcommand failed, in the words of the command line: the library's errors name no flags and no subcommands.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use edgefold::{Appended, Error, ListName, MAX_NAMED_LISTS, Reject, ResumeError};
use edgefold_formats::ReadError;
use edgefold_snapshot::{EncodeError, OpenError};

use super::{ERROR, UNKNOWN, USAGE_ERROR};
use crate::answers::words;
use crate::api::TokensError;
use crate::serve::ServeError;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("{}", log_error(.0))]
    Log(#[from] Error),
    #[error("--admin {address}: {source}")]
    Admin { address: SocketAddr, source: io::Error },
    #[error("--listen {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("--api-tokens: {0}")]
    Tokens(#[from] TokensError),
    #[error(transparent)]
    Serve(ServeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("{0}")]
    Usage(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    NotReadable { path: PathBuf, source: Box<ReadError> },
    #[error(
        "{}: {} of {} cannot be read, so nothing was appended:{shown}\n--skip-bad leaves them out",
        path.display(),
        words::number(*bad_entries),
        words::count(*entries, "entry")
    )]
    BadEntries { path: PathBuf, shown: String, bad_entries: u64, entries: u64 },
    #[error("{}: it is not clear which format this is: it begins with {line:?}. --format says so", path.display())]
    UnknownFormat { path: PathBuf, line: String },
    #[error("{}: it has more than {} ranges, which is the limit: --max-ranges raises it", path.display(), words::number(*most))]
    TooManyRanges { path: PathBuf, most: u64 },
    #[error(
        "{}: it has no entry, so nothing was appended: list {list} would be empty. `edgefold remove 0.0.0.0/0 ::/0 --list {list}` \
         empties it",
        path.display()
    )]
    EmptyFeed { path: PathBuf, list: ListName },
    #[error("these are not lists of edgefold: {0}")]
    Lists(#[from] ResumeError),
    #[error("nothing was appended: {why}")]
    Limit { why: String },
    #[error(
        "{why}: of {} commands, {} were appended before; import the same again to complete it",
        words::number(*total as u64),
        words::number(*done as u64)
    )]
    ImportCutOff { done: usize, total: usize, why: String, status: u8 },
    #[error("the log has no command at offset {offset}: `edgefold log` prints offsets")]
    NoCommand { offset: u64 },
    #[error("the record at offset {offset} was rejected, so it did nothing: {reject}")]
    Rejected { offset: u64, reject: Reject },
    #[error("{why}; nothing was appended. --dry-run shows what would change, --force appends it all the same")]
    Guarded { why: String },
    #[error("{}: the file is empty", path.display())]
    EmptyFile { path: PathBuf },
    #[error("{}: {source}", path.display())]
    NotASnapshot { path: PathBuf, source: Box<OpenError> },
    #[error("{}: the file is truncated or damaged: it begins like an ECDS file, but cannot be decoded", path.display())]
    DamagedResource { path: PathBuf },
    #[error("{} is not over the base in {}: inspect the base to see its fingerprint", path.display(), base.display())]
    OtherBase { path: PathBuf, base: PathBuf },
    #[error("{}; nothing was appended", log_error(.0))]
    NotAppended(Error),
    #[error("there is no list {name}: there are {known}")]
    NoList { name: ListName, known: String },
    #[error(
        "nothing was appended: list {name} does not exist, and there are {MAX_NAMED_LISTS} lists already. `edgefold lists drop` removes \
         one that is not needed"
    )]
    TooManyLists { name: ListName },
    #[error("{url}: {source}: is `serve --admin` there? --admin-url or EDGEFOLD_ADMIN says where")]
    NoAdmin { url: String, source: Box<ureq::Error> },
    #[error("{url}: that is not the admin server of edgefold serve: {source}")]
    NotAnAdmin { url: String, source: serde_json::Error },
    #[error("cannot handle signals: {0}")]
    Signal(io::Error),
    #[error("interrupted: the commands may or may not have been appended; to append them twice does no harm")]
    Interrupted,
    #[error("everything was appended, but its offsets cannot be printed: {0}")]
    NotPrinted(io::Error),
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

impl CliError {
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }

    /// The same error, after everything was appended.
    pub(super) fn after_append(self) -> Self {
        if let Self::Output(source) = self { Self::NotPrinted(source) } else { self }
    }

    pub(super) fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE_ERROR,
            Self::Log(error) => log_exit_status(error),
            Self::NotPrinted(_) => UNKNOWN,
            Self::ImportCutOff { status, .. } => *status,
            _ => ERROR,
        }
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Log(error) => Self::Log(error),
            ServeError::Admin { address, source } => Self::Admin { address, source },
            error => Self::Serve(error),
        }
    }
}

/// The exit status after an error of the log.
pub(super) fn log_exit_status(error: &Error) -> u8 {
    match error {
        Error::Property { .. } | Error::Unsupported { .. } => USAGE_ERROR,
        Error::Unacknowledged(_) => UNKNOWN,
        Error::Partly { outcomes, .. } if outcomes.contains(&Appended::Unknown) => UNKNOWN,
        _ => ERROR,
    }
}

/// The error with the flag that it is about, or with what to type next.
fn log_error(error: &Error) -> String {
    match error {
        Error::Missing(_) => format!("{error}: create it with `edgefold init`"),
        Error::Property { key, why } => format!("-X {key}: {why}"),
        Error::OtherLog { .. } => {
            format!("{error} with `edgefold rebuild`, and start every `edgefold serve` with a higher --epoch")
        }
        Error::Unacknowledged(_) => format!("{error}; to append it twice does no harm"),
        error => error.to_string(),
    }
}
