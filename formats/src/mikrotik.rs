//! Address lists of MikroTik's RouterOS, as `/export` prints and `/import` reads them (`.rsc`).
//!
//! Entries are read that are added in `/ip firewall address-list` and `/ipv6 firewall address-list`, or in no menu at all. Other menus are
//! passed over, and so are entries that are disabled.

use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::IpRange;

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, each_line, head_lines};
use crate::{EachEntry, Format, ReadOptions, WriteOptions, address, ends};

pub(crate) const ABOUT: About = About {
    name: "mikrotik",
    describe: "a script of RouterOS with address lists",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    fields: &["list"],
    looks_like,
    ..About::BASE
};

/// The longest timeout in seconds, which RouterOS prints as 35w3d13h13m56s.
const MAX_TIMEOUT: u64 = 21_474_836;
/// The most bytes of a command that continues over several lines.
const MAX_COMMAND_BYTES: usize = 64 << 10;

/// Words that are commands in every menu, and not menus.
const COMMANDS: &[&str] =
    &["add", "disable", "enable", "export", "find", "move", "print", "remove", "reset", "set", "unset"];

/// Where commands are executed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Menu {
    Unknown,
    AddressList,
    Other,
}

fn looks_like(head: &[u8]) -> bool {
    head_lines(head)
        .filter(|line| line.starts_with('/'))
        .any(|line| menu(&words(line).unwrap_or_default()).is_some_and(|(menu, _)| menu == Menu::AddressList))
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let mut at = Menu::Unknown;
    // A command so far, and the line where it begins.
    let mut so_far = String::new();
    let mut begins = None;
    let mut has_commands = false;
    let mut is_empty = true;
    let mut has_stopped = false;
    each_line(input, LastLine::MustEnd, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        if so_far.is_empty() && (line.is_empty() || line.starts_with('#')) {
            return true;
        }
        is_empty = false;
        let begin = *begins.get_or_insert(number);
        if so_far.len() + line.len() > MAX_COMMAND_BYTES {
            so_far.clear();
            begins = None;
            return each(Err(BadEntry::in_line(begin, line, "the command is too long")));
        }
        if let Some(line) = line.strip_suffix('\\') {
            so_far.push_str(line);
            // Blanks at the end are part of the line, but those at the beginning of the next are not.
            so_far.push(' ');
            return true;
        }
        so_far.push_str(line);
        begins = None;
        let command = std::mem::take(&mut so_far);
        let entry = words(&command).and_then(|words| entry(&words, &mut at, &mut has_commands, options));
        let goes_on = match entry.transpose() {
            Some(entry) => each(entry.map_err(|why| BadEntry::in_line(begin, &command, why))),
            None => true,
        };
        has_stopped = !goes_on;
        goes_on
    })?;
    if let Some(begin) = begins.filter(|_| !has_stopped) {
        each(Err(BadEntry::in_line(begin, &so_far, "the file ends after a \\, inside of a command: it was cut off")));
    } else if !has_commands && !is_empty {
        let why =
            "it has no address list, as in /ip firewall address-list add address=192.0.2.0/24 list=NAME".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::Mikrotik, why });
    }
    Ok(())
}

/// The words of a command. Braces of scripts, as in `:do { add ... } on-error={}`, are words of their own.
fn words(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut is_quoted = false;
    let mut chars = command.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if is_quoted => word.extend(chars.next()),
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => word.push(char),
            _ if char.is_whitespace() || matches!(char, '{' | '}' | ';') => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                if !char.is_whitespace() {
                    words.push(char.to_string());
                }
            }
            _ => word.push(char),
        }
    }
    if is_quoted {
        return Err("the quote is not closed".to_owned());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// The menu that a command begins with, and what comes after it: `/ip firewall address-list add ...`, or `/ip/firewall/address-list/add`.
fn menu(words: &[String]) -> Option<(Menu, Vec<&str>)> {
    words.first().filter(|word| word.starts_with('/'))?;
    // Addresses have slashes as well.
    let is_path = |word: &&String| !word.contains('=');
    let path = words.iter().take_while(is_path).flat_map(|word| word.split('/')).filter(|part| !part.is_empty());
    let path: Vec<_> = path.collect();
    let rest = words.iter().skip_while(|word| is_path(word)).map(String::as_str);
    Some(match path[..] {
        ["ip" | "ipv6", "firewall", "address-list", ref command @ ..] => {
            (Menu::AddressList, command.iter().copied().chain(rest).collect())
        }
        // Where a command begins there is not known, and only whether there is one matters.
        _ => (
            Menu::Other,
            words.iter().map(String::as_str).filter(|word| word.contains('=') || COMMANDS.contains(word)).collect(),
        ),
    })
}

/// The entry that a command adds, if it adds one.
fn entry(
    words: &[String],
    at: &mut Menu,
    has_commands: &mut bool,
    options: &ReadOptions,
) -> Result<Option<Block>, String> {
    let (mut here, mut command) = (*at, words.iter().map(String::as_str).collect::<Vec<_>>());
    if let Some((menu, rest)) = menu(words) {
        here = menu;
        // A menu with a command after it is for that command only.
        if rest.is_empty() {
            *at = menu;
        }
        command = rest;
        *has_commands |= menu == Menu::AddressList;
    }
    if let [":do", "{", inner @ ..] = &command[..] {
        let end = inner.iter().position(|word| *word == "}").unwrap_or(inner.len());
        command = inner[..end].to_vec();
        let owned: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        if command.first().is_some_and(|word| word.starts_with('/')) {
            return entry(&owned, &mut here, has_commands, options);
        }
    }
    if here == Menu::Other {
        return Ok(None);
    }
    let (["add", rest @ ..], _) = (&command[..], here) else {
        return match command.first() {
            Some(&"set") => Err("it changes an entry, which is not read: add the entry as it should be".to_owned()),
            // Removals come before what replaces them. The rest is for scripts.
            _ => Ok(None),
        };
    };
    let parameter = |name: &str| rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let list = parameter("list").unwrap_or_default();
    *has_commands |= parameter("address").is_some();
    if !options.wanted.matches(|_, value| value.eq_ignore_ascii_case(list)) || parameter("disabled") == Some("yes") {
        return Ok(None);
    }
    let address = parameter("address").ok_or("it has no address, as in address=192.0.2.0/24")?;
    let range = address::range(address)?;
    let until = match parameter("timeout") {
        None | Some("none-dynamic" | "none-static") => Until::FOREVER,
        Some(timeout) => {
            let unknown = || format!("timeout {timeout:?} is not a time: write it as 1d02:03:04");
            let timeout = ends::duration(timeout).ok_or_else(unknown)?;
            if timeout.is_zero() { Until::FOREVER } else { ends::after(options.now, timeout) }
        }
    };
    Ok(Some(Block { range, until }))
}

/// Empties the lists and fills them again. IPv6 lists have no ranges, so that both families have prefixes.
fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let name = &options.name;
    let mut blocks = blocks.peekable();
    for family in ["ip", "ipv6"] {
        writeln!(out, "/{family} firewall address-list")?;
        writeln!(out, "remove [find list=\"{name}\"]")?;
        while let Some(Block { range, until }) =
            blocks.next_if(|block| matches!(block.range, IpRange::V4(_)) == (family == "ip"))
        {
            let timeout = ends::seconds_left(options.now, until, MAX_TIMEOUT);
            let timeout = timeout.map(|seconds| format!(" timeout={seconds}s")).unwrap_or_default();
            for cidr in address::cidrs(range) {
                writeln!(out, "add address={cidr} list=\"{name}\"{timeout}")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_entries, entries, entries_with, in_seconds};

    #[test]
    fn what_export_prints_is_read() {
        let file = "# 2026-11-26 12:00:00 by RouterOS 7.16\n# software id = ABCD-EFGH\n/interface bridge\nadd name=bridge1\n\
            /ip firewall address-list\nadd address=192.0.2.0/24 list=blocked\n\
            add address=192.0.3.1-192.0.3.9 comment=\"two words, a \\\"quote\\\" address=10.0.0.1\" list=blocked timeout=1d02:03:04\n\
            add address=198.51.100.7 comment=\"a long comment that \\\n    continues\" disabled=no \\\n    list=\"other list\"\n\
            add address=203.0.113.1 disabled=yes list=blocked\n/ip firewall filter\nadd action=drop chain=input src-address-list=blocked\n\
            /ipv6 firewall address-list\nadd address=2001:db8::/32 list=blocked timeout=30m\n";
        assert_entries(
            &entries(Format::Mikrotik, file),
            &[
                "192.0.2.0/24",
                &format!("192.0.3.1-192.0.3.9 until {}", in_seconds(93_784)),
                "198.51.100.7",
                &format!("2001:db8::/32 until {}", in_seconds(1800)),
            ],
        );
        assert_entries(&entries_with(Format::Mikrotik, file, &[("list", "other list")]).unwrap(), &["198.51.100.7"]);
    }

    #[test]
    fn scripts_are_read() {
        let file = ":global AddressList\n/ip firewall address-list remove [find list=\"a\"]\n/ip firewall address-list\n\
            :do {add list=$AddressList comment=AS64496 address=192.0.2.0/24} on-error={}\n\
            /ip firewall address-list add address=192.0.2.1 list=a timeout=none-dynamic\n/ip/firewall/address-list/add list=a address=192.0.2.2\n\
            :do { /ip firewall address-list add address=192.0.2.3 list=a } on-error={}\n\
            /ip firewall filter add chain=input src-address=10.0.0.1\nadd address=192.0.2.4 list=a\n";
        assert_entries(
            &entries(Format::Mikrotik, file),
            &["192.0.2.0/24", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
        );
        assert_entries(&entries(Format::Mikrotik, "add address=192.0.2.1 list=a\n"), &["192.0.2.1"]);
    }

    #[test]
    fn bad_commands_have_the_line_where_they_begin() {
        let file = "/ip firewall address-list\nadd address=host.example list=a\nadd list=a\nadd address=192.0.2.1 \\\nlist=a timeout=x\n\
            set 0 address=192.0.2.1\nadd address=192.0.2.1 comment=\"x\nadd address=192.0.2.1 \\\n";
        assert_entries(
            &entries(Format::Mikrotik, file),
            &[
                "line 2: ... not an IP address",
                "line 3: ... has no address",
                "line 4: ... timeout \"x\" is not a time",
                "line 6: ... changes an entry",
                "line 7: ... the quote is not closed",
                "line 8: ... cut off",
            ],
        );
        assert!(entries_with(Format::Mikrotik, "192.0.2.1\n", &[]).is_err());
        assert!(entries(Format::Mikrotik, "\n# nothing\n").is_empty());
        let long = "add \\\n".repeat(100_000);
        assert!(entries(Format::Mikrotik, long)[0].contains("the command is too long"));
    }
}
