//! Writes the view in transactions: a reader sees all of one or none of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tracing::debug;

use super::{KafkaLog, PARTITION, wait_for_answers};
use crate::Error;
use crate::log::{ViewRecord, ViewWriter};
use crate::view::OFFSET_KEY;

/// How long becoming the writer, or one commit, may take.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// After how many milliseconds the broker aborts the transaction of a dead writer. This is long enough to write a whole view
/// in one transaction. The next writer aborts it earlier.
const ABANDONED_AFTER: &str = "300000";
/// How long the broker may take to write the marker of a transaction that it has reported as aborted.
const MARKER_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct KafkaViewWriter {
    brokers: String,
    topic: String,
    fence: u64,
    producer: ThreadedProducer<Deliveries>,
}

impl KafkaViewWriter {
    pub(super) fn open(log: &KafkaLog) -> Result<Self, Error> {
        log.create_ranges_topic_if_missing()?;
        let mut config = log.config.clone();
        if config.get("transaction.timeout.ms").is_none() {
            config.set("transaction.timeout.ms", ABANDONED_AFTER);
        }
        // A start reads the whole topic.
        if ["compression.type", "compression.codec"].iter().all(|key| config.get(key).is_none()) {
            config.set("compression.type", "lz4");
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("allow.auto.create.topics", "false")
            .set("transactional.id", format!("{}.ranges", log.prefix));
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(|error| log.failed("connect", error))?;
        // Fences the previous holder of the id, and aborts its open transaction.
        producer
            .init_transactions(TRANSACTION_TIMEOUT)
            .map_err(|error| log.failed("become the writer of the ranges", error))?;
        let mut writer = Self { brokers: log.brokers.clone(), topic: log.ranges_topic(), fence: 0, producer };
        writer.fence = writer.write_abort_marker().map_err(|error| writer.failed(error))?;
        writer.wait_for_marker();
        Ok(writer)
    }

    /// Writes an abort marker after everything that older writers have written, and returns an offset up to it.
    ///
    /// Fencing should have done so. But a broker that was restarted in the middle of a commit has been seen to consider the
    /// transaction complete without writing its marker. The transaction then stays open: the view seems to end before it, and
    /// the commit of the next transaction would reveal both. Once it is aborted, its commands are written again.
    fn write_abort_marker(&self) -> Result<u64, KafkaError> {
        self.producer.begin_transaction()?;
        let record = BaseRecord::<_, [u8]>::to(&self.topic).partition(PARTITION).key(OFFSET_KEY);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.flush()?;
        // Without a record on the broker, an abort writes no marker. The transaction, which has nothing to commit, knows the reason.
        if let Some(refused) = self.producer.context().refused.get() {
            return Err(self.producer.commit_transaction(TRANSACTION_TIMEOUT).err().unwrap_or_else(|| refused.clone()));
        }
        self.producer.abort_transaction(TRANSACTION_TIMEOUT)?;
        let offset = u64::try_from(self.producer.context().newest.load(Ordering::Relaxed));
        offset.map(|offset| offset + 1).map_err(|_unknown| KafkaError::MessageProduction(RDKafkaErrorCode::NoOffset))
    }

    /// Waits until readers can see past the aborted transaction: the broker answers before it has written the marker. If another
    /// transaction is open before it, that takes longer, and whoever reads the view next says so.
    fn wait_for_marker(&self) {
        let started = Instant::now();
        let is_visible = || {
            // As a consumer that reads only what is committed: the end is the last stable offset.
            let ends = self.producer.client().fetch_watermarks(&self.topic, PARTITION, MARKER_TIMEOUT);
            ends.is_ok_and(|(_, end)| u64::try_from(end).is_ok_and(|end| end >= self.fence))
        };
        while !is_visible() && started.elapsed() < MARKER_TIMEOUT {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn flush(&self) -> Result<(), KafkaError> {
        wait_for_answers(&self.producer, |wait| self.producer.poll(wait), TRANSACTION_TIMEOUT);
        self.producer.flush(TRANSACTION_TIMEOUT)
    }

    fn failed(&self, source: KafkaError) -> Error {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let fenced = [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::InvalidProducerEpoch];
        let refused = self.producer.context().refused.get().and_then(KafkaError::rdkafka_error_code);
        if [fatal, source.rdkafka_error_code(), refused].into_iter().flatten().any(|code| fenced.contains(&code)) {
            return Error::Fenced;
        }
        let (brokers, doing) = (self.brokers.clone(), format!("write {}", self.topic));
        Error::Kafka { brokers, doing, source: Box::new(source) }
    }

    fn commit(&self, records: &mut dyn Iterator<Item = ViewRecord>) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        for (key, value) in records {
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
        self.flush()?;
        if self.producer.context().went_back.load(Ordering::Relaxed) {
            // The topic was deleted and recreated: these records would not be a whole view.
            self.producer.abort_transaction(TRANSACTION_TIMEOUT)?;
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        self.producer.commit_transaction(TRANSACTION_TIMEOUT)
    }
}

/// Notices when offsets go back: then this is another topic with the same name.
#[derive(Debug)]
struct Deliveries {
    /// The newest offset; -1 if there is none yet.
    newest: AtomicI64,
    went_back: AtomicBool,
    /// Why the first record that was not written was refused.
    refused: OnceLock<KafkaError>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self { newest: AtomicI64::new(-1), went_back: AtomicBool::new(false), refused: OnceLock::new() }
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        match delivery {
            // The offset is negative if the broker has the record from an earlier attempt and does not know its offset.
            Ok(message) => {
                let offset = message.offset();
                if offset >= 0 && self.newest.swap(offset, Ordering::Relaxed) > offset {
                    self.went_back.store(true, Ordering::Relaxed);
                }
            }
            Err((error, _)) => drop(self.refused.set(error.clone())),
        }
    }
}

impl ViewWriter for KafkaViewWriter {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn write(&mut self, records: &mut dyn Iterator<Item = ViewRecord>) -> Result<(), Error> {
        self.commit(records).map_err(|error| self.failed(error))
    }
}
