//! What subcommands print: text for people, tab-separated lines or JSON for programs.

use std::env;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use edgefold::{Block, Fold, List, ListName, Listing, LogTime, Until, Verdict};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::flag;

use super::{CliError, progress};
use crate::addresses::Addresses;

/// An output format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Human,
    /// Tab-separated lines
    Raw,
    /// JSON
    Json,
}

/// Calls `print` with stdout, buffered. A reader that stops early, as `head` does, is not an error.
pub(super) fn print(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    match print(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

/// As [`print`], through a pager if stdout is a terminal: `EDGEFOLD_PAGER`, or `PAGER`, or `less`, as git does. `cat` or an empty text stands
/// for none.
pub(super) fn print_long(print_to: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let pager = if io::stdout().is_terminal() { pager() } else { None };
    let Some(mut pager) = pager.and_then(|mut pager| pager.spawn().ok()) else { return print(print_to) };
    progress::hide();
    // A Ctrl-C is for the pager, which takes it as git's does: this process must outlive it.
    for signal in [SIGINT, SIGQUIT] {
        flag::register(signal, Arc::new(AtomicBool::new(false))).map_err(CliError::Signal)?;
    }
    let printed = match pager.stdin.take() {
        // Whoever leaves the pager early closes the pipe.
        Some(stdin) => {
            let mut out = BufWriter::new(stdin);
            print_to(&mut out).and_then(|()| out.flush())
        }
        None => Ok(()),
    };
    pager.wait().map_err(CliError::Output)?;
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

fn pager() -> Option<Command> {
    let named = env::var("EDGEFOLD_PAGER").or_else(|_| env::var("PAGER")).unwrap_or_else(|_| "less".to_owned());
    let program = named.split_whitespace().next().filter(|program| *program != "cat")?;
    // The shell would only complain, and what is printed would be lost.
    let is_there = |folder: PathBuf| folder.join(program).is_file();
    if !env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(is_there) && !Path::new(program).is_file() {
        return None;
    }
    // It may have arguments.
    let mut pager = Command::new("sh");
    pager.args(["-c", &named]).stdin(Stdio::piped());
    if env::var_os("LESS").is_none() {
        // Ends if all fits on the screen, shows colours, and leaves the text there.
        pager.env("LESS", "FRX");
    }
    Some(pager)
}

/// How to emphasize text: not at all, unless stdout is a terminal and `NO_COLOR` is not set.
#[derive(Clone, Copy, Default)]
pub(super) struct Styles {
    /// What matters most.
    pub(super) strong: Style,
    /// What is refused, or removed.
    pub(super) bad: Style,
    /// What passes, or is added.
    pub(super) good: Style,
    /// What matters less.
    pub(super) quiet: Style,
}

impl Styles {
    pub(super) fn of_stdout() -> Self {
        if AutoStream::choice(&io::stdout()) == ColorChoice::Never {
            return Self::default();
        }
        Self {
            strong: Style::new().bold(),
            bad: AnsiColor::Red.on_default(),
            good: AnsiColor::Green.on_default(),
            quiet: Style::new().dimmed(),
        }
    }
}

/// A time for people, cut to the second: RFC 3339 in the zone of the reader (`TZ`), as in `2026-11-22T18:00:00+01:00`.
pub(super) fn time(time: LogTime) -> String {
    let seconds = i64::try_from(time.millis() / 1000).ok();
    let Some(instant) = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) else {
        return time.to_string();
    };
    match TimeZone::system().to_offset(instant) {
        Offset::UTC => instant.to_string(),
        offset => instant.display_with_offset(offset).to_string(),
    }
}

/// A duration for people, in its two largest units: `3h 5m`.
pub(super) fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let words = units.iter().skip_while(|(number, _)| *number == 0).take(2).filter(|(number, _)| *number > 0);
    let words: Vec<String> = words.map(|(number, unit)| format!("{number}{unit}")).collect();
    if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
}

/// A number for people: `12,345`.
pub(super) fn number(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints on stderr what went wrong.
pub(super) fn complain(error: &dyn std::error::Error) {
    say(&error.to_string());
}

/// Prints a message for people on stderr.
pub(super) fn say(text: &str) {
    let lines: Vec<String> = text.split('\n').map(visible).collect();
    // If stderr is closed, there is nobody to tell.
    let _written = writeln!(io::stderr(), "edgefold: {}", lines.join("\n"));
}

/// When a block ends, for people: `until TIME` or `forever`.
pub(super) fn until_words(until: Until) -> String {
    match until.time() {
        None => until.to_string(),
        Some(end) => format!("until {}", time(end)),
    }
}

/// The list with this name.
///
/// # Errors
/// [`CliError::NoList`] if it does not exist.
pub(super) fn list<'a>(fold: &'a Fold, name: &ListName) -> Result<&'a List, CliError> {
    fold.list(name).ok_or_else(|| CliError::NoList { name: *name, known: list_names(fold) })
}

/// The names of all lists.
pub(super) fn list_names(fold: &Fold) -> String {
    fold.lists().iter().map(|list| list.name().to_string()).collect::<Vec<_>>().join(", ")
}

/// A text that somebody else wrote, on one line: control characters are escaped, and so are backslashes, and characters that are not seen or
/// that turn the direction of what follows.
pub(super) fn one_line(text: &str) -> String {
    visible(&text.replace('\\', r"\\"))
}

/// The text with escapes for characters that are not seen, or that change what is seen of others.
fn visible(text: &str) -> String {
    let is_hidden = |c| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_hidden(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// A number of things: `1 range`, `2,000 ranges`.
pub(super) fn count(number: impl Into<u128>, thing: &str) -> String {
    let number = number.into();
    let text = self::number(number);
    match (number, thing.strip_suffix('y')) {
        (1, _) => format!("{text} {thing}"),
        (_, Some(stem)) => format!("{text} {stem}ies"),
        (_, None) if thing.ends_with('s') => format!("{text} {thing}es"),
        (_, None) => format!("{text} {thing}s"),
    }
}

/// How many addresses: `256 addresses`, `3 IPv6 addresses`, `256 IPv4 and 3 IPv6 addresses`. Very many are a power of two.
pub(super) fn addresses(Addresses { ipv4, ipv6, .. }: Addresses) -> String {
    let ipv6_words = if ipv6 < 1 << 64 { number(ipv6) } else { format!("about 2^{}", ipv6.ilog2()) };
    match (ipv4, ipv6) {
        (ipv4, 0) => count(ipv4, "address"),
        (0, 1) => "1 IPv6 address".to_owned(),
        (0, _) => format!("{ipv6_words} IPv6 addresses"),
        (ipv4, _) => format!("{} IPv4 and {ipv6_words} IPv6 addresses", number(ipv4)),
    }
}

/// `FIRST<TAB>LAST<TAB>UNTIL`, where `-` stands for forever.
pub(super) fn block_raw(Block { range, until }: Block) -> String {
    let until = until.time().map_or("-".to_owned(), |time| time.to_string());
    format!("{}\t{}\t{until}", range.first(), range.last())
}

/// `first`, `last` and `until`, which is null for forever.
pub(super) fn block_json(Block { range, until }: Block) -> Value {
    let until = until.time().map(|time| time.to_string());
    json!({ "first": range.first(), "last": range.last(), "until": until })
}

/// `action`, and the lists that it comes from.
pub(super) fn verdict_json(verdict: &Verdict) -> Value {
    let names = |on: &[Listing]| on.iter().map(|on| on.list.to_string()).collect::<Vec<_>>();
    let (action, list, shadow, tag) = match verdict {
        Verdict::Pass => ("pass", None, vec![], vec![]),
        Verdict::Exempt(by) => ("exempt", Some(by.list), vec![], vec![]),
        Verdict::Deny(by) => ("deny", Some(by.list), vec![], vec![]),
        Verdict::Mark { shadow, tag } => ("pass", None, names(shadow), names(tag)),
    };
    json!({ "action": action, "list": list.map(|list| list.to_string()), "shadow": shadow, "tag": tag })
}

/// A JSON array with one element on each line.
pub(super) fn json_array(out: &mut dyn Write, values: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, "[")?;
    for (index, value) in values.enumerate() {
        write!(out, "{}\n  {value}", if index == 0 { "" } else { "," })?;
    }
    writeln!(out, "\n]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_for_people() {
        let texts: Vec<String> = [0, 7, 999, 1_000, 12_345, 1_234_567].map(|of: u32| number(of)).into();
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        let durations = [0, 59, 3_900, 86_400, 90_000].map(|seconds| duration(std::time::Duration::from_secs(seconds)));
        assert_eq!(durations, ["0s", "59s", "1h 5m", "1d", "1d 1h"]);
        assert_eq!(count(1_u32, "address"), "1 address");
        assert_eq!(count(65_536_u32, "address"), "65,536 addresses");
    }
}
