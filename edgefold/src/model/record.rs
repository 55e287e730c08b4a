//! A record of the commands topic. Every reader reads it the same way.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use edgefold_snapshot::{ListAction, ListName, MAX_NAMED_LISTS};
use edgefold_table::IpRange;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::block::Until;
use super::command::{Action, Command, CommandError, Term};
use super::time::LogTime;

/// How far the time of a command may be ahead of its record's timestamp: enough for clocks that are a little off.
pub const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// A record of the commands topic as the log returns it. Anyone who may write to the topic chose its bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its position in the log, from 0.
    pub offset: u64,
    /// When the log received it.
    pub timestamp: Option<LogTime>,
    /// The command's time.
    pub key: Option<Vec<u8>>,
    /// The command's text.
    pub value: Option<Vec<u8>>,
}

/// What a record does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effect {
    /// The command's time.
    pub time: LogTime,
    /// What it changes.
    pub change: Change,
}

/// What a record changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// The addresses of a range are on a list until then.
    Block {
        /// The list.
        list: ListName,
        /// The addresses.
        range: IpRange,
        /// When they leave it.
        until: Until,
    },
    /// The addresses of a range are not on a list.
    Allow {
        /// The list; `None` for every list that exists.
        list: Option<ListName>,
        /// The addresses.
        range: IpRange,
    },
    /// A list exists, and does this.
    List {
        /// The list.
        list: ListName,
        /// What it does.
        action: ListAction,
    },
    /// A list does not exist. Of the default list, which always does, nothing is left.
    Unlist {
        /// The list.
        list: ListName,
    },
}

impl Record {
    /// The record's time: its key, or the log's timestamp if the key is not a time.
    pub fn time(&self) -> Option<LogTime> {
        let key = self.key.as_deref().and_then(|key| str::from_utf8(key).ok());
        key.and_then(|key| LogTime::parse(key.trim_ascii()).ok()).or(self.timestamp)
    }

    /// Whether it has a key that is not a time, so that the log's timestamp is used instead: its producer may have meant something
    /// else.
    pub fn has_other_key(&self) -> bool {
        self.key
            .as_deref()
            .is_some_and(|key| str::from_utf8(key).map_or(true, |key| LogTime::parse(key.trim_ascii()).is_err()))
    }

    /// Reads the command, and says what it does.
    ///
    /// # Errors
    /// [`Reject`] says why every reader skips the record. It depends on nothing but the record. A record can also be rejected for
    /// [`Reject::TooManyLists`], which only a fold knows.
    pub fn effect(&self) -> Result<Effect, Reject> {
        let value = self.value.as_deref().ok_or(Reject::NoValue)?;
        let command = Command::parse(str::from_utf8(value).map_err(|_| Reject::NotUtf8)?)?;
        let time = self.time().ok_or(Reject::NoTime)?;
        if let Some(timestamp) = self.timestamp
            && timestamp.checked_add(MAX_SKEW).is_some_and(|latest| time > latest)
        {
            return Err(Reject::Future { time, timestamp });
        }
        let change = command.action.change(time).ok_or(Reject::TtlOverflow { time })?;
        Ok(Effect { time, change })
    }

    /// Identifies the record: its offset, timestamp, key and value.
    pub fn hash(&self) -> RecordHash {
        let bytes = |bytes: Option<&[u8]>, seed: u64| match bytes {
            // Without bytes, the seed is changed instead: no bytes at all differ from an empty text.
            None => !seed,
            Some(bytes) => xxh3_64_with_seed(bytes, seed),
        };
        let timestamp = self.timestamp.map(|time| time.millis().to_le_bytes());
        let seed = bytes(timestamp.as_ref().map(<[u8; 8]>::as_slice), self.offset);
        RecordHash(bytes(self.value.as_deref(), bytes(self.key.as_deref(), seed)))
    }
}

impl Action {
    /// What a command with this time changes; `None` if its ttl leads past [`LogTime::LAST`].
    pub fn change(self, time: LogTime) -> Option<Change> {
        Some(match self {
            Self::Blacklist { list, range, term } => {
                let until = match term {
                    Term::Forever => Until::FOREVER,
                    Term::Until(until) => until.into(),
                    Term::Ttl(ttl) => time.checked_add(ttl)?.into(),
                };
                Change::Block { list, range, until }
            }
            Self::Whitelist { list, range } => Change::Allow { list, range },
            Self::List { list, action } => Change::List { list, action },
            Self::Unlist { list } => Change::Unlist { list },
        })
    }
}

/// Identifies a record of one log, so that a reader that comes back knows whether it is still the same log. It does
/// not protect against somebody who forges a record on purpose: 64 bits of XXH3.
///
/// Its text form is 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordHash(u64);

impl RecordHash {
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for RecordHash {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Why a record is skipped.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The record has no value.
    #[error("the record has no value: write the command there")]
    NoValue,
    /// The value is not text.
    #[error("the value is not UTF-8 text")]
    NotUtf8,
    /// Neither the key nor the timestamp is a time.
    #[error(
        "the record has neither a time as its key nor a timestamp: write the time as the key, as in 2016-09-12T15:32:00Z"
    )]
    NoTime,
    /// The key is a time that had not come yet when the log received the record.
    #[error(
        "its time {time} is more than {} minutes after {timestamp}, when the log received it: is the clock of its producer wrong?",
        MAX_SKEW.as_secs() / 60
    )]
    Future {
        /// The command's time.
        time: LogTime,
        /// When the log received it.
        timestamp: LogTime,
    },
    /// The value is not a command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The record would create a list, but there are [`MAX_NAMED_LISTS`] already.
    #[error("there are {MAX_NAMED_LISTS} lists already: remove one that is not needed, as in UNLIST {list}")]
    TooManyLists {
        /// One of the lists.
        list: ListName,
    },
    /// The block would end after [`LogTime::LAST`].
    #[error("the ttl leads past the year 9999 from {time}: leave it out to block forever")]
    TtlOverflow {
        /// The command's time.
        time: LogTime,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&str>, value: Option<&[u8]>) -> Record {
        let timestamp = LogTime::from_millis(1_000);
        Record { offset: 0, timestamp, key: key.map(Into::into), value: value.map(Into::into) }
    }

    #[test]
    fn the_key_is_the_time_and_the_timestamp_is_its_fallback() {
        let time = |key| record(key, None).time().unwrap().to_string();
        assert_eq!(time(Some("2016-09-12 15:32:00")), "2016-09-12T15:32:00Z");
        assert_eq!(time(Some("customer-7")), "1970-01-01T00:00:01Z");
        assert_eq!(time(None), "1970-01-01T00:00:01Z");
        let has_other_key = |key| record(key, None).has_other_key();
        assert!(
            has_other_key(Some("yesterday")) && !has_other_key(Some("2016-09-12 15:32:00")) && !has_other_key(None)
        );
    }

    /// A fast clock must not end the blocks of everybody else.
    #[test]
    fn a_time_far_ahead_of_the_timestamp_is_rejected() {
        let outcome = |key: &str, timestamp| {
            let record = record(Some(key), Some(b"BLACKLIST 10.0.0.1 ttl=1h"));
            Record { timestamp, ..record }
                .effect()
                .map(|effect| effect.time.to_string())
                .map_err(|error| error.to_string())
        };
        let timestamp = Some(LogTime::parse("2026-11-26T12:00:00Z").unwrap());
        for fine in ["2026-11-26T12:05:00Z", "2026-11-26T12:00:00Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(outcome(fine, timestamp), Ok(fine.to_owned()));
        }
        assert_eq!(
            outcome("2026-11-26T12:05:00.001Z", timestamp).unwrap_err(),
            "its time 2026-11-26T12:05:00.001Z is more than 5 minutes after 2026-11-26T12:00:00Z, when the log received it: \
             is the clock of its producer wrong?"
        );
        assert!(outcome("2026-11-26T12:05:00.001Z", None).is_ok(), "there is nothing to compare it with");
        assert!(outcome("9999-12-30T20:00:00Z", Some(LogTime::LAST)).is_ok(), "there is no time after the last");
    }

    #[test]
    fn the_hash_of_a_record_depends_on_all_of_it() {
        let one = record(Some("key"), Some(b"value"));
        let others = [
            Record { offset: 1, ..one.clone() },
            Record { timestamp: None, ..one.clone() },
            Record { timestamp: LogTime::from_millis(1_001), ..one.clone() },
            record(None, Some(b"value")),
            record(Some(""), Some(b"value")),
            record(Some("keyv"), Some(b"alue")),
            record(Some("key"), None),
            record(Some("key"), Some(b"")),
            record(Some("key"), Some(b"valve")),
        ];
        let hashes: std::collections::BTreeSet<String> =
            others.iter().chain([&one]).map(|record| record.hash().to_string()).collect();
        assert_eq!(hashes.len(), others.len() + 1);
        let text = one.hash().to_string();
        assert_eq!((text.len(), text.parse()), (16, Ok(one.hash())));
        assert!("fingerprint".parse::<RecordHash>().is_err());
    }

    #[test]
    fn a_reject_says_why() {
        let rejected = |record: Record| record.effect().unwrap_err().to_string();
        assert!(rejected(record(None, None)).contains("has no value"));
        assert!(rejected(record(None, Some(b"\xff"))).contains("not UTF-8"));
        assert!(rejected(record(None, Some(b"hello"))).contains("unknown verb"));
        let late = record(Some("9999-12-30T00:00:00Z"), Some(b"BLACKLIST 10.0.0.1 ttl=4w"));
        let late = Record { timestamp: LogTime::from_millis(253_402_128_000_000), ..late };
        assert!(rejected(late).contains("past the year 9999 from 9999-12-30T00:00:00Z"));
        let timeless = Record { timestamp: None, ..record(None, Some(b"BLACKLIST 10.0.0.1")) };
        assert!(rejected(timeless).contains("neither a time as its key nor a timestamp"));
    }
}
