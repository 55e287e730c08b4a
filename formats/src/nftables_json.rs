//! Sets of nftables as JSON (libnftables-json(5)): what `nft -j list set` and `nft -j list ruleset` print, and `nft -j -f` loads.
//!
//! What is read is the same as in the text: see the file beside this one.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use edgefold::{Block, LogTime, Until};
use edgefold_table::{IpRange, shorten};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::about::About;
use crate::error::{BadEntry, Place, ReadError};
use crate::input::document;
use crate::nftables::{self, Kind, TABLE, set_name, until, why_not};
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

/// The document. What is in it is kept as text, and read piece by piece.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    nftables: &'a RawValue,
}

/// An object, or a command that adds some.
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
    let bytes = document(input)?;
    let not = |why: serde_json::Error| ReadError::NotThisFormat {
        format: Format::NftablesJson,
        why: format!("{why}: it begins with {{\"nftables\": ["),
    };
    let document: Document<'_> = serde_json::from_slice(&bytes).map_err(not)?;
    let items = each_of(document.nftables, &mut |number, item| {
        let path = format!("nftables[{number}]");
        match serde_json::from_str(item.get()) {
            Ok(item) => read_item(item, &path, options, each),
            Err(error) => each(Err(bad(path, item.get(), error.to_string()))),
        }
    });
    items.map_err(not)
}

/// Returns whether to read on.
fn read_item(item: Item<'_>, path: &str, options: &ReadOptions, each: &mut EachEntry<'_>) -> bool {
    for (command, inner) in [("add", item.add), ("create", item.create)] {
        let Some(inner) = inner else { continue };
        let path = format!("{path}.{command}");
        let goes_on = match serde_json::from_str::<Item<'_>>(inner.get()) {
            // There are no commands in commands.
            Ok(inner) => read_item(Item { add: None, create: None, ..inner }, &path, options, each),
            Err(error) => each(Err(bad(path, inner.get(), error.to_string()))),
        };
        if !goes_on {
            return false;
        }
    }
    [("set", item.set), ("map", item.map), ("element", item.element)].into_iter().all(|(key, set)| {
        let path = format!("{path}.{key}.elem");
        set.is_none_or(|set| read_set(&set, key == "map", &path, options, each))
    })
}

fn read_set(set: &Set<'_>, is_map: bool, path: &str, options: &ReadOptions, each: &mut EachEntry<'_>) -> bool {
    let is_wanted = options.wanted.matches(|name, value| match name {
        "list" => value.eq_ignore_ascii_case(&set.name),
        _ => value.eq_ignore_ascii_case(&set.table),
    });
    let kind = set.kind.map_or(Kind::default(), kind);
    let Some(elements) = set.elem.filter(|_| is_wanted && kind != Kind::NoAddresses) else { return true };
    let of_set = set.timeout.filter(|timeout| *timeout > 0);
    let of_set = of_set.map(|seconds| ends::after(options.now, Duration::from_secs(seconds)));
    let mut goes_on = true;
    let elements = each_of(elements, &mut |number, element| {
        let block = match why_not(kind, is_map) {
            Some(why) => Err(why.to_owned()),
            None => block(element.get(), of_set, options.now),
        };
        goes_on = each(block.map_err(|why| bad(format!("{path}[{number}]"), element.get(), why)));
        goes_on
    });
    match elements {
        Ok(()) => goes_on,
        Err(error) => each(Err(bad(path.to_owned(), "", error.to_string()))),
    }
}

fn bad(path: String, text: &str, why: String) -> BadEntry {
    BadEntry { place: Place::Path(path), text: shorten(text), why }
}

/// That of a type, which is a name, several of them, or an expression.
fn kind(raw: &RawValue) -> Kind {
    if let Ok(name) = serde_json::from_str::<Cow<'_, str>>(raw.get()) {
        return Kind::of(name.split(" . "));
    }
    let mut names = Vec::new();
    let all = each_of(raw, &mut |_, name| {
        names.extend(serde_json::from_str::<String>(name.get()).ok());
        names.len() < 8
    });
    // An expression says what the elements are in more ways than are known here: they are read if they are addresses.
    all.map_or(Kind::Addresses, |()| Kind::of(names.iter().map(String::as_str)))
}

fn block(text: &str, of_set: Option<Until>, now: LogTime) -> Result<Block, String> {
    if text.len() > MAX_ELEMENT_BYTES {
        return Err("it is too long".to_owned());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let after = |element: &Value, name: &str| -> Option<Until> {
        let seconds = element.get(name)?.as_u64()?;
        Some(if seconds == 0 && name == "timeout" {
            Until::FOREVER
        } else {
            ends::after(now, Duration::from_secs(seconds))
        })
    };
    match value.get("elem") {
        Some(element) => {
            let range = range(element.get("val").unwrap_or(&Value::Null))?;
            Ok(Block { range, until: until(after(element, "timeout"), after(element, "expires"), of_set) })
        }
        None => Ok(Block { range: range(&value)?, until: until(None, None, of_set) }),
    }
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

/// Passes on the elements of an array as text until it returns false.
fn each_of<'a>(
    array: &'a RawValue,
    each: &mut dyn FnMut(usize, &'a RawValue) -> bool,
) -> Result<(), serde_json::Error> {
    struct Each<'e, 'a>(&'e mut dyn FnMut(usize, &'a RawValue) -> bool);

    impl<'a> Visitor<'a> for Each<'_, 'a> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
            let mut number = 0;
            let mut goes_on = true;
            // The rest has to be passed over.
            while let Some(element) = elements.next_element::<&'a RawValue>()? {
                goes_on = goes_on && (self.0)(number, element);
                number += 1;
            }
            Ok(())
        }
    }

    serde_json::Deserializer::from_str(array.get()).deserialize_seq(Each(each))
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
        let found = entries_with(Format::NftablesJson, LISTED, &[("list", "Blocked6")]).unwrap();
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
