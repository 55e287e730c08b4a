//! STIX 2.1 bundles, and those of 2.0: the addresses that the patterns of their indicators compare with, such as
//! `[ipv4-addr:value = '192.0.2.1' OR ipv4-addr:value ISSUBSET '198.51.100.0/24']`.
//!
//! A pattern that says more, such as AND, or that compares other things is a bad entry: only the addresses of it would block more than
//! it says. An indicator ends at its `valid_until`. These are left out:
//!
//! - an indicator that is `revoked`, or not valid yet (`valid_from`);
//! - a `benign` indicator, by its types or labels, unless these are asked for;
//! - of several versions of an indicator, which have the same `id`, all but the one that was `modified` last.
//!
//! Observables (`ipv4-addr` and `ipv6-addr` objects) are read only from a bundle without any indicator. Beside indicators they say what
//! was seen, and that can be the victim.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::BufRead;

use edgefold::{Block, LogTime, Until};
use edgefold_table::{IpRange, shorten};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::about::About;
use crate::elements::{Spot, each_element, each_inner, has_keys, is_value};
use crate::error::{BadEntry, ReadError};
use crate::input::document;
use crate::{EachEntry, Format, ReadOptions, Wanted};

pub(crate) const ABOUT: About = About {
    name: "stix",
    describe: "a STIX bundle",
    read: Some(read),
    says_ends: true,
    fields: &["indicator_types", "labels", "name"],
    looks_like,
    ..About::BASE
};

const INDICATOR: &str = "indicator";
const BENIGN: &str = "benign";
/// What a bad pattern should be.
const SIMPLE: &str = "write [ipv4-addr:value = '192.0.2.1'], with ISSUBSET or IN for =, and OR for several";

#[derive(Deserialize)]
#[serde(expecting = "an object with a type")]
struct Object<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    modified: Option<String>,
    #[serde(borrow)]
    indicator_types: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    name: Option<String>,
    pattern: Option<String>,
    pattern_type: Option<String>,
    revoked: Option<bool>,
    valid_from: Option<String>,
    valid_until: Option<String>,
    /// The address of an observable. Other objects have values of other types.
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

fn looks_like(head: &[u8]) -> bool {
    let has = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
    has_keys(head, &["type", "id"]) && has(b"\"bundle\"") && has(b"\"bundle--")
}

/// The versions of an object.
#[derive(Debug)]
struct Versions {
    count: u64,
    /// The latest time at which one was modified.
    latest: LogTime,
    /// Whether one of the latest is revoked.
    is_revoked: bool,
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let bytes = document(input)?;
    let mut has_indicators = false;
    let mut versions: HashMap<String, Versions> = HashMap::new();
    each_element(&mut bytes.as_slice(), Format::Stix, &["objects"], &mut |_, text| {
        has_indicators |= is_indicator(text);
        let object: Option<Object<'_>> = serde_json::from_str(text).ok();
        if let Some((object, id)) = object.and_then(|mut object| object.id.take().map(|id| (object, id)))
            && object.kind == INDICATOR
        {
            let modified = object.modified().unwrap_or(LogTime::EPOCH);
            let is_revoked = object.revoked == Some(true);
            let versions = versions.entry(id).or_insert(Versions { count: 0, latest: modified, is_revoked: false });
            versions.count += 1;
            if modified > versions.latest {
                (versions.latest, versions.is_revoked) = (modified, false);
            }
            versions.is_revoked |= is_revoked && modified == versions.latest;
        }
        true
    })?;
    each_element(&mut bytes.as_slice(), Format::Stix, &["objects"], &mut |spot, text| {
        let object: Object<'_> = match spot.parse(text) {
            Ok(object) => object,
            Err(bad) => return each(Err(bad)),
        };
        let is_read = match object.kind.as_str() {
            INDICATOR => true,
            "ipv4-addr" | "ipv6-addr" => !has_indicators,
            _ => false,
        };
        if !is_read || object.revoked == Some(true) || !object.is_wanted(&options.wanted) {
            return true;
        }
        match object.blocks(spot, &versions, options.now) {
            Ok(blocks) => blocks.into_iter().all(|block| each(Ok(block))),
            Err(bad) => each(Err(bad)),
        }
    })
}

/// Whether an object is an indicator, even one that cannot be read.
fn is_indicator(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Kind<'_>>(text).map_or_else(|_| text.contains(INDICATOR), |object| object.kind == INDICATOR)
}

impl Object<'_> {
    fn is_wanted(&self, wanted: &Wanted) -> bool {
        let is_benign = is_in(self.indicator_types, BENIGN) || is_in(self.labels, BENIGN);
        let matches = wanted.matches(|name, value| match name {
            "name" => is_value(self.name.as_deref(), value),
            "labels" => is_in(self.labels, value),
            _ => is_in(self.indicator_types, value),
        });
        matches && (!is_benign || wanted.has_value(BENIGN))
    }

    fn modified(&self) -> Option<LogTime> {
        LogTime::parse(self.modified.as_deref()?).ok()
    }

    /// Whether there is a later version, or a revoked one of the same time.
    ///
    /// # Errors
    /// There are several versions, and it is not said which is the latest.
    fn is_superseded(&self, spot: Spot<'_>, versions: &HashMap<String, Versions>) -> Result<bool, BadEntry> {
        let id = self.id.as_deref().unwrap_or_default();
        let Some(versions) = versions.get(id).filter(|versions| versions.count > 1) else { return Ok(false) };
        let why = "there are several versions of this indicator, and it is not said when this one was modified";
        let modified = self.modified().ok_or_else(|| spot.bad("modified", id, why))?;
        Ok(modified < versions.latest || versions.is_revoked)
    }

    fn blocks(
        &self,
        spot: Spot<'_>,
        versions: &HashMap<String, Versions>,
        now: LogTime,
    ) -> Result<Vec<Block>, BadEntry> {
        if self.kind != INDICATOR {
            let value = self.value.map_or("\"\"", RawValue::get);
            let text: String = serde_json::from_str(value)
                .map_err(|_| spot.bad("value", value, "an address or a CIDR block should be here"))?;
            return Ok(vec![spot.block("value", &text)?]);
        }
        let valid_from = self.valid_from.as_deref().map(LogTime::parse).transpose();
        let valid_from = valid_from
            .map_err(|error| spot.bad("valid_from", self.valid_from.as_deref().unwrap_or_default(), error))?;
        if self.is_superseded(spot, versions)? || valid_from.is_some_and(|from| from > now) {
            return Ok(Vec::new());
        }
        let pattern = self.pattern.as_deref().unwrap_or_default();
        if let Some(other) = self.pattern_type.as_deref().filter(|kind| *kind != "stix") {
            let why = format!("this is a pattern of {:?}, and only those of stix are read", shorten(other));
            return Err(spot.bad("pattern", pattern, why));
        }
        let until = match &self.valid_until {
            Some(until) => LogTime::parse(until).map_err(|error| spot.bad("valid_until", until, error))?.into(),
            None => Until::FOREVER,
        };
        let ranges = Pattern(pattern).ranges().map_err(|why| spot.bad("pattern", pattern, why))?;
        Ok(ranges.into_iter().map(|range| Block { range, until }).collect())
    }
}

/// Whether a list of texts, or the one text that is there instead, has `wanted`.
fn is_in(texts: Option<&RawValue>, wanted: &str) -> bool {
    let Some(texts) = texts.map(RawValue::get) else { return false };
    let is_wanted = |text: &str| is_value(serde_json::from_str::<String>(text).ok().as_deref(), wanted);
    let mut is_in = is_wanted(texts);
    // What is neither has none of them.
    let _ = each_inner(texts, "", &mut |_, text| {
        is_in |= is_wanted(text);
        !is_in
    });
    is_in
}

/// What is left to read of a pattern.
struct Pattern<'a>(&'a str);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token<'a> {
    /// A bracket, a parenthesis, a comma, or `=`.
    Sign(char),
    /// A word such as OR, or the path of a value.
    Word(&'a str),
    /// A text in single quotes.
    Text(String),
}

impl<'a> Pattern<'a> {
    /// The addresses of a pattern that is nothing but comparisons with addresses, of which one must hold.
    fn ranges(mut self) -> Result<Vec<IpRange>, String> {
        let mut ranges = Vec::new();
        loop {
            self.expect('[')?;
            while {
                self.comparison(&mut ranges)?;
                self.or(']')?
            } {}
            match self.next()? {
                None => return Ok(ranges),
                Some(Token::Word("OR")) => {}
                Some(token) => return Err(unexpected(&token)),
            }
        }
    }

    fn comparison(&mut self, ranges: &mut Vec<IpRange>) -> Result<(), String> {
        match self.next()? {
            Some(Token::Word("ipv4-addr:value" | "ipv6-addr:value")) => {}
            Some(Token::Word(path)) if path.contains(':') => {
                return Err(format!("{:?} is not an address: {SIMPLE}", shorten(path)));
            }
            token => return Err(unexpected_end(token.as_ref())),
        }
        match self.next()? {
            Some(Token::Sign('=') | Token::Word("ISSUBSET")) => ranges.push(self.range()?),
            Some(Token::Word("IN")) => {
                self.expect('(')?;
                loop {
                    ranges.push(self.range()?);
                    match self.next()? {
                        Some(Token::Sign(',')) => {}
                        Some(Token::Sign(')')) => break,
                        token => return Err(unexpected_end(token.as_ref())),
                    }
                }
            }
            token => return Err(unexpected_end(token.as_ref())),
        }
        Ok(())
    }

    fn range(&mut self) -> Result<IpRange, String> {
        match self.next()? {
            Some(Token::Text(text)) => {
                text.trim().parse().map_err(|error: edgefold_table::ParseRangeError| error.to_string())
            }
            token => Err(unexpected_end(token.as_ref())),
        }
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        match self.next()? {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            token => Err(unexpected_end(token.as_ref())),
        }
    }

    /// Whether an OR comes next, and not `end`.
    fn or(&mut self, end: char) -> Result<bool, String> {
        match self.next()? {
            Some(Token::Word("OR")) => Ok(true),
            Some(Token::Sign(sign)) if sign == end => Ok(false),
            token => Err(unexpected_end(token.as_ref())),
        }
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, String> {
        let text = self.0.trim_start();
        let Some(first) = text.chars().next() else {
            return Ok(None);
        };
        if first == '\'' {
            return self.text(&text[1..]).map(Some);
        }
        let is_of_word = |c: char| c.is_alphanumeric() || "-_:.".contains(c);
        let end = text.find(|c| !is_of_word(c)).unwrap_or(text.len());
        if end > 0 {
            self.0 = &text[end..];
            return Ok(Some(Token::Word(&text[..end])));
        }
        self.0 = &text[first.len_utf8()..];
        Ok(Some(Token::Sign(first)))
    }

    /// A text whose opening quote was read. A backslash escapes the character after it.
    fn text(&mut self, text: &'a str) -> Result<Token<'a>, String> {
        let mut unquoted = String::new();
        let mut characters = text.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '\'' => {
                    self.0 = &text[at + 1..];
                    return Ok(Token::Text(unquoted));
                }
                '\\' => unquoted.extend(characters.next().map(|(_, escaped)| escaped)),
                c => unquoted.push(c),
            }
        }
        Err("a quote is not closed".to_owned())
    }
}

fn unexpected(token: &Token<'_>) -> String {
    let text = match token {
        Token::Sign(sign) => sign.to_string(),
        Token::Word(word) => shorten(word),
        Token::Text(text) => shorten(text),
    };
    format!("{text:?} says more than addresses: {SIMPLE}")
}

fn unexpected_end(token: Option<&Token<'_>>) -> String {
    token.map_or_else(|| format!("the pattern is cut off: {SIMPLE}"), unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{read_all, wanted};

    const BUNDLE: &str = r#"{
  "type": "bundle",
  "id": "bundle--5f2c0b1e-6f2c-4f65-9a58-7f9b1c1e2a11",
  "objects": [
    {
      "type": "identity",
      "spec_version": "2.1",
      "id": "identity--a0c22599-9e58-4da4-96ac-7051603fa951",
      "name": "A feed",
      "identity_class": "organization"
    },
    {
      "type": "indicator",
      "spec_version": "2.1",
      "id": "indicator--20a39ad0-e8e1-4917-9fb8-40fecc4d0e7b",
      "created": "2026-10-25T16:22:00.000Z",
      "modified": "2026-10-25T16:22:00.000Z",
      "name": "Botnet",
      "indicator_types": ["malicious-activity", "compromised"],
      "pattern": "[ipv4-addr:value = '192.0.2.0/24']",
      "pattern_type": "stix",
      "pattern_version": "2.1",
      "valid_from": "2026-10-25T16:22:00Z",
      "valid_until": "2026-12-01T00:00:00Z",
      "labels": ["c2"]
    },
    {
      "type": "indicator",
      "id": "indicator--7ecc4537-89cd-4f17-8027-6e0f70710c53",
      "pattern": "[ipv4-addr:value = '198.51.100.1' OR ipv6-addr:value ISSUBSET '2001:db8::/32'] OR [ipv4-addr:value='203.0.113.9']",
      "pattern_type": "stix",
      "labels": ["anonymization"],
      "valid_from": "2026-10-25T16:22:00Z"
    },
    {"type": "indicator", "id": "indicator--1", "pattern": "[ipv4-addr:value = '192.0.2.99']", "pattern_type": "stix", "revoked": true},
    {"type": "ipv4-addr", "id": "ipv4-addr--1", "value": "203.0.113.200"},
    {"type": "x-custom", "value": {"a": 1}}
  ]
}"#;

    fn ranges(pattern: &str) -> Result<Vec<String>, String> {
        Pattern(pattern).ranges().map(|ranges| ranges.into_iter().map(IpRange::shortest_text).collect())
    }

    #[test]
    fn the_addresses_of_indicators_are_read_with_their_ends() {
        let all = ["192.0.2.0/24 until 2026-12-01T00:00:00Z", "198.51.100.1", "2001:db8::/32", "203.0.113.9"];
        assert_eq!(read_all(Format::Stix, BUNDLE, &Wanted::default()), Ok(all.map(Into::into).into()));
        assert_eq!(Format::detect(BUNDLE.as_bytes()), Some(Format::Stix));
    }

    #[test]
    fn indicators_are_chosen_by_name_type_and_label() {
        for (name, value) in [("name", "botnet"), ("indicator_types", "compromised"), ("labels", "C2")] {
            let read = read_all(Format::Stix, BUNDLE, &wanted(name, value));
            assert_eq!(read, Ok(vec!["192.0.2.0/24 until 2026-12-01T00:00:00Z".into()]), "{name}");
        }
        let read = read_all(Format::Stix, BUNDLE, &wanted("labels", "anonymization"));
        assert_eq!(read.map(|read| read.len()), Ok(3));
        assert_eq!(read_all(Format::Stix, BUNDLE, &wanted("labels", "none")), Ok(vec![]));
    }

    #[test]
    fn observables_are_read_from_a_bundle_without_indicators() {
        let bundle = r#"{"type": "bundle", "id": "bundle--1", "objects": [
            {"type": "ipv4-addr", "id": "ipv4-addr--1", "value": "203.0.113.0/24"},
            {"type": "ipv6-addr", "id": "ipv6-addr--1", "value": "2001:db8::7"},
            {"type": "ipv6-addr", "id": "ipv6-addr--2", "value": 7},
            {"type": "domain-name", "id": "domain-name--1", "value": "example.com"}]}"#;
        let read = read_all(Format::Stix, bundle, &Wanted::default()).unwrap();
        assert_eq!(read[..2], ["203.0.113.0/24", "2001:db8::7"]);
        assert_eq!(read[2..], ["bad objects[2].value: \"7\": an address or a CIDR block should be here"]);
    }

    #[test]
    fn of_several_versions_the_latest_is_read() {
        let version = |modified: &str, address: &str, more: &str| {
            format!(
                r#"{{"type": "indicator", "id": "indicator--1", "modified": "{modified}", "pattern": "[ipv4-addr:value = '{address}']"{more}}}"#
            )
        };
        let bundle = |objects: &[String]| {
            let bundle = format!(r#"{{"type": "bundle", "id": "bundle--1", "objects": [{}]}}"#, objects.join(","));
            read_all(Format::Stix, bundle, &Wanted::default()).unwrap()
        };
        let old = version("2026-10-25T16:22:00.000Z", "192.0.2.1", "");
        let new = version("2026-10-26T16:22:00.000+00:00", "192.0.2.2", "");
        let revoked = version("2026-10-26T16:22:00Z", "192.0.2.2", r#", "revoked": true"#);
        assert_eq!(bundle(&[old.clone(), new.clone()]), ["192.0.2.2"]);
        assert_eq!(bundle(&[new.clone(), old.clone()]), ["192.0.2.2"]);
        assert!(bundle(&[revoked.clone(), old.clone()]).is_empty() && bundle(&[new.clone(), revoked]).is_empty());
        let unknown = bundle(&[version("soon", "192.0.2.3", ""), new]);
        assert!(unknown.len() == 2 && unknown[0].starts_with("bad objects[0].modified: "), "{unknown:?}");
        assert_eq!(bundle(&[version("soon", "192.0.2.3", "")]), ["192.0.2.3"], "one version");
    }

    #[test]
    fn what_is_benign_or_not_valid_yet_is_left_out() {
        let bundle = r#"{"type": "bundle", "id": "bundle--1", "objects": [
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.1']", "indicator_types": ["benign"]},
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.2']", "labels": ["x", "Benign"]},
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.3']", "indicator_types": "benign"},
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.4']", "valid_from": "2026-11-26T12:00:00.001Z"},
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.5']", "valid_from": "2026-11-26T12:00:00Z"},
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.6']", "valid_from": "soon"}]}"#;
        let read = read_all(Format::Stix, bundle, &Wanted::default()).unwrap();
        assert!(
            read.len() == 2 && read[0] == "192.0.2.5" && read[1].starts_with("bad objects[5].valid_from: "),
            "{read:?}"
        );
        let read = read_all(Format::Stix, bundle, &wanted("indicator_types", "benign"));
        assert_eq!(read, Ok(vec!["192.0.2.1".into(), "192.0.2.3".into()]));
    }

    #[test]
    fn observables_beside_an_indicator_that_cannot_be_read_are_not_read() {
        for indicator in [
            r#"{"type": "indicator", "pattern": 7}"#,
            r#"{"type": "indicator", "type": 7}"#,
            r#"{"type": "indic\u0061tor", "revoked": 1}"#,
        ] {
            let bundle = format!(
                r#"{{"type": "bundle", "id": "bundle--1", "objects": [{{"type": "ipv4-addr", "value": "192.0.2.1"}}, {indicator}]}}"#
            );
            let read = read_all(Format::Stix, bundle, &Wanted::default()).unwrap();
            assert!(read.len() == 1 && read[0].starts_with("bad objects[1]: "), "{read:?}");
        }
    }

    #[test]
    fn a_pattern_may_be_written_in_several_ways() {
        for (pattern, expected) in [
            ("[ipv4-addr:value='192.0.2.1']", vec!["192.0.2.1"]),
            (" [ ipv4-addr:value  =  '192.0.2.1/32' ] ", vec!["192.0.2.1"]),
            ("[ipv4-addr:value IN ('192.0.2.1', '192.0.2.3')]", vec!["192.0.2.1", "192.0.2.3"]),
            (
                "[ipv6-addr:value = '2001:db8::'] OR [ipv6-addr:value = '2001:db8::\\2']",
                vec!["2001:db8::", "2001:db8::2"],
            ),
        ] {
            assert_eq!(ranges(pattern), Ok(expected.into_iter().map(Into::into).collect()), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_says_more_is_refused() {
        for (pattern, why) in [
            ("[ipv4-addr:value = '192.0.2.1' AND network-traffic:dst_port = 22]", "\"AND\" says more than addresses"),
            ("[ipv4-addr:value = '192.0.2.1'] AND [ipv4-addr:value = '192.0.2.2']", "\"AND\" says more"),
            ("[ipv4-addr:value = '192.0.2.1'] START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00Z'", "\"START\""),
            ("[ipv4-addr:value != '192.0.2.1']", "\"!\" says more"),
            ("[NOT ipv4-addr:value = '192.0.2.1']", "\"NOT\" says more"),
            ("[ipv4-addr:value NOT = '192.0.2.1']", "\"NOT\" says more"),
            ("[ipv4-addr:value ISSUPERSET '192.0.2.0/24']", "\"ISSUPERSET\" says more"),
            ("[ipv4-addr:value LIKE '192.0.2.%']", "\"LIKE\" says more"),
            ("[domain-name:value = 'example.com']", "\"domain-name:value\" is not an address: write [ipv4-addr:value"),
            ("[network-traffic:dst_ref.value = '192.0.2.1']", "\"network-traffic:dst_ref.value\" is not an address"),
            ("[file:hashes.'SHA-256' = 'ab']", "\"file:hashes.\" is not an address"),
            ("[ipv4-addr:value = '192.0.2.300']", "\"192.0.2.300\" is not an IP address"),
            ("[ipv4-addr:value = '192.0.2.1/24']", "has host bits set"),
            ("[ipv4-addr:value = 7]", "\"7\" says more"),
            ("[ipv4-addr:value = '192.0.2.1", "a quote is not closed"),
            ("[ipv4-addr:value = '192.0.2.1\\", "a quote is not closed"),
            ("[ipv4-addr:value = '192.0.2.1'", "the pattern is cut off"),
            ("[ipv4-addr:value IN ('192.0.2.1'", "the pattern is cut off"),
            ("[", "the pattern is cut off"),
            ("", "the pattern is cut off"),
            ("[é]", "\"é\" says more"),
            ("(((([ipv4-addr:value = '192.0.2.1'])", "\"(\" says more"),
        ] {
            let error = ranges(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }

    #[test]
    fn bad_indicators_are_said_with_their_paths_and_reading_goes_on() {
        let bundle = r#"{"type": "bundle", "id": "bundle--1", "objects": [
            {"type": "indicator", "pattern": "alert tcp any any", "pattern_type": "snort"},
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.1']", "valid_until": "soon"},
            {"type": "indicator"}, {"type": 7}, "x",
            {"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.1']", "labels": "x"}]}"#;
        let read = read_all(Format::Stix, bundle, &Wanted::default()).unwrap();
        let starts = [
            "bad objects[0].pattern: \"alert tcp any any\": this is a pattern of \"snort\", and only those of stix",
            "bad objects[1].valid_until: \"soon\": \"soon\" is not a time",
            "bad objects[2].pattern: \"\": the pattern is cut off",
            "bad objects[3]: ",
            "bad objects[4]: \"\\\"x\\\"\": invalid type: string \"x\", expected an object with a type",
            "192.0.2.1",
        ];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
    }

    #[test]
    fn a_bundle_that_is_cut_off_is_refused() {
        let error = read_all(Format::Stix, &BUNDLE[..BUNDLE.len() - 2], &Wanted::default()).unwrap_err();
        assert!(error.contains("this is not a STIX bundle: EOF while parsing"), "{error}");
    }
}
