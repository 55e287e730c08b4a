//! How fast a snapshotter bootstraps from the ranges topic of a real Kafka: `cargo bench --package edgefold --bench bootstrap`.
//!
//! Beside it, in the same rounds, a consumer that only counts the records: what the way from the broker costs by itself.
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use edgefold::edits::Edits;
use edgefold::fold::{Fold, Position};
use edgefold::load::read_view;
use edgefold::log::LogUrl;
use edgefold::record::Until;
use edgefold::time::LogTime;
use edgefold::view::records;
use edgefold_table::IpRange;
use edgefold_tests::Kafka;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const RANGES: u32 = 1_000_000;
const ROUNDS: usize = 7;

fn main() {
    // Cargo says `--bench`; `cargo test --benches` does not, and is no place for this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let kafka = Kafka::start();
    let log = kafka.log("bootstrap").parse::<LogUrl>().unwrap().open(&[]).unwrap();
    log.init().unwrap();
    let fold = fold();
    let started = Instant::now();
    let edits = Edits::between(&Fold::default(), &fold);
    log.view_writer().unwrap().write(&mut records(&edits, fold.position())).unwrap();
    let written = started.elapsed();

    let (mut bootstraps, mut counts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bootstraps.push(time(|| assert!(read_view(&*log).unwrap() == fold)));
        counts.push(time(|| assert_eq!(count(&kafka, "bootstrap.ranges"), RANGES + 1)));
    }
    let rate = |seconds: f64| f64::from(RANGES) / seconds / 1000.0;
    let (bootstrap, count) = (median(bootstraps), median(counts));
    println!("| {RANGES} ranges, {ROUNDS} rounds by turns | thousand ranges a second | of counting |");
    println!("|---|--:|--:|");
    println!("| a consumer that counts the records | {:.0} | 1.00 |", rate(count));
    println!("| bootstrap: read, parse, check, build the fold | {:.0} | {:.2} |", rate(bootstrap), count / bootstrap);
    println!("| writing them in one transaction, once | {:.0} | |", rate(written.as_secs_f64()));
}

/// Single addresses and short ranges, one in four with an end.
fn fold() -> Fold {
    let ranges = (0..RANGES).map(|at| {
        let first = at * 4001;
        let last = first + if at % 2 == 0 { 0 } else { at % 250 };
        let until = match at % 4 {
            0 => Until::Time(LogTime::from_millis(1_900_000_000_000 + u64::from(at)).unwrap()),
            _ => Until::Forever,
        };
        (IpRange::new(Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(last).into()).unwrap(), until)
    });
    let position =
        Position { next_offset: u64::from(RANGES), log_time: LogTime::from_millis(1_800_000_000_000).unwrap() };
    Fold::resume(position, ranges).unwrap()
}

fn count(kafka: &Kafka, topic: &str) -> u32 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers()).set("group.id", "count").set("enable.partition.eof", "true");
    config.set("fetch.queue.backoff.ms", "5").set("queued.min.messages", "200000"); // As edgefold's own.
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
