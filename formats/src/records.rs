//! The records of comma-separated values, with their lines, and with limits. The reader of the crate csv does not say in which line a record
//! is if there are comments, and has no limits.

use std::io::{self, BufRead, Read};

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
}

/// Reads records line by line, so that their lines are known, and their length is limited.
pub(crate) struct Records<'a> {
    input: &'a mut dyn BufRead,
    parser: csv_core::Reader,
    /// The lines that were read.
    lines: u64,
    line: Vec<u8>,
    pub(crate) record: Record,
}

impl<'a> Records<'a> {
    pub(crate) fn new(input: &'a mut dyn BufRead, delimiter: u8) -> Self {
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        let record = Record { bytes: vec![0; MAX_RECORD_BYTES], ends: vec![0; MAX_COLUMNS], len: 0 };
        Self { input, parser, lines: 0, line: Vec::new(), record }
    }

    /// Says how many lines were read before.
    pub(crate) fn skip_lines(&mut self, lines: u64) {
        self.lines = lines;
    }

    /// Reads the next record that is not a comment into [`Records::record`], and returns its line.
    pub(crate) fn next(&mut self) -> Result<Option<u64>, RecordError> {
        loop {
            if self.next_line()? == 0 {
                return Ok(None);
            }
            let text = self.line.trim_ascii_start();
            if !text.is_empty() && !text.starts_with(b"#") {
                break;
            }
        }
        let line = self.lines;
        self.parser.reset();
        let (mut read, mut bytes, mut ends) = (0, 0, 0);
        loop {
            let (out, out_ends) = (&mut self.record.bytes[bytes..], &mut self.record.ends[ends..]);
            let (result, in_len, out_len, ends_len) = self.parser.read_record(&self.line, out, out_ends);
            (read, bytes, ends) = (read + in_len, bytes + out_len, ends + ends_len);
            self.record.len = ends;
            match result {
                csv_core::ReadRecordResult::Record => return Ok(Some(line)),
                csv_core::ReadRecordResult::End => return Ok(None),
                // A quoted value goes on in the next line.
                csv_core::ReadRecordResult::InputEmpty if read <= MAX_RECORD_BYTES => self.next_line()?,
                _ => return Err(RecordError::TooLong { line }),
            };
        }
    }

    /// Returns the number of bytes of the line, with its end; 0 at the end of the file.
    fn next_line(&mut self) -> Result<usize, RecordError> {
        self.line.clear();
        self.lines += 1;
        let read = (&mut *self.input).take(MAX_RECORD_BYTES as u64 + 1).read_until(b'\n', &mut self.line)?;
        if read > MAX_RECORD_BYTES { Err(RecordError::TooLong { line: self.lines }) } else { Ok(read) }
    }
}
