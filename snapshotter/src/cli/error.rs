//! Why a subcommand failed, in the words of the command line: the library's errors name no flags and no subcommands.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use edgefold::Error;
use edgefold_snapshot::{EncodeError, OpenError};

use crate::serve::ServeError;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("{}", log_error(.0))]
    Log(#[from] Error),
    #[error("--admin {address}: {source}")]
    Admin { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Serve(ServeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("{0}")]
    Usage(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    NotASnapshot { path: PathBuf, source: OpenError },
    #[error("{}; nothing was appended", log_error(.0))]
    NotAppended(Error),
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

    /// Whether the command line itself is wrong.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Log(Error::Property { .. } | Error::Unsupported { .. }))
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

/// The error with the flag that it is about, or with what to type next.
fn log_error(error: &Error) -> String {
    match error {
        Error::Missing(_) => format!("{error}: create it with `edgefold init`"),
        Error::Property { key, value, why } => format!("-X {key}={value}: {why}"),
        Error::Unacknowledged(_) => format!("{error}; `edgefold list` shows it if it was"),
        error => error.to_string(),
    }
}
