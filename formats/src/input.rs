//! Reading lines and documents, whose lengths somebody else chose.

use std::io::{BufRead, Read};

use edgefold_table::shorten;

use crate::error::{BadEntry, Place, ReadError};

/// The most bytes of a document that is read at once, such as a JSON file: several times the largest list that a cloud publishes.
pub const MAX_DOCUMENT_BYTES: u64 = 256 << 20;
/// The most bytes of a line. What is longer is a bad entry.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Passes each line to `each`, with its number from 1, until it returns false. A line that is too long or not UTF-8 is passed as an error.
pub(crate) fn each_line(
    input: &mut dyn BufRead,
    mut each: impl FnMut(u64, Result<&str, BadEntry>) -> bool,
) -> Result<(), ReadError> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if input.take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let bad = |why: &str| {
            let text = shorten(&String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
            BadEntry { place: Place::Line(number), text, why: why.to_owned() }
        };
        let is_too_long = bytes.len() as u64 > MAX_LINE_BYTES && !bytes.ends_with(b"\n");
        let line = match std::str::from_utf8(&bytes) {
            _ if is_too_long => Err(bad("the line is too long")),
            Ok(line) => Ok(line.trim_start_matches('\u{feff}').trim()),
            Err(_) => Err(bad("the line is not UTF-8")),
        };
        let goes_on = each(number, line);
        if is_too_long {
            skip_line(input)?;
        }
        if !goes_on {
            break;
        }
    }
    Ok(())
}

fn skip_line(input: &mut dyn BufRead) -> Result<(), ReadError> {
    loop {
        let buffer = input.fill_buf()?;
        let (end, len) = (buffer.iter().position(|byte| *byte == b'\n'), buffer.len());
        input.consume(end.map_or(len, |end| end + 1));
        if end.is_some() || len == 0 {
            return Ok(());
        }
    }
}

/// The lines of a file's first kilobytes without blanks around them, except those that are not UTF-8, and the last if `head` cuts it off.
pub(crate) fn head_lines(head: &[u8]) -> impl Iterator<Item = &str> {
    let head = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
    let end = head.iter().rposition(|byte| *byte == b'\n').unwrap_or(head.len());
    let (whole, _) = head.split_at(end);
    whole.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).map(str::trim)
}

/// Reads a whole document.
pub(crate) fn document(input: &mut dyn BufRead) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    if input.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes)? as u64 > MAX_DOCUMENT_BYTES {
        return Err(ReadError::TooLarge { most: MAX_DOCUMENT_BYTES });
    }
    Ok(bytes)
}
