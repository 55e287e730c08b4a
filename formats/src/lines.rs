//! Lines with an address, a CIDR block or first-last each, and comments after `#` or `;`: FireHOL's netsets, Tor's exit list,
//! Cloudflare's ranges, abuse.ch, Spamhaus's text.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::{IpRange, shorten};

use crate::EachEntry;
use crate::error::{BadEntry, Place, ReadError};
use crate::input::each_line;

pub(crate) fn read(input: &mut dyn BufRead, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_line(input, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        let text = line.split(['#', ';']).next().unwrap_or_default().trim();
        if text.is_empty() {
            return true;
        }
        let bad = |why: String| BadEntry { place: Place::Line(number), text: shorten(text), why };
        let range = range(text).map_err(|error| bad(error.to_string()));
        each(range.map(|range| Block { range, until: Until::FOREVER }))
    })
}

/// Reads a range, with blanks around the hyphen as some feeds write it.
pub(crate) fn range(text: &str) -> Result<IpRange, edgefold_table::ParseRangeError> {
    match text.split_once('-') {
        Some((first, last)) => format!("{}-{}", first.trim(), last.trim()).parse(),
        None => text.parse(),
    }
}

pub(crate) fn first_last(range: IpRange) -> String {
    format!("{}-{}", range.first(), range.last())
}

pub(crate) fn write(
    blocks: &mut dyn Iterator<Item = Block>,
    text: fn(IpRange) -> String,
    out: &mut dyn Write,
) -> io::Result<()> {
    for block in blocks {
        writeln!(out, "{}", text(block.range))?;
    }
    Ok(())
}

pub(crate) fn write_cidrs(blocks: &mut dyn Iterator<Item = Block>, out: &mut dyn Write) -> io::Result<()> {
    for block in blocks {
        block.range.cidrs().try_for_each(|cidr| writeln!(out, "{cidr}"))?;
    }
    Ok(())
}
