//! The real log: two topics of a Kafka cluster, `PREFIX.commands` and `PREFIX.ranges`, of one partition each.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::{Batch, CommandReader, EachRecord, Log, LogError, NewCommand, ViewWriter};
use crate::edits::Edits;
use crate::fold::Position;
use crate::record::Record;
use crate::time::LogTime;
use crate::view::records;

/// One partition is one total order.
const PARTITION: i32 = 0;
/// How long to wait for an answer about the cluster.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transaction may take: meanwhile no snapshot is shipped.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for an acknowledgement, retries included.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a read of the view may go without any record.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A batch ends at so many records, or soon after so many bytes: whoever may produce chooses how large a record is.
const BATCH_RECORDS: usize = 10_000;
const BATCH_BYTES: usize = 16 << 20;

/// Kept for ever: the commands are the only truth.
const COMMANDS_CONFIG: [(&str, &str); 3] =
    [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
const RANGES_CONFIG: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// A log in two topics.
#[derive(Debug)]
pub struct KafkaLog {
    brokers: String,
    prefix: String,
    config: ClientConfig,
}

impl KafkaLog {
    /// The log with `prefix` at `brokers`. `properties` are librdkafka's, and go before edgefold's own settings for what a
    /// user may choose; what the log's promises rest on, such as `acks`, cannot be set.
    ///
    /// # Errors
    /// [`LogError::Property`] for a property that cannot be set.
    pub fn new(brokers: &str, prefix: &str, properties: &[(String, String)]) -> Result<Self, LogError> {
        let mut config = ClientConfig::new();
        config.set("client.id", "edgefold").set("bootstrap.servers", brokers);
        for (key, value) in properties {
            let refused = |why| LogError::Property { key: key.clone(), value: value.clone(), why };
            if FIXED.contains(&key.as_str()) {
                return Err(refused("it cannot be set, since edgefold's promises rest on it".to_owned()));
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

    /// A client that has found `topic` to be there, with one partition.
    fn client_of(&self, topic: &str) -> Result<BaseConsumer, LogError> {
        let mut config = self.config.clone();
        if config.get("group.id").is_none() {
            config.set("group.id", "edgefold"); // Never joined: librdkafka asks for one all the same.
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().map_err(|error| self.failed("connect", error))?;
        let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT);
        let metadata = metadata.map_err(|error| self.failed("ask for the topics", error))?;
        let partitions = metadata.topics().iter().find(|found| found.name() == topic).map(|found| {
            let error = found.error().map(RDKafkaErrorCode::from);
            (found.partitions().len(), error)
        });
        match partitions {
            Some((1, None)) => {}
            None
            | Some((_, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) | (0, None)) =>
            {
                return Err(LogError::Missing(format!("topic {topic}")));
            }
            Some((_, Some(error))) => {
                return Err(self.failed(&format!("ask for topic {topic}"), KafkaError::MetadataFetch(error)));
            }
            Some((count, None)) => return Err(LogError::Settings(vec![too_many_partitions(topic, count)])),
        }
        Ok(consumer)
    }

    /// A consumer of `topic` from `from` on, and the offsets of its first record and of its end.
    fn consumer(&self, topic: &str, from: Option<u64>) -> Result<(BaseConsumer, u64, u64), LogError> {
        let consumer = self.client_of(topic)?;
        let watermarks = consumer.fetch_watermarks(topic, PARTITION, METADATA_TIMEOUT);
        let (low, high) = watermarks.map_err(|error| self.failed(&format!("ask for the end of {topic}"), error))?;
        let (low, high) = (low.unsigned_abs(), high.unsigned_abs());
        let start = i64::try_from(from.unwrap_or(low)).unwrap_or(i64::MAX);
        let mut assignment = TopicPartitionList::new();
        let assigned = assignment
            .add_partition_offset(topic, PARTITION, Offset::Offset(start))
            .and_then(|()| consumer.assign(&assignment));
        assigned.map_err(|error| self.failed(&format!("read {topic}"), error))?;
        Ok((consumer, low, high))
    }

    fn failed(&self, doing: &str, source: KafkaError) -> LogError {
        LogError::Kafka { brokers: self.brokers.clone(), doing: format!("cannot {doing}"), source: Box::new(source) }
    }
}

/// What the promises rest on: durability, order, one writer, and never a half-read view.
const FIXED: [&str; 10] = [
    "allow.auto.create.topics",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.partition.eof",
    "enable.auto.commit",
    "auto.offset.reset",
    "isolation.level",
    "message.timeout.ms",
    "transactional.id",
];

fn too_many_partitions(topic: &str, count: usize) -> String {
    format!("topic {topic} has {count} partitions, but must have 1: more would lose the order of the commands")
}

impl Log for KafkaLog {
    fn init(&self) -> Result<Vec<String>, LogError> {
        let admin: AdminClient<_> = self.config.create().map_err(|error| self.failed("connect", error))?;
        let options =
            AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT)).operation_timeout(Some(METADATA_TIMEOUT));
        let (commands, ranges) = (self.commands_topic(), self.ranges_topic());
        let topics = [(commands.as_str(), &COMMANDS_CONFIG[..]), (ranges.as_str(), &RANGES_CONFIG[..])];
        let mut report = Vec::new();
        let mut wrong = Vec::new();
        for (name, wanted) in topics {
            // The replication factor is the broker's default: it knows how many brokers there are.
            let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
            let topic = wanted.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
            let created = block_on(admin.create_topics([&topic], &options));
            let created = created.map_err(|error| self.failed(&format!("create topic {name}"), error))?;
            match created.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                    let found = self.wrong_settings(&admin, &options, name, wanted)?;
                    if found.is_empty() {
                        report.push(format!("topic {name} is there already, with the right settings"));
                    }
                    wrong.extend(found);
                }
                Some(Err((_, error))) => {
                    return Err(self.failed(&format!("create topic {name}"), KafkaError::AdminOp(error)));
                }
                _ => report.push(format!("created topic {name}")),
            }
        }
        if wrong.is_empty() { Ok(report) } else { Err(LogError::Settings(wrong)) }
    }

    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, LogError> {
        let topic = self.commands_topic();
        self.client_of(&topic)?; // A missing topic or one of many partitions is refused, not created or written to.
        let mut config = self.config.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string());
        let deliveries = Deliveries { results: Mutex::new(vec![None; commands.len()]) };
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(deliveries).map_err(|error| self.failed("connect", error))?;
        for (index, NewCommand { time, text }) in commands.iter().enumerate() {
            let key = time.to_string();
            let mut record =
                BaseRecord::with_opaque_to(&topic, Box::new(index)).partition(PARTITION).key(&key).payload(text);
            while let Err((error, refused)) = producer.send(record) {
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => producer.poll(Duration::from_millis(100)),
                    // Those before it are on their way.
                    _ if index > 0 => return Err(LogError::Unacknowledged(error.to_string())),
                    _ => return Err(self.failed("append the command", error)),
                }
                record = refused;
            }
        }
        // Ends when each record is acknowledged or has timed out.
        let flushed = producer.flush(DELIVERY_TIMEOUT * 2);
        let results = producer.context().results.lock().map(|results| results.clone()).unwrap_or_default();
        let outcome = |result: Option<Result<u64, KafkaError>>| match result {
            Some(Ok(offset)) => Ok(offset),
            Some(Err(error)) => Err(LogError::Unacknowledged(error.to_string())),
            None => Err(LogError::Unacknowledged(flushed.clone().err().map_or("no answer".into(), |e| e.to_string()))),
        };
        results.into_iter().map(outcome).collect()
    }

    fn commands(&self, from: u64) -> Result<Box<dyn CommandReader>, LogError> {
        let topic = self.commands_topic();
        let (consumer, low, high) = self.consumer(&topic, Some(from))?;
        if from < low || from > high {
            return Err(LogError::Gone { needed: from, found: format!("offsets {low} to {high}") });
        }
        Ok(Box::new(Reader { brokers: self.brokers.clone(), topic, consumer, next: from, at_end: false }))
    }

    fn read_view(&self, each: &mut EachRecord<'_>) -> Result<(), LogError> {
        let topic = self.ranges_topic();
        let (consumer, low, _) = self.consumer(&topic, None)?;
        if low > 0 {
            // Compaction leaves the start where it is; retention has taken ranges, and what is left is no view.
            let found =
                format!("topic {topic} has lost its records below offset {low}: it must have cleanup.policy=compact");
            return Err(LogError::Settings(vec![found]));
        }
        let mut heard = Instant::now();
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    each(message.key(), message.payload());
                }
                // The consumer's position is at the end of what is committed, behind transaction markers and compaction gaps,
                // none of which is a record to wait for. An open transaction is none of the view yet.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) if is_final(&error) => return Err(self.failed(&format!("read {topic}"), error)),
                Some(Err(error)) if heard.elapsed() > STALL_TIMEOUT => {
                    return Err(self.failed(&format!("read {topic}"), error));
                }
                Some(Err(error)) => debug!("reading {topic}: {error}"),
                None if heard.elapsed() > STALL_TIMEOUT => {
                    let error = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                    return Err(self.failed(&format!("read {topic}"), error));
                }
                None => {}
            }
        }
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, LogError> {
        let mut config = self.config.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("transactional.id", format!("{}.ranges", self.prefix));
        let producer: ThreadedProducer<_> = config.create().map_err(|error| self.failed("connect", error))?;
        // Fences whoever holds the id, and aborts what it left open.
        producer
            .init_transactions(DELIVERY_TIMEOUT)
            .map_err(|error| self.failed("become the writer of the ranges", error))?;
        Ok(Box::new(Writer { brokers: self.brokers.clone(), topic: self.ranges_topic(), producer }))
    }
}

impl KafkaLog {
    fn wrong_settings<C: ClientContext>(
        &self,
        admin: &AdminClient<C>,
        options: &AdminOptions,
        topic: &str,
        wanted: &[(&str, &str)],
    ) -> Result<Vec<String>, LogError> {
        match self.client_of(topic) {
            Err(LogError::Settings(wrong)) => return Ok(wrong),
            other => other.map(drop)?,
        }
        let doing = format!("ask for the settings of topic {topic}");
        let resource = ResourceSpecifier::Topic(topic);
        let described = block_on(admin.describe_configs([&resource], options));
        let described = described.map_err(|error| self.failed(&doing, error))?;
        let described = described.into_iter().next().unwrap_or(Err(RDKafkaErrorCode::UnknownTopic));
        let described = described.map_err(|error| self.failed(&doing, KafkaError::AdminOp(error)))?;
        let mut wrong = Vec::new();
        for (key, needed) in wanted {
            let found = described.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or("unset");
            if found != *needed {
                wrong.push(format!("topic {topic} has {key}={found}, but must have {key}={needed}"));
            }
        }
        Ok(wrong)
    }
}

/// What came of each record, by its place among those sent.
struct Deliveries {
    results: Mutex<Vec<Option<Result<u64, KafkaError>>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, index: Box<usize>) {
        let result = match delivery {
            Ok(message) => Ok(message.offset().unsigned_abs()),
            Err((error, _)) => Err(error.clone()),
        };
        if let Ok(mut results) = self.results.lock()
            && let Some(slot) = results.get_mut(*index)
        {
            *slot = Some(result);
        }
    }
}

struct Reader {
    brokers: String,
    topic: String,
    consumer: BaseConsumer,
    next: u64,
    /// Whether the end was reached and nothing has come since.
    at_end: bool,
}

impl CommandReader for Reader {
    fn read(&mut self, timeout: Duration) -> Result<Batch, LogError> {
        let mut batch = Batch::default();
        let deadline = Instant::now() + timeout;
        let mut bytes = 0;
        while batch.records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            // Waits for the first record alone, and takes those that are there already with it.
            let nothing_to_wait_for = !batch.records.is_empty() || (batch.at_end && !self.at_end);
            let wait =
                if nothing_to_wait_for { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    self.at_end = false;
                    batch.at_end = false;
                    bytes += message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
                    let record = record(&message);
                    self.next = record.offset + 1;
                    batch.records.push(record);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => batch.at_end = true,
                Some(Err(error)) if is_final(&error) => {
                    let found = format!("lost them while they were read ({error})");
                    return Err(LogError::Gone { needed: self.next, found });
                }
                Some(Err(error)) => warn!("Kafka at {}: reading {}: {error}; will go on", self.brokers, self.topic),
                None => break,
            }
        }
        batch.at_end |= self.at_end && batch.records.is_empty();
        self.at_end = batch.at_end;
        Ok(batch)
    }
}

fn record(message: &impl Message) -> Record {
    let timestamp = message.timestamp().to_millis().and_then(|millis| u64::try_from(millis).ok());
    Record {
        offset: message.offset().unsigned_abs(),
        timestamp: timestamp.and_then(LogTime::from_millis),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
    }
}

/// Whether there is no use in reading on: librdkafka gets over all else by itself.
fn is_final(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::Fatal)
        )
}

struct Writer {
    brokers: String,
    topic: String,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl ViewWriter for Writer {
    fn write(&mut self, edits: &Edits, _from: Position, to: Position) -> Result<(), LogError> {
        self.commit(edits, to).map_err(|source| {
            let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
            let fenced = [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::InvalidProducerEpoch];
            if [fatal, source.rdkafka_error_code()].into_iter().flatten().any(|code| fenced.contains(&code)) {
                return LogError::Fenced;
            }
            let (brokers, doing) = (self.brokers.clone(), format!("cannot write {}", self.topic));
            LogError::Kafka { brokers, doing, source: Box::new(source) }
        })
    }
}

impl Writer {
    /// One transaction: a reader sees all of it or nothing, and with it to which offset the ranges have come.
    fn commit(&self, edits: &Edits, to: Position) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        for (key, value) in records(edits, to) {
            let mut record = BaseRecord::to(&self.topic).partition(PARTITION).key(&key);
            record.payload = value.as_ref();
            while let Err((error, refused)) = self.producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                self.producer.poll(Duration::from_millis(10));
                record = refused;
            }
        }
        self.producer.commit_transaction(TRANSACTION_TIMEOUT)
    }
}
