//! The records of comma-separated values, with their lines, and with limits. The reader of the crate csv does not say in which line a record
//! is if there are comments, and has no limits.

use std::io::{self, BufRead, Read};

use edgefold_table::shorten;

use crate::address;
use crate::error::BadEntry;
use crate::input::{CARRIAGE_RETURN, NO_LINE_END};

/// The most bytes of a record, which a quote that is not closed would make as long as the file.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 10;
/// The most columns of a header.
const MAX_COLUMNS: usize = 1024;

/// The values of a record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// One after the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    len: usize,
}

impl Record {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, column: usize) -> Option<&str> {
        let end = *self.ends.get(..self.len)?.get(column)?;
        let begin = column.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        // What is not UTF-8 is neither an address nor a name.
        Some(std::str::from_utf8(self.bytes.get(begin..end)?).unwrap_or("\u{fffd}"))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len).filter_map(|column| self.get(column))
    }
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(
        "the record in line {line} has more than {MAX_RECORD_BYTES} bytes or {MAX_COLUMNS} columns: a quote may not be closed"
    )]
    TooLong { line: u64 },
    #[error("the file ends inside the quotes that begin in line {line}: a quote is not closed, or the file is cut off")]
    OpenQuote { line: u64 },
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum Next {
    /// [`Records::record`] is the record that begins in this line.
    Record(u64),
    Bad(BadEntry),
    End,
}

/// Reads records line by line, so that their lines are known, and their length is limited.
pub(crate) struct Records<'a> {
    input: &'a mut dyn BufRead,
    parser: csv_core::Reader,
    delimiter: u8,
    /// The number of columns of the header; `None` before it.
    columns: Option<usize>,
    /// The number of lines that were read.
    lines: u64,
    line: Vec<u8>,
    /// What is wrong with the lines of the record.
    bad: Option<&'static str>,
    pub(crate) record: Record,
}

impl<'a> Records<'a> {
    pub(crate) fn new(input: &'a mut dyn BufRead, delimiter: u8) -> Self {
        // A carriage return ends no record, so that nothing of a line is left over.
        let terminator = csv_core::Terminator::Any(b'\n');
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).terminator(terminator).build();
        let record = Record { bytes: vec![0; MAX_RECORD_BYTES], ends: vec![0; MAX_COLUMNS], len: 0 };
        Self { input, parser, delimiter, columns: None, lines: 0, line: Vec::new(), bad: None, record }
    }

    /// Continues after a header with this many columns, which ended in this line. Records with more or fewer columns are bad, and so are
    /// comments that have several: a record must not be hidden by a `#` before it.
    pub(crate) fn after_header(&mut self, columns: usize, lines: u64) {
        (self.columns, self.lines) = (Some(columns), lines);
    }

    /// Reads the next record that is not a comment.
    pub(crate) fn next(&mut self) -> Result<Next, RecordError> {
        self.bad = None;
        loop {
            if self.next_line()? == 0 {
                return Ok(Next::End);
            }
            let text = self.line.trim_ascii();
            let is_comment = text.starts_with(b"#");
            if self.bad.is_none() && is_comment && self.columns.is_some() && text.contains(&self.delimiter) {
                self.bad = Some("it has several columns, and # begins a comment only before the header");
            }
            if let Some(why) = self.bad.filter(|_| is_comment) {
                return Ok(Next::Bad(BadEntry::in_line(self.lines, &String::from_utf8_lossy(text), why)));
            }
            if !text.is_empty() && !is_comment {
                break;
            }
        }
        let line = self.lines;
        let text = shorten(&String::from_utf8_lossy(self.line[..self.line.len().min(200)].trim_ascii()));
        self.read_record(line)?;
        if self.bad.is_none() && !self.line.ends_with(b"\n") && is_cut_off(&self.line) {
            self.bad = Some(NO_LINE_END);
        }
        let why = match (self.bad, self.columns) {
            (Some(why), _) => why.to_owned(),
            (None, Some(columns)) if columns != self.record.len => {
                format!("it has {}, and the header has {columns}", count(self.record.len))
            }
            (None, _) => return Ok(Next::Record(line)),
        };
        Ok(Next::Bad(BadEntry::in_line(line, &text, why)))
    }

    fn read_record(&mut self, line: u64) -> Result<(), RecordError> {
        self.parser.reset();
        let (mut read, mut bytes, mut ends) = (0, 0, 0);
        let mut is_at_end = false;
        loop {
            let input = if is_at_end { b"\n" } else { self.line.as_slice() };
            let (out, out_ends) = (&mut self.record.bytes[bytes..], &mut self.record.ends[ends..]);
            let (result, in_len, out_len, ends_len) = self.parser.read_record(input, out, out_ends);
            (read, bytes, ends) = (read + in_len, bytes + out_len, ends + ends_len);
            self.record.len = ends;
            match result {
                csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::End => return Ok(()),
                csv_core::ReadRecordResult::InputEmpty if is_at_end => return Err(RecordError::OpenQuote { line }),
                // The last line has no end, and only within quotes does one not end the record.
                csv_core::ReadRecordResult::InputEmpty if !self.line.ends_with(b"\n") => is_at_end = true,
                // A quoted value continues in the next line.
                csv_core::ReadRecordResult::InputEmpty if read <= MAX_RECORD_BYTES => {
                    if self.next_line()? == 0 {
                        return Err(RecordError::OpenQuote { line });
                    }
                }
                _ => return Err(RecordError::TooLong { line }),
            }
        }
    }

    /// Returns the number of bytes of the line, with its end; 0 at the end of the file.
    fn next_line(&mut self) -> Result<usize, RecordError> {
        self.line.clear();
        self.lines += 1;
        let read = (&mut *self.input).take(MAX_RECORD_BYTES as u64 + 1).read_until(b'\n', &mut self.line)?;
        if read > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong { line: self.lines });
        }
        let has_end = self.line.pop_if(|last| *last == b'\n').is_some();
        while self.line.pop_if(|last| *last == b'\r').is_some() {}
        if self.line.contains(&b'\r') {
            self.bad = Some(CARRIAGE_RETURN);
        }
        self.line.extend(has_end.then_some(b'\n'));
        Ok(read)
    }
}

/// Whether a line without an end may be the beginning of one that means fewer addresses.
fn is_cut_off(line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok_and(|line| address::may_be_cut_off(line.trim()))
}

fn count(columns: usize) -> String {
    if columns == 1 { "1 column".to_owned() } else { format!("{columns} columns") }
}
