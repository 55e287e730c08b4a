//! Words and JSON for what every answer has: times, durations, numbers, ends, addresses and verdicts.

use std::time::Duration;

use edgefold::{Block, Listing, LogTime, Until, Verdict};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Value, json};

use crate::addresses::Addresses;

/// A time for people, cut to the second: RFC 3339 in the zone of the reader (`TZ`), as in `2026-11-22T18:00:00+01:00`.
pub(crate) fn time(time: LogTime) -> String {
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
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let words = units.iter().skip_while(|(number, _)| *number == 0).take(2).filter(|(number, _)| *number > 0);
    let words: Vec<String> = words.map(|(number, unit)| format!("{number}{unit}")).collect();
    if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
}

/// A number for people: `12,345`.
pub(crate) fn number(number: impl Into<u128>) -> String {
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

/// A number of things: `1 range`, `2,000 ranges`.
pub(crate) fn count(number: impl Into<u128>, thing: &str) -> String {
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
pub(crate) fn addresses(Addresses { ipv4, ipv6, .. }: Addresses) -> String {
    let ipv6_words = if ipv6 < 1 << 64 { number(ipv6) } else { format!("about 2^{}", ipv6.ilog2()) };
    match (ipv4, ipv6) {
        (ipv4, 0) => count(ipv4, "address"),
        (0, 1) => "1 IPv6 address".to_owned(),
        (0, _) => format!("{ipv6_words} IPv6 addresses"),
        (ipv4, _) => format!("{} IPv4 and {ipv6_words} IPv6 addresses", number(ipv4)),
    }
}

/// When a block ends, for people: `until TIME` or `forever`.
pub(crate) fn until_words(until: Until) -> String {
    match until.time() {
        None => until.to_string(),
        Some(end) => format!("until {}", time(end)),
    }
}

/// A text that somebody else wrote, on one line: control characters are escaped, and so are backslashes, and characters that are not seen or
/// that turn the direction of what follows.
pub(crate) fn one_line(text: &str) -> String {
    visible(&text.replace('\\', r"\\"))
}

/// The text with escapes for characters that are not seen, or that change what is seen of others.
pub(crate) fn visible(text: &str) -> String {
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

/// `first`, `last` and `until`, which is null for forever.
pub(crate) fn block_json(Block { range, until }: Block) -> Value {
    let until = until.time().map(|time| time.to_string());
    json!({ "first": range.first(), "last": range.last(), "until": until })
}

/// `action`, and the lists that it comes from.
pub(crate) fn verdict_json(verdict: &Verdict) -> Value {
    let names = |on: &[Listing]| on.iter().map(|on| on.list.to_string()).collect::<Vec<_>>();
    let (action, list, shadow, tag) = match verdict {
        Verdict::Pass => ("pass", None, vec![], vec![]),
        Verdict::Exempt(by) => ("exempt", Some(by.list), vec![], vec![]),
        Verdict::Deny(by) => ("deny", Some(by.list), vec![], vec![]),
        Verdict::Mark { shadow, tag } => ("pass", None, names(shadow), names(tag)),
    };
    json!({ "action": action, "list": list.map(|list| list.to_string()), "shadow": shadow, "tag": tag })
}

/// `ranges`, `ipv4_addresses` and, as text, `ipv6_addresses`.
pub(crate) fn addresses_json(Addresses { ranges, ipv4, ipv6 }: Addresses) -> Value {
    // Numbers of JSON are often read as floating point.
    json!({ "ranges": ranges, "ipv4_addresses": ipv4, "ipv6_addresses": ipv6.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_for_people() {
        let texts: Vec<String> = [0, 7, 999, 1_000, 12_345, 1_234_567].map(|of: u32| number(of)).into();
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        let durations = [0, 59, 3_900, 86_400, 90_000].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(durations, ["0s", "59s", "1h 5m", "1d", "1d 1h"]);
        assert_eq!(count(1_u32, "address"), "1 address");
        assert_eq!(count(65_536_u32, "address"), "65,536 addresses");
    }
}
