//! Measures how fast a reader bootstraps from the ranges topic of a real Kafka, and replays the commands of either log:
//! `cargo run --release --package edgefold-bench-bootstrap`.
//!
//! A consumer that only counts the records takes part in the same rounds, to show what reading from the broker costs.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]
#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use edgefold::view::{read_view, records};
use edgefold::{
    Block, Fold, IpRange, ListName, Log, LogTime, LogUrl, Moment, NewCommand, Position, SavedList, Until, replay,
};
use edgefold_tests::Kafka;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const RANGES: u32 = 1_000_000;
const ROUNDS: usize = 7;

fn main() {
    let kafka = Kafka::start();
    let log = kafka.log("bootstrap").parse::<LogUrl>().unwrap().open().unwrap();
    log.init().unwrap();
    let fold = fold();
    let started = Instant::now();
    let edits = fold.edits_since(&Fold::default());
    log.view_writer().unwrap().write(&mut records(&edits, &fold)).unwrap();
    let written = started.elapsed();

    let (mut bootstraps, mut counts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bootstraps.push(time(|| assert!(read_view(&*log).unwrap() == fold)));
        counts.push(time(|| assert_eq!(count(&kafka, "bootstrap.ranges"), RANGES + 1)));
    }
    let rate = |seconds: f64| f64::from(RANGES) / seconds / 1000.0;
    let (bootstrap, count) = (median(bootstraps), median(counts));
    println!("| {RANGES} ranges, {ROUNDS} rounds | thousand ranges per second | relative to counting |");
    println!("|---|--:|--:|");
    println!("| a consumer that counts the records | {:.0} | 1.00 |", rate(count));
    println!("| bootstrap: read, parse, check, build the fold | {:.0} | {:.2} |", rate(bootstrap), count / bootstrap);
    println!("| writing them in one transaction, once | {:.0} | |", rate(written.as_secs_f64()));

    println!("\n| replay of {RANGES} commands, {ROUNDS} rounds | thousand commands per second |\n|---|--:|");
    let folder = tempfile::tempdir().unwrap();
    let sqlite =
        format!("sqlite:{}", folder.path().join("log.db").display()).parse::<LogUrl>().unwrap().open().unwrap();
    sqlite.init().unwrap();
    for (name, log) in [("Kafka", &log), ("SQLite", &sqlite)] {
        append_commands(&**log);
        let replays = (0..ROUNDS).map(|_| time(|| _ = replay(&**log, Moment::Offset(u64::from(RANGES))).unwrap()));
        println!("| {name} | {:.0} |", rate(median(replays.collect())));
    }
}

fn append_commands(log: &dyn Log) {
    let commands: Vec<NewCommand> = (0..RANGES)
        .map(|at| {
            let ttl = if at % 4 == 0 { " ttl=2w" } else { "" };
            let text = format!("BLACKLIST {}{ttl} origin=waf reason=scan", Ipv4Addr::from_bits(at * 4001));
            NewCommand { time: LogTime::from_millis(1_700_000_000_000 + u64::from(at)).unwrap(), text }
        })
        .collect();
    for batch in commands.chunks(50_000) {
        log.append(batch).unwrap();
    }
}

/// Single addresses and short ranges. One in four expires.
fn fold() -> Fold {
    let blocks = (0..RANGES).map(|at| {
        let first = at * 4001;
        let last = first + if at % 2 == 0 { 0 } else { at % 250 };
        let until = match at % 4 {
            0 => LogTime::from_millis(1_900_000_000_000 + u64::from(at)).unwrap().into(),
            _ => Until::FOREVER,
        };
        let [first, last] = [first, last].map(|bits| Ipv4Addr::from_bits(bits).into());
        Block { range: IpRange::new(first, last).unwrap(), until }
    });
    let log_time = LogTime::from_millis(1_800_000_000_000).unwrap();
    let position = Position { next_offset: u64::from(RANGES), log_time, last_record: None };
    let list = SavedList { name: ListName::DEFAULT, action: None, blocks: blocks.collect() };
    Fold::resume(position, [list]).unwrap()
}

fn count(kafka: &Kafka, topic: &str) -> u32 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers()).set("group.id", "count").set("enable.partition.eof", "true");
    config.set("fetch.queue.backoff.ms", "5").set("queued.min.messages", "200000"); // Like edgefold's own.
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let mut records = 0;
    loop {
        match consumer.poll(Duration::from_secs(30)).unwrap() {
            Ok(_) => records += 1,
            Err(KafkaError::PartitionEOF(_)) => return records,
            Err(error) => panic!("{error}"),
        }
    }
}

fn time(run: impl FnOnce()) -> f64 {
    let started = Instant::now();
    run();
    started.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
