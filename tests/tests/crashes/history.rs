//! The commands that a test sends to the log, and what is known about each: it was appended, refused, or one of the
//! two.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edgefold::{Error, Log, LogTime, NewCommand, each_command, view::read_view};
use edgefold_tests::{eventually, seed};
use fastrand::Rng;

use crate::log::open;

/// How many threads append at once.
const DETECTORS: usize = 4;
/// The number of addresses in each family that commands are about. There are few, so that ranges split and join.
pub(crate) const ADDRESSES: usize = 100;

/// The address with this index: the IPv4 addresses come first, and then the IPv6 addresses.
pub(crate) fn address(index: usize) -> String {
    let low = u32::try_from(index % ADDRESSES).unwrap();
    match index / ADDRESSES {
        0 => Ipv4Addr::from_bits(0x0a00_0000 | low).to_string(),
        _ => Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(low)).to_string(),
    }
}

/// Random commands that were sent to the log, in the order in which they were drawn.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) seed: u64,
    random: Rng,
    pub(crate) sent: Vec<Sent>,
}

/// A command that was sent.
pub(crate) struct Sent {
    pub(crate) time: LogTime,
    /// It ends with the index in the history, so that no two are the same.
    pub(crate) text: String,
    /// `None`: the command is invalid.
    pub(crate) meaning: Option<Meaning>,
    pub(crate) fate: Fate,
}

/// What a valid command does.
pub(crate) struct Meaning {
    /// The index of the list in [`LISTS`].
    pub(crate) list: usize,
    /// The indexes of the addresses.
    pub(crate) range: RangeInclusive<usize>,
    pub(crate) verb: Verb,
}

#[derive(Clone, Copy)]
pub(crate) enum Verb {
    Whitelist,
    WhitelistEverywhere,
    Blacklist,
    BlacklistFor(Duration),
    /// Says that the list does one of [`ACTIONS`].
    List(&'static str),
    Unlist,
}

/// The lists of the commands. The first is the default list.
pub(crate) const LISTS: [&str; 3] = ["default", "feed", "monitoring"];
/// What they may do, as edgefold writes it.
const ACTIONS: [&str; 3] = ["action=exempt", "action=tag", "action=deny share=25%"];

/// What is known about a command that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It is in the log at this offset.
    Appended(u64),
    /// It may be in the log.
    Unknown,
    /// It is not in the log.
    Refused,
}

impl History {
    /// An empty history. Its seed is printed.
    pub(crate) fn new() -> Self {
        let seed = seed();
        Self { seed, random: Rng::with_seed(seed), sent: Vec::new() }
    }

    fn draw(&mut self) -> Sent {
        let Self { random, sent, .. } = self;
        let number = sent.len() as u64;
        // In the past: a command from the future would be rejected. By the clock, all blocks that end have ended long ago, and
        // are not shipped; in the view they end by log time. That moves one second per command, and sometimes back.
        let start = LogTime::parse("2016-01-01T00:00:00Z").unwrap();
        let time = start.checked_add(Duration::from_secs(number + 1 - random.u64(0..=number.min(5)))).unwrap();
        let family = random.choice([0, ADDRESSES]).unwrap();
        let first = random.usize(0..ADDRESSES);
        let most = 1 << random.u32(0..6);
        let last = (first + random.usize(0..most)).min(ADDRESSES - 1);
        let range = family + first..=family + last;
        let addresses = format!("{}-{}", address(*range.start()), address(*range.end()));
        let ttl = random.u64(1..120);
        let list = if random.bool() { 0 } else { random.usize(1..LISTS.len()) };
        let name = LISTS[list];
        let of_list = if list == 0 { String::new() } else { format!(" list={name}") };
        let (text, verb) = match random.u8(0..20) {
            0..=1 => ("BLACKLIST 10.0.0.300".to_owned(), None),
            2..=6 => (format!("WHITELIST {addresses}{of_list}"), Some(Verb::Whitelist)),
            7 => (format!("WHITELIST {addresses} list=*"), Some(Verb::WhitelistEverywhere)),
            8..=13 => (format!("BLACKLIST {addresses}{of_list}"), Some(Verb::Blacklist)),
            14 => {
                let action = random.choice(ACTIONS).unwrap();
                (format!("LIST {name} {action}"), Some(Verb::List(action)))
            }
            15 if list > 0 => (format!("UNLIST {name}"), Some(Verb::Unlist)),
            _ => {
                let verb = Verb::BlacklistFor(Duration::from_secs(ttl));
                (format!("BLACKLIST {addresses} ttl={ttl}s{of_list}"), Some(verb))
            }
        };
        let text = format!("{text} reason={number}");
        Sent { time, text, meaning: verb.map(|verb| Meaning { list, range, verb }), fate: Fate::Unknown }
    }

    /// Draws commands. Returns the index of the first, and the commands.
    fn draw_some(&mut self, count: usize) -> (usize, Vec<NewCommand>) {
        let from = self.sent.len();
        for _ in 0..count {
            let sent = self.draw();
            self.sent.push(sent);
        }
        let command = |sent: &Sent| NewCommand { time: sent.time, text: sent.text.clone() };
        (from, self.sent[from..].iter().map(command).collect())
    }

    /// Records what appending the commands from index `from` on returned.
    fn record(&mut self, from: usize, count: usize, outcome: &Result<Vec<u64>, Error>) {
        let sent = &mut self.sent[from..from + count];
        match outcome {
            Ok(offsets) => {
                assert_eq!(offsets.len(), count);
                sent.iter_mut().zip(offsets).for_each(|(sent, &offset)| sent.fate = Fate::Appended(offset));
            }
            Err(Error::Unacknowledged(_) | Error::Partly { .. }) => {}
            Err(_) => sent.iter_mut().for_each(|sent| sent.fate = Fate::Refused),
        }
    }

    /// Appends more commands at once.
    pub(crate) fn append(&mut self, log: &dyn Log, count: usize) {
        let (from, commands) = self.draw_some(count);
        self.record(from, count, &log.append(&commands));
    }

    /// Appends more commands in the background, a few at a time, as several detectors would.
    pub(crate) fn keep_appending(self, url: &str) -> Appending {
        let history = Arc::new(Mutex::new(self));
        let (stop, end) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let detector = || {
            let (log, history, stop, end) = (open(url), Arc::clone(&history), Arc::clone(&stop), Arc::clone(&end));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (count, (from, commands)) = {
                        let mut history = history.lock().unwrap();
                        let count = history.random.usize(1..=10);
                        (count, history.draw_some(count))
                    };
                    let outcome = log.append(&commands);
                    history.lock().unwrap().record(from, count, &outcome);
                    if let Some(last) = outcome.ok().and_then(|offsets| offsets.into_iter().max()) {
                        end.fetch_max(last + 1, Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_millis(100)); // The pace of the stream.
                }
            })
        };
        let detectors = (0..DETECTORS).map(|_| detector()).collect();
        Appending { history, stop, end, detectors }
    }

    /// Reads the log, and returns its commands in order. Asserts that every acknowledged command is there, at its
    /// offset, and that nothing is there twice.
    pub(crate) fn in_the_log(&self, url: &str) -> Vec<&Sent> {
        let mut commands = Vec::new();
        let mut offsets = vec![None; self.sent.len()];
        each_command(&*open(url), |record| {
            assert_eq!(record.offset, commands.len() as u64, "offsets have no gaps");
            let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
            let (key, value) = (text(&record.key), text(&record.value));
            let index: usize = value.rsplit_once("reason=").expect("a command of this test").1.parse().unwrap();
            let sent = &self.sent[index];
            assert_eq!((key, &value), (sent.time.to_string(), &sent.text));
            assert_eq!(offsets[index].replace(record.offset), None, "{value} is in the log twice");
            commands.push(sent);
            true
        })
        .unwrap();
        for (sent, offset) in self.sent.iter().zip(offsets) {
            match sent.fate {
                Fate::Appended(acknowledged) => {
                    assert_eq!(offset, Some(acknowledged), "{} was acknowledged", sent.text);
                }
                Fate::Refused => assert_eq!(offset, None, "{} was refused", sent.text),
                Fate::Unknown => {}
            }
        }
        commands
    }

    /// Waits until the view has all commands.
    pub(crate) fn await_view(&self, url: &str) {
        let (log, end) = (open(url), self.in_the_log(url).len() as u64);
        eventually("the view of all commands", || {
            (read_view(&*log).unwrap().position().next_offset == end).then_some(())
        });
    }
}

/// A history that is being appended to.
pub(crate) struct Appending {
    history: Arc<Mutex<History>>,
    stop: Arc<AtomicBool>,
    /// The offset after the last acknowledged command.
    end: Arc<AtomicU64>,
    detectors: Vec<JoinHandle<()>>,
}

impl Appending {
    /// The offset after the last command that was acknowledged so far.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Stops appending, and returns the history.
    pub(crate) fn stop(mut self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        self.detectors.drain(..).for_each(|detector| detector.join().unwrap());
        std::mem::take(&mut *self.history.lock().unwrap())
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
