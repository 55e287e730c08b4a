//! Asks the broker for the end of a topic now and then, on a thread and connections of its own.
//!
//! librdkafka reports no error for a request that is not answered, and announces the end of a partition only when it has moved. So
//! this is how a reader knows that it still is in contact. A reader cannot ask by itself: its connection is busy with a fetch that
//! waits for records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::proof::{First, first};
use super::{Context, KafkaLog, PARTITION};
use crate::Error;

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// One answer of the broker, or why there is none.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// When the broker was asked.
    pub(super) asked: Instant,
    pub(super) ends: Result<Ends, String>,
}

/// How far a topic goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The offset after the last committed record and the markers after it. An open transaction hides what is after that.
    pub(super) committed: u64,
    /// The offset after the last record, committed or not. Whatever was acknowledged before the broker was asked is below it.
    pub(super) all: u64,
    /// An open transaction has kept `committed` where it is for a while.
    pub(super) is_held_back: bool,
    /// The reader has no record to expect below this offset, apart from those that it had not read when the broker was asked.
    pub(super) empty_up_to: u64,
}

/// How long a transaction may be open before it is reported.
const PATIENCE: Duration = Duration::from_secs(10);

/// Probes until it is dropped.
pub(super) struct Probe {
    last: Arc<Mutex<Option<Answer>>>,
    /// How far the reader has come.
    next: Arc<AtomicU64>,
    _stop: Sender<()>,
}

impl Probe {
    /// Probes for a reader that has read everything below offset `next`.
    pub(super) fn start(log: &KafkaLog, topic: &str, next: u64) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (last, next) = (Arc::<Mutex<Option<Answer>>>::default(), Arc::new(AtomicU64::new(next)));
        let mut asking = Asking::new(log.clone(), topic.to_owned());
        let (answer, reader) = (Arc::clone(&last), Arc::clone(&next));
        let probe = move || {
            loop {
                let asked = Instant::now();
                let ends = asking.ends(reader.load(Ordering::Relaxed));
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Answer { asked, ends });
                if stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        };
        // Without the thread no contact is confirmed any more: the reader's last one stays what it was.
        let _started = thread::Builder::new().name("edgefold-probe".to_owned()).spawn(probe);
        Self { last, next, _stop: stop }
    }

    /// Notes that the reader has read everything below offset `next`.
    pub(super) fn note(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Option<Answer> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Two consumers: one sees what is committed, and the other everything.
struct Asking {
    log: KafkaLog,
    topic: String,
    committed: Option<BaseConsumer<Context>>,
    all: Option<BaseConsumer<Context>>,
    /// The committed end, and since when an open transaction keeps it there.
    held_back: Option<(u64, Instant)>,
    /// How far the reader had come the last time, and the committed end then.
    before: Option<(u64, u64)>,
    /// Up to here, no committed record lies after those that the reader had read.
    empty_up_to: u64,
}

impl Asking {
    fn new(log: KafkaLog, topic: String) -> Self {
        Self { log, topic, committed: None, all: None, held_back: None, before: None, empty_up_to: 0 }
    }

    /// How far the topic goes, for a reader that has read everything below offset `next`.
    fn ends(&mut self, next: u64) -> Result<Ends, String> {
        let Self { log, topic, .. } = self;
        let committed = ask(|| log.consumer_client(), topic, &mut self.committed)?;
        // This comes second, so that it is not less.
        let all = ask(|| log.uncommitted_client(), topic, &mut self.all)?;
        if all < next {
            return Err(format!(
                "{topic} ends at offset {all}, although the commands up to offset {next} were read from it"
            ));
        }
        self.held_back = match self.held_back {
            _ if all <= committed => None,
            Some((end, since)) if end == committed => Some((end, since)),
            _ => Some((committed, Instant::now())),
        };
        // Markers of transactions may lie between the last record and the end, and the reader cannot say whether it has passed
        // them. Nor does it notice if its fetches are never answered. If it has not moved since the last time, although there was
        // something after it, find out what.
        if committed > self.empty_up_to && self.before.is_some_and(|(from, end)| from == next && end > next) {
            let consumer = self.committed.as_ref().ok_or("not connected")?;
            if let First::End = first(consumer, topic, next)? {
                self.empty_up_to = committed;
            }
        }
        self.before = Some((next, committed));
        let is_held_back = self.held_back.is_some_and(|(_, since)| since.elapsed() > PATIENCE);
        Ok(Ends { committed, all, is_held_back, empty_up_to: self.empty_up_to })
    }
}

fn ask(
    client: impl FnOnce() -> Result<BaseConsumer<Context>, Error>,
    topic: &str,
    consumer: &mut Option<BaseConsumer<Context>>,
) -> Result<u64, String> {
    let consumer = match consumer {
        Some(consumer) => consumer,
        None => consumer.insert(client().map_err(|error| error.to_string())?),
    };
    match consumer.fetch_watermarks(topic, PARTITION, TIMEOUT) {
        Ok((_, end)) => Ok(end.unsigned_abs()),
        Err(error) => Err(error.to_string()),
    }
}
