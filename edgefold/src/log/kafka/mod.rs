//! The distributed log: two topics of a Kafka cluster, `PREFIX.commands` and `PREFIX.ranges`, with one partition each.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::debug;

use super::{CommandReader, Log, NewCommand, ViewReader, ViewWriter};
use crate::{Error, Position};

mod append;
mod probe;
mod proof;
mod reader;
mod topics;
mod writer;

/// A single partition has a total order.
const PARTITION: i32 = 0;
/// How long to wait for metadata.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// Properties that edgefold's guarantees depend on: durability, order, one writer, and never a half-read view.
const FIXED: [&str; 11] = [
    "allow.auto.create.topics",
    "acks",
    "delivery.timeout.ms",
    "request.required.acks",
    "enable.idempotence",
    "enable.partition.eof",
    "enable.auto.commit",
    "auto.offset.reset",
    "isolation.level",
    "message.timeout.ms",
    "transactional.id",
];

/// Properties of a consumer, which the user may override.
const CONSUMER: [(&str, &str); 4] = [
    // A broker that has gone silent is noticed in this time.
    ("socket.timeout.ms", "10000"),
    ("group.id", "edgefold"), // No group is ever joined, but librdkafka requires the property.
    // By default librdkafka pauses for a second whenever it has queued 100,000 records, which is most of a start.
    ("fetch.queue.backoff.ms", "5"),
    ("queued.min.messages", "200000"),
];

/// More records than an operator appends by hand: what is one poll longer for them is not noticed.
const MANY: i32 = 1_000;

/// Waits until the broker has answered for everything that was sent, or for `most`. rdkafka's own `flush` does the same, but takes a
/// multiple of 100 ms: it polls for that long even if the answer comes at once.
fn wait_for_answers<C: ProducerContext>(producer: &impl Producer<C>, poll: impl Fn(Duration), most: Duration) {
    let started = Instant::now();
    while producer.in_flight_count() > 0 && started.elapsed() < most {
        // In its last millisecond rdkafka's poll does not sleep, so with many records to wait for, one of a millisecond would take a core.
        poll(Duration::from_millis(if producer.in_flight_count() > MANY { 20 } else { 1 }));
    }
}

/// A log in two topics.
#[derive(Clone, Debug)]
pub struct KafkaLog {
    brokers: String,
    prefix: String,
    config: ClientConfig,
}

impl KafkaLog {
    /// The log with `prefix` at `brokers`. `properties` are librdkafka's, and override edgefold's own. Those that the log's
    /// guarantees depend on, such as `acks`, cannot be set.
    ///
    /// # Errors
    /// [`Error::Property`] for a property that cannot be set.
    pub fn new(brokers: &str, prefix: &str, properties: &[(String, String)]) -> Result<Self, Error> {
        let mut config = ClientConfig::new();
        config.set("client.id", "edgefold").set("bootstrap.servers", brokers);
        for (key, value) in properties {
            let refused = |why| Error::Property { key: key.clone(), why };
            if ["bootstrap.servers", "metadata.broker.list"].contains(&key.as_str()) {
                return Err(refused("the URL of the log names the brokers".to_owned()));
            }
            if FIXED.contains(&key.as_str()) {
                return Err(refused("edgefold's guarantees depend on its own value".to_owned()));
            }
            if key == "client.rack" {
                // The end of the log would be that of a follower, which may lack what is acknowledged already.
                return Err(refused(
                    "edgefold reads from the leader of a partition, whose end is that of the log".to_owned(),
                ));
            }
            let known = ClientConfig::new().set(key, value).create_native_config();
            known.map_err(|error| match error {
                KafkaError::ClientConfig(_, why, _, _) => refused(why),
                error => refused(error.to_string()),
            })?;
            config.set(key, value);
        }
        Ok(Self { brokers: brokers.to_owned(), prefix: prefix.to_owned(), config })
    }

    fn commands_topic(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    fn ranges_topic(&self) -> String {
        format!("{}.ranges", self.prefix)
    }

    /// A client that remembers why it cannot reach its brokers.
    fn connect<T: FromClientConfigAndContext<Context>>(&self, config: &ClientConfig) -> Result<T, Error> {
        config.create_with_context(Context::default()).map_err(|error| self.failed("connect", error))
    }

    /// A client to read with.
    fn consumer_client(&self) -> Result<BaseConsumer<Context>, Error> {
        self.client_with("read_committed")
    }

    /// A client that also sees what open transactions have written.
    fn uncommitted_client(&self) -> Result<BaseConsumer<Context>, Error> {
        self.client_with("read_uncommitted")
    }

    fn client_with(&self, isolation_level: &str) -> Result<BaseConsumer<Context>, Error> {
        let mut config = self.config.clone();
        for (key, value) in CONSUMER {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", isolation_level);
        self.connect(&config)
    }

    /// A client that has checked that `topic` exists and has one partition, and the number of its replicas.
    fn client_of(&self, topic: &str) -> Result<(BaseConsumer<Context>, usize), Error> {
        let consumer = self.consumer_client()?;
        let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unreachable(&consumer, "ask for the topics", error))?;
        let partitions = metadata.topics().iter().find(|found| found.name() == topic).map(|found| {
            let error = found.error().map(RDKafkaErrorCode::from);
            let replicas = found.partitions().first().map_or(0, |partition| partition.replicas().len());
            (found.partitions().len(), error, replicas)
        });
        let replicas = match partitions {
            Some((1, None, replicas)) => replicas,
            None
            | Some(
                (_, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic), _) | (0, None, _),
            ) => {
                return Err(Error::Missing(format!("topic {topic}")));
            }
            Some((_, Some(error), _)) => {
                return Err(self.failed(&format!("ask for topic {topic}"), KafkaError::MetadataFetch(error)));
            }
            Some((count, None, _)) => return Err(Error::Settings(vec![topics::too_many_partitions(topic, count)])),
        };
        Ok((consumer, replicas))
    }

    /// A consumer of `topic` from `from` on, and the topic's first and end offset.
    fn consumer(&self, topic: &str, from: Option<u64>) -> Result<(BaseConsumer<Context>, u64, u64), Error> {
        let (consumer, _) = self.client_of(topic)?;
        let watermarks = consumer.fetch_watermarks(topic, PARTITION, METADATA_TIMEOUT);
        let (low, high) =
            watermarks.map_err(|error| self.unreachable(&consumer, &format!("ask for the end of {topic}"), error))?;
        let (low, high) = (low.unsigned_abs(), high.unsigned_abs());
        let start = i64::try_from(from.unwrap_or(low)).unwrap_or(i64::MAX);
        let mut assignment = TopicPartitionList::new();
        let assigned = assignment
            .add_partition_offset(topic, PARTITION, Offset::Offset(start))
            .and_then(|()| consumer.assign(&assignment));
        assigned.map_err(|error| self.failed(&format!("read {topic}"), error))?;
        Ok((consumer, low, high))
    }

    /// The error of a client that gave up waiting for its broker. By then it knows why, for instance that credentials were
    /// refused.
    fn unreachable(&self, consumer: &BaseConsumer<Context>, doing: &str, source: KafkaError) -> Error {
        for _ in 0..10 {
            if consumer.context().last_error().is_none() {
                let _nothing_to_read = consumer.poll(Duration::from_millis(20)); // Delivers queued errors.
            }
        }
        match consumer.context().last_error() {
            Some(why) => self.failed(&format!("{doing} ({why})"), source),
            None => self.failed(doing, source),
        }
    }

    fn failed(&self, doing: &str, source: KafkaError) -> Error {
        Error::Kafka { brokers: self.brokers.clone(), doing: doing.to_owned(), source: Box::new(source) }
    }
}

impl Log for KafkaLog {
    fn init(&self) -> Result<Vec<String>, Error> {
        self.create_and_check_topics()
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        self.check_topics()
    }

    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        self.append_commands(commands)
    }

    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error> {
        Ok(Box::new(reader::KafkaCommandReader::open(self, from)?))
    }

    fn view(&self) -> Result<Box<dyn ViewReader>, Error> {
        Ok(Box::new(reader::KafkaViewReader::open(self)?))
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error> {
        Ok(Box::new(writer::KafkaViewWriter::open(self)?))
    }
}

/// Remembers librdkafka's last reason why it cannot reach a broker. An error that matters is also returned by the call that
/// failed, so nothing is logged here.
#[derive(Debug, Default)]
struct Context {
    last_error: Mutex<Option<String>>,
}

impl Context {
    fn last_error(&self) -> Option<String> {
        self.last_error.lock().ok()?.clone()
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
        // "All brokers are down" says less than the error before it, and the end of a partition is not an error.
        let says_little = [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::PartitionEOF];
        if error.rdkafka_error_code().is_none_or(|code| !says_little.contains(&code))
            && let Ok(mut last) = self.last_error.lock()
        {
            *last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}
