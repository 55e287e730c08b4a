//! Address lists of MikroTik's RouterOS, as `/export` prints and `/import` reads them (`.rsc`).
//!
//! Entries are read that are added in `/ip firewall address-list` and `/ipv6 firewall address-list`, or in no menu at all. Other menus are
//! passed over, and so are entries that are disabled.
//!
//! A file is a script, and only a list of `add` commands is a list. What depends on conditions or variables is bad, and so is what changes
//! or removes entries after they were added. `:do { ... } on-error={}` and blocks are read as if the braces were not there.

use std::collections::HashSet;
use std::io::{self, BufRead, Write};

use edgefold::{Block, Until};
use edgefold_table::{IpRange, shorten};

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

/// The most lists whose names are remembered.
const MAX_LISTS: usize = 65_536;
/// How deep blocks nest.
const MAX_DEPTH: usize = 16;
/// The parameters of an entry.
const PARAMETERS: &[&str] = &["address", "list", "timeout", "comment", "disabled", "dynamic", "creation-time"];
/// Commands after which a script does something that is not in the file, or nothing more.
const STOPS: &[&str] = &[":error", ":return", ":exit", ":execute", ":import"];
/// Commands of scripts that change no entries, if no other command is inside them.
const HARMLESS: &[&str] = &[":global", ":local", ":set", ":put", ":log", ":delay", ":nothing", ":beep"];

/// Where commands are executed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Menu {
    Unknown,
    /// That of `ip` or `ipv6`.
    AddressList(&'static str),
    Other,
}

fn looks_like(head: &[u8]) -> bool {
    head_lines(head)
        .filter(|line| line.starts_with('/'))
        .any(|line| matches!(menu(&words(line).unwrap_or_default()), Some(Ok((Menu::AddressList(_), _)))))
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let (added, families) = (HashSet::new(), HashSet::new());
    let (at, has_commands, line, goes_on) = (Menu::Unknown, false, 0, true);
    let mut script = Script { options, each, at, has_commands, added, families, line, goes_on };
    let mut so_far = Command::default();
    let mut is_empty = true;
    each_line(input, LastLine::MustEnd, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return (script.each)(Err(bad)),
        };
        // In quotes that continue, # is a character.
        if line.is_empty() && !so_far.continues || line.starts_with('#') && !so_far.is_quoted && !so_far.continues {
            return true;
        }
        is_empty = false;
        if so_far.text.is_empty() {
            script.line = number;
        }
        match so_far.add(line) {
            Ok(false) => {}
            Ok(true) => script.run(&std::mem::take(&mut so_far).text, 0),
            Err(why) => {
                let command = std::mem::take(&mut so_far);
                script.bad(if command.text.is_empty() { line } else { &command.text }, why);
            }
        }
        script.goes_on
    })?;
    let Script { has_commands, line, goes_on, each, .. } = script;
    if !goes_on {
    } else if !so_far.text.is_empty() {
        each(Err(BadEntry::cut_off(line, "a command")));
    } else if !has_commands && !is_empty {
        let why =
            "it has no address list, as in /ip firewall address-list add address=192.0.2.0/24 list=NAME".to_owned();
        return Err(ReadError::NotThisFormat { format: Format::Mikrotik, why });
    }
    Ok(())
}

/// A command so far, which ends with its line unless braces are open or the line continues.
#[derive(Debug, Default)]
struct Command {
    text: String,
    /// The closing brackets that are missing.
    open: Vec<char>,
    is_quoted: bool,
    continues: bool,
}

impl Command {
    /// Adds a line, and returns whether the command is complete.
    fn add(&mut self, line: &str) -> Result<bool, &'static str> {
        if self.text.len() + line.len() > MAX_COMMAND_BYTES {
            return Err("the command is too long");
        }
        // A backslash at the end of a line that is not itself escaped.
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let continued = line.strip_suffix('\\').filter(|_| backslashes % 2 == 1);
        let mut is_begin = self.text.trim_end().is_empty() || self.text.ends_with(['\n', ';', '{']);
        let mut chars = continued.unwrap_or(line).chars();
        while let Some(char) = chars.next() {
            match char {
                // A comment, to the end of the line.
                '#' if is_begin && !self.is_quoted => break,
                '\\' => {
                    self.text.push(char);
                    self.text.extend(chars.next());
                    continue;
                }
                '"' => self.is_quoted = !self.is_quoted,
                _ if self.is_quoted => {}
                '{' => self.open.push('}'),
                '[' => self.open.push(']'),
                '(' => self.open.push(')'),
                '}' | ']' | ')' if self.open.pop() != Some(char) => return Err("a bracket closes what is not open"),
                _ => {}
            }
            is_begin = matches!(char, ';' | '{') || (is_begin && char.is_whitespace());
            self.text.push(char);
        }
        self.continues = continued.is_some();
        if self.continues {
            // Blanks at the end are part of the line, but those at the beginning of the next are not.
            self.text.extend((!self.is_quoted).then_some(' '));
        } else if self.is_quoted {
            return Err("the quote is not closed");
        } else {
            self.text.push('\n');
        }
        Ok(!self.continues && self.open.is_empty())
    }
}

/// What was executed so far.
struct Script<'a, 'e> {
    options: &'a ReadOptions,
    each: &'a mut EachEntry<'e>,
    at: Menu,
    has_commands: bool,
    /// The families and names of the lists to which entries were added.
    added: HashSet<(&'static str, String)>,
    families: HashSet<&'static str>,
    /// Where the command begins.
    line: u64,
    goes_on: bool,
}

impl Script<'_, '_> {
    fn bad(&mut self, text: &str, why: &str) {
        self.goes_on = self.goes_on && (self.each)(Err(BadEntry::in_line(self.line, text.trim(), why)));
    }

    /// Executes the commands of a text.
    fn run(&mut self, text: &str, depth: usize) {
        for command in split(text, &[';', '\n']) {
            let command = command.trim();
            if command.is_empty() || !self.goes_on {
                continue;
            }
            if depth == MAX_DEPTH {
                self.bad(command, "there are too many braces around it");
            } else if let Some(inner) = block(command) {
                self.run(inner, depth + 1);
            } else {
                match self.command(command) {
                    Ok(None) => {}
                    Ok(Some(block)) => self.goes_on = (self.each)(Ok(block)),
                    Err(why) => self.bad(command, &why),
                }
            }
        }
    }

    /// Executes a command, and returns the entry that it adds.
    fn command(&mut self, text: &str) -> Result<Option<Block>, String> {
        const SCRIPT: &str =
            "what it does with address lists depends on more than this file says: write add commands only";
        let words = words(text)?;
        let mut command: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut here = self.at;
        if let Some(menu) = menu(&words) {
            let (menu, rest) = menu?;
            here = menu;
            // A menu with a command after it is for that command only.
            if rest.is_empty() {
                self.at = menu;
            }
            command = rest;
            self.has_commands |= matches!(menu, Menu::AddressList(_));
        }
        let Some(name) = command.first().copied() else { return Ok(None) };
        let mentions =
            |part: &str| text.split(|c: char| c.is_whitespace() || "{}[]();/".contains(c)).any(|word| word == part);
        match (here, name) {
            _ if name.starts_with(':') => {
                let is_harmless = HARMLESS.contains(&name) || (here == Menu::Other && !STOPS.contains(&name));
                let has_others =
                    ["add", "set", "remove", "disable", "enable", "address-list"].into_iter().any(mentions);
                if is_harmless && !has_others { Ok(None) } else { Err(SCRIPT.to_owned()) }
            }
            (Menu::Other, _) if mentions("address-list") => {
                Err("write the whole path: /ip firewall address-list add ...".to_owned())
            }
            (Menu::Other, _) => Ok(None),
            (Menu::AddressList(_) | Menu::Unknown, "add") => self.add(here, &command[1..]),
            (_, "remove" | "disable" | "enable" | "unset") => {
                if self.has_added(here, text) {
                    return Err(
                        "it changes entries that were added before: write it before them, or leave out the entries"
                            .to_owned(),
                    );
                }
                Ok(None)
            }
            (_, "print" | "export" | "find" | "get" | "move") if !mentions("add") => Ok(None),
            (_, "set") => Err("it changes an entry, which is not read: add the entry as it should be".to_owned()),
            _ => Err("it is not a command that is known: write add address=192.0.2.0/24 list=NAME".to_owned()),
        }
    }

    /// Whether entries were added that a command such as `remove [find list=NAME]` is about.
    fn has_added(&self, here: Menu, text: &str) -> bool {
        let found = text.split_once("[find").and_then(|(_, found)| found.trim_end().strip_suffix(']'));
        let found = found.map(|found| found.trim().strip_prefix("where ").unwrap_or(found).trim());
        let list = found.and_then(|found| found.strip_prefix("list=")).map(|list| list.trim_matches('"'));
        let is_name = |list: &&str| list.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let list = list.filter(is_name).filter(|_| self.added.len() < MAX_LISTS);
        let families = match here {
            Menu::AddressList(here) => &[here, ""],
            Menu::Unknown | Menu::Other => &["ip", "ipv6", ""][..],
        };
        families.iter().any(|family| match list {
            Some(list) => self.added.contains(&(*family, shorten(list))),
            None => self.families.contains(family),
        })
    }

    fn add(&mut self, here: Menu, words: &[&str]) -> Result<Option<Block>, String> {
        let mut values = [None; PARAMETERS.len()];
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let place = PARAMETERS.iter().position(|known| *known == name && word.contains('='));
            let place = place
                .ok_or_else(|| format!("{:?} is not known: an entry has {}", shorten(name), PARAMETERS.join(", ")))?;
            if values[place].replace(value).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        let [address, list, timeout, _, disabled, _, _] = values;
        let list = list.unwrap_or_default();
        self.has_commands |= address.is_some();
        let asks = !self.options.wanted.is_empty();
        if asks && list.contains(['$', '[', '(']) {
            return Err("the name of its list is not in the file, so it cannot be chosen by it".to_owned());
        }
        if !self.options.wanted.matches(|_, value| value == list) {
            return Ok(None);
        }
        match disabled {
            None | Some("no" | "false") => {}
            Some("yes" | "true") => return Ok(None),
            Some(other) => return Err(format!("disabled={:?} is neither yes nor no", shorten(other))),
        }
        let range = address::range(address.ok_or("it has no address, as in address=192.0.2.0/24")?)?;
        let until = match timeout {
            None | Some("none-dynamic" | "none-static") => Until::FOREVER,
            Some(timeout) => {
                let unknown = || format!("timeout {:?} is not a time: write it as 1d02:03:04", shorten(timeout));
                let timeout = ends::duration(timeout).ok_or_else(unknown)?;
                if timeout.is_zero() { Until::FOREVER } else { ends::after(self.options.now, timeout) }
            }
        };
        let family = if let Menu::AddressList(family) = here { family } else { "" };
        self.families.insert(family);
        if self.added.len() < MAX_LISTS {
            self.added.insert((family, shorten(list)));
        }
        Ok(Some(Block { range, until }))
    }
}

/// The inside of braces, if a command is nothing else, or is tried with `:do` and has nothing to do in case of an error.
fn block(command: &str) -> Option<&str> {
    let rest = command.strip_prefix(":do").map_or(command, str::trim_start);
    let inner = rest.strip_prefix('{')?;
    let (inner, after) = inner.split_at(split(inner, &['}']).next().map_or(inner.len(), str::len));
    let after: String = after.strip_prefix('}')?.split_whitespace().collect();
    matches!(after.as_str(), "" | "on-error={}").then_some(inner)
}

/// Splits a text at marks that are neither in quotes nor in brackets.
fn split<'a>(text: &'a str, marks: &'static [char]) -> impl Iterator<Item = &'a str> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_u32, false, false);
    text.split(move |char: char| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        let is_end = depth == 0 && !is_quoted && marks.contains(&char);
        match char {
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '{' | '[' | '(' if !is_quoted => depth += 1,
            '}' | ']' | ')' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_end
    })
}

/// The words of a command, without quotes. What is in brackets is one word.
fn words(command: &str) -> Result<Vec<String>, String> {
    split(command, &[' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()).map(unquoted).collect()
}

fn unquoted(word: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut is_quoted = false;
    let mut chars = word.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => is_quoted = !is_quoted,
            '\\' => {
                let escaped = chars.next().unwrap_or_default();
                match escaped {
                    '"' | '\\' | '$' | '?' => text.push(escaped),
                    'n' | 'r' | 't' | '_' => text.push(' '),
                    // Two hexadecimal digits, in upper case.
                    '0'..='9' | 'A'..='F' => {
                        let digits: String = [Some(escaped), chars.next()].into_iter().flatten().collect();
                        let byte = u8::from_str_radix(&digits, 16)
                            .map_err(|_| format!("{digits:?} is not a character after \\"))?;
                        text.push(byte.into());
                    }
                    other => return Err(format!("{other:?} is not a character after \\")),
                }
            }
            _ => text.push(char),
        }
    }
    if is_quoted { Err("the quote is not closed".to_owned()) } else { Ok(text) }
}

/// The menu that a command begins with, and what comes after it: `/ip firewall address-list add ...`, or `/ip/firewall/address-list/add`.
///
/// # Errors
/// It may be the menu of address lists, but is abbreviated, or leads to other files.
fn menu(words: &[String]) -> Option<Result<(Menu, Vec<&str>), String>> {
    let first = words.first().filter(|word| word.starts_with('/') || word.starts_with(".."))?;
    // Addresses have slashes as well.
    let is_path = |word: &&String| !word.contains('=') && !word.starts_with(['[', '{', '(', ':']);
    let path = words.iter().take_while(is_path).flat_map(|word| word.split('/')).filter(|part| !part.is_empty());
    let path: Vec<_> = path.collect();
    let rest = words.iter().skip_while(|word| is_path(word)).map(String::as_str);
    let is_short_for = |part: &str, whole: &str| !part.is_empty() && whole.starts_with(part);
    let short = || Err("the menu is not written out: write /ip firewall address-list".to_owned());
    Some(match path[..] {
        ["ip", "firewall", "address-list", ref command @ ..] => {
            Ok((Menu::AddressList("ip"), command.iter().copied().chain(rest).collect()))
        }
        ["ipv6", "firewall", "address-list", ref command @ ..] => {
            Ok((Menu::AddressList("ipv6"), command.iter().copied().chain(rest).collect()))
        }
        ["import", ..] => Err("it reads another file, which is not read: read that file too".to_owned()),
        ["quit", ..] => Err("it ends the script: leave out what comes after it".to_owned()),
        [one, two, three, ..]
            if is_short_for(one, "ipv6") && is_short_for(two, "firewall") && is_short_for(three, "address-list") =>
        {
            short()
        }
        _ if first.starts_with("..") => short(),
        // Where a command begins there is not known, and only whether there is one matters.
        _ => {
            const COMMANDS: &[&str] =
                &["add", "disable", "enable", "export", "find", "move", "print", "remove", "reset", "set", "unset"];
            let is_command = |word: &&str| word.contains('=') || COMMANDS.contains(word);
            Ok((Menu::Other, words.iter().map(String::as_str).filter(is_command).collect()))
        }
    })
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
    fn several_commands_of_a_line_are_read() {
        let file = "/ip firewall address-list\nadd address=192.0.2.1 list=a; add address=192.0.2.2 list=a comment=\"x; add address=10.0.0.1\"\n\
            { add address=192.0.2.3 list=a; # no { here\n# nor { here\nadd address=192.0.2.4 list=a\n}\n\
            :do { add address=192.0.2.5 list=a; add address=192.0.2.6 list=a } on-error={}\n\
            add address=\"192.0.2.\\37\" list=a disabled=false\nadd address=192.0.2.8 list=a disabled=true\nadd address=192.0.2.9 list=a disabled=maybe\n";
        assert_entries(
            &entries(Format::Mikrotik, file),
            &[
                "192.0.2.1",
                "192.0.2.2",
                "192.0.2.3",
                "192.0.2.4",
                "192.0.2.5",
                "192.0.2.6",
                "192.0.2.7",
                "line 10: ... disabled=\"maybe\" is neither yes nor no",
            ],
        );
    }

    #[test]
    fn what_depends_on_more_than_the_file_is_bad() {
        let file = "/ip firewall address-list\n:foreach x in={192.0.2.1} do={ add address=$x list=a }\n:if ($a) do={\n add address=192.0.2.1 list=a\n}\n\
            :do { add address=192.0.2.1 list=a } on-error={ add address=192.0.2.2 list=a }\nadd address=$x list=a\n:local x [add address=192.0.2.1]\n\
            foo address=192.0.2.1\nadd address=192.0.2.1 list=a foo\nadd address=192.0.2.1 address=192.0.2.2\nadd copy-from=1\n\
            /ip fir addr add address=192.0.2.1\n/import other.rsc\n/ip firewall\naddress-list add address=192.0.2.1\n:error x\n:put done\n}\n";
        assert_entries(
            &entries(Format::Mikrotik, file),
            &[
                "line 2: ... depends on more",
                "line 3: ... depends on more",
                "line 6: ... depends on more",
                "line 7: ... is not an IP address",
                "line 8: ... depends on more",
                "line 9: ... not a command that is known",
                "line 10: ... \"foo\" is not known",
                "line 11: ... address is there twice",
                "line 12: ... \"copy-from\" is not known",
                "line 13: ... not written out",
                "line 14: ... reads another file",
                "line 16: ... write the whole path",
                "line 17: ... depends on more",
                "line 19: ... closes what is not open",
            ],
        );
        let file = "add address=192.0.2.1 list=$x\n";
        assert_entries(&entries(Format::Mikrotik, file), &["192.0.2.1"]);
        assert_entries(
            &entries_with(Format::Mikrotik, file, &[("list", "a")]).unwrap(),
            &["line 1: ... cannot be chosen"],
        );
    }

    #[test]
    fn entries_that_are_removed_again_are_bad() {
        let file = "/ip firewall address-list\nremove [find list=a]\nadd address=192.0.2.1 list=a\nremove [find list=b]\nadd address=192.0.2.2 list=b\n\
            remove [find list=\"a\"]\nremove [find]\ndisable [find where list=a]\nremove [find list~\"c\"]\n/ipv6 firewall address-list\nremove [find list=a]\n\
            add address=2001:db8::1 list=a\n/ipv6 firewall address-list remove [find list=a]\n";
        let bad = "it changes entries that were added before";
        let [a, b, c, d, e] = [6, 7, 8, 9, 13].map(|line| format!("line {line}: ... {bad}"));
        assert_entries(
            &entries(Format::Mikrotik, file),
            &["192.0.2.1", "192.0.2.2", &a, &b, &c, &d, "2001:db8::1", &e],
        );
    }

    #[test]
    fn a_line_that_is_cut_off_is_the_last_entry_if_no_more_is_wanted() {
        let mut entries = 0;
        let file = "{ip firewall address-list\nadd addr";
        let result = crate::read(Format::Mikrotik, &mut file.as_bytes(), &ReadOptions::default(), &mut |_| {
            entries += 1;
            false
        });
        assert!(result.is_ok() && entries == 1, "{result:?}, {entries} entries");
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
