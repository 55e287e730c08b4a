//! Log time: the moments that commands carry, to the millisecond.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use edgefold_table::shorten;
use jiff::Timestamp;

/// A moment from 1970-01-01T00:00:00Z to the end of the year 9999, in whole milliseconds, which is Kafka's resolution. Finer
/// digits are cut off.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogTime(u64);

impl LogTime {
    /// 1970-01-01T00:00:00Z, which is also the log time before the first command.
    pub const EPOCH: Self = Self(0);
    /// 9999-12-30T22:00:00Z, the last moment that RFC 3339 can express with any offset.
    pub const LAST: Self = Self(253_402_207_200_000);

    /// `None` after [`LogTime::LAST`].
    pub fn from_millis(millis: u64) -> Option<Self> {
        (millis <= Self::LAST.0).then_some(Self(millis))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// `None` if the sum lies after [`LogTime::LAST`].
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        Self::from_millis(self.0.checked_add(duration.as_millis().try_into().ok()?)?)
    }

    /// Reads RFC 3339 (`2016-09-12T15:32:00Z`). A space may replace the `T`, and a time without an offset is UTC.
    ///
    /// The form is checked here rather than left to a date library, because every reader of a log must read it the same way
    /// forever.
    ///
    /// # Errors
    /// [`TimeError`] if `text` has another form, the date does not exist, or it is before 1970 or after 9999.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let error = || TimeError { text: shorten(text) };
        let offset = offset_of_rfc3339(text.as_bytes()).ok_or_else(error)?;
        let instant = if offset.is_empty() { format!("{text}Z").parse() } else { text.parse() };
        let instant: Timestamp = instant.map_err(|_| error())?;
        let millis = u64::try_from(instant.as_millisecond()).ok().filter(|_| instant >= Timestamp::UNIX_EPOCH);
        millis.and_then(Self::from_millis).ok_or_else(error)
    }
}

/// The UTC offset at the end of a time of the form `YYYY-MM-DDTHH:MM:SS[.fraction][offset]`; `None` for any other form.
fn offset_of_rfc3339(text: &[u8]) -> Option<&[u8]> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let has_form = |text: &[u8], form: &[u8]| {
        text.len() == form.len()
            && text.iter().zip(form).all(|(&found, &wanted)| match wanted {
                b'0' => found.is_ascii_digit(),
                b'T' => matches!(found, b'T' | b't' | b' '),
                b'+' => matches!(found, b'+' | b'-'),
                _ => found == wanted,
            })
    };
    // A count of milliseconds has no room for a leap second.
    if !has_form(date_time, b"0000-00-00T00:00:00") || date_time.ends_with(b"60") {
        return None;
    }
    let offset = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=9).contains(&digits).then(|| &fraction[digits..])?
        }
        None => rest,
    };
    (matches!(offset, b"" | b"Z" | b"z") || has_form(offset, b"+00:00")).then_some(offset)
}

/// As [`LogTime::parse`].
impl FromStr for LogTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse(text)
    }
}

/// RFC 3339 in UTC, with milliseconds only if there are any.
impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        instant.unwrap_or_default().fmt(f)
    }
}

/// A text that is not a time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a time: write RFC 3339, such as 2016-09-12T15:32:00Z, from 1970 to 9999")]
pub struct TimeError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_is_read_and_written() {
        for (text, written) in [
            ("2016-09-12T15:32:00Z", "2016-09-12T15:32:00Z"),
            ("2016-09-12 15:32:00", "2016-09-12T15:32:00Z"),
            ("2016-09-12T10:32:00-05:00", "2016-09-12T15:32:00Z"),
            ("2016-09-12t15:32:00z", "2016-09-12T15:32:00Z"),
            ("2016-09-12T17:32:00+02:00", "2016-09-12T15:32:00Z"),
            ("2016-09-12T15:32:00.5Z", "2016-09-12T15:32:00.5Z"),
            ("2016-09-12T15:32:00.123999999Z", "2016-09-12T15:32:00.123Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("9999-12-30T22:00:00Z", "9999-12-30T22:00:00Z"),
        ] {
            let time = LogTime::parse(text).unwrap();
            assert_eq!(time.to_string(), written);
            assert_eq!(LogTime::parse(written), Ok(time));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "now",
            "2016-09-12",
            "2016-09-12T15:32Z",
            "20160912T153200Z",
            "2016-09-12T15:32:60Z",
            "2016-02-30T00:00:00Z",
            "2016-09-12T15:32:00.Z",
            "2016-09-12T15:32:00.1234567890Z",
            "2016-09-12T15:32:00+0200",
            "2016-09-12T15:32:00Z[UTC]",
            "1969-12-31T23:59:59Z",
            "1969-12-31T23:59:59.9999Z",
            "-2016-09-12T15:32:00Z",
            "2016-09-12T15:32:00 Z",
            "１016-09-12T15:32:00Z",
            "9999-12-31T23:59:59-01:00",
            "9999-12-30T22:00:01Z",
        ] {
            let error = LogTime::parse(text).unwrap_err().to_string();
            assert!(error.contains("is not a time: write RFC 3339"), "{error}");
        }
    }
}
