//! What nginx reads: `deny` lines (ngx_http_access_module), and `geo` blocks (ngx_http_geo_module).
//!
//! nginx ignores the host bits of a block, and so does this: `192.0.2.7/24` is `192.0.2.0/24`.

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};

use edgefold::{Block, Until};
use edgefold_table::{IpRange, shorten};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{at_most, head_entries};
use crate::nested::{Nested, Says, Valid};
use crate::tokens::{Ended, Statement, Syntax, Tokens, statement};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address, names};

pub(crate) const NGINX_DENY: About = About {
    name: "nginx-deny",
    describe: "deny lines of nginx",
    read: Some(read_deny),
    write: Some(write_deny),
    looks_like: looks_like_deny,
    ..About::BASE
};

pub(crate) const NGINX_GEO: About = About {
    name: "nginx-geo",
    describe: "a geo block of nginx",
    read: Some(read_geo),
    write: Some(write_geo),
    fields: &["list", "value"],
    looks_like: looks_like_geo,
    ..About::BASE
};

/// The most bytes of a file with geo blocks, whose entries are all in memory: about three million of them.
const MAX_GEO_BYTES: u64 = 64 << 20;
/// The most `allow` lines that are remembered until it is clear whether they matter.
const MAX_ALLOWED: usize = 100;
/// The addresses of a family.
const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

const SYNTAX: Syntax = Syntax { marks: b"{};", quotes: b"\"'", has_escapes: true, has_block_comments: false };

fn all() -> impl Iterator<Item = IpRange> {
    ALL.iter().filter_map(|all| all.parse().ok())
}

fn first_line(head: &[u8]) -> &str {
    head_entries(head).next().unwrap_or_default()
}

fn looks_like_deny(head: &[u8]) -> bool {
    let mut words = first_line(head).split_ascii_whitespace();
    matches!(words.next(), Some("deny" | "allow")) && words.next().is_some_and(|word| word.ends_with(';'))
}

fn looks_like_geo(head: &[u8]) -> bool {
    let mut words = first_line(head).split_ascii_whitespace();
    words.next() == Some("geo") && words.next().is_some_and(|word| word.starts_with('$'))
}

/// Reads `deny` lines, of which the first that matches an address is valid: a list has no exceptions, so an `allow` before a `deny` of the
/// same addresses is bad.
fn read_deny(input: &mut dyn BufRead, _: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut tokens = Tokens::new(input, SYNTAX);
    let mut allowed: Vec<(u64, IpRange)> = Vec::new();
    let mut allows_all = None;
    let mut depth = 0_u64;
    loop {
        let statement = statement(&mut tokens, &[])?;
        let text = statement.text();
        let mut bad = |why: String| each(Err(BadEntry::in_line(statement.line, &text, why)));
        let is_inside = depth > 0;
        match statement.ended {
            Ended::Open => depth += 1,
            Ended::Close => depth = depth.saturating_sub(1),
            Ended::Semicolon | Ended::NewLine | Ended::File => {}
        }
        if statement.words.is_empty() {
            if statement.ended == Ended::File {
                break;
            }
            continue;
        }
        let goes_on = match (statement.words()[..].as_ref(), statement.ended) {
            _ if is_inside => true,
            (_, Ended::Open) => {
                bad("it begins a block, whose lines are valid in one place only: copy the deny lines to a file of their own".to_owned())
            }
            _ if statement.bad.is_some() => bad(statement.bad.unwrap_or_default().to_owned()),
            (_, Ended::File | Ended::Close) => bad("a semicolon is missing at its end".to_owned()),
            (["allow", "all"], _) => {
                allows_all.get_or_insert(statement.line);
                true
            }
            // Unix sockets have no addresses.
            (["allow", "unix:"], _) => true,
            (["allow", address], _) if allowed.len() < MAX_ALLOWED => match address::masked_range(address) {
                Ok(range) => {
                    allowed.push((statement.line, range));
                    true
                }
                Err(why) => bad(why),
            },
            (["allow", _], _) => bad(EXCEPTION.to_owned()),
            (["deny", _], _) if allows_all.is_some() => {
                let line = allows_all.unwrap_or_default();
                bad(format!("nginx does not get here, because line {line} allows all: remove one of the two"))
            }
            (["deny", "unix:"], _) => bad("unix sockets have no address: remove it".to_owned()),
            (["deny", address], _) => {
                let ranges: Result<Vec<_>, _> = match *address {
                    "all" => Ok(all().collect()),
                    address => address::masked_range(address).map(|range| vec![range]),
                };
                let ranges = ranges.unwrap_or_default();
                let around = allowed.iter().find(|(_, allowed)| ranges.iter().any(|range| contains(*allowed, *range)));
                if let Some((line, _)) = around {
                    bad(format!("nginx does not get here, because line {line} allows these addresses: remove one of the two"))
                } else if ranges.is_empty() {
                    bad(address::masked_range(address).err().unwrap_or_default())
                } else {
                    let is_exception = |(_, allowed): &mut (u64, IpRange)| ranges.iter().any(|range| overlaps(*allowed, *range));
                    let mut exceptions = allowed.extract_if(.., is_exception).map(|(line, allowed)| {
                        BadEntry::in_line(line, &format!("allow {}", allowed.shortest_text()), EXCEPTION)
                    });
                    exceptions.all(|bad| each(Err(bad)))
                        && ranges.iter().all(|range| each(Ok(Block { range: *range, until: Until::FOREVER })))
                }
            }
            _ => bad("it is neither deny nor allow with one address: write deny 192.0.2.0/24;".to_owned()),
        };
        if !goes_on {
            return Ok(());
        }
    }
    if depth > 0 {
        each(Err(BadEntry::cut_off(tokens.line(), "braces")));
    }
    Ok(())
}

const EXCEPTION: &str = "it is an exception from the deny lines after it, which a list cannot have: put it on a list that exempts its addresses";

fn contains(around: IpRange, range: IpRange) -> bool {
    around.contains(range.first()) && around.contains(range.last())
}

fn overlaps(one: IpRange, other: IpRange) -> bool {
    one.contains(other.first()) || other.contains(one.first())
}

/// nginx cannot read 255.255.255.255 here, by any name, because its parser returns that number for errors. No client has it.
fn write_deny(blocks: &mut dyn Iterator<Item = Block>, _: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    for cidr in blocks.flat_map(|block| address::cidrs(block.range)) {
        if cidr.addr() == IpAddr::V4(Ipv4Addr::BROADCAST) {
            writeln!(out, "# 255.255.255.255 is left out: nginx does not read it.")?;
        } else {
            writeln!(out, "deny {cidr};")?;
        }
    }
    Ok(())
}

/// Reads the entries whose value is not empty, `0` or the default, or that have the wanted value. The entry with the longest prefix is
/// valid for an address, so an entry with another value inside one that is listed cuts a hole in it: all entries are in memory.
///
/// A file that is included in a block has entries without a block around them.
fn read_geo(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let Some(end) = at_most(input, MAX_GEO_BYTES, |input| read_blocks(input, options, each))? else { return Ok(()) };
    if end.is_nothing {
        let why = "it has neither a geo block nor entries of one, as in 192.0.2.0/24 1;".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::NginxGeo, why });
    }
    if end.block.finish(each)
        && let Some(line) = end.cut_off
    {
        each(Err(BadEntry::cut_off(line, "braces")));
    }
    Ok(())
}

/// What is left at the end of a file.
struct End {
    block: Geo,
    /// Whether nothing of a block was found in a file that is not empty.
    is_nothing: bool,
    /// The last line, if braces are open there.
    cut_off: Option<u64>,
}

/// Passes on what the blocks list, except for the last; `None` if no more is wanted.
fn read_blocks(
    input: &mut dyn BufRead,
    options: &ReadOptions,
    each: &mut EachEntry<'_>,
) -> Result<Option<End>, ReadError> {
    let mut tokens = Tokens::new(input, SYNTAX);
    // A file that is included names no variable, and cannot be chosen by it.
    let mut block = Geo::new(String::new());
    let mut is_geo = false;
    let mut is_empty = true;
    let mut is_open = false;
    let mut ignored = 0_u64;
    loop {
        let statement = statement(&mut tokens, &[])?;
        is_empty &= statement.words.is_empty() && statement.ended == Ended::File;
        let text = statement.text();
        let mut bad = |why: &str| each(Err(BadEntry::in_line(statement.line, &text, why)));
        let words = statement.words();
        let goes_on = match (&words[..], statement.ended) {
            _ if ignored > 0 => {
                match statement.ended {
                    Ended::Open => ignored += 1,
                    Ended::Close => ignored -= 1,
                    _ => {}
                }
                true
            }
            (["geo", variable] | ["geo", _, variable], Ended::Open) if !is_open => {
                (is_geo, is_open) = (true, true);
                if !std::mem::replace(&mut block, Geo::new(variable.trim_start_matches('$').to_owned())).finish(each) {
                    return Ok(None);
                }
                true
            }
            (_, Ended::Open) => {
                ignored = 1;
                !is_open || bad("it has braces inside of a geo block")
            }
            ([], _) => true,
            _ if statement.bad.is_some() => bad(statement.bad.unwrap_or_default()),
            (_, Ended::File | Ended::Close) => bad("a semicolon is missing at its end"),
            _ => match block.add(&statement, options) {
                Ok(is_entry) => {
                    is_geo |= is_entry;
                    true
                }
                Err(why) => {
                    is_geo |= is_open;
                    bad(&why)
                }
            },
        };
        if !goes_on {
            return Ok(None);
        }
        if statement.ended == Ended::Close && ignored == 0 {
            is_open = false;
            if !std::mem::replace(&mut block, Geo::new(String::new())).finish(each) {
                return Ok(None);
            }
        }
        if statement.ended == Ended::File {
            break;
        }
    }
    let cut_off = (is_open || ignored > 0).then_some(tokens.line());
    Ok(Some(End { block, is_nothing: !is_geo && !is_empty, cut_off }))
}

/// A block.
struct Geo {
    variable: String,
    /// The default, which comes first where it matters: entries before it are listed unless they are empty or 0.
    default: String,
    entries: Nested,
}

impl Geo {
    fn new(variable: String) -> Self {
        Self { variable, default: String::new(), entries: Nested::new(Valid::Last) }
    }

    /// Returns whether it is an entry or a parameter of a block.
    fn add(&mut self, statement: &Statement, options: &ReadOptions) -> Result<bool, String> {
        match statement.words()[..] {
            ["ranges" | "proxy_recursive" | "volatile"] | ["proxy", _] => Ok(true),
            ["include", _] => {
                Err("it includes a file, which is not read: read that file too, or copy its entries here".to_owned())
            }
            ["delete", range] => {
                self.entries.add(address::masked_range(range)?, Says::Nothing, statement.line);
                Ok(true)
            }
            ["default", value] => {
                self.default = shorten(value);
                let says = self.says(value, options);
                for range in all() {
                    self.entries.add(range, says, statement.line);
                }
                let asks = options.wanted.names().any(|name| name == "value");
                if says == Says::Unlisted && !asks && !matches!(value, "" | "0") {
                    return Err(format!(
                        "its value {:?} is neither empty nor 0, so it is not clear which addresses are listed: choose entries by their value",
                        self.default
                    ));
                }
                Ok(true)
            }
            [range, value] => {
                let says = self.says(value, options);
                self.entries.add(address::masked_range(range)?, says, statement.line);
                Ok(true)
            }
            _ => Err("it is not an address and a value: write 192.0.2.0/24 1;".to_owned()),
        }
    }

    fn says(&self, value: &str, options: &ReadOptions) -> Says {
        let asks = options.wanted.names().any(|name| name == "value");
        let is_wanted = options.wanted.matches(|name, wanted| match name {
            "value" => wanted.eq_ignore_ascii_case(value),
            _ => wanted.trim_start_matches('$') == self.variable || self.variable == variable(&names::safe(wanted)),
        });
        let is_off = matches!(value, "" | "0") || value == self.default;
        if is_wanted && (asks || !is_off) { Says::Listed } else { Says::Unlisted }
    }

    fn finish(self, each: &mut EachEntry<'_>) -> bool {
        self.entries.finish(each)
    }
}

/// The variable of a list, without its `$`. It has a prefix, because nginx has variables such as `$host` itself.
fn variable(list: &str) -> String {
    format!("edgefold_{}", names::word(list))
}

/// Blocks are written as prefixes, because `ranges` has no IPv6. The default is a block `0.0.0.0/0` to nginx, which warns of a second one,
/// so that is written as two halves.
fn write_geo(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "geo ${} {{
    default 0;",
        variable(&options.name)
    )?;
    for cidr in blocks.flat_map(|block| address::cidrs(block.range)).flat_map(address::halves_of_all) {
        // Without a length, 255.255.255.255 can be read.
        if cidr.prefix_len() == cidr.max_prefix_len() {
            writeln!(out, "    {} 1;", cidr.addr())?;
        } else {
            writeln!(out, "    {cidr} 1;")?;
        }
    }
    writeln!(out, "}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_entries, blocks, entries, entries_with, written};

    #[test]
    fn deny_lines_are_read() {
        let file = "# blocked\ndeny 192.0.2.1;\n  deny 192.0.2.0/24; deny 2001:db8::/32;\ndeny\n198.51.100.7/24;\nallow all;\n";
        let expected = ["192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "198.51.100.0/24"];
        assert_entries(&entries(Format::NginxDeny, file), &expected);
        assert_entries(&entries(Format::NginxDeny, "deny all;"), &["0.0.0.0/0", "::/0"]);
    }

    #[test]
    fn an_exception_is_bad_if_a_deny_comes_after_it() {
        let file = "deny 192.0.2.0/25;\nallow 198.51.100.0/24;\nallow 192.0.2.129;\ndeny 192.0.2.128/25;\nallow 203.0.113.0/24;\n";
        assert_entries(
            &entries(Format::NginxDeny, file),
            &["192.0.2.0/25", "line 3: \"allow 192.0.2.129\": it is an exception", "192.0.2.128/25"],
        );
        let apart = "allow 2001:db8::/32;\nallow 198.51.100.1;\ndeny 192.0.2.1;\ndeny 198.51.100.0/24;\ndeny 2001:db8::1;\ndeny all;\n";
        assert_entries(
            &entries(Format::NginxDeny, apart),
            &[
                "192.0.2.1",
                "line 2: \"allow 198.51.100.1\": it is an exception",
                "198.51.100.0/24",
                "line 5: ... because line 1 allows these addresses",
                "line 1: \"allow 2001:db8::/32\": it is an exception",
                "0.0.0.0/0",
                "::/0",
            ],
        );
        let many = format!("{}deny 192.0.2.0/24;", "allow 192.0.2.1;\n".repeat(5000));
        assert_eq!(entries(Format::NginxDeny, many).len(), 5001);
    }

    #[test]
    fn what_is_not_a_deny_of_an_address_is_bad() {
        let file = "deny unix:;\ndeny host;\nsatisfy any;\nallow all;\ndeny 192.0.2.1;\nlocation / {\ndeny all;\n}\ndeny 192.0.2.2\n";
        assert_entries(
            &entries(Format::NginxDeny, file),
            &[
                "line 1: \"deny unix:\": unix sockets",
                "line 2: ... not an IP address",
                "line 3: ... neither deny nor allow",
                "line 5: ... line 4 allows all",
                "line 6: \"location /\": it begins a block",
                "line 9: ... a semicolon is missing",
            ],
        );
        let found = entries(Format::NginxDeny, "http {\n deny 192.0.2.1;\n");
        assert_entries(&found, &["line 1: ... it begins a block", "line 3: ... cut off"]);
    }

    #[test]
    fn the_longest_prefix_of_a_geo_block_decides() {
        let file = "geo $blocked {\n    default 0; # nobody\n    192.0.2.0/24 1;\n    192.0.2.7/32 0;\n    192.0.2.128/25 1;\n\
            \x20   2001:db8::/32 1;\n    198.51.100.0/24 \"\";\n    203.0.113.9/24 1;\n    203.0.113.128/25 1; delete 203.0.113.128/25;\n\
            \x20   192.0.3.0/24 1; 192.0.3.0/24 0;\n}\nserver {\n    listen 80;\n}\n";
        let expected = ["192.0.2.0-192.0.2.6", "192.0.2.8-192.0.2.255", "203.0.113.0/24", "2001:db8::/32"];
        assert_entries(&entries(Format::NginxGeo, file), &expected);
    }

    #[test]
    fn ranges_of_a_geo_block_are_read() {
        let file = "geo $remote_addr $blocked {\n ranges;\n default 0;\n 192.0.2.1-192.0.2.20 1;\n 192.0.2.5-192.0.2.9 0;\n\
            198.51.100.1-198.51.100.5 1;\n 198.51.100.4-198.51.100.9 1;\n}\n";
        assert_entries(
            &entries(Format::NginxGeo, file),
            &[
                "192.0.2.1-192.0.2.4",
                "line 7: \"198.51.100.4-198.51.100.9\": it overlaps line 6",
                "192.0.2.10-192.0.2.20",
                "198.51.100.1-198.51.100.5",
            ],
        );
    }

    #[test]
    fn entries_of_geo_blocks_are_chosen_by_variable_and_value() {
        let file =
            "geo $a { default ZZ; 192.0.2.0/24 DE; 192.0.2.0/25 FR; }\ngeo $b { default 1; 198.51.100.0/24 0; }\n";
        let chosen = |wanted| entries_with(Format::NginxGeo, file, wanted).unwrap();
        assert_entries(&chosen(&[("list", "a"), ("value", "de")]), &["192.0.2.128/25"]);
        assert_entries(&chosen(&[("list", "$b"), ("value", "0")]), &["198.51.100.0/24"]);
        let rest = ["0.0.0.0-198.51.99.255", "198.51.101.0-255.255.255.255", "::/0"];
        assert_entries(&chosen(&[("list", "b"), ("value", "1")]), &rest);
        let bad = "its value ... choose entries by their value";
        assert_entries(
            &chosen(&[]),
            &[&format!("line 1: \"default ZZ\": {bad}"), "192.0.2.0/24", &format!("line 2: \"default 1\": {bad}")],
        );
    }

    #[test]
    fn a_file_that_a_geo_block_includes_is_read() {
        let found =
            entries(Format::NginxGeo, "192.0.2.0/24 1;\n2001:db8::1 1;\nhost 1;\ninclude other.conf;\n192.0.2.1");
        assert_entries(
            &found,
            &[
                "line 3: \"host 1\": ... not an IP address",
                "line 4: \"include other.conf\": it includes a file",
                "line 5: ... semicolon",
                "192.0.2.0/24",
                "2001:db8::1",
            ],
        );
        assert!(entries_with(Format::NginxGeo, "server { listen 80; }", &[]).is_err());
        assert!(entries(Format::NginxGeo, "# nothing\n").is_empty());
        assert_entries(&entries(Format::NginxGeo, "geo $a { 192.0.2.1 1;"), &["192.0.2.1", "line 1: ... cut off"]);
        let large = "x".repeat(usize::try_from(MAX_GEO_BYTES).unwrap() + 1);
        assert!(matches!(entries_with(Format::NginxGeo, large, &[]), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn all_ipv4_addresses_are_not_written_as_the_default_again() {
        let text = written(Format::NginxGeo, &blocks(&["0.0.0.0/0", "2001:db8::/32"]));
        let expected =
            "geo $edgefold_default {\n    default 0;\n    0.0.0.0/1 1;\n    128.0.0.0/1 1;\n    2001:db8::/32 1;\n}\n";
        assert_eq!(text, expected);
    }
}
