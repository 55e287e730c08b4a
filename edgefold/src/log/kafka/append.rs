//! Appends commands, and finds out what became of each.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::{KafkaLog, PARTITION, wait_for_answers};
use crate::log::NewCommand;
use crate::{Appended, Error};

/// How long to wait for an acknowledgement, retries included.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many records librdkafka takes before the broker has answered for them.
const QUEUE: &str = "queue.buffering.max.messages";

/// The broker has not stored the record after these errors. After any other it may have.
const REFUSALS: [RDKafkaErrorCode; 10] = [
    RDKafkaErrorCode::ClusterAuthorizationFailed,
    RDKafkaErrorCode::InvalidMessage,
    RDKafkaErrorCode::InvalidMessageSize,
    RDKafkaErrorCode::InvalidRecord,
    RDKafkaErrorCode::InvalidTimestamp,
    RDKafkaErrorCode::MessageSizeTooLarge,
    RDKafkaErrorCode::PolicyViolation,
    RDKafkaErrorCode::PurgeQueue, // It was never sent, because of an error that ends the producer.
    RDKafkaErrorCode::TopicAuthorizationFailed,
    RDKafkaErrorCode::UnknownTopicOrPartition,
];

impl KafkaLog {
    pub(super) fn append_commands(&self, commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        let topic = self.commands_topic();
        self.client_of(&topic)?; // Refuses a topic that is missing or has several partitions.
        let mut config = self.config.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("allow.auto.create.topics", "false")
            .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string());
        // All of them fit, unless the user says otherwise: waiting for room would be waiting for 100 ms each time.
        if config.get(QUEUE).is_none() {
            config.set(QUEUE, commands.len().clamp(100_000, 10_000_000).to_string());
        }
        let deliveries =
            Deliveries { results: Mutex::new(vec![None; commands.len()]), trouble: AtomicBool::new(false) };
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(deliveries).map_err(|error| self.failed("connect", error))?;
        let mut refused_here = None;
        for (index, NewCommand { time, text }) in commands.iter().enumerate() {
            let key = time.to_string();
            let mut record =
                BaseRecord::with_opaque_to(&topic, Box::new(index)).partition(PARTITION).key(&key).payload(text);
            while let Err((error, refused)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    refused_here = Some((index, error));
                    break;
                }
                producer.poll(Duration::from_millis(100));
                record = refused;
            }
            if refused_here.is_some() {
                break; // Later commands must not get in before it.
            }
        }
        wait_for_answers(&producer, |wait| producer.poll(wait), DELIVERY_TIMEOUT * 2);
        // Returns when every record has been acknowledged or has timed out.
        let flushed = producer.flush(DELIVERY_TIMEOUT * 2);
        let results = producer.context().results.lock().map(|results| results.clone()).unwrap_or_default();
        // After a connection failed, a refusal may be that of a retry, while the first attempt was stored.
        let trouble = producer.context().trouble.load(Ordering::Relaxed);
        // That error says more than that the record was not sent.
        let fatal = producer.client().fatal_error().map(|(_, why)| why);
        let sent = refused_here.as_ref().map_or(commands.len(), |(index, _)| *index);
        let outcomes = results.into_iter().enumerate().map(|(index, result)| match result {
            Some(Ok(offset)) => Outcome::Appended(offset),
            Some(Err(error)) if !trouble && error.rdkafka_error_code().is_some_and(|code| REFUSALS.contains(&code)) => {
                Outcome::Refused(fatal.clone().unwrap_or_else(|| error.to_string()))
            }
            Some(Err(error)) => Outcome::Unknown(error.to_string()),
            None if index >= sent => {
                Outcome::Refused(refused_here.as_ref().map(|(_, error)| error.to_string()).unwrap_or_default())
            }
            None => Outcome::Unknown(flushed.as_ref().err().map_or("no answer".to_owned(), ToString::to_string)),
        });
        self.sum_up(outcomes.collect())
    }

    fn sum_up(&self, outcomes: Vec<Outcome>) -> Result<Vec<u64>, Error> {
        let mut first = None;
        let mut noted = |outcome, why| {
            first.get_or_insert(why);
            outcome
        };
        let outcomes: Vec<Appended> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Appended(offset) => Appended::At(offset),
                Outcome::Refused(why) => noted(Appended::Refused, why),
                Outcome::Unknown(why) => noted(Appended::Unknown, why),
            })
            .collect();
        let all = |wanted| outcomes.iter().all(|outcome| *outcome == wanted);
        match first {
            None => Ok(outcomes.into_iter().filter_map(Appended::offset).collect()),
            Some(why) if all(Appended::Refused) => Err(Error::Refused { brokers: self.brokers.clone(), why }),
            Some(why) if all(Appended::Unknown) => Err(Error::Unacknowledged(why)),
            Some(why) => Err(Error::Partly { outcomes, why }),
        }
    }
}

enum Outcome {
    Appended(u64),
    Refused(String),
    Unknown(String),
}

/// The result for each record, by its index among those sent.
struct Deliveries {
    results: Mutex<Vec<Option<Result<u64, KafkaError>>>>,
    /// Whether a connection has failed.
    trouble: AtomicBool,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, _reason: &str) {
        let is_refusal = error.rdkafka_error_code().is_some_and(|code| REFUSALS.contains(&code));
        // A fatal error is announced as such, and carries the refusal.
        if !is_refusal && error.rdkafka_error_code() != Some(RDKafkaErrorCode::Fatal) {
            self.trouble.store(true, Ordering::Relaxed);
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, index: Box<usize>) {
        let result = match delivery {
            // A broker that has the record from an earlier attempt may not know its offset.
            Ok(message) => u64::try_from(message.offset())
                .map_err(|_| KafkaError::MessageProduction(RDKafkaErrorCode::DuplicateSequenceNumber)),
            Err((error, _)) => Err(error.clone()),
        };
        if let Ok(mut results) = self.results.lock()
            && let Some(slot) = results.get_mut(*index)
        {
            *slot = Some(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_is_known_of_each_command() {
        let log = KafkaLog::new("broker:9092", "edgefold", &[]).unwrap();
        let sum_up = |outcomes| log.sum_up(outcomes).map_err(|error| error.to_string());
        let refused = || Outcome::Refused("too large".to_owned());
        let unknown = || Outcome::Unknown("timed out".to_owned());
        assert_eq!(sum_up(vec![Outcome::Appended(7), Outcome::Appended(8)]), Ok(vec![7, 8]));
        assert_eq!(sum_up(vec![refused()]).unwrap_err(), "Kafka at broker:9092 refused the command: too large");
        let error = sum_up(vec![unknown(), unknown()]).unwrap_err();
        assert!(error.contains("(timed out): it may or may not have been appended"), "{error}");
        assert_eq!(
            sum_up(vec![Outcome::Appended(7), refused(), unknown()]).unwrap_err(),
            "of 3 commands, 1 were appended, 1 were refused, and 1 may or may not have been appended (too large)"
        );
    }
}
