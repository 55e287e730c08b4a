//! What subcommands print: text for people, tab-separated lines or JSON for programs.

use std::io::{self, BufWriter, ErrorKind, Write};

use clap::ValueEnum;
use edgefold::{Block, Fold, List, ListName, Until};
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
    say(&error.to_string());
}

/// Prints a message for people on stderr.
pub(super) fn say(text: &str) {
    // If stderr is closed, there is nobody to tell.
    let _written = writeln!(io::stderr(), "edgefold: {text}");
}

/// When a block ends, for people: `until TIME` or `forever`.
pub(super) fn until_words(until: Until) -> String {
    match until.time() {
        None => until.to_string(),
        Some(_) => format!("until {until}"),
    }
}

/// The list with this name.
///
/// # Errors
/// [`CliError::NoList`] if it does not exist.
pub(super) fn list<'a>(fold: &'a Fold, name: &ListName) -> Result<&'a List, CliError> {
    fold.list(name).ok_or_else(|| {
        let known: Vec<String> = fold.lists().iter().map(|list| list.name().to_string()).collect();
        CliError::NoList { name: *name, known: known.join(", ") }
    })
}

/// A text of somebody else's on one line: control characters are escaped, and so are backslashes.
pub(super) fn one_line(text: &str) -> String {
    let escaped =
        text.chars().map(|c| if c.is_control() || c == '\\' { c.escape_default().to_string() } else { c.to_string() });
    escaped.collect()
}

/// A number of things: `1 range`, `2 ranges`.
pub(super) fn count(number: impl Into<u128>, thing: &str) -> String {
    let number = number.into();
    let plural = match number {
        1 => "",
        _ if thing.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {thing}{plural}")
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
