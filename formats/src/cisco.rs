//! What Cisco's IOS, NX-OS and ASA have as lists of addresses: prefix lists, access lists and object groups.
//!
//! - A **prefix list** names what it permits, so its `permit` entries are read. It is a list of routes, and the addresses of an entry are
//!   those of its prefix, whatever `ge` and `le` say of longer ones.
//! - An **access list** names what it denies, so its `deny` entries are read, by their source. The destination must be `any`, and the
//!   protocol `ip` or `ipv6`.
//! - An **object group** of networks has no action.
//!
//! Both lists may have exceptions: entries with the other action, which are valid if they come first. A list of ranges has none, so they
//! are bad, except one for all addresses, as at the end of most lists. The field `action` chooses entries instead: `permit` or `deny`.

use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;

use edgefold::{Block, Until};
use edgefold_table::IpRange;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, each_line, head_lines};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address};

pub(crate) const ABOUT: About = About {
    name: "cisco",
    describe: "prefix lists, access lists or object groups of Cisco",
    read: Some(read),
    write: Some(write),
    fields: &["list", "action"],
    looks_like,
    ..About::BASE
};

const DEFAULT_ROUTE: &str = "this is the default route and not all addresses: write le 32 (or le 128) after it for all";

fn looks_like(head: &[u8]) -> bool {
    head_lines(head).any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        matches!(
            words[..],
            ["ip" | "ipv6", "prefix-list", _, "seq" | "permit" | "deny", ..]
                | ["access-list", _, "permit" | "deny" | "extended" | "standard" | "remark", ..]
                | ["ip", "access-list", "standard" | "extended", _]
                | ["object-group", "network", _]
        )
    })
}

/// What the lines after a line are part of.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Nothing,
    AccessList(String),
    ObjectGroup(String),
}

/// An entry.
struct Entry<'a> {
    list: &'a str,
    /// `None` in object groups.
    action: Option<&'a str>,
    /// The action of the entries that the list names.
    names: &'a str,
    range: Result<IpRange, String>,
    is_everything: bool,
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut part = Part::Nothing;
    let (mut has_lists, mut is_empty) = (false, true);
    each_line(input, LastLine::MustEnd, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        if line.is_empty() || line.starts_with('!') {
            return true;
        }
        is_empty = false;
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let begins = match words[..] {
            ["ip", "access-list", "standard" | "extended", name] | ["ip" | "ipv6", "access-list", name] => {
                Some(Part::AccessList(name.to_owned()))
            }
            ["object-group", "network", name] => Some(Part::ObjectGroup(name.to_owned())),
            ["object-group", ..] | ["exit" | "end"] => Some(Part::Nothing),
            _ => None,
        };
        if let Some(begins) = begins {
            has_lists |= begins != Part::Nothing;
            part = begins;
            return true;
        }
        if !goes_on(&part, &words) {
            part = Part::Nothing;
        }
        let Some(entry) = entry(&words, &part) else { return true };
        has_lists = true;
        let is_chosen = options.wanted.matches(|name, value| match name {
            "list" => value.eq_ignore_ascii_case(entry.list),
            _ => entry.action.is_some_and(|action| value.eq_ignore_ascii_case(action)),
        });
        if !is_chosen {
            return true;
        }
        let asks = options.wanted.names().any(|name| name == "action");
        let is_exception = !asks && entry.action.is_some_and(|action| action != entry.names);
        let range = match entry.range {
            _ if is_exception && entry.is_everything => return true,
            _ if is_exception => {
                let action = entry.action.unwrap_or_default();
                Err(format!(
                    "it is an exception from the entries with {}, which a list cannot have: remove it, or choose entries with action {action}",
                    entry.names
                ))
            }
            range => range,
        };
        let block = range.map(|range| Block { range, until: Until::FOREVER });
        each(block.map_err(|why| BadEntry::in_line(number, line, why)))
    })?;
    if !has_lists && !is_empty {
        let why = "it has no list, as in ip prefix-list NAME seq 5 permit 192.0.2.0/24 le 32".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::Cisco, why });
    }
    Ok(())
}

/// Whether a line is still of the part of the lines before it.
fn goes_on(part: &Part, words: &[&str]) -> bool {
    match (part, words) {
        (_, ["ip" | "ipv6", "prefix-list", ..] | ["access-list", ..]) => false,
        (Part::ObjectGroup(_), ["description" | "group-object" | "network-object" | "host" | "range", ..]) => true,
        (Part::ObjectGroup(_), [address] | [address, _]) => address.contains(['.', ':']),
        (Part::ObjectGroup(_), _) => false,
        (Part::AccessList(_) | Part::Nothing, _) => true,
    }
}

/// `None` for lines that are something else.
fn entry<'a>(words: &[&'a str], part: &'a Part) -> Option<Entry<'a>> {
    match *words {
        ["ip" | "ipv6", "prefix-list", list, ref rest @ ..] => {
            let rest = if let ["seq", _, rest @ ..] = rest { rest } else { rest };
            let [action @ ("permit" | "deny"), prefix, lengths @ ..] = rest else {
                // A description, or a sequence number alone.
                return None;
            };
            let (action, prefix) = (*action, *prefix);
            let is_everything = prefix.ends_with("/0") && !lengths.is_empty();
            let range = match prefix.parse::<IpRange>() {
                Ok(_) if prefix.ends_with("/0") && lengths.is_empty() => Err(DEFAULT_ROUTE.to_owned()),
                range => range.map_err(|error| error.to_string()),
            };
            let (list, action) = (list, Some(action));
            Some(Entry { list, action, names: "permit", range, is_everything })
        }
        ["access-list", list, ref rest @ ..] => rule(list, rest),
        _ => match part {
            Part::AccessList(list) => rule(list, words),
            Part::ObjectGroup(list) => {
                let range = match *words {
                    ["description", ..] => return None,
                    ["group-object", _] => {
                        Err("it is another group: read that group, or write its addresses here".to_owned())
                    }
                    ["network-object", "host", address] | ["host", address] => address::range(address),
                    ["network-object", "object", _] => {
                        Err("it is an object by its name: write its address here".to_owned())
                    }
                    ["range", first, last] => address::range(&format!("{first}-{last}")),
                    ["network-object", address, mask] | [address, mask] if mask.parse::<Ipv4Addr>().is_ok() => {
                        masked(address, mask)
                    }
                    ["network-object", prefix] => address::range(prefix),
                    [prefix] if prefix.contains(['.', ':']) => address::range(prefix),
                    _ => return None,
                };
                Some(Entry { list, action: None, names: "", range, is_everything: false })
            }
            Part::Nothing => None,
        },
    }
}

/// The entry of an access list, with its number before it or not.
fn rule<'a>(list: &'a str, words: &[&'a str]) -> Option<Entry<'a>> {
    let words = match words {
        ["sequence", _, rest @ ..] | ["extended" | "standard", rest @ ..] => rest,
        [number, rest @ ..] if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        words => words,
    };
    let [action @ ("permit" | "deny"), rest @ ..] = words else { return None };
    let (source, after) = match rest {
        ["ip" | "ipv6", source @ ..] => split_address(source)?,
        [protocol, ..] if protocol.starts_with(|first: char| first.is_ascii_lowercase()) && !is_address(protocol) => {
            let why =
                format!("it is about {protocol} only, and a list is about addresses: only entries of ip are read");
            return Some(Entry { list, action: Some(action), names: "deny", range: Err(why), is_everything: false });
        }
        source => {
            let (source, after) = split_address(source)?;
            // A standard list has no destination.
            (source, if after.first() == Some(&"any") { &[] } else { after })
        }
    };
    let after = match after {
        ["any" | "any4" | "any6", rest @ ..] => rest,
        rest => rest,
    };
    let is_everything = matches!(source, ["any" | "any4" | "any6"]);
    let range = match (source, after) {
        (_, [word, ..]) if !word.starts_with("log") => Err(
            "it is only about some destinations or packets, and a list is about sources: the destination must be any"
                .to_owned(),
        ),
        (["host", address], _) => address::range(address),
        ([address, mask], _) => masked(address, mask),
        (["any" | "any4" | "any6"], _) => Err("it is about all addresses: remove it".to_owned()),
        ([range], _) => address::range(range),
        _ => Err("the source is missing, as in 192.0.2.0 0.0.0.255".to_owned()),
    };
    Some(Entry { list, action: Some(action), names: "deny", range, is_everything })
}

/// Words such as `any`, which are not protocols.
fn is_address(word: &str) -> bool {
    matches!(word, "any" | "any4" | "any6" | "host") || word.contains(':')
}

/// Splits the words of an address from those after it.
fn split_address<'s, 'a>(words: &'s [&'a str]) -> Option<(&'s [&'a str], &'s [&'a str])> {
    let length = match words {
        [] => 0,
        ["host", ..] => 2,
        [_, mask, ..] if mask.parse::<Ipv4Addr>().is_ok() => 2,
        _ => 1,
    };
    words.split_at_checked(length)
}

/// Reads an address with a wildcard as in IOS (`192.0.2.0 0.0.0.255`), or a netmask as in ASA (`192.0.2.0 255.255.255.0`). Both are masks,
/// so it must be one of the two only: as the other one, it would have host bits set, or bits that are not together.
fn masked(address: &str, mask: &str) -> Result<IpRange, String> {
    let mask: Ipv4Addr = mask.parse().map_err(|_| format!("{mask:?} is neither a wildcard nor a netmask"))?;
    let as_mask = |mask: Ipv4Addr| {
        let length = address::netmask_length(mask)?;
        format!("{address}/{length}").parse::<IpRange>().ok()
    };
    match (as_mask(!mask), as_mask(mask)) {
        (Some(range), None) | (None, Some(range)) => Ok(range),
        (Some(one), Some(other)) if one == other => Ok(one),
        (Some(_), Some(_)) => Err(format!(
            "{mask} means all addresses as a wildcard or one as a netmask, or the other way round: write host {address}, or a prefix"
        )),
        (None, None) => {
            let error = address.parse::<Ipv4Addr>().err().map(|_| format!("{address:?} is not an IPv4 address"));
            Err(error.unwrap_or_else(|| {
                format!("{mask} is neither a wildcard nor a netmask of {address}, which has other bits set")
            }))
        }
    }
}

/// Writes prefix lists, one of each family. They add to lists with the same name, and take nothing out of them.
fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut sequence = [0_u64; 2];
    for block in blocks {
        let (family, number) =
            if matches!(block.range, IpRange::V4(_)) { ("ip", &mut sequence[0]) } else { ("ipv6", &mut sequence[1]) };
        for cidr in address::cidrs(block.range) {
            *number += 5;
            write!(out, "{family} prefix-list {} seq {number} permit {cidr}", options.name)?;
            // IOS refuses a longest length that is not longer.
            if cidr.prefix_len() < cidr.max_prefix_len() {
                write!(out, " le {}", cidr.max_prefix_len())?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, assert_entries, entries, entries_with};

    #[test]
    fn prefix_lists_name_what_they_permit() {
        let file = "!\nhostname r1\nip prefix-list BLOCKED description a list\nip prefix-list BLOCKED seq 5 permit 192.0.2.0/24 le 32\n\
            ip prefix-list BLOCKED seq 10 permit 198.51.100.7/32\nip prefix-list BLOCKED permit 203.0.113.0/24 ge 25 le 32\n\
            ipv6 prefix-list BLOCKED6 seq 5 permit 2001:db8::/32 le 128\nip prefix-list BLOCKED seq 100 deny 0.0.0.0/0 le 32\n";
        let expected = ["192.0.2.0/24", "198.51.100.7", "203.0.113.0/24", "2001:db8::/32"];
        assert_entries(&entries(Format::Cisco, file), &expected);
        assert_entries(&entries_with(Format::Cisco, file, &[("list", "blocked6")]).unwrap(), &["2001:db8::/32"]);

        let file = "ip prefix-list A seq 5 deny 192.0.2.0/25\nip prefix-list A seq 10 permit 192.0.2.0/24 le 32\nip prefix-list A seq 15 permit 0.0.0.0/0\n";
        assert_entries(
            &entries(Format::Cisco, file),
            &[
                "line 1: ... it is an exception from the entries with permit",
                "192.0.2.0/24",
                "line 3: ... default route",
            ],
        );
        assert_entries(&entries_with(Format::Cisco, file, &[("action", "deny")]).unwrap(), &["192.0.2.0/25"]);
        assert_entries(&entries(Format::Cisco, "ip prefix-list A permit 0.0.0.0/0 le 32\n"), &["0.0.0.0/0"]);
    }

    #[test]
    fn access_lists_name_what_they_deny() {
        let file = "access-list 10 remark blocked\naccess-list 10 deny 192.0.2.0 0.0.0.255\naccess-list 10 deny host 192.0.3.1\n\
            access-list 10 deny 192.0.3.2 log\naccess-list 10 permit any\n\
            access-list 101 deny ip host 198.51.100.1 any\naccess-list 101 deny ip 198.51.101.0 0.0.0.255 any log-input\naccess-list 101 permit ip any any\n\
            ip access-list extended NAMED\n 10 deny ip 203.0.113.0 0.0.0.127 any\n deny ip host 203.0.113.200 any\n permit ip any any\n\
            ip access-list standard S\n deny 192.0.4.0 0.0.0.255\n\
            ipv6 access-list V6\n sequence 10 deny ipv6 2001:db8::/32 any\n deny ipv6 host 2001:db9::1 any\n permit ipv6 any any\n\
            access-list asa extended deny ip 192.0.5.0 255.255.255.0 any4\n";
        assert_entries(
            &entries(Format::Cisco, file),
            &[
                "192.0.2.0/24",
                "192.0.3.1",
                "192.0.3.2",
                "198.51.100.1",
                "198.51.101.0/24",
                "203.0.113.0/25",
                "203.0.113.200",
                "192.0.4.0/24",
                "2001:db8::/32",
                "2001:db9::1",
                "192.0.5.0/24",
            ],
        );
        assert_entries(
            &entries_with(Format::Cisco, file, &[("list", "named")]).unwrap(),
            &["203.0.113.0/25", "203.0.113.200"],
        );
    }

    #[test]
    fn what_is_not_about_sources_only_is_bad() {
        let file = "access-list 101 deny tcp any any eq 22\naccess-list 101 deny ip 192.0.2.0 0.0.0.255 host 10.0.0.1\n\
            access-list 10 permit 192.0.2.0 0.0.0.255\naccess-list 10 deny any\naccess-list 10 deny 0.0.0.0 255.255.255.255\n\
            access-list 10 deny 192.0.2.0 0.0.255.0\naccess-list 10 deny host x\n";
        assert_entries(
            &entries(Format::Cisco, file),
            &[
                "line 1: ... it is about tcp only",
                "line 2: ... the destination must be any",
                "line 3: ... it is an exception from the entries with deny",
                "line 4: ... all addresses",
                "line 5: ... as a wildcard or one as a netmask",
                "line 6: ... neither a wildcard nor a netmask",
                "line 7: ... not an IP address",
            ],
        );
    }

    #[test]
    fn object_groups_are_read() {
        let file = "object-group network BLOCKED\n description a group\n network-object host 192.0.2.1\n network-object 192.0.3.0 255.255.255.0\n\
            network-object 2001:db8::/32\n group-object OTHER\nobject-group network IOS\n host 198.51.100.1\n 198.51.101.0 255.255.255.0\n\
            range 203.0.113.1 203.0.113.9\nobject-group service PORTS\n tcp eq 80\ninterface GigabitEthernet0\n ip address 10.0.0.1 255.255.255.0\n";
        assert_entries(
            &entries(Format::Cisco, file),
            &[
                "192.0.2.1",
                "192.0.3.0/24",
                "2001:db8::/32",
                "line 6: ... it is another group",
                "198.51.100.1",
                "198.51.101.0/24",
                "203.0.113.1-203.0.113.9",
            ],
        );
        assert!(entries_with(Format::Cisco, "hostname r1\n", &[]).is_err());
        assert!(entries(Format::Cisco, "!\n").is_empty());
    }

    #[test]
    fn all_addresses_and_single_ones_are_written_as_ios_reads_them() {
        let block = |range: &str| Block { range: range.parse().unwrap(), until: Until::FOREVER };
        let mut blocks = [block("0.0.0.0/0"), block("2001:db8::/32"), block("2001:db9::1")].into_iter();
        let mut out = Vec::new();
        write(&mut blocks, &WriteOptions { now: NOW.parse().unwrap(), name: "a".to_owned() }, &mut out).unwrap();
        let expected = "ip prefix-list a seq 5 permit 0.0.0.0/0 le 32\n\
            ipv6 prefix-list a seq 5 permit 2001:db8::/32 le 128\nipv6 prefix-list a seq 10 permit 2001:db9::1/128\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
