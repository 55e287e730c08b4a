//! What Cisco's IOS, NX-OS and ASA have as lists of addresses: prefix lists, access lists and object groups.
//!
//! - A **prefix list** names what it permits, so its `permit` entries are read. It is a list of routes, and the addresses of an entry are
//!   those of its prefix, whatever `ge` and `le` say of longer ones.
//! - An **access list** names what it denies, so its `deny` entries are read, by their source. The destination must be `any`, and the
//!   protocol `ip` or `ipv6`.
//! - An **object group** of networks has no action.
//!
//! Both lists may have exceptions: entries with the other action, which are valid if they come first. A list of ranges has none, so they
//! are bad, except one for all addresses at the end, as most lists have it. Entries that come after such a one, by their sequence numbers,
//! are never reached, and are bad. The field `action` chooses entries instead: `permit` or `deny`.
//!
//! Lines that take something away (`no ...`), and lines of a list that are not understood, are bad. Other lines of a configuration are
//! passed over.

use std::collections::{HashMap, hash_map};
use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;

use edgefold::{Block, Until};
use edgefold_table::{IpRange, shorten};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, each_indented_line, head_lines};
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
                | ["object-group", "ip" | "ipv6", "address", _]
        )
    })
}

/// The most lists of a file.
const MAX_LISTS: usize = 65_535;

/// What the lines after a line are part of.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Nothing,
    AccessList(Kind, String),
    ObjectGroup(String),
}

/// Lists of different kinds may have the same name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    PrefixList,
    PrefixList6,
    AccessList,
    AccessList6,
}

impl Kind {
    /// The action of the entries that a list names.
    fn named(self) -> &'static str {
        match self {
            Self::PrefixList | Self::PrefixList6 => "permit",
            Self::AccessList | Self::AccessList6 => "deny",
        }
    }

    /// How much later an entry without a sequence number comes than the last one.
    fn step(self) -> u64 {
        match self {
            Self::PrefixList | Self::PrefixList6 => 5,
            Self::AccessList | Self::AccessList6 => 10,
        }
    }
}

/// An entry of a list.
struct Entry<'a> {
    list: &'a str,
    /// `None` in object groups, which have no order either.
    rule: Option<Rule<'a>>,
    range: Result<IpRange, String>,
}

/// What an entry does in its list.
struct Rule<'a> {
    kind: Kind,
    sequence: Option<u64>,
    action: &'a str,
    /// Whether it decides about all addresses.
    is_everything: bool,
}

/// What a line is.
enum Line<'a> {
    /// A remark, or something that says nothing of addresses.
    Ignored,
    Entry(Entry<'a>),
    /// Something about the list of this name that is not read, and why.
    Bad(&'a str, String),
}

/// A list so far.
#[derive(Debug, Default)]
struct List {
    last: u64,
    /// The sequence number and the action of the first entry that decides about all addresses.
    everything: Option<(u64, String)>,
    /// The highest sequence numbers of entries that were read, with `permit` and with `deny`.
    read: [u64; 2],
}

impl List {
    /// Adds an entry, and returns why it or an entry before it is not reached.
    fn add(&mut self, rule: &Rule<'_>) -> Result<(), String> {
        let sequence = rule.sequence.unwrap_or_else(|| self.last.saturating_add(rule.kind.step()));
        self.last = self.last.max(sequence);
        if let Some((everything, action)) = &self.everything
            && *everything < sequence
            && action != rule.action
        {
            return Err(format!(
                "it is not reached, because entry {everything} is a {action} of all addresses before it: remove one"
            ));
        }
        let [of_this, of_other] = if rule.action == "permit" { [0, 1] } else { [1, 0] };
        self.read[of_this] = self.read[of_this].max(sequence);
        if rule.is_everything {
            if self.everything.as_ref().is_none_or(|(first, _)| sequence < *first) {
                self.everything = Some((sequence, rule.action.to_owned()));
            }
            if self.read[of_other] > sequence {
                return Err(format!(
                    "it is about all addresses, and entries after it were read, such as {}: remove one",
                    self.read[of_other]
                ));
            }
        }
        Ok(())
    }
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut part = Part::Nothing;
    let mut lists: HashMap<(Kind, String), List> = HashMap::new();
    let (mut has_lists, mut is_empty) = (false, true);
    let is_of_list = |list: &str| options.wanted.matches(|name, value| name != "list" || value == list);
    let asks_action = options.wanted.names().any(|name| name == "action");
    each_indented_line(input, LastLine::MustEnd, |number, line| {
        let (line, is_indented) = match line {
            Ok(line) => (line.trim_start(), line.starts_with([' ', '\t'])),
            Err(bad) => return each(Err(bad)),
        };
        if line.is_empty() || line.starts_with('!') {
            return true;
        }
        is_empty = false;
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        if let Some(begins) = begin(&words) {
            has_lists |= begins != Part::Nothing;
            part = begins;
            return true;
        }
        if ends(&part, &words, is_indented) {
            part = Part::Nothing;
        }
        let entry = match parse(&words, &part) {
            Line::Ignored => return true,
            Line::Bad(list, why) => {
                has_lists = true;
                return !is_of_list(list) || each(Err(BadEntry::in_line(number, line, why)));
            }
            Line::Entry(entry) => entry,
        };
        has_lists = true;
        let action = entry.rule.as_ref().map(|rule| rule.action);
        let is_chosen = options.wanted.matches(|name, value| match name {
            "list" => value == entry.list,
            _ => action.is_some_and(|action| value.eq_ignore_ascii_case(action)),
        });
        let mut why_not = None;
        if let Some(rule) = &entry.rule {
            let has_room = lists.len() < MAX_LISTS;
            match lists.entry((rule.kind, shorten(entry.list))) {
                hash_map::Entry::Occupied(mut list) => why_not = list.get_mut().add(rule).err(),
                hash_map::Entry::Vacant(list) if has_room => why_not = list.insert(List::default()).add(rule).err(),
                hash_map::Entry::Vacant(_) => why_not = Some(format!("there are more than {MAX_LISTS} lists")),
            }
        }
        if !is_of_list(entry.list) || (!is_chosen && why_not.is_none()) {
            return true;
        }
        let exception = entry.rule.as_ref().filter(|rule| !asks_action && rule.action != rule.kind.named());
        let range = match (why_not, exception) {
            (Some(why), _) => Err(why),
            (None, Some(rule)) if rule.is_everything => return true,
            (None, Some(rule)) => Err(format!(
                "it is an exception from the entries with {}, which a list cannot have: remove it, or choose entries with action {}",
                rule.kind.named(),
                rule.action
            )),
            (None, None) => entry.range,
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

/// What a line begins, if it begins something.
fn begin(words: &[&str]) -> Option<Part> {
    match *words {
        ["ip", "access-list", "standard" | "extended", name] | ["ip" | "ipv4", "access-list", name] => {
            Some(Part::AccessList(Kind::AccessList, name.to_owned()))
        }
        ["ipv6", "access-list", name] => Some(Part::AccessList(Kind::AccessList6, name.to_owned())),
        ["object-group", "network" | "v4-network" | "v6-network", name]
        | ["object-group", "ip" | "ipv6", "address", name] => Some(Part::ObjectGroup(name.to_owned())),
        ["object-group", "service" | "protocol" | "icmp-type" | "port" | "user" | "security", ..]
        | ["object-group", "ip", "port", ..]
        | ["exit" | "end"] => Some(Part::Nothing),
        _ => None,
    }
}

/// Whether a line belongs no more to the part of the lines before it. What is indented does, and so does what has a form of its lines.
fn ends(part: &Part, words: &[&str], is_indented: bool) -> bool {
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    match (part, words) {
        (Part::Nothing, _) => false,
        (_, ["ip" | "ipv6", "prefix-list", ..] | ["access-list" | "object-group", ..]) => true,
        (_, ["no", "ip" | "ipv6" | "access-list" | "object-group", ..]) => true,
        _ if is_indented => false,
        (_, ["no" | "remark" | "description", ..]) => false,
        (Part::AccessList(..), ["permit" | "deny" | "sequence", ..]) => false,
        (Part::ObjectGroup(_), ["group-object" | "network-object" | "host" | "range" | "any", ..]) => false,
        (_, [first, ..]) => !is_number(first) && !first.contains(['.', ':', '/']),
        (_, []) => true,
    }
}

fn parse<'a>(words: &[&'a str], part: &'a Part) -> Line<'a> {
    const REMOVES: &str = "it takes something out of the configuration: leave out what it removes instead";
    match *words {
        ["no", "ip" | "ipv6", "prefix-list", "sequence-number"] | ["ip" | "ipv6", "prefix-list", "sequence-number"] => {
            Line::Ignored
        }
        ["no", "ip" | "ipv6", "prefix-list", list, ..]
        | ["no", "ip", "access-list", "standard" | "extended", list, ..]
        | ["no", "ip" | "ipv4" | "ipv6", "access-list", list, ..]
        | ["no", "access-list", list, ..]
        | ["no", "object-group", "ip" | "ipv6", "address", list, ..]
        | ["no", "object-group", _, list, ..] => Line::Bad(list, REMOVES.to_owned()),
        [family @ ("ip" | "ipv6"), "prefix-list", list, ref rest @ ..] => {
            let kind = if family == "ip" { Kind::PrefixList } else { Kind::PrefixList6 };
            prefix(kind, list, rest)
        }
        ["access-list", "alert-interval" | "deny-flow-max", ..] => Line::Ignored,
        ["access-list", list, ref rest @ ..] => rule(Kind::AccessList, list, rest),
        ["object-group", .., list] => {
            Line::Bad(list, "this kind of group is not known: only groups of networks are read".to_owned())
        }
        _ => match part {
            Part::Nothing => Line::Ignored,
            Part::AccessList(_, list) | Part::ObjectGroup(list) if words.first() == Some(&"no") => {
                Line::Bad(list, REMOVES.to_owned())
            }
            Part::AccessList(kind, list) => rule(*kind, list, words),
            Part::ObjectGroup(list) => member(list, words),
        },
    }
}

/// The entry of a prefix list.
fn prefix<'a>(kind: Kind, list: &'a str, words: &[&'a str]) -> Line<'a> {
    let (sequence, rest) = match *words {
        ["description", ..] => return Line::Ignored,
        ["seq", number, ref rest @ ..] => (Some(number), rest),
        ref rest => (None, rest),
    };
    let [action @ ("permit" | "deny"), prefix, ref lengths @ ..] = *rest else {
        return Line::Bad(list, "it is not an entry: write seq 5 permit 192.0.2.0/24 le 32".to_owned());
    };
    let sequence = match sequence.map(str::parse).transpose() {
        Ok(sequence) => sequence,
        Err(_) => return Line::Bad(list, format!("its sequence number is not one: {:?}", shorten(words[1]))),
    };
    let is_all = prefix.ends_with("/0");
    let most = if kind == Kind::PrefixList { "32" } else { "128" };
    let is_length = |text: &str| text.parse::<u8>().is_ok_and(|length| length <= 128);
    let range = match *lengths {
        [] if is_all => Err(DEFAULT_ROUTE.to_owned()),
        ["le", longest] if is_all && longest == most => Ok(()),
        _ if is_all => {
            Err(format!("it is about some routes and not about all addresses: write le {most} after it for all"))
        }
        [] => Ok(()),
        ["le" | "ge" | "eq", length] if is_length(length) => Ok(()),
        ["ge", shortest, "le", longest] if is_length(shortest) && is_length(longest) => Ok(()),
        _ => Err(format!(
            "{:?} is not known: write ge and le with lengths after the prefix",
            shorten(&lengths.join(" "))
        )),
    };
    let is_everything = is_all && range.is_ok();
    let range = range.and_then(|()| prefix.parse::<IpRange>().map_err(|error| error.to_string()));
    let range = match range {
        Ok(range) if matches!(range, IpRange::V4(_)) != (kind == Kind::PrefixList) => {
            Err("it is of the other family".to_owned())
        }
        range => range,
    };
    Line::Entry(Entry { list, rule: Some(Rule { kind, sequence, action, is_everything }), range })
}

/// The entry of an object group, with its number before it or not.
fn member<'a>(list: &'a str, words: &[&'a str]) -> Line<'a> {
    let words = match words {
        [number, rest @ ..] if number.bytes().all(|byte| byte.is_ascii_digit()) && !rest.is_empty() => rest,
        words => words,
    };
    let range = match *words {
        ["description" | "remark", ..] => return Line::Ignored,
        ["group-object", _] => Err("it is another group: read that group, or write its addresses here".to_owned()),
        ["network-object", "host", address] | ["host", address] => address::range(address),
        ["network-object", "object", _] => Err("it is an object by its name: write its address here".to_owned()),
        ["range", first, last] => address::range(&format!("{first}-{last}")),
        ["network-object", address, mask] | [address, mask] if mask.parse::<Ipv4Addr>().is_ok() => {
            masked(address, mask)
        }
        ["network-object", prefix] | [prefix] => address::range(prefix),
        _ => Err("it is not an entry: write host 192.0.2.1, or 192.0.2.0 255.255.255.0".to_owned()),
    };
    Line::Entry(Entry { list, rule: None, range })
}

/// The entry of an access list, with its number before it or not.
fn rule<'a>(kind: Kind, list: &'a str, words: &[&'a str]) -> Line<'a> {
    let (sequence, words) = match *words {
        ["sequence", number, ref rest @ ..] => (Some(number), rest),
        ["extended" | "standard", ref rest @ ..] => (None, rest),
        [number, ref rest @ ..] if number.bytes().all(|byte| byte.is_ascii_digit()) => (Some(number), rest),
        ref words => (None, words),
    };
    let (action, rest) = match *words {
        ["remark" | "description", ..] | ["statistics", "per-entry"] => return Line::Ignored,
        [action @ ("permit" | "deny"), ref rest @ ..] => (action, rest),
        _ => return Line::Bad(list, "it is not an entry: write deny ip 192.0.2.0 0.0.0.255 any".to_owned()),
    };
    let Ok(sequence) = sequence.map(str::parse).transpose() else {
        return Line::Bad(list, "its sequence number is not one".to_owned());
    };
    let (range, is_everything) = match source(rest) {
        Ok(Some(range)) => (Ok(range), false),
        Ok(None) => (Err("it is about all addresses: remove it".to_owned()), true),
        Err(why) => (Err(why), false),
    };
    Line::Entry(Entry { list, rule: Some(Rule { kind, sequence, action, is_everything }), range })
}

/// The source of a rule whose destination is any; `None` if the source is any too.
fn source(words: &[&str]) -> Result<Option<IpRange>, String> {
    const SOME: &str =
        "it is only about some destinations or packets, and a list is about sources: the destination must be any";
    let missing = || "the source is missing, as in 192.0.2.0 0.0.0.255".to_owned();
    let (source, after) = match *words {
        ["ip" | "ipv4" | "ipv6", ref rest @ ..] => {
            let (source, after) = split_address(rest).ok_or_else(missing)?;
            match *after {
                ["any" | "any4" | "any6", ref after @ ..] => (source, after),
                _ => return Err(SOME.to_owned()),
            }
        }
        [protocol, ..] if protocol.starts_with(|first: char| first.is_ascii_lowercase()) && !is_address(protocol) => {
            let protocol = shorten(protocol);
            return Err(format!(
                "it is about {protocol:?} only, and a list is about addresses: only entries of ip are read"
            ));
        }
        // A standard list has no destination.
        ref words => split_address(words).ok_or_else(missing)?,
    };
    if !is_log(after) {
        return Err(SOME.to_owned());
    }
    match *source {
        ["host", address] => address::range(address).map(Some),
        [address, mask] => masked(address, mask).map(Some),
        ["any" | "any4" | "any6"] => Ok(None),
        [range] => address::range(range).map(Some),
        _ => Err(missing()),
    }
}

/// Whether words are only about what is logged. `inactive`, or a time range, may come after it.
fn is_log(words: &[&str]) -> bool {
    const LEVELS: &[&str] = &[
        "alerts",
        "critical",
        "debugging",
        "emergencies",
        "errors",
        "informational",
        "notifications",
        "warnings",
        "interval",
        "disable",
        "default",
    ];
    match words {
        [] => true,
        ["log" | "log-input", rest @ ..] => {
            rest.iter().all(|word| LEVELS.contains(word) || word.bytes().all(|byte| byte.is_ascii_digit()))
        }
        _ => false,
    }
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
    let mask: Ipv4Addr =
        mask.parse().map_err(|_| format!("{:?} is neither a wildcard nor a netmask", shorten(mask)))?;
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
            let error =
                address.parse::<Ipv4Addr>().err().map(|_| format!("{:?} is not an IPv4 address", shorten(address)));
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
        assert_entries(&entries_with(Format::Cisco, file, &[("list", "BLOCKED6")]).unwrap(), &["2001:db8::/32"]);

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
            &entries_with(Format::Cisco, file, &[("list", "NAMED")]).unwrap(),
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
                "line 1: ... it is about \"tcp\" only",
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
    fn entries_after_one_of_all_addresses_are_bad() {
        let file = "access-list 10 permit any\naccess-list 10 deny 192.0.2.0 0.0.0.255\naccess-list 11 deny host 192.0.2.1\n\
            ip access-list extended A\n permit ip any any\n deny ip host 192.0.2.2 any\n\
            ip prefix-list P seq 10 permit 192.0.3.0/24 le 32\nip prefix-list P seq 20 deny 0.0.0.0/0 le 32\nip prefix-list P permit 192.0.4.0/24\n\
            ip prefix-list P seq 15 permit 192.0.5.0/24\nipv6 prefix-list P deny ::/0 le 128\nipv6 prefix-list P permit 2001:db8::/32\n\
            ip prefix-list P seq 1 deny 0.0.0.0/0 le 32\n";
        let dead = "it is not reached, because entry";
        assert_entries(
            &entries(Format::Cisco, file),
            &[
                &format!("line 2: ... {dead} 10 is a permit of all"),
                "192.0.2.1",
                &format!("line 6: ... {dead} 10 is a permit of all"),
                "192.0.3.0/24",
                &format!("line 9: ... {dead} 20 is a deny of all"),
                "192.0.5.0/24",
                &format!("line 12: ... {dead} 5 is a deny of all"),
                "line 13: ... entries after it were read, such as 15",
            ],
        );
    }

    #[test]
    fn only_what_is_about_all_addresses_may_be_left_out() {
        let file = "access-list 101 deny ip host 192.0.2.1 any\naccess-list 101 permit ip any host 10.0.0.1\naccess-list 101 permit tcp any any\n\
            access-list 101 permit ip any any inactive\naccess-list 101 permit ip any any log\n\
            ip prefix-list A deny 0.0.0.0/0 ge 8\nip prefix-list A deny 0.0.0.0/0 le 24\nip prefix-list A permit 0.0.0.0/0 ge 32\n\
            ip prefix-list A permit 0.0.0.0/0 le 32 ge 8\nip prefix-list A permit 192.0.2.0/24 foo\nipv6 prefix-list A permit ::/0 le 32\n\
            ipv6 prefix-list A permit 192.0.2.0/24\n";
        let exception = "it is an exception";
        assert_entries(
            &entries(Format::Cisco, file),
            &[
                "192.0.2.1",
                &format!("line 2: ... {exception}"),
                &format!("line 3: ... {exception}"),
                &format!("line 4: ... {exception}"),
                &format!("line 6: ... {exception}"),
                &format!("line 7: ... {exception}"),
                "line 8: ... it is about some routes",
                "line 9: ... it is about some routes",
                "line 10: ... \"foo\" is not known",
                "line 11: ... it is about some routes",
                "line 12: ... the other family",
            ],
        );
    }

    #[test]
    fn no_line_of_a_list_is_passed_over_in_silence() {
        let file = "no ip prefix-list A\nno access-list 10\nno ip access-list extended B\nip prefix-list A seq 5\naccess-list 10 dynamic x\n\
            access-list 10 deny 192.0.2.1 log inactive\naccess-list 10 deny 192.0.2.1 time-range night\naccess-list 10 deny host\n\
            ip access-list extended B\n no deny ip host 192.0.2.1 any\n no 10\n evaluate x\n deny ip host 192.0.2.1\n\
            object-group network G\n 10.0.0.0 /8\n no host 192.0.2.2\n foo\n host 192.0.2.3\n10.0.0.0 /8\n\
            object-group fqdn F\ninterface x\n no shutdown\n ip address 10.0.0.1 255.255.255.0\n";
        let removes = "it takes something out";
        assert_entries(
            &entries(Format::Cisco, file),
            &[
                &format!("line 1: ... {removes}"),
                &format!("line 2: ... {removes}"),
                &format!("line 3: ... {removes}"),
                "line 4: ... not an entry",
                "line 5: ... not an entry",
                "line 6: ... only about some",
                "line 7: ... only about some",
                "line 8: ... source is missing",
                &format!("line 10: ... {removes}"),
                &format!("line 11: ... {removes}"),
                "line 12: ... not an entry",
                "line 13: ... the destination must be any",
                "line 15: ... not an entry",
                &format!("line 16: ... {removes}"),
                "line 17: ... is not",
                "192.0.2.3",
                "line 19: ... not an entry",
                "line 20: ... this kind of group is not known",
            ],
        );
        assert_entries(&entries_with(Format::Cisco, file, &[("list", "G")]).unwrap()[3..4], &["192.0.2.3"]);
    }

    #[test]
    fn groups_of_nx_os_are_read() {
        let file = "object-group ip address G\n  10 host 192.0.2.1\n  20 192.0.3.0/24\n  30 192.0.4.0 0.0.0.255\nip access-list N\n  statistics per-entry\n  10 deny ip 192.0.5.0/24 any\n";
        assert_entries(&entries(Format::Cisco, file), &["192.0.2.1", "192.0.3.0/24", "192.0.4.0/24", "192.0.5.0/24"]);
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
