//! The fold against a naive oracle: one `until` for each address of a small space.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold::edits::Edits;
use edgefold::fold::Fold;
use edgefold::record::{Record, Until};
use edgefold::time::LogTime;
use edgefold::view::{View, ViewRecord, records, repair};
use edgefold_table::IpRange;
use proptest::prelude::*;
use proptest::sample::Index;

/// Addresses in each window of the space.
const WINDOW: u8 = 24;

/// The space: both edges of both families, and both edges of the IPv4-mapped block, which IPv6 does not have.
fn windows() -> [IpAddr; 6] {
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

fn address(window: usize, at: u8) -> IpAddr {
    match windows()[window] {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(at)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(at)).into(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Block { seconds: Option<u8> },
    Allow,
    Junk,
}

/// A step, the windows and places of its two ends, and how much log time moves before it, in seconds (it may go back).
type Command = (Step, Index, Index, u8, u8, i8);

fn commands() -> impl Strategy<Value = Vec<Command>> {
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
type Effect = (IpAddr, IpAddr, u64, Option<u64>);

/// The log that `commands` make, and beside each record what the oracle is to do.
fn log(commands: &[Command]) -> Vec<(Record, Option<Effect>)> {
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
struct Oracle {
    until: Vec<(IpAddr, u64)>,
    log_time: u64,
}

impl Oracle {
    fn new() -> Self {
        let within = (0..windows().len()).flat_map(|window| (0..WINDOW).map(move |at| address(window, at)));
        // No command ends between two windows, so one address stands for all that lie there. (None for the mapped block.)
        let between = [0, 2, 5].map(|window| address(window, WINDOW));
        Self { until: within.chain(between).map(|address| (address, 0)).collect(), log_time: 0 }
    }

    fn apply(&mut self, (first, last, time, ttl): Effect) {
        self.log_time = self.log_time.max(time);
        for (_, until) in self.until.iter_mut().filter(|(ip, _)| (first..=last).contains(ip)) {
            *until = match ttl {
                None => u64::MAX,
                Some(0) => 0,
                Some(ttl) => (*until).max(time + ttl),
            };
        }
    }

    fn assert_agrees(&self, fold: &Fold) {
        for later in [0, 1, 5, 50] {
            let at = self.log_time + later;
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

fn mapped(range: IpRange) -> bool {
    range.contains("::fffe:ffff:ffff".parse().unwrap()) && range.contains("::1:0:0:0".parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_random_log_means_what_the_oracle_says(commands in commands()) {
        let (mut fold, mut oracle, mut view) = (Fold::default(), Oracle::new(), View::default());
        for (record, effect) in log(&commands) {
            let before: Vec<_> = fold.ranges().collect();
            let mut edits = Edits::default();
            let applied = fold.apply(&record, &mut edits);
            prop_assert_eq!(applied.is_ok(), effect.is_some());
            effect.into_iter().for_each(|effect| oracle.apply(effect));
            oracle.assert_agrees(&fold);
            prop_assert_eq!(fold.position().next_offset, record.offset + 1);
            prop_assert_eq!(fold.position().log_time.millis(), oracle.log_time * 1000);

            // As long as they can be, and none over the mapped block, whose addresses are IPv4.
            let ranges: Vec<_> = fold.ranges().collect();
            for pair in ranges.windows(2) {
                let touching = edgefold_table::encode(pair.iter().map(|(range, _)| *range), &mut Vec::new()).is_err();
                prop_assert!(!touching || pair[0].1 != pair[1].1, "{pair:?} should be one");
            }
            prop_assert!(!ranges.iter().any(|&(range, _)| mapped(range)));

            // Only what changed is written.
            for (first, entry) in edits.iter() {
                let old = before.iter().find(|(range, _)| range.first() == first);
                let new = ranges.iter().find(|(range, _)| range.first() == first);
                prop_assert_ne!(old, new, "{} did not change", first);
                prop_assert_eq!(entry.is_some(), new.is_some());
            }

            // Invariant 1: the view gives back the fold, at every offset.
            for (key, value) in records(&edits, fold.position()) {
                view.read(Some(&key), value.as_deref().map(str::as_bytes));
            }
        }
        prop_assert_eq!(view.into_fold().unwrap(), fold);
    }

    #[test]
    fn a_batch_of_edits_leads_where_its_steps_lead(commands in commands(), cut in any::<Index>()) {
        let log = log(&commands);
        let cut = cut.index(log.len() + 1);
        let mut fold = Fold::default();
        let mut view = View::default();
        for batch in [&log[..cut], &log[cut..]] {
            let mut edits = Edits::default();
            for (record, _) in batch {
                let _ = fold.apply(record, &mut edits);
            }
            for (key, value) in records(&edits, fold.position()) {
                view.read(Some(&key), value.as_deref().map(str::as_bytes));
            }
        }
        prop_assert_eq!(view.into_fold().unwrap(), fold);
    }

    /// Whatever the view holds, a repair makes it what the fold is.
    #[test]
    fn a_repaired_view_is_the_fold(
        commands in commands(),
        junk in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..20),
    ) {
        let texts = ["@offset", "hello", "10.0.0.1", "0.0.0.3", "::5", "ffff::", "", "7 2026-01-01T00:00:00Z", "::FF"];
        let mut there = std::collections::BTreeMap::new();
        let mut view = View::default();
        for (key, value) in &junk {
            let (key, value) = (texts[key.index(texts.len())], texts[value.index(texts.len())]);
            view.read(Some(key.as_bytes()), Some(value.as_bytes()));
            there.insert(key.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        let mut fold = Fold::default();
        log(&commands).iter().for_each(|(record, _)| drop(fold.apply(record, &mut Edits::default())));
        for (key, value) in repair(&there, &fold) {
            view.read(Some(&key), value.as_deref().map(str::as_bytes));
        }
        prop_assert_eq!(view.into_fold().unwrap(), fold);
    }

    #[test]
    fn the_edits_between_two_folds_lead_from_one_to_the_other(one in commands(), other in commands()) {
        let fold = |commands: &[Command]| {
            let mut fold = Fold::default();
            log(commands).iter().for_each(|(record, _)| drop(fold.apply(record, &mut Edits::default())));
            fold
        };
        let (one, other) = (fold(&one), fold(&other));
        let mut view = View::default();
        for (edits, fold) in [(Edits::between(&Fold::default(), &one), &one), (Edits::between(&one, &other), &other)] {
            for (key, value) in records(&edits, fold.position()) {
                view.read(Some(&key), value.as_deref().map(str::as_bytes));
            }
        }
        prop_assert_eq!(view.into_fold().unwrap(), other);
    }
}

fn play(commands: &[(&str, &str)]) -> (Fold, Vec<Vec<ViewRecord>>) {
    let mut fold = Fold::default();
    let mut written = Vec::new();
    for (offset, (key, value)) in commands.iter().enumerate() {
        let record =
            Record { offset: offset as u64, timestamp: None, key: Some((*key).into()), value: Some((*value).into()) };
        let mut edits = Edits::default();
        fold.apply(&record, &mut edits).unwrap();
        written.push(records(&edits, fold.position()).collect());
    }
    (fold, written)
}

fn record(key: &str, value: &str) -> ViewRecord {
    (key.into(), Some(value.to_owned()))
}

#[test]
fn the_example_that_edgefold_comes_from() {
    let (fold, written) = play(&[
        ("2016-09-12 15:32:00", "BLACKLIST 10.0.0.1-10.0.0.255"),
        ("2016-09-12 16:01:13", "WHITELIST 10.0.0.100/32"),
    ]);
    assert_eq!(written[0], [record("10.0.0.1", "10.0.0.255"), record("@offset", "1 2016-09-12T15:32:00Z")]);
    assert_eq!(
        written[1],
        [
            record("10.0.0.1", "10.0.0.99"),
            record("10.0.0.101", "10.0.0.255"),
            record("@offset", "2 2016-09-12T16:01:13Z"),
        ]
    );
    let blocked = |ip: &str| fold.find(ip.parse().unwrap(), LogTime::LAST).is_some();
    assert!(blocked("10.0.0.99") && blocked("10.0.0.101") && !blocked("10.0.0.100"));
}

#[test]
fn a_shorter_block_never_shortens_a_longer_one() {
    let (fold, _) = play(&[
        ("2026-01-01T00:00:00Z", "BLACKLIST 10.0.0.0/24 ttl=4h"),
        ("2026-01-01T00:00:01Z", "BLACKLIST 10.0.0.0/25 ttl=1h"),
        ("2026-01-01T00:00:02Z", "BLACKLIST 10.0.0.128/25"),
        ("2026-01-01T00:00:03Z", "BLACKLIST 10.0.0.128/25 ttl=1h"),
    ]);
    let ranges: Vec<_> = fold.ranges().map(|(range, until)| (range.to_string(), until)).collect();
    let until = LogTime::parse("2026-01-01T04:00:00Z").unwrap();
    assert_eq!(
        ranges,
        [("10.0.0.0-10.0.0.127".into(), Until::Time(until)), ("10.0.0.128-10.0.0.255".into(), Until::Forever)]
    );
}

#[test]
fn what_has_expired_by_log_time_leaves_the_view() {
    let (_, written) = play(&[
        ("2026-01-01T00:00:00Z", "BLACKLIST 10.0.0.0/24 ttl=1h"),
        ("2026-01-01T01:00:00Z", "BLACKLIST 192.0.2.1"),
    ]);
    assert_eq!(written[0][0], record("10.0.0.0", "10.0.0.255 until=2026-01-01T01:00:00Z"));
    assert_eq!(
        written[1],
        [("10.0.0.0".into(), None), record("192.0.2.1", "192.0.2.1"), record("@offset", "2 2026-01-01T01:00:00Z")]
    );
}

#[test]
fn all_of_ipv6_leaves_out_the_mapped_addresses_which_are_ipv4() {
    let (fold, _) = play(&[("2026-01-01T00:00:00Z", "BLACKLIST ::/0")]);
    let ranges: Vec<_> = fold.ranges().map(|(range, _)| range.to_string()).collect();
    assert_eq!(ranges, ["::-::fffe:ffff:ffff", "::1:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    assert!(fold.find("::ffff:10.0.0.1".parse().unwrap(), LogTime::LAST).is_none());
}

#[test]
fn a_view_that_no_fold_leaves_is_refused() {
    let refused = |records: &[(&str, &str)]| {
        let mut view = View::default();
        for (key, value) in records {
            view.read(Some(key.as_bytes()), Some(value.as_bytes()));
        }
        view.into_fold().map(|_| ()).map_err(|error| error.to_string())
    };
    let offset = ("@offset", "3 2026-01-01T00:00:00Z");
    assert_eq!(refused(&[]), Ok(()));
    assert_eq!(refused(&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.12")]), Ok(()));
    for (records, words) in [
        (&[("10.0.0.1", "10.0.0.9")][..], "1 ranges, but no record with the key @offset"),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.9", "10.0.0.12")], "10.0.0.9-10.0.0.12 overlaps"),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.10", "10.0.0.12")], "should be one with it"),
        (&[offset, ("10.0.0.1", "10.0.0.0")], "none of edgefold's"),
        (&[offset, ("10.0.0.1", "10.0.0.2 until=never")], "none of edgefold's"),
        (&[offset, ("hello", "10.0.0.2")], "none of edgefold's"),
        (&[("@offset", "-1 2026-01-01T00:00:00Z")], "none of edgefold's"),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.1", "junk")], "none of edgefold's"),
        (&[offset, ("2001:DB8::1", "2001:db8::2")], "none of edgefold's"),
        (&[offset, ("::ffff:10.0.0.1", "10.0.0.2")], "none of edgefold's"),
    ] {
        let error = refused(records).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
