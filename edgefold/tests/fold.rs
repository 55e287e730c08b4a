//! The fold and its view, against a naive oracle that knows the end of the block of each single address.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod oracle;

use edgefold::view::{OFFSET_KEY, ViewContent, records, repair};
use edgefold::{
    Block, Change, Edits, Effect, Fold, GRAMMAR, IpRange, ListName, LogTime, MAX_NAMED_LISTS, Position, Record,
    SavedList, Until, ViewRecord,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::oracle::{Draw, Oracle, draws, log};

/// Whether `range` contains the whole IPv4-mapped block, with the addresses on both sides of it.
fn spans_the_mapped_block(range: IpRange) -> bool {
    range.contains("::fffe:ffff:ffff".parse().unwrap()) && range.contains("::1:0:0:0".parse().unwrap())
}

fn all_blocks(fold: &Fold) -> Vec<(ListName, Block)> {
    fold.lists().iter().flat_map(|list| list.blocks().map(|block| (list.name(), block))).collect()
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
            let before = all_blocks(&fold);
            let mut edits = Edits::default();
            let applied = fold.apply(&record, &mut edits);
            prop_assert_eq!(applied.is_ok(), meaning.is_some());
            meaning.into_iter().for_each(|meaning| oracle.apply(meaning));
            oracle.assert_agrees(&fold);
            prop_assert_eq!(fold.position().next_offset, record.offset + 1);
            prop_assert_eq!(fold.position().log_time.millis(), oracle.log_time * 1000);

            // Ranges are as long as they can be, and none spans the mapped block, whose addresses are IPv4.
            for list in fold.lists() {
                let blocks: Vec<Block> = list.blocks().collect();
                for pair in blocks.windows(2) {
                    let touch = edgefold_table::encode(pair.iter().map(|block| block.range), &mut Vec::new()).is_err();
                    prop_assert!(!touch || pair[0].until != pair[1].until, "{pair:?} should be one block");
                }
                prop_assert!(!blocks.iter().any(|block| spans_the_mapped_block(block.range)));
            }
            let blocks = all_blocks(&fold);
            let ends = blocks.iter().map(|(_, block)| block.until);
            // What has expired by log time is gone.
            prop_assert!(ends.clone().all(|until| until.holds_at(fold.position().log_time)));

            // The next and the newest expiry are ends of blocks.
            let ends: Vec<LogTime> = ends.filter_map(Until::time).collect();
            for time in ends.iter().copied().chain([fold.position().log_time]) {
                prop_assert_eq!(fold.next_expiry(time), ends.iter().copied().filter(|end| *end > time).min());
                prop_assert_eq!(fold.newest_expiry(time), ends.iter().copied().filter(|end| *end <= time).max());
            }

            // The net edits are exactly what changed.
            for (name, edits) in edits.lists() {
                let starting_at = |blocks: &[(ListName, Block)], first| {
                    blocks.iter().find(|(of, block)| *of == name && block.range.first() == first).map(|(_, block)| *block)
                };
                for (first, block) in edits.net() {
                    prop_assert_eq!(block, starting_at(&blocks, first));
                    prop_assert_ne!(block, starting_at(&before, first), "{} did not change", first);
                }
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
        let texts = [
            "@offset",
            "hello",
            "10.0.0.1",
            "0.0.0.3",
            "::5",
            "ffff::",
            "",
            "7 2026-01-01T00:00:00Z",
            "::FF",
            "@list 0.0.0.3",
            "@list default",
            "@list ?",
            "action=tag",
            "action=deny share=100%",
            "0.0.0.3 0.0.0.3",
            "gone 10.0.0.1",
            "default 10.0.0.1",
        ];
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
        let before = all_blocks(&one);
        for (name, edits) in edits.lists() {
            prop_assert!(!edits.net().any(|(_, block)| block.is_some_and(|block| before.contains(&(name, block)))));
        }
        prop_assert_eq!(records(&other.edits_since(&other), &other).count(), 1, "@offset alone");
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
        "2 2016-09-12T16:01:13Z format=3 grammar=3 ranges=eaced9d393788081 last=dc5ed5e1f6ee65f5"
    );
    assert_eq!(fold.position().to_string(), "offset 2 (log time 2016-09-12T16:01:13Z)");
    let blocked = |ip: &str| fold.default_list().find(ip.parse().unwrap(), LogTime::LAST).is_some();
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
    let blocks: Vec<_> = fold.default_list().blocks().map(|block| (block.range.to_string(), block.until)).collect();
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
    let ranges: Vec<_> = fold.default_list().blocks().map(|block| block.range.to_string()).collect();
    assert_eq!(ranges, ["::-::fffe:ffff:ffff", "::1:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    assert!(fold.default_list().find("::ffff:10.0.0.1".parse().unwrap(), LogTime::LAST).is_none());
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
    let newer = format!("9 2026-01-01T00:00:00Z format=3 grammar={next} lists=7");
    let foreign = "edgefold did not write the record";
    for (records, words) in [
        (&[("10.0.0.1", "10.0.0.9")][..], "1 ranges, but no record with the key @offset"),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.9", "10.0.0.12")], "10.0.0.9-10.0.0.12 of list default overlaps"),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.10", "10.0.0.12")], "should be joined with it"),
        (&[offset], hash),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.12")], hash),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.11 until=2027-01-01T00:00:00Z")], hash),
        (&[offset, ("10.0.0.1", "10.0.0.9"), ("10.0.0.11", "10.0.0.11"), ("192.0.2.1", "192.0.2.1")], hash),
        (&[(OFFSET_KEY, "3 2026-01-01T00:00:00Z")], "an older edgefold has written it (format 1, grammar 1)"),
        (
            &[("new", "?"), (OFFSET_KEY, &newer)],
            "a newer edgefold has written the view of ranges (format 3, grammar 4)",
        ),
        (&[("new", "?"), (OFFSET_KEY, "9 2026-01-01T00:00:00Z format=4 ?")], "(format 4), and this one only knows"),
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

#[test]
fn a_list_has_keys_of_its_own_and_leaves_nothing_behind() {
    let (fold, written) = play(&[
        ("2026-01-01T00:00:00Z", "BLACKLIST 10.0.0.1"),
        ("2026-01-01T00:00:01Z", "LIST 10.0.0.1 action=tag"),
        ("2026-01-01T00:00:02Z", "ADD 10.0.0.0/24 list=10.0.0.1 ttl=1h"),
        ("2026-01-01T00:00:03Z", "ADD 2001:db8::1 list=feed ttl=1h"),
        ("2026-01-01T00:00:04Z", "REMOVE 10.0.0.7 list=10.0.0.1"),
        ("2026-01-01T00:00:05Z", "WHITELIST 10.0.0.1 list=*"),
        ("2026-01-01T00:00:06Z", "LIST default action=shadow"),
        ("2026-01-01T00:00:07Z", "LIST default action=shadow"),
        ("2026-01-01T00:00:08Z", "UNLIST 10.0.0.1"),
        ("2026-01-01T00:00:09Z", "UNLIST never-was"),
        ("2026-01-01T01:00:03Z", "BLACKLIST 192.0.2.1"),
        ("2026-01-01T01:00:04Z", "LIST default action=deny"),
    ]);
    assert_eq!(written[0], [record("10.0.0.1", "10.0.0.1")]);
    assert_eq!(written[1], [record("@list 10.0.0.1", "action=tag")]);
    assert_eq!(written[2], [record("10.0.0.1 10.0.0.0", "10.0.0.255 until=2026-01-01T01:00:02Z")]);
    assert_eq!(written[3], [record("feed 2001:db8::1", "2001:db8::1 until=2026-01-01T01:00:03Z")]);
    assert_eq!(
        written[4],
        [
            record("10.0.0.1 10.0.0.0", "10.0.0.6 until=2026-01-01T01:00:02Z"),
            record("10.0.0.1 10.0.0.8", "10.0.0.255 until=2026-01-01T01:00:02Z"),
        ]
    );
    assert_eq!(
        written[5],
        [
            tombstone("10.0.0.1"),
            record("10.0.0.1 10.0.0.0", "10.0.0.0 until=2026-01-01T01:00:02Z"),
            record("10.0.0.1 10.0.0.2", "10.0.0.6 until=2026-01-01T01:00:02Z"),
        ]
    );
    assert_eq!(written[6], [record("@list default", "action=shadow")]);
    assert_eq!(written[7], [], "it did that before");
    assert_eq!(
        written[8],
        [
            tombstone("@list 10.0.0.1"),
            tombstone("10.0.0.1 10.0.0.0"),
            tombstone("10.0.0.1 10.0.0.2"),
            tombstone("10.0.0.1 10.0.0.8")
        ]
    );
    assert_eq!(written[9], []);
    assert_eq!(written[10], [record("192.0.2.1", "192.0.2.1"), tombstone("feed 2001:db8::1")]);
    assert_eq!(written[11], [record("@list default", "action=deny")]);
    let mut view = ViewContent::default();
    for (key, value) in written.iter().flatten() {
        view.read(Some(key), value.as_deref().map(str::as_bytes));
    }
    read(&mut view, records(&Edits::default(), &fold));
    assert_eq!(view.into_fold().unwrap(), fold);
    let names: Vec<_> = fold.lists().iter().map(|list| list.name().to_string()).collect();
    assert_eq!(names, ["default"]);
}

#[test]
fn one_list_too_many_is_rejected_and_changes_nothing() {
    let mut fold = Fold::default();
    let mut edits = Edits::default();
    let mut apply = |fold: &mut Fold, text: &str, time: &str| {
        let offset = fold.position().next_offset;
        let record = Record { offset, timestamp: None, key: Some(time.into()), value: Some(text.into()) };
        fold.apply(&record, &mut edits).map_err(|error| error.to_string())
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z");
    apply(&mut fold, "ADD 10.0.0.1 list=ends ttl=1h", early).unwrap();
    for at in 1..MAX_NAMED_LISTS {
        apply(&mut fold, &format!("LIST list-{at} action=tag"), early).unwrap();
    }
    let before = fold.clone();
    for text in ["ADD 10.0.0.1 list=more", "LIST more action=deny"] {
        // Later than the end of the only block of a list, which would make room.
        let error = apply(&mut fold, text, late).unwrap_err();
        assert_eq!(error, "there are 64 lists already: remove one that is not needed, as in UNLIST list-9");
    }
    assert_eq!(fold.lists(), before.lists());
    assert_eq!(fold.position().log_time, before.position().log_time);
    // The lists that exist, the default list, and commands that create none still work.
    for text in ["ADD 10.0.0.2 list=list-1", "BLACKLIST 10.0.0.2", "REMOVE 10.0.0.1 list=more", "UNLIST more"] {
        apply(&mut fold, text, early).unwrap();
    }
    apply(&mut fold, "WHITELIST 10.0.0.9", late).unwrap();
    apply(&mut fold, "ADD 10.0.0.1 list=more", late).unwrap();
    apply(&mut fold, "LIST even-more action=deny", late).unwrap_err();
}

/// The hash of the set of ranges is stored, so it must not change, and must depend on all of it.
#[test]
fn lists_and_what_they_do_are_part_of_the_hash() {
    let base = [("2026-01-01T00:00:00Z", "ADD 10.0.0.1 list=a"), ("2026-01-01T00:00:00Z", "ADD 10.0.0.2 list=b")];
    let with = |more: &str| play(&[base[0], base[1], ("2026-01-01T00:00:00Z", more)]).0.hash();
    let hashes = [
        play(&base).0.hash(),
        with("ADD 10.0.0.2 list=a"),
        with("ADD 10.0.0.3"),
        with("LIST a action=deny"),
        with("LIST a action=tag"),
        with("LIST b action=tag"),
        with("LIST c action=tag"),
        with("LIST default action=deny"),
        with("UNLIST b"),
        play(&[("2026-01-01T00:00:00Z", "ADD 10.0.0.2 list=a"), ("2026-01-01T00:00:00Z", "ADD 10.0.0.1 list=b")])
            .0
            .hash(),
    ];
    let different: std::collections::BTreeSet<u64> = hashes.into_iter().collect();
    assert_eq!(different.len(), hashes.len());
    assert_eq!(format!("{:016x}", hashes[4]), "d5feabab0143bd95");
}

/// The fixtures were written by edgefold as it was before there were several lists.
#[test]
fn a_log_from_before_there_were_lists_has_the_same_records() {
    let lines = |text: &'static str| text.lines().map(|line| line.split_once('\t').unwrap());
    let commands: Vec<_> = lines(include_str!("fixtures/log-before-lists.tsv")).collect();
    let (fold, written) = play(&commands);
    let mut view: std::collections::BTreeMap<Vec<u8>, String> = std::collections::BTreeMap::new();
    for (key, value) in written.into_iter().flatten() {
        match value {
            Some(value) => drop(view.insert(key, value)),
            None => drop(view.remove(&key)),
        }
    }
    let (offset, expected): (Vec<_>, Vec<_>) =
        lines(include_str!("fixtures/view-before-lists.tsv")).partition(|(key, _)| *key == OFFSET_KEY);
    let found: Vec<(&str, &str)> = view.iter().map(|(key, value)| (str::from_utf8(key).unwrap(), &**value)).collect();
    assert_eq!(found, expected);
    // The hash of the ranges too.
    let (_, value) = records(&Edits::default(), &fold).last().unwrap();
    let without_versions = |text: &str| {
        let words: Vec<&str> = text.split(' ').collect();
        [words[0], words[1], words[4]].join(" ")
    };
    assert_eq!(without_versions(&value.unwrap()), without_versions(offset[0].1));
}

#[test]
fn a_fold_is_resumed_only_from_lists_that_it_can_have() {
    let saved = |name: &str, ranges: &[&str]| SavedList {
        name: name.parse().unwrap(),
        action: None,
        blocks: ranges.iter().map(|range| Block { range: range.parse().unwrap(), until: Until::FOREVER }).collect(),
    };
    let resume = |lists: Vec<SavedList>| Fold::resume(Position::default(), lists).map_err(|error| error.to_string());
    let many = |count: usize| (0..count).map(|at| saved(&format!("l{at}"), &["10.0.0.1"])).collect::<Vec<_>>();
    assert_eq!(resume(many(MAX_NAMED_LISTS)).unwrap().lists().len(), MAX_NAMED_LISTS + 1, "and the default list");
    assert_eq!(resume(many(MAX_NAMED_LISTS + 1)).unwrap_err(), "there are more than 64 lists");
    for name in ["default", "a"] {
        let twice = vec![saved(name, &["10.0.0.1"]), saved(name, &["10.0.0.2"])];
        assert_eq!(resume(twice).unwrap_err(), format!("list {name} is there twice"));
    }
    let overlapping = vec![saved("a", &["10.0.0.0/24", "10.0.0.7"])];
    assert!(resume(overlapping).unwrap_err().starts_with("the range 10.0.0.7 of list a overlaps"));
    let gone = resume(vec![saved("a", &[])]).unwrap();
    assert_eq!(gone, Fold::default(), "a list with nothing on it, and nothing to do, does not exist");
}

/// No command does so, but whoever calls the library could.
#[test]
fn the_default_list_outlives_its_removal() {
    let (mut fold, _) =
        play(&[("2026-01-01T00:00:00Z", "BLACKLIST 10.0.0.1"), ("2026-01-01T00:00:01Z", "LIST default action=tag")]);
    let effect = Effect { time: LogTime::EPOCH, change: Change::Unlist { list: ListName::DEFAULT } };
    fold.apply_effect(&effect, &mut Edits::default()).unwrap();
    assert_eq!(fold.lists(), Fold::default().lists());
}
