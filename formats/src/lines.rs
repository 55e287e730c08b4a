//! Lines with an address, a CIDR block or first-last each, and comments after `#` or `;`: FireHOL's netsets, Tor's exit list,
//! Cloudflare's ranges, abuse.ch, Spamhaus's text.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::IpRange;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, each_line, head_lines};
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
    head_lines(head).map(entry_of).find(|entry| !entry.is_empty()).is_some_and(|entry| address::range(entry).is_ok())
}

fn read(input: &mut dyn BufRead, _: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_line(input, LastLine::MayBeOpen, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        let text = entry_of(line);
        if text.is_empty() {
            return true;
        }
        let block = address::range(text).map(|range| Block { range, until: Until::FOREVER });
        each(block.map_err(|why| BadEntry::in_line(number, text, why)))
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

#[cfg(test)]
mod tests {
    use crate::Format;
    use crate::testing::{assert_entries, entries};

    #[test]
    fn feeds_are_read() {
        // A netset of FireHOL, DROP of Spamhaus, a list of abuse.ch, Tor's exits, and ranges.
        let file = "\u{feff}#\n# a_netset\n#\n192.0.2.0/24\r\n\n192.0.3.0/24 ; SBL256894\n198.51.100.7 # since 2026\n  203.0.113.5\n\
            2001:db8::/32\n192.0.4.1 - 192.0.4.9\n192.0.5.1-192.0.5.9\n192.0.6.0/255.255.255.0\n2001:DB9::1";
        let expected = [
            "192.0.2.0/24",
            "192.0.3.0/24",
            "198.51.100.7",
            "203.0.113.5",
            "2001:db8::/32",
            "192.0.4.1-192.0.4.9",
            "192.0.5.1-192.0.5.9",
            "192.0.6.0/24",
            "2001:db9::1",
        ];
        for format in [Format::Lines, Format::Cidr, Format::Ranges] {
            assert_entries(&entries(format, file), &expected);
        }
    }

    #[test]
    fn bad_lines_are_named_and_the_rest_is_read() {
        let long = "1".repeat(100_000);
        let file = format!(
            "192.0.2.7/24\nhost.example\n192.0.2.1 192.0.2.2\n{long}\n192.0.2.9-192.0.2.1\n010.0.0.1\n192.0.2.0/0.0.0.255\n192.0.2.1\n"
        );
        assert_entries(
            &entries(Format::Lines, file),
            &[
                "line 1: \"192.0.2.7/24\": ... has host bits set: write 192.0.2.0/24",
                "line 2: ... is not an IP address",
                "line 3: ... is not an IP address",
                "line 4: ... the line is too long",
                "line 5: ... swap them",
                "line 6: ... leading zero",
                "line 7: ... 0.0.0.255 is not a netmask",
                "192.0.2.1",
            ],
        );
        assert_entries(&entries(Format::Lines, b"\xff\xfe1\n192.0.2.1"), &["line 1: ... not UTF-8", "192.0.2.1"]);
    }
}
