//! Proves that a topic still has a record that was read from it.
//!
//! A topic that is deleted and created anew keeps its name, and a consumer that was connected all the time may not notice: if the
//! new topic is long enough, it goes on at its old offset. Only a record that it has read before tells the two apart.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::reader::record;
use super::{Context, KafkaLog, PARTITION};
use crate::{Error, Record, RecordHash};

/// How long to wait for the record.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A consumer beside the one that reads on, whose position must not change.
pub(super) struct Proof {
    consumer: BaseConsumer<Context>,
}

impl Proof {
    pub(super) fn new(log: &KafkaLog) -> Result<Self, Error> {
        Ok(Self { consumer: log.consumer_client()? })
    }

    /// Whether the record at `offset` has this hash.
    ///
    /// # Errors
    /// Why the broker did not say.
    pub(super) fn has(&self, topic: &str, offset: u64, hash: RecordHash) -> Result<bool, String> {
        match first(&self.consumer, topic, offset)? {
            // The next record, if there is none at the offset itself, has another hash.
            First::Record(record) => Ok(record.hash() == hash),
            First::End | First::OutOfRange => Ok(false),
        }
    }
}

/// What a topic has at an offset or after it.
pub(super) enum First {
    /// The first committed record.
    Record(Record),
    /// No committed record.
    End,
    /// The offset is after its end, or before its start.
    OutOfRange,
}

/// What `topic` has at `offset` or after it. The consumer must read nothing else.
///
/// # Errors
/// Why the broker did not say.
pub(super) fn first(consumer: &BaseConsumer<Context>, topic: &str, offset: u64) -> Result<First, String> {
    let mut assignment = TopicPartitionList::new();
    let start = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    assignment
        .add_partition_offset(topic, PARTITION, start)
        .and_then(|()| consumer.assign(&assignment))
        .map_err(|error| error.to_string())?;
    let found = poll_first(consumer);
    // It would read on otherwise.
    consumer.unassign().map_err(|error| error.to_string())?;
    found
}

fn poll_first(consumer: &BaseConsumer<Context>) -> Result<First, String> {
    let deadline = Instant::now() + TIMEOUT;
    let mut why = "the broker did not answer in time".to_owned();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match consumer.poll(left) {
            Some(Ok(message)) => return Ok(First::Record(record(&message))),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(First::End),
            Some(Err(error)) if is_out_of_range(&error) => return Ok(First::OutOfRange),
            Some(Err(error)) => why = error.to_string(),
            None => {}
        }
    }
    Err(why)
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange))
}
