//! Prefix lists of Juniper's Junos, as `set` commands and in braces.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::shorten;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::head_lines;
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
const COMMANDS: &[&str] = &["set", "delete", "deactivate", "activate", "edit", "top", "up"];

fn looks_like(head: &[u8]) -> bool {
    head_lines(head).any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        matches!(
            words[..],
            ["set", .., "policy-options", "prefix-list", _, _] | ["policy-options", "{"] | ["prefix-list", _, "{"]
        )
    })
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut tokens =
        Tokens::new(input, Syntax { marks: b"{};", quotes: b"\"", has_escapes: true, has_block_comments: true });
    let mut depth = 0_u64;
    // The list whose braces are open, and how many braces are around its entries.
    let mut open: Option<(String, u64)> = None;
    let (mut has_lists, mut is_empty) = (false, true);
    loop {
        let statement = statement(&mut tokens, COMMANDS)?;
        let text = statement.text();
        let words = statement.words();
        is_empty &= words.is_empty();
        let mut entry = None;
        match words[..] {
            ["set", ref path @ .., "prefix-list", name, what] if path.last() == Some(&"policy-options") => {
                has_lists = true;
                entry = Some((name, Ok(what)));
            }
            // Its attributes, and lists without entries.
            ["set", .., "policy-options", "prefix-list", name, "apply-path", _] => {
                has_lists = true;
                entry = Some((name, Err(APPLY_PATH)));
            }
            ["set", .., "policy-options", "prefix-list", _] => has_lists = true,
            [command, .., "policy-options", "prefix-list", name]
            | [command, .., "policy-options", "prefix-list", name, _]
                if matches!(command, "delete" | "deactivate") =>
            {
                has_lists = true;
                entry = Some((name, Err("it takes entries out of a list: leave out the entries instead")));
            }
            [.., "prefix-list", name] if statement.ended == Ended::Open && open.is_none() => {
                has_lists = true;
                let is_inactive = words.first() == Some(&"inactive:");
                open = (!is_inactive).then(|| (shorten(name), depth + 1));
            }
            ["inactive:", ..] | [] => {}
            ref words => match &open {
                Some((name, inside)) if *inside == depth => {
                    entry = Some((name.as_str(), if words[0] == "apply-path" { Err(APPLY_PATH) } else { Ok(&*text) }));
                }
                _ => {}
            },
        }
        if let Some((name, what)) = entry
            && options.wanted.matches(|_, value| value.eq_ignore_ascii_case(name))
        {
            let what = match (what, statement.ended) {
                (_, _) if statement.bad.is_some() => Err(statement.bad.unwrap_or_default()),
                (Ok(_), Ended::Close) => Err("a semicolon is missing at its end"),
                (what, _) => what,
            };
            let range = what.map_err(str::to_owned).and_then(address::range);
            let block = range.map(|range| Block { range, until: Until::FOREVER });
            if !each(block.map_err(|why| BadEntry::in_line(statement.line, &text, why))) {
                return Ok(());
            }
        }
        match statement.ended {
            Ended::Open => depth += 1,
            Ended::Close => {
                depth = depth.saturating_sub(1);
                open = open.filter(|(_, inside)| *inside <= depth);
            }
            Ended::Semicolon | Ended::NewLine => {}
            Ended::File => break,
        }
    }
    if depth > 0 {
        each(Err(BadEntry::cut_off(tokens.line(), "braces")));
    } else if !has_lists && !is_empty {
        let why = "it has no prefix list, as in set policy-options prefix-list NAME 192.0.2.0/24".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::Juniper, why });
    }
    Ok(())
}

const APPLY_PATH: &str = "its prefixes are elsewhere in the configuration: write them into the list";

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
        assert_entries(&entries_with(Format::Juniper, file, &[("list", "OTHER")]).unwrap(), &["198.51.100.7"]);
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
