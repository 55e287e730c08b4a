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
use crate::{Error, RecordHash};

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
        let mut assignment = TopicPartitionList::new();
        let start = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        assignment
            .add_partition_offset(topic, PARTITION, start)
            .and_then(|()| self.consumer.assign(&assignment))
            .map_err(|error| error.to_string())?;
        let found = self.find(hash);
        // It would read on otherwise.
        self.consumer.unassign().map_err(|error| error.to_string())?;
        found
    }

    fn find(&self, hash: RecordHash) -> Result<bool, String> {
        let deadline = Instant::now() + TIMEOUT;
        let mut why = "the broker did not answer in time".to_owned();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.consumer.poll(left) {
                // The next record, if there is none at the offset itself, has another hash.
                Some(Ok(message)) => return Ok(record(&message).hash() == hash),
                Some(Err(error)) if is_absent(&error) => return Ok(false),
                Some(Err(error)) => why = error.to_string(),
                None => {}
            }
        }
        Err(why)
    }
}

/// Whether the topic has no record at or after the offset.
fn is_absent(error: &KafkaError) -> bool {
    matches!(error, KafkaError::PartitionEOF(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
        )
}
