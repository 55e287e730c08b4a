//! The fold and its view, against a naive oracle that knows the end of the block of each single address.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod oracle;

use edgefold::view::{OFFSET_KEY, ViewContent, records, repair};
use edgefold::{Block, Edits, Fold, GRAMMAR, IpRange, LogTime, Record, Until, ViewRecord};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::oracle::{Draw, Oracle, draws, log};

/// Whether `range` contains the whole IPv4-mapped block, with the addresses on both sides of it.
fn spans_the_mapped_block(range: IpRange) -> bool {
    range.contains("::fffe:ffff:ffff".parse().unwrap()) && range.contains("::1:0:0:0".parse().unwrap())
}

/// The fold of the log that `draws` make.
fn folded(draws: &[Draw]) -> Fold {
    let mut fold = Fold::default();
    for (record, _) in log(draws) {
        let _rejected = fold.apply(&record, &mut Edits::default());
    }
    fold
}

/// Writes `edits` into `view`, as the writer of the view does.
fn write(view: &mut ViewContent, edits: &Edits, fold: &Fold) {
    read(view, records(edits, fold));
}

fn read(view: &mut ViewContent, records: impl Iterator<Item = ViewRecord>) {
    for (key, value) in records {
        view.read(Some(&key), value.as_deref().map(str::as_bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_random_log_means_what_the_oracle_says(draws in draws()) {
        let (mut fold, mut oracle, mut view) = (Fold::default(), Oracle::new(), ViewContent::default());
        for (record, meaning) in log(&draws) {
            let before: Vec<Block> = fold.blocks().collect();
            let mut edits = Edits::default();
            let applied = fold.apply(&record, &mut edits);
            prop_assert_eq!(applied.is_ok(), meaning.is_some());
            meaning.into_iter().for_each(|meaning| oracle.apply(meaning));
            oracle.assert_agrees(&fold);
            prop_assert_eq!(fold.position().next_offset, record.offset + 1);
            prop_assert_eq!(fold.position().log_time.millis(), oracle.log_time * 1000);

            // Ranges are as long as they can be, and none spans the mapped block, whose addresses are IPv4.
            let blocks: Vec<Block> = fold.blocks().collect();
            for pair in blocks.windows(2) {
                let touch = edgefold_table::encode(pair.iter().map(|block| block.range), &mut Vec::new()).is_err();
                prop_assert!(!touch || pair[0].until != pair[1].until, "{pair:?} should be one block");
            }
            prop_assert!(!blocks.iter().any(|block| spans_the_mapped_block(block.range)));
            // What has expired by log time is gone.
            prop_assert!(blocks.iter().all(|block| block.until.holds_at(fold.position().log_time)));

            // The next and the newest expiry are ends of blocks.
            let ends: Vec<LogTime> = blocks.iter().filter_map(|block| block.until.time()).collect();
            for time in ends.iter().copied().chain([fold.position().log_time]) {
                prop_assert_eq!(fold.next_expiry(time), ends.iter().copied().filter(|end| *end > time).min());
                prop_assert_eq!(fold.newest_expiry(time), ends.iter().copied().filter(|end| *end <= time).max());
            }

            // The net edits are exactly what changed.
            let starting_at =
                |blocks: &[Block], first| blocks.iter().copied().find(|block| block.range.first() == first);
            for (first, block) in edits.net() {
                prop_assert_eq!(block, starting_at(&blocks, first));
                prop_assert_ne!(block, starting_at(&before, first), "{} did not change", first);
            }

            write(&mut view, &edits, &fold);
        }
        // The view reads back as the fold.
        prop_assert_eq!(view.into_fold().unwrap(), fold);
    }

    #[test]
    fn a_batch_of_edits_leads_where_its_steps_lead(draws in draws(), cut in any::<Index>()) {
        let log = log(&draws);
        let cut = cut.index(log.len() + 1);
        let mut fold = Fold::default();
        let mut view = ViewContent::default();
        for batch in [&log[..cut], &log[cut..]] {
            let mut edits = Edits::default();
            for (record, _) in batch {
                let _rejected = fold.apply(record, &mut edits);
            }
            write(&mut view, &edits, &fold);
        }
        prop_assert_eq!(view.into_fold().unwrap(), fold);
    }

    #[test]
    fn a_repair_turns_any_view_into_the_fold(
        draws in draws(),
        junk in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..20),
    ) {
        let texts = ["@offset", "hello", "10.0.0.1", "0.0.0.3", "::5", "ffff::", "", "7 2026-01-01T00:00:00Z", "::FF"];
        let (mut current, mut view) = (ViewContent::default(), ViewContent::default());
        for (key, value) in &junk {
            let (key, value) = (texts[key.index(texts.len())], texts[value.index(texts.len())]);
            view.read(Some(key.as_bytes()), Some(value.as_bytes()));
            current.read(Some(key.as_bytes()), Some(value.as_bytes()));
        }
        let fold = folded(&draws);
        read(&mut view, repair(current, &fold));
        prop_assert_eq!(view.into_fold().unwrap(), fold);
    }

    #[test]
    fn the_edits_since_any_other_fold_lead_from_it_to_this_one(one in draws(), other in draws()) {
        let (one, other) = (folded(&one), folded(&other));
        let mut view = ViewContent::default();
        write(&mut view, &one.edits_since(&Fold::default()), &one);
        let edits = other.edits_since(&one);
        write(&mut view, &edits, &other);
        prop_assert_eq!(view.into_fold().unwrap(), other.clone());

        // Nothing is written that is the same in both.
        let before: Vec<Block> = one.blocks().collect();
        prop_assert!(!edits.net().any(|(_, block)| block.is_some_and(|block| before.contains(&block))));
        prop_assert_eq!(other.edits_since(&other).net().count(), 0);
    }
}

/// Folds commands with their times as keys. Returns the fold, and the records that each command writes into the view.
fn play(commands: &[(&str, &str)]) -> (Fold, Vec<Vec<ViewRecord>>) {
    let mut fold = Fold::default();
    let mut written = Vec::new();
    for (offset, (key, value)) in (0..).zip(commands) {
        let record = Record { offset, timestamp: None, key: Some((*key).into()), value: Some((*value).into()) };
        let mut edits = Edits::default();
        fold.apply(&record, &mut edits).unwrap();
        let mut records: Vec<ViewRecord> = records(&edits, &fold).collect();
        assert_eq!(records.pop().map(|(key, _)| key), Some(OFFSET_KEY.into()), "it is the last");
        written.push(records);
    }
    (fold, written)
}

fn record(key: &str, value: &str) -> ViewRecord {
    (key.into(), Some(value.to_owned()))
}

fn tombstone(key: &str) -> ViewRecord {
    (key.into(), None)
}

#[test]
fn an_address_is_allowed_in_the_middle_of_a_blocked_range() {
    let (fold, written) = play(&[
        ("2016-09-12 15:32:00", "BLACKLIST 10.0.0.1-10.0.0.255"),
        ("2016-09-12 16:01:13", "WHITELIST 10.0.0.100/32"),
    ]);
    assert_eq!(written[0], [record("10.0.0.1", "10.0.0.255")]);
    assert_eq!(written[1], [record("10.0.0.1", "10.0.0.99"), record("10.0.0.101", "10.0.0.255")]);
    // The example of docs/semantics.md.
    let (_, offset) = records(&Edits::default(), &fold).last().unwrap();
    assert_eq!(
        offset.unwrap(),
        "2 2016-09-12T16:01:13Z format=2 grammar=2 ranges=eaced9d393788081 last=dc5ed5e1f6ee65f5"
    );
    assert_eq!(fold.position().to_string(), "offset 2 (log time 2016-09-12T16:01:13Z)");
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
    let blocks: Vec<_> = fold.blocks().map(|block| (block.range.to_string(), block.until)).collect();
    let end = Until::from(LogTime::parse("2026-01-01T04:00:00Z").unwrap());
    assert_eq!(blocks, [("10.0.0.0-10.0.0.127".into(), end), ("10.0.0.128-10.0.0.255".into(), Until::FOREVER)]);
}

#[test]
fn a_block_that_has_expired_by_log_time_leaves_the_view() {
    let (_, written) = play(&[
        ("2026-01-01T00:00:00Z", "BLACKLIST 10.0.0.0/24 ttl=1h"),
        ("2026-01-01T01:00:00Z", "BLACKLIST 192.0.2.1"),
    ]);
    assert_eq!(written[0][0], record("10.0.0.0", "10.0.0.255 until=2026-01-01T01:00:00Z"));
    assert_eq!(written[1], [tombstone("10.0.0.0"), record("192.0.2.1", "192.0.2.1")]);
}

#[test]
fn all_of_ipv6_leaves_out_the_mapped_addresses_because_they_are_ipv4() {
    let (fold, _) = play(&[("2026-01-01T00:00:00Z", "BLACKLIST ::/0")]);
    let ranges: Vec<_> = fold.blocks().map(|block| block.range.to_string()).collect();
    assert_eq!(ranges, ["::-::fffe:ffff:ffff", "::1:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    assert!(fold.find("::ffff:10.0.0.1".parse().unwrap(), LogTime::LAST).is_none());
}

#[test]
fn a_view_that_no_fold_writes_is_refused() {
    let outcome = |records: &[(&str, &str)]| {
        let mut view = ViewContent::default();
        for (key, value) in records {
            view.read(Some(key.as_bytes()), Some(value.as_bytes()));
        }
        view.into_fold().map(|_| ()).map_err(|error| error.to_string())
    };
    let (fold, _) =
        play(&[("2026-01-01T00:00:00Z", "BLOCK 10.0.0.1-10.0.0.9"), ("2026-01-01T00:00:01Z", "BLOCK 10.0.0.11")]);
    let (_, value) = records(&Edits::default(), &fold).last().unwrap();
    let value = value.unwrap();
    let offset = (OFFSET_KEY, &*value);
    assert_eq!(outcome(&[]), Ok(()));
    assert_eq!(outcome(&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.11")]), Ok(()));
    let hash = "a range was lost, added or changed";
    let next = GRAMMAR + 1;
    let newer = format!("9 2026-01-01T00:00:00Z format=2 grammar={next} lists=7");
    let foreign = "edgefold did not write the record";
    for (records, words) in [
        (&[("10.0.0.1", "10.0.0.9")][..], "1 ranges, but no record with the key @offset"),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.9", "10.0.0.12")], "10.0.0.9-10.0.0.12 overlaps"),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.10", "10.0.0.12")], "should be joined with it"),
        (&[offset], hash),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.12")], hash),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.11 until=2027-01-01T00:00:00Z")], hash),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.11"), ("192.0.2.1", "192.0.2.1")], hash),
        (&[(OFFSET_KEY, "3 2026-01-01T00:00:00Z")], "an older edgefold has written it (format 1, grammar 1)"),
        (
            &[("new", "?"), (OFFSET_KEY, &newer)],
            "a newer edgefold has written the view of ranges (format 2, grammar 3)",
        ),
        (&[("new", "?"), (OFFSET_KEY, "9 2026-01-01T00:00:00Z format=3 ?")], "(format 3), and this one only knows"),
        (&[offset, ("10.0.0.1", "10.0.0.0")], foreign),
        (&[offset, ("10.0.0.1", "10.0.0.2 until=never")], foreign),
        (&[offset, ("hello", "10.0.0.2")], foreign),
        (&[(OFFSET_KEY, "-1 2026-01-01T00:00:00Z")], foreign),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.1", "junk")], foreign),
        (&[offset, ("2001:DB8::1", "2001:db8::2")], foreign),
        (&[offset, ("::ffff:10.0.0.1", "10.0.0.2")], foreign),
    ] {
        let error = outcome(records).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
