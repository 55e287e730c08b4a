//! Whether a client passes: a snapshot and an address in, a verdict out.

use core::fmt;
use core::net::IpAddr;

use edgefold_snapshot::{NoAddress, Snapshot, WhenStale};
use edgefold_table::IpRange;

/// Whether a client passes. The snapshot's mode decides what happens to a client that must not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is not blocked.
    Pass,
    /// It must not pass.
    Deny(Reason),
}

/// Why a client must not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Its address is in this range.
    Range(IpRange),
    /// It has no IP address.
    NoAddress,
    /// The snapshot is older than its maximum age.
    Stale,
    /// There is no snapshot.
    NoSnapshot,
}

/// As in an access log: without white space.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::NoAddress => f.write_str("no_address"),
            Self::Stale => f.write_str("stale"),
            Self::NoSnapshot => f.write_str("no_snapshot"),
        }
    }
}

/// Decides on a client. Its `address` is `None` if it has no IP address.
pub fn decide<B: AsRef<[u8]>>(snapshot: &Snapshot<B>, is_stale: bool, address: Option<IpAddr>) -> Verdict {
    let settings = &snapshot.header().settings;
    if is_stale && settings.freshness.is_some_and(|freshness| freshness.when_stale == WhenStale::Deny) {
        return Verdict::Deny(Reason::Stale);
    }
    match (address, settings.no_address) {
        (Some(ip), _) if snapshot.table().contains(ip) => Verdict::Deny(reason(snapshot, ip)),
        (Some(_), _) | (None, NoAddress::Allow) => Verdict::Pass,
        (None, NoAddress::Deny) => Verdict::Deny(Reason::NoAddress),
    }
}

/// Finding the range takes longer than finding out whether there is one, so this is only done for a refusal.
#[cold]
fn reason<B: AsRef<[u8]>>(snapshot: &Snapshot<B>, ip: IpAddr) -> Reason {
    // A table that contains an address has a range with it. If it is damaged in memory, at least the address is named.
    let range = snapshot.table().range(ip).or_else(|| IpRange::new(ip, ip).ok());
    range.map_or(Reason::NoAddress, Reason::Range)
}

/// Whether the snapshot is stale at `now`, in milliseconds since 1970-01-01T00:00:00Z.
pub fn is_stale<B>(snapshot: &Snapshot<B>, now: u64) -> bool
where
    B: AsRef<[u8]>,
{
    let freshness = snapshot.header().settings.freshness;
    freshness.is_some_and(|freshness| now.saturating_sub(freshness.cut_at) > freshness.max_age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgefold_snapshot::{Freshness, Generation, NewSnapshot, Settings};

    fn snapshot(settings: Settings) -> Snapshot<Vec<u8>> {
        let range = |first: &str, last: &str| IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
        let ranges = [range("10.0.0.0", "10.0.0.255"), range("2001:db8::", "2001:db8::ffff")];
        let generation = Generation { epoch: 0, next_offset: 1, expiry: None };
        let cut_at = settings.freshness.map_or(0, |freshness| freshness.cut_at);
        let new = NewSnapshot { list: "edgefold", generation, as_of: 0, settings: &settings, cut_at };
        Snapshot::open(new.encode(ranges).unwrap()).unwrap()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_blocked_address_is_denied_by_its_range_and_others_pass() {
        let snapshot = snapshot(Settings::default());
        for (address, expected) in [
            ("10.0.0.7", Some("10.0.0.0-10.0.0.255")),
            ("10.0.1.7", None),
            ("::ffff:10.0.0.7", Some("10.0.0.0-10.0.0.255")),
            ("2001:db8::7", Some("2001:db8::-2001:db8::ffff")),
            ("2001:db9::7", None),
            // These contain an IPv4 address, but are addresses of their own: compatible, NAT64, 6to4.
            ("::10.0.0.7", None),
            ("64:ff9b::10.0.0.7", None),
            ("2002:a00:7::", None),
        ] {
            let reason = match decide(&snapshot, false, ip(address)) {
                Verdict::Pass => None,
                Verdict::Deny(reason) => Some(reason.to_string()),
            };
            assert_eq!(reason.as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn a_client_without_an_ip_address_follows_the_setting() {
        let expected = [(NoAddress::Allow, Verdict::Pass), (NoAddress::Deny, Verdict::Deny(Reason::NoAddress))];
        for (no_address, expected) in expected {
            let snapshot = snapshot(Settings { no_address, ..Settings::default() });
            assert_eq!(decide(&snapshot, false, None), expected);
            assert_eq!(
                decide(&snapshot, false, ip("10.0.1.7")),
                Verdict::Pass,
                "the setting only applies without an address"
            );
        }
    }

    #[test]
    fn a_stale_snapshot_keeps_serving_or_denies_everything() {
        for when_stale in [WhenStale::Keep, WhenStale::Deny] {
            let freshness = Some(Freshness { cut_at: 1_000, max_age: 5_000, when_stale });
            let snapshot = snapshot(Settings { freshness, ..Settings::default() });
            for (now, expected) in [(0, false), (1_000, false), (6_000, false), (6_001, true), (u64::MAX, true)] {
                assert_eq!(is_stale(&snapshot, now), expected, "{now}");
            }
            let stale = decide(&snapshot, true, ip("10.0.1.7"));
            match when_stale {
                WhenStale::Keep => assert_eq!(stale, Verdict::Pass),
                WhenStale::Deny => assert_eq!(stale, Verdict::Deny(Reason::Stale)),
            }
            assert_eq!(decide(&snapshot, false, ip("10.0.1.7")), Verdict::Pass);
        }
        assert!(!is_stale(&snapshot(Settings::default()), u64::MAX));
    }
}
