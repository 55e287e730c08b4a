//! The command grammar: the text in a record's value. `docs/semantics.md` is its authority.

use std::fmt;
use std::time::Duration;

use edgefold_table::{IpRange, ParseRangeError, shorten};

use super::time::{LogTime, TimeError};

/// The version of what a record of the commands means. A reader of another version may read a record differently, and so fold
/// other ranges from the same log. Each change of meaning has a number in `docs/semantics.md`.
pub const GRAMMAR: u32 = 2;

/// The longest command, in bytes.
pub const MAX_COMMAND_BYTES: usize = 4096;

/// One command.
///
/// ```
/// use edgefold::Command;
///
/// let command = Command::parse("BLACKLIST 10.0.0.0/24 ttl=4h origin=waf")?;
/// assert_eq!(command.origin.as_deref(), Some("waf"));
/// assert_eq!(command.to_string(), r#"BLACKLIST 10.0.0.0/24 ttl=14400s origin="waf""#);
///
/// let error = Command::parse("BLACKLIST 10.0.0.5/24").unwrap_err();
/// assert!(error.to_string().contains("has host bits set: write 10.0.0.0/24 for the block"));
/// # Ok::<(), edgefold::CommandError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// What to do with the range.
    pub action: Action,
    /// The addresses that it is about.
    pub range: IpRange,
    /// Who or what issued it, for people.
    pub origin: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// What a command does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// `BLACKLIST`: block the range.
    Blacklist(Term),
    /// `WHITELIST`: let the range pass, until a later command blocks it.
    Whitelist,
}

/// How long a block lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Term {
    /// Until the range is whitelisted.
    Forever,
    /// This long from the command's time on: whole milliseconds, not zero.
    Ttl(Duration),
    /// Until this moment.
    Until(LogTime),
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// [`CommandError`] says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        if text.len() > MAX_COMMAND_BYTES {
            return Err(CommandError::TooLong { bytes: text.len() });
        }
        let text = text.trim_ascii();
        if let Some(found) = text.chars().find(|&c| c.is_control() && c != '\t') {
            return Err(CommandError::ControlCharacter { found });
        }
        let (verb, rest) = next_word(text);
        let (range, mut rest) = next_word(rest);
        let blacklist = match verb.to_ascii_uppercase().as_str() {
            "BLACKLIST" | "BLOCK" | "DENY" => true,
            "WHITELIST" | "ALLOW" | "UNBLOCK" => false,
            "" => return Err(CommandError::Empty),
            _ => return Err(CommandError::Verb { found: shorten(verb) }),
        };
        if range.is_empty() {
            return Err(CommandError::NoRange);
        }
        let range = range.parse()?;
        let mut attributes = Attributes::default();
        while !rest.is_empty() {
            rest = attributes.read(rest)?;
        }
        let Attributes { ttl, until, origin, reason } = attributes;
        let action = match (blacklist, ttl, until) {
            (true, None, None) => Action::Blacklist(Term::Forever),
            (true, Some(ttl), None) => Action::Blacklist(Term::Ttl(parse_ttl(&ttl)?)),
            (true, None, Some(until)) => Action::Blacklist(Term::Until(LogTime::parse(&until)?)),
            (true, Some(_), Some(_)) => return Err(CommandError::TtlAndUntil),
            (false, None, None) => Action::Whitelist,
            (false, ..) => return Err(CommandError::TermOnWhitelist),
        };
        Ok(Self { action, range, origin, reason })
    }
}

#[derive(Default)]
struct Attributes {
    ttl: Option<String>,
    until: Option<String>,
    origin: Option<String>,
    reason: Option<String>,
}

impl Attributes {
    /// Reads one attribute at the start of `text`, and returns the rest.
    fn read<'a>(&mut self, text: &'a str) -> Result<&'a str, CommandError> {
        let end = text.find([' ', '\t', '=']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let slot = match name {
            "ttl" => &mut self.ttl,
            "until" => &mut self.until,
            "origin" => &mut self.origin,
            "reason" => &mut self.reason,
            _ => return Err(CommandError::UnknownAttribute { name: shorten(name) }),
        };
        let Some(value) = rest.strip_prefix('=') else {
            return Err(CommandError::NoValue { name: name.to_owned() });
        };
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquote(name, quoted)?,
            None => {
                let (word, rest) = next_word(value);
                (word.to_owned(), rest)
            }
        };
        if value.is_empty() {
            return Err(CommandError::NoValue { name: name.to_owned() });
        }
        if slot.replace(value).is_some() {
            return Err(CommandError::DoubledAttribute { name: name.to_owned() });
        }
        Ok(rest)
    }
}

/// Splits `text` at the first blank, and skips the blanks there. The word is empty if `text` starts with a blank.
fn next_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_at(text.find([' ', '\t']).unwrap_or(text.len()));
    (word, skip_blanks(rest))
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Reads up to the closing quote, and returns the value and the rest.
fn unquote<'a>(name: &str, quoted: &'a str) -> Result<(String, &'a str), CommandError> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = &quoted[at + 1..];
                if !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
                    return Err(CommandError::AfterQuote { name: name.to_owned() });
                }
                return Ok((value, skip_blanks(rest)));
            }
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err(CommandError::Escape { name: name.to_owned() }),
            },
            _ => value.push(character),
        }
    }
    Err(CommandError::UnclosedQuote { name: name.to_owned() })
}

/// Reads a duration of whole numbers with the units s, m, h, d and w: `4h`, `90s`, `1h30m`, `2d`, `1w`.
///
/// # Errors
/// [`CommandError::Ttl`] for any other form, [`CommandError::ZeroTtl`] for zero, [`CommandError::TtlOverflow`] for one that
/// leads past the year 9999 from 1970.
pub fn parse_ttl(text: &str) -> Result<Duration, CommandError> {
    let error = || CommandError::Ttl { text: shorten(text) };
    let overflow = || CommandError::TtlOverflow { text: shorten(text) };
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let (number, unit_and_rest) = rest.split_at(digits);
        let unit = match unit_and_rest.as_bytes().first() {
            _ if number.is_empty() => return Err(error()),
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 60 * 60,
            Some(b'd') => 24 * 60 * 60,
            Some(b'w') => 7 * 24 * 60 * 60,
            _ => return Err(error()),
        };
        let number: u64 = number.parse().map_err(|_| overflow())?;
        seconds = number.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(overflow)?;
        rest = &unit_and_rest[1..];
    }
    match seconds {
        _ if text.is_empty() => Err(error()),
        0 => Err(CommandError::ZeroTtl),
        seconds if seconds > LogTime::LAST.millis() / 1000 => Err(overflow()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// A text that [`Command::parse`] reads back.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range.shortest_text();
        match self.action {
            Action::Whitelist => write!(f, "WHITELIST {range}")?,
            Action::Blacklist(Term::Forever) => write!(f, "BLACKLIST {range}")?,
            Action::Blacklist(Term::Ttl(ttl)) => write!(f, "BLACKLIST {range} ttl={}s", ttl.as_secs())?,
            Action::Blacklist(Term::Until(until)) => write!(f, "BLACKLIST {range} until={until}")?,
        }
        for (name, value) in [("origin", &self.origin), ("reason", &self.reason)] {
            if let Some(value) = value {
                write!(f, " {name}=\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))?;
            }
        }
        Ok(())
    }
}

/// Why a text is not a command.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The text is empty.
    #[error("the command is empty: write a verb and a range, as in BLACKLIST 10.0.0.0/24")]
    Empty,
    /// The text is longer than [`MAX_COMMAND_BYTES`].
    #[error("the command is {bytes} bytes long, but at most {MAX_COMMAND_BYTES} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A line feed, an escape or the like, which would garble what people are shown.
    #[error("the command contains the control character {found:?}: take it out")]
    ControlCharacter {
        /// The first control character.
        found: char,
    },
    /// The first word is not a verb.
    #[error("unknown verb {found:?}: write BLACKLIST (BLOCK, DENY) or WHITELIST (ALLOW, UNBLOCK)")]
    Verb {
        /// What was found.
        found: String,
    },
    /// There is nothing after the verb.
    #[error("the range is missing: write an address, a CIDR block, or first-last after the verb")]
    NoRange,
    /// The second word is not a range.
    #[error(transparent)]
    Range(#[from] ParseRangeError),
    /// An attribute that does not exist.
    #[error("unknown attribute {name:?}: write ttl=, until=, origin= or reason=")]
    UnknownAttribute {
        /// What was found.
        name: String,
    },
    /// An attribute given twice.
    #[error("attribute {name} is given twice: give it once")]
    DoubledAttribute {
        /// Its name.
        name: String,
    },
    /// An attribute without a value.
    #[error("attribute {name} has no value: write {name}=VALUE")]
    NoValue {
        /// Its name.
        name: String,
    },
    /// A quoted value without a closing quote.
    #[error("the value of {name} has no closing quote")]
    UnclosedQuote {
        /// The attribute's name.
        name: String,
    },
    /// A quoted value with something right after it.
    #[error("the value of {name} continues after its closing quote: put a blank there, or escape the quote as \\\"")]
    AfterQuote {
        /// The attribute's name.
        name: String,
    },
    /// A backslash before another character than a quote or a backslash.
    #[error("a backslash in the value of {name} must be followed by \" or \\")]
    Escape {
        /// The attribute's name.
        name: String,
    },
    /// Both ttl and until are given.
    #[error("ttl and until exclude each other: give one of them")]
    TtlAndUntil,
    /// A WHITELIST with a ttl or until.
    #[error("ttl and until belong to BLACKLIST: a WHITELIST holds until the next BLACKLIST")]
    TermOnWhitelist,
    /// The ttl has another form.
    #[error("ttl {text:?} is not a duration: write whole numbers with s, m, h, d or w, as in 4h or 1h30m")]
    Ttl {
        /// What was found.
        text: String,
    },
    /// The ttl is zero.
    #[error("a ttl of zero blocks nothing: give at least 1s, or use WHITELIST to unblock")]
    ZeroTtl,
    /// A ttl that leads past the year 9999.
    #[error("ttl {text:?} leads past the year 9999: leave it out to block forever")]
    TtlOverflow {
        /// What was found.
        text: String,
    },
    /// The value of until is not a time.
    #[error("until: {0}")]
    Until(#[from] TimeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        Command::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn verbs_are_read_in_any_case_and_by_all_their_names() {
        for verb in ["BLACKLIST", "blacklist", "Block", "DENY"] {
            let command = Command::parse(&format!("{verb} 10.0.0.0/24")).unwrap();
            assert_eq!(command.to_string(), "BLACKLIST 10.0.0.0/24");
        }
        for verb in ["WHITELIST", "whitelist", "Allow", "UNBLOCK"] {
            let command = Command::parse(&format!("{verb} 10.0.0.0/24")).unwrap();
            assert_eq!(command.to_string(), "WHITELIST 10.0.0.0/24");
        }
    }

    #[test]
    fn every_form_of_a_range_is_read() {
        for (text, expected) in [
            ("10.0.0.100", "10.0.0.100"),
            ("10.0.0.100/32", "10.0.0.100"),
            ("10.0.0.0/24", "10.0.0.0-10.0.0.255"),
            ("0.0.0.0/0", "0.0.0.0-255.255.255.255"),
            ("10.0.0.1-10.0.0.255", "10.0.0.1-10.0.0.255"),
            ("2001:db8::/127", "2001:db8::-2001:db8::1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::1-::ff", "::1-::ff"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.0/120", "10.0.0.0-10.0.0.255"),
            ("::ffff:0:0/96", "0.0.0.0-255.255.255.255"),
            ("::ffff:10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
        ] {
            let command = Command::parse(&format!("BLACKLIST {text}")).unwrap();
            assert_eq!(command.range.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn attributes_are_read() {
        let text = r#"BLACKLIST 2001:db8::/48  ttl=4h origin=waf reason="credential \"stuffing\" \\o/""#;
        let command = Command::parse(text).unwrap();
        assert_eq!(command.action, Action::Blacklist(Term::Ttl(Duration::from_secs(4 * 3600))));
        assert_eq!(command.origin.as_deref(), Some("waf"));
        assert_eq!(command.reason.as_deref(), Some(r#"credential "stuffing" \o/"#));
        let command = Command::parse("BLACKLIST 192.0.2.10-192.0.2.40 until=2026-12-01T00:00:00Z\r\n").unwrap();
        assert_eq!(command.action, Action::Blacklist(Term::Until(LogTime::parse("2026-12-01T00:00:00Z").unwrap())));
        let command = Command::parse("WHITELIST 10.0.0.1 reason=\"office, über VPN\"").unwrap();
        assert_eq!(command.reason.as_deref(), Some("office, über VPN"));
    }

    #[test]
    fn ttls_add_up() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800), ("0h1s", 1)] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_ttl(""), Err(CommandError::Ttl { text: String::new() }));
        let longest = LogTime::LAST.millis() / 1000;
        assert_eq!(parse_ttl(&format!("{longest}s")), Ok(Duration::from_secs(longest)));
        let text = format!("{}s", longest + 1);
        assert_eq!(parse_ttl(&text), Err(CommandError::TtlOverflow { text }));
    }

    #[test]
    fn bad_input_is_refused_with_what_would_be_right() {
        for (text, words) in [
            ("", "the command is empty"),
            ("   ", "the command is empty"),
            ("DROP 10.0.0.0/24", r#"unknown verb "DROP": write BLACKLIST"#),
            ("BLACKLIST", "the range is missing"),
            ("BLACKLIST 10.0.0.5/24", "10.0.0.5/24 has host bits set: write 10.0.0.0/24 for the block or 10.0.0.5/32"),
            ("BLACKLIST 2001:db8::1/48", "2001:db8::1/48 has host bits set: write 2001:db8::/48"),
            ("BLACKLIST 010.0.0.1", r#"octet "010" of "010.0.0.1" has a leading zero"#),
            ("BLACKLIST 10.0.0.00", "has a leading zero"),
            ("BLACKLIST 10.1", r#""10.1" has 2 octets: write all 4"#),
            ("BLACKLIST 10.0.1", r#""10.0.1" has 3 octets: write all 4"#),
            ("BLACKLIST 167772161", "is not an IP address"),
            ("BLACKLIST 0x0a000001", "is not an IP address"),
            ("BLACKLIST 10.0.0.256", "is not an IP address"),
            ("BLACKLIST 10.0.0.0/33", r#"prefix length "33" is not a number from 0 to 32"#),
            ("BLACKLIST 10.0.0.0/", "prefix length"),
            ("BLACKLIST 10.0.0.0/+8", "prefix length"),
            ("BLACKLIST 10.0.0.0/08", "prefix length"),
            ("BLACKLIST ::/129", r#"prefix length "129" is not a number from 0 to 128"#),
            ("BLACKLIST 10.0.0.9-10.0.0.1", "the last address 10.0.0.1 is below the first address 10.0.0.9: swap them"),
            ("BLACKLIST 10.0.0.1-::1", "10.0.0.1 and ::1 are of different families"),
            ("BLACKLIST ::1-::ffff:10.0.0.1", "of different families"),
            ("BLACKLIST ::/80", "of different families"),
            ("BLACKLIST 10.0.0.1-", "an address is missing"),
            ("BLACKLIST fe80::1%eth0", "has a zone"),
            ("BLACKLIST [::1]", "is not an IP address"),
            ("BLACKLIST example.org", "is not an IP address"),
            ("BLACKLIST 10.0.0.1 colour=red", r#"unknown attribute "colour": write ttl="#),
            ("BLACKLIST 10.0.0.1 junk", r#"unknown attribute "junk""#),
            ("BLACKLIST 10.0.0.1 ttl", "attribute ttl has no value"),
            ("BLACKLIST 10.0.0.1 ttl=", "attribute ttl has no value"),
            ("BLACKLIST 10.0.0.1 ttl=1h ttl=2h", "attribute ttl is given twice"),
            ("BLACKLIST 10.0.0.1 ttl=0s", "a ttl of zero blocks nothing"),
            ("BLACKLIST 10.0.0.1 ttl=5", r#"ttl "5" is not a duration"#),
            ("BLACKLIST 10.0.0.1 ttl=h", "is not a duration"),
            ("BLACKLIST 10.0.0.1 ttl=-4h", "is not a duration"),
            ("BLACKLIST 10.0.0.1 ttl=1.5h", "is not a duration"),
            ("BLACKLIST 10.0.0.1 ttl=99999999w", "leads past the year 9999"),
            ("BLACKLIST 10.0.0.1 ttl=99999999999999999999s", "leads past the year 9999"),
            ("BLACKLIST 10.0.0.1 ttl=1h until=2026-12-01T00:00:00Z", "ttl and until exclude each other"),
            ("BLACKLIST 10.0.0.1 until=tomorrow", r#"until: "tomorrow" is not a time: write RFC 3339"#),
            ("WHITELIST 10.0.0.1 ttl=1h", "ttl and until belong to BLACKLIST"),
            (r#"BLACKLIST 10.0.0.1 reason="a"#, "the value of reason has no closing quote"),
            (r#"BLACKLIST 10.0.0.1 reason="a"b"#, "continues after its closing quote"),
            (r#"BLACKLIST 10.0.0.1 reason="a\n""#, r#"must be followed by " or \"#),
            ("BLACKLIST 10.0.0.1 reason=\"\u{1b}[2J\"", "control character"),
            ("BLACKLIST 10.0.0.1\nBLACKLIST 10.0.0.2", "control character"),
        ] {
            let error = refused(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let of_length = |length| format!("{:x<length$}", "BLACKLIST 10.0.0.1 reason=");
        assert!(Command::parse(&of_length(4096)).is_ok());
        assert!(refused(&of_length(4097)).contains("is 4097 bytes long, but at most 4096 are allowed"));
        assert!(refused(&"ü".repeat(2000)).len() < 300, "an error does not repeat a long text");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            a: u32, b: u32, six: bool, blacklist: bool, ttl in 1..100_000_u64,
            origin in proptest::option::of(r"[^\p{Cc}]{1,20}"), reason in proptest::option::of(r#"[\\" a=]{1,20}"#),
        ) {
            let ip = |low: u32| if six {
                std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(low)).into()
            } else {
                std::net::IpAddr::V4(low.into())
            };
            let range = IpRange::new(ip(a.min(b)), ip(a.max(b))).unwrap();
            let ttl = Action::Blacklist(Term::Ttl(Duration::from_secs(ttl)));
            let action = if blacklist { ttl } else { Action::Whitelist };
            let command = Command { action, range, origin, reason };
            prop_assert_eq!(Command::parse(&command.to_string()), Ok(command));
        }

        #[test]
        fn no_text_panics(text in r"\PC*", tail in "[ -~]{0,40}") {
            let _ = Command::parse(&text);
            let _ = Command::parse(&format!("BLACKLIST {tail}"));
            let _ = Command::parse(&format!("BLACKLIST 10.0.0.1 {tail}"));
        }
    }
}
