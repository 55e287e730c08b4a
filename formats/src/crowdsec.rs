//! Decisions of CrowdSec, in every form that it prints or reads:
//!
//! - JSON of `cscli decisions list -o json`: alerts, each with its `decisions`.
//! - JSON of the local API: an array of decisions, and that of its stream, `{"new":[...],"deleted":[...]}`. `deleted` is left out: it
//!   takes back decisions of earlier answers, and a whole list has none.
//! - JSON and CSV that `cscli decisions import` takes. What it adds by itself is added here: 4 hours, and the type `ban`.
//! - CSV of `cscli decisions list -o raw`.
//!
//! Only decisions to `ban` are read, unless other types are wanted: a captcha or a throttle is not a block. Simulated decisions are not
//! read either, because CrowdSec does not enforce them. A decision about anything but addresses, such as a country, is a bad entry.
//!
//! What is written is JSON for `cscli decisions import`. CrowdSec has no decision without an end, so [`FOREVER`] stands for it, in both
//! directions.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use edgefold::{Block, LogTime, Until};
use edgefold_table::shorten;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::about::About;
use crate::elements::{DOCUMENT, Spot, each_element, each_inner, first_byte, has_keys, is_value, without_position};
use crate::error::{BadEntry, ReadError};
use crate::input::{document, head_lines};
use crate::records::{Next, Record, RecordError, Records};
use crate::{EachEntry, Format, ReadOptions, Wanted, WriteOptions, address};

pub(crate) const ABOUT: About = About {
    name: "crowdsec",
    describe: "decisions of CrowdSec, as JSON or CSV",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    fields: &["origin", "scenario", "type"],
    looks_like,
    ..About::BASE
};

/// 876000h, a century: a decision that lasts this long or longer has no end.
const FOREVER: Duration = Duration::from_secs(876_000 * 3600);
/// How long a decision lasts that does not say so, as `cscli decisions import` has it.
const DEFAULT_DURATION: Duration = Duration::from_secs(4 * 3600);
const BAN: &str = "ban";

#[derive(Default, Deserialize, Serialize)]
#[serde(expecting = "a decision, an object with a value")]
struct Decision {
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// What decisions to import call the scenario.
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scenario: Option<String>,
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulated: Option<bool>,
    #[serde(rename = "type")]
    kind: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an alert or a decision, an object")]
struct Alert<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    decisions: Option<&'a RawValue>,
}

fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(json).map(Some)
}

fn looks_like(head: &[u8]) -> bool {
    has_keys(head, &["duration", "scope", "type", "value"])
        || has_keys(head, &["decisions", "scenario"])
        || head_lines(head).next().is_some_and(|line| {
            let columns: Vec<_> = line.split(',').map(str::trim).collect();
            let has = |names: &[&str]| names.iter().all(|name| columns.contains(name));
            has(&["source", "ip", "reason", "action", "expiration"]) || has(&["duration", "scope", "value"])
        })
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    match first_byte(input)? {
        Some(b'[' | b'{') => read_json(input, options, each),
        // The API's answer when there are no decisions.
        Some(b'n') => match document(input)?.trim_ascii() {
            b"null" => Ok(()),
            _ => Err(not_this("it is neither JSON nor CSV with a header")),
        },
        _ => read_csv(input, options, each),
    }
}

fn read_json(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_element(input, Format::Crowdsec, &[DOCUMENT, "new"], &mut |spot, text| {
        let mut decision = |spot: Spot<'_>, text: &str| {
            let decision = spot.parse::<Decision>(text);
            let entry =
                decision.and_then(|decision| decision.block(options, |field, value, why| spot.bad(field, value, why)));
            entry.transpose().is_none_or(&mut *each)
        };
        match spot.parse::<Alert<'_>>(text) {
            Ok(Alert { decisions: Some(decisions) }) => {
                let path = spot.path("decisions");
                match each_inner(decisions.get(), &path, &mut decision) {
                    Ok(goes_on) => goes_on,
                    Err(error) => each(Err(spot.bad("decisions", decisions.get(), without_position(&error)))),
                }
            }
            Ok(Alert { decisions: None }) => decision(spot, text),
            Err(bad) => each(Err(bad)),
        }
    })
}

/// The columns of a CSV file, by their numbers.
struct Columns {
    duration: Option<usize>,
    origin: Option<usize>,
    scenario: Option<usize>,
    scope: Option<usize>,
    simulated: Option<usize>,
    kind: Option<usize>,
    value: usize,
}

impl Columns {
    fn of(header: &Record) -> Result<Self, ReadError> {
        let column = |names: [&str; 2]| header.iter().position(|name| names.contains(&name.trim()));
        let value = column(["value", "ip"]).ok_or_else(|| {
            not_this(
                "its first line should name its columns, with \"value\" or \"ip\" among them, or it should be JSON",
            )
        })?;
        Ok(Self {
            duration: column(["duration", "expiration"]),
            origin: column(["origin", "source"]),
            scenario: column(["scenario", "reason"]),
            scope: column(["scope", "scope"]),
            simulated: column(["simulated", "simulated"]),
            kind: column(["type", "action"]),
            value,
        })
    }

    fn decision(&self, record: &Record) -> Decision {
        let text = |column: Option<usize>| {
            column
                .and_then(|column| record.get(column))
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let (scope, value) = match text(Some(self.value)) {
            // `cscli decisions list -o raw` writes the scope before the value. No IPv6 address begins like that.
            Some(value) if self.scope.is_none() => match value.split_once(':') {
                Some((scope, value)) if is_scope(scope) => (Some(scope.to_owned()), Some(value.to_owned())),
                _ => (None, Some(value)),
            },
            value => (text(self.scope), value),
        };
        Decision {
            duration: text(self.duration),
            origin: text(self.origin),
            reason: None,
            scenario: text(self.scenario),
            scope,
            simulated: text(self.simulated)
                .map(|text| ["true", "t", "1"].iter().any(|yes| text.eq_ignore_ascii_case(yes))),
            kind: text(self.kind),
            value,
        }
    }
}

/// Whether a text is a scope and not the beginning of an IPv6 address.
fn is_scope(text: &str) -> bool {
    text.bytes().any(|byte| !byte.is_ascii_hexdigit()) && !text.is_empty()
}

fn read_csv(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut records = Records::new(input, b',');
    let failed = |error: RecordError| match error {
        RecordError::Io(error) => ReadError::Io(error),
        error => not_this(&error.to_string()),
    };
    let lines = match records.next().map_err(failed)? {
        Next::Record(line) => line,
        Next::Bad(bad) => return Err(not_this(&bad.to_string())),
        Next::End => 0,
    };
    let columns = Columns::of(&records.record)?;
    records.after_header(records.record.len(), lines);
    loop {
        let entry = match records.next().map_err(failed)? {
            Next::Record(line) => {
                let bad = |_: &str, value: &str, why: String| BadEntry::in_line(line, value, why);
                columns.decision(&records.record).block(options, bad)
            }
            Next::Bad(bad) => Err(bad),
            Next::End => return Ok(()),
        };
        if !entry.transpose().is_none_or(&mut *each) {
            return Ok(());
        }
    }
}

fn not_this(why: &str) -> ReadError {
    ReadError::NotThisFormat { format: Format::Crowdsec, why: why.to_owned() }
}

impl Decision {
    /// The block that the decision is; `None` if it is not wanted. `bad` makes a bad entry of a field, its text and what is wrong.
    fn block(
        &self,
        options: &ReadOptions,
        bad: impl Fn(&str, &str, String) -> BadEntry,
    ) -> Result<Option<Block>, BadEntry> {
        if self.simulated == Some(true) || !self.is_wanted(&options.wanted) {
            return Ok(None);
        }
        let value = self.value.as_deref().unwrap_or_default();
        let scope = self.scope.as_deref().unwrap_or("ip");
        if !["ip", "range"].iter().any(|known| scope.eq_ignore_ascii_case(known)) {
            let why = format!("it is of scope {:?}, and only ip and range have addresses", shorten(scope));
            return Err(bad("scope", value, why));
        }
        let range =
            value.parse().map_err(|error: edgefold_table::ParseRangeError| bad("value", value, error.to_string()))?;
        let until = match &self.duration {
            Some(duration) => GoDuration::parse(duration).ok_or_else(|| {
                let why = "this is not a duration: write one such as 4h, 3h59m49.5s or -1s";
                bad("duration", duration, why.to_owned())
            })?,
            None => GoDuration::Ahead(DEFAULT_DURATION),
        };
        Ok(Some(Block { range, until: until.end(options.now) }))
    }

    fn is_wanted(&self, wanted: &Wanted) -> bool {
        let kind = self.kind.as_deref().unwrap_or(BAN);
        let is_any_type = wanted.names().any(|name| name == "type");
        let matches = wanted.matches(|name, value| match name {
            "type" => is_value(Some(kind), value),
            "origin" => is_value(self.origin.as_deref(), value),
            _ => is_value(self.scenario.as_deref().or(self.reason.as_deref()), value),
        });
        matches && (is_any_type || kind.eq_ignore_ascii_case(BAN))
    }
}

/// A duration of Go's `time.ParseDuration`, and with days, which newer versions of CrowdSec know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum GoDuration {
    Ahead(Duration),
    /// A negative one: the decision is over.
    Ago(Duration),
}

impl GoDuration {
    fn parse(text: &str) -> Option<Self> {
        let (is_ago, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut rest = digits;
        let mut nanos: u128 = 0;
        while !rest.is_empty() && digits != "0" {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let unit =
                rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |end| number + end);
            let scale: u128 = match &rest[number..unit] {
                "ns" => 1,
                "us" | "µs" | "μs" => 1000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                "d" => 86_400_000_000_000,
                _ => return None,
            };
            nanos = nanos.checked_add(scaled(&rest[..number], scale)?)?;
            rest = &rest[unit..];
        }
        let millis = u64::try_from(nanos / 1_000_000).ok().filter(|_| !digits.is_empty())?;
        let duration = Duration::from_millis(millis);
        Some(if is_ago { Self::Ago(duration) } else { Self::Ahead(duration) })
    }

    fn end(self, now: LogTime) -> Until {
        match self {
            Self::Ahead(duration) if duration < FOREVER => {
                now.checked_add(duration).map_or(Until::FOREVER, Until::from)
            }
            Self::Ahead(_) => Until::FOREVER,
            Self::Ago(duration) => {
                let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                LogTime::from_millis(now.millis().saturating_sub(millis)).map_or(Until::FOREVER, Until::from)
            }
        }
    }
}

/// A number such as `1.5`, times `scale`. Of the fraction, nanoseconds count.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok().map(u128::from) };
    let fraction = fraction.get(..9).unwrap_or(fraction);
    let parts = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)? * scale + digits(fraction)? * scale / parts)
}

fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "[")?;
    let mut separator = "";
    for Block { range, until } in blocks {
        let left = until.time().map(|end| Duration::from_millis(end.millis().saturating_sub(options.now.millis())));
        let duration = go_duration(left.map_or(FOREVER, |left| left.min(FOREVER)));
        for cidr in address::cidrs(range) {
            let is_address = cidr.prefix_len() == cidr.max_prefix_len();
            let decision = Decision {
                duration: Some(duration.clone()),
                reason: Some(format!("edgefold {}", options.name)),
                // As CrowdSec prints it: in lower case it would not look the address up in its allowlists.
                scope: Some(if is_address { "Ip" } else { "Range" }.to_owned()),
                kind: Some(BAN.to_owned()),
                value: Some(if is_address { cidr.addr().to_string() } else { cidr.to_string() }),
                ..Decision::default()
            };
            write!(out, "{separator}\n  {}", serde_json::to_string(&decision)?)?;
            separator = ",";
        }
    }
    writeln!(out, "\n]")
}

/// As Go prints it, to the millisecond.
fn go_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    format!("{hours}h{minutes}m{seconds}{fraction}s")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::testing::{blocks, read_all, round_trip, wanted, written};

    const ALERTS: &str = r#"[
 {
  "capacity": 0,
  "created_at": "2026-11-26T11:00:00Z",
  "decisions": [
   {
    "duration": "3h59m49s",
    "id": 12,
    "origin": "cscli",
    "scenario": "manual 'ban' from 'localhost'",
    "scope": "Ip",
    "simulated": false,
    "type": "ban",
    "value": "192.0.2.12"
   },
   {
    "duration": "-1s",
    "id": 13,
    "origin": "crowdsec",
    "scenario": "crowdsecurity/ssh-bf",
    "scope": "Range",
    "simulated": false,
    "type": "ban",
    "value": "198.51.100.0/24"
   }
  ],
  "events": [{"meta": [{"key": "value", "value": "192.0.2.99"}], "timestamp": "2026-11-26T11:00:00Z"}],
  "events_count": 1,
  "id": 7,
  "labels": null,
  "leakspeed": "0",
  "scenario": "manual 'ban' from 'localhost'",
  "source": {"ip": "192.0.2.12", "scope": "Ip", "value": "192.0.2.12"}
 },
 {"id": 8, "decisions": null, "source": {"scope": "Ip", "value": "192.0.2.98"}}
]"#;
    const DECISIONS: &str = r#"[{"duration":"3h59m49.5s","id":1,"origin":"CAPI","scenario":"crowdsecurity/http-probing","scope":"Ip","type":"ban","value":"2001:db8::7"},
{"duration":"1h","id":2,"origin":"crowdsec","scenario":"crowdsecurity/ssh-bf","scope":"Ip","type":"captcha","value":"192.0.2.7"},
{"duration":"1h","id":3,"origin":"crowdsec","scenario":"crowdsecurity/ssh-bf","scope":"Ip","simulated":true,"type":"ban","value":"192.0.2.8"}]"#;
    const RAW: &str = "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id
1,crowdsec,Ip:192.0.2.1,crowdsecurity/ssh-bf,ban,US,\"64500 EXAMPLE, Inc\",4,1h0m0s,false,10
2,lists,Range:198.51.100.0/24,firehol,ban,,,0,1h,false,11
3,CAPI,Ip:2001:db8::1,crowdsecurity/http-probing,ban,,,0,30m0s,false,12
4,crowdsec,Ip:192.0.2.4,crowdsecurity/ssh-bf,ban,US,X,4,1h0m0s,true,13
";

    fn bans(file: &str) -> Vec<String> {
        read_all(Format::Crowdsec, file, &Wanted::default()).unwrap()
    }

    #[test]
    fn the_alerts_that_cscli_lists_are_read() {
        let read = ["192.0.2.12 until 2026-11-26T15:59:49Z", "198.51.100.0/24 until 2026-11-26T11:59:59Z"];
        assert_eq!(bans(ALERTS), read);
        assert_eq!(Format::detect(ALERTS.as_bytes()), Some(Format::Crowdsec));
    }

    #[test]
    fn the_decisions_of_the_api_are_read_and_only_bans_that_are_enforced() {
        assert_eq!(bans(DECISIONS), ["2001:db8::7 until 2026-11-26T15:59:49.5Z"]);
        assert_eq!(Format::detect(DECISIONS.as_bytes()), Some(Format::Crowdsec));
        assert_eq!(bans(" null\n"), Vec::<String>::new());
    }

    #[test]
    fn of_the_stream_what_is_new_is_read() {
        let stream = format!(
            r#"{{"deleted":[{{"duration":"-1h","scope":"Ip","type":"ban","value":"192.0.2.1"}}],"new":{DECISIONS}}}"#
        );
        assert_eq!(bans(&stream), ["2001:db8::7 until 2026-11-26T15:59:49.5Z"]);
        assert_eq!(Format::detect(stream.as_bytes()), Some(Format::Crowdsec));
        assert_eq!(bans(r#"{"deleted":null,"new":null}"#), Vec::<String>::new());
    }

    #[test]
    fn what_cscli_imports_is_read_with_its_defaults() {
        let read = ["192.0.2.4 until 2026-11-27T12:00:00Z", "198.51.100.0/24 until 2026-11-26T16:00:00Z"];
        let json = r#"[{"duration": "24h", "scope": "ip", "type": "ban", "value": "192.0.2.4"}, {"value": "198.51.100.0/24"}]"#;
        assert_eq!(bans(json), read);
        let csv = "duration,scope,value\n24h,ip,192.0.2.4\n,,198.51.100.0/24\n";
        assert_eq!(bans(csv), read);
        assert_eq!(Format::detect(csv.as_bytes()), Some(Format::Crowdsec));
    }

    #[test]
    fn the_csv_that_cscli_lists_is_read() {
        let read = [
            "192.0.2.1 until 2026-11-26T13:00:00Z",
            "198.51.100.0/24 until 2026-11-26T13:00:00Z",
            "2001:db8::1 until 2026-11-26T12:30:00Z",
        ];
        assert_eq!(bans(RAW), read);
        assert_eq!(Format::detect(RAW.as_bytes()), Some(Format::Crowdsec));
    }

    #[test]
    fn decisions_are_chosen_by_type_origin_and_scenario() {
        let captcha = read_all(Format::Crowdsec, DECISIONS, &wanted("type", "captcha"));
        assert_eq!(captcha, Ok(vec!["192.0.2.7 until 2026-11-26T13:00:00Z".into()]));
        let lists = read_all(Format::Crowdsec, RAW, &wanted("origin", "lists"));
        assert_eq!(lists, Ok(vec!["198.51.100.0/24 until 2026-11-26T13:00:00Z".into()]));
        let ssh = read_all(Format::Crowdsec, RAW, &wanted("scenario", "crowdsecurity/ssh-bf"));
        assert_eq!(ssh, Ok(vec!["192.0.2.1 until 2026-11-26T13:00:00Z".into()]));
    }

    #[test]
    fn bad_decisions_are_said_with_their_places_and_reading_goes_on() {
        let json = r#"[{"duration":"1h","scope":"Country","type":"ban","value":"RU"}, {"duration":"1h","scope":"Ip","value":"x"}, 7,
            {"duration":"4 hours","value":"192.0.2.1"}, {"duration":"1h"}, {"decisions":[{"value":6}]}, {"decisions":"x"},
            {"duration":"1h","value":"192.0.2.2"}]"#;
        let read = bans(json);
        let starts = [
            "bad [0].scope: \"RU\": it is of scope \"Country\", and only ip and range have addresses",
            "bad [1].value: \"x\": \"x\" is not an IP address",
            "bad [2]: \"7\": invalid type: integer `7`, expected an alert or a decision",
            "bad [3].duration: \"4 hours\": this is not a duration: write one such as 4h",
            "bad [4].value: \"\": an address is missing",
            "bad [5].decisions[0]: \"{\\\"value\\\":6}\": invalid type: integer `6`, expected a string",
            "bad [6].decisions: \"\\\"x\\\"\": invalid type: string \"x\", expected an array",
            "192.0.2.2 until",
        ];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
        let csv = b"value,duration\n192.0.2.300,1h\n\xff,1h\n192.0.2.1,1x\n\"192.0.2.2\",1h\n";
        let read = read_all(Format::Crowdsec, csv, &Wanted::default()).unwrap();
        let starts = ["bad line 2: ", "bad line 3: \"\u{fffd}\"", "bad line 4: \"1x\"", "192.0.2.2 until"];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
    }

    #[test]
    fn no_row_of_csv_is_hidden() {
        let csv = "value,duration\n192.0.2.1,1h\r192.0.2.9,1h\n192.0.2.2\n#192.0.2.3,1h\n192.0.2.4,1h\n";
        let read = bans(csv);
        assert_eq!(read.len(), 4, "{read:?}");
        assert!(
            read[0].contains("carriage return") && read[1].contains("it has 1 column") && read[2].contains("# begins"),
            "{read:?}"
        );
        assert!(
            read_all(Format::Crowdsec, "value,duration\n192.0.2.1,\"1h\n192.0.2.2,1h\n", &Wanted::default()).is_err()
        );
    }

    #[test]
    fn other_files_are_refused() {
        for (file, why) in [
            ("192.0.2.1\n192.0.2.2\n", "its first line should name its columns"),
            ("", "its first line should name its columns"),
            ("nothing", "it is neither JSON nor CSV"),
            ("{\"prefixes\": []}", "it should have an array of entries or an array \"new\""),
            (&ALERTS[..ALERTS.len() - 3], "EOF while parsing"),
        ] {
            let error = read_all(Format::Crowdsec, file, &Wanted::default()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_not_held_forever() {
        let input = io::Cursor::new(b"duration,value\n1h,\"").chain(io::repeat(b','));
        let mut input = io::BufReader::new(input);
        let error = crate::read(Format::Crowdsec, &mut input, &ReadOptions::default(), &mut |_| true).unwrap_err();
        assert!(error.to_string().contains("a quote may not be closed"), "{error}");
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let ahead = |millis| Some(GoDuration::Ahead(Duration::from_millis(millis)));
        for (text, duration) in [
            ("4h", ahead(14_400_000)),
            ("3h59m49.012s", ahead(14_389_012)),
            ("2m53.949221341s", ahead(173_949)),
            ("1.5h", ahead(5_400_000)),
            (".5s", ahead(500)),
            ("1.s", ahead(1000)),
            ("1500ms2us3µs4ns", ahead(1500)),
            ("7d", ahead(604_800_000)),
            ("0", ahead(0)),
            ("+1s", ahead(1000)),
            ("-1h0m1s", Some(GoDuration::Ago(Duration::from_secs(3601)))),
            ("", None),
            ("-", None),
            ("5", None),
            (".s", None),
            ("1.2.3s", None),
            ("h", None),
            ("1h ", None),
            ("1w", None),
            ("1é", None),
            ("99999999999999999999h", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(GoDuration::parse(text), duration, "{text}");
        }
        let now = crate::testing::now();
        assert_eq!(GoDuration::Ahead(Duration::MAX).end(now), Until::FOREVER);
        assert_eq!(GoDuration::Ago(Duration::MAX).end(now), Until::from(LogTime::EPOCH));
    }

    #[test]
    fn what_is_written_reads_back() {
        let mixed =
            ["192.0.2.1 until 2026-11-26T12:00:00.001Z", "198.51.100.0/24", "2001:db8::/32 until 2027-01-01T00:00:00Z"];
        assert_eq!(round_trip(Format::Crowdsec, &mixed), mixed);
        assert_eq!(round_trip(Format::Crowdsec, &["192.0.2.1-192.0.2.2"]), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(round_trip(Format::Crowdsec, &["192.0.2.1 until 2300-01-01T00:00:00Z"]), ["192.0.2.1"]);
        assert_eq!(round_trip(Format::Crowdsec, &[]), Vec::<String>::new());
        let text = concat!(
            "[\n",
            r#"  {"duration":"4h0m0.500s","reason":"edgefold default","scope":"Ip","type":"ban","value":"192.0.2.1"},"#,
            "\n",
            r#"  {"duration":"876000h0m0s","reason":"edgefold default","scope":"Range","type":"ban","value":"192.0.2.2/31"}"#,
            "\n]\n"
        );
        let blocks = blocks(&["192.0.2.1 until 2026-11-26T16:00:00.5Z", "192.0.2.2/31"]);
        assert_eq!(written(Format::Crowdsec, &blocks), text);
        assert_eq!(Format::detect(text.as_bytes()), Some(Format::Crowdsec));
    }
}
