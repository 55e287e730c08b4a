//! Lines with an address, a CIDR block or first-last each, and comments after `#` or `;`: FireHOL's netsets, Tor's exit list,
//! Cloudflare's ranges, abuse.ch, Spamhaus's text.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::{IpRange, shorten};

use crate::about::About;
use crate::error::{BadEntry, Place, ReadError};
use crate::input::{each_line, head_lines};
use crate::{EachEntry, ReadOptions, address};

pub(crate) const LINES: About = About {
    name: "lines",
    describe: "lines of addresses, CIDR blocks or first-last",
    read: Some(read),
    write: Some(|blocks, _, out| write(blocks, IpRange::shortest_text, out)),
    looks_like,
    ..About::BASE
};

pub(crate) const CIDR: About = About {
    name: "cidr",
    describe: "lines of CIDR blocks",
    write: Some(|blocks, _, out| write_cidrs(blocks, out)),
    looks_like: |_| false,
    ..LINES
};

pub(crate) const RANGES: About = About {
    name: "ranges",
    describe: "lines of first-last",
    write: Some(|blocks, _, out| write(blocks, first_last, out)),
    looks_like: |_| false,
    ..LINES
};

/// Whether the first line that is not a comment is a range. Binary files and documents have no such line.
fn looks_like(head: &[u8]) -> bool {
    head_lines(head).map(entry_of).find(|entry| !entry.is_empty()).is_some_and(|entry| range(entry).is_ok())
}

fn read(input: &mut dyn BufRead, _: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_line(input, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        let text = entry_of(line);
        if text.is_empty() {
            return true;
        }
        let bad = |why: String| BadEntry { place: Place::Line(number), text: shorten(text), why };
        let range = range(text).map_err(|error| bad(error.to_string()));
        each(range.map(|range| Block { range, until: Until::FOREVER }))
    })
}

/// What is left of a line without its comment.
fn entry_of(line: &str) -> &str {
    line.split(['#', ';']).next().unwrap_or_default().trim()
}

/// Reads a range, with blanks around the hyphen as some feeds write it.
pub(crate) fn range(text: &str) -> Result<IpRange, edgefold_table::ParseRangeError> {
    match text.split_once('-') {
        Some((first, last)) => format!("{}-{}", first.trim(), last.trim()).parse(),
        None => text.parse(),
    }
}

fn first_last(range: IpRange) -> String {
    format!("{}-{}", range.first(), range.last())
}

fn write(blocks: &mut dyn Iterator<Item = Block>, text: fn(IpRange) -> String, out: &mut dyn Write) -> io::Result<()> {
    for block in blocks {
        writeln!(out, "{}", text(block.range))?;
    }
    Ok(())
}

fn write_cidrs(blocks: &mut dyn Iterator<Item = Block>, out: &mut dyn Write) -> io::Result<()> {
    for block in blocks {
        address::cidrs(block.range).try_for_each(|cidr| writeln!(out, "{cidr}"))?;
    }
    Ok(())
}
