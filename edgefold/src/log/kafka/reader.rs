//! Reads the committed records of the two topics.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{info, warn};

use super::{Context, KafkaLog, PARTITION};
use crate::log::{Batch, CommandReader, EachRecord, Progress, ViewReader};
use crate::view::OFFSET_KEY;
use crate::{Error, LogTime, Record};

/// A batch ends at this many records, or soon after this many bytes: producers choose how large a record is.
const BATCH_RECORDS: usize = 10_000;
const BATCH_BYTES: usize = 16 << 20;
/// How often to repeat that Kafka cannot be read.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// How often, and for how long at most, an idle reader asks the broker whether it still is at the end.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A consumer of one topic that rides out transient errors.
struct Topic {
    brokers: String,
    name: String,
    consumer: BaseConsumer<Context>,
    /// Why nothing can be read at the moment.
    trouble: Option<String>,
    warned: Option<Instant>,
}

/// The outcome of a poll.
enum Polled<'a> {
    Record(BorrowedMessage<'a>),
    /// The consumer's position is the end of the committed records. Transaction markers and compaction gaps lie before it; an
    /// open transaction lies after it.
    End,
    Nothing,
    /// Reading on is useless.
    Lost(KafkaError),
}

impl Topic {
    fn new(log: &KafkaLog, name: String, consumer: BaseConsumer<Context>) -> Self {
        Self { brokers: log.brokers.clone(), name, consumer, trouble: None, warned: None }
    }

    fn poll(&mut self, timeout: Duration) -> Polled<'_> {
        let Self { brokers, name, consumer, trouble, warned } = self;
        match consumer.poll(timeout) {
            None => Polled::Nothing,
            Some(Err(error)) if is_final(&error) => Polled::Lost(error),
            // librdkafka recovers by itself.
            Some(Err(error)) if !matches!(error, KafkaError::PartitionEOF(_)) => {
                failed(brokers, name, consumer, &error, trouble, warned);
                Polled::Nothing
            }
            Some(polled) => {
                recovered(brokers, name, trouble, warned);
                polled.map_or(Polled::End, Polled::Record)
            }
        }
    }

    /// The end of the committed records, if the broker answers.
    fn probe(&mut self) -> Option<i64> {
        let Self { brokers, name, consumer, trouble, warned } = self;
        match consumer.fetch_watermarks(name, PARTITION, PROBE_TIMEOUT) {
            Ok((_, high)) => {
                recovered(brokers, name, trouble, warned);
                Some(high)
            }
            Err(error) => {
                failed(brokers, name, consumer, &error, trouble, warned);
                None
            }
        }
    }
}

fn failed(
    brokers: &str,
    name: &str,
    consumer: &BaseConsumer<Context>,
    error: &KafkaError,
    trouble: &mut Option<String>,
    warned: &mut Option<Instant>,
) {
    let why = consumer.context().last_error().unwrap_or_else(|| error.to_string());
    if warned.is_none_or(|warned| warned.elapsed() > WARNING_INTERVAL) {
        warn!("Kafka at {brokers}: cannot read {name}: {why}; retrying");
        *warned = Some(Instant::now());
    }
    *trouble = Some(why);
}

fn recovered(brokers: &str, name: &str, trouble: &mut Option<String>, warned: &mut Option<Instant>) {
    *trouble = None;
    if warned.take().is_some() {
        info!("Kafka at {brokers}: reading {name} again");
    }
}

fn is_final(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::Fatal)
        )
}

pub(super) struct KafkaCommandReader {
    topic: Topic,
    next: u64,
    end: u64,
    /// Whether the end was reached and no record has come since.
    at_end: bool,
    probed: Instant,
    /// The end that the last probe since then has seen.
    probed_end: Option<i64>,
}

impl KafkaCommandReader {
    pub(super) fn open(log: &KafkaLog, from: u64) -> Result<Self, Error> {
        let name = log.commands_topic();
        let (consumer, low, end) = log.consumer(&name, Some(from))?;
        if from < low || from > end {
            return Err(Error::Gone { needed: from, found: format!("offsets {low} to {end}") });
        }
        let topic = Topic::new(log, name, consumer);
        Ok(Self { topic, next: from, end, at_end: false, probed: Instant::now(), probed_end: None })
    }

    /// Whether an idle reader at the end still is there, by the broker's word: librdkafka does not say when it loses a broker
    /// that goes silent. If the end has moved, a record or the new end is on its way.
    fn confirm_end(&mut self) -> bool {
        if self.probed.elapsed() < PROBE_INTERVAL {
            return self.topic.trouble.is_none();
        }
        let found = self.topic.probe();
        self.probed = Instant::now();
        found.is_some_and(|end| *self.probed_end.get_or_insert(end) == end)
    }
}

impl CommandReader for KafkaCommandReader {
    fn read(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        let deadline = Instant::now() + timeout;
        let mut bytes = 0;
        while batch.records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            // Waits only for the first record. Those that are already there come with it.
            let nothing_to_wait_for = !batch.records.is_empty() || (batch.at_end && !self.at_end);
            let wait =
                if nothing_to_wait_for { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            match self.topic.poll(wait) {
                Polled::Record(message) => {
                    self.at_end = false;
                    batch.at_end = false;
                    bytes += message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
                    let record = record(&message);
                    self.next = record.offset + 1;
                    batch.records.push(record);
                }
                Polled::End => {
                    batch.at_end = true;
                    (self.probed, self.probed_end) = (Instant::now(), None);
                }
                Polled::Lost(error) => {
                    let found = format!("lost them while they were read ({error})");
                    return Err(Error::Gone { needed: self.next, found });
                }
                // A transient error does not end the wait.
                Polled::Nothing if !nothing_to_wait_for && Instant::now() < deadline => {}
                Polled::Nothing => break,
            }
        }
        let is_idle = self.at_end && batch.records.is_empty();
        self.at_end = batch.at_end || is_idle;
        batch.at_end |= is_idle && self.confirm_end();
        batch.trouble.clone_from(&self.topic.trouble);
        Ok(batch)
    }

    fn end(&self) -> u64 {
        self.end
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

pub(super) struct KafkaViewReader {
    topic: Topic,
    progress: Progress,
}

impl KafkaViewReader {
    pub(super) fn open(log: &KafkaLog) -> Result<Self, Error> {
        let name = log.ranges_topic();
        let (consumer, low, total) = log.consumer(&name, None)?;
        if low > 0 {
            // Compaction does not move the start. Retention has deleted ranges, and the rest is not a view.
            return Err(Error::Settings(vec![format!(
                "topic {name} has lost its records below offset {low}: set cleanup.policy=compact, and delete the topic; it will be rebuilt"
            )]));
        }
        Ok(Self { topic: Topic::new(log, name, consumer), progress: Progress { done: 0, total } })
    }
}

impl ViewReader for KafkaViewReader {
    fn read(&mut self, timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        let Self { topic, progress } = self;
        for read in 0..BATCH_RECORDS {
            let wait = if read > 0 { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            let lost = match topic.poll(wait) {
                Polled::Record(message) => {
                    each(message.key(), message.payload());
                    progress.done = message.offset().unsigned_abs() + 1;
                    // While the view is being written, its end may never be seen. The end of the transaction that contains or
                    // follows the end at opening is as good, and never in the middle of a transaction.
                    if progress.done >= progress.total && message.key() == Some(OFFSET_KEY.as_bytes()) {
                        return Ok(true);
                    }
                    continue;
                }
                Polled::End => {
                    progress.done = progress.done.max(progress.total);
                    return Ok(true);
                }
                Polled::Lost(error) => error,
                Polled::Nothing => break,
            };
            let (brokers, doing) = (topic.brokers.clone(), format!("read {}", topic.name));
            return Err(Error::Kafka { brokers, doing, source: Box::new(lost) });
        }
        Ok(false)
    }

    fn progress(&self) -> Progress {
        self.progress
    }
}
