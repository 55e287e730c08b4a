//! Spamhaus DROP in JSON (`drop_v4.json`, `drop_v6.json`): an object on each line,
//! `{"cidr":"192.0.2.0/24","sblid":"SBL256894","rir":"apnic"}`, and one with the type `metadata`, which has no range.

use std::io::BufRead;

use edgefold::{Block, Until};
use serde::Deserialize;

use crate::about::About;
use crate::elements::{has_keys, is_value, without_position};
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, each_line};
use crate::{EachEntry, Format, ReadOptions};

pub(crate) const ABOUT: About = About {
    name: "spamhaus-json",
    describe: "lines of JSON of Spamhaus DROP",
    read: Some(read),
    fields: &["rir", "sblid"],
    looks_like,
    ..About::BASE
};

#[derive(Deserialize)]
#[serde(expecting = "an object with cidr")]
struct Line {
    cidr: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    rir: Option<String>,
    sblid: Option<String>,
}

fn looks_like(head: &[u8]) -> bool {
    has_keys(head.split(|byte| *byte == b'\n').next().unwrap_or_default(), &["cidr", "sblid"])
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut is_of_lines = true;
    let mut is_first = true;
    each_line(input, LastLine::MayBeOpen, |number, text| {
        let text = match text {
            Ok("") => return true,
            Ok(text) => text,
            Err(bad) => return each(Err(bad)),
        };
        if is_first && !text.starts_with('{') {
            is_of_lines = false;
            return false;
        }
        is_first = false;
        let bad = |why: String| BadEntry::in_line(number, text, why);
        let line: Line = match serde_json::from_str(text) {
            Ok(line) => line,
            Err(error) => return each(Err(bad(without_position(&error)))),
        };
        let Some(cidr) = &line.cidr else {
            return line.kind.as_deref() == Some("metadata") || each(Err(bad("it has no \"cidr\"".to_owned())));
        };
        let is_wanted = options.wanted.matches(|name, value| match name {
            "rir" => is_value(line.rir.as_deref(), value),
            _ => is_value(line.sblid.as_deref(), value),
        });
        let range = cidr.trim().parse().map_err(|error: edgefold_table::ParseRangeError| bad(error.to_string()));
        !is_wanted || each(range.map(|range| Block { range, until: Until::FOREVER }))
    })?;
    if is_of_lines {
        Ok(())
    } else {
        let why = "its first line should be an object such as {\"cidr\":\"192.0.2.0/24\"}".to_owned();
        Err(ReadError::NotThisFormat { format: Format::SpamhausJson, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wanted;
    use crate::testing::{read_all, wanted};

    const FILE: &str = r#"{"cidr":"192.0.2.0/24","sblid":"SBL256894","rir":"apnic"}
{"cidr":"198.51.100.0/24","sblid":"SBL434604","rir":"arin"}
{"cidr":"2001:db8::\/32","sblid":"SBL301771","rir":"ripencc"}
{"type":"metadata","timestamp":1790072042,"size":104461,"records":3,"copyright":"(c) 2026 The Spamhaus Project SLU","terms":"https://www.spamhaus.org/drop/terms/"}
"#;

    #[test]
    fn the_ranges_of_drop_are_read() {
        let all = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"];
        assert_eq!(read_all(Format::SpamhausJson, FILE, &Wanted::default()), Ok(all.map(Into::into).into()));
        let ripe = read_all(Format::SpamhausJson, FILE, &wanted("rir", "RIPENCC"));
        assert_eq!(ripe, Ok(vec!["2001:db8::/32".into()]));
        let one = read_all(Format::SpamhausJson, FILE, &wanted("sblid", "SBL434604"));
        assert_eq!(one, Ok(vec!["198.51.100.0/24".into()]));
        assert_eq!(Format::detect(FILE.as_bytes()), Some(Format::SpamhausJson));
    }

    #[test]
    fn a_bad_line_is_said_by_its_number_and_reading_goes_on() {
        let file = "{\"cidr\":\"192.0.2.1/24\"}\n{\"sblid\":\"SBL1\"}\n{\"cidr\":7}\n{\"cidr\":\n\n{\"cidr\":\"192.0.2.0/24\"}";
        let read = read_all(Format::SpamhausJson, file, &Wanted::default()).unwrap();
        let starts = [
            r#"bad line 1: "{\"cidr\":\"192.0.2.1/24\"}": 192.0.2.1/24 has host bits set"#,
            r#"bad line 2: "{\"sblid\":\"SBL1\"}": it has no "cidr""#,
            r#"bad line 3: "{\"cidr\":7}": invalid type: integer `7`, expected a string"#,
            r#"bad line 4: "{\"cidr\":": EOF while parsing a value"#,
            "192.0.2.0/24",
        ];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
    }

    #[test]
    fn a_file_of_other_lines_is_refused() {
        let error = read_all(Format::SpamhausJson, "<html>\n", &Wanted::default()).unwrap_err();
        assert!(error.contains("its first line should be an object"), "{error}");
        assert_eq!(Format::detect(b"192.0.2.0/24 ; SBL1"), Some(Format::Lines));
    }
}
