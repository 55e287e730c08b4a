//! What `ipset save` writes and `ipset restore` reads.
//!
//! Entries are read from sets of addresses and networks (`hash:ip`, `hash:net`, `bitmap:ip`). Commands about whole sets (`flush`, `swap`,
//! `rename`, `destroy`) are bad if they change what was read before.
//!
//! A set is chosen by its name, or by the name of the list of which edgefold wrote it: `tor` for `tor-v4` and `tor-v6`.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use edgefold::{Block, Until};
use edgefold_table::{IpRange, shorten};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, each_line, head_entries};
use crate::{EachEntry, ReadOptions, WriteOptions, address, ends, names};

pub(crate) const ABOUT: About = About {
    name: "ipset",
    describe: "a file of ipset save or ipset restore",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    fields: &["list"],
    looks_like,
    ..About::BASE
};

/// The longest name of a set (`IPSET_MAXNAMELEN`, without its NUL).
const MAX_NAME: usize = 31;
/// The most sets of a file, as in the kernel (`IPSET_INVALID_ID`).
const MAX_SETS: usize = 65_535;
/// The longest timeout in seconds (`IPSET_MAX_TIMEOUT`): 24 days.
const MAX_TIMEOUT: u64 = 2_147_483;

/// What is known of a set.
#[derive(Clone, Debug)]
struct Set {
    kind: Kind,
    /// The seconds that its entries last which do not say so themselves; 0 is forever.
    timeout: u64,
    /// The length of the prefix that each entry stands for.
    netmask: Option<u32>,
    /// Whether entries of it were read.
    is_read: bool,
    /// Whether it has entries that were not wanted.
    has_passed_over: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    Addresses,
    /// Entries without addresses: ports, and other sets.
    NoAddresses,
    /// Addresses with something else: the type.
    Others(String),
}

/// A set that the file does not create, which must exist before: its entries are read if they are addresses.
impl Default for Set {
    fn default() -> Self {
        Self { kind: Kind::Addresses, timeout: 0, netmask: None, is_read: false, has_passed_over: false }
    }
}

fn looks_like(head: &[u8]) -> bool {
    let Some(line) = head_entries(head).next() else { return false };
    match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        ["create" | "-N", _, kind, ..] => kind.contains(':'),
        ["add" | "-A", _, range, ..] => address::masked_range(range).is_ok(),
        _ => false,
    }
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut sets = Sets { sets: HashMap::new(), has_read: false, options };
    each_line(input, LastLine::MustEnd, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        if line.is_empty() || line.starts_with('#') || line == "COMMIT" {
            return true;
        }
        match sets.command(line) {
            Ok(Some(block)) => each(Ok(block)),
            Ok(None) => true,
            Err(why) => each(Err(BadEntry::in_line(number, line, why))),
        }
    })
}

/// The sets of a file.
struct Sets<'a> {
    sets: HashMap<String, Set>,
    /// Whether an entry of any set was read.
    has_read: bool,
    options: &'a ReadOptions,
}

impl Sets<'_> {
    /// The entry that a command adds, if it adds one.
    fn command(&mut self, line: &str) -> Result<Option<Block>, String> {
        const UNKNOWN: &str = "it is not a command of ipset: write create NAME TYPE, or add NAME ADDRESS";
        const EMPTIES: &str = "it takes away entries that were read before: write it before them";
        // Only comments are quoted, and they come after what is read.
        let words: Vec<_> = line.split_ascii_whitespace().filter(|word| !matches!(*word, "-exist" | "-!")).collect();
        match words[..] {
            ["create" | "-N", name, ref rest @ ..] => {
                let before = self.sets.get(name).cloned().unwrap_or_default();
                self.keep(
                    name,
                    Set { is_read: before.is_read, has_passed_over: before.has_passed_over, ..set(rest)? },
                )?;
            }
            ["add" | "-A", name, ref rest @ ..] if self.is_wanted(name) => {
                if !self.sets.contains_key(name) {
                    self.keep(name, Set::default())?;
                }
                let set = self.sets.entry(name.to_owned()).or_default();
                let block = entry(set, rest, self.options)?;
                set.is_read |= block.is_some();
                self.has_read |= block.is_some();
                return Ok(block);
            }
            ["add" | "-A", name, ..] => {
                if !self.sets.contains_key(name) {
                    self.keep(name, Set::default())?;
                }
                self.sets.entry(name.to_owned()).or_default().has_passed_over = true;
            }
            ["del" | "-D", name, ..] => {
                if self.is_wanted(name) {
                    return Err("it takes an entry out of a set: leave out the entry instead".to_owned());
                }
            }
            ["flush" | "-F" | "destroy" | "-X"] if self.has_read => return Err(EMPTIES.to_owned()),
            ["flush" | "-F"] => {}
            ["destroy" | "-X"] => self.sets.clear(),
            ["flush" | "-F" | "destroy" | "-X", name] => {
                if self.sets.get(name).is_some_and(|set| set.is_read) {
                    return Err(EMPTIES.to_owned());
                }
                if matches!(words[0], "destroy" | "-X") {
                    self.sets.remove(name);
                }
            }
            ["swap" | "-W", one, other] => {
                self.check_same(one, other)?;
                let (of_one, of_other) = (self.sets.remove(one), self.sets.remove(other));
                self.sets.extend(of_one.map(|set| (other.to_owned(), set)));
                self.sets.extend(of_other.map(|set| (one.to_owned(), set)));
            }
            ["rename" | "-E", from, to] => {
                self.check_same(from, to)?;
                if let Some(set) = self.sets.remove(from) {
                    self.keep(to, set)?;
                }
            }
            _ => return Err(UNKNOWN.to_owned()),
        }
        Ok(None)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.options.wanted.matches(|_, wanted| {
            wanted == name || ["v4", "v6", "n4", "n6"].iter().any(|role| set_name(&names::safe(wanted), role) == name)
        })
    }

    /// Checks that two sets may exchange names: entries were chosen by the names that their sets had when they were added.
    fn check_same(&self, one: &str, other: &str) -> Result<(), String> {
        if one.len() > MAX_NAME || other.len() > MAX_NAME {
            return Err(format!("the name of a set has at most {MAX_NAME} characters"));
        }
        let is_read = |name: &str| self.sets.get(name).is_some_and(|set| set.is_read || set.has_passed_over);
        if self.is_wanted(one) == self.is_wanted(other) || !(is_read(one) || is_read(other)) {
            return Ok(());
        }
        Err("it gives entries to a set of another name, and only one of the two was chosen: choose both, or the name of the list that \
             edgefold wrote"
            .to_owned())
    }

    fn keep(&mut self, name: &str, set: Set) -> Result<(), String> {
        if name.len() > MAX_NAME {
            return Err(format!("the name of a set has at most {MAX_NAME} characters"));
        }
        if self.sets.len() >= MAX_SETS && !self.sets.contains_key(name) {
            return Err(format!("there are more than {MAX_SETS} sets"));
        }
        self.sets.insert(name.to_owned(), set);
        Ok(())
    }
}

/// The set that `create` describes after its name.
fn set(words: &[&str]) -> Result<Set, String> {
    let [kind, options @ ..] = words else { return Err("the type of the set is missing, as in hash:net".to_owned()) };
    let entries = match *kind {
        "hash:ip" | "hash:net" | "bitmap:ip" | "iphash" | "nethash" | "ipmap" => Kind::Addresses,
        "list:set" | "setlist" | "bitmap:port" | "portmap" | "hash:mac" => Kind::NoAddresses,
        other => Kind::Others(shorten(other)),
    };
    let mut set = Set { kind: entries, ..Set::default() };
    for pair in options.windows(2) {
        match [pair[0].trim_start_matches('-'), pair[1]] {
            ["timeout", seconds] => set.timeout = seconds.parse().map_err(|_| bad_timeout(seconds))?,
            ["netmask", length] => {
                let parsed = length.parse().ok().filter(|length| (1..=128).contains(length));
                let why = || format!("netmask {:?} is not a length of a prefix", shorten(length));
                set.netmask = Some(parsed.ok_or_else(why)?);
            }
            ["bitmask", _] => set.kind = Kind::Others(format!("{} with a bitmask", shorten(kind))),
            _ => {}
        }
    }
    Ok(set)
}

fn bad_timeout(text: &str) -> String {
    format!("timeout {:?} is not a number of seconds", shorten(text))
}

fn entry(set: &Set, words: &[&str], options: &ReadOptions) -> Result<Option<Block>, String> {
    match &set.kind {
        Kind::Addresses => {}
        Kind::NoAddresses => return Ok(None),
        Kind::Others(kind) => {
            return Err(format!(
                "its set is of type {kind:?}, whose entries are not plain addresses: they are in hash:ip and hash:net"
            ));
        }
    }
    let [text, attributes @ ..] = words else { return Err("the address is missing".to_owned()) };
    let mut timeout = set.timeout;
    let mut attributes = attributes.iter();
    while let Some(attribute) = attributes.next() {
        match attribute.trim_start_matches('-') {
            "timeout" => {
                let seconds = attributes.next().copied().unwrap_or_default();
                timeout = seconds.parse().map_err(|_| bad_timeout(seconds))?;
            }
            "nomatch" => {
                let why = "it is an exception from a larger network, which a list cannot have: write the rest of that network as ranges";
                return Err(why.to_owned());
            }
            "packets" | "bytes" | "skbmark" | "skbprio" | "skbqueue" => drop(attributes.next()),
            // The text of a comment, in quotes.
            "comment" => {
                let is_end = |word: &str, is_first: bool| word.ends_with('"') && (!is_first || word.len() > 1);
                let first = attributes.next().copied().unwrap_or_default();
                if first.starts_with('"') && !is_end(first, true) && !attributes.any(|word| is_end(word, false)) {
                    return Err("the quote of its comment is not closed".to_owned());
                }
            }
            other => return Err(format!("{:?} is not known", shorten(other))),
        }
    }
    let range = address::masked_range(text)?;
    let range = set.netmask.map_or(Ok(range), |length| widened(range, length))?;
    let until = if timeout == 0 { Until::FOREVER } else { ends::after(options.now, Duration::from_secs(timeout)) };
    Ok(Some(Block { range, until }))
}

/// The networks of this length that the addresses of a range are in.
fn widened(range: IpRange, length: u32) -> Result<IpRange, String> {
    let (first, last) = match range {
        IpRange::V4(range) => {
            let rest = u32::MAX.checked_shr(length).unwrap_or(0);
            (
                Ipv4Addr::from_bits(range.first().to_bits() & !rest).into(),
                Ipv4Addr::from_bits(range.last().to_bits() | rest).into(),
            )
        }
        IpRange::V6(range) => {
            let rest = u128::MAX.checked_shr(length).unwrap_or(0);
            (IpAddr::V6((range.first().to_bits() & !rest).into()), IpAddr::V6((range.last().to_bits() | rest).into()))
        }
    };
    IpRange::new(first, last).map_err(|error| error.to_string())
}

/// The name of a set of a list: `v` in use, and `n` for new ones, of both families.
fn set_name(list: &str, role: &str) -> String {
    format!("{}-{role}", names::at_most(list, MAX_NAME - 3))
}

/// Fills new sets, and swaps them with those in use, so that a restore replaces the list without a moment in which it is empty.
///
/// The parameters never change, because `create -exist` fails if there is a set of this name with others. So `maxelem` is the most that
/// ipset accepts, and there are always timeouts. A block that lasts longer than ipset can count ends early: see [`ends::seconds_left`].
fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let name = &names::at_most(&options.name, MAX_NAME - 3);
    for (family, number) in [("inet", 4), ("inet6", 6)] {
        for role in ['v', 'n'] {
            writeln!(
                out,
                "create {name}-{role}{number} hash:net family {family} hashsize 1024 maxelem {} timeout 0 -exist",
                u32::MAX
            )?;
        }
        writeln!(out, "flush {name}-n{number}")?;
    }
    for Block { range, until } in blocks {
        let number = if matches!(range, IpRange::V4(_)) { 4 } else { 6 };
        let timeout = ends::seconds_left(options.now, until, MAX_TIMEOUT);
        let timeout = timeout.map(|seconds| format!(" timeout {seconds}")).unwrap_or_default();
        // hash:net has no /0.
        for cidr in address::cidrs(range).flat_map(address::halves_of_all) {
            writeln!(out, "add {name}-n{number} {cidr}{timeout}")?;
        }
    }
    for number in [4, 6] {
        writeln!(out, "swap {name}-n{number} {name}-v{number}")?;
        writeln!(out, "destroy {name}-n{number}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::testing::{NOW, assert_entries, entries, entries_with, in_seconds};

    #[test]
    fn what_ipset_save_prints_is_read() {
        let file = "create blocked-v4 hash:net family inet hashsize 1024 maxelem 65536 timeout 0 bucketsize 12 initval 0xc0411da1\n\
            add blocked-v4 192.0.2.0/24 timeout 300\n\
            add blocked-v4 198.51.100.7 timeout 0\n\
            create blocked-v6 hash:net family inet6 hashsize 1024 maxelem 65536 comment\n\
            add blocked-v6 2001:db8::/32 comment \"timeout 5 nomatch\"\n\
            create counted hash:ip family inet hashsize 1024 maxelem 65536 counters\n\
            add counted 203.0.113.1 packets 1 bytes 60\n\
            create all list:set size 8\nadd all blocked-v4\nadd all blocked-v6\n\
            create some bitmap:ip range 192.0.3.0-192.0.3.255\nadd some 192.0.3.1-192.0.3.4\n";
        assert_entries(
            &entries(Format::Ipset, file),
            &[
                &format!("192.0.2.0/24 until {}", in_seconds(300)),
                "198.51.100.7",
                "2001:db8::/32",
                "203.0.113.1",
                "192.0.3.1-192.0.3.4",
            ],
        );
        let found = entries_with(Format::Ipset, file, &[("list", "blocked-v6"), ("list", "counted")]).unwrap();
        assert_entries(&found, &["2001:db8::/32", "203.0.113.1"]);
    }

    #[test]
    fn a_set_says_what_its_entries_do_not() {
        let file = "create a hash:ip timeout 60 -exist\nflush a\nadd a 192.0.2.1\nadd a 192.0.2.2 timeout 0\n\
            -N b hash:ip --netmask 24 netmask 24\n-A b 192.0.2.0 -exist\nCOMMIT\n# no set\nadd c 192.0.2.7/24\n";
        assert_entries(
            &entries(Format::Ipset, file),
            &[&format!("192.0.2.1 until {}", in_seconds(60)), "192.0.2.2", "192.0.2.0/24", "192.0.2.0/24"],
        );
    }

    #[test]
    fn what_a_list_cannot_have_is_bad() {
        let file = "create a hash:net\nadd a 192.0.2.0/24 nomatch\ncreate b hash:ip,port\nadd b 192.0.2.1,tcp:80\n\
            add a host\nadd a\nadd a 192.0.2.1\nflush a\ndel a 192.0.2.1\nadd a 192.0.2.1 timeout x\nfoo\nfoo a\ncreate c\n";
        assert_entries(
            &entries(Format::Ipset, file),
            &[
                "line 2: \"add a 192.0.2.0/24 nomatch\": it is an exception",
                "line 4: ... of type \"hash:ip,port\"",
                "line 5: ... not an IP address",
                "line 6: ... the address is missing",
                "192.0.2.1",
                "line 8: ... takes away entries",
                "line 9: ... takes an entry out",
                "line 10: ... timeout \"x\" is not a number",
                "line 11: ... not a command of ipset",
                "line 12: ... not a command of ipset",
                "line 13: ... type of the set is missing",
            ],
        );
    }

    #[test]
    fn sets_that_are_destroyed_or_change_their_names_are_known() {
        let file = "create a hash:ip timeout 60\ndestroy a\ncreate a hash:ip\nadd a 192.0.2.1\ndestroy a\nflush\ndestroy\n\
            create b hash:ip netmask 24\nadd b 192.0.2.1/32\nadd b 192.0.2.250-192.0.3.2\ncreate b hash:ip\nadd b 192.0.2.1\n\
            create c hash:ip,port\nrename c d\nadd c 192.0.2.2\nadd d 192.0.2.2,tcp:80\nswap c d\nadd d 192.0.2.3\n\
            add d 192.0.2.4 foo\nadd d 192.0.2.4 --timeout 5 comment \"a nomatch b\" packets 1\nadd d 192.0.2.5 comment \"x\" nomatch\nadd d 192.0.2.6 comment \"x\n";
        let away = "it takes away entries";
        assert_entries(
            &entries(Format::Ipset, file),
            &[
                "192.0.2.1",
                &format!("line 5: ... {away}"),
                &format!("line 6: ... {away}"),
                &format!("line 7: ... {away}"),
                "192.0.2.0/24",
                "192.0.2.0/23",
                "192.0.2.1",
                "192.0.2.2",
                "line 16: ... of type \"hash:ip,port\"",
                "192.0.2.3",
                "line 19: ... \"foo\" is not known",
                &format!("192.0.2.4 until {}", in_seconds(5)),
                "line 21: ... it is an exception",
                "line 22: ... is not closed",
            ],
        );
        let file = "add a 192.0.2.1\nadd b 192.0.2.2\nswap a b\nadd a 192.0.2.3\nrename c d\n";
        let found = entries_with(Format::Ipset, file, &[("list", "a")]).unwrap();
        assert_entries(&found, &["192.0.2.1", "line 3: ... gives entries to a set of another name", "192.0.2.3"]);
        assert_entries(&entries(Format::Ipset, file), &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }

    #[test]
    fn what_is_written_is_chosen_by_the_name_of_its_list() {
        let blocks = crate::testing::blocks(&["192.0.2.0/24", "2001:db8::/32"]);
        let file = crate::testing::written(Format::Ipset, &blocks);
        let chosen = |name| entries_with(Format::Ipset, &file, &[("list", name)]).unwrap();
        assert_entries(&chosen("default"), &["192.0.2.0/24", "2001:db8::/32"]);
        assert!(chosen("other").is_empty());
        let saved = "create default-v4 hash:net\nadd default-v4 192.0.2.0/24\n";
        for name in ["default", "default-v4"] {
            assert_entries(&entries_with(Format::Ipset, saved, &[("list", name)]).unwrap(), &["192.0.2.0/24"]);
        }
        // The new set gets this name.
        assert_entries(&chosen("default-v4"), &["line 9: ... gives entries to a set of another name"]);
    }

    #[test]
    fn the_number_of_sets_is_limited() {
        let file: String = (0..70_000).map(|number| format!("create s{number} hash:ip\n")).collect();
        let found = entries(Format::Ipset, file);
        assert_eq!(found.len(), 70_000 - MAX_SETS);
        assert!(found[0].contains("more than 65535 sets"));
        let long = format!("create {} hash:ip\n", "a".repeat(32));
        assert_entries(&entries(Format::Ipset, long), &["line 1: ... at most 31 characters"]);
    }

    #[test]
    fn all_addresses_are_two_halves_and_a_long_time_is_clipped() {
        let until = "2027-12-01T00:00:00Z".parse::<edgefold::LogTime>().unwrap().into();
        let mut blocks = [Block { range: "0.0.0.0/0".parse().unwrap(), until }].into_iter();
        let mut out = Vec::new();
        let name = "a".repeat(63);
        write(&mut blocks, &WriteOptions { now: NOW.parse().unwrap(), name }, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let name = set_name(&"a".repeat(63), "n4");
        for half in ["0.0.0.0/1", "128.0.0.0/1"] {
            assert!(out.contains(&format!("add {name} {half} timeout 2147483\n")), "{out}");
        }
        assert_eq!(name.len(), MAX_NAME);
    }
}
