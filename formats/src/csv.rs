//! Comma-separated values with a header: exports of databases and SIEMs, and abuse.ch's feeds, whose header may be a comment.
//!
//! All of a file is either read, or said to be bad: each record must have as many columns as the header, comments after the header have
//! one column, and a file that ends inside quotes is refused. A block ends at the earliest time that its columns say.
//!
//! It is written as `first,last,until`.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use edgefold::{Block, LogTime, Until};
use edgefold_table::shorten;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::head_lines;
use crate::records::{MAX_RECORD_BYTES, Next, Record, RecordError, Records};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address, ends};

pub(crate) const ABOUT: About = About {
    name: "csv",
    describe: "comma-separated values with a header",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    has_any_field: true,
    looks_like,
    ..About::BASE
};

/// The most bytes of the comments before the header.
const MAX_COMMENT_BYTES: u64 = 1 << 20;

/// The usual names of a column with ranges, in lower case.
const RANGE_NAMES: &[&str] = &[
    "range",
    "ip_range",
    "iprange",
    "cidr",
    "network",
    "prefix",
    "ip_prefix",
    "subnet",
    "ip",
    "ip_address",
    "ipaddress",
    "address",
    "src_ip",
    "source_ip",
    "dst_ip",
    "dstip",
];
/// The usual names of two columns with the first and the last address.
const ENDS_NAMES: &[(&str, &str)] = &[
    ("first", "last"),
    ("start", "end"),
    ("start_ip", "end_ip"),
    ("first_ip", "last_ip"),
    ("ip_start", "ip_end"),
    ("range_start", "range_end"),
    ("ip_from", "ip_to"),
];
/// The usual names of a column with the length or the netmask of the block whose first address is in the column of ranges.
const LENGTH_NAMES: &[&str] = &[
    "netmask",
    "mask",
    "subnet_mask",
    "subnetmask",
    "network_mask",
    "prefix_length",
    "prefixlength",
    "prefix_len",
    "prefixlen",
    "masklen",
    "mask_length",
    "cidr_length",
    "cidr_prefix",
];
/// The usual names of columns with the end of the block, as RFC 3339.
const UNTIL_NAMES: &[&str] = &[
    "until",
    "expires",
    "expires_at",
    "expiration",
    "expiration_date",
    "expiry",
    "expiry_date",
    "expire",
    "valid_until",
    "valid_to",
    "end_time",
    "end_date",
];
/// The usual names of columns with the seconds that the block lasts.
const TTL_NAMES: &[&str] = &["ttl", "ttl_seconds", "timeout"];

/// Where the columns are.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Columns {
    first: usize,
    /// `None` if the first has whole ranges.
    last: Option<usize>,
    /// The length or the netmask of the block that begins with the first address.
    length: Option<usize>,
    untils: Vec<usize>,
    ttls: Vec<usize>,
}

impl Columns {
    /// Those of a header.
    ///
    /// # Errors
    /// Which columns are missing, or may be meant.
    fn find(header: &Record, asked: &[String]) -> Result<Self, String> {
        let column = |name: &str| column(header, name);
        let all = |names: &[&str]| -> Result<Vec<usize>, String> {
            let found: Result<Vec<_>, _> = names.iter().map(|name| column(name)).collect();
            Ok(found?.into_iter().flatten().collect())
        };
        let missing = || no_columns(header, asked);
        let (first, last) = match asked {
            [] => match all(RANGE_NAMES)?[..] {
                [range] => (range, None),
                // Columns called start and end may as well be times, if there is another one with addresses.
                [] => {
                    let ends = ENDS_NAMES.iter().map(|(first, last)| Ok((column(first)?, column(last)?)));
                    let ends: Result<Vec<_>, String> = ends.collect();
                    let both = ends?.into_iter().find_map(|(first, last)| Some((first?, last?)));
                    let (first, last) = both.ok_or_else(missing)?;
                    (first, Some(last))
                }
                [one, other, ..] => {
                    let [one, other] =
                        [one, other].map(|column| shorten(clean(header.get(column).unwrap_or_default())));
                    return Err(format!(
                        "the ranges may be in column {one:?} or {other:?}: name the one that has them"
                    ));
                }
            },
            [range] => (column(range)?.ok_or_else(missing)?, None),
            [first, last] => (column(first)?.ok_or_else(missing)?, Some(column(last)?.ok_or_else(missing)?)),
            _ => return Err(missing()),
        };
        let length = match all(LENGTH_NAMES)?[..] {
            [length] if last.is_none() && length != first => Some(length),
            [_, _, ..] if last.is_none() => {
                return Err(
                    "several columns may have the length of the block: name one column with whole ranges".to_owned()
                );
            }
            _ => None,
        };
        Ok(Self { first, last, length, untils: all(UNTIL_NAMES)?, ttls: all(TTL_NAMES)? })
    }

    fn block(&self, record: &Record, now: LogTime) -> Result<Block, String> {
        let cell = |column: usize| clean(record.get(column).unwrap_or_default());
        let first = cell(self.first);
        let range = match (self.last.map(cell), self.length.map(cell)) {
            (Some(last), _) => format!("{first}-{last}").parse().map_err(readable)?,
            (None, None | Some("")) => address::range(first)?,
            (None, Some(length)) => {
                let address = first.split_once('/').map_or(first, |(address, _)| address);
                let range = address::range(&format!("{address}/{length}"))?;
                if address != first && address::range(first)? != range {
                    return Err(format!(
                        "it has two lengths, of which {:?} is the other: write one, or the same twice",
                        shorten(length)
                    ));
                }
                range
            }
        };
        let mut until = Until::FOREVER;
        for text in self.untils.iter().map(|column| cell(*column)) {
            if !matches!(text, "" | "forever" | "never") {
                until = until.min(LogTime::parse(text).map_err(readable)?.into());
            }
        }
        for text in self.ttls.iter().map(|column| cell(*column)).filter(|text| !text.is_empty()) {
            let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds > 0);
            let text = shorten(text);
            let why =
                || format!("{text:?} is not a number of seconds from 1: leave it empty for a block without an end");
            until = until.min(ends::after(now, Duration::from_secs(seconds.ok_or_else(why)?)));
        }
        Ok(Block { range, until })
    }

    /// What an error shows of a record.
    fn text(&self, record: &Record) -> String {
        let columns = [Some(self.first), self.last, self.length].into_iter().flatten();
        let columns = columns.chain(self.untils.iter().copied()).chain(self.ttls.iter().copied());
        columns.map(|column| clean(record.get(column).unwrap_or_default())).collect::<Vec<_>>().join(",")
    }
}

/// The column with this name, if there is one.
///
/// # Errors
/// There are several.
fn column(header: &Record, name: &str) -> Result<Option<usize>, String> {
    let is_named = |(number, column): (usize, &str)| clean(column).eq_ignore_ascii_case(name).then_some(number);
    let mut found = header.iter().enumerate().filter_map(is_named);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(format!("several columns are called {:?}", shorten(name))),
        (column, _) => Ok(column),
    }
}

fn readable(error: impl ToString) -> String {
    error.to_string()
}

/// A value without blanks, and without the quotes that remain if there is a blank before them, as in `a, "b"`.
fn clean(value: &str) -> &str {
    let value = value.trim();
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inner.unwrap_or(value).trim()
}

fn looks_like(head: &[u8]) -> bool {
    let header = header_of(head_lines(head).map(str::to_owned).map(Ok)).ok();
    header.is_some_and(|header| {
        let names = ENDS_NAMES.iter().map(|(first, last)| vec![*first, *last]);
        let mut names = names.chain(RANGE_NAMES.iter().map(|name| vec![*name]));
        let has = |name: &str| header.record.iter().any(|column| clean(column).eq_ignore_ascii_case(name));
        names.any(|names| names.into_iter().all(has))
    })
}

/// What is before the first record.
struct Header {
    record: Record,
    delimiter: u8,
    /// The first record, if the header was a comment, so that it had to be read to find that out.
    first: Option<String>,
}

/// Finds the header, which is the first line that is not a comment, or else the last comment before it.
fn header_of(lines: impl Iterator<Item = io::Result<String>>) -> io::Result<Header> {
    let mut comment = String::new();
    for line in lines {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        if let Some(text) = line.trim_start().strip_prefix('#') {
            // The last comment with more than a frame around it.
            if text.contains([',', ';', '\t']) {
                comment = text.to_owned();
            }
            continue;
        }
        let header = split(&line);
        let commented = split(comment.trim_start_matches(['#', ' ']));
        let is_data = |(record, _): &(Record, u8)| record.iter().any(|cell| address::range(clean(cell)).is_ok());
        return Ok(if is_data(&header) && !comment.is_empty() {
            Header { record: commented.0, delimiter: header.1, first: Some(line) }
        } else {
            Header { record: header.0, delimiter: header.1, first: None }
        });
    }
    let (record, delimiter) = split(comment.trim_start_matches(['#', ' ']));
    Ok(Header { record, delimiter, first: None })
}

/// Splits a line at the one of the usual delimiters that it has most of, outside of quotes.
fn split(line: &str) -> (Record, u8) {
    let count = |delimiter: u8| {
        let mut is_quoted = false;
        let is_outside = |byte: &u8| {
            is_quoted ^= *byte == b'"';
            !is_quoted && *byte == delimiter
        };
        line.bytes().filter(is_outside).count()
    };
    let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',');
    let mut input = line.as_bytes();
    let mut records = Records::new(&mut input, delimiter);
    // A line that cannot be split has no columns.
    let is_record = matches!(records.next(), Ok(Next::Record(_)));
    (if is_record { records.record } else { Record::default() }, delimiter)
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let not = |why: String| ReadError::NotThisFormat { format: Format::Csv, why };
    let mut lines = 0_u64;
    let mut bytes = 0_u64;
    let header = {
        let next_line = || {
            let mut line = Vec::new();
            let read = (&mut *input).take(MAX_RECORD_BYTES as u64).read_until(b'\n', &mut line);
            lines += 1;
            match read {
                Ok(0) => None,
                Ok(read) => {
                    bytes += read as u64;
                    Some(match String::from_utf8(line) {
                        _ if bytes > MAX_COMMENT_BYTES => Err(io::ErrorKind::FileTooLarge.into()),
                        Ok(line) if !line.trim_end().contains('\r') => Ok(line),
                        _ => Err(io::ErrorKind::InvalidData.into()),
                    })
                }
                Err(error) => Some(Err(error)),
            }
        };
        header_of(std::iter::from_fn(next_line))
    };
    let header = header.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => not("its header is not UTF-8, or has a carriage return inside".to_owned()),
        io::ErrorKind::FileTooLarge => {
            not(format!("it has more than {MAX_COMMENT_BYTES} bytes of comments before its header"))
        }
        _ => ReadError::Io(error),
    })?;
    if header.record.len() == 0 {
        return Ok(());
    }
    let columns = Columns::find(&header.record, &options.columns).map_err(not)?;
    let mut wanted = Vec::new();
    for name in options.wanted.names() {
        let missing = || ReadError::NoField { format: Format::Csv, field: name.to_owned() };
        wanted.push((name, column(&header.record, name).map_err(not)?.ok_or_else(missing)?));
    }

    // The first record is read again, if it was read to find the header.
    let lines_before = if header.first.is_some() { lines - 1 } else { lines };
    let first = header.first.unwrap_or_default().into_bytes();
    let mut input = first.as_slice().chain(input);
    let mut records = Records::new(&mut input, header.delimiter);
    records.after_header(header.record.len(), lines_before);
    loop {
        let entry = match records.next() {
            Ok(Next::Record(line)) => {
                let record = &records.record;
                let has = |name: &str, value: &str| {
                    let column = wanted.iter().find(|(wanted, _)| *wanted == name).map(|(_, column)| *column);
                    let cell = column.and_then(|column| record.get(column));
                    cell.is_some_and(|cell| clean(cell).eq_ignore_ascii_case(value))
                };
                if !options.wanted.matches(has) {
                    continue;
                }
                let block = columns.block(record, options.now);
                block.map_err(|why| BadEntry::in_line(line, &columns.text(record), why))
            }
            Ok(Next::Bad(bad)) => Err(bad),
            Ok(Next::End) => return Ok(()),
            Err(RecordError::Io(error)) => return Err(error.into()),
            Err(error) => return Err(not(error.to_string())),
        };
        if !each(entry) {
            return Ok(());
        }
    }
}

/// Why a header does not have the columns that are needed.
fn no_columns(header: &Record, asked: &[String]) -> String {
    let listed = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("{:?}", shorten(name))).collect::<Vec<_>>().join(", ")
    };
    let found = listed(&mut header.iter().take(32).map(clean)).chars().take(500).collect::<String>();
    match asked {
        [] => format!("no column has a usual name such as {}: it has {found}", RANGE_NAMES.join(", ")),
        [_] | [_, _] => {
            let asked = listed(&mut asked.iter().map(String::as_str));
            format!("it does not have the columns {asked}: it has {found}")
        }
        more => {
            format!("{} columns were named: name one with ranges, or two with first and last addresses", more.len())
        }
    }
}

fn write(blocks: &mut dyn Iterator<Item = Block>, _: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "first,last,until")?;
    for Block { range, until } in blocks {
        let (first, last) = (range.first(), range.last());
        match until.time() {
            Some(until) => writeln!(out, "{first},{last},{until}")?,
            None => writeln!(out, "{first},{last},")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, assert_entries, entries, entries_of, entries_with};

    fn entries_of_columns(file: &str, columns: &[&str]) -> Result<Vec<String>, ReadError> {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        entries_of(
            Format::Csv,
            file.as_bytes(),
            &ReadOptions { now: NOW.parse().unwrap(), columns, ..ReadOptions::default() },
        )
    }

    #[test]
    fn columns_are_found_by_their_usual_names() {
        for file in [
            "ip,reason\n192.0.2.1,scan\n192.0.2.0/24,\n",
            "reason;IP_Address\nscan;192.0.2.1\n;192.0.2.0/24\n",
            "reason\tnetwork\r\nscan\t192.0.2.1\r\n\t192.0.2.0/24\r\n",
            "\"reason\",\"src_ip\"\n\"a, b\",\"192.0.2.1\"\n\"c\nd\",192.0.2.0/24",
            "\u{feff}cidr\n192.0.2.1\n192.0.2.0/24\n",
            "start,end,ip\n2026-11-01,2026-11-02,192.0.2.1\n,,192.0.2.0/24\n",
            "x,start_ip,end_ip\n1,192.0.2.1,192.0.2.1\n2,192.0.2.0,192.0.2.255\n",
        ] {
            assert_entries(&entries(Format::Csv, file), &["192.0.2.1", "192.0.2.0/24"]);
        }
    }

    #[test]
    fn the_feeds_of_abuse_ch_are_read() {
        // Feodo Tracker, whose header is not a comment.
        let feodo = "################\n# Feodo, a list (CSV) #\n################\n#\n\
            \"first_seen_utc\",\"dst_ip\",\"dst_port\"\n\"2026-11-01 00:00:00\",\"192.0.2.1\",\"443\"\n# END 1 entries\n";
        // SSLBL, whose header is one.
        let sslbl = "################\n# SSLBL, a list (CSV) #\n################\n#\n# Firstseen,DstIP,DstPort\n\
            2026-11-01 00:00:00,192.0.2.1,443\n";
        // Others have blanks before quotes.
        let quoted = "# \"first_seen\",\"src_ip\"\n\"2026-11-01 00:00:00\", \"192.0.2.1\"\n";
        for file in [feodo, sslbl] {
            assert_entries(&entries(Format::Csv, file), &["192.0.2.1"]);
        }
        assert_entries(&entries_of_columns(quoted, &["src_ip"]).unwrap(), &["192.0.2.1"]);
    }

    #[test]
    fn columns_can_be_named() {
        let file = "a,b,c\n192.0.2.1,192.0.2.9,2001:db8::/32\n";
        assert_entries(&entries_of_columns(file, &["C"]).unwrap(), &["2001:db8::/32"]);
        assert_entries(&entries_of_columns(file, &["a", "b"]).unwrap(), &["192.0.2.1-192.0.2.9"]);
        let error = |columns: &[&str]| entries_of_columns(file, columns).unwrap_err().to_string();
        assert!(
            error(&["d"]).contains("does not have the columns \"d\": it has \"a\", \"b\", \"c\""),
            "{}",
            error(&["d"])
        );
        assert!(error(&[]).contains("no column has a usual name"), "{}", error(&[]));
        assert!(error(&["a", "b", "c"]).contains("3 columns were named"));
    }

    #[test]
    fn until_is_the_end() {
        let file = "ip,until\n192.0.2.1,2026-12-01T00:00:00Z\n192.0.2.2,\n192.0.2.3,forever\n192.0.2.4,tomorrow\n";
        assert_entries(
            &entries(Format::Csv, file),
            &[
                "192.0.2.1 until 2026-12-01T00:00:00Z",
                "192.0.2.2",
                "192.0.2.3",
                "line 5: \"192.0.2.4,tomorrow\": ... is not a time: write RFC 3339",
            ],
        );
    }

    #[test]
    fn records_are_chosen_by_any_column() {
        let file = "ip,Country,kind\n192.0.2.1,de,scan\n192.0.2.2,FR,scan\n192.0.2.3,fr,spam\n";
        let found = entries_with(Format::Csv, file, &[("country", "fr"), ("country", "it"), ("kind", "scan")]).unwrap();
        assert_entries(&found, &["192.0.2.2"]);
        let error = entries_with(Format::Csv, file, &[("city", "x")]).unwrap_err().to_string();
        assert!(error.contains("have no field \"city\": the file has none of that name"), "{error}");
    }

    #[test]
    fn bad_records_have_their_line() {
        let file = "# x\n# y\nip,b\n192.0.2.1,1\nhost,2\n\n,3\n# z\n192.0.2.7/24\n192.0.2.2,2,3,4\n";
        assert_entries(
            &entries(Format::Csv, file),
            &[
                "192.0.2.1",
                "line 5: \"host\": ... not an IP address",
                "line 7: \"\": ... missing",
                "line 9: ... it has 1 column, and the header has 2",
                "line 10: ... it has 4 columns, and the header has 2",
            ],
        );
        let file = "# Firstseen,DstIP\n1,192.0.2.1\n2,host\n";
        assert_entries(&entries(Format::Csv, file), &["192.0.2.1", "line 3: \"host\": ... not an IP address"]);
    }

    #[test]
    fn no_row_is_hidden() {
        // A carriage return ends no record, and the rest of its line is not lost.
        let file = "ip,b\n192.0.2.1,x\r192.0.2.9,y\n192.0.2.2,x\r\n# a\r192.0.2.8,y\n";
        let bad = "carriage return";
        let expected = [&format!("line 2: ... {bad}"), "192.0.2.2", &format!("line 4: ... {bad}")];
        assert_entries(&entries(Format::Csv, file), &expected);
        assert_entries(&entries(Format::Csv, "ip\n192.0.2.1\r192.0.2.9\n"), &["line 2: ... carriage return"]);
        assert!(entries_with(Format::Csv, "# ip\r192.0.2.9\nip\n192.0.2.1\n", &[]).is_err());
        assert!(entries_with(Format::Csv, "ip\r192.0.2.9\n192.0.2.1\n", &[]).is_err());
        // Quotes that swallow the rest.
        for file in ["ip,b\n192.0.2.1,1\n192.0.2.2,\"x\n192.0.2.3,1\n", "ip,b\n192.0.2.1,\"x", "ip,b\n192.0.2.1,\"x\n"]
        {
            let error = entries_with(Format::Csv, file, &[]).unwrap_err().to_string();
            assert!(error.contains("ends inside the quotes"), "{error}");
        }
        assert_entries(&entries(Format::Csv, "ip,b\n192.0.2.1,\"x\""), &["192.0.2.1"]);
        // A comment with columns.
        let file = "ip,b\n#192.0.2.1,1\n192.0.2.2,1\n# END 1 entries\n";
        assert_entries(
            &entries(Format::Csv, file),
            &["line 2: ... # begins a comment only before the header", "192.0.2.2"],
        );
        // A file that is cut off.
        assert_entries(&entries(Format::Csv, "ip\n192.0.2.1\n128.0.0.0/2"), &["192.0.2.1", "line 3: ... cut off"]);
        assert_entries(
            &entries(Format::Csv, "first,last,until\n0.0.0.0,255.255.255.255"),
            &["line 2: ... it has 2 columns"],
        );
    }

    #[test]
    fn a_length_in_a_column_of_its_own_is_combined() {
        let file = "network,netmask\n192.0.2.0,255.255.255.0\n192.0.3.0,\n192.0.4.0/24,255.255.255.0\n192.0.4.0/24,255.255.0.0\n10.0.0.1,255.0.0.0\n";
        assert_entries(
            &entries(Format::Csv, file),
            &["192.0.2.0/24", "192.0.3.0", "192.0.4.0/24", "line 5: ... host bits", "line 6: ... host bits"],
        );
        let file = "ip,prefix_length\n192.0.2.0,24\n192.0.0.0/24,16\n2001:db8::,32\n192.0.2.1-192.0.2.9,24\n";
        let expected = ["192.0.2.0/24", "line 3: ... two lengths", "2001:db8::/32", "line 5: ... is not"];
        assert_entries(&entries(Format::Csv, file), &expected);
    }

    #[test]
    fn columns_that_could_be_meant_are_refused() {
        let error = |file: &str| entries_with(Format::Csv, file, &[]).unwrap_err().to_string();
        let several = error("ip,asn,network\n192.0.2.1,1,192.0.0.0/16\n");
        assert!(several.contains("may be in column \"network\" or \"ip\""), "{several}");
        let twice = error("ip,IP\n192.0.2.1,192.0.2.2\n");
        assert!(twice.contains("several columns are called \"ip\""), "{twice}");
        let escaped = error("a\u{1b}[2Jb,c\n1,2\n");
        assert!(escaped.contains("\\u{1b}[2Jb") && !escaped.contains('\u{1b}'), "{escaped}");
    }

    #[test]
    fn a_block_ends_when_any_column_says() {
        for name in ["expires", "expiry", "valid_until", "end_time"] {
            let file = format!("ip,{name}\n192.0.2.1,2026-12-01T00:00:00Z\n192.0.2.2,1790000000\n");
            let expected = ["192.0.2.1 until 2026-12-01T00:00:00Z", "line 3: ... is not a time: write RFC 3339"];
            assert_entries(&entries(Format::Csv, file), &expected);
        }
        let file = "ip,ttl,until\n192.0.2.1,60,2026-12-01T00:00:00Z\n192.0.2.2,,\n192.0.2.3,0,\n192.0.2.4,1h,\n192.0.2.5,99999999,2026-12-01T00:00:00Z\n";
        assert_entries(
            &entries(Format::Csv, file),
            &[
                "192.0.2.1 until 2026-11-26T12:01:00Z",
                "192.0.2.2",
                "line 4: ... \"0\" is not a number of seconds",
                "line 5: ... \"1h\" is not a number of seconds",
                "192.0.2.5 until 2026-12-01T00:00:00Z",
            ],
        );
    }

    #[test]
    fn a_quote_that_is_not_closed_ends_reading_with_an_error() {
        let file = format!("ip,b\n192.0.2.1,1\n\"192.0.2.2,{}", "x\n".repeat(1 << 20));
        let error = entries_with(Format::Csv, file, &[]).unwrap_err().to_string();
        assert!(error.contains("the record in line 3 ") && error.contains("a quote may not be closed"), "{error}");
        let comments = "# x\n".repeat(1 << 20);
        let error = entries_with(Format::Csv, comments, &[]).unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
        assert!(entries_with(Format::Csv, b"\xff,ip\n1,192.0.2.1", &[]).is_err());
        assert!(entries(Format::Csv, "").is_empty());
    }

    #[test]
    fn it_is_written_with_a_header() {
        let until = Until::from("2026-12-01T00:00:00Z".parse::<LogTime>().unwrap());
        let block = |range: &str, until| Block { range: range.parse().unwrap(), until };
        let mut blocks = [block("192.0.2.0/24", until), block("2001:db8::1", Until::FOREVER)].into_iter();
        let mut out = Vec::new();
        write(&mut blocks, &WriteOptions { now: NOW.parse().unwrap(), name: "a".to_owned() }, &mut out).unwrap();
        let expected = "first,last,until\n192.0.2.0,192.0.2.255,2026-12-01T00:00:00Z\n2001:db8::1,2001:db8::1,\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
