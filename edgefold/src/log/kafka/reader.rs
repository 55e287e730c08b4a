//! Reads the committed records of the two topics.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{info, warn};

use super::probe::{Ends, Probe};
use super::proof::Proof;
use super::{Context, KafkaLog};
use crate::log::{Batch, CommandReader, EachRecord, Progress, ViewReader};
use crate::view::OFFSET_KEY;
use crate::{Error, LogTime, Position, Record, RecordHash};

/// A batch ends at this many records, or soon after this many bytes: producers choose how large a record is.
const BATCH_RECORDS: usize = 10_000;
const BATCH_BYTES: usize = 16 << 20;
/// How often to repeat that Kafka cannot be read.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// A reader that is open for longer than this, or that reads on after the end, probes the broker. One that only reads to the end does
/// not.
const PROBE_AFTER: Duration = Duration::from_secs(1);
/// How long a proof that the topic is still the same one is good for, before records are returned: a topic is not deleted, created
/// anew and filled in less.
const PROOF_LASTS: Duration = Duration::from_millis(100);
/// How often a topic is proved while there are no records.
const IDLE_PROOF_INTERVAL: Duration = Duration::from_secs(60);
/// How often after a proof has failed. Each may take two seconds, in which nothing is shipped.
const PROOF_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How many ends of the topic a reader that is behind remembers: those of ten minutes.
const MOST_SAMPLES: usize = 600;

/// The offsets that end a transaction after its last record.
const COMMIT_MARKER: u64 = 1;

/// A consumer of one topic that rides out transient errors.
struct Topic {
    brokers: String,
    name: String,
    consumer: BaseConsumer<Context>,
    /// Why nothing can be fetched at the moment.
    trouble: Option<Trouble>,
    warned: Option<Instant>,
}

struct Trouble {
    why: String,
    since: Instant,
    /// Whether the way to the broker is the problem, so that any answer of it ends the trouble.
    is_connection: bool,
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
            // librdkafka asks for the group's coordinator, although no group is joined.
            Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                Polled::Nothing
            }
            // librdkafka recovers by itself.
            Some(Err(error)) if !matches!(error, KafkaError::PartitionEOF(_)) => {
                let why = consumer.context().last_error().unwrap_or_else(|| error.to_string());
                if warned.is_none_or(|warned| warned.elapsed() > WARNING_INTERVAL) {
                    warn!("Kafka at {brokers}: cannot read {name}: {why}; retrying");
                    *warned = Some(Instant::now());
                }
                let is_connection = is_connection_error(&error);
                *trouble = Some(Trouble { why, since: Instant::now(), is_connection });
                Polled::Nothing
            }
            Some(polled) => {
                *trouble = None;
                if warned.take().is_some() {
                    info!("Kafka at {brokers}: reading {name} again");
                }
                polled.map_or(Polled::End, Polled::Record)
            }
        }
    }
}

fn is_connection_error(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut, Resolve};
    let codes = [AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut, Resolve];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

fn is_final(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::Fatal)
        )
}

pub(super) struct KafkaCommandReader {
    log: KafkaLog,
    topic: Topic,
    opened: Instant,
    next: u64,
    /// The hash of the record before `next`, if it is known.
    last_record: Option<RecordHash>,
    /// When the topic was last known to have that record; `None` if the consumer starts with it, so that it comes first.
    proved: Option<Instant>,
    /// When that was last asked for.
    tried: Instant,
    proof: Option<Proof>,
    /// Records that are not returned before the topic is proved.
    unproved: Vec<Record>,
    /// Whether they are the last of the topic.
    unproved_to_end: bool,
    /// Why it is not known whether the topic still is the same one.
    doubt: Option<String>,
    end: u64,
    /// The same, as far as is known now.
    log_end: u64,
    /// Whether the end was reached and no record has come since.
    at_end: bool,
    /// Whether everything has been read that there was when the reader was opened.
    has_caught_up: bool,
    /// A reader that lives for longer than a moment probes the broker.
    probe: Option<Probe>,
    /// Everything that is committed below this offset has been read.
    read_up_to: u64,
    /// When the broker was asked for the end of the topic, and the end, while the reader has not come that far. An open transaction
    /// hides what is before that end, too.
    samples: VecDeque<(Instant, u64)>,
    contact: Option<Instant>,
}

impl KafkaCommandReader {
    pub(super) fn open(log: &KafkaLog, from: Position) -> Result<Self, Error> {
        let (name, opened) = (log.commands_topic(), Instant::now());
        let Position { next_offset: next, last_record, .. } = from;
        let last_record = last_record.filter(|_| next > 0);
        let first = next - u64::from(last_record.is_some());
        let (consumer, low, end) = log.consumer(&name, Some(first))?;
        if first < low || next > end {
            return Err(Error::Gone { needed: first, found: format!("offsets {low} to {end}") });
        }
        let topic = Topic::new(log, name, consumer);
        Ok(Self {
            log: log.clone(),
            topic,
            opened,
            next,
            last_record,
            proved: last_record.is_none().then_some(opened),
            tried: opened,
            proof: None,
            unproved: Vec::new(),
            unproved_to_end: false,
            doubt: None,
            end,
            log_end: end,
            at_end: false,
            has_caught_up: false,
            probe: None,
            read_up_to: next,
            samples: VecDeque::new(),
            contact: None,
        })
    }

    /// Takes the probe's last answer into account, and returns why the log cannot be read, if so.
    fn check_contact(&mut self) -> Option<String> {
        self.read_up_to = self.read_up_to.max(self.next);
        if let Some(answer) = self.probe.as_ref().and_then(Probe::last) {
            let Ends { committed, all, is_held_back, empty_up_to } = match answer.ends {
                Ok(ends) => ends,
                Err(why) => return Some(why),
            };
            self.log_end = self.log_end.max(committed);
            self.read_up_to = self.read_up_to.max(empty_up_to);
            let is_over = |trouble: &mut Trouble| trouble.is_connection && trouble.since < answer.asked;
            drop(self.topic.trouble.take_if(is_over));
            // One that says as much is worth more the later it was asked for.
            while self.samples.pop_back_if(|(_, end)| *end >= all).is_some() {}
            if self.samples.len() < MOST_SAMPLES {
                self.samples.push_back((answer.asked, all));
            }
            self.confirm_contact();
            // An open transaction hides records, so their absence does not prove that there are none.
            if is_held_back && self.at_end {
                return Some(format!(
                    "a producer has a transaction open on {} at offset {committed}, which hides the commands up to offset {all}: \
                     end that producer, or abort its transaction with kafka-transactions.sh",
                    self.topic.name
                ));
            }
        }
        self.topic.trouble.as_ref().map(|trouble| trouble.why.clone())
    }

    /// If all is read that the topic had when the broker was asked, then the reader was in contact at that moment.
    fn confirm_contact(&mut self) {
        if self.topic.trouble.is_some() || self.proved.is_none() || self.doubt.is_some() {
            return;
        }
        while let Some((asked, _)) = self.samples.pop_front_if(|(_, end)| *end <= self.read_up_to) {
            self.contact = self.contact.max(Some(asked));
        }
    }

    fn other_log(&self) -> Error {
        Error::OtherLog { offset: self.next.saturating_sub(1) }
    }

    /// Proves that the topic is still the one that was read before, and only then lets `batch` have records.
    fn prove(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let idle_interval = if self.doubt.is_none() { IDLE_PROOF_INTERVAL } else { PROOF_RETRY_INTERVAL };
        let is_due = self.proved.is_some_and(|proved| match batch.records.is_empty() {
            true => self.tried.max(proved).elapsed() > idle_interval,
            false => proved.elapsed() > PROOF_LASTS,
        });
        let (Some(hash), Some(offset), true) = (self.last_record, self.next.checked_sub(1), is_due) else {
            return Ok(());
        };
        let asked = Instant::now();
        self.tried = asked;
        let proof = match &mut self.proof {
            Some(proof) => proof,
            None => self.proof.insert(Proof::new(&self.log)?),
        };
        match proof.has(&self.topic.name, offset, hash) {
            Ok(true) => {
                (self.proved, self.doubt) = (Some(asked), None);
                Ok(())
            }
            Ok(false) => Err(self.other_log()),
            Err(why) => {
                self.unproved = std::mem::take(&mut batch.records);
                self.unproved_to_end = batch.at_end;
                batch.at_end = false;
                self.doubt = Some(why);
                Ok(())
            }
        }
    }
}

impl CommandReader for KafkaCommandReader {
    fn read(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let (records, at_end) = (std::mem::take(&mut self.unproved), std::mem::take(&mut self.unproved_to_end));
        let mut bytes: usize = records.iter().map(bytes_of).sum();
        let mut batch = Batch { records, at_end, ..Batch::default() };
        let started = Instant::now();
        let deadline = started + timeout;
        if self.probe.is_none() && (self.has_caught_up || self.opened.elapsed() > PROBE_AFTER) {
            self.probe = Some(Probe::start(&self.log, &self.topic.name, self.next));
        }
        while batch.records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            // Waits only for the first record. Those that are already there come with it.
            let nothing_to_wait_for = !batch.records.is_empty() || (batch.at_end && !self.at_end);
            let wait =
                if nothing_to_wait_for { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            match self.topic.poll(wait) {
                Polled::Record(message) => {
                    self.at_end = false;
                    batch.at_end = false;
                    let record = record(&message);
                    bytes += bytes_of(&record);
                    if self.proved.is_some() {
                        batch.records.push(record);
                    } else if self.last_record == Some(record.hash()) {
                        self.proved = Some(started);
                        if self.next >= self.end {
                            // It was the last one when the reader was opened. Whoever only reads to that end need not wait for more.
                            batch.at_end = true;
                            break;
                        }
                    } else {
                        return Err(self.other_log());
                    }
                }
                Polled::End if self.proved.is_none() => return Err(self.other_log()),
                Polled::End => {
                    batch.at_end = true;
                    // This consumer started after it was asked for that end.
                    self.read_up_to = self.read_up_to.max(self.end);
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
        batch.at_end |= self.at_end && batch.records.is_empty();
        self.prove(&mut batch)?;
        if let Some(last) = batch.records.last() {
            (self.next, self.last_record) = (last.offset + 1, Some(last.hash()));
        }
        if let Some(probe) = &self.probe {
            probe.note(self.next);
        }
        self.at_end = batch.at_end;
        self.has_caught_up |= self.proved.is_some() && (self.at_end || self.next >= self.end);
        let trouble = self.check_contact();
        batch.trouble = self.doubt.clone().or(trouble);
        batch.contact = self.contact;
        batch.end = Some(self.log_end.max(self.next));
        Ok(batch)
    }

    fn end(&self) -> u64 {
        self.end
    }
}

fn bytes_of(record: &Record) -> usize {
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len)
}

pub(super) fn record(message: &impl Message) -> Record {
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
    /// Whether records have come since the end was last reached. The marker of their transaction is what moves the end then.
    has_records: bool,
}

impl KafkaViewReader {
    pub(super) fn open(log: &KafkaLog) -> Result<Self, Error> {
        let name = log.ranges_topic();
        // If retention has deleted records at its start, the hash in the view shows whether ranges are missing.
        let (consumer, _low, total) = log.consumer(&name, None)?;
        let progress = Progress { done: 0, total };
        Ok(Self { topic: Topic::new(log, name, consumer), progress, has_records: false })
    }
}

impl ViewReader for KafkaViewReader {
    fn read(&mut self, timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        let Self { topic, progress, has_records } = self;
        for read in 0..BATCH_RECORDS {
            let wait = if read > 0 { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            let lost = match topic.poll(wait) {
                Polled::Record(message) => {
                    each(message.key(), message.payload());
                    *has_records = true;
                    progress.done = message.offset().unsigned_abs() + 1;
                    // While the view is being written, its end may never be seen. The end of the transaction that contains or
                    // follows the end at opening is as good, and never in the middle of a transaction. It also spares the fetch
                    // that would find the end, which the broker holds for half a second.
                    let is_end = progress.done + COMMIT_MARKER >= progress.total;
                    if is_end && message.key() == Some(OFFSET_KEY.as_bytes()) {
                        return Ok(true);
                    }
                    continue;
                }
                Polled::End => {
                    // librdkafka says it again whenever the end has moved. A writer that has taken over moves it without a record.
                    let is_marker = !std::mem::take(has_records) && progress.done >= progress.total;
                    progress.done = progress.done.max(progress.total) + u64::from(is_marker);
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
