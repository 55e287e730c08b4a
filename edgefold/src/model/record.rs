//! A record of the commands topic. Every reader reads it the same way.

use edgefold_table::IpRange;

use super::block::Until;
use super::command::{Action, Command, CommandError, Term};
use super::time::LogTime;

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

/// What a record does to the blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Effect {
    /// The command's time.
    pub time: LogTime,
    /// The addresses that the command is about.
    pub range: IpRange,
    /// `Some`: they are blocked until then. `None`: they are not blocked.
    pub until: Option<Until>,
}

impl Record {
    /// The record's time: its key, or the log's timestamp if the key is not a time.
    pub fn time(&self) -> Option<LogTime> {
        let key = self.key.as_deref().and_then(|key| str::from_utf8(key).ok());
        key.and_then(|key| LogTime::parse(key.trim_ascii()).ok()).or(self.timestamp)
    }

    /// Reads the command, and says what it does.
    ///
    /// # Errors
    /// [`Reject`] says why every reader skips the record. It depends on nothing but the record.
    pub fn effect(&self) -> Result<Effect, Reject> {
        let value = self.value.as_deref().ok_or(Reject::NoValue)?;
        let command = Command::parse(str::from_utf8(value).map_err(|_| Reject::NotUtf8)?)?;
        let time = self.time().ok_or(Reject::NoTime)?;
        let until = match command.action {
            Action::Whitelist => None,
            Action::Blacklist(Term::Forever) => Some(Until::FOREVER),
            Action::Blacklist(Term::Until(until)) => Some(until.into()),
            Action::Blacklist(Term::Ttl(ttl)) => {
                Some(time.checked_add(ttl).ok_or(Reject::TtlOverflow { time })?.into())
            }
        };
        Ok(Effect { time, range: command.range, until })
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
    /// The value is not a command.
    #[error(transparent)]
    Command(#[from] CommandError),
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
    }

    #[test]
    fn a_reject_says_why() {
        let rejected = |record: Record| record.effect().unwrap_err().to_string();
        assert!(rejected(record(None, None)).contains("has no value"));
        assert!(rejected(record(None, Some(b"\xff"))).contains("not UTF-8"));
        assert!(rejected(record(None, Some(b"hello"))).contains("unknown verb"));
        let late = record(Some("9999-12-30T00:00:00Z"), Some(b"BLACKLIST 10.0.0.1 ttl=4w"));
        assert!(rejected(late).contains("past the year 9999 from 9999-12-30T00:00:00Z"));
        let timeless = Record { timestamp: None, ..record(None, Some(b"BLACKLIST 10.0.0.1")) };
        assert!(rejected(timeless).contains("neither a time as its key nor a timestamp"));
    }
}
