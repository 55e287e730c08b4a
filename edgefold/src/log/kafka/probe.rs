//! Asks the broker for the end of a topic now and then, on a thread and a connection of its own.
//!
//! librdkafka does not say for a minute that a broker has gone silent, and announces the end of a partition only once. So this
//! is how a reader knows that it still is in contact. A reader cannot ask by itself: its connection is busy with a fetch that
//! waits for records.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Context, KafkaLog, PARTITION};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// One answer of the broker, or why there is none.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Counts the probes.
    pub(super) number: u64,
    /// When the broker was asked.
    pub(super) asked: Instant,
    /// The offset after the last committed record.
    pub(super) end: Result<u64, String>,
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
            let mut consumer: Option<BaseConsumer<Context>> = None;
            for number in 0.. {
                let asked = Instant::now();
                let end = ask(&log, &topic, &mut consumer);
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Answer { number, asked, end });
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

fn ask(log: &KafkaLog, topic: &str, consumer: &mut Option<BaseConsumer<Context>>) -> Result<u64, String> {
    let consumer = match consumer {
        Some(consumer) => consumer,
        None => consumer.insert(log.consumer_client().map_err(|error| error.to_string())?),
    };
    match consumer.fetch_watermarks(topic, PARTITION, TIMEOUT) {
        Ok((_, end)) => Ok(end.unsigned_abs()),
        Err(error) => Err(error.to_string()),
    }
}
