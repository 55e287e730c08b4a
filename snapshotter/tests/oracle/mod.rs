//! A naive oracle of the fold: one `until` for each address of a small space, and random logs over that space.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold::fold::Fold;
use edgefold::record::{Record, Until};
use edgefold::time::LogTime;
use edgefold_table::IpRange;
use proptest::prelude::*;
use proptest::sample::Index;

/// Addresses in each window of the space.
pub(crate) const WINDOW: u8 = 24;

/// The space: both edges of both families, and both edges of the IPv4-mapped block, which IPv6 does not have.
pub(crate) fn windows() -> [IpAddr; 6] {
    let v4 = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
    let v6 = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
    let width = u128::from(WINDOW) - 1;
    [
        v4(0),
        v4(u32::MAX - u32::from(WINDOW) + 1),
        v6(0),
        v6(u128::MAX - width),
        v6(0xffff_0000_0000 - 1 - width),
        v6(0x1_0000_0000_0000),
    ]
}

pub(crate) fn address(window: usize, at: u8) -> IpAddr {
    match windows()[window] {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(at)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(at)).into(),
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Block { seconds: Option<u8> },
    Allow,
    Junk,
}

/// A step, the windows and places of its two ends, and how much log time moves before it, in seconds (it may go back).
pub(crate) type Command = (Step, Index, Index, u8, u8, i8);

pub(crate) fn commands() -> impl Strategy<Value = Vec<Command>> {
    let step = prop_oneof![
        4 => proptest::option::of(1..40_u8).prop_map(|seconds| Step::Block { seconds }),
        3 => Just(Step::Allow),
        1 => Just(Step::Junk),
    ];
    let command = (step, any::<Index>(), any::<Index>(), 0..WINDOW, 0..WINDOW, -5..20_i8);
    proptest::collection::vec(command, 0..30)
}

/// What a command does in the oracle's terms: first and last address, time, and ttl in seconds: `None` blocks for ever, 0
/// allows.
pub(crate) type Effect = (IpAddr, IpAddr, u64, Option<u64>);

/// The log that `commands` make, and beside each record what the oracle is to do.
pub(crate) fn log(commands: &[Command]) -> Vec<(Record, Option<Effect>)> {
    let mut time = 1_000_i64;
    let mut log = Vec::new();
    for (step, window, other, from, to, moved) in commands {
        time += i64::from(*moved);
        let window = window.index(windows().len());
        // Within one window, or across two of the same family.
        let family = windows()[window].is_ipv4();
        let others: Vec<_> = (0..windows().len()).filter(|&w| windows()[w].is_ipv4() == family).collect();
        let other = if other.index(3) == 0 { others[other.index(others.len())] } else { window };
        let (a, b) = (address(window, *from), address(other, *to));
        let (first, last) = (a.min(b), a.max(b));
        let (value, effect) = match step {
            Step::Block { seconds: None } => (format!("BLACKLIST {first}-{last}"), Some(None)),
            Step::Block { seconds: Some(ttl) } => {
                (format!("BLACKLIST {first}-{last} ttl={ttl}s"), Some(Some(u64::from(*ttl))))
            }
            Step::Allow => (format!("WHITELIST {first}-{last}"), Some(Some(0))),
            Step::Junk => (format!("BLACKLIST {first}-{last} junk"), None),
        };
        let seconds = u64::try_from(time).unwrap();
        let key = LogTime::from_millis(seconds * 1000).unwrap().to_string();
        let offset = log.len() as u64 * 2; // As with transaction markers between the records.
        let record = Record { offset, timestamp: None, key: Some(key.into()), value: Some(value.into()) };
        log.push((record, effect.map(|ttl| (first, last, seconds, ttl))));
    }
    log
}

/// `until(a)` in seconds for each address of the space: 0 is never blocked, `u64::MAX` for ever.
pub(crate) struct Oracle {
    until: Vec<(IpAddr, u64)>,
    pub(crate) log_time: u64,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let within = (0..windows().len()).flat_map(|window| (0..WINDOW).map(move |at| address(window, at)));
        // No command ends between two windows, so one address stands for all that lie there. (None for the mapped block.)
        let between = [0, 2, 5].map(|window| address(window, WINDOW));
        Self { until: within.chain(between).map(|address| (address, 0)).collect(), log_time: 0 }
    }

    pub(crate) fn apply(&mut self, (first, last, time, ttl): Effect) {
        self.log_time = self.log_time.max(time);
        for (_, until) in self.until.iter_mut().filter(|(ip, _)| (first..=last).contains(ip)) {
            *until = match ttl {
                None => u64::MAX,
                Some(0) => 0,
                Some(ttl) => (*until).max(time + ttl),
            };
        }
    }

    pub(crate) fn assert_agrees(&self, fold: &Fold) {
        for later in [0, 1, 5, 50] {
            self.assert_agrees_at(fold, self.log_time + later);
        }
    }

    /// At `at`, in seconds, which is not before log time.
    pub(crate) fn assert_agrees_at(&self, fold: &Fold, at: u64) {
        {
            let time = LogTime::from_millis(at * 1000).unwrap();
            let blocked: Vec<IpRange> = fold.blocked_at(time).collect();
            for &(ip, until) in &self.until {
                let expected = until > at;
                assert_eq!(fold.find(ip, time).is_some(), expected, "find {ip} at {time}");
                assert_eq!(blocked.iter().any(|range| range.contains(ip)), expected, "{ip} in the snapshot at {time}");
                if let Some((range, found)) = fold.find(ip, time) {
                    assert!(range.contains(ip));
                    let found = match found {
                        Until::Forever => u64::MAX,
                        Until::Time(time) => time.millis() / 1000,
                    };
                    assert_eq!(found, until, "the end of {ip}");
                }
            }
            // The snapshot takes these ranges only if they are sorted, disjoint and not touching.
            edgefold_table::encode(blocked, &mut Vec::new()).unwrap();
            let expiries = self.until.iter().map(|&(_, until)| until).filter(|&until| until != u64::MAX);
            let next = expiries.filter(|&until| until > at).min();
            assert_eq!(fold.next_expiry(time).map(|time| time.millis() / 1000), next, "next expiry after {time}");
        }
    }
}
