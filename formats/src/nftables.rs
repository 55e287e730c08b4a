//! Sets of nftables as text: what `nft list set` and `nft list ruleset` print, and `nft -f` loads.
//!
//! Entries are read from named sets of addresses, of which a file may have many, and from `add element`. Sets without a name, which are
//! part of a rule, and sets of other things, such as ports, have none. What takes elements out of a set again is bad, and so are variables
//! and included files.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, Write};

use edgefold::{Block, LogTime, Until};
use edgefold_table::{IpRange, shorten};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::head_entries;
use crate::tokens::{Syntax, Token, Tokens};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, ends, lines, names};

pub(crate) const ABOUT: About = About {
    name: "nftables",
    describe: "sets of nftables as text",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    fields: &["list", "table"],
    looks_like,
    ..About::BASE
};

/// The table with the sets that are written. A set can only be used by the chains of its own table.
pub(crate) const TABLE: &str = "edgefold";
/// The longest timeout in seconds. The kernel's limit in nanoseconds is reached after 584 years.
pub(crate) const MAX_TIMEOUT: u64 = 100 * 365 * 86_400;
/// How deep braces nest in a ruleset: tables, chains, rules, sets, and some more.
const MAX_DEPTH: usize = 16;

fn looks_like(head: &[u8]) -> bool {
    let Some(line) = head_entries(head).next() else { return false };
    let words: Vec<_> = line.split([' ', '\t', '{']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        ["table", "ip" | "ip6" | "inet" | "bridge" | "netdev" | "arp", ..] => true,
        ["add" | "create", "table" | "set" | "element", ..] | ["flush", "ruleset" | "table" | "set", ..] => true,
        ["set", _] => line.ends_with('{'),
        ["elements", "=", ..] => true,
        _ => false,
    }
}

/// The most sets that are remembered, for commands about them later in the file.
const MAX_KNOWN: usize = 65_536;
/// The most words of a statement and of an element that are looked at.
const MAX_WORDS: usize = 32;
/// What can come after the address of an element.
const ATTRIBUTES: &[&str] = &["timeout", "expires", "comment", "counter", "quota", "limit", "last", "ct"];

/// A set, as far as it is known.
#[derive(Clone, Debug, Default)]
struct Set {
    name: String,
    table: String,
    kind: Kind,
    /// When its entries end that do not say so themselves.
    until: Option<Until>,
    is_map: bool,
    /// Whether elements of it were read.
    is_read: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Addresses, or not said.
    #[default]
    Addresses,
    /// Nothing with an address, such as ports.
    NoAddresses,
    /// Addresses with something else, such as a port.
    Concatenated,
}

impl Kind {
    /// That of a type, such as `ipv4_addr` or `ipv4_addr . inet_service`.
    pub(crate) fn of<'a>(mut types: impl Iterator<Item = &'a str>) -> Self {
        let first = types.next();
        match (first, types.next()) {
            (Some("ipv4_addr" | "ipv6_addr") | None, None) => Self::Addresses,
            (_, None) => Self::NoAddresses,
            _ => Self::Concatenated,
        }
    }
}

/// Why an element of a set of this kind is not read; `None` if it is.
pub(crate) fn why_not(kind: Kind, is_map: bool) -> Option<&'static str> {
    match kind {
        _ if is_map => {
            Some("it is an element of a map, and what the map does with it is not known: only sets are read")
        }
        Kind::Concatenated => {
            Some("its set is of addresses with something else: only sets of ipv4_addr and ipv6_addr are read")
        }
        Kind::Addresses | Kind::NoAddresses => None,
    }
}

/// When an element ends: what is left of its time, or else all of it, or else what its set says.
pub(crate) fn until(timeout: Option<Until>, expires: Option<Until>, of_set: Option<Until>) -> Until {
    expires.or(timeout).or(of_set).unwrap_or(Until::FOREVER)
}

/// Reads `1h`, as the end of what lasts an hour from now.
fn after(now: LogTime, text: &str) -> Option<Until> {
    if text == "never" { Some(Until::FOREVER) } else { ends::duration(text).map(|duration| ends::after(now, duration)) }
}

/// Reads a timeout, of which 0 is none.
fn after_timeout(now: LogTime, text: &str) -> Option<Until> {
    let until = after(now, text)?;
    Some(if until == now.into() { Until::FOREVER } else { until })
}

/// The family, the table and the name in what a command says after `element` or `set`.
fn table_and_name<'a>(words: &[&'a str]) -> Option<(&'a str, &'a str)> {
    match *words {
        [family, table, name] if is_family(family) => Some((table, name)),
        [table, name] => Some((table, name)),
        _ => None,
    }
}

fn is_family(word: &str) -> bool {
    matches!(word, "ip" | "ip6" | "inet" | "bridge" | "netdev" | "arp")
}

/// Whether a set is of the list `wanted`: by its own name, or as [`write`] names the sets of a list.
pub(crate) fn is_of_list(name: &str, table: &str, wanted: &str) -> bool {
    name == wanted || (table == TABLE && [4, 6].iter().any(|family| set_name(&names::safe(wanted), *family) == name))
}

/// Why elements of a set that is not of addresses are not read, if they are addresses.
pub(crate) const NOT_OF_ADDRESSES: &str = "it is an address, and its set is not known to be one of addresses";

/// What a brace opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    Table,
    Set,
    Other,
}

struct Reader<'a, 'b> {
    tokens: Tokens<'a>,
    options: &'a ReadOptions,
    each: &'a mut EachEntry<'b>,
    /// The braces around.
    scopes: Vec<Scope>,
    set: Set,
    /// The sets so far, by table and name.
    known: HashMap<(String, String), Set>,
    /// The tables with sets of which elements were read.
    read_tables: HashSet<String>,
    table: String,
    /// Whether anything of a ruleset was found.
    is_ruleset: bool,
    goes_on: bool,
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let syntax = Syntax { marks: b"{};,=", quotes: b"\"", has_escapes: false, has_block_comments: false };
    Reader {
        tokens: Tokens::new(input, syntax),
        options,
        each,
        scopes: Vec::new(),
        set: Set::default(),
        known: HashMap::new(),
        read_tables: HashSet::new(),
        table: String::new(),
        is_ruleset: false,
        goes_on: true,
    }
    .read()
}

impl Reader<'_, '_> {
    fn read(mut self) -> Result<(), ReadError> {
        // The words since the last line, brace or semicolon, and the line of the first of them.
        let (mut words, mut line): (Vec<String>, _) = (Vec::new(), 0);
        let mut is_empty = true;
        while self.goes_on {
            let token = self.tokens.next()?;
            is_empty &= matches!(token, Token::NewLine | Token::End);
            if words.is_empty() {
                line = self.tokens.line();
            }
            match token {
                // A line that continues.
                Token::Word if self.tokens.text() == "\\" => {
                    if self.tokens.next()? != Token::NewLine {
                        self.bad(self.tokens.line(), "\\", "it is not at the end of its line");
                    }
                }
                Token::Word | Token::Quoted => {
                    if words.len() < MAX_WORDS {
                        words.push(self.tokens.text().to_owned());
                    }
                }
                Token::Mark(b'{') => {
                    self.open(&words, line)?;
                    words.clear();
                }
                Token::Mark(b'}') => {
                    self.statement(&words, line);
                    words.clear();
                    if self.scopes.pop() == Some(Scope::Set) {
                        let set = std::mem::take(&mut self.set);
                        self.keep(set)?;
                    }
                }
                Token::Mark(b'=') => words.push("=".to_owned()),
                Token::Mark(b',') => {}
                Token::Mark(_) | Token::NewLine => {
                    self.statement(&words, line);
                    words.clear();
                }
                Token::Bad(why) => {
                    let text = self.tokens.text().to_owned();
                    self.bad(self.tokens.line(), &text, why);
                }
                Token::End => {
                    self.statement(&words, line);
                    break;
                }
            }
        }
        if !self.goes_on {
        } else if !self.scopes.is_empty() {
            (self.each)(Err(BadEntry::cut_off(self.tokens.line(), "braces")));
        } else if !self.is_ruleset && !is_empty {
            let why = "it has neither a table nor a set, as in table inet NAME { set NAME { ... } }".to_owned();
            return Err(ReadError::NotThisFormat { format: Format::Nftables, why });
        }
        Ok(())
    }

    fn bad(&mut self, line: u64, text: &str, why: &str) {
        self.goes_on = self.goes_on && (self.each)(Err(BadEntry::in_line(line, text, why)));
    }

    /// Remembers a set, of which there may be several parts in a file.
    fn keep(&mut self, mut set: Set) -> Result<(), ReadError> {
        if self.known.len() == MAX_KNOWN {
            let why = format!("it has more than {MAX_KNOWN} sets");
            return Err(ReadError::NotThisFormat { format: Format::Nftables, why });
        }
        let key = (set.table.clone(), set.name.clone());
        if set.is_read {
            self.read_tables.insert(set.table.clone());
        }
        set.is_read |= self.known.get(&key).is_some_and(|known| known.is_read);
        self.known.insert(key, set);
        Ok(())
    }

    fn is_wanted(&self, table: &str, set: &str) -> bool {
        self.options.wanted.matches(|name, value| match name {
            "list" => is_of_list(set, table, value),
            _ => value == table,
        })
    }

    /// Whether elements were read of a set, or of any set of a table, or of any.
    fn has_read(&self, table: Option<&str>, set: Option<&str>) -> bool {
        match (table, set) {
            (None, _) => !self.read_tables.is_empty(),
            (Some(table), None) => self.read_tables.contains(&shorten(table)),
            (Some(table), Some(set)) => self.known.get(&(shorten(table), shorten(set))).is_some_and(|set| set.is_read),
        }
    }

    /// A statement without braces.
    fn statement(&mut self, words: &[String], line: u64) {
        const EMPTIES: &str = "it takes elements out of a set that were read before: write it before them";
        let text = words.join(" ");
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if let ["flush" | "add" | "create" | "delete" | "destroy" | "include" | "define", ..] = words[..] {
            self.is_ruleset = true;
        }
        let is_top = self.scopes.is_empty();
        let in_set = self.scopes.last() == Some(&Scope::Set);
        match words[..] {
            ["include", ..] if self.scopes.last() != Some(&Scope::Other) => {
                self.bad(
                    line,
                    &text,
                    "it includes a file, which is not read: read that file too, or copy its elements here",
                );
            }
            ["elements", "=", ..] if in_set || is_top => {
                self.bad(line, &text, "variables are not read: write the elements here, in braces");
            }
            ["add" | "create", "element", ..] if is_top => {
                self.bad(line, &text, "variables are not read: write the elements here, in braces");
            }
            ["delete" | "destroy", "element", ref path @ ..] if is_top => self.takes_out(line, &text, path),
            ["flush", "ruleset", ..] if is_top && self.has_read(None, None) => self.bad(line, &text, EMPTIES),
            ["delete" | "destroy", "table", .., table] if is_top && self.has_read(Some(table), None) => {
                self.bad(line, &text, EMPTIES);
            }
            ["flush" | "delete" | "destroy" | "reset", "set" | "map", ref path @ ..] if is_top => {
                let (table, set) = table_and_name(path).map_or((None, None), |(table, set)| (Some(table), Some(set)));
                if words[0] != "reset" && self.has_read(table, set) {
                    self.bad(line, &text, EMPTIES);
                }
            }
            ["type", ref types @ ..] if in_set => {
                let key = types.iter().take_while(|word| **word != ":");
                self.set.kind = Kind::of(key.copied().filter(|word| *word != "."));
            }
            // An expression instead of a type, as in ip saddr, or in ip saddr . tcp dport.
            ["typeof", ref expression @ ..] if in_set => {
                let key: Vec<_> = expression.iter().copied().take_while(|word| *word != ":").collect();
                self.set.kind = match key[..] {
                    _ if key.contains(&".") => Kind::Concatenated,
                    ["ether", ..] => Kind::NoAddresses,
                    [.., "saddr" | "daddr" | "nexthop"] | [.., "saddr" | "daddr", "ip"] => Kind::Addresses,
                    _ => Kind::NoAddresses,
                };
            }
            ["timeout", duration] if in_set => match after_timeout(self.options.now, duration) {
                Some(until) => self.set.until = Some(until),
                None => self.bad(line, &text, "it is not a time: write it as 1d2h3m4s"),
            },
            _ => {}
        }
    }

    /// A command that takes elements out of the set with this path.
    fn takes_out(&mut self, line: u64, text: &str, path: &[&str]) {
        if table_and_name(path).is_none_or(|(table, set)| self.is_wanted(table, set)) {
            self.bad(line, text, "it takes elements out of a set: leave out the elements instead");
        }
    }

    fn open(&mut self, words: &[String], line: u64) -> Result<(), ReadError> {
        let text = words.join(" ");
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let words = words.strip_prefix(&["add"]).or_else(|| words.strip_prefix(&["create"])).unwrap_or(&words);
        let (is_top, around) = (self.scopes.is_empty(), self.scopes.last().copied());
        let scope = match *words {
            ["table", .., name] if is_top => {
                self.table = shorten(name);
                Scope::Table
            }
            ["set" | "map", ref path @ ..] if !path.is_empty() && (is_top || around == Some(Scope::Table)) => {
                let name = path.last().copied().unwrap_or_default();
                let table = table_and_name(path).map_or_else(|| self.table.clone(), |(table, _)| shorten(table));
                self.set = Set { name: shorten(name), table, is_map: words[0] == "map", ..Set::default() };
                Scope::Set
            }
            ["elements", "="] if is_top || around == Some(Scope::Set) => {
                self.is_ruleset = true;
                return self.elements();
            }
            ["element", ref path @ ..] if is_top => {
                self.is_ruleset = true;
                let (table, name) =
                    table_and_name(path).map_or_else(Default::default, |(table, name)| (shorten(table), shorten(name)));
                // What the set is was said before, if it is in this file.
                let known = self.known.get(&(table.clone(), name.clone())).cloned();
                self.set = known.unwrap_or_else(|| Set { name, table, ..Set::default() });
                self.elements()?;
                let set = std::mem::take(&mut self.set);
                return self.keep(set);
            }
            ["delete" | "destroy", "element", ref path @ ..] if is_top => {
                self.is_ruleset = true;
                self.takes_out(line, &text, path);
                Scope::Other
            }
            _ => Scope::Other,
        };
        self.is_ruleset |= scope != Scope::Other;
        if self.scopes.len() == MAX_DEPTH {
            let why = format!("line {} has more than {MAX_DEPTH} braces around it", self.tokens.line());
            return Err(ReadError::NotThisFormat { format: Format::Nftables, why });
        }
        self.scopes.push(scope);
        Ok(())
    }

    /// Reads elements up to the brace that closes them.
    fn elements(&mut self) -> Result<(), ReadError> {
        let is_read = self.is_wanted(&self.set.table, &self.set.name);
        let mut element = Element::default();
        let mut inner_braces = 0_u64;
        while self.goes_on {
            let token = self.tokens.next_on_any_line()?;
            match token {
                Token::Mark(b'}') if inner_braces > 0 => {
                    inner_braces -= 1;
                    continue;
                }
                Token::Mark(b',') if inner_braces > 0 => continue,
                Token::Mark(b',' | b'}') | Token::End => {
                    let element = std::mem::take(&mut element);
                    if is_read && let Some(entry) = element.entry(&self.set, self.options.now) {
                        self.set.is_read |= entry.is_ok();
                        self.goes_on = (self.each)(entry);
                    }
                }
                Token::Bad(why) => element.bad = Some(why.to_owned()),
                Token::Mark(b'{') => {
                    inner_braces += 1;
                    element.bad = Some("it has braces inside".to_owned());
                }
                // A line that continues, and the text of a comment.
                Token::Word if self.tokens.text() == "\\" => continue,
                Token::Quoted if element.words.last().is_some_and(|word| word == "comment") => continue,
                Token::Mark(_) | Token::Word | Token::Quoted | Token::NewLine => {}
            }
            match token {
                Token::Mark(b'}') => break,
                Token::End => {
                    self.goes_on = self.goes_on && (self.each)(Err(BadEntry::cut_off(self.tokens.line(), "elements")));
                    // Nothing follows, and no braces are to be closed.
                    self.goes_on = false;
                }
                Token::Mark(b',') => {}
                _ => {
                    if element.words.is_empty() {
                        element.line = self.tokens.line();
                    }
                    // An address, a timeout, what is left of it, a counter, and some more.
                    if element.words.len() < MAX_WORDS {
                        element.words.push(self.tokens.text().to_owned());
                    } else {
                        element.bad = Some("it has too many words".to_owned());
                    }
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Element {
    line: u64,
    words: Vec<String>,
    bad: Option<String>,
}

impl Element {
    /// `None` if there is nothing between two commas.
    fn entry(self, set: &Set, now: LogTime) -> Option<Result<Block, BadEntry>> {
        if self.words.is_empty() && self.bad.is_none() {
            return None;
        }
        let words: Vec<_> = self.words.iter().map(String::as_str).collect();
        let block = match self.bad {
            // What is not an address is not expected to be one.
            None if set.kind == Kind::NoAddresses && !set.is_map => match block(&words, set, now) {
                Ok(_) => Err(NOT_OF_ADDRESSES.to_owned()),
                Err(_) => return None,
            },
            None => {
                let why_not = why_not(set.kind, set.is_map || words.contains(&":"));
                why_not.map_or_else(|| block(&words, set, now), |why| Err(why.to_owned()))
            }
            Some(why) => Err(why),
        };
        Some(block.map_err(|why| BadEntry::in_line(self.line, &words.join(" "), why)))
    }
}

fn block(words: &[&str], set: &Set, now: LogTime) -> Result<Block, String> {
    let end = words.iter().position(|word| ATTRIBUTES.contains(word));
    let (key, attributes) = words.split_at(end.unwrap_or(words.len()));
    if key.contains(&".") {
        return Err("it is an address with something else: only plain addresses are read".to_owned());
    }
    // Several words are only those around a hyphen.
    let range = lines::range(&key.join(" ")).map_err(|error| error.to_string())?;
    let (mut timeout, mut expires) = (None, None);
    for pair in attributes.windows(2) {
        let end = match pair {
            ["timeout", text] => after_timeout(now, text).map(|until| timeout = Some(until)),
            ["expires", text] => after(now, text).map(|until| expires = Some(until)),
            _ => continue,
        };
        end.ok_or_else(|| format!("{} {:?} is not a time: write it as 1d2h3m4s", pair[0], shorten(pair[1])))?;
    }
    Ok(Block { range, until: until(timeout, expires, set.until) })
}

/// The name of a set, of this family.
pub(crate) fn set_name(name: &str, family: u8) -> String {
    format!("{}-v{family}", names::with_letter_first(name))
}

/// Empties the sets and fills them again, which nft does in one transaction. Rules that use the sets stay.
fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let sets = [4, 6].map(|family| set_name(&options.name, family));
    writeln!(out, "table inet {TABLE} {{")?;
    for (set, kind) in sets.iter().zip(["ipv4_addr", "ipv6_addr"]) {
        writeln!(out, "\tset {set} {{\n\t\ttype {kind}\n\t\tflags interval, timeout\n\t}}")?;
    }
    writeln!(out, "}}")?;
    for set in &sets {
        writeln!(out, "flush set inet {TABLE} {set}")?;
    }
    let mut open: Option<&String> = None;
    for Block { range, until } in blocks {
        let [v4, v6] = &sets;
        let set = if matches!(range, IpRange::V4(_)) { v4 } else { v6 };
        if open != Some(set) {
            if open.is_some() {
                writeln!(out, "}}")?;
            }
            writeln!(out, "add element inet {TABLE} {set} {{")?;
            open = Some(set);
        }
        write!(out, "\t{}", range.shortest_text())?;
        if let Some(seconds) = ends::seconds_left(options.now, until, MAX_TIMEOUT) {
            let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
            write!(out, " timeout {days}d{}h{}m{}s", hours % 24, minutes % 60, seconds % 60)?;
        }
        writeln!(out, ",")?;
    }
    if open.is_some() {
        writeln!(out, "}}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_entries, entries, entries_with, in_seconds};

    #[test]
    fn what_nft_lists_is_read() {
        let file = "table inet filter {\n\tset blocked {\n\t\ttype ipv4_addr\n\t\tflags interval,timeout\n\
            \t\telements = { 192.0.2.1, 198.51.100.0/24,\n\
            \t\t\t     203.0.113.5-203.0.113.9, 192.0.3.1 timeout 1h expires 59m30s comment \"a, b } c\",\n\
            \t\t\t     192.0.3.2 timeout 40d expires 39d23h59m59s500ms, 192.0.3.3 counter packets 0 bytes 0 timeout 10s }\n\t}\n\n\
            \tset blocked6 {\n\t\ttype ipv6_addr; flags interval; auto-merge\n\t\telements = { 2001:db8::/32, fe80::1 }\n\t}\n\n\
            \tset ports {\n\t\ttype inet_service\n\t\telements = { 22, 80 }\n\t}\n\n\
            \tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\
            \t\tip saddr @blocked drop\n\t\tip saddr { 10.0.0.1, 10.0.0.2 } tcp dport { 22 } drop\n\t}\n}\n";
        assert_entries(
            &entries(Format::Nftables, file),
            &[
                "192.0.2.1",
                "198.51.100.0/24",
                "203.0.113.5-203.0.113.9",
                &format!("192.0.3.1 until {}", in_seconds(59 * 60 + 30)),
                "192.0.3.2 until 2027-01-05T11:59:59.5Z",
                &format!("192.0.3.3 until {}", in_seconds(10)),
                "2001:db8::/32",
                "fe80::1",
            ],
        );
        let found = entries_with(Format::Nftables, file, &[("list", "blocked6"), ("table", "filter")]).unwrap();
        assert_entries(&found, &["2001:db8::/32", "fe80::1"]);
    }

    #[test]
    fn what_nft_loads_is_read() {
        let file = "#!/usr/sbin/nft -f\nflush ruleset\nadd table ip a\nadd set ip a s { type ipv4_addr; timeout 1m; }\n\
            add set ip a p { type inet_service; }\nadd element ip a p { 22 }\n\
            add element ip a s { 192.0.2.1, 192.0.2.2 timeout 5s, 192.0.2.3 timeout 0s, }\n\
            table ip b { set s { typeof ip saddr; elements = { 192.0.2.4, # one\n 192.0.2.5 } } }\n";
        assert_entries(
            &entries(Format::Nftables, file),
            &[
                &format!("192.0.2.1 until {}", in_seconds(60)),
                &format!("192.0.2.2 until {}", in_seconds(5)),
                "192.0.2.3",
                "192.0.2.4",
                "192.0.2.5",
            ],
        );
        assert_entries(&entries(Format::Nftables, "elements = { 192.0.2.1 }"), &["192.0.2.1"]);
    }

    #[test]
    fn what_takes_elements_out_again_is_bad() {
        let file = "flush ruleset\ndestroy table ip a\ntable ip a { set s { type ipv4_addr; elements = { 192.0.2.1 } } }\n\
            delete element ip a s { 192.0.2.1 }\ndestroy element ip a s { 192.0.2.1 }\nflush set ip a s\nflush set ip a other\n\
            delete set ip a s\ndelete table ip a\nflush ruleset\nflush set ip b t\nadd element ip b t { 192.0.2.2 }\nflush set ip b t\n";
        let bad = "it takes elements out";
        let lines = [4, 5, 6, 8, 9, 10, 13].map(|line| format!("line {line}: ... {bad}"));
        let [a, b, c, d, e, f, g] = &lines;
        assert_entries(&entries(Format::Nftables, file), &["192.0.2.1", a, b, c, d, e, f, "192.0.2.2", g]);
        let found = entries_with(Format::Nftables, file, &[("table", "b")]).unwrap();
        assert_entries(&found, &["192.0.2.2", g]);
    }

    #[test]
    fn what_is_elsewhere_is_bad() {
        let file = "define x = { 192.0.2.1, 192.0.2.2 }\ninclude \"other.nft\"\ntable ip a {\ninclude \"x\"\nset s {\ntype ipv4_addr\nelements = $x\n}\n\
            set t {\ntype ipv4_addr\nelements = { $x, 192.0.2.3 }\n}\n}\nadd element ip a s $x\n";
        assert_entries(
            &entries(Format::Nftables, file),
            &[
                "line 2: ... it includes a file",
                "line 4: ... it includes a file",
                "line 7: ... variables are not read",
                "line 11: \"$x\": ... is not",
                "192.0.2.3",
                "line 14: ... variables are not read",
            ],
        );
    }

    #[test]
    fn quoted_elements_are_elements_and_comments_hide_none() {
        let file = "add element ip a s { \"192.0.2.1\", 192.0.2.2 comment \"\\\", 192.0.2.3 comment \"x, 192.0.2.9\" timeout 5s, \\\n 192.0.2.4 }\n";
        let last = format!("192.0.2.3 until {}", in_seconds(5));
        assert_entries(&entries(Format::Nftables, file), &["192.0.2.1", "192.0.2.2", &last, "192.0.2.4"]);
    }

    #[test]
    fn sets_of_expressions_are_read() {
        for expression in
            ["ip saddr", "ip6 daddr", "ct original ip saddr", "ct reply daddr", "arp saddr ip", "rt ip nexthop"]
        {
            let file = format!("table ip a {{ set s {{ typeof {expression}; elements = {{ 192.0.2.1 }} }} }}");
            assert_entries(&entries(Format::Nftables, file), &["192.0.2.1"]);
        }
        let file = "table ip a {\nset s { typeof ether saddr; elements = { 00:11:22:33:44:55 } }\nset p { typeof tcp dport; elements = { 22 } }\n\
            set x { typeof what ever\nelements = { 192.0.2.1, x } }\nset c { typeof ip saddr . tcp dport\nelements = { 192.0.2.1 . 22 } }\n}\n";
        assert_entries(
            &entries(Format::Nftables, file),
            &["line 5: ... its set is not known to be one of addresses", "line 7: ... with something else"],
        );
    }

    #[test]
    fn an_element_that_has_expired_has_ended_and_only_a_timeout_of_0_is_none() {
        let file = "add element ip a s { 192.0.2.1 timeout 1h expires 0s, 192.0.2.2 timeout 0s, 192.0.2.3 expires 0 }";
        let now = in_seconds(0);
        let ended = ["192.0.2.1", "192.0.2.3"].map(|address| format!("{address} until {now}"));
        assert_entries(&entries(Format::Nftables, file), &[&ended[0], "192.0.2.2", &ended[1]]);
    }

    #[test]
    fn words_are_not_glued_together() {
        let file = "add element ip a s { 192.0.2.4 5, 192.0.2.1 - 192.0.2.9, 192.0.3.1- 192.0.3.9, 192.0.2. 7 }";
        assert_entries(
            &entries(Format::Nftables, file),
            &[
                "line 1: \"192.0.2.4 5\": ... is not",
                "192.0.2.1-192.0.2.9",
                "192.0.3.1-192.0.3.9",
                "line 1: \"192.0.2. 7\": ... is not",
            ],
        );
    }

    #[test]
    fn what_is_written_is_chosen_by_the_name_of_its_list() {
        let blocks = crate::testing::blocks(&["192.0.2.0/24", "2001:db8::/32"]);
        for format in [Format::Nftables, Format::NftablesJson] {
            let file = crate::testing::written(format, &blocks);
            let chosen = |name| entries_with(format, &file, &[("list", name)]).unwrap();
            assert_entries(&chosen("default"), &["192.0.2.0/24", "2001:db8::/32"]);
            assert_entries(&chosen("default-v4"), &["192.0.2.0/24"]);
            assert!(chosen("Default").is_empty() && chosen("other").is_empty());
        }
    }

    #[test]
    fn what_is_not_a_plain_address_is_bad() {
        let file = "table ip a {\nset s {\ntype ipv4_addr . inet_service\nelements = { 192.0.2.1 . 80 }\n}\n\
            map m {\ntype ipv4_addr : verdict\nelements = { 192.0.2.1 : drop }\n}\n\
            set t {\ntype ipv4_addr\nelements = { 192.0.2.7/24,\nhost, 192.0.2.1 . 80,\n192.0.2.1 timeout x, { 1 }, \"a\n, 192.0.2.2 }\n}\n}\n";
        assert_entries(
            &entries(Format::Nftables, file),
            &[
                "line 4: \"192.0.2.1 . 80\": its set is of addresses with something else",
                "line 8: \"192.0.2.1 : drop\": it is an element of a map",
                "line 12: \"192.0.2.7/24\": ... host bits",
                "line 13: \"host\"",
                "line 13: \"192.0.2.1 . 80\": it is an address with something else",
                "line 14: ... timeout \"x\" is not a time",
                "line 14: ... braces inside",
                "line 14: ... the quote is not closed",
                "192.0.2.2",
            ],
        );
    }

    #[test]
    fn a_file_that_was_cut_off_is_bad() {
        let file = "table ip a {\nset t {\ntype ipv4_addr\nelements = { 192.0.2.1,\n";
        assert_entries(&entries(Format::Nftables, file), &["192.0.2.1", "line 5: ... cut off"]);
        assert!(entries_with(Format::Nftables, "192.0.2.1\n", &[]).is_err());
        assert!(entries_with(Format::Nftables, "{".repeat(1000), &[]).is_err());
        assert!(entries(Format::Nftables, "# nothing\n").is_empty());
    }

    #[test]
    fn an_element_on_a_line_of_any_length_is_read() {
        let elements = vec!["192.0.2.1"; 100_000].join(", ");
        let found = entries(Format::Nftables, format!("add element ip a s {{ {elements} }}"));
        assert_eq!(found.len(), 100_000);
    }
}
