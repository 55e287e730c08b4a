//! Crashes over a real Kafka and over SQLite: processes that are killed, hang or are cut off, a broker that restarts, a
//! topic that is compacted, transactions that are open or aborted. Through all of it, the view is a replay of the
//! commands, no command is lost, and none counts twice.
//!
//! The commands are drawn from a seed, which is printed. `EDGEFOLD_SEED=N` draws the same again, and crashes after the
//! same delays. What the processes are doing at those moments is up to them.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]
#![allow(clippy::print_stdout, reason = "how often and how long things happened shows that the test did its work")]

mod fleet;
mod history;
mod keeping;
mod log;
mod oracle;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use edgefold::view::{OFFSET_KEY, read_view, read_view_after};
use edgefold::{Error, Fold, Follower, Moment, now, replay};
use edgefold_snapshotter::keeper::rebuild;
use edgefold_tests::{Edgefold, Kafka, Relay, StoppedKafka, eventually};
use fastrand::Rng;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::fleet::{Fleet, Phase};
use crate::history::{Fate, History};
use crate::keeping::Keeping;
use crate::log::{create_topic, open};
use crate::oracle::assert_each_transaction_is_right;
use crate::watching::Watching;

/// How many times a snapshotter is killed, for each kind of log.
const KILLS: usize = 54;

#[test]
fn kill_9_loses_nothing_and_doubles_nothing_over_kafka() {
    let kafka = Kafka::start();
    let url = Edgefold::kafka(&kafka, "kills").log().to_owned();
    let history = kill_again_and_again(&url);
    assert_each_transaction_is_right(&kafka.records("kills.ranges"), &history.in_the_log(&url));
}

#[test]
fn kill_9_loses_nothing_and_doubles_nothing_over_sqlite() {
    let edgefold = Edgefold::sqlite();
    let watching = Watching::start(edgefold.log());
    let history = kill_again_and_again(edgefold.log());
    watching.assert_each_state_is_right(&history.in_the_log(edgefold.log()));
}

/// Kills snapshotters during a stream of commands: while they start, take over, and write.
fn kill_again_and_again(url: &str) -> History {
    let history = History::new();
    let mut random = Rng::with_seed(history.seed);
    let mut fleet = Fleet::over([url; 3]);
    let appending = history.keep_appending(url);
    fleet.start_all();
    let mut newest = 0;
    let mut killed = BTreeMap::<Phase, usize>::new();
    for _ in 0..KILLS {
        let (victim, at_most) = match random.u8(0..6) {
            0..=2 => (newest, 700),
            3 => (fleet.await_phase(Phase::TakingOver), 500),
            _ => (fleet.await_phase(Phase::Writing), 1000),
        };
        // There is no condition to wait for: the moment of the kill is random.
        thread::sleep(Duration::from_micros(random.u64(0..at_most * 1000)));
        *killed.entry(fleet.phase(victim)).or_default() += 1;
        fleet.kill(victim);
        fleet.start(victim);
        newest = victim;
    }
    let history = appending.stop();
    println!("{KILLS} kills during {} commands: {killed:?}", history.sent.len());
    let in_phases = |phases: &[Phase]| phases.iter().filter_map(|phase| killed.get(phase)).sum::<usize>();
    assert!(in_phases(&[Phase::Starting, Phase::Standby]) >= KILLS / 10, "{killed:?}");
    assert!(in_phases(&[Phase::TakingOver, Phase::Writing]) >= KILLS / 10, "{killed:?}");
    let appended = |fate| matches!(fate, Fate::Appended(_));
    assert!(history.sent.iter().all(|sent| appended(sent.fate)), "nobody who appends was killed");
    fleet.assert_right_at_the_end(url, &history);
    history
}

#[test]
fn another_takes_over_when_the_writer_dies_hangs_or_is_cut_off_from_kafka() {
    let (kafka, relay) = Kafka::start_with_relay();
    let url = Edgefold::kafka(&kafka, "takeover").log().to_owned();
    let mut fleet = Fleet::over([&*relay.log("takeover"), &url, &url]);
    let appending = History::new().keep_appending(&url);
    let (behind_relay, other, third) = (0, 1, 2);
    fleet.start(behind_relay);
    assert_eq!(fleet.writer(), behind_relay);
    fleet.start(other);

    for (what, interrupt) in [("nothing comes through", Relay::hold as fn(&Relay)), ("connections break", Relay::cut)] {
        interrupt(&relay);
        assert_eq!(fleet.another_takes_over(behind_relay, what), other);
        fleet.assert_ships(&[other], &appending);
        relay.mend();
        fleet.await_stand_by(behind_relay);
        fleet.assert_ships(&[behind_relay, other], &appending);
        fleet.kill(other);
        assert_eq!(fleet.another_takes_over(other, "killed, one of two"), behind_relay);
        fleet.start(other);
    }

    fleet.start(third);
    for _ in 0..3 {
        let writer = fleet.writer();
        fleet.hang_until_another_takes_over(writer, "hung, one of three");
        let others: Vec<usize> = (0..3).filter(|&member| member != writer).collect();
        fleet.assert_ships(&others, &appending);
        fleet.resume_and_stand_by(writer);
        fleet.assert_view_advances();
        fleet.assert_ships(&[behind_relay, other, third], &appending);
    }
    let writer = fleet.writer();
    fleet.kill(writer);
    fleet.another_takes_over(writer, "killed, one of three");
    fleet.start(writer);

    let history = appending.stop();
    fleet.assert_right_at_the_end(&url, &history);
    assert_each_transaction_is_right(&kafka.records("takeover.ranges"), &history.in_the_log(&url));
}

#[test]
fn another_takes_over_when_the_writer_dies_or_hangs_over_sqlite() {
    let edgefold = Edgefold::sqlite();
    let url = edgefold.log();
    let mut fleet = Fleet::over([url; 3]);
    let watching = Watching::start(url);
    let mut appending = History::new().keep_appending(url);
    fleet.start_all();
    for _ in 0..2 {
        let writer = fleet.writer();
        fleet.kill(writer);
        fleet.another_takes_over(writer, "killed, over SQLite");
        fleet.start(writer);

        // A process that hangs in the middle of a transaction locks the whole database, and nobody can take over. So
        // the writer must be idle when it hangs.
        let writer = fleet.writer();
        let history = appending.stop();
        history.await_view(url);
        fleet.serve(writer).hang();
        appending = history.keep_appending(url);
        fleet.another_takes_over(writer, "hung, over SQLite");
        fleet.resume_and_stand_by(writer);
        fleet.assert_view_advances();
        fleet.assert_ships(&[0, 1, 2], &appending);
    }
    let history = appending.stop();
    fleet.assert_right_at_the_end(url, &history);
    watching.assert_each_state_is_right(&history.in_the_log(url));
}

#[test]
fn a_broker_that_restarts_costs_nothing() {
    // For this long, the controller believes that a killed broker is alive, and rejects its successor.
    let kafka = Kafka::start_with("broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500");
    let url = Edgefold::kafka(&kafka, "restart").log().to_owned();
    let mut fleet = Fleet::over([&*url; 2]);

    let stopped = kafka.stop();
    fleet.start_all();
    for member in 0..2 {
        // What the operator sees.
        fleet.serve(member).wait_for_log_line("Envoy keeps what it has; trying again in");
    }
    assert_nothing_can_be_appended(fleet.edgefold(0));
    let mut kafka = stopped.start();
    let appending = History::new().keep_appending(&url);
    fleet.assert_ships(&[0, 1], &appending);

    for (how, end) in [("stopped", Kafka::stop as fn(Kafka) -> StoppedKafka), ("killed", Kafka::kill)] {
        let writer = fleet.writer();
        let stopped = end(kafka);
        assert_nothing_can_be_appended(fleet.edgefold(writer));
        kafka = stopped.start();
        let up = Instant::now();
        fleet.assert_ships(&[0, 1], &appending);
        fleet.assert_view_advances();
        println!("Kafka {how}: the view advances {:.1?} after it is up again", up.elapsed());
    }
    let history = appending.stop();
    let count = |is_fate: fn(&Fate) -> bool| history.sent.iter().filter(|sent| is_fate(&sent.fate)).count();
    println!(
        "{} commands appended, {} refused, {} unknown",
        count(|fate| matches!(fate, Fate::Appended(_))),
        count(|fate| matches!(fate, Fate::Refused)),
        count(|fate| matches!(fate, Fate::Unknown))
    );
    fleet.assert_right_at_the_end(&url, &history);
    assert_each_transaction_is_right(&kafka.records("restart.ranges"), &history.in_the_log(&url));
}

fn assert_nothing_can_be_appended(edgefold: &Edgefold) {
    edgefold.outcome(&["block", "203.0.113.7"]).assert_failed(2, "nothing was appended");
}

#[test]
fn a_compacted_view_is_read_correctly() {
    // The cleaner runs all the time, and cleans everything except the newest segment.
    let kafka = Kafka::start_with("log.cleaner.backoff.ms=100");
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0"),
        ("delete.retention.ms", "100"),
    ];
    create_topic(&kafka, "compacted.ranges", &settings);
    let url = Edgefold::kafka(&kafka, "compacted").log().to_owned();
    let mut fleet = Fleet::over([&*url; 2]);
    let log = open(&url);
    let mut history = History::new();
    let mut keeping = Keeping::start(&*log);
    while keeping.written < 800 {
        history.append(&*log, 100);
        keeping.catch_up();
    }
    // The newest segment is never compacted. Further records move all of these out of it.
    let (written, end) = (keeping.written, kafka.records("compacted.ranges").last().unwrap().offset);
    let left = eventually("superseded records and tombstones to be gone", || {
        history.append(&*log, 5);
        keeping.catch_up();
        assert_eq!(read_view(&*log).unwrap(), keeping.fold, "in the middle of compaction");
        let mut left = kafka.records("compacted.ranges");
        left.retain(|record| record.offset <= end);
        let keys: BTreeSet<_> = left.iter().map(|record| &record.key).collect();
        let clean = keys.len() == left.len() && left.iter().all(|record| record.value.is_some());
        clean.then_some(left.len())
    });
    println!("of {written} records written to the ranges topic, compaction has left {left}");
    assert!(left < written / 2);

    assert_eq!(read_view(&*log).unwrap(), keeping.fold);
    let in_force = keeping.fold.default_list().blocks().filter(|block| block.until.holds_at(now())).count();
    assert_eq!(fleet.edgefold(0).run(&["list", "-o", "raw"]).lines().count(), in_force);
    fleet.edgefold(0).run(&["verify"]); // It fails unless the view is a replay of the commands.

    // Snapshotters start from the view and write it while it is compacted. It stays valid, so that nobody replays all
    // commands.
    fleet.start_all();
    let appending = history.keep_appending(&url);
    for _ in 0..2 {
        let writer = fleet.writer();
        let view = read_view(&*log).unwrap();
        assert_eq!(view, replay(&*log, Moment::Offset(view.position().next_offset)).unwrap(), "while it is written");
        fleet.kill(writer);
        fleet.another_takes_over(writer, "killed, over a compacted view");
        fleet.start(writer);
    }
    let history = appending.stop();
    fleet.assert_right_at_the_end(&url, &history);
}

#[test]
fn uncommitted_records_are_not_part_of_the_view() {
    let kafka = Kafka::start();
    let edgefold = Edgefold::kafka(&kafka, "bootstrap");
    let log = open(edgefold.log());
    assert_eq!(read_view(&*log).unwrap(), Fold::default(), "an empty topic");

    // Another producer, which a writer of the view does not fence.
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "stranger")
        .create()
        .unwrap();
    let timeout = Duration::from_secs(30);
    stranger.init_transactions(timeout).unwrap();
    let begin = |records: &[(&str, Option<&str>)]| {
        stranger.begin_transaction().unwrap();
        for (key, value) in records {
            let mut record = BaseRecord::to("bootstrap.ranges").partition(0).key(*key);
            record.payload = *value;
            stranger.send(record).unwrap();
        }
        stranger.flush(timeout).unwrap();
    };
    let strange = [("203.0.113.0", Some("203.0.113.255")), (OFFSET_KEY, Some("99 2026-11-23T00:00:00Z"))];
    begin(&strange);
    assert_eq!(read_view(&*log).unwrap(), Fold::default(), "an open transaction and nothing else");
    stranger.abort_transaction(timeout).unwrap();
    assert_eq!(read_view(&*log).unwrap(), Fold::default(), "an aborted transaction and nothing else");

    let mut history = History::new();
    let mut keeping = Keeping::start(&*log);
    let mut append_and_catch_up = || {
        history.append(&*log, 5);
        keeping.catch_up();
        keeping.fold.clone()
    };
    let (mut before, mut fold) = (Fold::default(), Fold::default());
    while fold.default_list().blocks().count() < 5 {
        (before, fold) = (fold, append_and_catch_up());
        assert_eq!(read_view(&*log).unwrap(), fold, "the topic ends with the marker of a transaction");
    }
    assert_ne!(before, fold);

    begin(&strange);
    assert_eq!(read_view(&*log).unwrap(), fold, "an open transaction at the end");
    let newer = append_and_catch_up();
    assert_eq!(
        read_view(&*log).unwrap(),
        fold,
        "records that were committed after an open transaction are not visible yet"
    );
    let follower = Follower::load(&*log).unwrap();
    assert_eq!(follower.fold, newer, "but their commands are, so a start misses nothing");
    // A writer that started from what is visible would write what does not fit to the rest.
    let error = rebuild(&*log).map(drop).unwrap_err();
    assert!(matches!(error, Error::HeldBack { .. }) && error.is_transient(), "{error}");
    let writer = log.view_writer().unwrap();
    let error = read_view_after(&*log, writer.fence()).unwrap_err();
    assert!(error.to_string().contains("another producer has a transaction open on the ranges topic"), "{error}");
    edgefold.run(&["verify"]); // It fails unless the view is a replay of the commands.
    stranger.abort_transaction(timeout).unwrap();
    // The broker answers before it has written the marker that ends the transaction, and hides what comes after until then.
    eventually("an aborted transaction in the middle", || (read_view(&*log).unwrap() == newer).then_some(()));
    assert_eq!(read_view_after(&*log, writer.fence()).unwrap(), newer, "nothing is hidden any more");
    begin(&strange);
    stranger.abort_transaction(timeout).unwrap();
    assert_eq!(read_view(&*log).unwrap(), newer, "an aborted transaction at the end");
    begin(&[("203.0.113.0", None), ("2001:db8:ffff::", None)]);
    assert_eq!(read_view(&*log).unwrap(), newer, "tombstones that are not committed");
    stranger.commit_transaction(timeout).unwrap();
    assert_eq!(read_view(&*log).unwrap(), newer, "committed tombstones at the end");

    // A snapshotter can work with such a topic.
    let mut fleet = Fleet::over([edgefold.log()]);
    fleet.start(0);
    let appending = history.keep_appending(edgefold.log());
    fleet.writer();
    fleet.assert_ships(&[0], &appending);
    let history = appending.stop();
    fleet.assert_right_at_the_end(edgefold.log(), &history);
}
