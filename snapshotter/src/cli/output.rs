//! What commands print: tables for people, tab-separated lines or JSON for programs.

use std::io::{self, BufWriter, Write};

use clap::ValueEnum;
use edgefold_table::IpRange;
use serde_json::{Value, json};

use super::CliError;
use crate::record::Until;

/// A form of output.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Human,
    /// Tab-separated lines
    Raw,
    /// JSON
    Json,
}

/// Hands stdout to `print`, buffered.
pub(super) fn print(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    print(&mut out).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Tells a person on stderr what went wrong.
pub(super) fn complain(error: &dyn std::error::Error) {
    // There is nobody to tell if stderr is closed.
    let _written = writeln!(io::stderr(), "edgefold: {error}");
}

/// When a block ends, for people.
pub(super) fn until_words(until: Until) -> String {
    match until {
        Until::Forever => "for ever".to_owned(),
        Until::Time(time) => format!("until {time}"),
    }
}

/// When a block ends, or `-`.
pub(super) fn until_raw(until: Until) -> String {
    match until {
        Until::Forever => "-".to_owned(),
        Until::Time(time) => time.to_string(),
    }
}

/// `first`, `last` and `until`, which is null for ever.
pub(super) fn range_json(range: IpRange, until: Until) -> Value {
    let until = match until {
        Until::Forever => Value::Null,
        Until::Time(time) => time.to_string().into(),
    };
    json!({ "first": range.first(), "last": range.last(), "until": until })
}

/// One JSON array, an element a line.
pub(super) fn json_array(out: &mut dyn Write, values: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, "[")?;
    for (index, value) in values.enumerate() {
        write!(out, "{}\n  {value}", if index == 0 { "" } else { "," })?;
    }
    writeln!(out, "\n]")
}
