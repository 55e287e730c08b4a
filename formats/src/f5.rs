//! Data groups of F5's BIG-IP: the file of an external one (`network 192.0.2.0/24 := "value",`), and internal ones as tmsh prints them
//! (`ltm data-group internal NAME { records { 192.0.2.0/24 { } } type ip }`), or as its commands create them.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::{IpRange, shorten};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{NO_LINE_END, head_entries};
use crate::tokens::{Syntax, Token, Tokens};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address};

pub(crate) const ABOUT: About = About {
    name: "f5",
    describe: "a data group of BIG-IP",
    read: Some(read),
    write: Some(write),
    fields: &["list", "value"],
    looks_like,
    ..About::BASE
};

/// The most words of an entry.
const MAX_WORDS: usize = 16;
/// How deep braces nest: the data group, its records, and the data of one.
const MAX_DEPTH: usize = 16;

fn looks_like(head: &[u8]) -> bool {
    let Some(line) = head_entries(head).next() else { return false };
    match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        ["ltm", "data-group", ..] => true,
        ["network" | "host", range, ..] => line.ends_with(',') && address::range(range.trim_end_matches(',')).is_ok(),
        _ => false,
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    Group,
    Records,
    /// The data of a record of an address.
    Record,
    Other,
}

/// An entry so far.
#[derive(Debug, Default)]
struct Entry {
    line: u64,
    words: Vec<String>,
    bad: Option<&'static str>,
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let syntax = Syntax { marks: b"{},", quotes: b"\"", has_escapes: true, has_block_comments: false };
    let mut tokens = Tokens::new(input, syntax);
    let mut scopes = Vec::new();
    let mut group = Group::default();
    let mut entry = Entry::default();
    // The record whose braces are open.
    let mut record = Entry::default();
    let (mut is_group, mut is_empty, mut has_read) = (false, true, false);
    loop {
        let token = tokens.next()?;
        is_empty &= matches!(token, Token::NewLine | Token::End);
        let is_external = scopes.is_empty();
        let complete = match token {
            Token::Word | Token::Quoted | Token::Bad(_) => {
                if entry.words.is_empty() {
                    entry.line = tokens.line();
                }
                match token {
                    Token::Bad(why) => entry.bad = Some(why),
                    _ if entry.words.len() == MAX_WORDS => entry.bad = Some("it has too many words"),
                    _ => {}
                }
                if entry.words.len() < MAX_WORDS {
                    entry.words.push(tokens.text().to_owned());
                }
                None
            }
            Token::Mark(b'{') => {
                if scopes.len() == MAX_DEPTH {
                    let why = format!("line {} has more than {MAX_DEPTH} braces around it", tokens.line());
                    return Err(ReadError::NotThisFormat { format: Format::F5, why });
                }
                let mut opened = std::mem::take(&mut entry);
                if opened.words.is_empty() {
                    opened.line = tokens.line();
                }
                let words: Vec<_> = opened.words.iter().map(String::as_str).collect();
                let (scope, bad) = match (scopes.last(), group_of(&words)) {
                    (None, Some((name, rest))) => {
                        group = Group { name: shorten(name), ..Group::default() };
                        is_group = true;
                        match rest {
                            [] => (Scope::Group, None),
                            ["records", verb @ ..] => records(verb, has_read),
                            _ => (
                                Scope::Other,
                                Some("it is not known: write ltm data-group internal NAME { records { ... } }"),
                            ),
                        }
                    }
                    (Some(Scope::Group), _) if words.first() == Some(&"records") => records(&words[1..], has_read),
                    (Some(Scope::Records), _) => (Scope::Record, None),
                    _ => (Scope::Other, None),
                };
                scopes.push(scope);
                match (scope, bad) {
                    (_, Some(why)) => Some((Entry { bad: Some(why), ..opened }, String::new(), true)),
                    (Scope::Record, None) => {
                        record = opened;
                        None
                    }
                    _ => None,
                }
            }
            Token::Mark(b'}') => {
                let data = std::mem::take(&mut entry);
                match scopes.pop() {
                    Some(Scope::Record) => {
                        let mut record = std::mem::take(&mut record);
                        record.bad = record.bad.or(data.bad);
                        let value = data.words.iter().skip_while(|word| *word != "data").nth(1).cloned();
                        Some((record, value.unwrap_or_default(), true))
                    }
                    Some(Scope::Group) => group.says(data),
                    // Records have braces after them.
                    Some(Scope::Records) if !data.words.is_empty() => Some((
                        Entry { bad: Some("it has no braces after it: write 192.0.2.0/24 { }"), ..data },
                        String::new(),
                        true,
                    )),
                    Some(Scope::Records | Scope::Other) | None => None,
                }
            }
            // An entry of an external file ends with a comma, and one that has none ends with its line.
            Token::Mark(_) | Token::NewLine | Token::End if is_external && !entry.words.is_empty() => {
                let mut words = std::mem::take(&mut entry);
                let at = words.words.iter().position(|word| word == ":=").unwrap_or(words.words.len());
                let value = words.words.get(at + 1).cloned().unwrap_or_default();
                words.words.truncate(at);
                if token == Token::End {
                    words.bad = words.bad.or(Some(NO_LINE_END));
                }
                Some((words, value, false))
            }
            Token::Mark(_) | Token::NewLine | Token::End => match scopes.last() {
                Some(Scope::Record | Scope::Records) => None,
                Some(Scope::Group) => group.says(std::mem::take(&mut entry)),
                // What else is in braces is not about a group.
                Some(Scope::Other) | None => {
                    entry = Entry::default();
                    None
                }
            },
        };
        if let Some((entry, value, is_record)) = complete {
            is_group |= !is_record && matches!(entry.words.first().map(String::as_str), Some("network" | "host"));
            let is_wanted = options.wanted.matches(|name, wanted| match name {
                // What is not an entry is about all values.
                "value" => entry.bad.is_some() || wanted.eq_ignore_ascii_case(&value),
                _ => wanted == group.name || wanted == group.name.rsplit('/').next().unwrap_or_default(),
            });
            if is_wanted {
                let words: Vec<_> = entry.words.iter().map(String::as_str).collect();
                let range = entry.bad.map_or_else(|| range(&words, is_record), |why| Err(why.to_owned()));
                (has_read, group.has_read) = (has_read || range.is_ok(), group.has_read || range.is_ok());
                let block = range.map(|range| Block { range, until: Until::FOREVER });
                if !each(block.map_err(|why| BadEntry::in_line(entry.line, &words.join(" "), why))) {
                    return Ok(());
                }
            }
        }
        if token == Token::End {
            break;
        }
    }
    if !scopes.is_empty() {
        each(Err(BadEntry::cut_off(tokens.line(), "braces")));
    } else if !is_group && !is_empty {
        let why = "it has neither lines such as network 192.0.2.0/24, nor an ltm data-group".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::F5, why });
    }
    Ok(())
}

/// A data group so far.
#[derive(Debug, Default)]
struct Group {
    name: String,
    has_read: bool,
}

impl Group {
    /// A statement about the group, which is bad if it changes what was read.
    fn says(&self, statement: Entry) -> Option<(Entry, String, bool)> {
        let why = match statement.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["type", kind] if kind != "ip" && self.has_read => {
                "its records were read as addresses, and are of another type"
            }
            ["records", ..] => "it is not known: write records { 192.0.2.0/24 { } }",
            _ => return None,
        };
        Some((Entry { bad: Some(why), ..statement }, String::new(), true))
    }
}

/// The name of the data group that words before a brace are about, and what they say of it.
fn group_of<'w, 'a>(words: &'w [&'a str]) -> Option<(&'a str, &'w [&'a str])> {
    let words = match words {
        ["create" | "modify", "ltm", rest @ ..] | ["ltm", rest @ ..] | ["create" | "modify", rest @ ..] => rest,
        _ => return None,
    };
    match words {
        ["data-group", "internal" | "external", name, rest @ ..] | ["data-group", name, rest @ ..] => {
            Some((name, rest))
        }
        _ => None,
    }
}

/// What the braces after `records` and a verb contain, and why they are not read.
fn records(verb: &[&str], has_read: bool) -> (Scope, Option<&'static str>) {
    match verb {
        [] | ["add"] => (Scope::Records, None),
        ["replace-all-with"] if !has_read => (Scope::Records, None),
        _ => (Scope::Other, Some("it changes records or takes them out: leave out the records instead")),
    }
}

fn range(words: &[&str], is_record: bool) -> Result<IpRange, String> {
    match *words {
        [range] if is_record => address::range(range),
        ["host", address] if !address.contains(['/', '-']) => address::range(address),
        ["network", range] if range.contains('/') => address::range(range),
        ["network", _] => {
            Err("its length is missing, as in network 192.0.2.0/24: write host for one address".to_owned())
        }
        ["network", address, "mask", mask] | ["network", address, "prefixlen", mask] => {
            address::range(&format!("{address}/{mask}"))
        }
        _ if is_record => Err("it is not one address or network: only data groups of type ip are read".to_owned()),
        _ => Err("it is not an entry: write network 192.0.2.0/24, or host 192.0.2.1, with the comma".to_owned()),
    }
}

/// The file of an external data group.
fn write(blocks: &mut dyn Iterator<Item = Block>, _: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    for block in blocks {
        for cidr in address::cidrs(block.range) {
            if cidr.prefix_len() == cidr.max_prefix_len() {
                writeln!(out, "host {},", cidr.addr())?;
            } else {
                writeln!(out, "network {cidr},")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_entries, entries, entries_with};

    #[test]
    fn an_external_file_is_read() {
        let file = "host 192.0.2.1,\nhost 192.0.2.2 := \"host, 2\",\nnetwork 198.51.100.0/24,\nnetwork 203.0.113.0/24 := net,\n\
            network 10.0.0.0 mask 255.0.0.0 := \"x\",\nnetwork 10.1.0.0 prefixlen 16,\nnetwork 2001:db8::/32,\nhost 2001:db8::1\n";
        assert_entries(
            &entries(Format::F5, file),
            &[
                "192.0.2.1",
                "192.0.2.2",
                "198.51.100.0/24",
                "203.0.113.0/24",
                "10.0.0.0/8",
                "10.1.0.0/16",
                "2001:db8::/32",
                "2001:db8::1",
            ],
        );
        let found = entries_with(Format::F5, file, &[("value", "host, 2"), ("value", "NET")]).unwrap();
        assert_entries(&found, &["192.0.2.2", "203.0.113.0/24"]);
    }

    #[test]
    fn an_internal_data_group_is_read() {
        let file = "ltm pool /Common/p {\n    members {\n        /Common/10.0.0.1:80 {\n            address 10.0.0.1\n        }\n    }\n}\n\
            ltm data-group internal /Common/blocked {\n    records {\n        192.0.2.0/24 { }\n        192.0.2.1/32 {\n\
            \x20           data \"a value\"\n        }\n        2001:db8::/32 { data x }\n    }\n    type ip\n}\n\
            ltm data-group internal other { records { 198.51.100.7/32 { } } type ip }\n";
        let expected = ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "198.51.100.7"];
        assert_entries(&entries(Format::F5, file), &expected);
        assert_entries(
            &entries_with(Format::F5, file, &[("list", "blocked"), ("value", "a value")]).unwrap(),
            &["192.0.2.1"],
        );
        assert_entries(&entries_with(Format::F5, file, &[("list", "/Common/blocked")]).unwrap(), &expected[..3]);
    }

    #[test]
    fn commands_about_records_are_read_if_they_add_some() {
        let file = "create ltm data-group internal a records add { 192.0.2.1/32 { } } type ip\nmodify ltm data-group internal a records add { 192.0.2.2/32 { data x } }\n\
            modify ltm data-group internal a records delete { 192.0.2.1/32 { } }\nmodify ltm data-group internal a { records modify { 192.0.2.2/32 { data y } } }\n\
            modify ltm data-group internal a records replace-all-with { 192.0.2.3/32 { } }\nltm data-group internal b {\nrecords none\ntype ip\n}\n\
            ltm data-group internal c { records { 192.0.2.4 { } 192.0.2.5 } type string }\ndelete ltm data-group internal a\n";
        let changes = "changes records or takes them out";
        assert_entries(
            &entries(Format::F5, file),
            &[
                "192.0.2.1",
                "line 1: ... not an entry",
                "192.0.2.2",
                &format!("line 3: ... {changes}"),
                &format!("line 4: ... {changes}"),
                &format!("line 5: ... {changes}"),
                "line 7: ... it is not known",
                "192.0.2.4",
                "line 10: \"192.0.2.5\": it has no braces",
                "line 10: \"type string\": ... of another type",
                "line 11: ... not an entry",
            ],
        );
    }

    #[test]
    fn what_an_entry_of_a_file_does_not_say_is_not_guessed() {
        let file =
            "network 10.0.0.0,\nhost 10.0.0.0/8,\nhost 192.0.2.1 := it's, host 192.0.2.2 := it's,\nnetwork 128.0.0.0/2";
        assert_entries(
            &entries(Format::F5, file),
            &[
                "line 1: ... its length is missing",
                "line 2: ... not an entry",
                "192.0.2.1",
                "192.0.2.2",
                "line 4: ... cut off",
            ],
        );
    }

    #[test]
    fn bad_entries_have_their_line() {
        let file = "host host.example,\nnetwork 192.0.2.7/24,\nfoo,\nhost 192.0.2.1%1,\nhost 192.0.2.1 := \"x\n,\nhost 192.0.2.2,\n";
        assert_entries(
            &entries(Format::F5, file),
            &[
                "line 1: ... not an IP address",
                "line 2: ... host bits",
                "line 3: ... not an entry",
                "line 4: ... has a zone",
                "line 5: ... the quote is not closed",
                "192.0.2.2",
            ],
        );
        let file = "ltm data-group internal a {\nrecords {\nexample.org { }\n192.0.2.1/32 { }\n";
        assert_entries(
            &entries(Format::F5, file),
            &["line 3: ... not an IP address", "192.0.2.1", "line 5: ... cut off"],
        );
        assert!(entries_with(Format::F5, "ltm pool a { }", &[]).is_err());
        assert!(entries_with(Format::F5, "{".repeat(1000), &[]).is_err());
        assert!(entries(Format::F5, "").is_empty());
    }
}
