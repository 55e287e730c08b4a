//! Sets of nftables as JSON (libnftables-json(5)): what `nft -j list set` and `nft -j list ruleset` print, and `nft -j -f` loads.
//!
//! What is read is the same as in the text: see the file beside this one.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use edgefold::{Block, LogTime, Until};
use edgefold_table::{IpRange, shorten};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::about::About;
use crate::elements::{each_element, each_inner, without_position};
use crate::error::{BadEntry, Place, ReadError};
use crate::nftables::{self, Kind, NOT_OF_ADDRESSES, TABLE, set_name, until, why_not};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, ends};

pub(crate) const ABOUT: About = About {
    name: "nftables-json",
    describe: "sets of nftables as JSON",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    fields: &["list", "table"],
    looks_like,
    ..About::BASE
};

/// The most bytes of an element, whose values are in memory at once.
const MAX_ELEMENT_BYTES: usize = 64 << 10;

fn looks_like(head: &[u8]) -> bool {
    let inner = head.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    inner.is_some_and(|inner| inner.starts_with(b"\"nftables\""))
}

/// An object, or a command about some.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    set: Option<Set<'a>>,
    #[serde(borrow)]
    map: Option<Set<'a>>,
    #[serde(borrow)]
    element: Option<Set<'a>>,
    #[serde(borrow)]
    add: Option<&'a RawValue>,
    #[serde(borrow)]
    create: Option<&'a RawValue>,
    #[serde(borrow)]
    delete: Option<&'a RawValue>,
    #[serde(borrow)]
    destroy: Option<&'a RawValue>,
    #[serde(borrow)]
    flush: Option<&'a RawValue>,
}

/// What a command empties or takes away.
#[derive(Deserialize)]
struct Removed<'a> {
    #[serde(borrow)]
    set: Option<Set<'a>>,
    #[serde(borrow)]
    map: Option<Set<'a>>,
    #[serde(borrow)]
    element: Option<Set<'a>>,
    #[serde(borrow)]
    table: Option<Set<'a>>,
    #[serde(default, deserialize_with = "is_there")]
    ruleset: bool,
}

/// Even null is there.
fn is_there<'de, D: Deserializer<'de>>(json: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(json).map(|_| true)
}

/// A set, or elements that are added to one.
#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    table: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    timeout: Option<u64>,
    #[serde(borrow)]
    elem: Option<&'a RawValue>,
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut reader = Reader { options, each, read: HashSet::new(), read_tables: HashSet::new() };
    each_element(input, Format::NftablesJson, &["nftables"], &mut |spot, text| match spot.parse(text) {
        Ok(item) => reader.item(item, &spot.path("")),
        Err(bad) => (reader.each)(Err(bad)),
    })
}

struct Reader<'a, 'e> {
    options: &'a ReadOptions,
    each: &'a mut EachEntry<'e>,
    /// The tables and names of the sets whose elements were read.
    read: HashSet<(String, String)>,
    read_tables: HashSet<String>,
}

impl Reader<'_, '_> {
    /// Returns whether to read on.
    fn item(&mut self, item: Item<'_>, path: &str) -> bool {
        for (command, inner) in [("add", item.add), ("create", item.create)] {
            let Some(inner) = inner else { continue };
            let path = format!("{path}.{command}");
            let goes_on = match serde_json::from_str::<Item<'_>>(inner.get()) {
                Ok(Item { set, map, element, .. }) => self.sets(set, map, element, &path),
                Err(error) => (self.each)(Err(bad(path, inner.get(), without_position(&error)))),
            };
            if !goes_on {
                return false;
            }
        }
        for (command, inner) in [("delete", item.delete), ("destroy", item.destroy), ("flush", item.flush)] {
            let Some(inner) = inner else { continue };
            let why = match serde_json::from_str::<Removed<'_>>(inner.get()) {
                Ok(removed) => self.why_not_removed(&removed).map(str::to_owned),
                Err(error) => Some(without_position(&error)),
            };
            if let Some(why) = why
                && !(self.each)(Err(bad(format!("{path}.{command}"), inner.get(), why)))
            {
                return false;
            }
        }
        self.sets(item.set, item.map, item.element, path)
    }

    /// Why something must not be taken away: elements were read, or it is elements.
    fn why_not_removed(&self, removed: &Removed<'_>) -> Option<&'static str> {
        let has_read = |set: &Set<'_>| self.read.contains(&(shorten(&set.table), shorten(&set.name)));
        let sets = [&removed.set, &removed.map].into_iter().flatten();
        let of_table = removed.table.as_ref().is_some_and(|table| self.read_tables.contains(&shorten(&table.name)));
        if removed.element.as_ref().is_some_and(|set| self.is_wanted(set)) {
            Some("it takes elements out of a set: leave out the elements instead")
        } else if of_table || sets.into_iter().any(has_read) || (removed.ruleset && !self.read.is_empty()) {
            Some("it takes elements out of a set that were read before: write it before them")
        } else {
            None
        }
    }

    fn is_wanted(&self, set: &Set<'_>) -> bool {
        self.options.wanted.matches(|name, value| match name {
            "list" => nftables::is_of_list(&set.name, &set.table, value),
            _ => value == set.table,
        })
    }

    fn sets(&mut self, set: Option<Set<'_>>, map: Option<Set<'_>>, element: Option<Set<'_>>, path: &str) -> bool {
        [("set", set), ("map", map), ("element", element)].into_iter().all(|(key, set)| {
            let path = format!("{path}.{key}.elem");
            set.is_none_or(|set| self.set(&set, key == "map", &path))
        })
    }

    fn set(&mut self, set: &Set<'_>, is_map: bool, path: &str) -> bool {
        let kind = set.kind.map_or(Kind::default(), kind);
        let Some(elements) = set.elem.filter(|_| self.is_wanted(set)) else { return true };
        let now = self.options.now;
        let of_set = set.timeout.filter(|timeout| *timeout > 0);
        let of_set = of_set.map(|seconds| ends::after(now, Duration::from_secs(seconds)));
        let mut is_read = false;
        let goes_on = each_inner(elements.get(), path, &mut |spot, text| {
            let block = match block(text, of_set, now) {
                // What is not an address is not expected to be one.
                Err(_) if kind == Kind::NoAddresses && !is_map => return true,
                Ok(_) if kind == Kind::NoAddresses && !is_map => Err(NOT_OF_ADDRESSES.to_owned()),
                block => why_not(kind, is_map).map_or(block, |why| Err(why.to_owned())),
            };
            is_read |= block.is_ok();
            (self.each)(block.map_err(|why| spot.bad("", text, why)))
        });
        if is_read {
            self.read_tables.insert(shorten(&set.table));
            self.read.insert((shorten(&set.table), shorten(&set.name)));
        }
        goes_on.unwrap_or_else(|error| (self.each)(Err(bad(path.to_owned(), elements.get(), without_position(&error)))))
    }
}

fn bad(path: String, text: &str, why: String) -> BadEntry {
    BadEntry { place: Place::Path(path), text: shorten(text), why }
}

/// That of a type, which is a name, several of them, or an expression.
fn kind(raw: &RawValue) -> Kind {
    match serde_json::from_str(raw.get()) {
        Ok(Value::String(name)) => Kind::of(name.split(" . ")),
        Ok(Value::Array(names)) => Kind::of(names.iter().filter_map(Value::as_str)),
        Ok(expression) => {
            let expression = expression.get("typeof").unwrap_or(&Value::Null);
            let field = ["payload", "ct", "rt"].iter().find_map(|kind| expression.get(kind));
            let text = |name: &str| field.and_then(|field| field.get(name)?.as_str()).unwrap_or_default();
            let is_address = |name: &str| ["saddr", "daddr", "nexthop"].iter().any(|part| name.ends_with(part));
            match () {
                () if expression.get("concat").is_some() => Kind::Concatenated,
                () if text("protocol") == "ether" => Kind::NoAddresses,
                () if is_address(text("field")) || is_address(text("key")) => Kind::Addresses,
                () => Kind::NoAddresses,
            }
        }
        Err(_) => Kind::NoAddresses,
    }
}

fn block(text: &str, of_set: Option<Until>, now: LogTime) -> Result<Block, String> {
    if text.len() > MAX_ELEMENT_BYTES {
        return Err("it is too long".to_owned());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| without_position(&error))?;
    let Some(element) = value.get("elem") else {
        return Ok(Block { range: range(&value)?, until: until(None, None, of_set) });
    };
    let seconds = |name: &str| match element.get(name) {
        None => Ok(None),
        Some(seconds) => seconds.as_u64().map(Some).ok_or_else(|| format!("its {name} is not a number of seconds")),
    };
    let after = |seconds: u64| ends::after(now, Duration::from_secs(seconds));
    // Only a timeout of 0 is none.
    let timeout = seconds("timeout")?.map(|seconds| if seconds == 0 { Until::FOREVER } else { after(seconds) });
    let range = range(element.get("val").unwrap_or(&Value::Null))?;
    Ok(Block { range, until: until(timeout, seconds("expires")?.map(after), of_set) })
}

fn range(value: &Value) -> Result<IpRange, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(object) => match (object.get("prefix"), object.get("range").and_then(Value::as_array)) {
            (Some(prefix), _) => {
                let address = prefix.get("addr").and_then(Value::as_str).unwrap_or_default();
                let length = prefix.get("len").and_then(Value::as_u64);
                format!("{address}/{}", length.map(|length| length.to_string()).unwrap_or_default())
            }
            (None, Some(ends)) => {
                let ends: Vec<_> = ends.iter().map(|end| end.as_str().unwrap_or_default()).collect();
                ends.join("-")
            }
            _ => String::new(),
        },
        _ => String::new(),
    };
    if text.is_empty() {
        return Err("it is not a plain address: write a string, {\"prefix\": {...}} or {\"range\": [...]}".to_owned());
    }
    text.parse().map_err(|error: edgefold_table::ParseRangeError| error.to_string())
}

/// As the text: see [`nftables`].
fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let sets = [4, 6].map(|family| set_name(&options.name, family));
    writeln!(out, "{{\"nftables\": [")?;
    write!(out, "{}", json!({"add": {"table": {"family": "inet", "name": TABLE}}}))?;
    for (name, kind) in sets.iter().zip(["ipv4_addr", "ipv6_addr"]) {
        let flags = ["interval", "timeout"];
        let set = json!({"family": "inet", "table": TABLE, "name": name, "type": kind, "flags": flags});
        write!(out, ",\n{}", json!({"add": {"set": set}}))?;
    }
    for name in &sets {
        write!(out, ",\n{}", json!({"flush": {"set": {"family": "inet", "table": TABLE, "name": name}}}))?;
    }
    let mut open: Option<&String> = None;
    for Block { range, until } in blocks {
        let [v4, v6] = &sets;
        let set = if matches!(range, IpRange::V4(_)) { v4 } else { v6 };
        let separator = if open == Some(set) {
            ",\n"
        } else {
            if open.is_some() {
                write!(out, "\n]}}}}}}")?;
            }
            // Not a value, because its elements are written one by one.
            write!(
                out,
                ",\n{{\"add\": {{\"element\": {{\"family\": \"inet\", \"table\": \"{TABLE}\", \"name\": \"{set}\", \"elem\": [\n"
            )?;
            open = Some(set);
            ""
        };
        let value = match range.cidr() {
            Some(cidr) if range.first() != range.last() => {
                json!({"prefix": {"addr": cidr.network().to_string(), "len": cidr.prefix_len()}})
            }
            Some(_) => json!(range.first().to_string()),
            None => json!({"range": [range.first().to_string(), range.last().to_string()]}),
        };
        let element = match ends::seconds_left(options.now, until, nftables::MAX_TIMEOUT) {
            Some(seconds) => json!({"elem": {"val": value, "timeout": seconds}}),
            None => value,
        };
        write!(out, "{separator}{element}")?;
    }
    if open.is_some() {
        write!(out, "\n]}}}}}}")?;
    }
    writeln!(out, "\n]}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_entries, entries, entries_with, in_seconds};

    /// What `nft -j list ruleset` of version 1.0.6 prints, with line breaks.
    const LISTED: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "filter", "handle": 5}},
        {"set": {"family": "inet", "name": "blocked", "table": "filter", "type": "ipv4_addr", "handle": 1, "flags": ["interval", "timeout"],
            "elem": ["192.0.2.1", {"prefix": {"addr": "198.51.100.0", "len": 24}}, {"range": ["203.0.113.5", "203.0.113.9"]},
            {"elem": {"val": "192.0.3.1", "timeout": 90, "expires": 89, "comment": "x"}},
            {"elem": {"val": {"prefix": {"addr": "192.0.4.0", "len": 24}}, "timeout": 60}}]}},
        {"set": {"family": "inet", "name": "blocked6", "table": "filter", "type": "ipv6_addr", "handle": 2, "elem": ["2001:db8::1"]}},
        {"set": {"family": "inet", "name": "ports", "table": "filter", "type": "inet_service", "handle": 3, "elem": [22]}},
        {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 4}},
        {"rule": {"family": "inet", "table": "filter", "expr": [{"match": {"right": {"set": ["10.0.0.1"]}}}]}}
    ]}"#;

    #[test]
    fn what_nft_lists_is_read() {
        assert_entries(
            &entries(Format::NftablesJson, LISTED),
            &[
                "192.0.2.1",
                "198.51.100.0/24",
                "203.0.113.5-203.0.113.9",
                &format!("192.0.3.1 until {}", in_seconds(89)),
                &format!("192.0.4.0/24 until {}", in_seconds(60)),
                "2001:db8::1",
            ],
        );
        let found = entries_with(Format::NftablesJson, LISTED, &[("list", "blocked6")]).unwrap();
        assert_entries(&found, &["2001:db8::1"]);
    }

    #[test]
    fn commands_are_read() {
        let file = r#"{"nftables": [{"flush": {"ruleset": null}},
            {"add": {"set": {"family": "ip", "table": "a", "name": "s", "type": "ipv4_addr", "timeout": 30, "elem": ["192.0.2.1"]}}},
            {"add": {"element": {"family": "ip", "table": "a", "name": "s", "elem": ["192.0.2.2"]}}}]}"#;
        let expected = [format!("192.0.2.1 until {}", in_seconds(30)), "192.0.2.2".to_owned()];
        assert_eq!(entries(Format::NftablesJson, file), expected);
    }

    #[test]
    fn what_takes_elements_out_again_is_bad() {
        let file = r#"{"nftables": [{"flush": {"ruleset": null}}, {"delete": {"table": {"family": "ip", "name": "a"}}},
            {"flush": {"set": {"family": "ip", "table": "a", "name": "s"}}},
            {"add": {"element": {"family": "ip", "table": "a", "name": "s", "elem": ["192.0.2.1"]}}},
            {"delete": {"element": {"family": "ip", "table": "a", "name": "s", "elem": ["192.0.2.1"]}}},
            {"destroy": {"element": {"family": "ip", "table": "a", "name": "s", "elem": ["192.0.2.1"]}}},
            {"flush": {"set": {"family": "ip", "table": "a", "name": "s"}}}, {"flush": {"set": {"family": "ip", "table": "a", "name": "t"}}},
            {"delete": {"set": {"family": "ip", "table": "a", "name": "s"}}}, {"delete": {"table": {"family": "ip", "name": "a"}}},
            {"flush": {"ruleset": null}}]}"#;
        let bad = "it takes elements out";
        let bad = ["[4].delete", "[5].destroy", "[6].flush", "[8].delete", "[9].delete", "[10].flush"]
            .map(|path| format!("nftables{path}: ... {bad}"));
        let mut expected = vec!["192.0.2.1"];
        expected.extend(bad.iter().map(String::as_str));
        assert_entries(&entries(Format::NftablesJson, file), &expected);
    }

    #[test]
    fn sets_of_expressions_are_read_and_times_are_numbers() {
        let file = r#"{"nftables": [
            {"set": {"name": "a", "table": "t", "type": {"typeof": {"payload": {"protocol": "ip", "field": "saddr"}}}, "elem": ["192.0.2.1"]}},
            {"set": {"name": "b", "table": "t", "type": {"typeof": {"ct": {"key": "ip saddr", "dir": "original"}}}, "elem": ["192.0.2.2"]}},
            {"set": {"name": "c", "table": "t", "type": {"typeof": {"payload": {"protocol": "tcp", "field": "dport"}}}, "elem": [22, "192.0.2.3"]}},
            {"set": {"name": "d", "table": "t", "type": "ipv4_addr", "elem": [{"elem": {"val": "192.0.2.4", "timeout": "1h"}},
                {"elem": {"val": "192.0.2.5", "timeout": 60, "expires": 0}}, {"elem": {"val": "192.0.2.6", "timeout": 0}}]}}]}"#;
        assert_entries(
            &entries(Format::NftablesJson, file),
            &[
                "192.0.2.1",
                "192.0.2.2",
                "nftables[2].set.elem[1]: ... its set is not known to be one of addresses",
                "nftables[3].set.elem[0]: ... its timeout is not a number of seconds",
                &format!("192.0.2.5 until {}", in_seconds(0)),
                "192.0.2.6",
            ],
        );
    }

    #[test]
    fn bad_elements_have_their_path() {
        let file = r#"{"nftables": [
            {"set": {"name": "a", "table": "t", "type": ["ipv4_addr", "inet_service"], "elem": [{"concat": ["192.0.2.1", 80]}]}},
            {"map": {"name": "m", "table": "t", "type": "ipv4_addr", "map": "verdict", "elem": [["192.0.2.1", {"drop": null}]]}},
            {"set": {"name": "b", "table": "t", "type": "ipv4_addr", "elem": ["host", 7, {"prefix": {"addr": "192.0.2.7", "len": 24}}, "192.0.2.1"]}},
            {"set": 7}, {"set": {"name": "c", "type": "ipv4_addr", "elem": "192.0.2.1"}}]}"#;
        assert_entries(
            &entries(Format::NftablesJson, file),
            &[
                "nftables[0].set.elem[0]: ... its set is of addresses with something else",
                "nftables[1].map.elem[0]: ... it is an element of a map",
                "nftables[2].set.elem[0]: ... not an IP address",
                "nftables[2].set.elem[1]: ... not a plain address",
                "nftables[2].set.elem[2]: ... host bits",
                "192.0.2.1",
                "nftables[3]: ... invalid type",
                "nftables[4].set.elem: ... expected an array",
            ],
        );
    }

    #[test]
    fn other_documents_are_refused() {
        let deep = format!("{{\"nftables\": {}", "[".repeat(1 << 20));
        for file in ["[]", "{}", "{\"nftables\": 1}", "{\"nftables\": [", "x", &deep] {
            let error = entries_with(Format::NftablesJson, file, &[]).unwrap_err().to_string();
            assert!(error.starts_with("this is not sets of nftables as JSON: "), "{error}");
        }
    }
}
