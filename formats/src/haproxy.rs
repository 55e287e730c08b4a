//! What HAProxy reads: maps for `map_ip` (`192.0.2.0/24 value`), and files for `acl ... -f` (one address or network each).
//!
//! HAProxy ignores the host bits of a network, and so does this: `192.0.2.7/24` is `192.0.2.0/24`.
//!
//! HAProxy also looks up IPv6 addresses of `::/96` and `2002::/16` (6to4) as the IPv4 addresses in them (`v6tov4`), so it refuses those of
//! a listed IPv4 address.

use std::io::{self, BufRead, Read, Write};

use edgefold::{Block, Until};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{each_line, head_lines};
use crate::nested::{Nested, Says, Valid};
use crate::{EachEntry, ReadOptions, address};

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

/// The most bytes of a map whose entries are chosen by their value, and are all in memory for that: about three million of them.
const MAX_MAP_BYTES: u64 = 64 << 20;

/// Whether the first lines are an address and a value. Nothing else says what the file is. Files of hosts, which have the addresses of
/// this machine and names, are not maps.
fn looks_like(head: &[u8]) -> bool {
    let mut lines = head_lines(head).filter(|line| !line.is_empty() && !line.starts_with('#')).take(3).peekable();
    lines.peek().is_some()
        && lines.all(|line| match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [key, value] => {
                address::masked_range(key).is_ok()
                    && !matches!(key, "0.0.0.0" | "127.0.0.1" | "::" | "::1")
                    && !value.starts_with(['#', ';', '-'])
                    && !value.ends_with([';', ','])
                    && address::masked_range(value).is_err()
            }
            _ => false,
        })
}

/// Reads all entries, whatever their values are, unless some values are wanted. Then the longest prefix decides which one an address has,
/// as in HAProxy.
fn read_map(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    if options.wanted.is_empty() {
        return read_lines(input, each, &mut |number, line, each| {
            let key = line.split_ascii_whitespace().next().unwrap_or_default();
            each(block(number, line, key))
        });
    }
    let mut nested = Nested::new(Valid::First);
    let mut limited = io::BufReader::new(Read::take(input, MAX_MAP_BYTES + 1));
    let mut goes_on = true;
    read_lines(&mut limited, each, &mut |number, line, each| {
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let is_wanted = options.wanted.matches(|_, wanted| wanted.eq_ignore_ascii_case(value.trim()));
        match address::masked_range(key) {
            Ok(range) => nested.add(range, if is_wanted { Says::Listed } else { Says::Unlisted }, number),
            Err(why) => goes_on = each(Err(BadEntry::in_line(number, line, why))),
        }
        goes_on
    })?;
    if limited.into_inner().limit() == 0 {
        return Err(ReadError::TooLarge { most: MAX_MAP_BYTES });
    }
    if goes_on {
        nested.finish(each);
    }
    Ok(())
}

fn read_acl(input: &mut dyn BufRead, _: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    read_lines(input, each, &mut |number, line, each| each(block(number, line, line)))
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
    each: &mut EachEntry<'_>,
    each_entry: &mut EachLine<'_>,
) -> Result<(), ReadError> {
    each_line(input, |number, line| match line {
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
    fn all_entries_of_a_map_are_read() {
        let expected = ["192.0.2.0/24", "192.0.2.7", "10.0.0.0/16", "2001:db8::/32", "198.51.100.0/24"];
        assert_entries(&entries(Format::HaproxyMap, MAP), &expected);
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
