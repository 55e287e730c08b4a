//! What can be wrong with a file, and where.

use std::fmt;
use std::io;

use edgefold_table::shorten;

use crate::Format;

/// An entry that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {text:?}: {why}")]
pub struct BadEntry {
    /// Where it is.
    pub place: Place,
    /// The entry, shortened.
    pub text: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl BadEntry {
    /// An entry in a line.
    pub(crate) fn in_line(line: u64, text: &str, why: impl Into<String>) -> Self {
        Self { place: Place::Line(line), text: shorten(text), why: why.into() }
    }

    /// The end of a file, inside something that has an end of its own.
    pub(crate) fn cut_off(line: u64, inside: &str) -> Self {
        Self::in_line(line, "", format!("the file ends inside {inside}: it was cut off"))
    }
}

/// The text of an error of others, which may contain parts of the file, without control characters.
pub(crate) fn printable(text: &str) -> String {
    let escaped =
        text.chars().map(|char| if char.is_control() { char.escape_default().to_string() } else { char.into() });
    escaped.take(500).collect()
}

/// Where an entry is in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In this line, from 1.
    Line(u64),
    /// At this path of a document, as in `prefixes[17].ip_prefix`.
    Path(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// Why a file cannot be read as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The input failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not of this format.
    #[error("this is not {}: {why}", .format.describe())]
    NotThisFormat {
        /// The format that it was read as.
        format: Format,
        /// Why it is not.
        why: String,
    },
    /// The file ends before its entries do.
    #[error("the file is cut off: {why}")]
    CutOff {
        /// How that is known.
        why: String,
    },
    /// The file is larger than is read at once.
    #[error("the file has more than {most} bytes, which is the most that is read in this format")]
    TooLarge {
        /// The limit.
        most: u64,
    },
    /// Fields were asked for that entries of this format do not have.
    #[error("entries of {} have no field {field:?}: {}", .format.describe(), known(.format))]
    NoField {
        /// The format.
        format: Format,
        /// The field.
        field: String,
    },
}

fn known(format: &Format) -> String {
    match format.fields() {
        _ if format.has_any_field() => "the file has none of that name".to_owned(),
        [] => "they have none to choose by".to_owned(),
        fields => format!("they have {}", fields.join(", ")),
    }
}
