//! What a format says of itself. Each format's file has one [`About`], and everything else asks that.

use std::io::{self, BufRead, Write};

use edgefold::Block;

use crate::error::ReadError;
use crate::{EachEntry, ReadOptions, WriteOptions};

/// Reads a file: see [`crate::read`].
type ReadEntries = fn(&mut dyn BufRead, &ReadOptions, &mut EachEntry<'_>) -> Result<(), ReadError>;
/// Writes a file: see [`crate::write`].
type WriteBlocks = fn(&mut dyn Iterator<Item = Block>, &WriteOptions, &mut dyn Write) -> io::Result<()>;

/// The facts of one format.
pub(crate) struct About {
    /// See [`crate::Format::name`].
    pub(crate) name: &'static str,
    /// See [`crate::Format::describe`].
    pub(crate) describe: &'static str,
    /// `None` if it is only written.
    pub(crate) read: Option<ReadEntries>,
    /// `None` if it is only read.
    pub(crate) write: Option<WriteBlocks>,
    /// See [`crate::Format::says_ends`].
    pub(crate) says_ends: bool,
    /// See [`crate::Format::fields`].
    pub(crate) fields: &'static [&'static str],
    /// See [`crate::Format::has_any_field`].
    pub(crate) has_any_field: bool,
    /// Whether it is not text, so that a byte order mark before it is not one.
    pub(crate) is_binary: bool,
    /// Whether a file that begins with these bytes, its first kilobytes, surely has this format.
    pub(crate) looks_like: fn(&[u8]) -> bool,
}

impl About {
    /// A format of which nothing is said yet.
    pub(crate) const BASE: Self = Self {
        name: "",
        describe: "",
        read: None,
        write: None,
        says_ends: false,
        fields: &[],
        has_any_field: false,
        is_binary: false,
        looks_like: |_| false,
    };
}
