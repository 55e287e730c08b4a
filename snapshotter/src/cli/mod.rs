//! The command line: one file for each subcommand. Data goes to stdout, messages for people go to stderr.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

mod admin_args;
mod allow;
mod append;
mod block;
mod cache_args;
mod check;
mod completions;
mod config;
mod config_file;
mod diff;
mod difference;
mod doctor;
mod error;
mod explain;
mod export;
mod feed;
mod fleet;
mod import;
mod init;
mod inspect;
mod interrupts;
mod list;
mod lists;
mod log;
mod log_args;
mod man;
mod module;
mod moment_args;
mod output;
mod progress;
mod ranges_args;
mod rebuild;
mod rejects;
mod serve;
mod settings_args;
mod snapshot;
mod snapshot_args;
mod snapshot_file;
mod time_arg;
mod ui;
mod undo;
mod verify;

use config_file::ConfigFile;
use error::CliError;

/// The exit status after a usage error: EX_USAGE of sysexits.h.
const USAGE_ERROR: u8 = 64;
/// The exit status after any other error. 1 is an answer, such as that of `check`.
const ERROR: u8 = 2;
/// The exit status if it is unknown whether a command was appended.
const UNKNOWN: u8 = 3;
/// The exit status if everything was appended, but not every proxy has confirmed it.
const NOT_CONFIRMED: u8 = 4;

const EXIT_STATUS: &str = "\
Exit status:
  0   success
  1   check, explain: at least one address is refused; diff: something differs; verify: the view differs from the commands; fleet: a proxy \
is behind; doctor: something is wrong
  2   an error, described on stderr; of what appends commands: what is not printed was not appended
  3   of what appends commands: of what is not printed, some may have been appended
  4   with --wait: everything was appended, but not every proxy has confirmed it, as stderr says
  64  a usage error, which names the flag and the value

block, allow, add, remove, lists set, lists drop, import and undo append commands.";

/// An event-sourced IP blocklist for Envoy
///
/// Commands such as BLACKLIST 10.0.0.0/24 go to a log, in Kafka or SQLite, that is kept forever. `edgefold serve` folds them into
/// blocked ranges, and ships these to a filter in Envoy. It also keeps the view of ranges, a cache of the folded ranges that makes
/// startup fast. The view can always be rebuilt from the commands.
#[derive(Debug, Parser)]
#[command(name = "edgefold", version, propagate_version = true, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    subcommand: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Init(init::InitArgs),
    Block(block::BlockArgs),
    Allow(allow::AllowArgs),
    Add(block::AddArgs),
    Remove(allow::RemoveArgs),
    List(list::ListArgs),
    Lists(lists::ListsArgs),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Log(log::LogCommandArgs),
    Diff(diff::DiffArgs),
    Undo(undo::UndoArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Serve(Box<serve::ServeArgs>),
    Ui(ui::UiArgs),
    Fleet(fleet::FleetArgs),
    Snapshot(snapshot::SnapshotArgs),
    Rejects(rejects::RejectsArgs),
    Verify(verify::VerifyArgs),
    Rebuild(rebuild::RebuildArgs),
    Inspect(inspect::InspectArgs),
    Module(module::ModuleArgs),
    Doctor(doctor::DoctorArgs),
    Config(config::ConfigArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Runs the command line, and returns its exit status.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    start_logging(matches!(cli.subcommand, Subcommand::Serve(_)));
    match cli.subcommand.run() {
        Ok(status) => status,
        Err(error) => {
            output::complain(&error);
            error.exit_status().into()
        }
    }
}

/// Reads the command line, with what the configuration file adds, or returns the exit status if there is nothing to run.
fn parse() -> Result<Cli, ExitCode> {
    let typed: Vec<OsString> = env::args_os().collect();
    let asks_for_help = |arg: &OsString| ["-h", "--help", "-V", "--version", "help"].iter().any(|help| arg == help);
    let command = Cli::command();
    let found = if typed.iter().any(asks_for_help) { Ok(None) } else { ConfigFile::find() };
    let all = found.and_then(|file| match &file {
        None => Ok((None, typed)),
        Some(of) => Ok((Some(of.path.clone()), of.add_to(&command, typed)?)),
    });
    let (file, all) = all.map_err(|error| {
        output::complain(&error);
        ExitCode::from(error.exit_status())
    })?;
    let matches = command.try_get_matches_from(all);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        let _printed = error.print();
        if !error.use_stderr() {
            return ExitCode::SUCCESS;
        }
        if let Some(path) = file {
            output::say(&format!("some flags come from {}: see `edgefold config`", path.display()));
        }
        USAGE_ERROR.into()
    })
}

impl Subcommand {
    fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Self::Init(args) => args.run(),
            Self::Block(args) => args.run(),
            Self::Allow(args) => args.run(),
            Self::Add(args) => args.run(),
            Self::Remove(args) => args.run(),
            Self::List(args) => args.run(),
            Self::Lists(args) => args.run(),
            Self::Check(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Log(args) => args.run(),
            Self::Diff(args) => args.run(),
            Self::Undo(args) => args.run(),
            Self::Import(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::Ui(args) => args.run(),
            Self::Fleet(args) => args.run(),
            Self::Snapshot(args) => args.run(),
            Self::Rejects(args) => args.run(),
            Self::Verify(args) => args.run(),
            Self::Rebuild(args) => args.run(),
            Self::Inspect(args) => args.run(),
            Self::Module(args) => args.run(),
            Self::Doctor(args) => args.run(),
            Self::Config(args) => args.run(),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
        }
    }
}

/// `RUST_LOG` overrides the default.
fn start_logging(serve: bool) {
    use tracing_subscriber::EnvFilter;
    // librdkafka's own messages come back as errors from the calls that fail.
    let levels = if serve { "warn,edgefold=info" } else { "error,edgefold=warn" };
    let default = format!("{levels},librdkafka=off,{}=info", progress::TARGET);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // A person at a prompt knows what time it is.
    if serve { logging.init() } else { logging.without_time().init() }
}
