//! What the trait `edgefold::Log` promises, as one suite over both logs: SQLite, and a real Kafka.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use edgefold::view::{ViewError, read_view, records as view_records, stated, watch_view};
use edgefold::{
    Blocklist, Checkpoints, CommandReader, Edits, Error, Explanation, Fold, Follower, Log, LogTime, LogUrl, Moment,
    NewCommand, Position, Record, explain, now, replay,
};
use edgefold_snapshotter::keeper::rebuild;
use edgefold_tests::{Edgefold, Kafka, eventually};

/// Opens a log that nobody has created yet. Each call returns a handle of its own, as another process would have it.
type Open<'a> = &'a dyn Fn() -> Box<dyn Log>;

/// Makes each case a test over both logs: `sqlite::CASE` and `kafka::CASE`.
macro_rules! conformance {
    ($($case:ident,)+) => {
        mod sqlite {
            $(#[test] fn $case() { super::over_sqlite(super::$case) })+
        }
        mod kafka {
            $(#[test] fn $case() { super::over_kafka(stringify!($case), super::$case) })+
        }
    };
}

fn over_sqlite(case: fn(Open<'_>)) {
    let edgefold = Edgefold::uninitialized();
    let url: LogUrl = edgefold.log().parse().unwrap();
    case(&|| url.open().unwrap());
}

fn over_kafka(name: &str, case: fn(Open<'_>)) {
    let kafka = Kafka::shared();
    let url: LogUrl = kafka.log(name).parse().unwrap();
    case(&|| url.open().unwrap());
}

conformance! {
    a_log_that_was_never_created_is_missing,
    init_may_be_repeated,
    a_new_log_passes_its_check,
    commands_come_back_in_order,
    appending_nothing_appends_nothing,
    several_may_append_at_once,
    a_reader_follows_what_others_append,
    a_reader_knows_the_end_from_when_it_was_opened,
    an_idle_reader_confirms_again_that_it_is_at_the_end,
    a_reader_of_a_busy_log_confirms_contact_too,
    a_reader_that_is_behind_confirms_no_contact,
    an_offset_after_the_end_is_refused,
    a_reader_that_resumes_proves_the_log,
    a_start_from_a_view_that_ends_with_the_log_proves_it,
    a_view_is_read_back_as_it_was_written,
    a_view_reader_reports_how_far_the_view_is,
    a_view_reader_notices_another_writer,
    a_second_view_writer_fences_the_first,
    a_rebuild_fences_the_view_writer,
    a_rebuild_replaces_an_invalid_view,
    a_start_from_the_view_at_any_offset_equals_a_replay,
    a_moment_from_checkpoints_is_that_of_a_replay,
    a_blocklist_follows_what_others_append,
}

fn command(text: &str) -> NewCommand {
    NewCommand { time: LogTime::parse("2016-09-12T15:32:00Z").unwrap(), text: text.to_owned() }
}

fn at(next_offset: u64) -> Position {
    Position { next_offset, ..Position::default() }
}

/// Reads from `from` to the end of the log.
fn read_all(log: &dyn Log, from: u64) -> Vec<Record> {
    let mut reader = log.commands(at(from)).unwrap();
    let mut records = Vec::new();
    eventually("the end of the log", || {
        let batch = reader.read(Duration::from_millis(100)).unwrap();
        records.extend(batch.records);
        batch.at_end.then_some(())
    });
    records
}

fn view(log: &dyn Log) -> Fold {
    read_view(log).unwrap()
}

fn folded(records: &[Record]) -> (Fold, Edits) {
    let (mut fold, mut edits) = (Fold::default(), Edits::default());
    for record in records {
        let _rejected = fold.apply(record, &mut edits);
    }
    (fold, edits)
}

fn a_log_that_was_never_created_is_missing(open: Open<'_>) {
    let log = open();
    let assert_missing = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Missing(_)), "{error}");
        assert!(error.to_string().starts_with("there is no log at "), "{error}");
    };
    assert_missing(log.append(&[command("BLACKLIST 10.0.0.1")]).map(drop));
    assert_missing(log.commands(at(0)).map(drop));
    assert_missing(log.view().map(drop));
    assert_missing(log.check().map(drop));
}

fn init_may_be_repeated(open: Open<'_>) {
    let log = open();
    let report = log.init().unwrap();
    assert!(report.iter().all(|line| line.starts_with("created")), "{report:?}");
    log.append(&[command("BLACKLIST 10.0.0.1")]).unwrap();
    let report = log.init().unwrap();
    let expected = |line: &String| line.contains("exists already") || is_of_a_single_broker(line);
    assert!(report.iter().all(expected), "{report:?}");
    assert_eq!(read_all(&*log, 0).len(), 1);
}

/// The Kafka of these tests is one broker.
fn is_of_a_single_broker(warning: &str) -> bool {
    warning.contains("has one replica") || warning.contains("has min.insync.replicas=1")
}

fn a_new_log_passes_its_check(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    assert!(log.check().unwrap().iter().all(|line| is_of_a_single_broker(line)));
}

fn commands_come_back_in_order(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    assert_eq!(read_all(&*log, 0), []);
    let texts: Vec<String> = (0..300).map(|n| format!("BLACKLIST 10.0.{}.{}", n / 256, n % 256)).collect();
    let commands: Vec<NewCommand> = texts.iter().map(|text| command(text)).collect();
    assert_eq!(log.append(&commands[..1]).unwrap(), [0]);
    assert_eq!(log.append(&commands[1..]).unwrap(), (1..300).collect::<Vec<u64>>());
    let records = read_all(&*log, 0);
    for (record, (offset, text)) in records.iter().zip((0..).zip(&texts)) {
        assert_eq!(record.offset, offset);
        assert_eq!(record.key.as_deref(), Some(&b"2016-09-12T15:32:00Z"[..]));
        assert_eq!(record.value.as_deref(), Some(text.as_bytes()));
        assert!(record.timestamp.is_some(), "the log states when it received a record");
    }
    assert_eq!(records.len(), 300);
    assert_eq!(read_all(&*log, 290), records[290..]);
    assert_eq!(read_all(&*log, 300), []);
}

fn appending_nothing_appends_nothing(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    assert_eq!(log.append(&[]).unwrap(), [0; 0]);
    assert_eq!(log.append(&[command("BLACKLIST 10.0.0.1")]).unwrap(), [0]);
}

fn several_may_append_at_once(open: Open<'_>) {
    open().init().unwrap();
    let logs: Vec<_> = (0..3).map(|_| open()).collect();
    let mut offsets: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = logs
            .into_iter()
            .map(|log| {
                scope.spawn(move || {
                    let append = |n| log.append(&[command(&format!("BLACKLIST 10.0.0.{n}"))]).unwrap();
                    (0..5).flat_map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    offsets.sort_unstable();
    assert_eq!(offsets, (0..15).collect::<Vec<_>>());
    assert_eq!(read_all(&*open(), 0).len(), 15);
}

fn a_reader_follows_what_others_append(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let mut reader = log.commands(at(0)).unwrap();
    for round in 0..3 {
        let offsets = open().append(&[command("BLACKLIST 10.0.0.1"), command("WHITELIST 10.0.0.1")]).unwrap();
        let mut read = Vec::new();
        eventually("two commands", || {
            read.extend(reader.read(Duration::from_secs(5)).unwrap().records);
            (read.len() == 2).then_some(())
        });
        assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), offsets, "round {round}");
    }
    eventually("the end", || {
        let batch = reader.read(Duration::from_millis(50)).unwrap();
        assert!(batch.records.is_empty());
        batch.at_end.then_some(())
    });
}

fn a_reader_knows_the_end_from_when_it_was_opened(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    assert_eq!(log.commands(at(0)).unwrap().end(), 0);
    log.append(&["BLACKLIST 10.0.0.1", "BLACKLIST 10.0.0.2"].map(command)).unwrap();
    let reader = log.commands(at(1)).unwrap();
    log.append(&[command("BLACKLIST 10.0.0.3")]).unwrap();
    assert_eq!((reader.end(), log.commands(at(0)).unwrap().end()), (2, 3));
}

/// The moments of contact that a reader reports, until it reports one that is later than `wanted`.
fn await_contact(reader: &mut dyn CommandReader, wanted: Instant) {
    eventually("contact with the end of the log", || {
        let batch = reader.read(Duration::from_millis(100)).unwrap();
        assert_eq!(batch.trouble, None);
        assert!(batch.contact.is_none_or(|contact| contact <= Instant::now()), "contact is in the past");
        batch.contact.filter(|contact| *contact > wanted).map(drop)
    });
}

/// Whoever follows a log learns from this that what it has is still all there is.
fn an_idle_reader_confirms_again_that_it_is_at_the_end(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&[command("BLACKLIST 10.0.0.1")]).unwrap();
    let mut reader = log.commands(at(0)).unwrap();
    await_contact(&mut *reader, Instant::now());
    await_contact(&mut *reader, Instant::now());
}

/// A log that is never quiet for long enough to announce its end.
fn a_reader_of_a_busy_log_confirms_contact_too(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let writer = open();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                writer.append(&[command("BLACKLIST 10.0.0.1")]).unwrap();
            }
        });
        let mut reader = log.commands(at(0)).unwrap();
        await_contact(&mut *reader, Instant::now());
        await_contact(&mut *reader, Instant::now());
        stop.store(true, Ordering::Relaxed);
    });
}

/// Found by a review: the end of what had come before more was appended counted as contact at the time of the last full batch.
fn a_reader_that_is_behind_confirms_no_contact(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let append = |count| log.append(&vec![command("hello"); count]).unwrap();
    append(20_000);
    let mut reader = log.commands(at(0)).unwrap();
    let poll = Duration::from_millis(100);
    // It has fetched all of them, and the end, before it returns the first batch. Nothing says when that is so.
    thread::sleep(Duration::from_secs(3));
    let mut next = reader.read(poll).unwrap().records.last().unwrap().offset + 1;
    append(15_000);
    let acknowledged = Instant::now();
    eventually("contact after all is read", || {
        thread::sleep(poll);
        let batch = reader.read(poll).unwrap();
        next = batch.records.last().map_or(next, |last| last.offset + 1);
        let is_late = batch.contact.is_some_and(|contact| contact > acknowledged);
        assert!(!is_late || next == 35_000, "contact after what was acknowledged, but at offset {next}");
        is_late.then_some(())
    });
}

fn an_offset_after_the_end_is_refused(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&[command("BLACKLIST 10.0.0.1")]).unwrap();
    let error = log.commands(at(5)).map(drop).unwrap_err();
    assert!(matches!(error, Error::Gone { needed: 5, .. }), "{error}");
    assert!(error.to_string().starts_with("commands from offset 5 on are needed, but the log has "), "{error}");
}

fn a_reader_that_resumes_proves_the_log(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&["BLACKLIST 10.0.0.1", "hello", "BLACKLIST 10.0.0.2"].map(command)).unwrap();
    let records = read_all(&*log, 0);
    for end in 1..=records.len() {
        let (fold, _) = folded(&records[..end]);
        let mut follower = Follower::resume(&*log, fold.clone()).unwrap();
        follower.catch_up().unwrap();
        assert_eq!(follower.fold, folded(&read_all(&*log, 0)).0, "after {end} commands");
        log.append(&[command("hello")]).unwrap();
        eventually("a record after the proof", || {
            (!follower.follow(Duration::from_millis(100)).unwrap().records.is_empty()).then_some(())
        });

        // Another log with the same offsets.
        let mut others = records.clone();
        others[end - 1].timestamp = LogTime::from_millis(7);
        let (other, _) = folded(&others[..end]);
        let mut follower = Follower::resume(&*log, other).unwrap();
        let error = eventually("an error", || follower.follow(Duration::from_millis(100)).err());
        assert!(matches!(error, Error::OtherLog { offset } if offset == end as u64 - 1), "{error}");
    }
}

/// Found by a review: such a start read no command at all, and so took another log of the same length for the one before.
fn a_start_from_a_view_that_ends_with_the_log_proves_it(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&["BLACKLIST 10.0.0.1", "BLACKLIST 10.0.0.3"].map(command)).unwrap();
    let mut records = read_all(&*log, 0);
    let write_view_of = |records: &[Record]| {
        let (fold, edits) = folded(records);
        log.view_writer().unwrap().write(&mut view_records(&edits, &fold)).unwrap();
        fold
    };
    let fold = write_view_of(&records);
    assert_eq!(Follower::load(&*log).unwrap().fold, fold);
    Blocklist::follow(open()).unwrap();
    // The view of another log with the same offsets and the same ranges.
    records[1].timestamp = LogTime::from_millis(records[1].timestamp.unwrap().millis() + 1);
    write_view_of(&records);
    let error = Follower::load(&*log).map(drop).unwrap_err();
    assert!(matches!(error, Error::OtherLog { offset: 1 }), "{error}");
    let error = Blocklist::follow(open()).map(drop).unwrap_err();
    assert!(matches!(error, Error::OtherLog { offset: 1 }), "{error}");
}

fn a_view_is_read_back_as_it_was_written(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    assert_eq!(view(&*log), Fold::default());
    let texts = [
        "BLACKLIST 10.0.0.0/24",
        "BLACKLIST 2001:db8::/32 ttl=1h",
        "LIST feed action=deny share=25% status=429",
        "ADD 10.0.0.0/25 list=feed",
        "WHITELIST 10.0.0.0/25",
        "WHITELIST ::/0 list=*",
        "LIST feed action=tag",
        "UNLIST feed",
    ];
    log.append(&texts.map(command)).unwrap();
    let mut writer = log.view_writer().unwrap();
    let mut fold = Fold::default();
    for record in read_all(&*log, 0) {
        let mut edits = Edits::default();
        fold.apply(&record, &mut edits).unwrap();
        writer.write(&mut view_records(&edits, &fold)).unwrap();
        assert_eq!(view(&*open()), fold, "after offset {}", record.offset);
    }
    let ranges: Vec<_> = fold.default_list().blocks().map(|block| block.range.to_string()).collect();
    assert_eq!(ranges, ["10.0.0.128-10.0.0.255"], "the other ranges were removed, by tombstones");
}

fn a_view_reader_reports_how_far_the_view_is(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let mut reader = log.view().unwrap();
    let mut writer = open().view_writer().unwrap();
    let (mut fold, mut reported) = (Fold::default(), Vec::new());
    for round in 1..=3 {
        log.append(&[command(&format!("BLACKLIST 10.0.{round}.0/24"))]).unwrap();
        let mut edits = Edits::default();
        fold.apply(&read_all(&*log, round - 1)[0], &mut edits).unwrap();
        writer.write(&mut view_records(&edits, &fold)).unwrap();
        eventually("the offset", || {
            let wait = Duration::from_secs(1);
            reader
                .read(wait, &mut |key, value| reported.extend(stated(key, value).map(|stated| stated.next_offset)))
                .unwrap();
            (reported.last() == Some(&round)).then_some(())
        });
    }
}

/// Even if it has written nothing yet.
fn a_view_reader_notices_another_writer(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&[command("BLACKLIST 10.0.0.1")]).unwrap();
    rebuild(&*log).map(drop).unwrap();
    let mut reader = watch_view(&*log, |_, _| {}).unwrap();
    let wait = Duration::from_millis(100);
    let mut progress = || {
        reader.read(wait, &mut |_, _| {}).unwrap();
        reader.progress()
    };
    // Up to the end, and until that is known.
    let mut before = progress();
    eventually("the reader to be at the end", || {
        let now = progress();
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    let _writer = log.view_writer().unwrap();
    eventually("the reader to move", || (progress() != before).then_some(()));
}

fn a_second_view_writer_fences_the_first(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&["BLACKLIST 10.0.0.0/24", "WHITELIST 10.0.0.100"].map(command)).unwrap();
    let records = read_all(&*log, 0);
    let (first, first_edits) = folded(&records[..1]);
    let (both, both_edits) = folded(&records);
    let mut old = log.view_writer().unwrap();
    let other = open();
    let mut new = other.view_writer().unwrap();
    new.write(&mut view_records(&both_edits, &both)).unwrap();
    let error = old.write(&mut view_records(&first_edits, &first)).unwrap_err();
    assert!(matches!(error, Error::Fenced), "{error}");
    assert_eq!(view(&*log), both, "the old writer wrote nothing");
}

fn a_rebuild_fences_the_view_writer(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&[command("BLACKLIST 10.0.0.0/24")]).unwrap();
    let (fold, edits) = folded(&read_all(&*log, 0));
    let mut writer = log.view_writer().unwrap();
    writer.write(&mut view_records(&edits, &fold)).unwrap();
    rebuild(&*open()).unwrap();
    let error = writer.write(&mut view_records(&edits, &fold)).unwrap_err();
    assert!(matches!(error, Error::Fenced), "{error}");
}

fn a_rebuild_replaces_an_invalid_view(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&["BLACKLIST 10.0.0.0/24", "WHITELIST 10.0.0.100", "BLACKLIST ::/0"].map(command)).unwrap();
    let (right, _) = folded(&read_all(&*log, 0));
    let record = |key: &str, value: &str| (key.as_bytes().to_vec(), Some(value.to_owned()));
    let mut writer = log.view_writer().unwrap();
    let strays = [("hello", "world"), ("10.0.0.7", "10.0.0.9"), ("10.0.0.0", "10.0.0.8 until=never"), ("@offset", "2")];
    writer.write(&mut strays.iter().map(|(key, value)| record(key, value))).unwrap();
    let error = read_view(&*log).unwrap_err();
    assert!(matches!(error, Error::View(ViewError::Record { .. })), "{error}");
    assert_eq!(Follower::load(&*log).unwrap().fold, right, "a start replays the commands");
    let (_writer, follower) = rebuild(&*log).unwrap();
    assert_eq!((&view(&*log), &follower.fold), (&right, &right));
    // Another rebuild finds nothing to do.
    rebuild(&*log).unwrap();
    assert_eq!(view(&*log), right);
}

fn a_start_from_the_view_at_any_offset_equals_a_replay(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let texts = [
        "BLACKLIST 10.0.0.0/24",
        "WHITELIST 10.0.0.100",
        "nonsense",
        "BLACKLIST 10.0.0.100 ttl=1h",
        "BLACKLIST ::/0",
        "WHITELIST 2001:db8::/32",
        "BLACKLIST 10.0.0.0/8 until=2030-01-01T00:00:00Z",
        "LIST feed action=tag",
        "ADD 10.0.0.0/24 list=other ttl=1h",
        "WHITELIST 10.0.0.7 list=*",
        "UNLIST feed",
    ];
    log.append(&texts.map(command)).unwrap();
    let records = read_all(&*log, 0);
    let mut writer = log.view_writer().unwrap();
    let (replayed, _) = folded(&records);
    let mut fold = Fold::default();
    for record in &records {
        // The view is at this offset. A start reads it, and then the rest of the commands.
        assert_eq!(view(&*open()), fold);
        let follower = Follower::load(&*open()).unwrap();
        assert_eq!(follower.fold, replayed, "from a view at offset {}", fold.position().next_offset);
        // The time machine returns what the view was.
        let then = replay(&*open(), Moment::Offset(fold.position().next_offset)).unwrap();
        assert_eq!(then, fold);
        let mut edits = Edits::default();
        let _rejected = fold.apply(record, &mut edits);
        writer.write(&mut view_records(&edits, &fold)).unwrap();
    }
    assert_eq!(Follower::load(&*open()).unwrap().fold, replayed);
    let error = replay(&*open(), Moment::Offset(99)).unwrap_err();
    assert!(matches!(error, Error::NotYet { wanted: 99, end: 11 }), "{error}");
}

fn a_moment_from_checkpoints_is_that_of_a_replay(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let texts = (0..20).map(|at| match at % 5 {
        0 => command("nonsense"),
        1 => command(&format!("BLACKLIST 10.0.{at}.0/24 ttl=1h")),
        2 => command("ADD 10.0.0.0/8 list=feed"),
        3 => command("WHITELIST 10.0.0.0/12 list=*"),
        _ => command(&format!("BLACKLIST 2001:db8::{at}")),
    });
    log.append(&texts.collect::<Vec<_>>()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let first = Checkpoints::in_folder(folder.path()).with_limits(3, 1 << 20);
    let (range, now) = ("10.0.6.7".parse().unwrap(), now());
    let events = |explained: Explanation| explained.enforced.events().to_vec();
    let expected = events(explain(&*log, range, None, now).unwrap());
    assert_eq!(events(first.explain(&*log, range, None, now).unwrap()), expected);
    assert_eq!(first.newest().unwrap().position().next_offset, 18);
    let second = Checkpoints::in_folder(folder.path()).with_limits(3, 1 << 20);
    for checkpoints in [first, second] {
        for offset in 0..=20 {
            let moment = Moment::Offset(offset);
            assert_eq!(checkpoints.replay(&*open(), moment).unwrap(), replay(&*open(), moment).unwrap());
        }
        assert_eq!(events(checkpoints.explain(&*open(), range, None, now).unwrap()), expected);
        let error = checkpoints.replay(&*open(), Moment::Offset(99)).unwrap_err();
        assert!(matches!(error, Error::NotYet { wanted: 99, end: 20 }), "{error}");
    }
}

fn a_blocklist_follows_what_others_append(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&[command("BLACKLIST 10.0.0.0/24")]).unwrap();
    let started = now();
    let blocklist = Blocklist::follow(open()).unwrap();
    let is_blocked = |ip: &str| blocklist.get(ip.parse().unwrap()).denied().is_some();
    assert!(is_blocked("10.0.0.7") && !is_blocked("10.0.1.7"), "it has caught up");
    assert!(blocklist.status().last_contact >= started);
    log.append(&["BLACKLIST 10.0.1.0/24", "nonsense", "WHITELIST 10.0.0.7"].map(command)).unwrap();
    eventually("all commands", || (blocklist.position().next_offset == 4).then_some(()));
    assert!(!is_blocked("10.0.0.7") && is_blocked("10.0.1.7"));
    eventually("the record that is not a command", || (blocklist.status().rejected == 1).then_some(()));
    let last_contact = blocklist.status().last_contact;
    eventually("another confirmation of the end", || (blocklist.status().last_contact > last_contact).then_some(()));
    assert_eq!(blocklist.status().trouble, None);
}
