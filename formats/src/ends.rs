//! Ends that a file states as the time that is left, from the moment at which it is read or written.

use std::time::Duration;

use edgefold::{LogTime, Until};

/// The end of what lasts this much longer. What would last longer than times reach lasts forever.
pub(crate) fn after(now: LogTime, left: Duration) -> Until {
    now.checked_add(left).map_or(Until::FOREVER, Until::from)
}

/// The whole seconds that are left, at most `most`; `None` for what has no end.
///
/// They are rounded up, so that nothing ends early, and nothing gets the 0 that many programs read as forever. What lasts longer than a
/// program can count ends after `most` seconds: lists are written again long before that, and a copy that is not replaced must not block an
/// address for longer than the list does.
pub(crate) fn seconds_left(now: LogTime, until: Until, most: u64) -> Option<u64> {
    let left = until.time()?.millis().saturating_sub(now.millis());
    Some(left.div_ceil(1000).clamp(1, most))
}

/// Reads a duration: numbers with units as in `1d2h3m4s5ms` (nftables) or `1w2d`, `hh:mm:ss` also after such (`1d02:03:04`, RouterOS), or
/// seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut millis = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        if rest.contains(':') && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
            let parts = rest.split(':').map(number).collect::<Option<Vec<_>>>()?;
            let seconds = match parts[..] {
                [hours, minutes] => [hours, minutes, 0],
                [hours, minutes, seconds] => [hours, minutes, seconds],
                _ => return None,
            };
            let seconds = seconds.iter().try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(*part))?;
            return Some(Duration::from_millis(millis.checked_add(seconds.checked_mul(1000)?)?));
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (amount, unit) = rest.split_at(digits);
        let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = unit.split_at(letters);
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "" if after.is_empty() && rest.len() == text.len() => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        millis = millis.checked_add(number(amount)?.checked_mul(unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_nftables_and_routeros_write_them() {
        for (text, seconds) in [
            ("0", 0),
            ("300", 300),
            ("0s", 0),
            ("59m30s", 3570),
            ("1d2h3m4s", 93_784),
            ("1w2d", 777_600),
            ("00:10:00", 600),
            ("1d02:03:04", 93_784),
            ("35w3d13h13m56s", 21_474_836),
            ("10:30", 37_800),
        ] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("1s500ms"), Some(Duration::from_millis(1500)));
        for text in
            ["", "s", "1x", "1d2", "-1s", "1:2:3:4", "::", "99999999999999999999s", "18446744073709551615w", "1d:"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_left_is_rounded_up_and_never_0() {
        let now = LogTime::from_millis(1_000).unwrap();
        let until = |millis| Until::from(LogTime::from_millis(millis).unwrap());
        assert_eq!(seconds_left(now, until(2_000), 9), Some(1));
        assert_eq!(seconds_left(now, until(2_001), 9), Some(2));
        assert_eq!(seconds_left(now, until(500), 9), Some(1));
        assert_eq!(seconds_left(now, until(100_000), 9), Some(9));
        assert_eq!(seconds_left(now, Until::FOREVER, 9), None);
        assert_eq!(after(now, Duration::from_secs(1)), until(2_000));
        assert_eq!(after(now, Duration::MAX), Until::FOREVER);
    }
}
