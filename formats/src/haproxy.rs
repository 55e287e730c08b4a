//! What HAProxy reads: maps for `map_ip` (`192.0.2.0/24 value`), and files for `acl ... -f` (one address or network each).
//!
//! HAProxy ignores the host bits of a network, and so does this: `192.0.2.7/24` is `192.0.2.0/24`.
//!
//! HAProxy also looks up IPv6 addresses of `::/96` and `2002::/16` (6to4) as the IPv4 addresses in them (`v6tov4`), so it refuses those of
//! a listed IPv4 address.

use std::cell::Cell;
use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::shorten;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, at_most, each_line, head_entries};
use crate::nested::{Nested, Says, Valid};
use crate::{EachEntry, Format, ReadOptions, address};

pub(crate) const HAPROXY_MAP: About = About {
    name: "haproxy-map",
    describe: "a map of HAProxy for map_ip",
    read: Some(read_map),
    write: Some(|blocks, _, out| write(blocks, " 1", out)),
    fields: &["value"],
    looks_like,
    ..About::BASE
};

pub(crate) const HAPROXY_ACL: About = About {
    name: "haproxy-acl",
    describe: "a file of addresses and networks for an acl of HAProxy",
    read: Some(read_acl),
    write: Some(|blocks, _, out| write(blocks, "", out)),
    ..About::BASE
};

/// The most bytes of a map, whose entries are all in memory: about three million of them.
const MAX_MAP_BYTES: u64 = 64 << 20;

/// Whether the first lines are addresses with the same value. Nothing else says what the file is. Files of hosts, which have the addresses
/// of this machine and names, are not maps.
fn looks_like(head: &[u8]) -> bool {
    let is_entry = |key: &str, value: &str| {
        address::masked_range(key).is_ok()
            && !matches!(key, "0.0.0.0" | "127.0.0.1" | "::" | "::1")
            && !value.starts_with(['#', ';', '-'])
            && !value.ends_with([';', ','])
            && !is_off(value)
            && !is_rest_of_range(key, value)
    };
    let mut lines = head_entries(head).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).peekable();
    let first = lines.peek().and_then(|words| words.get(1)).copied();
    first.is_some()
        && lines.all(|words| match words[..] {
            [key, value] => Some(value) == first && is_entry(key, value),
            _ => false,
        })
}

/// Reads the entries of a map that has one value, or those with a value that is wanted. The entry with the longest prefix is valid for an
/// address, as in HAProxy, so that an entry with another value inside one that is listed cuts a hole in it: all entries are in memory.
///
/// The values `0` and none at all are not listed. A map with several other values says something else of each, so one must be chosen.
fn read_map(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let asks = !options.wanted.is_empty();
    let mut nested = Nested::new(Valid::First);
    let goes_on = Cell::new(true);
    let each: &mut EachEntry<'_> = &mut |entry| {
        goes_on.set(goes_on.get() && each(entry));
        goes_on.get()
    };
    // The value of the entries that are listed, if none was chosen, and another one.
    let (mut listed, mut other) = (None, None);
    at_most(input, MAX_MAP_BYTES, |input| {
        read_lines(input, LastLine::MustEnd, each, &mut |number, line, each| {
            let (key, value) = line.split_once([' ', '\t']).map_or((line, ""), |(key, value)| (key, value.trim()));
            let range = match address::masked_range(key) {
                Ok(_) if !asks && is_rest_of_range(key, value) => Err(format!(
                    "{:?} may be a prefix length, a netmask or the last address, and HAProxy reads one address with this value: \
                     write one range, or choose entries by their value",
                    shorten(value)
                )),
                range => range,
            };
            let is_listed = if asks {
                options.wanted.matches(|_, wanted| wanted.eq_ignore_ascii_case(value))
            } else {
                !is_off(value)
            };
            if is_listed && !asks && *listed.get_or_insert_with(|| value.to_owned()) != value {
                other = Some(value.to_owned());
                return false;
            }
            match range {
                Ok(range) => {
                    nested.add(range, if is_listed { Says::Listed } else { Says::Unlisted }, number);
                    true
                }
                Err(why) => each(Err(BadEntry::in_line(number, line, why))),
            }
        })
    })?;
    if let (Some(one), Some(other)) = (listed, other) {
        let (one, other) = (shorten(&one), shorten(&other));
        let why = format!(
            "its entries have several values, such as {one:?} and {other:?}, which may mean different things: choose entries by their \
             value, as in value={one:?}"
        );
        return Err(ReadError::NotThisFormat { format: Format::HaproxyMap, why });
    }
    if goes_on.get() {
        nested.finish(each);
    }
    Ok(())
}

/// Whether a value says that an address is not listed.
fn is_off(value: &str) -> bool {
    matches!(value, "" | "0")
}

/// Whether a value can be read as a part of the range that `key` begins: a prefix length (but not 1, the usual value of lists), a netmask
/// or an address.
fn is_rest_of_range(key: &str, value: &str) -> bool {
    let is_length = value.parse::<u8>().is_ok_and(|length| (2..=128).contains(&length));
    let first = value.split_ascii_whitespace().next().unwrap_or_default();
    (is_length && !key.contains(['/', '-'])) || first == "-" || address::masked_range(first).is_ok()
}

fn read_acl(input: &mut dyn BufRead, _: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    read_lines(input, LastLine::MayBeOpen, each, &mut |number, line, each| each(block(number, line, line)))
}

fn block(number: u64, line: &str, range: &str) -> Result<Block, BadEntry> {
    match address::masked_range(range) {
        Ok(range) => Ok(Block { range, until: Until::FOREVER }),
        Err(why) => Err(BadEntry::in_line(number, line, why)),
    }
}

/// A line that is not a comment. Comments are lines of their own in HAProxy.
type EachLine<'a> = dyn FnMut(u64, &str, &mut EachEntry<'_>) -> bool + 'a;

fn read_lines(
    input: &mut dyn BufRead,
    last: LastLine,
    each: &mut EachEntry<'_>,
    each_entry: &mut EachLine<'_>,
) -> Result<(), ReadError> {
    each_line(input, last, |number, line| match line {
        Ok(line) if line.is_empty() || line.starts_with('#') => true,
        Ok(line) => each_entry(number, line, each),
        Err(bad) => each(Err(bad)),
    })
}

fn write(blocks: &mut dyn Iterator<Item = Block>, value: &str, out: &mut dyn Write) -> io::Result<()> {
    for block in blocks {
        address::cidrs(block.range).try_for_each(|cidr| writeln!(out, "{cidr}{value}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::Format;
    use crate::testing::{assert_entries, entries, entries_with};

    const MAP: &str = "# a map\n192.0.2.0/24 block\n192.0.2.7 allow\n  10.0.0.0/255.255.0.0\tblock for a day\n2001:db8::/32 block\n\n198.51.100.9/24\n";

    #[test]
    fn a_map_with_several_values_is_read_only_by_value() {
        let error = entries_with(Format::HaproxyMap, MAP, &[]).unwrap_err().to_string();
        assert!(
            error.contains("several values, such as \"block\" and \"allow\"") && error.contains("value=\"block\""),
            "{error}"
        );
    }

    #[test]
    fn what_is_off_is_an_exception_of_what_is_on() {
        let file = "192.0.2.0/24 1\n192.0.2.7 0\n192.0.2.8\n2001:db8::/32 1\n198.51.100.9/24\t1\n";
        assert_entries(
            &entries(Format::HaproxyMap, file),
            &["192.0.2.0-192.0.2.6", "192.0.2.9-192.0.2.255", "198.51.100.0/24", "2001:db8::/32"],
        );
    }

    #[test]
    fn a_value_that_may_be_the_rest_of_a_range_is_bad() {
        let file = "10.0.0.0 8\n10.0.0.0 255.0.0.0\n10.0.0.1 10.0.0.9\n10.0.0.1 - 10.0.0.9\n10.0.0.0/8 8\n";
        let bad = "may be a prefix length";
        let expected = [1, 2, 3, 4].map(|line| format!("line {line}: ... {bad}"));
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        // These have one value each.
        for (line, expected) in file.lines().zip(expected) {
            let found = entries(Format::HaproxyMap, format!("{line}\n"));
            assert_entries(&found, &[&expected.replace(|c: char| c.is_ascii_digit(), "1")]);
        }
        assert_entries(&entries(Format::HaproxyMap, "10.0.0.0/8 8\n"), &["10.0.0.0/8"]);
        assert_entries(&entries_with(Format::HaproxyMap, "10.0.0.0 8\n", &[("value", "8")]).unwrap(), &["10.0.0.0"]);
    }

    #[test]
    fn only_a_file_with_one_value_is_taken_for_a_map() {
        for (file, is_map) in [
            ("192.0.2.0/24 1\n192.0.2.7 1\n", true),
            ("192.0.2.0/24 block\n# x\n192.0.2.7 block\n", true),
            ("192.0.2.0/24 block\n192.0.2.7 allow\n", false),
            ("192.0.2.1 a\n192.0.2.2 a\n192.0.2.3 a\n192.0.2.4 b\n", false),
            ("192.0.2.0/24 0\n192.0.2.7 0\n", false),
            ("10.0.0.0 8\n11.0.0.0 8\n", false),
        ] {
            assert_eq!(Format::detect(file.as_bytes()) == Some(Format::HaproxyMap), is_map, "{file}");
        }
    }

    #[test]
    fn of_chosen_values_the_longest_prefix_decides() {
        let found = entries_with(Format::HaproxyMap, MAP, &[("value", "block")]).unwrap();
        assert_entries(&found, &["192.0.2.0-192.0.2.6", "192.0.2.8-192.0.2.255", "2001:db8::/32"]);
        let file = "192.0.2.0/24 a\n192.0.2.0/24 b\nhost a\n";
        let expected = ["line 3: \"host a\": ... not an IP address", "192.0.2.0/24"];
        assert_entries(&entries_with(Format::HaproxyMap, file, &[("value", "a")]).unwrap(), &expected);
        assert_entries(&entries_with(Format::HaproxyMap, file, &[("value", "b")]).unwrap(), &expected[..1]);
    }

    #[test]
    fn an_acl_has_one_address_a_line() {
        let file = "# an acl\n192.0.2.0/24\n198.51.100.7\n2001:db8::/32\n10.0.0.0/255.0.0.0\n192.0.2.1 x\n10.1/16\nlocalhost\n";
        assert_entries(
            &entries(Format::HaproxyAcl, file),
            &[
                "192.0.2.0/24",
                "198.51.100.7",
                "2001:db8::/32",
                "10.0.0.0/8",
                "line 6: \"192.0.2.1 x\"",
                "line 7: ... 2 octets",
                "line 8: ... not an IP address",
            ],
        );
    }
}
