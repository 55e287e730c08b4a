//! The blocklist: over SQLite, from several threads, and over a log that fails.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod faulty_log;

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use edgefold::{
    Blocklist, Error, ListName, Listing, Log, LogTime, Moment, NewCommand, SqliteLog, Until, Verdict, now, replay,
};
use tempfile::TempDir;

use crate::faulty_log::{Fault, FaultyLog, TROUBLE};

/// Longer than any machine should need for what a test waits for.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` returns a value.
fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn sqlite() -> (TempDir, SqliteLog) {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::new(directory.path().join("log.db"));
    log.init().unwrap();
    (directory, log)
}

fn follow(log: &SqliteLog) -> Blocklist {
    Blocklist::follow(Box::new(log.clone()) as Box<dyn Log>).unwrap()
}

fn append(log: &SqliteLog, time: LogTime, texts: &[&str]) {
    let command = |text: &&str| NewCommand { time, text: (*text).to_owned() };
    log.append(&texts.iter().map(command).collect::<Vec<_>>()).unwrap();
}

fn await_offset(blocklist: &Blocklist, next_offset: u64) {
    eventually("the commands to be folded", || (blocklist.position().next_offset == next_offset).then_some(()));
}

#[test]
fn it_follows_what_others_append() {
    let (_directory, log) = sqlite();
    append(&log, now(), &["BLACKLIST 10.0.0.0/24"]);
    let blocklist = follow(&log);
    assert_eq!(blocklist.position().next_offset, 1, "it has caught up when it is returned");
    let Listing { list, block } = blocklist.get(ip("10.0.0.7")).denied().unwrap();
    assert_eq!((block.range.to_string().as_str(), block.until), ("10.0.0.0-10.0.0.255", Until::FOREVER));
    assert!(list.is_default());
    let mapped = blocklist.get(ip("::ffff:10.0.0.7")).denied();
    assert_eq!(mapped, Some(Listing { list, block }), "an IPv4-mapped address");
    assert_eq!(blocklist.get(ip("10.0.1.7")).denied(), None);

    append(&log, now(), &["WHITELIST 10.0.0.7", "BLACKLIST 2001:db8::/32"]);
    eventually("the block to go", || blocklist.get(ip("10.0.0.7")).denied().is_none().then_some(()));
    assert!(blocklist.get(ip("10.0.0.8")).denied().is_some());
    assert!(blocklist.get(ip("2001:db8::1")).denied().is_some(), "it came with the command before");
}

#[test]
fn all_lists_are_asked_together_or_one_alone() {
    let (_directory, log) = sqlite();
    let commands = [
        "LIST monitoring action=exempt",
        "ADD 10.0.0.7 list=monitoring",
        "LIST cloud action=tag",
        "ADD 10.0.0.0/8 list=cloud",
        "ADD 10.0.0.0/24 list=feed",
    ];
    append(&log, now(), &commands);
    let blocklist = follow(&log);
    let name = |listing: Listing| listing.list.to_string();
    assert_eq!(blocklist.get(ip("10.0.0.8")).denied().map(name).as_deref(), Some("feed"));
    let Verdict::Exempt(by) = blocklist.get(ip("10.0.0.7")) else { panic!("it is exempt") };
    assert_eq!(name(by), "monitoring");
    let Verdict::Mark { shadow, tag } = blocklist.get(ip("10.0.1.1")) else { panic!("it is tagged") };
    assert_eq!((shadow, tag.into_iter().map(name).collect::<Vec<_>>()), (vec![], vec!["cloud".to_owned()]));
    assert_eq!(blocklist.get(ip("192.0.2.1")), Verdict::Pass);
    let feed: ListName = "feed".parse().unwrap();
    let on_feed = |client| blocklist.read(|fold| fold.list(&feed)?.find(ip(client), now())).is_some();
    assert!(on_feed("10.0.0.7") && !on_feed("10.0.1.1"), "whatever other lists say");
}

#[test]
fn a_block_ends_by_the_clock_without_another_command() {
    let (_directory, log) = sqlite();
    let start = LogTime::parse("2016-09-12T15:00:00Z").unwrap();
    append(&log, start, &["BLACKLIST 10.0.0.1 ttl=1h"]);
    let blocklist = follow(&log);
    let after =
        |millis| blocklist.get_at(ip("10.0.0.1"), start.checked_add(Duration::from_millis(millis)).unwrap()).denied();
    let end = LogTime::parse("2016-09-12T16:00:00Z").unwrap();
    assert_eq!(after(3_599_999).map(|on| on.block.until), Some(Until::from(end)));
    assert_eq!(after(3_600_000), None);
    assert_eq!(blocklist.get(ip("10.0.0.1")).denied(), None, "by the wall clock, it ended long ago");

    append(&log, now(), &["BLACKLIST 10.0.0.2 ttl=1s"]);
    eventually("the block to come", || blocklist.get(ip("10.0.0.2")).denied());
    eventually("the block to end", || blocklist.get(ip("10.0.0.2")).denied().is_none().then_some(()));
}

#[test]
fn readers_never_see_half_a_batch() {
    /// How many states each reader must see.
    const STATES: usize = 100;
    const BATCH: u64 = 4;
    let (_directory, log) = sqlite();
    let blocklist = follow(&log);
    let (a, b) = (ip("10.0.0.1"), ip("2001:db8::1"));
    // The first batch blocks both addresses, the second allows both, and so on. Each also blocks two addresses for
    // good.
    let append_batch = |number: u64| {
        let verb = if number.is_multiple_of(2) { "BLACKLIST" } else { "WHITELIST" };
        let for_good = [1, 2].map(|net| format!("BLACKLIST 2001:db8:{net}::{number:x}"));
        append(&log, now(), &[&for_good[0], &format!("{verb} {a}"), &format!("{verb} {b}"), &for_good[1]]);
    };
    let reader = || {
        let deadline = Instant::now() + DEADLINE;
        let (mut states, mut last) = (0, 0);
        while states < STATES {
            let (next_offset, found) = blocklist.read(|fold| {
                let found = [a, b].map(|ip| fold.default_list().find(ip, LogTime::LAST).is_some());
                (fold.position().next_offset, found)
            });
            assert!(next_offset >= last, "went from offset {last} back to {next_offset}");
            assert!(next_offset.is_multiple_of(BATCH), "at offset {next_offset}, within a batch");
            assert_eq!(found, [next_offset / BATCH % 2 == 1; 2], "at offset {next_offset}");
            states += usize::from(next_offset > last);
            last = next_offset;
            assert!(Instant::now() < deadline, "saw {states} states, and then none after offset {last}");
        }
    };

    let done = AtomicBool::new(false);
    let batches = thread::scope(|scope| {
        let writer =
            scope.spawn(|| (0..).take_while(|_| !done.load(Ordering::Relaxed)).inspect(|&n| append_batch(n)).count());
        let readers = [(); 2].map(|()| scope.spawn(reader));
        let outcomes = readers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok), "a reader saw a wrong state");
        writer.join().unwrap() as u64
    });
    // The two copies of the fold take turns. Both have everything.
    for batches in [batches, batches + 1] {
        await_offset(&blocklist, batches * BATCH);
        let expected = replay(&log, Moment::Offset(batches * BATCH)).unwrap();
        assert!(blocklist.read(|fold| *fold == expected), "a copy is not a replay of {batches} batches");
        append_batch(batches);
    }
}

#[test]
fn a_slow_reader_holds_back_later_commands_but_not_other_readers() {
    let log = FaultyLog::default();
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    thread::scope(|scope| {
        let blocklist = &blocklist;
        scope.spawn(move || {
            let before = blocklist.read(|fold| {
                entered.send(()).unwrap();
                let _disconnected = released.recv();
                fold.default_list().find(ip("10.0.0.1"), now())
            });
            assert_eq!(before, None, "a reader keeps its state");
        });
        has_entered.recv().unwrap();
        log.append_text("BLACKLIST 10.0.0.1");
        eventually("the first block", || blocklist.get(ip("10.0.0.1")).denied());
        log.append_text("BLACKLIST 10.0.0.2");
        assert_eq!(blocklist.get(ip("10.0.0.2")).denied(), None, "it comes only after the reader returns");
        drop(release);
        eventually("the second block", || blocklist.get(ip("10.0.0.2")).denied());
        assert!(blocklist.get(ip("10.0.0.1")).denied().is_some());
    });
}

#[test]
fn a_reader_may_call_the_blocklist_again_or_panic() {
    let log = FaultyLog::default();
    log.append_text("BLACKLIST 10.0.0.1");
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    blocklist.read(|_| {
        assert!(blocklist.read(|fold| fold.default_list().find(ip("10.0.0.1"), now())).is_some());
        log.append_text("BLACKLIST 10.0.0.2");
        eventually("the second block", || blocklist.get(ip("10.0.0.2")).denied());
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| blocklist.read(|_| std::panic::resume_unwind(Box::new(())))));
    assert!(panicked.is_err());
    log.append_text("BLACKLIST 10.0.0.3");
    log.append_text("BLACKLIST 10.0.0.4");
    await_offset(&blocklist, 4);
}

#[test]
fn it_knows_its_position_and_counts_rejected_records() {
    let (_directory, log) = sqlite();
    let start = LogTime::parse("2016-09-12T15:00:00Z").unwrap();
    append(&log, start, &["BLACKLIST 10.0.0.1", "BLACKLIST 10.0.0.300"]);
    let blocklist = follow(&log);
    assert_eq!((blocklist.position().next_offset, blocklist.position().log_time), (2, start));
    assert_eq!(blocklist.status().rejected, 1);
    append(&log, start, &["hello", "", "BLACKLIST 10.0.0.2"]);
    await_offset(&blocklist, 5);
    eventually("the rejected records to be counted", || (blocklist.status().rejected == 3).then_some(()));
    assert_eq!(blocklist.position().log_time, start);
    assert_eq!(blocklist.status().trouble, None);
}

#[test]
fn at_the_start_nothing_is_retried() {
    let log = FaultyLog::default();
    log.set_fault(Fault::Transient);
    assert!(matches!(Blocklist::follow(log.handle()), Err(Error::Stalled { .. })));
    assert_eq!(log.errors().len(), 1);
    let (directory, _) = sqlite();
    let missing = SqliteLog::new(directory.path().join("missing.db"));
    assert!(matches!(Blocklist::follow(Box::new(missing) as Box<dyn Log>), Err(Error::Missing(_))));
}

/// The log fails with `fault`, and later recovers.
fn assert_survives(fault: Fault, reason: &str) {
    let log = FaultyLog::default();
    log.append_text("BLACKLIST 10.0.0.1");
    log.append_text("hello");
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    log.set_fault(fault);
    let trouble = eventually("trouble", || blocklist.status().trouble);
    assert!(trouble.contains(reason), "{trouble}");
    log.append_text("BLACKLIST 10.0.0.2");
    eventually("a retry", || (log.errors().len() >= 2).then_some(()));

    let stale = blocklist.status();
    assert!(stale.trouble.is_some());
    assert!(blocklist.get(ip("10.0.0.1")).denied().is_some(), "it keeps its last state");
    assert_eq!(blocklist.position().next_offset, 2);

    let mended = now();
    log.set_fault(None);
    eventually("the block that was appended in the meantime", || blocklist.get(ip("10.0.0.2")).denied());
    let fresh = eventually("an end of the trouble", || Some(blocklist.status()).filter(|it| it.trouble.is_none()));
    assert!(stale.last_contact <= mended && mended <= fresh.last_contact);
    assert_eq!(log.readers_opened(), 2);
    assert_eq!((blocklist.position().next_offset, fresh.rejected), (3, 1), "records that come twice count once");
    let delay = log.errors()[1].duration_since(log.errors()[0]);
    assert!(delay >= Duration::from_secs(1), "retried after {delay:?}");
}

#[test]
fn it_keeps_its_last_state_during_a_transient_error_and_retries() {
    assert_survives(Fault::Transient, "is the broker up?");
}

#[test]
fn it_keeps_its_last_state_during_a_permanent_error_and_retries() {
    assert_survives(Fault::Permanent, "commands from offset 0 on are needed");
}

#[test]
fn trouble_of_a_reader_is_reported_until_the_log_confirms_its_end() {
    let log = FaultyLog::default();
    log.append_text("BLACKLIST 10.0.0.1");
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    log.set_fault(Fault::Trouble);
    eventually("trouble", || (blocklist.status().trouble.as_deref() == Some(TROUBLE)).then_some(()));
    let stale = blocklist.status().last_contact;
    log.append_text("BLACKLIST 10.0.0.2");
    assert!(blocklist.get(ip("10.0.0.1")).denied().is_some(), "it keeps its last state");
    let mended = now();
    log.set_fault(None);
    eventually("an end of the trouble", || blocklist.status().trouble.is_none().then_some(()));
    assert!(blocklist.get(ip("10.0.0.2")).denied().is_some());
    assert!(stale <= mended && mended <= blocklist.status().last_contact);
    assert_eq!(log.readers_opened(), 1, "the reader retries by itself");
}

/// Drops `blocklist`, which must take less than `at_most`.
fn assert_drops_within(at_most: Duration, blocklist: Blocklist) {
    let start = Instant::now();
    drop(blocklist);
    let elapsed = start.elapsed();
    assert!(elapsed < at_most, "dropping took {elapsed:?}");
}

#[test]
fn dropping_it_stops_its_thread() {
    let log = FaultyLog::default();
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    assert!(!log.is_unused());
    assert_drops_within(Duration::from_secs(1), blocklist);
    assert!(log.is_unused(), "the thread has ended");
}

#[test]
fn dropping_it_does_not_wait_for_the_next_attempt() {
    let log = FaultyLog::default();
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    log.set_fault(Fault::Permanent);
    // The delay after the second attempt is 2 seconds.
    eventually("a retry", || (log.errors().len() == 2).then_some(()));
    assert_drops_within(Duration::from_secs(1), blocklist);
    assert!(log.is_unused(), "the thread has ended");
}

#[test]
fn dropping_it_does_not_wait_for_a_log_that_hangs() {
    let log = FaultyLog::default();
    log.append_text("BLACKLIST 10.0.0.1");
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    log.set_fault(Fault::Hang);
    eventually("the reader to hang", || log.hangs().then_some(()));
    assert!(blocklist.get(ip("10.0.0.1")).denied().is_some());
    assert_drops_within(Duration::from_secs(10), blocklist);
    assert!(!log.is_unused(), "the thread hangs");
    log.set_fault(None);
    eventually("the thread to end", || log.is_unused().then_some(()));
}

/// A blocklist over a log that has panicked, and so has ended its thread.
fn follow_a_log_that_panics() -> Blocklist {
    let log = FaultyLog::default();
    log.append_text("BLACKLIST 10.0.0.1");
    let blocklist = Blocklist::follow(log.handle()).unwrap();
    log.set_fault(Fault::Panic);
    eventually("the thread to end", || log.is_unused().then_some(()));
    blocklist
}

#[test]
fn it_answers_and_can_be_dropped_after_its_thread_has_panicked() {
    let blocklist = follow_a_log_that_panics();
    assert!(blocklist.get(ip("10.0.0.1")).denied().is_some());
    assert_drops_within(Duration::from_secs(1), blocklist);
}

#[test]
fn it_says_that_its_thread_has_panicked() {
    let blocklist = follow_a_log_that_panics();
    eventually("trouble", || blocklist.status().trouble);
}
