//! Reading lines and documents, whose lengths somebody else chose.

use std::io::{BufRead, Read};

use edgefold_table::shorten;

use crate::address;
use crate::error::{BadEntry, Place, ReadError};

/// The most bytes of a document that is read at once, such as a JSON file: several times the largest list that a cloud publishes.
pub const MAX_DOCUMENT_BYTES: u64 = 256 << 20;
/// The most bytes of a line. What is longer is a bad entry.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// What some editors write at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Whether the last line of a file must end as the others do.
///
/// A line that does not end may be the beginning of another one, in a file that was cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LastLine {
    /// Its end may be missing, as in many feeds, unless that could make it mean many more addresses: see [`address::may_be_cut_off`].
    MayBeOpen,
    /// The rest of a line could be its exception, its action or its list, and programs write all line ends.
    MustEnd,
}

/// Passes each line to `each` without blanks around it, with its number from 1, until it returns false. What is not a line is passed as an
/// error: a line that is too long, that is not UTF-8, that has a carriage return inside, or that may be cut off.
pub(crate) fn each_line(
    input: &mut dyn BufRead,
    last: LastLine,
    mut each: impl FnMut(u64, Result<&str, BadEntry>) -> bool,
) -> Result<(), ReadError> {
    each_indented_line(input, last, |number, line| each(number, line.map(str::trim_start)))
}

/// As [`each_line`], with the blanks before each line.
pub(crate) fn each_indented_line(
    input: &mut dyn BufRead,
    last: LastLine,
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
        let is_open = !bytes.ends_with(b"\n");
        let is_too_long = is_open && bytes.len() as u64 > MAX_LINE_BYTES;
        let line = match std::str::from_utf8(&bytes).map(str::trim_end) {
            _ if is_too_long => Err(bad("the line is too long")),
            Err(_) => Err(bad("the line is not UTF-8")),
            Ok(line) if line.contains('\r') => Err(bad(CARRIAGE_RETURN)),
            Ok(line) if is_open && last.is_cut_off(line.trim_start()) => Err(bad(NO_LINE_END)),
            Ok(line) => Ok(line),
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

impl LastLine {
    fn is_cut_off(self, line: &str) -> bool {
        let is_entry = !line.is_empty() && !line.starts_with(['#', '!']);
        is_entry && (self == Self::MustEnd || address::may_be_cut_off(line))
    }
}

/// A program that ends lines there would read more lines than one that does not.
pub(crate) const CARRIAGE_RETURN: &str =
    "it has a carriage return inside, where some programs end the line: end lines with a line feed";
/// A file that was cut off inside a line.
pub(crate) const NO_LINE_END: &str =
    "the last line has no end, so the file may be cut off: end it with a line feed if it is complete";

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
    let end = head.iter().rposition(|byte| *byte == b'\n').unwrap_or(head.len());
    let (whole, _) = head.split_at(end);
    whole.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).map(str::trim)
}

/// Those of them that are neither empty nor comments after `#`.
pub(crate) fn head_entries(head: &[u8]) -> impl Iterator<Item = &str> {
    head_lines(head).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The bytes of a text without the byte order mark before them.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Passes a text to `read` without the byte order mark before it.
pub(crate) fn after_mark(
    input: &mut dyn BufRead,
    read: impl FnOnce(&mut dyn BufRead) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut begin = Vec::new();
    (&mut *input).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut begin)?;
    read(&mut without_mark(&begin).chain(input))
}

/// Passes a file of at most `most` bytes to `read`, which keeps what it reads in memory.
pub(crate) fn at_most<T>(
    input: &mut dyn BufRead,
    most: u64,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut input = input.take(most + 1);
    let found = read(&mut input)?;
    if input.limit() == 0 { Err(ReadError::TooLarge { most }) } else { Ok(found) }
}

/// Reads a whole document.
pub(crate) fn document(input: &mut dyn BufRead) -> Result<Vec<u8>, ReadError> {
    at_most(input, MAX_DOCUMENT_BYTES, |input| {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use crate::testing::{assert_entries, entries};
    use crate::{Format, ReadOptions};

    #[test]
    fn a_byte_order_mark_before_any_text_is_passed_over() {
        for (format, file) in [
            (Format::Lines, "192.0.2.1\n"),
            (Format::Csv, "ip\n192.0.2.1\n"),
            (Format::Ipset, "add a 192.0.2.1\n"),
            (Format::Nftables, "add element ip a s { 192.0.2.1 }\n"),
            (
                Format::NftablesJson,
                r#"{"nftables": [{"set": {"name": "a", "table": "t", "type": "ipv4_addr", "elem": ["192.0.2.1"]}}]}"#,
            ),
            (Format::NginxDeny, "deny 192.0.2.1;\n"),
            (Format::Json, r#"[{"first":"192.0.2.1","last":"192.0.2.1","until":null}]"#),
            (
                Format::Stix,
                r#"{"type":"bundle","id":"bundle--1","objects":[{"type":"ipv4-addr","value":"192.0.2.1"}]}"#,
            ),
        ] {
            let marked = format!("\u{feff}{file}");
            assert_entries(&entries(format, &marked), &["192.0.2.1"]);
            assert_eq!(Format::detect(marked.as_bytes()), Format::detect(file.as_bytes()), "{format}");
            // One byte at a time.
            let mut found = 0;
            let mut input = BufReader::with_capacity(1, marked.as_bytes());
            crate::read(format, &mut input, &ReadOptions::default(), &mut |entry| {
                found += usize::from(entry.is_ok());
                true
            })
            .unwrap();
            assert_eq!(found, 1, "{format}");
        }
        assert_entries(
            &entries(Format::Lines, "192.0.2.1\n\u{feff}192.0.2.2\n"),
            &["192.0.2.1", "line 2: ... not an IP"],
        );
    }

    #[test]
    fn a_carriage_return_hides_no_line_in_a_comment() {
        assert_entries(
            &entries(Format::Lines, "# list\r192.0.2.9\n192.0.2.1\r\n"),
            &["line 1: ... carriage return", "192.0.2.1"],
        );
        assert_entries(&entries(Format::Lines, "192.0.2.1\r"), &["192.0.2.1"]);
        assert_entries(&entries(Format::HaproxyAcl, "192.0.2.1\r192.0.2.2\n"), &["line 1: ... carriage return"]);
    }

    #[test]
    fn a_last_line_without_an_end_is_bad_only_where_it_could_mean_many_more_addresses() {
        assert_entries(&entries(Format::Lines, "192.0.2.1"), &["192.0.2.1"]);
        assert_entries(&entries(Format::Lines, "192.0.2.0/24"), &["192.0.2.0/24"]);
        assert_entries(&entries(Format::Lines, "128.0.0.0/2"), &["line 1: \"128.0.0.0/2\": ... cut off"]);
        assert_entries(&entries(Format::Lines, "128.0.0.0/2\n"), &["128.0.0.0/2"]);
        assert_entries(
            &entries(Format::Lines, "2001:db8::/3\n2000::/3"),
            &["line 1: ... host bits", "line 2: ... cut off"],
        );
        assert_entries(&entries(Format::HaproxyAcl, "0.0.0.0/1"), &["line 1: ... cut off"]);
        assert_entries(&entries(Format::Ipset, "add a 192.0.2.0/24"), &["line 1: ... cut off"]);
        assert_entries(&entries(Format::Ipset, "add a 192.0.2.0/24\n# end"), &["192.0.2.0/24"]);
    }
}
