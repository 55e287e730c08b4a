//! The command line: one file for each subcommand, data on stdout, words for people on stderr.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::load::LoadError;
use crate::log::{Log, LogError, LogUrl};

mod append;
mod check;
mod init;
mod inspect;
mod list;
mod module;
mod moment;
mod output;
mod rebuild;
mod rejects;
mod serve;
mod settings;
mod snapshot;
mod verify;

/// The exit status of a usage error: EX_USAGE of sysexits.h.
const USAGE_ERROR: u8 = 64;
/// The exit status of every other error; 1 is a verdict of `check`.
const ERROR: u8 = 2;

/// An event-sourced IP blocklist for Envoy.
#[derive(Debug, Parser)]
#[command(name = "edgefold", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct LogArgs {
    /// The log: sqlite:PATH or kafka://HOST:PORT[,HOST:PORT]/PREFIX
    #[arg(long = "log", value_name = "URL", env = "EDGEFOLD_LOG", default_value = "sqlite:edgefold.db", global = true)]
    url: LogUrl,
    /// Set a librdkafka property; may be given several times
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = property, global = true)]
    properties: Vec<(String, String)>,
    /// Read librdkafka properties from a file of KEY=VALUE lines; -X goes before it
    #[arg(short = 'F', value_name = "FILE", global = true)]
    properties_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Block(append::Block),
    Allow(append::Allow),
    List(list::List),
    Check(check::Check),
    Serve(serve::Serve),
    Snapshot(snapshot::Snapshot),
    Rejects(rejects::Rejects),
    Verify(verify::Verify),
    Rebuild(rebuild::Rebuild),
    Inspect(inspect::Inspect),
    Module(module::Module),
}

/// Runs the command line, and gives the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _printed = error.print();
            return if error.use_stderr() { USAGE_ERROR.into() } else { ExitCode::SUCCESS };
        }
    };
    start_logging(matches!(cli.command, Command::Serve(_)));
    match cli.command.run(&cli.log) {
        Ok(status) => status,
        // The reader of our output has had enough, as `head` does.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            let usage = matches!(error, CliError::Usage(_) | CliError::Log(LogError::Property { .. }));
            if usage { USAGE_ERROR.into() } else { ERROR.into() }
        }
    }
}

impl Command {
    fn run(&self, log: &LogArgs) -> Result<ExitCode, CliError> {
        match self {
            Self::Init(init) => init.run(&*log.open()?),
            Self::Block(block) => block.run(&*log.open()?),
            Self::Allow(allow) => allow.run(&*log.open()?),
            Self::List(list) => list.run(&*log.open()?),
            Self::Check(check) => check.run(&*log.open()?),
            Self::Serve(serve) => serve.run(Arc::from(log.open()?)),
            Self::Verify(verify) => verify.run(&*log.open()?),
            Self::Rebuild(rebuild) => rebuild.run(&*log.open()?),
            Self::Rejects(rejects) => rejects.run(&*log.open()?),
            Self::Snapshot(snapshot) => snapshot.run(&*log.open()?),
            Self::Inspect(inspect) => inspect.run(),
            Self::Module(module) => module.run(),
        }
    }
}

impl LogArgs {
    fn open(&self) -> Result<Box<dyn Log>, CliError> {
        let mut properties = Vec::new();
        if let Some(path) = &self.properties_file {
            let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                properties
                    .push(property(line).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?);
            }
        }
        properties.extend(self.properties.iter().cloned());
        Ok(self.url.open(&properties)?)
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no property: write KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// `RUST_LOG` overrides what is said by default.
fn start_logging(serve: bool) {
    use tracing_subscriber::EnvFilter;
    // What librdkafka has to say comes back as an error from the call that failed.
    let default = if serve {
        "warn,librdkafka=off,edgefold=info"
    } else {
        "error,librdkafka=off,edgefold=warn,edgefold::progress=info"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Build(#[from] edgefold_table::BuildError),
    #[error("{0}")]
    Usage(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    NoSnapshot { path: PathBuf, source: edgefold_table::SnapshotError },
    #[error("{0}; nothing was appended")]
    NotAppended(LogError),
    #[error("all was appended, but its offsets cannot be printed: {0}")]
    Unprinted(io::Error),
    #[error("--admin {address}: {source}")]
    Admin { address: SocketAddr, source: io::Error },
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("cannot handle signals: {0}")]
    Signal(io::Error),
}

impl CliError {
    fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
