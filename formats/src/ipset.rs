//! What `ipset save` writes and `ipset restore` reads.
//!
//! Entries are read from sets of addresses and networks (`hash:ip`, `hash:net`, `bitmap:ip`). Commands about whole sets (`create`,
//! `flush`, `swap`, `rename`, `destroy`) add none.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
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
    netmask: Option<u8>,
    has_entries: bool,
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
        Self { kind: Kind::Addresses, timeout: 0, netmask: None, has_entries: false }
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
    let mut sets: HashMap<String, Set> = HashMap::new();
    each_line(input, LastLine::MustEnd, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        if line.is_empty() || line.starts_with('#') || line == "COMMIT" {
            return true;
        }
        match command(line, &mut sets, options) {
            Ok(Some(block)) => each(Ok(block)),
            Ok(None) => true,
            Err(why) => each(Err(BadEntry::in_line(number, line, why))),
        }
    })
}

/// The entry that a command adds, if it adds one.
fn command(line: &str, sets: &mut HashMap<String, Set>, options: &ReadOptions) -> Result<Option<Block>, String> {
    // Only comments are quoted, and they come after what is read.
    let words: Vec<_> = line.split_ascii_whitespace().filter(|word| !matches!(*word, "-exist" | "-!")).collect();
    let (command, name, rest) = match words[..] {
        [command, name, ref rest @ ..] => (command, name, rest),
        _ => return Err("it is not a command of ipset: write create NAME TYPE, or add NAME ADDRESS".to_owned()),
    };
    let is_wanted = options.wanted.matches(|_, value| value.eq_ignore_ascii_case(name));
    match command {
        "create" | "-N" => {
            let set = set(rest)?;
            keep(sets, name, set)?;
            Ok(None)
        }
        "add" | "-A" if is_wanted => {
            if !sets.contains_key(name) {
                keep(sets, name, Set::default())?;
            }
            let set = sets.entry(name.to_owned()).or_default();
            set.has_entries = true;
            entry(set, rest, options)
        }
        "flush" | "-F" if sets.get(name).is_some_and(|set| set.has_entries) => {
            Err("it empties a set that has entries already: write it before them".to_owned())
        }
        "del" | "-D" if is_wanted => Err("it takes an entry out of a set: leave out the entry instead".to_owned()),
        "add" | "-A" | "del" | "-D" | "flush" | "-F" | "swap" | "-W" | "rename" | "-E" | "destroy" | "-X" => Ok(None),
        _ => Err("it is not a command of ipset: write create NAME TYPE, or add NAME ADDRESS".to_owned()),
    }
}

fn keep(sets: &mut HashMap<String, Set>, name: &str, set: Set) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("the name of a set has at most {MAX_NAME} characters"));
    }
    if sets.len() >= MAX_SETS {
        return Err(format!("there are more than {MAX_SETS} sets"));
    }
    sets.entry(name.to_owned()).or_insert(set);
    Ok(())
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
        match pair {
            ["timeout", seconds] => set.timeout = seconds.parse().map_err(|_| bad_timeout(seconds))?,
            ["netmask", length] => {
                let length = length.parse().map_err(|_| format!("netmask {length:?} is not a length of a prefix"))?;
                set.netmask = Some(length);
            }
            ["bitmask", _] => set.kind = Kind::Others(format!("{kind} with a bitmask")),
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
                "its set is of type {kind}, whose entries are not plain addresses: they are in hash:ip and hash:net"
            ));
        }
    }
    let [text, attributes @ ..] = words else { return Err("the address is missing".to_owned()) };
    let mut timeout = set.timeout;
    let mut attributes = attributes.iter();
    while let Some(attribute) = attributes.next() {
        match *attribute {
            "timeout" => {
                let seconds = attributes.next().copied().unwrap_or_default();
                timeout = seconds.parse().map_err(|_| bad_timeout(seconds))?;
            }
            "nomatch" => {
                let why = "it is an exception from a larger network, which a list cannot have: write the rest of that network as ranges";
                return Err(why.to_owned());
            }
            // The text of a comment could contain anything.
            "comment" => break,
            _ => {}
        }
    }
    let range = match set.netmask {
        Some(length) if !text.contains(['/', '-']) => address::masked_range(&format!("{text}/{length}"))?,
        _ => address::masked_range(text)?,
    };
    let until = if timeout == 0 { Until::FOREVER } else { ends::after(options.now, Duration::from_secs(timeout)) };
    Ok(Some(Block { range, until }))
}

/// Fills new sets, and swaps them with those in use, so that a restore replaces the list without a moment in which it is empty.
///
/// The parameters never change, because `create -exist` fails if there is a set of this name with others. So `maxelem` is the most that
/// ipset accepts, and there are always timeouts. A block that lasts longer than ipset can count ends early: see [`ends::seconds_left`].
///
/// A name that is too long is cut, so two lists whose names begin with the same 28 characters have the same sets.
fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let name = names::at_most(&options.name, MAX_NAME - 3);
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
        for cidr in address::cidrs(range) {
            // hash:net has no /0.
            let halves = (cidr.prefix_len() == 0).then(|| cidr.subnets(1).ok()).flatten();
            match halves {
                Some(halves) => {
                    for half in halves {
                        writeln!(out, "add {name}-n{number} {half}{timeout}")?;
                    }
                }
                None => writeln!(out, "add {name}-n{number} {cidr}{timeout}")?,
            }
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
                "line 4: ... of type hash:ip,port",
                "line 5: ... not an IP address",
                "line 6: ... the address is missing",
                "192.0.2.1",
                "line 8: ... empties a set",
                "line 9: ... takes an entry out",
                "line 10: ... timeout \"x\" is not a number",
                "line 11: ... not a command of ipset",
                "line 12: ... not a command of ipset",
                "line 13: ... type of the set is missing",
            ],
        );
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
        let name = format!("{}-n4", "a".repeat(28));
        for half in ["0.0.0.0/1", "128.0.0.0/1"] {
            assert!(out.contains(&format!("add {name} {half} timeout 2147483\n")), "{out}");
        }
        assert_eq!(name.len(), MAX_NAME);
    }
}
