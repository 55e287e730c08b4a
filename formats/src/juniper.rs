//! Prefix lists of Juniper's Junos, as `set` commands and in braces.
//!
//! What is `inactive:` is left out. Lists in `groups`, which may be applied anywhere or nowhere, are bad, and so are commands that take
//! something out of a list again, and those whose meaning depends on an `edit` before them.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::shorten;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{NO_LINE_END, head_lines};
use crate::tokens::{Ended, Syntax, Tokens, statement};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address};

pub(crate) const ABOUT: About = About {
    name: "juniper",
    describe: "prefix lists of Junos",
    read: Some(read),
    write: Some(write),
    fields: &["list"],
    looks_like,
    ..About::BASE
};

/// The commands, which end with their line.
const COMMANDS: &[&str] = &[
    "set",
    "delete",
    "deactivate",
    "activate",
    "edit",
    "top",
    "up",
    "exit",
    "quit",
    "rename",
    "copy",
    "insert",
    "replace",
    "annotate",
    "protect",
    "unprotect",
    "wildcard",
    "load",
    "run",
    "show",
    "commit",
    "rollback",
    "configure",
];
/// How deep braces nest in a configuration.
const MAX_DEPTH: usize = 64;

fn looks_like(head: &[u8]) -> bool {
    head_lines(head).any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        matches!(
            words[..],
            ["set", .., "policy-options", "prefix-list", _, _] | ["policy-options", "{"] | ["prefix-list", _, "{"]
        )
    })
}

/// What a brace opened.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Scope {
    /// What may contain lists.
    Configuration,
    /// The systems, of which each may contain lists.
    Systems,
    /// The list of this name.
    List(String),
    Inactive,
    Other,
}

/// What a statement says of a list.
type Found<'a> = Option<(&'a str, Result<&'a str, &'static str>)>;

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let syntax = Syntax { marks: b"{};", quotes: b"\"", has_escapes: true, has_block_comments: true };
    let mut tokens = Tokens::new(input, syntax);
    let mut scopes: Vec<Scope> = Vec::new();
    let mut inactive = 0_u64;
    // Where an `edit` led.
    let mut edited: Option<String> = None;
    let (mut has_lists, mut is_empty) = (false, true);
    loop {
        let statement = statement(&mut tokens, COMMANDS)?;
        let text = statement.text();
        let all = statement.words();
        is_empty &= all.is_empty();
        let is_inactive = all.contains(&"inactive:");
        let words: Vec<_> =
            all.into_iter().filter(|word| !matches!(*word, "inactive:" | "protect:" | "replace:")).collect();
        let found = match (&words[..], scopes.last()) {
            ([], _) => None,
            _ if inactive > 0 || is_inactive => None,
            (["prefix-list", name, ..] | ["policy-options", "prefix-list", name, ..], Some(Scope::Other))
                if statement.ended == Ended::Open =>
            {
                Some((*name, Err("it is in a part of the configuration that may be applied elsewhere or not at all")))
            }
            ([.., "prefix-list", name], _) if words.contains(&"delete:") => Some((*name, Err(REMOVES))),
            (_, None) if statement.ended != Ended::Open => command(&words, &mut edited),
            (["apply-path", ..], Some(Scope::List(name))) => Some((name.as_str(), Err(APPLY_PATH))),
            (["delete:", ..], Some(Scope::List(name))) => Some((name.as_str(), Err(REMOVES))),
            (_, Some(Scope::List(name))) if statement.ended == Ended::Open => {
                Some((name.as_str(), Err("it has braces after it")))
            }
            (_, Some(Scope::List(name))) => Some((name.as_str(), Ok(&*text))),
            _ if statement.bad.is_some() && scopes.is_empty() => Some(("", Err("it cannot be read"))),
            _ => None,
        };
        has_lists |= found.is_some();
        if let Some((name, what)) = found
            // What is about all lists has no name.
            && (name.is_empty() || options.wanted.matches(|_, value| value == name))
        {
            let what = match (what, statement.ended) {
                (_, _) if statement.bad.is_some() => Err(statement.bad.unwrap_or_default()),
                (Ok(_), Ended::Close) => Err("a semicolon is missing at its end"),
                (Ok(_), Ended::File) => Err(NO_LINE_END),
                (what, _) => what,
            };
            let range = match what {
                // A list without entries.
                Ok("") => None,
                Ok(range) => Some(address::range(range)),
                Err(why) => Some(Err(why.to_owned())),
            };
            let block = range.map(|range| range.map(|range| Block { range, until: Until::FOREVER }));
            let entry = block.map(|block| block.map_err(|why| BadEntry::in_line(statement.line, &text, why)));
            if entry.is_some_and(|entry| !each(entry)) {
                return Ok(());
            }
        }
        match statement.ended {
            Ended::Open => {
                if scopes.len() == MAX_DEPTH {
                    let why = format!("line {} has more than {MAX_DEPTH} braces around it", tokens.line());
                    return Err(ReadError::NotThisFormat { format: Format::Juniper, why });
                }
                let scope = if is_inactive { Scope::Inactive } else { opened(&words, scopes.last()) };
                has_lists |= matches!(scope, Scope::List(_)) || is_inactive && words.first() == Some(&"prefix-list");
                inactive += u64::from(is_inactive);
                scopes.push(scope);
            }
            Ended::Close => inactive -= u64::from(scopes.pop() == Some(Scope::Inactive)),
            Ended::Semicolon | Ended::NewLine => {}
            Ended::File => break,
        }
    }
    if !scopes.is_empty() {
        each(Err(BadEntry::cut_off(tokens.line(), "braces")));
    } else if !has_lists && !is_empty {
        let why = "it has no prefix list, as in set policy-options prefix-list NAME 192.0.2.0/24".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::Juniper, why });
    }
    Ok(())
}

const APPLY_PATH: &str = "its prefixes are elsewhere in the configuration: write them into the list";
const REMOVES: &str = "it takes entries out of a list: leave out the entries instead";

/// What a brace opens after these words, inside of `around`.
fn opened(words: &[&str], around: Option<&Scope>) -> Scope {
    let is_configuration = matches!(around, None | Some(Scope::Configuration));
    match *words {
        ["prefix-list", name] | ["policy-options", "prefix-list", name] if is_configuration => {
            Scope::List(shorten(name))
        }
        ["policy-options" | "configuration"] | ["logical-systems" | "tenants", _] if is_configuration => {
            Scope::Configuration
        }
        ["logical-systems" | "tenants"] if is_configuration => Scope::Systems,
        [_] if around == Some(&Scope::Systems) => Scope::Configuration,
        _ => Scope::Other,
    }
}

/// What a command says of a list: an entry, an empty text for a list without entries, or why it is not read.
fn command<'a>(words: &[&'a str], edited: &mut Option<String>) -> Found<'a> {
    let words = match words {
        ["top", rest @ ..] => {
            *edited = None;
            rest
        }
        words => words,
    };
    let is_list = |pair: &[&str]| pair == ["policy-options", "prefix-list"];
    let at = words.windows(2).position(is_list);
    let after = at.map(|at| &words[at + 2..]);
    let name = after.and_then(|after| after.first().copied()).unwrap_or_default();
    let edits = edited.as_deref().unwrap_or_default();
    let is_edited = edits.contains("policy-options") || edits.split(' ').any(|word| word == "groups");
    let others =
        &["set", "show", "run", "annotate", "commit", "activate", "protect", "unprotect", "top", "up", "exit", "quit"];
    match *words {
        ["edit", ref path @ ..] => {
            let before = edited.take().map(|before| format!("{before} ")).unwrap_or_default();
            // What is longer leads nowhere else.
            *edited = Some(before + &path.join(" "))
                .filter(|path| path.len() < 4096)
                .or_else(|| Some("policy-options".to_owned()));
            None
        }
        ["set", ..] if is_edited => {
            Some((name, Err("what it sets depends on an edit before it: write the whole path")))
        }
        ["set", .., "prefix-list", _] | ["set", .., "prefix-list", _, _] if at.is_none() && edited.is_some() => {
            Some((name, Err("what it sets depends on an edit before it: write the whole path")))
        }
        ["set", "groups", ..] if at.is_some() => {
            Some((name, Err("it is in a group, which may be applied elsewhere or not at all")))
        }
        ["set", ..] => match after? {
            [_] => Some((name, Ok(""))),
            [_, "apply-path", ..] => Some((name, Err(APPLY_PATH))),
            [_, prefix] => Some((name, Ok(prefix))),
            _ => Some((name, Err("it is not one prefix: write a line for each"))),
        },
        // What is about a list, about all lists or about everything.
        ["delete" | "deactivate" | "rename" | "copy" | "insert" | "replace" | "wildcard", ref path @ ..] => {
            let is_about_lists = at.is_some() || path.last().is_none_or(|last| *last == "policy-options") || is_edited;
            let is_pattern = matches!(words[0], "replace" | "wildcard");
            (is_about_lists || is_pattern || path.contains(&"prefix-list")).then_some((name, Err(REMOVES)))
        }
        ["load" | "rollback", ..] => Some((name, Err("it reads another configuration, which is not read"))),
        [first, ..] if words.contains(&"prefix-list") && !others.contains(&first) => Some((
            name,
            Err("it is not a command that is known: write set policy-options prefix-list NAME 192.0.2.0/24"),
        )),
        _ => None,
    }
}

/// Adds to the list, and takes nothing out of it: `delete policy-options prefix-list NAME` before it does that.
fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    for block in blocks {
        let mut cidrs = address::cidrs(block.range);
        cidrs.try_for_each(|cidr| writeln!(out, "set policy-options prefix-list {} {cidr}", options.name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_entries, entries, entries_with};

    #[test]
    fn set_commands_are_read() {
        let file = "set system host-name r1\nset policy-options prefix-list blocked 192.0.2.0/24\nset policy-options prefix-list blocked 2001:db8::/32\n\
            set policy-options prefix-list other 198.51.100.7/32\nset policy-options prefix-list empty\n\
            set firewall family inet filter f term t from source-prefix-list blocked\n";
        assert_entries(&entries(Format::Juniper, file), &["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]);
        assert_entries(&entries_with(Format::Juniper, file, &[("list", "other")]).unwrap(), &["198.51.100.7"]);
    }

    #[test]
    fn braces_are_read() {
        let file = "## Last changed: today\nversion 20.4;\nsystem { host-name r1; }\npolicy-options {\n    /* the list of\n     * blocked; */\n\
            \x20   prefix-list blocked {\n        192.0.2.0/24;\n        inactive: 192.0.3.0/24;\n        2001:db8::/32;\n    }\n\
            \x20   inactive: prefix-list off {\n        203.0.113.1/32;\n    }\n    policy-statement p {\n\
            \x20       from {\n            prefix-list blocked;\n            route-filter 10.0.0.0/8 exact;\n        }\n    }\n}\n\
            prefix-list last { 198.51.100.7; }\n";
        assert_entries(&entries(Format::Juniper, file), &["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]);
    }

    #[test]
    fn what_is_inactive_is_left_out_on_any_level() {
        let file = "inactive: policy-options {\n prefix-list a {\n 192.0.2.1/32;\n }\n}\npolicy-options {\n inactive: prefix-list b {\n 192.0.2.2/32;\n }\n\
            protect: prefix-list c {\n 192.0.2.3/32;\n inactive: 192.0.2.4/32;\n delete: 192.0.2.5/32;\n }\n delete: prefix-list d {\n 192.0.2.6/32;\n }\n}\n\
            groups {\n g {\n policy-options {\n prefix-list e {\n 192.0.2.7/32;\n }\n }\n }\n}\nlogical-systems {\n s {\n policy-options {\n prefix-list f {\n 192.0.2.8/32;\n }\n }\n }\n}\n";
        assert_entries(
            &entries(Format::Juniper, file),
            &[
                "192.0.2.3",
                "line 13: ... takes entries out",
                "line 15: ... takes entries out",
                "line 22: ... applied elsewhere",
                "192.0.2.8",
            ],
        );
    }

    #[test]
    fn commands_whose_meaning_depends_on_others_are_bad() {
        let file = "set policy-options prefix-list a 192.0.2.1/32\ndeactivate policy-options\ndelete policy-options prefix-list a\ndelete\n\
            delete interfaces ge-0/0/0\nedit policy-options prefix-list a\nset 192.0.2.2/32\ntop\nset policy-options prefix-list a 192.0.2.3/32\n\
            edit logical-systems s\nset prefix-list a 192.0.2.4/32\ntop set policy-options prefix-list a 192.0.2.5/32\n\
            set groups g policy-options prefix-list a 192.0.2.6/32\nset policy-options prefix-list a [ 192.0.2.7 192.0.2.8 ]\n\
            rename policy-options prefix-list a to prefix-list b\nfoo\nset policy-options prefix-list a 192.0.2.9/32;\nload merge x\n\
            set policy-options policy-statement p from prefix-list a\nset policy-options prefix-list a 192.0.2.0/24";
        let (takes, edit) = ("takes entries out", "depends on an edit");
        assert_entries(
            &entries(Format::Juniper, file),
            &[
                "192.0.2.1",
                &format!("line 2: ... {takes}"),
                &format!("line 3: ... {takes}"),
                &format!("line 4: ... {takes}"),
                &format!("line 7: ... {edit}"),
                "192.0.2.3",
                &format!("line 11: ... {edit}"),
                "192.0.2.5",
                "line 13: ... in a group",
                "line 14: ... not one prefix",
                &format!("line 15: ... {takes}"),
                "line 16: ... not a command that is known",
                "line 18: ... reads another configuration",
                "line 20: ... the file may be cut off",
            ],
        );
    }

    #[test]
    fn what_a_list_cannot_have_is_bad() {
        let file = "set policy-options prefix-list a apply-path \"protocols bgp group <*> neighbor <*>\"\n\
            delete policy-options prefix-list a 192.0.2.1/32\nset policy-options prefix-list a 192.0.2.7/24\n\
            prefix-list b {\n apply-path \"x\";\n host;\n 192.0.2.1/32\n}\nprefix-list c {\n";
        assert_entries(
            &entries(Format::Juniper, file),
            &[
                "line 1: ... its prefixes are elsewhere",
                "line 2: ... takes entries out",
                "line 3: ... host bits",
                "line 5: ... its prefixes are elsewhere",
                "line 6: ... not an IP address",
                "line 7: ... a semicolon is missing",
                "line 10: ... cut off",
            ],
        );
        assert!(entries_with(Format::Juniper, "system { host-name r1; }", &[]).is_err());
        assert!(entries(Format::Juniper, "/* nothing */\n").is_empty());
    }
}
