//! Envoy without edgefold: the RBAC HTTP filter, as an entry of `http_filters`, in JSON, which is YAML too. It denies what one IP matcher
//! of the matcher API contains, a trie, and not what a list of principals contains, through which Envoy would walk for each request.
//!
//! The address is that of `envoy.matching.inputs.source_ip`: the client's, after `X-Forwarded-For` as the listener trusts it. To Envoy,
//! the IPv4-mapped addresses that some proxies write there are IPv6 addresses, so each IPv4 block is followed by the same block of these.
//!
//! Only what edgefold writes is read: a filter that allows its ranges, looks at another address, or has rules besides is refused.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::parse_address;
use ipnet::IpNet;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::about::About;
use crate::elements::{Spot, each_inner, has_keys};
use crate::error::{BadEntry, ReadError, printable};
use crate::input::document;
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address};

pub(crate) const ABOUT: About = About {
    name: "envoy-rbac",
    describe: "Envoy's RBAC filter with an IP matcher, as edgefold writes it",
    read: Some(read),
    write: Some(write),
    looks_like,
    ..About::BASE
};

const ACTION: &str = "type.googleapis.com/envoy.config.rbac.v3.Action";
const IP: &str = "type.googleapis.com/envoy.extensions.matching.input_matchers.ip.v3.Ip";
const SOURCE_IP: &str = "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.SourceIPInput";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
/// The path of the ranges.
const RANGES: &str =
    "typed_config.matcher.matcher_list.matchers[0].predicate.single_predicate.custom_match.typed_config.cidr_ranges";
/// Where the ranges belong in what is written around them. They are not in memory.
const PLACE: &str = r#""cidr_ranges":[]"#;

#[derive(Deserialize, Serialize)]
#[serde(expecting = "an object with address_prefix and prefix_len")]
struct CidrRange {
    address_prefix: String,
    prefix_len: u8,
}

fn looks_like(head: &[u8]) -> bool {
    has_keys(head, &["name", "typed_config"]) && head.windows(RBAC.len()).any(|window| window == RBAC.as_bytes())
}

fn read(input: &mut dyn BufRead, _: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let not_this = |why: String| ReadError::NotThisFormat { format: Format::EnvoyRbac, why: printable(&why) };
    let bytes = document(input)?;
    let filter: Node<'_> = serde_json::from_slice(&bytes).map_err(|error| not_this(error.to_string()))?;
    let config = filter.typed_config.as_deref().unwrap_or(&filter);
    if config.kind.as_deref() != Some(RBAC) {
        return Err(not_this(format!("its typed_config should have the @type {RBAC}")));
    }
    // Without a matcher the filter lets everything pass.
    let Some(matcher) = &config.matcher else {
        return Ok(());
    };
    let ranges = matcher.ranges().map_err(not_this)?;
    let mut previous = None;
    let mut each = |spot: Spot<'_>, text: &str| {
        let block = block(spot, text);
        // That of IPv4-mapped addresses says the same as the one before it.
        let is_repeated = block.is_ok() && previous == block.as_ref().ok().copied();
        previous = block.as_ref().ok().copied();
        is_repeated || each(block)
    };
    each_inner(ranges, RANGES, &mut each).map(drop).map_err(|error| not_this(error.to_string()))
}

/// An object of the configuration, with what leads to the ranges. What else an object has would change what the filter does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of Envoy's configuration")]
struct Node<'a> {
    #[serde(rename = "@type")]
    kind: Option<String>,
    #[serde(borrow)]
    cidr_ranges: Option<&'a RawValue>,
    custom_match: Option<Box<Node<'a>>>,
    input: Option<Value>,
    matcher: Option<Box<Node<'a>>>,
    matcher_list: Option<Box<Node<'a>>>,
    matchers: Option<(Box<Node<'a>>,)>,
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    on_match: Option<Value>,
    on_no_match: Option<Value>,
    predicate: Option<Box<Node<'a>>>,
    single_predicate: Option<Box<Node<'a>>>,
    #[serde(rename = "stat_prefix")]
    _stat_prefix: Option<IgnoredAny>,
    typed_config: Option<Box<Node<'a>>>,
}

impl Node<'_> {
    /// The ranges that a matcher denies.
    fn ranges(&self) -> Result<&str, String> {
        let missing = || format!("it has no {RANGES}");
        let (matcher,) = self.matcher_list.as_ref().and_then(|list| list.matchers.as_ref()).ok_or_else(missing)?;
        let predicate = matcher.predicate.as_ref().and_then(|predicate| predicate.single_predicate.as_ref());
        let predicate = predicate.ok_or_else(missing)?;
        let ip = predicate.custom_match.as_ref().and_then(|custom| custom.typed_config.as_ref()).ok_or_else(missing)?;
        let ranges = ip.cidr_ranges.ok_or_else(missing)?;
        if ip.kind.as_deref() != Some(IP) {
            return Err(format!("its matcher should have the @type {IP}"));
        }
        let input = predicate.input.as_ref().and_then(|input| input.get("typed_config")?.get("@type")?.as_str());
        if input != Some(SOURCE_IP) {
            return Err(format!("its input should have the @type {SOURCE_IP}"));
        }
        if !is_action(matcher.on_match.as_ref(), "DENY") || !is_action(self.on_no_match.as_ref(), "ALLOW") {
            return Err("it should deny what matches and allow what does not: on_match with the action DENY, and on_no_match with \
                        the action ALLOW"
                .to_owned());
        }
        Ok(ranges.get())
    }
}

/// Whether what happens on a match is this action and no more.
fn is_action(on_match: Option<&Value>, action: &str) -> bool {
    let on_match = on_match.and_then(Value::as_object).filter(|on_match| on_match.len() == 1);
    let config = on_match.and_then(|on_match| on_match.get("action")?.get("typed_config"));
    config.is_some_and(|config| config["@type"] == ACTION && config["action"] == action)
}

fn block(spot: Spot<'_>, text: &str) -> Result<Block, BadEntry> {
    let CidrRange { address_prefix, prefix_len } = spot.parse(text)?;
    parse_address(&address_prefix).map_err(|error| spot.bad("address_prefix", &address_prefix, error))?;
    let cidr = format!("{address_prefix}/{prefix_len}");
    let range = cidr.parse().map_err(|error| spot.bad("", &cidr, error))?;
    Ok(Block { range, until: Until::FOREVER })
}

fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut cidrs = blocks.flat_map(|block| address::cidrs(block.range)).peekable();
    if cidrs.peek().is_none() {
        // A matcher without ranges is invalid, so the filter has none.
        return writeln!(out, "{}", filter(json!({ "@type": RBAC })));
    }
    let filter = filter(json!({ "@type": RBAC, "matcher": matcher(&options.name) })).to_string();
    let (before, after) = filter.split_once(PLACE).unwrap_or_default();
    write!(out, "{before}\"cidr_ranges\":[")?;
    let mut separator = "";
    for cidr in cidrs {
        for range in std::iter::once(cidr).chain(mapped(cidr)) {
            let range = CidrRange { address_prefix: range.network().to_string(), prefix_len: range.prefix_len() };
            write!(out, "{separator}\n  {}", serde_json::to_string(&range)?)?;
            separator = ",";
        }
    }
    writeln!(out, "\n]{after}")
}

/// The block of the IPv4-mapped addresses of an IPv4 block.
fn mapped(cidr: IpNet) -> Option<IpNet> {
    match cidr {
        IpNet::V4(cidr) => IpNet::new(cidr.network().to_ipv6_mapped().into(), 96 + cidr.prefix_len()).ok(),
        IpNet::V6(_) => None,
    }
}

fn filter(config: Value) -> Value {
    json!({ "name": "envoy.filters.http.rbac", "typed_config": config })
}

fn matcher(list: &str) -> Value {
    let action = |name: &str, action: &str| {
        let config = json!({ "@type": ACTION, "name": name, "action": action });
        json!({ "action": { "name": "action", "typed_config": config } })
    };
    let input = json!({
        "name": "envoy.matching.inputs.source_ip",
        "typed_config": { "@type": SOURCE_IP },
    });
    let ip = json!({
        "name": "envoy.matching.matchers.ip",
        "typed_config": {
            "@type": IP,
            "stat_prefix": list,
            "cidr_ranges": [],
        },
    });
    json!({
        "matcher_list": {
            "matchers": [{
                "predicate": { "single_predicate": { "input": input, "custom_match": ip } },
                "on_match": action(list, "DENY"),
            }],
        },
        "on_no_match": action("allow", "ALLOW"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wanted;
    use crate::testing::{blocks, read_all, round_trip, written};

    #[test]
    fn what_is_written_reads_back_without_ends() {
        let mixed = ["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "2001:db9::1"];
        assert_eq!(round_trip(Format::EnvoyRbac, &mixed), mixed);
        assert_eq!(round_trip(Format::EnvoyRbac, &["0.0.0.0/0", "::/0"]), ["0.0.0.0/0", "::/0"]);
        assert_eq!(round_trip(Format::EnvoyRbac, &["192.0.2.1-192.0.2.2"]), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(round_trip(Format::EnvoyRbac, &["192.0.2.1 until 2027-01-01T00:00:00Z"]), ["192.0.2.1"]);
        assert_eq!(round_trip(Format::EnvoyRbac, &[]), Vec::<String>::new());
    }

    #[test]
    fn the_ranges_are_in_one_matcher_of_one_filter() {
        let text = written(Format::EnvoyRbac, &blocks(&["192.0.2.0/24", "2001:db8::1"]));
        assert_eq!(Format::detect(text.as_bytes()), Some(Format::EnvoyRbac));
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["name"], "envoy.filters.http.rbac");
        let matcher = &json["typed_config"]["matcher"]["matcher_list"]["matchers"][0];
        let ip = &matcher["predicate"]["single_predicate"]["custom_match"]["typed_config"];
        let ranges = json!([
            { "address_prefix": "192.0.2.0", "prefix_len": 24 },
            { "address_prefix": "::ffff:192.0.2.0", "prefix_len": 120 },
            { "address_prefix": "2001:db8::1", "prefix_len": 128 },
        ]);
        assert_eq!((&ip["cidr_ranges"], &ip["stat_prefix"]), (&ranges, &json!("default")));
        assert_eq!(matcher["on_match"]["action"]["typed_config"]["action"], "DENY");
    }

    #[test]
    fn ipv4_mapped_addresses_are_refused_as_the_ipv4_addresses_are() {
        let text = written(Format::EnvoyRbac, &blocks(&["0.0.0.0/0", "::/0"]));
        let mapped: Vec<_> = text.lines().filter(|line| line.contains("::ffff:")).collect();
        assert_eq!(mapped[0], r#"  {"address_prefix":"::ffff:0.0.0.0","prefix_len":96},"#);
        let only_mapped = text.replacen(r#"{"address_prefix":"0.0.0.0","prefix_len":0},"#, "", 1);
        assert_eq!(read_all(Format::EnvoyRbac, only_mapped, &Wanted::default()).unwrap()[0], "0.0.0.0/0");
    }

    #[test]
    fn bad_ranges_are_said_with_their_paths() {
        let text = written(Format::EnvoyRbac, &blocks(&["192.0.2.0/24"]));
        let bad = r#"{"address_prefix":"192.0.2.0","prefix_len":33}, {"address_prefix":"x","prefix_len":1}, 7, {"address_prefix":"192.0.2.0","prefix_len":1e99},"#;
        let read =
            read_all(Format::EnvoyRbac, text.replacen("[\n", &format!("[{bad}"), 1), &Wanted::default()).unwrap();
        let starts = [
            "[0]: \"192.0.2.0/33\": prefix length \"33\" is not a number from 0 to 32",
            "[1].address_prefix: \"x\": \"x\" is not an IP address",
            "[2]: \"7\": invalid type: integer `7`, expected an object with address_prefix and prefix_len",
            "[3]: ",
        ];
        assert_eq!(read.len(), 5, "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(&format!("bad {RANGES}{start}")), "{read}");
        }
        assert_eq!(read[4], "192.0.2.0/24");
    }

    #[test]
    fn a_list_of_what_is_allowed_is_not_read_as_one_of_what_is_blocked() {
        let text = written(Format::EnvoyRbac, &blocks(&["192.0.2.0/24"]));
        let matches = "it should deny what matches and allow what does not";
        for (from, to, why) in [
            (r#""action":"DENY""#, r#""action":"ALLOW""#, matches),
            (r#""action":"DENY""#, r#""action":"LOG""#, matches),
            (r#""action":"ALLOW""#, r#""action":"DENY""#, matches),
            (r#""on_match":{"#, r#""on_match":{"keep_matching":true,"#, matches),
            ("SourceIPInput", "DestinationIPInput", "its input should have the @type"),
            ("input_matchers.ip.v3.Ip", "input_matchers.other", "its matcher should have the @type"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            let error = read_all(Format::EnvoyRbac, &other, &Wanted::default()).unwrap_err();
            assert!(error.contains(why), "{to}: {error}");
        }
        let start = text.find(r#""on_no_match""#).unwrap();
        let absent = format!("{}\"name\":7}}}}}}", &text[..start]);
        assert!(read_all(Format::EnvoyRbac, absent, &Wanted::default()).unwrap_err().contains(matches));
    }

    #[test]
    fn other_files_are_refused() {
        let deep = "{\"typed_config\":".repeat(100_000);
        let text = written(Format::EnvoyRbac, &blocks(&["192.0.2.0/24"]));
        for (file, why) in [
            ("{}", "its typed_config should have the @type"),
            ("7", "invalid type: integer `7`, expected an object of Envoy's configuration"),
            ("", "EOF while parsing"),
            (&text[..text.len() - 3], "EOF while parsing"),
            (&text.replace("matchers", "others"), "unknown field `others`"),
            (&text.replace("\"predicate\"", "\"_\""), "unknown field `_`"),
            (&text.replace("\"cidr_ranges\"", "\"stat_prefix\""), "duplicate field `stat_prefix`"),
            ("{\"\\u001b[2J\": 1}", "unknown field `\\u{1b}[2J`"),
            (
                r#"{"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC","rules":{}}}"#,
                "unknown field `rules`",
            ),
            (&deep, "recursion limit exceeded"),
        ] {
            let error = read_all(Format::EnvoyRbac, file, &Wanted::default()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
