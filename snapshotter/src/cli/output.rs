//! What subcommands print: text for people, tab-separated lines or JSON for programs.

use std::env;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use edgefold::{Block, Fold, List, ListName};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::flag;

use super::{CliError, progress};
use crate::answers::words;

/// An output format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Human,
    /// Tab-separated lines
    Raw,
    /// JSON
    Json,
}

/// Calls `print` with stdout, buffered. A reader that stops early, as `head` does, is not an error.
pub(super) fn print(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    match print(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

/// As [`print`], through a pager if stdout is a terminal: `EDGEFOLD_PAGER`, or `PAGER`, or `less`, as git does. `cat` or an empty text stands
/// for none.
pub(super) fn print_long(print_to: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let pager = if io::stdout().is_terminal() { pager() } else { None };
    let Some(mut pager) = pager.and_then(|mut pager| pager.spawn().ok()) else { return print(print_to) };
    progress::hide();
    // A Ctrl-C is for the pager, which takes it as git's does: this process must outlive it.
    for signal in [SIGINT, SIGQUIT] {
        flag::register(signal, Arc::new(AtomicBool::new(false))).map_err(CliError::Signal)?;
    }
    let printed = match pager.stdin.take() {
        // Whoever leaves the pager early closes the pipe.
        Some(stdin) => {
            let mut out = BufWriter::new(stdin);
            print_to(&mut out).and_then(|()| out.flush())
        }
        None => Ok(()),
    };
    pager.wait().map_err(CliError::Output)?;
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

fn pager() -> Option<Command> {
    let named = env::var("EDGEFOLD_PAGER").or_else(|_| env::var("PAGER")).unwrap_or_else(|_| "less".to_owned());
    let program = named.split_whitespace().next().filter(|program| *program != "cat")?;
    // The shell would only complain, and what is printed would be lost.
    let is_there = |folder: PathBuf| folder.join(program).is_file();
    if !env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(is_there) && !Path::new(program).is_file() {
        return None;
    }
    // It may have arguments.
    let mut pager = Command::new("sh");
    pager.args(["-c", &named]).stdin(Stdio::piped());
    if env::var_os("LESS").is_none() {
        // Ends if all fits on the screen, shows colours, and leaves the text there.
        pager.env("LESS", "FRX");
    }
    Some(pager)
}

/// How to emphasize text: not at all, unless stdout is a terminal and `NO_COLOR` is not set.
#[derive(Clone, Copy, Default)]
pub(super) struct Styles {
    /// What matters most.
    pub(super) strong: Style,
    /// What is refused, or removed.
    pub(super) bad: Style,
    /// What passes, or is added.
    pub(super) good: Style,
    /// What matters less.
    pub(super) quiet: Style,
}

impl Styles {
    pub(super) fn of_stdout() -> Self {
        if AutoStream::choice(&io::stdout()) == ColorChoice::Never {
            return Self::default();
        }
        Self {
            strong: Style::new().bold(),
            bad: AnsiColor::Red.on_default(),
            good: AnsiColor::Green.on_default(),
            quiet: Style::new().dimmed(),
        }
    }
}

/// Prints on stderr what went wrong.
pub(super) fn complain(error: &dyn std::error::Error) {
    say(&error.to_string());
}

/// Prints a message for people on stderr.
pub(super) fn say(text: &str) {
    let lines: Vec<String> = text.split('\n').map(words::visible).collect();
    // If stderr is closed, there is nobody to tell.
    let _written = writeln!(io::stderr(), "edgefold: {}", lines.join("\n"));
}

/// The list with this name.
///
/// # Errors
/// [`CliError::NoList`] if it does not exist.
pub(super) fn list<'a>(fold: &'a Fold, name: &ListName) -> Result<&'a List, CliError> {
    fold.list(name).ok_or_else(|| CliError::NoList { name: *name, known: list_names(fold) })
}

/// The names of all lists.
pub(super) fn list_names(fold: &Fold) -> String {
    fold.lists().iter().map(|list| list.name().to_string()).collect::<Vec<_>>().join(", ")
}

/// `FIRST<TAB>LAST<TAB>UNTIL`, where `-` stands for forever.
pub(super) fn block_raw(Block { range, until }: Block) -> String {
    let until = until.time().map_or("-".to_owned(), |time| time.to_string());
    format!("{}\t{}\t{until}", range.first(), range.last())
}

/// A JSON array with one element on each line.
pub(super) fn json_array(out: &mut dyn Write, values: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, "[")?;
    for (index, value) in values.enumerate() {
        write!(out, "{}\n  {value}", if index == 0 { "" } else { "," })?;
    }
    writeln!(out, "\n]")
}
