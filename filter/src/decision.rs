//! Whether a client passes: a snapshot and an address in, a verdict out.

use core::fmt;
use core::net::IpAddr;

use edgefold_snapshot::{Layers, ListHeader, ListName, ListSet, NoAddress, Ruling, WhenStale};
use edgefold_table::IpRange;

/// Whether a client passes. The snapshot's mode decides what happens to a client that must not. Lists are named by their index in
/// the snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It passes because this list exempts it. Otherwise it would not.
    Exempt(usize),
    /// It passes, and is on at least one of these lists.
    Mark {
        /// Lists that report it.
        shadow: ListSet,
        /// Lists that the upstream is told about.
        tag: ListSet,
    },
    /// It must not pass.
    Deny(Reason),
}

/// Why a client must not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Its address is in this range of this list.
    List {
        /// The index of the list.
        index: usize,
        /// The list.
        name: ListName,
        /// The range.
        range: IpRange,
    },
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
            Self::List { name, range, .. } => write!(f, "{}:{range}", name.as_str()),
            Self::NoAddress => f.write_str("no_address"),
            Self::Stale => f.write_str("stale"),
            Self::NoSnapshot => f.write_str("no_snapshot"),
        }
    }
}

/// Decides on a client. Its `address` is `None` if it has no IP address.
pub fn decide<B: AsRef<[u8]>>(snapshot: &Layers<B>, is_stale: bool, address: Option<IpAddr>) -> Verdict {
    let (header, kinds) = (snapshot.header(), snapshot.kinds().iter().copied());
    if is_stale && header.settings.freshness.is_some_and(|freshness| freshness.when_stale == WhenStale::Deny) {
        // An exemption wins over everything.
        let exemption = address.and_then(|ip| Ruling::exemption(kinds, |list| snapshot.contains(list, ip)));
        return exemption.map_or(Verdict::Deny(Reason::Stale), Verdict::Exempt);
    }
    let Some(ip) = address else {
        return match header.settings.no_address {
            NoAddress::Allow => Verdict::Pass,
            NoAddress::Deny => Verdict::Deny(Reason::NoAddress),
        };
    };
    if !snapshot.may_have(ip) {
        return Verdict::Pass;
    }
    let applies = |list| header.lists.get(list).is_some_and(|list: &ListHeader| list.action.applies_to(ip));
    match Ruling::new(kinds, |list| snapshot.contains(list, ip), applies) {
        Ruling::Pass => Verdict::Pass,
        Ruling::Exempt(list) => Verdict::Exempt(list),
        Ruling::Mark { shadow, tag } => Verdict::Mark { shadow, tag },
        Ruling::Deny(list) => Verdict::Deny(reason(snapshot, list, ip)),
    }
}

/// The list, and the range of it that the address is in. Finding the range takes longer than finding out whether there is one, so
/// this is only done for a client that is on a list.
#[cold]
pub fn reason<B: AsRef<[u8]>>(snapshot: &Layers<B>, index: usize, ip: IpAddr) -> Reason {
    // A table that contains an address has a range with it. If it is damaged in memory, at least the address is named.
    let range = snapshot.range(index, ip).or_else(|| IpRange::new(ip, ip).ok());
    let name = snapshot.header().lists.get(index).map_or(ListName::DEFAULT, |list| list.name);
    range.map_or(Reason::NoAddress, |range| Reason::List { index, name, range })
}

/// Whether the snapshot is stale at `now`, in milliseconds since 1970-01-01T00:00:00Z.
pub fn is_stale<B: AsRef<[u8]>>(snapshot: &Layers<B>, now: u64) -> bool {
    let freshness = snapshot.header().settings.freshness;
    freshness.is_some_and(|freshness| now.saturating_sub(freshness.cut_at) > freshness.max_age)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edgefold_snapshot::{Freshness, Generation, ListAction, NewList, NewSnapshot, Settings, Snapshot};

    use super::*;

    fn range(first: &str, last: &str) -> IpRange {
        IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    fn snapshot(settings: Settings) -> Layers<Vec<u8>> {
        let ranges = vec![range("10.0.0.0", "10.0.0.255"), range("2001:db8::", "2001:db8::ffff")];
        snapshot_of(settings, &[("default", ListAction::default(), ranges)])
    }

    fn snapshot_of(settings: Settings, lists: &[(&str, ListAction, Vec<IpRange>)]) -> Layers<Vec<u8>> {
        let generation = Generation { epoch: 0, next_offset: 1, expiry: None };
        let cut_at = settings.freshness.map_or(0, |freshness| freshness.cut_at);
        let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at };
        let lists = lists.iter().map(|(name, action, ranges)| NewList {
            name: name.parse().unwrap(),
            action,
            ranges: ranges.iter().copied(),
        });
        Layers::alone(Arc::new(Snapshot::open(new.encode(lists).unwrap()).unwrap()))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_blocked_address_is_denied_by_its_range_and_others_pass() {
        let snapshot = snapshot(Settings::default());
        for (address, expected) in [
            ("10.0.0.7", Some("default:10.0.0.0-10.0.0.255")),
            ("10.0.1.7", None),
            ("::ffff:10.0.0.7", Some("default:10.0.0.0-10.0.0.255")),
            ("2001:db8::7", Some("default:2001:db8::-2001:db8::ffff")),
            ("2001:db9::7", None),
            // These contain an IPv4 address, but are addresses of their own: compatible, NAT64, 6to4.
            ("::10.0.0.7", None),
            ("64:ff9b::10.0.0.7", None),
            ("2002:a00:7::", None),
        ] {
            let reason = match decide(&snapshot, false, ip(address)) {
                Verdict::Deny(reason) => Some(reason.to_string()),
                _ => None,
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
    fn an_exempt_client_passes_whatever_else_says_no() {
        let freshness = Some(Freshness { cut_at: 0, max_age: 5_000, when_stale: WhenStale::Deny });
        let settings = Settings { freshness, no_address: NoAddress::Deny, ..Settings::default() };
        let blocked = vec![range("10.0.0.0", "10.0.0.255")];
        let lists = [
            ("default", ListAction::default(), blocked.clone()),
            ("monitoring", ListAction::Exempt, vec![range("10.0.0.7", "10.0.0.7"), range("192.0.2.1", "192.0.2.1")]),
            ("seen", ListAction::Shadow, blocked),
        ];
        let snapshot = snapshot_of(settings, &lists);
        assert_eq!(decide(&snapshot, false, ip("10.0.0.7")), Verdict::Exempt(1));
        assert_eq!(decide(&snapshot, false, ip("192.0.2.1")), Verdict::Pass, "nothing would refuse it");
        assert_eq!(decide(&snapshot, true, ip("192.0.2.1")), Verdict::Exempt(1), "the stale snapshot would");
        assert_eq!(decide(&snapshot, true, ip("192.0.2.2")), Verdict::Deny(Reason::Stale));
        assert_eq!(decide(&snapshot, true, None), Verdict::Deny(Reason::Stale));
        assert_eq!(decide(&snapshot, false, None), Verdict::Deny(Reason::NoAddress));
        let Verdict::Deny(reason) = decide(&snapshot, false, ip("10.0.0.8")) else { panic!("it is not exempt") };
        assert_eq!(reason.to_string(), "default:10.0.0.0-10.0.0.255");
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
