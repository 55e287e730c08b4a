//! Reads the two topics, as far as they are committed.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{info, warn};

use super::{Context, KafkaLog};
use crate::log::{Batch, CommandReader, EachRecord, LogError, Progress, ViewReader};
use crate::record::Record;
use crate::time::LogTime;
use crate::view::OFFSET_KEY;

/// A batch ends at so many records, or soon after so many bytes: whoever may produce chooses how large a record is.
const BATCH_RECORDS: usize = 10_000;
const BATCH_BYTES: usize = 16 << 20;
/// How often to say that Kafka cannot be read.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A consumer of one topic that rides out what may pass.
struct Topic {
    brokers: String,
    name: String,
    consumer: BaseConsumer<Context>,
    /// When it was last said that the topic cannot be read.
    said: Option<Instant>,
}

/// What a poll gives.
enum Polled<'a> {
    Record(BorrowedMessage<'a>),
    /// The consumer's position is at the end of what is committed: behind transaction markers and compaction gaps, none of
    /// which is a record to wait for, and before an open transaction, which is none of the topic's content yet.
    End,
    Nothing,
    /// There is no use in reading on.
    Lost(KafkaError),
}

impl Topic {
    fn new(log: &KafkaLog, name: String, consumer: BaseConsumer<Context>) -> Self {
        Self { brokers: log.brokers.clone(), name, consumer, said: None }
    }

    fn poll(&mut self, timeout: Duration) -> Polled<'_> {
        let Self { brokers, name, consumer, said } = self;
        match consumer.poll(timeout) {
            None => Polled::Nothing,
            Some(Err(error)) if is_final(&error) => Polled::Lost(error),
            // librdkafka gets over it by itself.
            Some(Err(error)) if !matches!(error, KafkaError::PartitionEOF(_)) => {
                if said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
                    let why = consumer.context().last_error().unwrap_or_else(|| error.to_string());
                    warn!("Kafka at {brokers} gives nothing of {name}: {why}; will go on when it does");
                    *said = Some(Instant::now());
                }
                Polled::Nothing
            }
            Some(polled) => {
                if said.take().is_some() {
                    info!("Kafka at {brokers} gives {name} again");
                }
                polled.map_or(Polled::End, Polled::Record)
            }
        }
    }
}

fn is_final(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::Fatal)
        )
}

pub(super) struct Commands {
    topic: Topic,
    next: u64,
    end: u64,
    /// Whether the end was reached and nothing has come since.
    at_end: bool,
}

impl Commands {
    pub(super) fn open(log: &KafkaLog, from: u64) -> Result<Self, LogError> {
        let name = log.commands_topic();
        let (consumer, low, end) = log.consumer(&name, Some(from))?;
        if from < low || from > end {
            return Err(LogError::Gone { needed: from, found: format!("offsets {low} to {end}") });
        }
        Ok(Self { topic: Topic::new(log, name, consumer), next: from, end, at_end: false })
    }
}

impl CommandReader for Commands {
    fn read(&mut self, timeout: Duration) -> Result<Batch, LogError> {
        let mut batch = Batch::default();
        let deadline = Instant::now() + timeout;
        let mut bytes = 0;
        while batch.records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            // Waits for the first record alone, and takes those that are there already with it.
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
                Polled::End => batch.at_end = true,
                Polled::Lost(error) => {
                    let found = format!("lost them while they were read ({error})");
                    return Err(LogError::Gone { needed: self.next, found });
                }
                // An error that passes ends no wait.
                Polled::Nothing if !nothing_to_wait_for && Instant::now() < deadline => {}
                Polled::Nothing => break,
            }
        }
        batch.at_end |= self.at_end && batch.records.is_empty();
        self.at_end = batch.at_end;
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

pub(super) struct View {
    topic: Topic,
    progress: Progress,
}

impl View {
    pub(super) fn open(log: &KafkaLog) -> Result<Self, LogError> {
        let name = log.ranges_topic();
        let (consumer, low, total) = log.consumer(&name, None)?;
        if low > 0 {
            // Compaction leaves the start where it is; retention has taken ranges, and what is left is no view.
            return Err(LogError::Settings(vec![format!(
                "topic {name} has lost its records below offset {low}: set cleanup.policy=compact, delete the topic, and it is built anew"
            )]));
        }
        Ok(Self { topic: Topic::new(log, name, consumer), progress: Progress { done: 0, total } })
    }
}

impl ViewReader for View {
    fn read(&mut self, timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, LogError> {
        let deadline = Instant::now() + timeout;
        let Self { topic, progress } = self;
        for read in 0..BATCH_RECORDS {
            let wait = if read > 0 { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            let lost = match topic.poll(wait) {
                Polled::Record(message) => {
                    each(message.key(), message.payload());
                    progress.done = message.offset().unsigned_abs() + 1;
                    // While the view is written, its end may never be seen. The end of the transaction in which, or behind
                    // which, it ended at the start is as good: never the middle of one.
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
            let (brokers, doing) = (topic.brokers.clone(), format!("cannot read {}", topic.name));
            return Err(LogError::Kafka { brokers, doing, source: Box::new(lost) });
        }
        Ok(false)
    }

    fn progress(&self) -> Progress {
        self.progress
    }
}
