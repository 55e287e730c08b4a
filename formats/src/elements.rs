//! The entries of a JSON document, taken out one at a time: the elements of the array that it is, or of arrays in the object that it is.
//!
//! Each comes as text, so that only one is in memory, and one of a wrong type is a bad entry and not the end of the document.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use edgefold::{Block, Until};
use edgefold_table::shorten;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{BadEntry, Place, ReadError, printable};
use crate::{EachEntry, Format, MAX_DOCUMENT_BYTES};

/// The name, in a list of arrays, of the one that the document itself is.
pub(crate) const DOCUMENT: &str = "";

/// Where an element is.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    /// The path of its array.
    pub(crate) array: &'a str,
    /// Its number in the array, from 0.
    pub(crate) index: u64,
}

impl Spot<'_> {
    /// The path of a field of the element.
    pub(crate) fn path(self, field: &str) -> String {
        let dot = if field.is_empty() { "" } else { "." };
        format!("{}[{}]{dot}{field}", self.array, self.index)
    }

    /// A field of the element that is wrong, or the element itself for an empty name.
    pub(crate) fn bad(self, field: &str, text: &str, why: impl fmt::Display) -> BadEntry {
        BadEntry { place: Place::Path(self.path(field)), text: shorten(text), why: why.to_string() }
    }

    /// Reads the element as a structure.
    pub(crate) fn parse<'t, T: serde::Deserialize<'t>>(self, text: &'t str) -> Result<T, BadEntry> {
        serde_json::from_str(text).map_err(|error| self.bad("", text, without_position(&error)))
    }

    /// Reads the range in a field, which has no end.
    pub(crate) fn block(self, field: &str, text: &str) -> Result<Block, BadEntry> {
        let range = text.trim().parse().map_err(|error| self.bad(field, text, error))?;
        Ok(Block { range, until: Until::FOREVER })
    }

    /// Passes on the ranges of an element that has an IPv4 and an IPv6 prefix, each under its name, or one of the two.
    pub(crate) fn prefixes(self, text: &str, fields: [(&str, &Option<String>); 2], each: &mut EachEntry<'_>) -> bool {
        let [ipv4, ipv6] = fields.map(|(field, _)| field);
        let mut ranges = fields.into_iter().filter_map(|(field, range)| Some((field, range.as_deref()?))).peekable();
        if ranges.peek().is_none() {
            return each(Err(self.bad("", text, format_args!("it has no \"{ipv4}\" and no \"{ipv6}\""))));
        }
        ranges.all(|(field, range)| each(self.block(field, range)))
    }
}

/// Receives the elements, and returns whether to read on.
pub(crate) type EachElement<'a> = dyn FnMut(Spot<'_>, &str) -> bool + 'a;

/// Passes each element of `arrays` to `each`, in the order of the document.
///
/// # Errors
/// [`ReadError`]: the document is not JSON, or has none of the arrays, or an element is larger than a document may be.
pub(crate) fn each_element(
    input: &mut dyn BufRead,
    format: Format,
    arrays: &[&str],
    each: &mut EachElement<'_>,
) -> Result<(), ReadError> {
    let budget = Budget::new(MAX_DOCUMENT_BYTES);
    let reader = BufReader::with_capacity(BUFFER_BYTES, budget.limit(input));
    let mut walk = Walk { each, budget: Some(&budget), found: false, stopped: false };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let result = Document { arrays, walk: &mut walk }.deserialize(&mut json).and_then(|()| json.end());
    let found = walk.found;
    match result {
        _ if walk.stopped => Ok(()),
        Ok(()) if found => Ok(()),
        Ok(()) => Err(ReadError::NotThisFormat { format, why: format!("it should have {}", names(arrays)) }),
        Err(_) if budget.is_spent() => Err(ReadError::TooLarge { most: MAX_DOCUMENT_BYTES }),
        Err(error) if error.is_io() => Err(ReadError::Io(error.into())),
        Err(error) => Err(ReadError::NotThisFormat { format, why: error.to_string() }),
    }
}

/// Passes each element of the array `text`, whose path is `array`, to `each`. Returns whether to read on.
pub(crate) fn each_inner(text: &str, array: &str, each: &mut EachElement<'_>) -> Result<bool, serde_json::Error> {
    let mut walk = Walk { each, budget: None, found: false, stopped: false };
    let result = Array { path: array, walk: &mut walk }.deserialize(&mut serde_json::Deserializer::from_str(text));
    if walk.stopped { Ok(false) } else { result.map(|()| true) }
}

/// Skips blanks, and returns the byte after them without consuming it.
pub(crate) fn first_byte(input: &mut dyn BufRead) -> Result<Option<u8>, ReadError> {
    loop {
        let buffer = input.fill_buf()?;
        let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let (first, is_empty) = (buffer.get(blanks).copied(), buffer.is_empty());
        input.consume(blanks);
        if first.is_some() || is_empty {
            return Ok(first);
        }
    }
}

/// What is wrong with an element. The position is left out, because it counts from the element's start.
pub(crate) fn without_position(error: &serde_json::Error) -> String {
    let text = printable(&error.to_string());
    text.rsplit_once(" at line ").map_or(text.clone(), |(why, _)| why.to_owned())
}

/// Whether a text that may be cut off begins like a JSON array.
pub(crate) fn is_array(head: &[u8]) -> bool {
    head.trim_ascii_start().starts_with(b"[")
}

/// Whether a text that may be cut off begins like a JSON object or array, and has all of these keys.
pub(crate) fn has_keys(head: &[u8], keys: &[&str]) -> bool {
    let head = head.trim_ascii_start();
    let text = String::from_utf8_lossy(head);
    matches!(head.first(), Some(b'{' | b'[')) && keys.iter().all(|key| has_key(&text, key))
}

/// A quote within a string is escaped, so a key is found only where it is one.
fn has_key(text: &str, key: &str) -> bool {
    let quoted = format!("\"{key}\"");
    text.match_indices(&quoted).any(|(at, _)| text[at + quoted.len()..].trim_start().starts_with(':'))
}

/// Whether the value that an entry has, if any, is `wanted`. Upper and lower case are the same.
pub(crate) fn is_value(value: Option<&str>, wanted: &str) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
}

const BUFFER_BYTES: usize = 32 << 10;

/// How many bytes may still be read for one entry, so that a document has no limit but what is held of it has.
pub(crate) struct Budget {
    left: Cell<u64>,
    most: u64,
}

impl Budget {
    /// Entries of at most this many bytes, and of what the reader buffers.
    pub(crate) fn new(most: u64) -> Self {
        Self { left: Cell::new(most), most }
    }

    /// The input, which fails when the budget is spent.
    pub(crate) fn limit<'a>(&'a self, input: &'a mut dyn BufRead) -> impl Read + 'a {
        Limited { input, budget: self }
    }

    /// Begins the next entry.
    pub(crate) fn renew(&self) {
        self.left.set(self.most);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

struct Limited<'a> {
    input: &'a mut dyn BufRead,
    budget: &'a Budget,
}

impl Read for Limited<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(bytes)?;
        self.budget.left.set(self.budget.left.get().saturating_sub(read as u64));
        if self.budget.is_spent() { Err(io::Error::other("an entry is too large")) } else { Ok(read) }
    }
}

/// What a walk through a document knows.
struct Walk<'a, 'e> {
    each: &'a mut EachElement<'e>,
    budget: Option<&'a Budget>,
    /// Whether one of the arrays was there.
    found: bool,
    /// Whether `each` wants no more. The error that then ends the reading is not one.
    stopped: bool,
}

impl Walk<'_, '_> {
    fn elements<'de, A: SeqAccess<'de>>(&mut self, path: &str, mut elements: A) -> Result<(), A::Error> {
        self.found = true;
        let mut index = 0;
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            if let Some(budget) = self.budget {
                budget.renew();
            }
            if !(self.each)(Spot { array: path, index }, element.get()) {
                self.stopped = true;
                return Err(A::Error::custom("the reader wants no more"));
            }
            index += 1;
        }
        Ok(())
    }
}

/// The document: an array, or an object with arrays.
struct Document<'a, 'b, 'e> {
    arrays: &'a [&'a str],
    walk: &'a mut Walk<'b, 'e>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names(self.arrays))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<(), A::Error> {
        if !self.arrays.contains(&DOCUMENT) {
            return Err(A::Error::custom(format_args!("it is an array, and should have {}", names(self.arrays))));
        }
        self.walk.elements(DOCUMENT, elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            match self.arrays.iter().find(|array| **array == key && !key.is_empty()) {
                Some(path) => entries.next_value_seed(Array { path, walk: &mut *self.walk })?,
                None => entries.next_value::<IgnoredAny>().map(drop)?,
            }
            if let Some(budget) = self.walk.budget {
                budget.renew();
            }
        }
        Ok(())
    }
}

/// An array, or null for an empty one.
struct Array<'a, 'b, 'e> {
    path: &'a str,
    walk: &'a mut Walk<'b, 'e>,
}

impl<'de> DeserializeSeed<'de> for Array<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Array<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array in {}", self.path)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<(), A::Error> {
        self.walk.elements(self.path, elements)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.walk.found = true;
        Ok(())
    }
}

fn names(arrays: &[&str]) -> String {
    let names: Vec<_> = arrays
        .iter()
        .map(|array| if *array == DOCUMENT { "an array of entries".to_owned() } else { format!("an array {array:?}") })
        .collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str, arrays: &[&str]) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let result = each_element(&mut text.as_bytes(), Format::Json, arrays, &mut |spot, text| {
            found.push(format!("{}={text}", spot.path("")));
            true
        });
        result.map(|()| found).map_err(|error| error.to_string())
    }

    #[test]
    fn the_elements_of_the_arrays_are_found_with_their_paths() {
        assert_eq!(elements(" [1, {\"a\": [2]}]", &[DOCUMENT]), Ok(vec!["[0]=1".into(), "[1]={\"a\": [2]}".into()]));
        let text = r#"{"a": [1], "b": {"a": [2]}, "c": [3, "x"], "d": null}"#;
        assert_eq!(elements(text, &["a", "c"]), Ok(vec!["a[0]=1".into(), "c[0]=3".into(), "c[1]=\"x\"".into()]));
        assert_eq!(elements(text, &["d"]), Ok(vec![]));
    }

    #[test]
    fn a_document_without_the_arrays_is_refused_and_says_what_it_should_have() {
        for (text, why) in [
            ("{\"b\": []}", "it should have an array of entries or an array \"a\""),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("7", "invalid type: integer `7`, expected an array of entries or an array \"a\" at line 1 column 1"),
            ("{\"a\": {}}", "invalid type: map, expected an array in a"),
            ("[1, 2", "EOF while parsing a list at line 1 column 5"),
            ("[1] [2]", "trailing characters at line 1 column 5"),
        ] {
            let error = elements(text, &[DOCUMENT, "a"]).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = format!("[{}{}]", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(elements(&deep, &[DOCUMENT]).map(|elements| elements.len()), Ok(1));
        let deep = format!("{{\"x\": {}{}, \"a\": [1]}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(elements(&deep, &["a"]).map(|elements| elements.len()), Ok(1));
    }

    #[test]
    fn an_entry_that_never_ends_is_not_held_forever() {
        let input = io::Cursor::new(b"[\"").chain(io::repeat(b'x'));
        let error = each_element(&mut BufReader::new(input), Format::Json, &[DOCUMENT], &mut |_, _| true).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_key_is_found_only_where_it_is_one() {
        assert!(has_keys(br#" [{"a" : 1, "b": "#, &["a", "b"]));
        assert!(!has_keys(br#"{"a": "b", "c": "\"b\": "}"#, &["a", "b"]));
        assert!(!has_keys(br#"a "b": "#, &["b"]));
    }
}
