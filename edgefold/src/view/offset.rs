//! The record with the key `@offset`, by which a view proves what it is.
//!
//! Its value is `NEXT_COMMAND_OFFSET LOG_TIME format=F grammar=G ranges=HASH last=HASH`.

use std::fmt;

use super::OFFSET_KEY;
use crate::{Fold, GRAMMAR, LogTime, Position, RecordHash};

/// The version of the records of the view. Each change has a number in `docs/semantics.md`.
pub const FORMAT: u32 = 3;

/// In which versions a view is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version {
    /// That of its records: [`FORMAT`].
    pub format: u32,
    /// That of the commands that were folded: [`GRAMMAR`](crate::GRAMMAR). Of a newer format it is not known, and stands for ours.
    pub grammar: u32,
}

impl Version {
    /// What this version of edgefold writes.
    pub const CURRENT: Self = Self { format: FORMAT, grammar: GRAMMAR };
    /// Before a view stated its versions.
    const FIRST: Self = Self { format: 1, grammar: 1 };

    /// Whether an edgefold that is newer than this one has written the view. It must not be read or written then: ranges could
    /// be lost that only the newer one understands.
    pub fn is_newer(self) -> bool {
        self.format > FORMAT || self.grammar > GRAMMAR
    }
}

/// `format 3, grammar 3`; of a newer format, of which only that is known, `format 4`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "format {}", self.format)?;
        if self.format <= FORMAT { write!(f, ", grammar {}", self.grammar) } else { Ok(()) }
    }
}

/// What a valid record with the key `@offset` states in any version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stated {
    /// The ranges are the fold of all commands below this offset.
    pub next_offset: u64,
    /// In which versions they are written.
    pub version: Version,
}

/// What a record of the view states; `None` unless it is a valid record with the key `@offset`.
pub fn stated(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Stated> {
    (key? == OFFSET_KEY.as_bytes()).then_some(())?;
    parse(str::from_utf8(value?).ok()?).map(|(stated, _)| stated)
}

/// What only this version of the format states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    pub(super) position: Position,
    /// The [`Fold::hash`] of the ranges.
    pub(super) hash: u64,
}

/// The value for a view of `fold`.
pub(super) fn text(fold: &Fold) -> String {
    let Position { next_offset, log_time, last_record } = fold.position();
    let last = last_record.map(|hash| format!(" last={hash}")).unwrap_or_default();
    format!("{next_offset} {log_time} format={FORMAT} grammar={GRAMMAR} ranges={:016x}{last}", fold.hash())
}

/// Reads a value. A value of another version has no proof.
pub(super) fn parse(value: &str) -> Option<(Stated, Option<Proof>)> {
    let mut words = value.split(' ');
    let next_offset = words.next()?.parse().ok()?;
    let log_time = LogTime::parse(words.next()?).ok()?;
    let mut field = |name: &str| match words.next() {
        Some(word) => word.strip_prefix(name).map(Some),
        None => Some(None),
    };
    let Some(format) = field("format=")? else {
        return Some((Stated { next_offset, version: Version::FIRST }, None));
    };
    let format = format.parse().ok()?;
    if format > FORMAT {
        // What comes next is unknown.
        return Some((Stated { next_offset, version: Version { format, grammar: GRAMMAR } }, None));
    }
    let grammar = field("grammar=")??.parse().ok()?;
    let stated = Stated { next_offset, version: Version { format, grammar } };
    if stated.version != Version::CURRENT {
        return Some((stated, None));
    }
    let hash = u64::from_str_radix(field("ranges=")??, 16).ok()?;
    let last_record: Option<RecordHash> = field("last=")?.map(str::parse).transpose().ok()?;
    words
        .next()
        .is_none()
        .then_some((stated, Some(Proof { position: Position { next_offset, log_time, last_record }, hash })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(value: &str) -> Option<(u64, u32, u32)> {
        let stated = stated(Some(b"@offset"), Some(value.as_bytes()))?;
        Some((stated.next_offset, stated.version.format, stated.version.grammar))
    }

    #[test]
    fn a_value_of_any_version_states_its_offset() {
        let current = format!("7 2026-01-01T00:00:00Z format={FORMAT} grammar={GRAMMAR} ranges=00000000000000ff");
        let (next, current_version) = (GRAMMAR + 1, Some((7, FORMAT, GRAMMAR)));
        for (value, expected) in [
            ("7 2026-01-01T00:00:00Z", Some((7, 1, 1))),
            (&current, current_version),
            (&format!("{current} last=00000000000000ff"), current_version),
            (&format!("{current} last=00000000000000ff more"), None),
            (&format!("{current} more"), None),
            (&format!("{current} last=?"), None),
            ("7 2026-01-01T00:00:00Z format=2 grammar=1 anything", Some((7, 2, 1))),
            (&format!("7 2026-01-01T00:00:00Z format=2 grammar={next} anything"), Some((7, 2, next))),
            ("7 2026-01-01T00:00:00Z format=4 anything", Some((7, 4, GRAMMAR))),
            ("7 2026-01-01T00:00:00Z format=2", None),
            ("7 2026-01-01T00:00:00Z format=", None),
            ("7 2026-01-01T00:00:00Z ", None),
            ("7 yesterday", None),
            ("7", None),
            ("", None),
        ] {
            assert_eq!(version(value), expected, "{value}");
        }
        assert_eq!(stated(Some(b"10.0.0.1"), Some(current.as_bytes())), None);
        assert_eq!((stated(None, None), stated(Some(b"@offset"), None)), (None, None));
        assert!(parse(&current).unwrap().1.is_some() && parse("7 2026-01-01T00:00:00Z").unwrap().1.is_none());
    }

    #[test]
    fn what_is_newer_in_any_part_is_newer() {
        assert!(!Version::CURRENT.is_newer() && !Version::FIRST.is_newer());
        assert!(
            Version { format: FORMAT + 1, grammar: 1 }.is_newer()
                && Version { format: 1, grammar: GRAMMAR + 1 }.is_newer()
        );
    }
}
