//! One suite for every log: what `edgefold::log::Log` promises, over SQLite and over a real Kafka.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::time::Duration;

use edgefold::edits::Edits;
use edgefold::fold::Fold;
use edgefold::keeper::rebuild;
use edgefold::load::{Follower, Moment, read_view, replay};
use edgefold::log::{Log, LogError, LogUrl, NewCommand};
use edgefold::record::Record;
use edgefold::time::LogTime;
use edgefold::view::{records as view_records, stated_offset};
use edgefold_tests::{Kafka, eventually};

/// Opens a handle of its own on one log, as another process would.
type Open<'a> = &'a dyn Fn() -> Box<dyn Log>;

/// What a case promises, and the case.
type Case = (&'static str, fn(Open<'_>));

const CASES: [Case; 12] = [
    ("a log that was never created is missing", a_log_that_was_never_created_is_missing),
    ("init is idempotent", init_is_idempotent),
    ("commands come back in order", commands_come_back_in_order),
    ("a reader follows what others append", a_reader_follows_what_others_append),
    ("an offset behind the end is refused", an_offset_behind_the_end_is_refused),
    ("the view gives back what was written", the_view_gives_back_what_was_written),
    ("a second writer fences the first", a_second_writer_fences_the_first),
    ("bootstrap and follow equal a replay at every offset", bootstrap_and_follow_equal_a_replay),
    ("several may append at once", several_may_append_at_once),
    ("a reader of the view hears how far it comes", a_reader_of_the_view_hears_how_far_it_comes),
    ("a view that is no view is rebuilt", a_view_that_is_no_view_is_rebuilt),
    ("a rebuild fences a writer", a_rebuild_fences_a_writer),
];

#[test]
fn sqlite() {
    for (name, case) in CASES {
        println!("{name}");
        let directory = tempfile::tempdir().unwrap();
        let url: LogUrl = format!("sqlite:{}", directory.path().join("log.db").display()).parse().unwrap();
        case(&|| url.open(&[]).unwrap());
    }
}

#[test]
fn kafka() {
    let kafka = Kafka::start();
    for (index, (name, case)) in CASES.into_iter().enumerate() {
        println!("{name}");
        let url: LogUrl = kafka.log(&format!("case-{index}")).parse().unwrap();
        case(&|| url.open(&[]).unwrap());
    }
}

fn command(text: &str) -> NewCommand {
    NewCommand { time: LogTime::parse("2016-09-12T15:32:00Z").unwrap(), text: text.to_owned() }
}

/// Reads from `from` to the end of the log.
fn read_all(log: &dyn Log, from: u64) -> Vec<Record> {
    let mut reader = log.commands(from).unwrap();
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
    let missing = |result: Result<(), LogError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, LogError::Missing(_)), "{error}");
        assert!(error.to_string().contains("create it with `edgefold init`"), "{error}");
    };
    missing(log.append(&[command("BLACKLIST 10.0.0.1")]).map(drop));
    missing(log.commands(0).map(drop));
    missing(log.view().map(drop));
    missing(log.check().map(drop));
}

fn init_is_idempotent(open: Open<'_>) {
    let log = open();
    assert!(log.init().unwrap().iter().all(|line| line.starts_with("created")));
    log.append(&[command("BLACKLIST 10.0.0.1")]).unwrap();
    assert!(log.init().unwrap().iter().all(|line| line.contains("is there already")));
    assert_eq!(read_all(&*log, 0).len(), 1);
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
        assert!(record.timestamp.is_some(), "the log says when it took a record");
    }
    assert_eq!(records.len(), 300);
    assert_eq!(read_all(&*log, 290), records[290..]);
    assert_eq!(read_all(&*log, 300), []);
}

fn a_reader_follows_what_others_append(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let mut reader = log.commands(0).unwrap();
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

fn an_offset_behind_the_end_is_refused(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&[command("BLACKLIST 10.0.0.1")]).unwrap();
    let error = log.commands(5).map(drop).unwrap_err();
    assert!(error.to_string().contains("commands from offset 5 on are needed, but the log has"), "{error}");
}

fn the_view_gives_back_what_was_written(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    assert_eq!(view(&*log), Fold::default());
    let texts = ["BLACKLIST 10.0.0.0/24", "BLACKLIST 2001:db8::/32 ttl=1h", "WHITELIST 10.0.0.0/25", "WHITELIST ::/0"];
    log.append(&texts.map(command)).unwrap();
    let records = read_all(&*log, 0);
    let mut writer = log.view_writer().unwrap();
    let mut fold = Fold::default();
    for record in &records {
        let mut edits = Edits::default();
        fold.apply(record, &mut edits).unwrap();
        writer.write(&mut view_records(&edits, fold.position())).unwrap();
        assert_eq!(view(&*open()), fold, "after offset {}", record.offset);
    }
    let ranges: Vec<_> = fold.ranges().map(|(range, _)| range.to_string()).collect();
    assert_eq!(ranges, ["10.0.0.128-10.0.0.255"], "so there were tombstones");
}

fn a_second_writer_fences_the_first(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&["BLACKLIST 10.0.0.0/24", "WHITELIST 10.0.0.100"].map(command)).unwrap();
    let records = read_all(&*log, 0);
    let (first, first_edits) = folded(&records[..1]);
    let (both, both_edits) = folded(&records);
    let mut old = log.view_writer().unwrap();
    let other = open();
    let mut new = other.view_writer().unwrap();
    new.write(&mut view_records(&both_edits, both.position())).unwrap();
    let error = old.write(&mut view_records(&first_edits, first.position())).unwrap_err();
    assert!(matches!(error, LogError::Fenced), "{error}");
    assert_eq!(view(&*log), both, "the old writer wrote nothing");
}

fn bootstrap_and_follow_equal_a_replay(open: Open<'_>) {
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
    ];
    log.append(&texts.map(command)).unwrap();
    let records = read_all(&*log, 0);
    let mut writer = log.view_writer().unwrap();
    let (replayed, _) = folded(&records);
    let mut fold = Fold::default();
    for record in &records {
        // The view stands at this offset; whoever comes now bootstraps from it, and follows the rest.
        assert_eq!(view(&*open()), fold);
        let follower = Follower::load(&*open()).unwrap();
        assert_eq!(follower.fold, replayed, "from a view at offset {}", fold.position().next_offset);
        // And the time machine gives what the view was.
        let then = replay(&*open(), Moment::Offset(fold.position().next_offset)).unwrap();
        assert_eq!(then, fold);
        let mut edits = Edits::default();
        let _rejected = fold.apply(record, &mut edits);
        writer.write(&mut view_records(&edits, fold.position())).unwrap();
    }
    assert_eq!(Follower::load(&*open()).unwrap().fold, replayed);
    let error = replay(&*open(), Moment::Offset(99)).unwrap_err().to_string();
    assert!(error.contains("offset 99 is still to come"), "{error}");
}

fn several_may_append_at_once(open: Open<'_>) {
    open().init().unwrap();
    let logs: Vec<_> = (0..3).map(|_| open()).collect();
    let mut offsets: Vec<u64> = std::thread::scope(|scope| {
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

fn a_reader_of_the_view_hears_how_far_it_comes(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    let mut reader = log.view().unwrap();
    let mut writer = open().view_writer().unwrap();
    let (mut fold, mut heard) = (Fold::default(), Vec::new());
    for round in 1..=3 {
        log.append(&[command(&format!("BLACKLIST 10.0.{round}.0/24"))]).unwrap();
        let mut edits = Edits::default();
        fold.apply(&read_all(&*log, round - 1)[0], &mut edits).unwrap();
        writer.write(&mut view_records(&edits, fold.position())).unwrap();
        eventually("the offset", || {
            let wait = Duration::from_secs(1);
            reader.read(wait, &mut |key, value| heard.extend(stated_offset(key, value))).unwrap();
            (heard.last() == Some(&round)).then_some(())
        });
    }
}

fn a_view_that_is_no_view_is_rebuilt(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&["BLACKLIST 10.0.0.0/24", "WHITELIST 10.0.0.100", "BLACKLIST ::/0"].map(command)).unwrap();
    let (right, _) = folded(&read_all(&*log, 0));
    let junk = |key: &str, value: &str| (key.as_bytes().to_vec(), Some(value.to_owned()));
    let mut writer = log.view_writer().unwrap();
    let strays = [junk("hello", "world"), junk("10.0.0.7", "10.0.0.9"), junk("10.0.0.0", "10.0.0.8 until=never")];
    writer.write(&mut strays.into_iter().chain([junk("@offset", "2")])).unwrap();
    assert!(read_view(&*log).unwrap_err().to_string().contains("none of edgefold's"));
    assert_eq!(Follower::load(&*log).unwrap().fold, right, "who comes now replays the commands");
    let (_writer, follower) = rebuild(&*log).unwrap();
    assert_eq!((&view(&*log), &follower.fold), (&right, &right));
    // Nothing to do, and no harm done.
    rebuild(&*log).unwrap();
    assert_eq!(view(&*log), right);
}

fn a_rebuild_fences_a_writer(open: Open<'_>) {
    let log = open();
    log.init().unwrap();
    log.append(&[command("BLACKLIST 10.0.0.0/24")]).unwrap();
    let (fold, edits) = folded(&read_all(&*log, 0));
    let mut writer = log.view_writer().unwrap();
    writer.write(&mut view_records(&edits, fold.position())).unwrap();
    rebuild(&*open()).unwrap();
    let error = writer.write(&mut view_records(&edits, fold.position())).unwrap_err();
    assert!(matches!(error, LogError::Fenced), "{error}");
}
