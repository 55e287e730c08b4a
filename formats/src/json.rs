//! edgefold's own JSON, as its command line prints blocks: an array with one object on each line,
//! `{"first":"192.0.2.0","last":"192.0.2.255","until":"2026-12-01T00:00:00Z"}`. `until` is null for a block without an end, and an
//! object may have the name of its `list`.

use std::io::{self, BufRead, Write};

use edgefold::{Block, LogTime, Until};
use edgefold_table::{IpRange, parse_address};
use serde::{Deserialize, Serialize};

use crate::about::About;
use crate::elements::{DOCUMENT, Spot, each_element, has_keys, is_array};
use crate::error::{BadEntry, ReadError};
use crate::{EachEntry, Format, ReadOptions};

pub(crate) const ABOUT: About = About {
    name: "json",
    describe: "edgefold's JSON, an array of first, last and until",
    read: Some(read),
    write: Some(|blocks, _, out| write(blocks, out)),
    says_ends: true,
    fields: &["list"],
    looks_like,
    ..About::BASE
};

#[derive(Deserialize, Serialize)]
#[serde(expecting = "an object with first, last and until")]
struct Entry {
    first: String,
    last: String,
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<String>,
}

fn looks_like(head: &[u8]) -> bool {
    is_array(head) && has_keys(head, &["first", "last", "until"])
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_element(input, Format::Json, &[DOCUMENT], &mut |spot, text| {
        let entry: Entry = match spot.parse(text) {
            Ok(entry) => entry,
            Err(bad) => return each(Err(bad)),
        };
        // `list` is the only field.
        let is_wanted = options.wanted.matches(|_, value| entry.list.as_deref() == Some(value));
        !is_wanted || each(block(spot, &entry))
    })
}

fn block(spot: Spot<'_>, entry: &Entry) -> Result<Block, BadEntry> {
    let first = parse_address(&entry.first).map_err(|error| spot.bad("first", &entry.first, error))?;
    let last = parse_address(&entry.last).map_err(|error| spot.bad("last", &entry.last, error))?;
    let range = IpRange::new(first, last).map_err(|error| spot.bad("", &format!("{first}-{last}"), error))?;
    let until = match &entry.until {
        Some(until) => LogTime::parse(until).map_err(|error| spot.bad("until", until, error))?.into(),
        None => Until::FOREVER,
    };
    Ok(Block { range, until })
}

fn write(blocks: &mut dyn Iterator<Item = Block>, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "[")?;
    for (index, Block { range, until }) in blocks.enumerate() {
        let until = until.time().map(|time| time.to_string());
        let entry = Entry { first: range.first().to_string(), last: range.last().to_string(), until, list: None };
        write!(out, "{}\n  {}", if index == 0 { "" } else { "," }, serde_json::to_string(&entry)?)?;
    }
    writeln!(out, "\n]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wanted;
    use crate::testing::{blocks, read_all, round_trip, wanted, written};

    #[test]
    fn what_the_command_line_prints_is_read() {
        let text = r#"[
  {"first":"192.0.2.0","last":"192.0.2.255","until":"2026-12-01T00:00:00Z"},
  {"first":"2001:db8::","last":"2001:db8::ff","until":null,"list":"tor"},
  {"first":"198.51.100.7","last":"198.51.100.7"}
]
"#;
        let read = ["192.0.2.0/24 until 2026-12-01T00:00:00Z", "2001:db8::/120", "198.51.100.7"];
        assert_eq!(read_all(Format::Json, text, &Wanted::default()), Ok(read.map(Into::into).into()));
        assert_eq!(read_all(Format::Json, text, &wanted("list", "tor")), Ok(vec!["2001:db8::/120".into()]));
        assert_eq!(Format::detect(text.as_bytes()), Some(Format::Json));
    }

    #[test]
    fn what_is_written_reads_back() {
        let mixed = ["192.0.2.1-192.0.2.9 until 2026-12-01T00:00:00.5Z", "2001:db8::/32", "2001:db9::1"];
        assert_eq!(round_trip(Format::Json, &mixed), mixed);
        assert_eq!(round_trip(Format::Json, &[]), Vec::<String>::new());
        let text = "[\n  {\"first\":\"192.0.2.0\",\"last\":\"192.0.2.255\",\"until\":null}\n]\n";
        assert_eq!(written(Format::Json, &blocks(&["192.0.2.0/24"])), text);
    }

    #[test]
    fn the_name_of_a_list_is_compared_exactly() {
        let text = r#"[{"first":"192.0.2.1","last":"192.0.2.1","list":"tor"}]"#;
        assert_eq!(read_all(Format::Json, text, &wanted("list", "Tor")), Ok(vec![]));
    }

    #[test]
    fn bad_entries_are_said_with_their_paths_and_reading_goes_on() {
        let text = r#"[{"first":"192.0.2.300","last":"192.0.2.1"}, {"first":"192.0.2.9","last":"192.0.2.1"}, 7,
            {"first":"192.0.2.1","last":"192.0.2.1","until":"soon"}, {"first":5,"last":"192.0.2.1"}, {"first":"192.0.2.1"},
            {"first":"192.0.2.1","last":"192.0.2.1","until":1e400}, {"first":"192.0.2.2","last":"192.0.2.2"}]"#;
        let read = read_all(Format::Json, text, &Wanted::default()).unwrap();
        let starts = [
            "bad [0].first: \"192.0.2.300\": \"192.0.2.300\" is not an IP address",
            "bad [1]: \"192.0.2.9-192.0.2.1\": the last address",
            "bad [2]: \"7\": invalid type: integer `7`, expected an object with first, last and until",
            "bad [3].until: \"soon\": \"soon\" is not a time: write RFC 3339",
            "bad [4]: ",
            "bad [5]: \"{\\\"first\\\":\\\"192.0.2.1\\\"}\": missing field `last`",
            "bad [6]: ",
            "192.0.2.2",
        ];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused_and_not_taken_for_a_shorter_one() {
        let text = written(Format::Json, &blocks(&["192.0.2.0/24", "2001:db8::/32"]));
        for cut in 0..text.trim_end().len() {
            assert!(read_all(Format::Json, &text[..cut], &Wanted::default()).is_err(), "{cut}");
        }
    }
}
