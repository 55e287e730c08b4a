//! Appends the commands of many requests together: to open a connection to the log for each would take most of the time.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use edgefold::{Appended, Error, Log, NewCommand};
use tokio::sync::oneshot;
use tracing::error;

/// How many requests may wait, and how many bytes of commands.
const MOST_WAITING: usize = 1_000;
const MOST_WAITING_BYTES: usize = 64 << 20;
/// How many commands are appended together, unless one request has more.
const MOST_TOGETHER: usize = 10_000;

/// Where the outcome of a request goes.
type Reply = oneshot::Sender<Result<Vec<u64>, Error>>;

/// The commands of a request.
#[derive(Debug)]
struct Job {
    commands: Vec<NewCommand>,
    reply: Reply,
}

/// A thread that appends.
#[derive(Debug)]
pub(super) struct Appender {
    jobs: SyncSender<Job>,
    /// The bytes of the commands that wait.
    waiting: Arc<AtomicUsize>,
}

impl Appender {
    pub(super) fn start(log: Arc<dyn Log>) -> Self {
        let (jobs, received) = mpsc::sync_channel(MOST_WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let for_thread = Arc::clone(&waiting);
        // It ends with the process. Whoever waits for a command that has not been acknowledged then does not know what became of it.
        thread::spawn(move || run(&*log, &received, &for_thread));
        Self { jobs, waiting }
    }

    /// Appends `commands`, and sends the outcome to `reply`. Returns `false`, and appends nothing, if too many are waiting.
    pub(super) fn append(&self, commands: Vec<NewCommand>, reply: Reply) -> bool {
        let bytes = bytes(&commands);
        let is_full = self.waiting.fetch_add(bytes, Ordering::Relaxed) > MOST_WAITING_BYTES;
        let is_taken = !is_full && self.jobs.try_send(Job { commands, reply }).is_ok();
        if !is_taken {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_taken
    }
}

fn bytes(commands: &[NewCommand]) -> usize {
    commands.iter().map(|command| command.text.len()).sum()
}

fn run(log: &dyn Log, received: &Receiver<Job>, waiting: &AtomicUsize) {
    while let Ok(first) = received.recv() {
        let mut jobs = vec![first];
        let mut count = jobs[0].commands.len();
        while count < MOST_TOGETHER
            && let Ok(job) = received.try_recv()
        {
            count += job.commands.len();
            jobs.push(job);
        }
        let commands: Vec<NewCommand> = jobs.iter().flat_map(|job| &job.commands).cloned().collect();
        let append = || log.append(&commands);
        let outcome = panic::catch_unwind(AssertUnwindSafe(append)).unwrap_or_else(|_panic| {
            error!("appending has panicked, which is a bug");
            Err(Error::Unacknowledged("appending has panicked, which is a bug".to_owned()))
        });
        waiting.fetch_sub(bytes(&commands), Ordering::Relaxed);
        let lengths: Vec<usize> = jobs.iter().map(|job| job.commands.len()).collect();
        for (job, outcome) in jobs.into_iter().zip(shares(outcome, &lengths)) {
            // A client that has gone away does not hear it.
            let _heard = job.reply.send(outcome);
        }
    }
}

/// What came of each job, of these numbers of commands.
fn shares(outcome: Result<Vec<u64>, Error>, lengths: &[usize]) -> Vec<Result<Vec<u64>, Error>> {
    let (outcomes, why) = match outcome {
        Ok(offsets) => (offsets.into_iter().map(Appended::At).collect(), String::new()),
        Err(Error::Partly { outcomes, why }) => (outcomes, why),
        Err(error) if lengths.len() == 1 => return vec![Err(error)],
        Err(Error::Unacknowledged(why)) => (vec![Appended::Unknown; lengths.iter().sum()], why),
        Err(error) => (vec![Appended::Refused; lengths.iter().sum()], error.to_string()),
    };
    let mut rest = outcomes.as_slice();
    let share = |length: &usize| {
        let (mine, others) = rest.split_at((*length).min(rest.len()));
        rest = others;
        if mine.iter().all(|outcome| outcome.offset().is_some()) {
            return Ok(mine.iter().filter_map(|outcome| outcome.offset()).collect());
        }
        if mine.iter().all(|outcome| *outcome == Appended::Unknown) {
            return Err(Error::Unacknowledged(why.clone()));
        }
        Err(Error::Partly { outcomes: mine.to_vec(), why: why.clone() })
    };
    lengths.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_hears_what_became_of_its_own_commands() {
        let shares = |outcome| {
            let shares = shares(outcome, &[1, 2]).into_iter();
            shares.map(|share| share.map_err(|error| error.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(shares(Ok(vec![7, 8, 9])), [Ok(vec![7]), Ok(vec![8, 9])]);
        let partly = Error::Partly {
            outcomes: vec![Appended::At(7), Appended::At(8), Appended::Unknown],
            why: "timed out".to_owned(),
        };
        let outcome = shares(Err(partly));
        assert_eq!(outcome[0], Ok(vec![7]));
        assert!(outcome[1].as_ref().unwrap_err().contains("of 2 commands, 1 were appended"), "{outcome:?}");
        let unknown = shares(Err(Error::Unacknowledged("timed out".to_owned())));
        assert!(unknown.iter().all(|share| share.as_ref().unwrap_err().contains("may or may not")), "{unknown:?}");
        let refused = shares(Err(Error::Missing("there".to_owned())));
        assert!(refused.iter().all(|share| share.as_ref().unwrap_err().contains("there is no log")), "{refused:?}");
    }
}
