//! The fold against a naive oracle: one `until` for each address of a small space.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod oracle;

use edgefold::edits::Edits;
use edgefold::fold::Fold;
use edgefold::record::{Record, Until};
use edgefold::time::LogTime;
use edgefold::view::{View, ViewRecord, records, repair};
use edgefold_table::IpRange;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::oracle::{Command, Oracle, commands, log};

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
