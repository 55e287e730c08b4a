//! Asks the broker for the end of a topic now and then, on a thread and a connection of its own.
//!
//! librdkafka does not say for a minute that a broker has gone silent, and announces the end of a partition only when it has
//! moved. So this is how a reader knows that it still is in contact. A reader cannot ask by itself: its connection is busy with
//! a fetch that waits for records.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Context, KafkaLog, PARTITION};
use crate::Error;

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// One answer of the broker, or why there is none.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// When the broker was asked.
    pub(super) asked: Instant,
    /// The offset after the last committed record.
    pub(super) end: Result<u64, String>,
    /// An open transaction hides the records from `end` up to this offset, and has done so for a while.
    pub(super) hidden_up_to: Option<u64>,
}

/// How long a transaction may be open before it is reported.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two consumers: one sees what is committed, and the other everything.
#[derive(Default)]
struct Asking {
    committed: Option<BaseConsumer<Context>>,
    all: Option<BaseConsumer<Context>>,
    /// The last stable offset, and since when an open transaction keeps it there.
    held_back: Option<(u64, Instant)>,
}

/// Probes until it is dropped.
pub(super) struct Probe {
    last: Arc<Mutex<Option<Answer>>>,
    _stop: Sender<()>,
}

impl Probe {
    pub(super) fn start(log: &KafkaLog, topic: &str) -> Self {
        let (stop, stopped) = mpsc::channel();
        let last = Arc::<Mutex<Option<Answer>>>::default();
        let (answer, log, topic) = (Arc::clone(&last), log.clone(), topic.to_owned());
        let probe = move || {
            let mut asking = Asking::default();
            loop {
                let asked = Instant::now();
                let end = ask(|| log.consumer_client(), &topic, &mut asking.committed);
                let hidden_up_to = end.as_ref().ok().and_then(|end| asking.hidden_up_to(*end, &log, &topic));
                let new = Answer { asked, end, hidden_up_to };
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
                if stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        };
        // Without the thread no contact is confirmed any more: the reader's last one stays what it was.
        let _started = thread::Builder::new().name("edgefold-probe".to_owned()).spawn(probe);
        Self { last, _stop: stop }
    }

    pub(super) fn last(&self) -> Option<Answer> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Asking {
    fn hidden_up_to(&mut self, end: u64, log: &KafkaLog, topic: &str) -> Option<u64> {
        let all = ask(|| log.uncommitted_client(), topic, &mut self.all).ok().filter(|all| *all > end);
        self.held_back = match (all, self.held_back) {
            (None, _) => None,
            (Some(_), Some((before, since))) if before == end => Some((before, since)),
            (Some(_), _) => Some((end, Instant::now())),
        };
        all.filter(|_| self.held_back.is_some_and(|(_, since)| since.elapsed() > PATIENCE))
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
