//! Reads and writes ranges of addresses in the formats of other programs.
//!
//! Each format has a file of its own, with both directions where it has both, so that what is written reads back as the same ranges.
//! All of it is pure: bytes and the current time come in, [`Block`]s go out, or the other way round.
//!
//! ```
//! use edgefold_formats::{Format, ReadOptions, read};
//!
//! let feed = "# a netset\n192.0.2.0/24\n198.51.100.7 ; SBL123\n";
//! let mut ranges = Vec::new();
//! read(Format::Lines, &mut feed.as_bytes(), &ReadOptions::default(), &mut |entry| {
//!     ranges.extend(entry.map(|block| block.range.to_string()));
//!     true
//! })?;
//! assert_eq!(ranges, ["192.0.2.0-192.0.2.255", "198.51.100.7"]);
//! # Ok::<(), edgefold_formats::ReadError>(())
//! ```

mod about;
mod address;
mod aws;
mod azure;
mod cisco;
mod crowdsec;
mod csv;
mod dshield;
mod elements;
mod ends;
mod envoy_rbac;
mod error;
mod f5;
mod fields;
mod format;
mod gcp;
mod haproxy;
mod input;
mod ipset;
mod json;
mod juniper;
mod lines;
mod mikrotik;
mod mmdb;
mod names;
mod nested;
mod nftables;
mod nftables_json;
mod nginx;
mod records;
mod spamhaus_json;
mod stix;
#[cfg(test)]
mod testing;
mod tokens;

pub use edgefold::{Block, LogTime, Until};
pub use error::{BadEntry, Place, ReadError};
pub use fields::Wanted;
pub use format::Format;
pub use input::MAX_DOCUMENT_BYTES;

use std::io::{self, BufRead, Write};

/// How to read a file.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The time now, from which entries count that say how long they last.
    pub now: LogTime,
    /// Only entries with these fields, for formats whose entries have any: see [`Format::fields`].
    pub wanted: Wanted,
    /// For [`Format::Csv`]: the names of the columns with the ranges. One column has addresses, CIDR blocks or first-last; two have the
    /// first and the last address. If there is none, columns with usual names are looked for.
    pub columns: Vec<String>,
}

/// How to write a file.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// The time now, from which entries count that say how long they last.
    pub now: LogTime,
    /// What the set, map, table or variable is called, in formats that name it: a [`edgefold::ListName`]. Other characters are replaced,
    /// and so are those that a format does not allow.
    pub name: String,
}

/// Receives what is read, entry by entry, and returns whether to read on.
pub type EachEntry<'a> = dyn FnMut(Result<Block, BadEntry>) -> bool + 'a;

/// Reads a file of ranges, and passes its entries to `each` in the order of the file. Entries may overlap, and come twice.
///
/// After `each` has returned false, it is not called again. An entry that cannot be read is passed on as a [`BadEntry`], and reading continues
/// after it. What is read is in memory only for one
/// entry in formats of lines, and at most [`MAX_DOCUMENT_BYTES`] in others.
///
/// # Errors
/// [`ReadError`]: the input cannot be read, or is not of this format as a whole.
pub fn read(
    format: Format,
    input: &mut dyn BufRead,
    options: &ReadOptions,
    each: &mut EachEntry<'_>,
) -> Result<(), ReadError> {
    options.wanted.check(format)?;
    // Here once for all formats: a reader may have something to say after its last line.
    let mut goes_on = true;
    let each: &mut EachEntry<'_> = &mut |entry| {
        goes_on = goes_on && each(entry);
        goes_on
    };
    match format.about().read {
        Some(read) if format.about().is_binary => read(input, options, each),
        Some(read) => input::after_mark(input, |input| read(input, options, each)),
        None => Err(ReadError::NotThisFormat { format, why: "edgefold only writes it".to_owned() }),
    }
}

/// Writes `blocks`, which are sorted and disjoint, as a file of this format.
///
/// Blocks that have ended at [`WriteOptions::now`] are left out. Ends are left out in formats that cannot say them: see
/// [`Format::says_ends`].
///
/// # Errors
/// Those of `out`, and [`io::ErrorKind::Unsupported`] for a format that is only read: see [`Format::is_written`].
pub fn write(
    format: Format,
    blocks: &mut dyn Iterator<Item = Block>,
    options: &WriteOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some(write) = format.about().write else {
        let why = format!("edgefold only reads {}", format.describe());
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    };
    let options = &WriteOptions { name: names::safe(&options.name), ..*options };
    let held = blocks.filter(|block| block.until.holds_at(options.now));
    write(
        &mut held.filter_map(|block| Some(Block { range: address::without_mapped(block.range)?, ..block })),
        options,
        out,
    )
}
