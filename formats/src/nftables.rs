//! Sets of nftables as text: what `nft list set` and `nft list ruleset` print, and `nft -f` loads.
//!
//! Entries are read from named sets of addresses, of which a file may have many, and from `add element`. Sets without a name, which are
//! part of a rule, and sets of other things, such as ports, have none.

use std::collections::HashMap;
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

/// The most sets that are remembered, for elements that are added to them later in the file.
const MAX_KNOWN: usize = 4096;
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

/// Reads `1h`, as the end of what lasts an hour from now. What never ends is also written as 0.
fn after(now: LogTime, text: &str) -> Option<Until> {
    if text == "never" {
        return Some(Until::FOREVER);
    }
    let duration = ends::duration(text)?;
    Some(if duration.is_zero() { Until::FOREVER } else { ends::after(now, duration) })
}

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
    table: String,
    /// Whether anything of a ruleset was found.
    is_ruleset: bool,
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let tokens = Tokens::new(input, Syntax { marks: b"{};,=", has_block_comments: false });
    let (set, table) = (Set::default(), String::new());
    Reader { tokens, options, each, scopes: Vec::new(), set, known: HashMap::new(), table, is_ruleset: false }.read()
}

impl Reader<'_, '_> {
    fn read(mut self) -> Result<(), ReadError> {
        // The words since the last line, brace or semicolon. Their number does not matter beyond those that are looked at.
        let mut words: Vec<String> = Vec::new();
        let mut is_empty = true;
        loop {
            let token = self.tokens.next()?;
            is_empty &= matches!(token, Token::NewLine | Token::End);
            match token {
                Token::Word | Token::Quoted => {
                    if words.len() < 16 {
                        words.push(self.tokens.text().to_owned());
                    }
                }
                Token::Mark(b'{') => {
                    if !self.open(&words)? {
                        return Ok(());
                    }
                    words.clear();
                }
                Token::Mark(b'}') => {
                    self.statement(&words);
                    words.clear();
                    if self.scopes.pop() == Some(Scope::Set) {
                        let set = std::mem::take(&mut self.set);
                        if self.known.len() < MAX_KNOWN {
                            self.known.insert((set.table.clone(), set.name.clone()), set);
                        }
                    }
                }
                Token::Mark(b'=') => words.push("=".to_owned()),
                Token::Mark(b',') => {}
                Token::Mark(_) | Token::NewLine => {
                    self.statement(&words);
                    words.clear();
                }
                Token::Bad(why) => {
                    let bad = BadEntry::in_line(self.tokens.line(), self.tokens.text(), why);
                    if !(self.each)(Err(bad)) {
                        return Ok(());
                    }
                }
                Token::End => break,
            }
        }
        if !self.scopes.is_empty() {
            (self.each)(Err(BadEntry::cut_off(self.tokens.line(), "braces")));
        } else if !self.is_ruleset && !is_empty {
            let why = "it has neither a table nor a set, as in table inet NAME { set NAME { ... } }".to_owned();
            return Err(ReadError::NotThisFormat { format: Format::Nftables, why });
        }
        Ok(())
    }

    /// A statement without braces.
    fn statement(&mut self, words: &[String]) {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if let ["flush" | "add" | "create" | "delete" | "destroy", ..] = words[..] {
            self.is_ruleset = true;
        }
        if self.scopes.last() != Some(&Scope::Set) {
            return;
        }
        match words[..] {
            ["type", ref types @ ..] => {
                let key = types.iter().take_while(|word| **word != ":");
                self.set.kind = Kind::of(key.copied().filter(|word| *word != "."));
            }
            // An expression instead of a type, as in ip saddr, or in ip saddr . tcp dport.
            ["typeof", ref expression @ ..] => {
                let key: Vec<_> = expression.iter().copied().take_while(|word| *word != ":").collect();
                self.set.kind = match key[..] {
                    ["ip" | "ip6", "saddr" | "daddr"] => Kind::Addresses,
                    _ if key.contains(&".") => Kind::Concatenated,
                    _ => Kind::NoAddresses,
                };
            }
            ["timeout", duration] => self.set.until = after(self.options.now, duration),
            _ => {}
        }
    }

    /// Returns whether to read on.
    fn open(&mut self, words: &[String]) -> Result<bool, ReadError> {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let words = words.strip_prefix(&["add"]).or_else(|| words.strip_prefix(&["create"])).unwrap_or(&words);
        let is_family = |word: &str| matches!(word, "ip" | "ip6" | "inet" | "bridge" | "netdev" | "arp");
        let scope = match *words {
            ["table", .., name] => {
                self.table = shorten(name);
                Scope::Table
            }
            ["set" | "map", .., name] => {
                let table = match words {
                    [_, family, table, _] if is_family(family) => shorten(table),
                    [_, table, _] => shorten(table),
                    _ => self.table.clone(),
                };
                self.set = Set { name: shorten(name), table, is_map: words[0] == "map", ..Set::default() };
                Scope::Set
            }
            ["elements", "="] => {
                self.is_ruleset = true;
                return self.elements();
            }
            ["element", .., table, name] => {
                self.is_ruleset = true;
                // What the set is was said before, if it is in this file.
                let known = self.known.get(&(shorten(table), shorten(name))).cloned();
                self.set =
                    known.unwrap_or_else(|| Set { name: shorten(name), table: shorten(table), ..Set::default() });
                return self.elements();
            }
            _ => Scope::Other,
        };
        self.is_ruleset |= scope != Scope::Other;
        if self.scopes.len() == MAX_DEPTH {
            let why = format!("line {} has more than {MAX_DEPTH} braces around it", self.tokens.line());
            return Err(ReadError::NotThisFormat { format: Format::Nftables, why });
        }
        self.scopes.push(scope);
        Ok(true)
    }

    /// Reads elements up to the brace that closes them. Returns whether to read on.
    fn elements(&mut self) -> Result<bool, ReadError> {
        let is_wanted = self.options.wanted.matches(|name, value| match name {
            "list" => value.eq_ignore_ascii_case(&self.set.name),
            _ => value.eq_ignore_ascii_case(&self.set.table),
        });
        let is_read = is_wanted && self.set.kind != Kind::NoAddresses;
        let mut element = Element::default();
        let mut inner_braces = 0_u64;
        loop {
            let token = self.tokens.next_on_any_line()?;
            match token {
                Token::Mark(b'}') if inner_braces > 0 => {
                    inner_braces -= 1;
                    continue;
                }
                Token::Mark(b',' | b'}') | Token::End => {
                    let element = std::mem::take(&mut element);
                    if is_read
                        && let Some(entry) = element.entry(&self.set, self.options.now)
                        && !(self.each)(entry)
                    {
                        return Ok(false);
                    }
                }
                Token::Bad(why) => element.bad = Some(why.to_owned()),
                Token::Mark(b'{') => {
                    inner_braces += 1;
                    element.bad = Some("it has braces inside".to_owned());
                }
                Token::Quoted => continue,
                Token::Mark(_) | Token::Word | Token::NewLine => {}
            }
            match token {
                Token::Mark(b'}') => return Ok(true),
                Token::End => {
                    (self.each)(Err(BadEntry::cut_off(self.tokens.line(), "elements")));
                    return Ok(false);
                }
                Token::Mark(b',') => {}
                _ => {
                    if element.words.is_empty() {
                        element.line = self.tokens.line();
                    }
                    // An address, a timeout, what is left of it, a counter, and some more.
                    if element.words.len() < 32 {
                        element.words.push(self.tokens.text().to_owned());
                    }
                }
            }
        }
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
        let why_not = self.bad.or_else(|| why_not(set.kind, set.is_map || words.contains(&":")).map(str::to_owned));
        let block = why_not.map_or_else(|| block(&words, set, now), Err);
        Some(block.map_err(|why| BadEntry::in_line(self.line, &words.join(" "), why)))
    }
}

fn block(words: &[&str], set: &Set, now: LogTime) -> Result<Block, String> {
    let end = words.iter().position(|word| ATTRIBUTES.contains(word));
    let (key, attributes) = words.split_at(end.unwrap_or(words.len()));
    if key.contains(&".") {
        return Err("it is an address with something else: only plain addresses are read".to_owned());
    }
    let range = lines::range(&key.concat()).map_err(|error| error.to_string())?;
    let (mut timeout, mut expires) = (None, None);
    for pair in attributes.windows(2) {
        let end = match pair {
            ["timeout", _] => &mut timeout,
            ["expires", _] => &mut expires,
            _ => continue,
        };
        let unknown = || format!("{} {:?} is not a time: write it as 1d2h3m4s", pair[0], pair[1]);
        *end = Some(after(now, pair[1]).ok_or_else(unknown)?);
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
