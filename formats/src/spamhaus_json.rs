//! Spamhaus DROP in JSON (`drop_v4.json`, `drop_v6.json`): an object on each line,
//! `{"cidr":"192.0.2.0/24","sblid":"SBL256894","rir":"apnic"}`, and a last one with the type `metadata`, which has no range. It has the
//! number of `records` before it, so that a file that was cut off is refused.

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
    records: Option<u64>,
    rir: Option<String>,
    sblid: Option<String>,
}

fn looks_like(head: &[u8]) -> bool {
    has_keys(head.split(|byte| *byte == b'\n').next().unwrap_or_default(), &["cidr", "sblid"])
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut is_of_lines = true;
    let mut goes_on = true;
    // The number of records, and that which the metadata says, if it was the last line.
    let (mut records, mut said) = (0_u64, None);
    each_line(input, LastLine::MayBeOpen, |number, text| {
        let text = match text {
            Ok("") => return true,
            Ok(text) => text,
            Err(bad) => {
                (records, said) = (records + 1, None);
                goes_on = each(Err(bad));
                return goes_on;
            }
        };
        if records == 0 && said.is_none() && !text.starts_with('{') {
            is_of_lines = false;
            return false;
        }
        let bad = |why: String| BadEntry::in_line(number, text, why);
        let line = match serde_json::from_str::<Line>(text) {
            Ok(Line { cidr: None, kind: Some(kind), records: said_here, .. }) if kind == "metadata" => {
                said = Some(said_here);
                return true;
            }
            line => line,
        };
        (records, said) = (records + 1, None);
        let entry = match &line {
            Ok(Line { cidr: Some(cidr), rir, sblid, .. }) => {
                let is_wanted = options.wanted.matches(|name, value| match name {
                    "rir" => is_value(rir.as_deref(), value),
                    _ => is_value(sblid.as_deref(), value),
                });
                if !is_wanted {
                    return true;
                }
                let range =
                    cidr.trim().parse().map_err(|error: edgefold_table::ParseRangeError| bad(error.to_string()));
                range.map(|range| Block { range, until: Until::FOREVER })
            }
            Ok(_) => Err(bad("it has no \"cidr\"".to_owned())),
            Err(error) => Err(bad(without_position(error))),
        };
        goes_on = each(entry);
        goes_on
    })?;
    if !is_of_lines {
        let why = "its first line should be an object such as {\"cidr\":\"192.0.2.0/24\"}".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::SpamhausJson, why });
    }
    match said {
        _ if !goes_on => Ok(()),
        Some(Some(said)) if said == records => Ok(()),
        Some(Some(said)) => {
            Err(ReadError::CutOff { why: format!("it has {records} records, and says that it has {said}") })
        }
        _ => {
            let why =
                "its last line should be an object with the type metadata, and the number of its records".to_owned();
            Err(ReadError::CutOff { why })
        }
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
        let file = "{\"cidr\":\"192.0.2.1/24\"}\n{\"sblid\":\"SBL1\"}\n{\"cidr\":7}\n{\"cidr\":\n\n{\"cidr\":\"192.0.2.0/24\"}\n{\"type\":\"metadata\",\"records\":5}";
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
    fn a_file_that_is_cut_off_is_refused() {
        let lines: Vec<_> = FILE.lines().collect();
        let without_one = [lines[0], lines[1], lines[3]].join("\n");
        let twice = format!("{FILE}{FILE}");
        let after = format!("{FILE}{}\n", lines[0]);
        let unknown = FILE.replace("\"records\":3,", "");
        for file in [&FILE[..60], &lines[..3].join("\n"), &without_one, &twice, &after, &unknown, ""] {
            let error = read_all(Format::SpamhausJson, file, &Wanted::default()).unwrap_err();
            assert!(error.contains("the file is cut off: "), "{error}");
        }
    }

    #[test]
    fn a_file_of_other_lines_is_refused() {
        let error = read_all(Format::SpamhausJson, "<html>\n", &Wanted::default()).unwrap_err();
        assert!(error.contains("its first line should be an object"), "{error}");
        assert_eq!(Format::detect(b"192.0.2.0/24 ; SBL1"), Some(Format::Lines));
    }
}
