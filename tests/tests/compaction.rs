//! How much a start reads after many changes of few ranges: with the settings of `init`, compaction keeps the ranges topic of a real
//! Kafka short.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]
#![allow(clippy::print_stdout, reason = "the numbers show that the test did its work")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use edgefold::view::{read_view, records, watch_view};
use edgefold::{Edits, Fold, LogTime, LogUrl, Record, ViewRecord};
use edgefold_tests::{Edgefold, Kafka, eventually, seed};
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const TOPIC: &str = "many.ranges";
const TIMEOUT: Duration = Duration::from_secs(60);
/// About half of these are blocked at any time.
const ADDRESSES: u32 = 2_000;
/// How many transactions are written, unless `EDGEFOLD_TRANSACTIONS` says so. Each has two records.
const TRANSACTIONS: u64 = 6_000;
/// What a start reads at most: about a thousand ranges, and the segment that is being written, whose 1 MiB holds about 7,000 records.
const MOST_READ: usize = 10_000;

/// The settings of `init` that decide how much is kept. Those that keep a record for hours are as short as can be: a test cannot wait
/// for hours, and what is written in them is read in addition.
const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("delete.retention.ms", "100"),
];

/// Producers that take turns in writing transactions. A broker completes a transaction some time after its commit, and until then the
/// same producer cannot begin another.
struct Producers(Vec<BaseProducer>);

impl Producers {
    fn start(kafka: &Kafka) -> Self {
        let producer = |number: usize| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", kafka.brokers()).set("transactional.id", format!("writer-{number}"));
            config.set("linger.ms", "0").set("compression.type", "lz4");
            let producer: BaseProducer = config.create().unwrap();
            producer.init_transactions(TIMEOUT).unwrap();
            producer
        };
        Self((0..6).map(producer).collect())
    }

    /// Writes the records in one transaction.
    fn write(&mut self, records: impl Iterator<Item = ViewRecord>) {
        self.0.rotate_left(1);
        let producer = &self.0[0];
        producer.begin_transaction().unwrap();
        for (key, value) in records {
            let mut record = BaseRecord::to(TOPIC).partition(0).key(&key);
            record.payload = value.as_ref();
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        // A commit would wait for these as well, but in steps of 100 ms.
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(1));
        }
        producer.commit_transaction(TIMEOUT).unwrap();
    }
}

#[test]
fn what_a_start_reads_does_not_grow_with_the_number_of_transactions() {
    let transactions = std::env::var("EDGEFOLD_TRANSACTIONS");
    let transactions: u64 = transactions.map_or(TRANSACTIONS, |number| number.parse().expect("a number"));
    // By default the cleaner rests for 15 seconds.
    let kafka = Kafka::start_with("log.cleaner.backoff.ms=100");
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    let topic = SETTINGS.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let created = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
    let log = Edgefold::kafka(&kafka, "many").log().parse::<LogUrl>().unwrap().open().unwrap();

    let (mut producers, mut fold, mut random) =
        (Producers::start(&kafka), Fold::default(), fastrand::Rng::with_seed(seed()));
    let mut is_blocked = vec![false; ADDRESSES as usize];
    let started = Instant::now();
    for offset in 0..transactions {
        let address = random.u32(..ADDRESSES);
        let blocked = &mut is_blocked[address as usize];
        *blocked = !*blocked;
        let verb = if *blocked { "BLACKLIST" } else { "WHITELIST" };
        // Not next to each other: they would become one range.
        let value = Some(format!("{verb} {}", Ipv4Addr::from_bits(address * 16)).into_bytes());
        let record = Record { offset, timestamp: LogTime::from_millis(offset), key: None, value };
        let mut edits = Edits::default();
        fold.apply(&record, &mut edits).unwrap();
        producers.write(records(&edits, &fold));
    }
    println!("{transactions} transactions took {:?}", started.elapsed());
    let read = eventually("compaction", || {
        let mut read = 0;
        watch_view(&*log, |_, _| read += 1).unwrap();
        (read <= MOST_READ).then_some(read)
    });
    let blocked = fold.default_list().blocks().count();
    println!("of {} records written, a start reads {read}, for {blocked} ranges", 2 * transactions);
    assert!(read_view(&*log).unwrap() == fold);
}
