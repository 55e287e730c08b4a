//! Comma-separated values with a header: exports of databases and SIEMs, and abuse.ch's feeds, whose header may be a comment.
//!
//! It is written as `first,last,until`.

use std::cell::Cell;
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;

use csv::StringRecord;
use edgefold::{Block, LogTime, Until};
use edgefold_table::shorten;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::head_lines;
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address};

pub(crate) const CSV: About = About {
    name: "csv",
    describe: "comma-separated values with a header",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    has_any_field: true,
    looks_like,
    ..About::BASE
};

/// The most bytes of a record, which a quote that is not closed would make as long as the file.
const MAX_RECORD_BYTES: u64 = 64 << 10;
/// The most bytes of the comments before the header, for the same reason.
const MAX_COMMENT_BYTES: u64 = 1 << 20;
/// The most columns of a header.
const MAX_COLUMNS: usize = 1024;

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
/// The usual names of the column with the end of the block.
const UNTIL_NAMES: &[&str] = &["until", "expires", "expires_at", "expiration"];

/// Where the columns are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Columns {
    first: usize,
    /// `None` if the first has whole ranges.
    last: Option<usize>,
    until: Option<usize>,
}

impl Columns {
    /// Those of a header; `None` if it does not have them.
    fn find(header: &StringRecord, asked: &[String]) -> Option<Self> {
        let find = |name: &str| header.iter().position(|column| clean(column).eq_ignore_ascii_case(name));
        let until = UNTIL_NAMES.iter().find_map(|name| find(name));
        let (first, last) = match asked {
            [] => {
                let ends = ENDS_NAMES.iter().find_map(|(first, last)| Some((find(first)?, Some(find(last)?))));
                ends.or_else(|| RANGE_NAMES.iter().find_map(|name| Some((find(name)?, None))))?
            }
            [range] => (find(range)?, None),
            [first, last] => (find(first)?, Some(find(last)?)),
            _ => return None,
        };
        Some(Self { first, last, until })
    }

    fn block(self, record: &StringRecord) -> Result<Block, String> {
        let cell = |column: usize| clean(record.get(column).unwrap_or_default());
        let range = match self.last.map(cell) {
            None => address::range(cell(self.first))?,
            Some(last) => format!("{}-{last}", cell(self.first)).parse().map_err(readable)?,
        };
        let until = match self.until.map(cell) {
            None | Some("" | "forever" | "never") => Until::FOREVER,
            Some(until) => LogTime::parse(until).map_err(readable)?.into(),
        };
        Ok(Block { range, until })
    }

    /// What an error shows of a record.
    fn text(self, record: &StringRecord) -> String {
        let columns = [Some(self.first), self.last, self.until].into_iter().flatten();
        columns.map(|column| clean(record.get(column).unwrap_or_default())).collect::<Vec<_>>().join(",")
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
    header.is_some_and(|header| header.record.len() > 1 && Columns::find(&header.record, &[]).is_some())
}

/// What is before the first record.
struct Header {
    record: StringRecord,
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
        let is_data = |(record, _): &(StringRecord, u8)| record.iter().any(|cell| address::range(clean(cell)).is_ok());
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
fn split(line: &str) -> (StringRecord, u8) {
    let count = |delimiter: u8| {
        let mut is_quoted = false;
        let is_outside = |byte: &u8| {
            is_quoted ^= *byte == b'"';
            !is_quoted && *byte == delimiter
        };
        line.bytes().filter(is_outside).count()
    };
    let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',');
    let mut record = StringRecord::new();
    // A line that cannot be split has no columns.
    let _ = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .from_reader(line.as_bytes())
        .read_record(&mut record);
    record.truncate(MAX_COLUMNS);
    (record, delimiter)
}

/// Counts the bytes that are read between two records, and fails after too many.
struct Bounded<'a> {
    input: &'a mut dyn BufRead,
    since_record: Rc<Cell<u64>>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let so_far = self.since_record.get();
        if so_far > MAX_RECORD_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLong));
        }
        let read = self.input.read(buffer)?;
        self.since_record.set(so_far + read as u64);
        Ok(read)
    }
}

/// A record is too long.
#[derive(Debug, thiserror::Error)]
#[error("a record has more than {MAX_RECORD_BYTES} bytes: a quote may not be closed")]
struct TooLong;

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let not = |why: String| ReadError::NotThisFormat { format: Format::Csv, why };
    let mut lines = 0_u64;
    let mut bytes = 0_u64;
    let header = {
        let next_line = || {
            let mut line = Vec::new();
            let read = (&mut *input).take(MAX_RECORD_BYTES).read_until(b'\n', &mut line);
            lines += 1;
            match read {
                Ok(0) => None,
                Ok(read) => {
                    bytes += read as u64;
                    let too_many = || io::Error::new(io::ErrorKind::FileTooLarge, TooLong);
                    let line = String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into());
                    let line = line.map(|line| line.trim_start_matches('\u{feff}').to_owned());
                    Some(if bytes > MAX_COMMENT_BYTES { Err(too_many()) } else { line })
                }
                Err(error) => Some(Err(error)),
            }
        };
        header_of(std::iter::from_fn(next_line))
    };
    let header = header.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => not("its header is not UTF-8".to_owned()),
        io::ErrorKind::FileTooLarge => not(error.to_string()),
        _ => ReadError::Io(error),
    })?;
    if header.record.is_empty() {
        return Ok(());
    }
    let columns = Columns::find(&header.record, &options.columns).ok_or_else(|| not(no_columns(&header, options)))?;
    let mut wanted = Vec::new();
    for name in options.wanted.names() {
        let column = header.record.iter().position(|column| clean(column).eq_ignore_ascii_case(name));
        let missing = || ReadError::NoField { format: Format::Csv, field: name.to_owned() };
        wanted.push((name.to_owned(), column.ok_or_else(missing)?));
    }

    // The first record is read again, if it was read to find the header.
    let lines_before = if header.first.is_some() { lines - 1 } else { lines };
    let first = header.first.unwrap_or_default().into_bytes();
    let mut input = io::BufReader::new(first.as_slice().chain(input));
    let since_record = Rc::new(Cell::new(0));
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .delimiter(header.delimiter)
        .from_reader(Bounded { input: &mut input, since_record: Rc::clone(&since_record) });
    let mut bytes = ::csv::ByteRecord::new();
    loop {
        since_record.set(0);
        match reader.read_byte_record(&mut bytes) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                return Err(match error.into_kind() {
                    ::csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                        let line = lines_before + reader.position().line();
                        not(format!("after line {line}, {error}"))
                    }
                    ::csv::ErrorKind::Io(error) => error.into(),
                    other => not(format!("{other:?}")),
                });
            }
        }
        let line = lines_before + bytes.position().map_or(0, ::csv::Position::line);
        let record = StringRecord::from_byte_record_lossy(std::mem::take(&mut bytes));
        let has = |name: &str, value: &str| {
            let column = wanted.iter().find(|(wanted, _)| wanted == name).map(|(_, column)| *column);
            let cell = column.and_then(|column| record.get(column));
            cell.is_some_and(|cell| clean(cell).eq_ignore_ascii_case(value))
        };
        if options.wanted.matches(has) {
            let block = columns.block(&record);
            if !each(block.map_err(|why| BadEntry::in_line(line, &columns.text(&record), why))) {
                return Ok(());
            }
        }
        bytes = record.into_byte_record();
    }
}

fn no_columns(header: &Header, options: &ReadOptions) -> String {
    let found = header.record.iter().take(32).map(clean).collect::<Vec<_>>().join(", ");
    let found = found.chars().take(500).collect::<String>();
    match options.columns.as_slice() {
        [] => format!("no column has a usual name such as {}: it has {found}", RANGE_NAMES.join(", ")),
        [_] | [_, _] => {
            let asked = options.columns.iter().map(|name| shorten(name)).collect::<Vec<_>>().join(", ");
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
