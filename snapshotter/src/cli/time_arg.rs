//! Moments as people type them.

use edgefold::{LogTime, now, parse_ttl};
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// What [`moment`] reads, for the help.
pub(super) const MOMENT: &str = "2026-11-22T17:00:00Z, 2026-11-22 (its start, in your time zone) or 2h (ago)";

/// Reads RFC 3339, a date, which is the start of that day in the reader's time zone, or a duration, which is that long ago.
pub(super) fn moment(text: &str) -> Result<LogTime, String> {
    if let Ok(time) = LogTime::parse(text) {
        return Ok(time);
    }
    if let Ok(ago) = parse_ttl(text.strip_suffix("ago").unwrap_or(text).trim_end()) {
        let millis = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(LogTime::from_millis(now().millis().saturating_sub(millis)).unwrap_or_default());
    }
    // The date library would also take a time, and leave it out.
    let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
    let start = date.and_then(|date| date.to_zoned(TimeZone::system()).ok());
    let millis = start.and_then(|start| u64::try_from(start.timestamp().as_millisecond()).ok());
    millis
        .and_then(LogTime::from_millis)
        .ok_or_else(|| format!("it is not a moment: write {MOMENT}, from 1970 to 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_a_date_or_a_while_ago() {
        assert_eq!(moment("2026-11-22T17:00:00Z").unwrap().to_string(), "2026-11-22T17:00:00Z");
        let ago = |text| (now().millis() - moment(text).unwrap().millis()) / 60_000;
        assert_eq!((ago("2h"), ago("2h ago"), ago("1d12h")), (120, 120, 36 * 60));
        let date = moment("2026-11-22").unwrap().millis();
        assert_eq!(date / 60_000 % 15, 0, "zones are multiples of a quarter of an hour");
        for wrong in ["", "yesterday", "17:00", "2026-13-01", "1969-12-30", "-2h", "2hagoago", "2026-11-22T17:00"] {
            assert!(moment(wrong).unwrap_err().contains("2026-11-22T17:00:00Z, 2026-11-22"), "{wrong}");
        }
    }
}
