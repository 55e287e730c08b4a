//! Many standbys, and a writer that dies.

use std::time::{Duration, Instant};

use edgefold::LogTime;
use edgefold::view::read_view;
use edgefold_snapshotter::keeper::{Keeper, MOST_JITTER, Role};
use fastrand::Rng;

use crate::topics::{Memory, Transaction, command};

const STANDBYS: usize = 200;
/// How often a keeper looks.
const POLL: u64 = 100;
/// How long it takes a writer to read a large view before it writes.
const READING: u64 = 3_000;

/// How many keepers fence each other after one death until one of them has written. Time is in milliseconds.
fn takeovers(seed: u64) -> u32 {
    let mut random = Rng::with_seed(seed);
    let start = Instant::now();
    let memory = Memory::new(random.fork(), 0, start);
    let mut keepers: Vec<(Keeper, u64)> =
        (0..STANDBYS).map(|_| (Keeper::new(start, MOST_JITTER.mul_f64(random.f64())), random.u64(..POLL))).collect();
    let log = memory.process();
    let append = |random: &mut Rng| {
        let mut topics = log.topics();
        let record = command(random, topics.end(), LogTime::from_millis(1_000_000_000_000).unwrap());
        topics.commands.push(record);
        topics.end()
    };
    let mut time = 0;
    let mut settle = |keepers: &mut Vec<(Keeper, u64)>, end: u64| {
        while log.topics().view_offset() < end {
            time += 1;
            assert!(time < 600_000, "nobody writes");
            for (keeper, due) in keepers.iter_mut().filter(|(_, due)| *due <= time) {
                let before = keeper.role();
                keeper.step(&log, end, start + Duration::from_millis(time), Duration::ZERO);
                let became_writer = before == Role::TakingOver && keeper.role() == Role::Writer;
                *due = time + if became_writer { READING } else { POLL };
            }
        }
    };
    let end = append(&mut random);
    settle(&mut keepers, end);
    let before = log.topics().met.takeovers;
    keepers.retain(|(keeper, _)| keeper.role() != Role::Writer);
    assert!(keepers.len() < STANDBYS, "a writer died");
    let end = append(&mut random);
    settle(&mut keepers, end);
    log.topics().met.takeovers - before
}

/// Each takeover is an `init_transactions`. Without looking for the marker of another takeover, all of them would take their turn
/// while the first one still reads the view.
#[test]
#[allow(clippy::print_stdout, reason = "the figure is in the documentation")]
fn one_death_costs_a_few_takeovers_even_with_many_standbys() {
    let mut counts: Vec<u32> = (0..20).map(takeovers).collect();
    counts.sort_unstable();
    println!("takeovers after one death among {STANDBYS} standbys: {counts:?}");
    assert!(counts.iter().all(|count| (1..40).contains(count)), "{counts:?}");
}

/// Found by a review: a standby read such a view again at each commit, and so never rebuilt it while the writer was busy.
#[test]
fn a_standby_rebuilds_a_view_that_its_busy_writer_does_not_know_to_be_unusable() {
    let mut random = Rng::with_seed(0);
    let start = Instant::now();
    let memory = Memory::new(random.fork(), 0, start);
    let log = memory.process();
    let mut writer = Keeper::new(start, Duration::ZERO);
    let mut standby: Option<Keeper> = None;
    let mut views_opened = 0;
    for step in 0.. {
        assert!(step < 300, "in 30 seconds nobody has rebuilt the view");
        let now = start + Duration::from_millis(step * POLL);
        let end = {
            let mut topics = log.topics();
            let record = command(&mut random, topics.end(), LogTime::from_millis(1_000_000_000_000).unwrap());
            topics.commands.push(record);
            topics.end()
        };
        writer.step(&log, end, now, Duration::ZERO);
        match &mut standby {
            None if writer.role() == Role::Writer => {
                log.topics().add((b"hello".to_vec(), Some("world".to_owned())), Transaction::Committed);
                views_opened = log.topics().views_opened;
                standby = Some(Keeper::new(now, Duration::ZERO));
            }
            None => {}
            Some(standby) => standby.step(&log, end, now, Duration::ZERO),
        }
        if standby.as_ref().is_some_and(|standby| standby.role() == Role::Writer) {
            break;
        }
    }
    read_view(&log).unwrap();
    // When it starts, once more before it takes over, to fold what is there then, and to rewrite it.
    let views_opened = log.topics().views_opened - views_opened;
    assert!(views_opened <= 5, "the view was read {views_opened} times");
}
