//! What subcommands print: text for people, tab-separated lines or JSON for programs.

use std::io::{self, BufWriter, ErrorKind, Write};

use clap::ValueEnum;
use edgefold::{Block, Until};
use serde_json::{Value, json};

use super::CliError;

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

/// Prints on stderr what went wrong.
pub(super) fn complain(error: &dyn std::error::Error) {
    // If stderr is closed, there is nobody to tell.
    let _written = writeln!(io::stderr(), "edgefold: {error}");
}

/// When a block ends, for people: `until TIME` or `forever`.
pub(super) fn until_words(until: Until) -> String {
    match until.time() {
        None => until.to_string(),
        Some(_) => format!("until {until}"),
    }
}

/// `FIRST<TAB>LAST<TAB>UNTIL`, where `-` stands for forever.
pub(super) fn block_raw(Block { range, until }: Block) -> String {
    let until = until.time().map_or("-".to_owned(), |time| time.to_string());
    format!("{}\t{}\t{until}", range.first(), range.last())
}

/// `first`, `last` and `until`, which is null for forever.
pub(super) fn block_json(Block { range, until }: Block) -> Value {
    let until = until.time().map(|time| time.to_string());
    json!({ "first": range.first(), "last": range.last(), "until": until })
}

/// A JSON array with one element on each line.
pub(super) fn json_array(out: &mut dyn Write, values: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, "[")?;
    for (index, value) in values.enumerate() {
        write!(out, "{}\n  {value}", if index == 0 { "" } else { "," })?;
    }
    writeln!(out, "\n]")
}
