//! The formats, by name, and how to tell which one a file has.

use std::fmt;
use std::str::FromStr;

/// The format of a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// An address, a CIDR block or first-last on each line.
    Lines,
    /// CIDR blocks only.
    Cidr,
    /// first-last only.
    Ranges,
}

impl Format {
    /// All formats.
    pub const ALL: &'static [Self] = &[Self::Lines, Self::Cidr, Self::Ranges];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Cidr => "cidr",
            Self::Ranges => "ranges",
        }
    }

    /// What it is, for people, as in "this is not ...".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Lines => "lines of addresses, CIDR blocks or first-last",
            Self::Cidr => "lines of CIDR blocks",
            Self::Ranges => "lines of first-last",
        }
    }

    /// Whether it can be read.
    pub fn is_read(self) -> bool {
        true
    }

    /// Whether it can be written.
    pub fn is_written(self) -> bool {
        true
    }

    /// Whether it can say when a range ends.
    pub fn says_ends(self) -> bool {
        false
    }

    /// The fields by which entries can be chosen: see [`crate::Wanted`].
    pub fn fields(self) -> &'static [&'static str] {
        &[]
    }

    /// Whether entries can be chosen by fields whose names only the file knows.
    pub fn has_any_field(self) -> bool {
        false
    }

    /// Which format a file has that begins with `head`, its first kilobytes; `None` if that is not clear. `Cidr` and `Ranges` are read as
    /// [`Format::Lines`].
    pub fn detect(head: &[u8]) -> Option<Self> {
        let _ = head;
        Some(Self::Lines)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let format = Self::ALL.iter().copied().find(|format| format.name() == text);
        format.ok_or_else(|| UnknownFormat { found: edgefold_table::shorten(text) })
    }
}

/// A name that no format has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no format {found:?}: there are {}", Format::ALL.iter().map(|format| format.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownFormat {
    found: String,
}
