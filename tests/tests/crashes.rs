//! Crashes over a real Kafka and over SQLite: processes that are killed, hang or are cut off, a broker that restarts, a
//! topic that is compacted, transactions that are open or aborted. Whatever happens, the view is a replay of the commands,
//! nothing is lost, and nothing counts twice.
//!
//! The commands are drawn from a seed, which is printed: `EDGEFOLD_SEED=N` draws them again. The moments of the crashes
//! are drawn too, but meet processes that run as they like.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]
#![allow(clippy::print_stdout, reason = "seeds, and what was met and how long it took, are for whoever doubts it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use edgefold::edits::Edits;
use edgefold::fold::Fold;
use edgefold::load::{Follower, Moment, each_command, read_raw_view, read_view, replay};
use edgefold::log::{Log, LogError, LogUrl, NewCommand};
use edgefold::record::{Record, Until};
use edgefold::time::LogTime;
use edgefold::view::{OFFSET_KEY, records as view_records};
use edgefold_tests::{Edgefold, Kafka, Relay, Serve, StoppedKafka, TopicRecord, eventually};
use fastrand::Rng;
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;

/// How often the snapshotter is killed, for each log.
const KILLS: usize = 54;
/// How many append at once.
const DETECTORS: usize = 4;

#[test]
fn kill_9_loses_nothing_and_doubles_nothing_over_kafka() {
    let kafka = Kafka::start();
    let history = kill_again_and_again(&kafka.log("kills"));
    assert_each_transaction_is_right(&kafka.records("kills.ranges"), &history.in_the_log(&kafka.log("kills")));
}

#[test]
fn kill_9_loses_nothing_and_doubles_nothing_over_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = Edgefold::sqlite(directory.path()).log().to_owned();
    open(&url).init().unwrap();
    let watching = Watching::start(&url);
    let history = kill_again_and_again(&url);
    watching.assert_each_state_is_right(&history.in_the_log(&url));
}

/// Kills snapshotters under a stream of commands: as they start, as they take over, and as they write.
fn kill_again_and_again(url: &str) -> History {
    let history = History::new();
    let mut random = Rng::with_seed(history.seed);
    let mut fleet = Fleet::of([url; 3]);
    fleet.edgefold(0).run(&["init"]);
    let appending = history.go_on(url);
    (0..3).for_each(|member| fleet.start(member));
    let mut newest = 0;
    let mut killed = BTreeMap::<Phase, usize>::new();
    for _ in 0..KILLS {
        let (victim, at_most) = match random.u8(0..6) {
            0..=2 => (newest, 700),
            3 => (fleet.await_phase(Phase::TakingOver), 500),
            _ => (fleet.await_phase(Phase::Writing), 1000),
        };
        // There is no condition to wait for: any moment is as good as another.
        thread::sleep(Duration::from_micros(random.u64(0..at_most * 1000)));
        *killed.entry(phase(&fleet.kill(victim))).or_default() += 1;
        fleet.start(victim);
        newest = victim;
    }
    let history = appending.stop();
    println!("{KILLS} kills under {} commands: {killed:?}", history.sent.len());
    let of = |phases: &[Phase]| phases.iter().filter_map(|phase| killed.get(phase)).sum::<usize>();
    assert!(of(&[Phase::Starting, Phase::Standby]) >= KILLS / 10, "{killed:?}");
    assert!(of(&[Phase::TakingOver, Phase::Writing]) >= KILLS / 10, "{killed:?}");
    assert!(history.sent.iter().all(|sent| matches!(sent.fate, Fate::Appended(_))), "whoever appends was not killed");
    fleet.assert_right_in_the_end(url, &history);
    history
}

#[test]
fn another_takes_over_when_the_writer_dies_hangs_or_is_cut_off_from_kafka() {
    let (kafka, relay) = Kafka::start_with_relay();
    let url = kafka.log("takeover");
    let mut fleet = Fleet::of([&*relay.log("takeover"), &url, &url]);
    fleet.edgefold(1).run(&["init"]);
    let appending = History::new().go_on(&url);
    let (cut_off, other, third) = (0, 1, 2);
    fleet.start(cut_off);
    eventually("the only one to write", || fleet.writes(cut_off).then_some(()));
    fleet.start(other);

    for (what, cut) in [("nothing comes through", Relay::hold as fn(&Relay)), ("connections break", Relay::cut)] {
        cut(&relay);
        assert_eq!(fleet.another_takes_over(cut_off, what), other);
        fleet.assert_ships(&[other], &appending);
        relay.mend();
        eventually("the old writer to stand by", || (!fleet.writes(cut_off)).then_some(()));
        fleet.assert_ships(&[cut_off, other], &appending);
        fleet.kill(other);
        assert_eq!(fleet.another_takes_over(other, "killed, of two"), cut_off);
        fleet.start(other);
    }

    fleet.start(third);
    for _ in 0..3 {
        let writer = fleet.writer();
        fleet.hang_until_another_takes_over(writer);
        let others: Vec<usize> = (0..3).filter(|&member| member != writer).collect();
        fleet.assert_ships(&others, &appending);
        fleet.go_on_and_stand_by(writer);
        fleet.assert_ships(&[cut_off, other, third], &appending);
    }
    let writer = fleet.writer();
    fleet.kill(writer);
    fleet.another_takes_over(writer, "killed, of three");
    fleet.start(writer);

    let history = appending.stop();
    fleet.assert_right_in_the_end(&url, &history);
    assert_each_transaction_is_right(&kafka.records("takeover.ranges"), &history.in_the_log(&url));
}

#[test]
fn another_takes_over_when_the_writer_dies_or_hangs_over_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = Edgefold::sqlite(directory.path()).log().to_owned();
    let mut fleet = Fleet::of([&*url; 3]);
    fleet.edgefold(0).run(&["init"]);
    let watching = Watching::start(&url);
    let mut appending = History::new().go_on(&url);
    (0..3).for_each(|member| fleet.start(member));
    for _ in 0..2 {
        let writer = fleet.writer();
        fleet.kill(writer);
        fleet.another_takes_over(writer, "killed, over SQLite");
        fleet.start(writer);

        // Who hangs in the middle of a transaction holds the whole database; nobody could take over.
        let history = appending.stop();
        history.await_view(&url);
        let writer = fleet.writer();
        fleet.hang(writer);
        appending = history.go_on(&url);
        fleet.another_takes_over(writer, "hung, over SQLite");
        fleet.go_on_and_stand_by(writer);
        fleet.assert_ships(&[0, 1, 2], &appending);
    }
    let history = appending.stop();
    fleet.assert_right_in_the_end(&url, &history);
    watching.assert_each_state_is_right(&history.in_the_log(&url));
}

#[test]
fn a_broker_that_restarts_costs_nothing() {
    // The controller takes a broker that was killed for alive, and lets no other take its place, for so long.
    let kafka = Kafka::start_with("broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500");
    let url = kafka.log("restart");
    let mut fleet = Fleet::of([&*url; 2]);
    fleet.edgefold(0).run(&["init"]);

    let stopped = kafka.stop();
    (0..2).for_each(|member| fleet.start(member));
    for member in 0..2 {
        eventually("to say that it waits for Kafka", || {
            fleet.output(member).contains("Envoy keeps what it has; trying again in").then_some(())
        });
    }
    assert_nothing_can_be_appended(fleet.edgefold(0));
    let mut kafka = stopped.start();
    let appending = History::new().go_on(&url);
    fleet.assert_ships(&[0, 1], &appending);

    for (how, end) in [("stopped", Kafka::stop as fn(Kafka) -> StoppedKafka), ("killed", Kafka::kill)] {
        let writer = fleet.writer();
        let stopped = end(kafka);
        assert_nothing_can_be_appended(fleet.edgefold(writer));
        kafka = stopped.start();
        let up = Instant::now();
        fleet.assert_ships(&[0, 1], &appending);
        fleet.assert_view_goes_on();
        println!("Kafka {how}: the view goes on {:.1?} after it is up again", up.elapsed());
    }
    let history = appending.stop();
    let fates = |fate: fn(&Fate) -> bool| history.sent.iter().filter(|sent| fate(&sent.fate)).count();
    println!(
        "{} commands appended, {} refused, {} unknown",
        fates(|fate| matches!(fate, Fate::Appended(_))),
        fates(|fate| matches!(fate, Fate::Refused)),
        fates(|fate| matches!(fate, Fate::Unknown))
    );
    fleet.assert_right_in_the_end(&url, &history);
    assert_each_transaction_is_right(&kafka.records("restart.ranges"), &history.in_the_log(&url));
}

fn assert_nothing_can_be_appended(edgefold: &Edgefold) {
    let output = edgefold.output(&["block", "203.0.113.7"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("nothing was appended"), "{stderr}");
}

#[test]
fn a_compacted_view_is_read_rightly() {
    // The cleaner looks all the time, and may have whatever is not the newest segment.
    let kafka = Kafka::start_with("log.cleaner.backoff.ms=100");
    let url = kafka.log("compacted");
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0"),
        ("delete.retention.ms", "100"),
    ];
    create_topic(&kafka, "compacted.ranges", &settings);
    let mut fleet = Fleet::of([&*url; 2]);
    fleet.edgefold(0).run(&["init"]);
    let log = open(&url);
    let mut history = History::new();
    let mut keeping = Keeping::start(&*log);
    while keeping.written < 800 {
        history.append(&*log, 100);
        keeping.keep_up();
    }
    // The segment that is written to is never compacted, so there must be more for all of this to be.
    let (written, end) = (keeping.written, kafka.records("compacted.ranges").last().unwrap().offset);
    let left = eventually("superseded records and tombstones to be gone", || {
        history.append(&*log, 5);
        keeping.keep_up();
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
    assert_eq!(fleet.edgefold(0).run(&["list", "-o", "raw"]).lines().count(), keeping.fold.ranges().count());
    assert!(fleet.edgefold(0).run(&["verify"]).contains("the view is a replay of the commands"));

    // And snapshotters go on from it, while it is compacted.
    (0..2).for_each(|member| fleet.start(member));
    let appending = history.go_on(&url);
    for _ in 0..2 {
        let writer = fleet.writer();
        assert!(!fleet.output(writer).contains("replaying all commands"), "{}", fleet.output(writer));
        fleet.kill(writer);
        fleet.another_takes_over(writer, "killed, over a compacted view");
        fleet.start(writer);
    }
    let history = appending.stop();
    fleet.assert_right_in_the_end(&url, &history);
}

#[test]
fn what_is_not_committed_is_no_part_of_the_view() {
    let kafka = Kafka::start();
    let url = kafka.log("bootstrap");
    let log = open(&url);
    let edgefold = Edgefold::new(&url, tempfile::tempdir().unwrap().path());
    edgefold.run(&["init"]);
    assert_eq!(read_view(&*log).unwrap(), Fold::default(), "an empty topic");

    // Somebody else, whom no writer of edgefold's fences.
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "stranger")
        .create()
        .unwrap();
    let wait = Duration::from_secs(30);
    stranger.init_transactions(wait).unwrap();
    let begin = |records: &[(&str, Option<&str>)]| {
        stranger.begin_transaction().unwrap();
        for (key, value) in records {
            let mut record = BaseRecord::to("bootstrap.ranges").partition(0).key(*key);
            record.payload = *value;
            stranger.send(record).unwrap();
        }
        stranger.flush(wait).unwrap();
    };
    let strange = [("203.0.113.0", Some("203.0.113.255")), (OFFSET_KEY, Some("99 2026-11-23T00:00:00Z"))];
    begin(&strange);
    assert_eq!(read_view(&*log).unwrap(), Fold::default(), "an open transaction and nothing else");
    stranger.abort_transaction(wait).unwrap();
    assert_eq!(read_view(&*log).unwrap(), Fold::default(), "an aborted transaction and nothing else");

    let mut history = History::new();
    let mut keeping = Keeping::start(&*log);
    let mut keep_up = || {
        history.append(&*log, 5);
        keeping.keep_up();
        keeping.fold.clone()
    };
    let (mut before, mut fold) = (Fold::default(), Fold::default());
    while fold.ranges().count() < 5 {
        (before, fold) = (fold, keep_up());
        assert_eq!(read_view(&*log).unwrap(), fold, "the topic ends with a transaction's marker");
    }
    assert_ne!(before, fold);

    begin(&strange);
    assert_eq!(read_view(&*log).unwrap(), fold, "an open transaction at the end");
    let newer = keep_up();
    assert_eq!(read_view(&*log).unwrap(), fold, "what is committed behind an open transaction is still to come");
    let follower = Follower::load(&*log).unwrap();
    assert_eq!(follower.fold, newer, "but whoever starts has its commands");
    assert!(edgefold.run(&["verify"]).contains("the view is a replay of the commands"));
    stranger.abort_transaction(wait).unwrap();
    assert_eq!(read_view(&*log).unwrap(), newer, "an aborted transaction in the middle");
    begin(&strange);
    stranger.abort_transaction(wait).unwrap();
    assert_eq!(read_view(&*log).unwrap(), newer, "an aborted transaction at the end");
    begin(&[("203.0.113.0", None), ("2001:db8:ffff::", None)]);
    assert_eq!(read_view(&*log).unwrap(), newer, "tombstones that are not committed");
    stranger.commit_transaction(wait).unwrap();
    assert_eq!(read_view(&*log).unwrap(), newer, "tombstones last");

    // And all of them together do not keep a snapshotter from its work.
    let mut fleet = Fleet::of([&*url]);
    fleet.start(0);
    let appending = history.go_on(&url);
    fleet.writer();
    fleet.assert_ships(&[0], &appending);
    let history = appending.stop();
    fleet.assert_right_in_the_end(&url, &history);
}

fn open(url: &str) -> Box<dyn Log> {
    url.parse::<LogUrl>().unwrap().open(&[]).unwrap()
}

fn create_topic(kafka: &Kafka, name: &str, settings: &[(&str, &str)]) {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let created = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Writes the view in this process, one command a transaction, and counts the records.
struct Keeping<'a> {
    log: &'a dyn Log,
    writer: Box<dyn edgefold::log::ViewWriter>,
    fold: Fold,
    written: usize,
}

impl<'a> Keeping<'a> {
    fn start(log: &'a dyn Log) -> Self {
        Self { log, writer: log.view_writer().unwrap(), fold: Fold::default(), written: 0 }
    }

    fn keep_up(&mut self) {
        let mut records: Vec<Record> = Vec::new();
        let mut reader = self.log.commands(self.fold.position().next_offset).unwrap();
        eventually("the end of the commands", || {
            let batch = reader.read(Duration::from_secs(1)).unwrap();
            records.extend(batch.records);
            batch.at_end.then_some(())
        });
        for record in records {
            let mut edits = Edits::default();
            let _rejected = self.fold.apply(&record, &mut edits);
            self.writer.write(&mut view_records(&edits, self.fold.position()).inspect(|_| self.written += 1)).unwrap();
        }
    }
}

/// How far a snapshotter has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    /// It has shipped nothing yet.
    Starting,
    Standby,
    TakingOver,
    Writing,
}

/// By its own words.
fn phase(output: &str) -> Phase {
    let last = |words| output.rfind(words);
    let resting = last("on standby").max(last("cannot keep the view"));
    if last("keeping the view of ranges now, from offset") > resting.max(last("taking over")) {
        Phase::Writing
    } else if last("taking over") > resting {
        Phase::TakingOver
    } else if output.contains("shipped generation") {
        Phase::Standby
    } else {
        Phase::Starting
    }
}

/// The metric that says how far the view has come, as far as the snapshotter knows.
const VIEW_OFFSET: &str = "edgefold_view_next_offset";

/// Snapshotters of one log, each with a folder of its own.
struct Fleet(Vec<Member>);

struct Member {
    serve: Option<Serve>,
    edgefold: Edgefold,
    _directory: TempDir,
}

impl Fleet {
    /// One for each URL, none of which runs yet.
    fn of<const N: usize>(urls: [&str; N]) -> Self {
        let member = |url| {
            let directory = tempfile::tempdir().unwrap();
            Member { serve: None, edgefold: Edgefold::new(url, directory.path()), _directory: directory }
        };
        Self(urls.map(member).into())
    }

    fn edgefold(&self, member: usize) -> &Edgefold {
        &self.0[member].edgefold
    }

    fn start(&mut self, member: usize) {
        let Member { serve, edgefold, .. } = &mut self.0[member];
        *serve = Some(edgefold.start_serve(&["--admin", "127.0.0.1:0"]));
    }

    fn serve(&self, member: usize) -> &Serve {
        self.0[member].serve.as_ref().unwrap()
    }

    fn output(&self, member: usize) -> String {
        self.serve(member).output()
    }

    /// Who has come that far, once somebody has.
    fn await_phase(&self, wanted: Phase) -> usize {
        let has_come = |&member: &usize| phase(&self.output(member)) >= wanted;
        eventually("a snapshotter to take over", || (0..self.0.len()).find(has_come))
    }

    /// Gives its last words.
    fn kill(&mut self, member: usize) -> String {
        self.0[member].serve.take().unwrap().kill()
    }

    fn hang(&self, member: usize) {
        self.serve(member).hang();
    }

    fn metric(&self, member: usize, name: &str) -> Option<u64> {
        self.0[member].serve.as_ref()?.metric(name)
    }

    /// Whether it writes, as far as it knows.
    fn writes(&self, member: usize) -> bool {
        self.metric(member, "edgefold_writer") == Some(1)
    }

    /// Who writes, once somebody does.
    fn writer(&self) -> usize {
        eventually("a writer", || (0..self.0.len()).find(|&member| self.writes(member)))
    }

    /// Who takes the place of `old`, once the view goes on.
    fn another_takes_over(&self, old: usize, why: &str) -> usize {
        let since = Instant::now();
        let others = || (0..self.0.len()).filter(|&member| member != old);
        let writer = eventually("another one to take over", || others().find(|&member| self.writes(member)));
        let offset = self.metric(writer, VIEW_OFFSET);
        eventually("the view to go on", || others().find(|&member| self.metric(member, VIEW_OFFSET) > offset));
        println!("{why}: the view goes on after {:.1?}", since.elapsed());
        writer
    }

    fn assert_view_goes_on(&self) {
        let furthest = || (0..self.0.len()).filter_map(|member| self.metric(member, VIEW_OFFSET)).max();
        let offset = furthest();
        eventually("the view to go on", || (furthest() > offset).then_some(()));
    }

    fn hang_until_another_takes_over(&self, writer: usize) {
        self.hang(writer);
        self.another_takes_over(writer, "hung");
    }

    /// Who hung goes on, and finds out that it is no longer the writer.
    fn go_on_and_stand_by(&self, old: usize) {
        let said = || self.output(old).matches("another snapshotter keeps the view of ranges now: on standby").count();
        let before = said();
        self.serve(old).go_on();
        eventually("the old writer to stand by", || (said() > before && !self.writes(old)).then_some(()));
    }

    /// Waits until `members` have shipped what is appended by now.
    fn assert_ships(&self, members: &[usize], appending: &Appending) {
        let end = appending.end.load(Ordering::Relaxed);
        for &member in members {
            let has_shipped = || self.metric(member, "edgefold_next_offset") >= Some(end);
            eventually("a snapshotter to ship", || has_shipped().then_some(()));
        }
    }

    /// The view is what it must be, all who run have shipped it, and stop as they should.
    fn assert_right_in_the_end(mut self, url: &str, history: &History) {
        history.await_view(url);
        let log = open(url);
        let commands = history.in_the_log(url);
        let end = commands.len() as u64;
        let view = read_view(&*log).unwrap();
        assert_eq!(view, replay(&*log, Moment::Offset(end)).unwrap());
        let mut blocked = Blocked::default();
        commands.iter().for_each(|sent| blocked.apply(sent));
        let text = |(range, until): (edgefold_table::IpRange, Until)| {
            let until = match until {
                Until::Forever => String::new(),
                Until::Time(time) => format!(" until={time}"),
            };
            (range.first().to_string(), format!("{}{until}", range.last()))
        };
        assert_eq!(view.ranges().map(text).collect::<BTreeMap<_, _>>(), blocked.view());
        for Member { serve, edgefold, .. } in &mut self.0 {
            assert!(edgefold.run(&["verify"]).contains("the view is a replay of the commands"));
            let file = edgefold.ecds_file();
            eventually("the last snapshot", || {
                let json = edgefold.run(&["inspect", file.to_str().unwrap(), "-o", "json"]);
                let json: serde_json::Value = serde_json::from_str(&json).unwrap();
                (json["generation"].as_str() == Some(&end.to_string())).then_some(())
            });
            assert!(serve.take().unwrap().stop().success());
        }
    }
}

/// Addresses of each family that the commands are about: few, so that ranges split and join.
const ADDRESSES: usize = 100;

fn address(index: usize) -> String {
    let low = u32::try_from(index % ADDRESSES).unwrap();
    match index / ADDRESSES {
        0 => Ipv4Addr::from_bits(0x0a00_0000 | low).to_string(),
        _ => Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(low)).to_string(),
    }
}

/// Commands that were sent to the log, and what became of them.
#[derive(Default)]
struct History {
    seed: u64,
    random: Rng,
    sent: Vec<Sent>,
}

struct Sent {
    time: LogTime,
    /// Ends with its place in the history, so that no two are the same.
    text: String,
    /// None: it is no command.
    meaning: Option<(RangeInclusive<usize>, Verb)>,
    fate: Fate,
}

#[derive(Clone, Copy)]
enum Verb {
    Whitelist,
    Blacklist,
    BlacklistFor(Duration),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Appended(u64),
    /// It is in the log or not.
    Unknown,
    Refused,
}

impl History {
    fn new() -> Self {
        let seed = match std::env::var("EDGEFOLD_SEED") {
            Ok(seed) => seed.parse().expect("EDGEFOLD_SEED is a number"),
            Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
        };
        println!("EDGEFOLD_SEED={seed}");
        Self { seed, random: Rng::with_seed(seed), sent: Vec::new() }
    }

    fn draw(&mut self) -> Sent {
        let Self { random, sent, .. } = self;
        let number = sent.len() as u64;
        // Still to come, so that blocks end by log time alone. It goes on by a second a command, and back now and then.
        let start = LogTime::parse("2090-01-01T00:00:00Z").unwrap();
        let time = start.checked_add(Duration::from_secs(number + 1 - random.u64(0..=number.min(5)))).unwrap();
        let family = random.choice([0, ADDRESSES]).unwrap();
        let first = random.usize(0..ADDRESSES);
        let most = 1 << random.u32(0..6);
        let last = (first + random.usize(0..most)).min(ADDRESSES - 1);
        let range = family + first..=family + last;
        let addresses = format!("{}-{}", address(*range.start()), address(*range.end()));
        let ttl = random.u64(1..120);
        let (text, verb) = match random.u8(0..10) {
            0 => (format!("BLACKLIST 10.0.0.300 reason={number}"), None),
            1..=3 => (format!("WHITELIST {addresses} reason={number}"), Some(Verb::Whitelist)),
            4..=6 => (format!("BLACKLIST {addresses} reason={number}"), Some(Verb::Blacklist)),
            _ => {
                let text = format!("BLACKLIST {addresses} ttl={ttl}s reason={number}");
                (text, Some(Verb::BlacklistFor(Duration::from_secs(ttl))))
            }
        };
        Sent { time, text, meaning: verb.map(|verb| (range, verb)), fate: Fate::Unknown }
    }

    /// Draws commands, and gives the place of the first in the history.
    fn draw_some(&mut self, count: usize) -> (usize, Vec<NewCommand>) {
        let from = self.sent.len();
        for _ in 0..count {
            let sent = self.draw();
            self.sent.push(sent);
        }
        let command = |sent: &Sent| NewCommand { time: sent.time, text: sent.text.clone() };
        (from, self.sent[from..].iter().map(command).collect())
    }

    fn learn(&mut self, from: usize, count: usize, outcome: &Result<Vec<u64>, LogError>) {
        let sent = &mut self.sent[from..from + count];
        match outcome {
            Ok(offsets) => {
                assert_eq!(offsets.len(), count);
                sent.iter_mut().zip(offsets).for_each(|(sent, &offset)| sent.fate = Fate::Appended(offset));
            }
            Err(LogError::Unacknowledged(_) | LogError::Partly { .. }) => {}
            Err(_) => sent.iter_mut().for_each(|sent| sent.fate = Fate::Refused),
        }
    }

    fn append(&mut self, log: &dyn Log, count: usize) {
        let (from, commands) = self.draw_some(count);
        self.learn(from, count, &log.append(&commands));
    }

    /// Goes on and on, a few commands at a time, as several detectors would.
    fn go_on(self, url: &str) -> Appending {
        let this = Arc::new(Mutex::new(self));
        let (stop, end) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let detector = || {
            let (log, this, stop, end) = (open(url), Arc::clone(&this), Arc::clone(&stop), Arc::clone(&end));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (count, (from, commands)) = {
                        let mut this = this.lock().unwrap();
                        let count = this.random.usize(1..=10);
                        (count, this.draw_some(count))
                    };
                    let outcome = log.append(&commands);
                    this.lock().unwrap().learn(from, count, &outcome);
                    if let Some(last) = outcome.ok().and_then(|offsets| offsets.into_iter().max()) {
                        end.fetch_max(last + 1, Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_millis(100)); // The pace of the stream.
                }
            })
        };
        let detectors = (0..DETECTORS).map(|_| detector()).collect();
        Appending { history: this, stop, end, detectors }
    }

    /// The commands in the log, in its order: whatever was acknowledged, at its offset, and nothing twice.
    fn in_the_log(&self, url: &str) -> Vec<&Sent> {
        let mut commands = Vec::new();
        let mut at = vec![None; self.sent.len()];
        each_command(&*open(url), |record| {
            assert_eq!(record.offset, commands.len() as u64, "offsets have no gaps");
            let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
            let (key, value) = (text(&record.key), text(&record.value));
            let number: usize = value.rsplit_once("reason=").expect("one of ours").1.parse().unwrap();
            let sent = &self.sent[number];
            assert_eq!((key, &value), (sent.time.to_string(), &sent.text));
            assert_eq!(at[number].replace(record.offset), None, "{value} is there twice");
            commands.push(sent);
        })
        .unwrap();
        for (sent, at) in self.sent.iter().zip(at) {
            match sent.fate {
                Fate::Appended(offset) => assert_eq!(at, Some(offset), "{} was acknowledged", sent.text),
                Fate::Refused => assert_eq!(at, None, "{} was refused", sent.text),
                Fate::Unknown => {}
            }
        }
        commands
    }

    /// Waits until the view has come to the end of the commands.
    fn await_view(&self, url: &str) {
        let (log, end) = (open(url), self.in_the_log(url).len() as u64);
        eventually("the view of all commands", || {
            (read_view(&*log).unwrap().position().next_offset == end).then_some(())
        });
    }
}

/// A history that goes on meanwhile.
struct Appending {
    history: Arc<Mutex<History>>,
    stop: Arc<AtomicBool>,
    /// The offset behind what is appended.
    end: Arc<AtomicU64>,
    detectors: Vec<JoinHandle<()>>,
}

impl Appending {
    fn stop(mut self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        self.detectors.drain(..).for_each(|detector| detector.join().unwrap());
        std::mem::take(&mut *self.history.lock().unwrap())
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The oracle: until when each address is blocked, in milliseconds, and nothing cleverer than that.
struct Blocked {
    until: [u64; 2 * ADDRESSES],
    log_time: u64,
}

const FOR_EVER: u64 = u64::MAX;

impl Default for Blocked {
    fn default() -> Self {
        Self { until: [0; 2 * ADDRESSES], log_time: 0 }
    }
}

impl Blocked {
    fn apply(&mut self, sent: &Sent) {
        let Some((range, verb)) = &sent.meaning else { return };
        let time = sent.time.millis();
        self.log_time = self.log_time.max(time);
        for until in &mut self.until[range.clone()] {
            *until = match verb {
                Verb::Whitelist => 0,
                Verb::Blacklist => FOR_EVER,
                Verb::BlacklistFor(ttl) => (*until).max(time + u64::try_from(ttl.as_millis()).unwrap()),
            };
        }
    }

    /// What the ranges topic must hold.
    fn view(&self) -> BTreeMap<String, String> {
        let until = |index: usize| Some(self.until[index]).filter(|&until| until > self.log_time);
        let mut view = BTreeMap::new();
        for family in [0..ADDRESSES, ADDRESSES..2 * ADDRESSES] {
            let indexes: Vec<usize> = family.collect();
            for run in indexes.chunk_by(|&one, &next| until(one) == until(next)) {
                let Some(end) = until(run[0]) else { continue };
                let end = match end {
                    FOR_EVER => String::new(),
                    _ => format!(" until={}", LogTime::from_millis(end).unwrap()),
                };
                view.insert(address(run[0]), format!("{}{end}", address(run[run.len() - 1])));
            }
        }
        view
    }
}

/// Compares states of the view, as they followed one another, with the oracle.
struct Comparison<'a> {
    commands: &'a [&'a Sent],
    next_offset: usize,
    blocked: Blocked,
}

impl<'a> Comparison<'a> {
    fn with(commands: &'a [&'a Sent]) -> Self {
        Self { commands, next_offset: 0, blocked: Blocked::default() }
    }

    /// `ranges` with their `@offset` are the fold of the commands below it, and it has not gone back.
    fn assert_next(&mut self, ranges: &BTreeMap<String, String>, offset: &str) {
        let next_offset: usize = offset.split(' ').next().unwrap().parse().unwrap();
        assert!(next_offset > self.next_offset, "{OFFSET_KEY} went from {} to {next_offset}", self.next_offset);
        self.commands[self.next_offset..next_offset].iter().for_each(|sent| self.blocked.apply(sent));
        self.next_offset = next_offset;
        let log_time = LogTime::from_millis(self.blocked.log_time).unwrap();
        assert_eq!(offset, format!("{next_offset} {log_time}"));
        assert_eq!(*ranges, self.blocked.view(), "at {OFFSET_KEY} {offset}");
    }
}

/// Each transaction ends with its `@offset`, and leaves the fold of the commands below it; none begins where another one
/// has not ended. `records` are those of a ranges topic that was never compacted.
fn assert_each_transaction_is_right(records: &[TopicRecord], commands: &[&Sent]) {
    let mut comparison = Comparison::with(commands);
    let mut ranges = BTreeMap::new();
    for (index, TopicRecord { offset, key, value }) in records.iter().enumerate() {
        let key = key.clone().unwrap();
        let is_last = key == OFFSET_KEY;
        match value {
            Some(value) if is_last => comparison.assert_next(&ranges, value),
            Some(value) => drop(ranges.insert(key, value.clone())),
            None => drop(ranges.remove(&key)),
        }
        // The marker of a transaction takes the offset behind it. A broker that restarts in the middle of a commit may lose
        // the marker: then the commit of the next transaction of the same writer brings both to light, each whole.
        let ends = records.get(index + 1).is_none_or(|next| next.offset > offset + 1);
        let around = &records[index.saturating_sub(2)..records.len().min(index + 4)];
        assert!(is_last || !ends, "a transaction ends with {OFFSET_KEY}, but not at offset {offset}: {around:?}");
    }
    assert_eq!(comparison.next_offset, commands.len(), "the view has come to the end");
    println!(
        "each of {} transactions was right",
        records.iter().filter(|record| record.key.as_deref() == Some(OFFSET_KEY)).count()
    );
}

/// Reads the view of a SQLite log whenever it has changed, on a thread of its own.
struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<BTreeMap<String, String>>>>,
}

impl Watching {
    fn start(url: &str) -> Self {
        let (log, stop) = (open(url), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut reader = log.view().unwrap();
            let mut states = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                reader.read(Duration::from_millis(100), &mut |_, _| {}).unwrap();
                let text = |bytes| String::from_utf8(bytes).unwrap();
                let view = read_raw_view(&*log).unwrap();
                let view: BTreeMap<_, _> = view.into_iter().map(|(key, value)| (text(key), text(value))).collect();
                if !view.is_empty() && states.last() != Some(&view) {
                    states.push(view);
                }
            }
            states
        });
        Self { stop, thread: Some(thread) }
    }

    fn assert_each_state_is_right(mut self, commands: &[&Sent]) {
        self.stop.store(true, Ordering::Relaxed);
        let states = self.thread.take().unwrap().join().unwrap();
        let mut comparison = Comparison::with(commands);
        let count = states.len();
        for mut ranges in states {
            let offset = ranges.remove(OFFSET_KEY).expect("an offset with the ranges");
            comparison.assert_next(&ranges, &offset);
        }
        assert_eq!(comparison.next_offset, commands.len(), "the view has come to the end");
        println!("each of {count} states of the view was right");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
