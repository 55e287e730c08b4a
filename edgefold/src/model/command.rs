//! The command grammar: the text in a record's value. `docs/semantics.md` is its authority.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use edgefold_snapshot::{ListAction, ListName, ListNameError, SettingsError, ShareError};
use edgefold_table::{IpRange, ParseRangeError, shorten};

use super::attributes::{Attributes, Quoted, next_word};
use super::list_action::{LIST_ATTRIBUTES, ListActionText, list_action};
use super::time::{LogTime, TimeError};

/// The version of what a record of the commands means. A reader of another version may read a record differently, and so fold
/// other ranges from the same log. Each change of meaning has a number in `docs/semantics.md`.
pub const GRAMMAR: u32 = 3 + NEXT as u32;

/// Whether this is the version after, which tests of an upgrade need: it has the attribute `next`.
const NEXT: bool = cfg!(feature = "next-grammar");

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
    /// What it does.
    pub action: Action,
    /// Who or what issued it, for people.
    pub origin: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// What a command does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// `BLACKLIST`: put the range on a list.
    Blacklist {
        /// The list.
        list: ListName,
        /// The addresses.
        range: IpRange,
        /// For how long.
        term: Term,
    },
    /// `WHITELIST`: take the range off a list, or off all of them, until a later command puts it there again.
    Whitelist {
        /// The list; `None` for every list that exists then.
        list: Option<ListName>,
        /// The addresses.
        range: IpRange,
    },
    /// `LIST`: say what a list does.
    List {
        /// The list, which is created if it does not exist.
        list: ListName,
        /// What it does from then on.
        action: ListAction,
    },
    /// `UNLIST`: remove a list with all that is on it, and what it does.
    Unlist {
        /// The list, which is not the default list.
        list: ListName,
    },
}

/// How long an address stays on a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Term {
    /// Until the range is whitelisted.
    Forever,
    /// This long from the command's time on: whole milliseconds, not zero.
    Ttl(Duration),
    /// Until this moment.
    Until(LogTime),
}

/// The verbs, with the names that mean the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verb {
    Blacklist,
    Whitelist,
    List,
    Unlist,
}

impl Verb {
    fn parse(text: &str) -> Result<Self, CommandError> {
        match text.to_ascii_uppercase().as_str() {
            "BLACKLIST" | "BLOCK" | "DENY" | "ADD" => Ok(Self::Blacklist),
            "WHITELIST" | "ALLOW" | "UNBLOCK" | "REMOVE" => Ok(Self::Whitelist),
            "LIST" => Ok(Self::List),
            "UNLIST" => Ok(Self::Unlist),
            "" => Err(CommandError::Empty),
            _ => Err(CommandError::Verb { found: shorten(text) }),
        }
    }

    /// The attributes that it has, beside `origin` and `reason`.
    fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::Blacklist => &["ttl", "until", "list"],
            Self::Whitelist => &["list"],
            Self::List => LIST_ATTRIBUTES,
            Self::Unlist => &[],
        }
    }
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
        let (object, rest) = next_word(rest);
        let verb = Verb::parse(verb)?;
        if object.is_empty() {
            return Err(if matches!(verb, Verb::List | Verb::Unlist) {
                CommandError::NoList
            } else {
                CommandError::NoRange
            });
        }
        let mut attributes = Attributes::parse(rest, |name| {
            if verb.attributes().contains(&name) || matches!(name, "origin" | "reason") || NEXT && name == "next" {
                return Ok(());
            }
            Err(match name {
                "ttl" | "until" if verb == Verb::Whitelist => CommandError::TermOnWhitelist,
                _ => CommandError::UnknownAttribute { name: shorten(name), known: verb.attributes() },
            })
        })?;
        let mut text_of = |name| attributes.take(name).map(Cow::into_owned);
        let (origin, reason) = (text_of("origin"), text_of("reason"));
        let action = match verb {
            Verb::Blacklist => {
                let term = match (attributes.take("ttl"), attributes.take("until")) {
                    (None, None) => Term::Forever,
                    (Some(ttl), None) => Term::Ttl(parse_ttl(&ttl)?),
                    (None, Some(until)) => Term::Until(LogTime::parse(&until)?),
                    (Some(_), Some(_)) => return Err(CommandError::TtlAndUntil),
                };
                let list = match attributes.take("list").as_deref() {
                    None => ListName::DEFAULT,
                    Some("*") => return Err(CommandError::AllLists),
                    Some(list) => list.parse()?,
                };
                Action::Blacklist { list, range: object.parse()?, term }
            }
            Verb::Whitelist => {
                let list = match attributes.take("list").as_deref() {
                    None => Some(ListName::DEFAULT),
                    Some("*") => None,
                    Some(list) => Some(list.parse()?),
                };
                Action::Whitelist { list, range: object.parse()? }
            }
            Verb::List => Action::List { list: object.parse()?, action: list_action(attributes)? },
            Verb::Unlist => match object.parse()? {
                ListName::DEFAULT => return Err(CommandError::UnlistDefault),
                list => Action::Unlist { list },
            },
        };
        Ok(Self { action, origin, reason })
    }
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
        self.action.fmt(f)?;
        for (name, value) in [("origin", &self.origin), ("reason", &self.reason)] {
            if let Some(value) = value {
                write!(f, " {name}={}", Quoted(value))?;
            }
        }
        Ok(())
    }
}

/// A command without an origin and a reason.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_list = |list: &ListName| if list.is_default() { String::new() } else { format!(" list={list}") };
        match self {
            Self::Blacklist { list, range, term } => {
                let verb = if list.is_default() { "BLACKLIST" } else { "ADD" };
                write!(f, "{verb} {}", range.shortest_text())?;
                match term {
                    Term::Forever => {}
                    Term::Ttl(ttl) => write!(f, " ttl={}s", ttl.as_secs())?,
                    Term::Until(until) => write!(f, " until={until}")?,
                }
                f.write_str(&of_list(list))
            }
            Self::Whitelist { list, range } => {
                let verb = if list.is_some_and(|list| !list.is_default()) { "REMOVE" } else { "WHITELIST" };
                let of_list = list.as_ref().map_or(" list=*".to_owned(), of_list);
                write!(f, "{verb} {}{of_list}", range.shortest_text())
            }
            Self::List { list, action } => write!(f, "LIST {list} {}", ListActionText(action)),
            Self::Unlist { list } => write!(f, "UNLIST {list}"),
        }
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
    #[error(
        "unknown verb {found:?}: write BLACKLIST (BLOCK, DENY, ADD), WHITELIST (ALLOW, UNBLOCK, REMOVE), LIST or UNLIST"
    )]
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
    /// There is nothing after the verb `LIST` or `UNLIST`.
    #[error("the name of the list is missing: write it after the verb")]
    NoList,
    /// The name of a list has another form.
    #[error(transparent)]
    ListName(#[from] ListNameError),
    /// An attribute that the verb does not have.
    #[error("unknown attribute {name:?}: write {}origin= or reason=", known.iter().map(|name| format!("{name}=, ")).collect::<String>())]
    UnknownAttribute {
        /// What was found.
        name: String,
        /// What the verb has beside `origin` and `reason`.
        known: &'static [&'static str],
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
    #[error("ttl and until belong to BLACKLIST and ADD: a WHITELIST or REMOVE holds until the next of those")]
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
    /// A BLACKLIST for all lists.
    #[error("list=* belongs to WHITELIST: name the list to put the range on")]
    AllLists,
    /// An UNLIST of the default list.
    #[error("the default list always exists: whitelist what is on it instead")]
    UnlistDefault,
    /// A LIST that does not say what the list does.
    #[error("the action is missing: write action=deny, action=shadow, action=exempt or action=tag")]
    NoListAction,
    /// An action that does not exist.
    #[error("unknown action {found:?}: write deny, shadow, exempt or tag")]
    ListAction {
        /// What was found.
        found: String,
    },
    /// An attribute of a list that refuses, on one that does not.
    #[error("only a list with action=deny has {name}: no other refuses")]
    OnlyDeny {
        /// The attribute's name.
        name: &'static str,
    },
    /// The share has another form.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The status is not a number.
    #[error("status {found:?} is not a number: write the status of a response, as in 429")]
    Status {
        /// What was found.
        found: String,
    },
    /// A header without a name.
    #[error("header {found:?} is not a name and a value: write them as in header=\"retry-after: 60\"")]
    Header {
        /// What was found.
        found: String,
    },
    /// A response that Envoy cannot send.
    #[error(transparent)]
    Refusal(#[from] SettingsError),
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
        for verb in ["BLACKLIST", "blacklist", "Block", "DENY", "Add"] {
            let command = Command::parse(&format!("{verb} 10.0.0.0/24")).unwrap();
            assert_eq!(command.to_string(), "BLACKLIST 10.0.0.0/24");
        }
        for verb in ["WHITELIST", "whitelist", "Allow", "UNBLOCK", "REMOVE"] {
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
            let Action::Blacklist { range, .. } = Command::parse(&format!("BLACKLIST {text}")).unwrap().action else {
                panic!("{text}")
            };
            assert_eq!(range.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn attributes_are_read() {
        let term = |command: &Command| match command.action {
            Action::Blacklist { term, .. } => Some(term),
            _ => None,
        };
        let text = r#"BLACKLIST 2001:db8::/48  ttl=4h origin=waf reason="credential \"stuffing\" \\o/""#;
        let command = Command::parse(text).unwrap();
        assert_eq!(term(&command), Some(Term::Ttl(Duration::from_secs(4 * 3600))));
        assert_eq!(command.origin.as_deref(), Some("waf"));
        assert_eq!(command.reason.as_deref(), Some(r#"credential "stuffing" \o/"#));
        let command = Command::parse("BLACKLIST 192.0.2.10-192.0.2.40 until=2026-12-01T00:00:00Z\r\n").unwrap();
        assert_eq!(term(&command), Some(Term::Until(LogTime::parse("2026-12-01T00:00:00Z").unwrap())));
        let command = Command::parse("WHITELIST 10.0.0.1 reason=\"office, über VPN\"").unwrap();
        assert_eq!(command.reason.as_deref(), Some("office, über VPN"));
    }

    #[test]
    fn a_list_is_named_and_written_back_only_if_it_is_not_the_default() {
        for (text, written) in [
            ("BLACKLIST 10.0.0.1 list=default", "BLACKLIST 10.0.0.1"),
            ("ADD 10.0.0.1 list=tor-exits ttl=1h", "ADD 10.0.0.1 ttl=3600s list=tor-exits"),
            ("REMOVE 10.0.0.1 list=\"a\"", "REMOVE 10.0.0.1 list=a"),
            ("allow 10.0.0.1 list=*", "WHITELIST 10.0.0.1 list=*"),
            ("LIST a action=deny", "LIST a action=deny"),
            ("list default action=SHADOW origin=me", "LIST default action=shadow origin=\"me\""),
            ("LIST a share=25% action=deny reason=trial", "LIST a action=deny share=25% reason=\"trial\""),
            ("LIST a action=deny share=100%", "LIST a action=deny"),
            ("LIST a action=exempt", "LIST a action=exempt"),
            ("LIST a action=tag", "LIST a action=tag"),
            ("UNLIST a", "UNLIST a"),
            (
                "LIST a action=deny status=429 header=\"Retry-After: 60\" header=x:y",
                "LIST a action=deny status=429 header=\"Retry-After: 60\" header=\"x: y\"",
            ),
            ("LIST a action=deny status=204", "LIST a action=deny status=204"),
            ("LIST a action=deny content_type=text/plain", "LIST a action=deny status=403"),
            (
                "LIST a action=deny body=\"Go \\\"away\\\"\" content_type=text/html",
                "LIST a action=deny status=403 body=\"Go \\\"away\\\"\" content_type=\"text/html\"",
            ),
        ] {
            let command = Command::parse(text).unwrap();
            assert_eq!(command.to_string(), written, "{text}");
            assert_eq!(Command::parse(written), Ok(command), "{text}");
        }
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
            ("WHITELIST 10.0.0.1 ttl=1h", "ttl and until belong to BLACKLIST and ADD"),
            (
                "BLACKLIST 10.0.0.1 share=5%",
                r#"unknown attribute "share": write ttl=, until=, list=, origin= or reason="#,
            ),
            ("BLACKLIST 10.0.0.1 list=*", "list=* belongs to WHITELIST"),
            ("BLACKLIST 10.0.0.1 list=Tor", r#""Tor" is not the name of a list"#),
            ("WHITELIST 10.0.0.1 list=a list=b", "attribute list is given twice"),
            ("LIST", "the name of the list is missing"),
            ("LIST a", "the action is missing: write action=deny"),
            ("LIST a share=5%", "the action is missing"),
            ("LIST * action=deny", r#""*" is not the name of a list"#),
            ("LIST a action=drop", r#"unknown action "drop": write deny, shadow, exempt or tag"#),
            ("LIST a action=deny ttl=1h", r#"unknown attribute "ttl": write action=, share=, status="#),
            ("LIST a action=deny share=25", r#""25" is not a share: write a whole number from 0 to 100"#),
            ("LIST a action=tag share=25%", "only a list with action=deny has share:"),
            (
                "LIST a action=exempt status=429",
                "only a list with action=deny has status, body, content_type and header:",
            ),
            ("LIST a action=deny status=many", r#"status "many" is not a number"#),
            ("LIST a action=deny status=99", "status 99 is not the status of a final response"),
            ("LIST a action=deny status=204 body=x", "a response with status 204 cannot have a body"),
            ("LIST a action=deny header=retry-after", r#"header "retry-after" is not a name and a value"#),
            ("LIST a action=deny header=\"content-length: 7\"", "header \"content-length\" cannot be used"),
            ("UNLIST", "the name of the list is missing"),
            ("UNLIST default", "the default list always exists"),
            ("UNLIST a action=deny", r#"unknown attribute "action": write origin= or reason="#),
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
            a: u32, b: u32, six: bool, blacklist: bool, ttl in 1..100_000_u64, list in "[a-z0-9][a-z0-9._-]{0,62}",
            origin in proptest::option::of(r"[^\p{Cc}]{1,20}"), reason in proptest::option::of(r#"[\\" a=]{1,20}"#),
        ) {
            let ip = |low: u32| if six {
                std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(low)).into()
            } else {
                std::net::IpAddr::V4(low.into())
            };
            let range = IpRange::new(ip(a.min(b)), ip(a.max(b))).unwrap();
            let list: ListName = list.parse().unwrap();
            let term = Term::Ttl(Duration::from_secs(ttl));
            let action = if blacklist { Action::Blacklist { list, range, term } } else { Action::Whitelist { list: Some(list), range } };
            let command = Command { action, origin, reason };
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
