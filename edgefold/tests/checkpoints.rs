//! Replays and explanations from checkpoints against those from offset 0: over random logs, whatever happens to the checkpoints.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod memory_log;
#[allow(dead_code, reason = "only the random logs are needed")]
mod oracle;

use std::fs;
use std::path::{Path, PathBuf};

use edgefold::{
    Checkpoints, Edits, Error, Explanation, Fold, IpRange, Log, LogTime, MAX_NAMED_LISTS, Moment, NewCommand, Position,
    Record, SqliteLog, explain, replay,
};
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

use crate::memory_log::{MemoryLog, Offsets};
use crate::oracle::{Draw, draws, log};

/// Records between two checkpoints: as few as lets the random logs have many.
const EVERY: u64 = 3;
const ROOM: u64 = 1 << 20;

fn seconds(seconds: u64) -> LogTime {
    LogTime::from_millis(seconds * 1000).unwrap()
}

/// Which log is tested: one in a database, or one in memory with these offsets.
#[derive(Clone, Copy, Debug)]
enum World {
    Sqlite,
    Memory(Offsets),
}

impl World {
    const MEMORY: Self = Self::Memory(Offsets::WITHOUT_GAPS);
}

/// The database is slow.
fn worlds() -> impl Strategy<Value = World> {
    let memory = (1..4_u64).prop_map(|step| World::Memory(Offsets { first: 0, step }));
    prop_oneof![1 => Just(World::Sqlite), 9 => memory]
}

enum TestedLog {
    Sqlite(SqliteLog),
    Memory(MemoryLog),
}

/// A log in a folder of its own, which also has room for checkpoints.
struct Case {
    directory: TempDir,
    log: TestedLog,
}

impl Case {
    /// A log in memory, without gaps.
    fn new() -> Self {
        Self::of(World::MEMORY, &[])
    }

    fn of(world: World, draws: &[Draw]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = match world {
            World::Sqlite => TestedLog::Sqlite(SqliteLog::new(directory.path().join("log.db"))),
            World::Memory(offsets) => TestedLog::Memory(MemoryLog::new(offsets)),
        };
        let case = Self { directory, log };
        case.log().init().unwrap();
        case.append(draws);
        case
    }

    fn log(&self) -> &dyn Log {
        match &self.log {
            TestedLog::Sqlite(log) => log,
            TestedLog::Memory(log) => log,
        }
    }

    fn memory(&self) -> &MemoryLog {
        match &self.log {
            TestedLog::Sqlite(_) => panic!("a log in memory"),
            TestedLog::Memory(log) => log,
        }
    }

    /// Appends the commands that `draws` make. The log receives each some seconds after its time, or before.
    fn append(&self, draws: &[Draw]) {
        for (at, (record, _)) in log(draws).iter().enumerate() {
            let text = String::from_utf8(record.value.clone().unwrap()).unwrap();
            let time = record.time().unwrap();
            let later: i64 = [0, 7, -300, 30, 2, -12][at % 6];
            self.command(time, seconds((time.millis() / 1000).saturating_add_signed(later)), &text);
        }
    }

    fn command(&self, time: LogTime, received: LogTime, text: &str) {
        match &self.log {
            TestedLog::Memory(log) => log.receive(time, received, text),
            TestedLog::Sqlite(log) => {
                let offset = log.append(&[NewCommand { time, text: text.to_owned() }]).unwrap()[0];
                let connection = rusqlite::Connection::open(self.directory.path().join("log.db")).unwrap();
                let update = "UPDATE commands SET timestamp = ?1 WHERE offset = ?2";
                connection.execute(update, (received.millis(), offset)).unwrap();
            }
        }
    }

    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        edgefold::each_command(self.log(), |record| {
            records.push(record.clone());
            true
        })
        .unwrap();
        records
    }

    fn end(&self) -> u64 {
        replay(self.log(), Moment::Time(LogTime::LAST)).unwrap().position().next_offset
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("checkpoints")
    }

    fn in_folder(&self) -> Checkpoints {
        Checkpoints::in_folder(&self.folder()).with_limits(EVERY, ROOM)
    }

    /// The log is deleted, and is made anew with these commands. In memory, it gets these offsets.
    fn recreate(&self, offsets: Offsets, draws: &[Draw]) {
        match &self.log {
            TestedLog::Sqlite(log) => {
                for file in ["log.db", "log.db-wal", "log.db-shm"] {
                    let _missing = fs::remove_file(self.directory.path().join(file));
                }
                log.init().unwrap();
            }
            TestedLog::Memory(log) => log.recreate(offsets),
        }
        self.append(draws);
    }

    /// A moment of the log or a little after it, of which there are as many by offset as by time.
    fn moment(&self, index: usize) -> Moment {
        if index.is_multiple_of(2) {
            Moment::Offset(index as u64 / 2 % (self.end() + 2))
        } else {
            Moment::Time(seconds(990 + index as u64 / 2 % 300))
        }
    }

    fn assert_replays(&self, checkpoints: &Checkpoints, moment: Moment) {
        assert_same(&checkpoints.replay(self.log(), moment), &replay(self.log(), moment), moment);
    }

    fn assert_all_replays(&self, checkpoints: &Checkpoints) {
        (0..=self.end() + 1).for_each(|offset| self.assert_replays(checkpoints, Moment::Offset(offset)));
        (995..1_300).step_by(15).for_each(|at| self.assert_replays(checkpoints, Moment::Time(seconds(at))));
    }

    fn assert_explains(&self, checkpoints: &Checkpoints, range: IpRange, at: Option<LogTime>) {
        let now = seconds(1_400);
        let text = |explanation: Result<Explanation, Error>| {
            let Explanation { at, enforced, dated, late, late_dropped } = explanation.unwrap();
            let histories = [Some(enforced), dated].into_iter().flatten();
            let histories = histories.map(|history| {
                // The fold has only what is in the range, and its position only the log time.
                format!("{:?} {:?} {:?}", history.events(), history.fold(), history.decided_by(at))
            });
            (at, histories.collect::<Vec<_>>(), late, late_dropped)
        };
        let found = text(checkpoints.explain(self.log(), range, at, now));
        assert_eq!(found, text(explain(self.log(), range, at, now)), "{range} at {at:?}");
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.folder()) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn assert_same(found: &Result<Fold, Error>, expected: &Result<Fold, Error>, moment: Moment) {
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert!(found == expected, "{moment:?}: {found:?} and {expected:?}"),
        (Err(found), Err(expected)) => assert_eq!(found.to_string(), expected.to_string(), "{moment:?}"),
        _ => panic!("{moment:?}: {found:?} and {expected:?}"),
    }
}

/// Ranges in the space of the random logs, at the edges of both families.
fn range(window: Index, other: Index, at: u8) -> IpRange {
    let [one, other] = [window.index(6), other.index(6)].map(|window| oracle::address(window, at));
    let first_and_last = if one.is_ipv4() == other.is_ipv4() { (one.min(other), one.max(other)) } else { (one, one) };
    IpRange::new(first_and_last.0, first_and_last.1).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Accident {
    /// A new process.
    Restart,
    Damage(Index),
    Truncate(Index),
    Delete(Index),
    DeleteAll,
    Exchange(Index, Index),
    Clear,
}

fn accidents() -> impl Strategy<Value = Accident> {
    prop_oneof![
        Just(Accident::Restart),
        any::<Index>().prop_map(Accident::Damage),
        any::<Index>().prop_map(Accident::Truncate),
        any::<Index>().prop_map(Accident::Delete),
        Just(Accident::DeleteAll),
        any::<(Index, Index)>().prop_map(|(one, other)| Accident::Exchange(one, other)),
        Just(Accident::Clear),
    ]
}

impl Accident {
    fn happen(self, case: &Case, checkpoints: &mut Checkpoints) {
        let files = case.files();
        let file = |index: Index| (!files.is_empty()).then(|| files[index.index(files.len())].clone());
        let change = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = fs::read(path).unwrap();
            change(&mut bytes);
            fs::write(path, bytes).unwrap();
        };
        match self {
            Self::Restart => *checkpoints = case.in_folder(),
            Self::Damage(index) => {
                file(index).iter().for_each(|path| {
                    change(path, &|bytes| {
                        let at = index.index(bytes.len().max(1));
                        bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x41);
                    });
                });
            }
            Self::Truncate(index) => {
                file(index).iter().for_each(|path| change(path, &|bytes| bytes.truncate(index.index(bytes.len() + 1))));
            }
            Self::Delete(index) => file(index).iter().for_each(|path| fs::remove_file(path).unwrap()),
            Self::DeleteAll => _ = fs::remove_dir_all(case.folder()),
            Self::Exchange(one, other) => {
                if let (Some(one), Some(other)) = (file(one), file(other)) {
                    fs::copy(one, other).unwrap();
                }
            }
            Self::Clear => checkpoints.clear(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_moment_is_that_of_a_plain_replay(world in worlds(), draws in draws()) {
        let case = Case::of(world, &draws);
        for checkpoints in [Checkpoints::in_memory().with_limits(EVERY, ROOM), case.in_folder()] {
            case.assert_all_replays(&checkpoints);
            // The newest moment first, so that all others begin at a checkpoint.
            checkpoints.clear();
            checkpoints.replay(case.log(), Moment::Time(LogTime::LAST)).unwrap();
            prop_assert!(checkpoints.newest().is_some() || case.end() <= 2 * EVERY);
            case.assert_all_replays(&checkpoints);
        }
        case.assert_all_replays(&case.in_folder());
    }

    #[test]
    fn every_moment_is_right_with_room_for_a_few_folds(draws in draws(), room in 100..1_000_u64) {
        let case = Case::of(World::MEMORY, &draws);
        for checkpoints in [
            Checkpoints::in_memory().with_limits(1, room),
            Checkpoints::in_folder(&case.folder()).with_limits(1, room),
        ] {
            case.assert_all_replays(&checkpoints);
        }
        let folds = case.files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "fold"));
        let bytes: u64 = folds.map(|path| fs::metadata(path).unwrap().len()).sum();
        prop_assert!(bytes <= room, "{} bytes", bytes);
    }

    #[test]
    fn every_moment_is_right_whatever_happens_to_the_folder(
        world in worlds(),
        draws in draws(),
        more in draws(),
        steps in proptest::collection::vec((any::<usize>(), proptest::option::of(accidents())), 1..30),
    ) {
        let case = Case::of(world, &draws);
        // Two processes use the folder.
        let mut checkpoints = [case.in_folder(), case.in_folder()];
        for (at, (moment, accident)) in steps.iter().enumerate() {
            if at == 10 {
                case.append(&more);
            }
            let one = &mut checkpoints[at / 2 % 2];
            case.assert_replays(one, case.moment(*moment));
            // Whoever follows from there leaves no gap.
            let newest = one.newest();
            prop_assert!(newest.is_none_or(|fold| fold.position().next_offset <= one.timeline().next_offset));
            accident.iter().for_each(|accident| accident.happen(&case, one));
            // As many single addresses as wide ranges.
            let (window, address) = (moment % 6, u8::try_from(moment / 6 % 24).unwrap());
            let last = if moment.is_multiple_of(2) { address } else { 23 };
            let range = IpRange::new(oracle::address(window, address), oracle::address(window, last)).unwrap();
            case.assert_explains(one, range, moment.is_multiple_of(3).then(|| seconds(995 + *moment as u64 / 7 % 300)));
        }
        for checkpoints in &checkpoints {
            case.assert_all_replays(checkpoints);
            case.assert_explains(checkpoints, "0.0.0.0/28".parse().unwrap(), None);
        }
    }

    #[test]
    fn another_log_of_the_same_name_is_not_mixed_with_the_old_one(
        world in worlds(),
        draws in draws(),
        other in draws(),
        (first, step) in (0..2_u64, 1..4_u64),
        moments in proptest::collection::vec(any::<usize>(), 1..6),
        at in 0..24_u8,
    ) {
        let case = Case::of(world, &draws);
        let original = if let World::Memory(offsets) = world { offsets } else { Offsets::WITHOUT_GAPS };
        for checkpoints in [Checkpoints::in_memory().with_limits(EVERY, ROOM), case.in_folder()] {
            case.assert_all_replays(&checkpoints);
            let other = if moments[0].is_multiple_of(3) { &draws } else { &other };
            case.recreate(Offsets { first, step }, other);
            let range = IpRange::new(oracle::address(0, at), oracle::address(0, at)).unwrap();
            for &moment in &moments {
                case.assert_replays(&checkpoints, case.moment(moment));
                if moment.is_multiple_of(5) {
                    case.assert_explains(&checkpoints, range, None);
                }
            }
            case.assert_explains(&checkpoints, range, None);
            case.assert_all_replays(&checkpoints);
            case.recreate(original, &draws);
        }
    }

    #[test]
    fn every_explanation_is_that_of_all_commands(
        world in worlds(),
        draws in draws(),
        ranges in proptest::collection::vec((any::<Index>(), any::<Index>(), 0..24_u8), 1..8),
        times in proptest::collection::vec(proptest::option::of(995..1_200_u64), 1..6),
        is_read in any::<bool>(),
    ) {
        let case = Case::of(world, &draws);
        for checkpoints in [Checkpoints::in_memory().with_limits(EVERY, ROOM), case.in_folder()] {
            if is_read {
                checkpoints.replay(case.log(), Moment::Offset(case.end() / 2)).unwrap();
            }
            for &(window, other, address) in &ranges {
                for &at in &times {
                    case.assert_explains(&checkpoints, range(window, other, address), at.map(seconds));
                }
            }
        }
        let (window, other, address) = ranges[0];
        case.assert_explains(&case.in_folder(), range(window, other, address), times[0].map(seconds));
    }

    #[test]
    fn what_a_follower_tells_is_what_a_replay_learns(
        step in 1..4_u64,
        draws in draws(),
        batches in proptest::collection::vec(1..5_usize, 30),
        start in 0..3_usize,
        moment in any::<usize>(),
    ) {
        let case = Case::of(World::Memory(Offsets { first: 0, step }), &draws);
        let told = Checkpoints::in_memory().with_limits(EVERY, ROOM);
        if start > 0 {
            told.replay(case.log(), case.moment(moment)).ok();
        }
        let mut fold = if start == 2 { told.newest().unwrap_or_default() } else { Fold::default() };
        let mut records = case.records();
        records.retain(|record| record.offset >= fold.position().next_offset);
        let mut rest = records.as_slice();
        for size in batches {
            let (batch, after) = rest.split_at(size.min(rest.len()));
            let before = fold.position();
            batch.iter().for_each(|record| _ = fold.apply(record, &mut Edits::default()));
            told.note(before, batch, &fold);
            rest = after;
        }
        let read = Checkpoints::in_memory().with_limits(EVERY, ROOM);
        read.replay(case.log(), Moment::Time(LogTime::LAST)).unwrap();
        prop_assert_eq!(told.timeline(), read.timeline());
        case.assert_all_replays(&told);
        case.assert_explains(&told, "0.0.0.3".parse().unwrap(), None);
    }

    /// Some commands are rejected for creating one list too many, and lists come and go, so it matters which exist when.
    #[test]
    fn every_explanation_of_many_lists_is_that_of_all_commands(
        commands in proptest::collection::vec((0..20_u8, 0..70_u8, 0..3_u8, 0..4_u64), 70..200),
    ) {
        let case = Case::new();
        let mut time = 1_000;
        // Almost as many lists as there can be, and then others.
        let first = (0..60).map(|list| (0, list, 0, 0));
        for (kind, list, address, later) in first.chain(commands) {
            time += later;
            let text = match kind {
                0..15 => format!("ADD 10.0.0.{address} list=list-{list}"),
                15..17 => format!("ADD 10.0.0.{address} list=list-{list} ttl=5s"),
                17 => format!("UNLIST list-{list}"),
                18 => format!("REMOVE 10.0.0.{address} list=list-{list}"),
                _ => format!("ADD 192.0.2.{list}"),
            };
            case.command(seconds(time), seconds(time + u64::from(address)), &text);
        }
        let checkpoints = Checkpoints::in_memory().with_limits(EVERY, ROOM);
        for range in ["10.0.0.0", "10.0.0.2", "192.0.2.0/24"] {
            for at in [None, Some(seconds(1_000 + (time - 1_000) / 2))] {
                case.assert_explains(&checkpoints, range.parse().unwrap(), at);
            }
        }
    }
}

/// Records that a follower did not tell about must not be taken for read.
#[test]
fn a_gap_is_not_noted() {
    let case = Case::new();
    for at in 0..20 {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at}"));
    }
    let checkpoints = Checkpoints::in_memory().with_limits(EVERY, ROOM);
    let records = case.records();
    let mut fold = replay(case.log(), Moment::Offset(10)).unwrap();
    let before = fold.position();
    records[10..].iter().for_each(|record| fold.apply(record, &mut Edits::default()).unwrap());
    checkpoints.note(before, &records[10..], &fold);
    assert_eq!((checkpoints.timeline().next_offset, checkpoints.newest()), (0, None));
    case.assert_explains(&checkpoints, "10.0.0.3".parse().unwrap(), None);

    // Nor is a fold that is not the one after the records.
    checkpoints.clear();
    checkpoints.note(Position::default(), &records[..5], &fold);
    assert_eq!(checkpoints.timeline().next_offset, 0);
}

/// With a transaction for each command, every other offset is that of a marker.
fn with_markers(commands: u64) -> Case {
    let case = Case::of(World::Memory(Offsets { first: 0, step: 2 }), &[]);
    for at in 0..commands {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at}"));
    }
    case
}

/// No record is the last before a multiple of four.
#[test]
fn folds_are_kept_where_offsets_have_gaps() {
    let case = with_markers(20);
    let checkpoints = Checkpoints::in_memory().with_limits(4, ROOM);
    checkpoints.replay(case.log(), Moment::Offset(38)).unwrap();
    assert_eq!(checkpoints.newest().unwrap(), replay(case.log(), Moment::Offset(36)).unwrap());
}

/// A marker between two batches is not a gap.
#[test]
fn what_a_follower_tells_is_noted_where_offsets_have_gaps() {
    let case = with_markers(20);
    let checkpoints = Checkpoints::in_memory().with_limits(EVERY, ROOM);
    let mut fold = Fold::default();
    for batch in case.records().chunks(3) {
        let before = fold.position();
        batch.iter().for_each(|record| fold.apply(record, &mut Edits::default()).unwrap());
        checkpoints.note(before, batch, &fold);
    }
    assert_eq!(checkpoints.timeline().next_offset, 39);
}

/// The first commands of the new log are those of the old one, and it has none at the offset where the old one ended.
#[test]
fn a_new_log_with_a_gap_where_the_old_one_ended_is_noticed() {
    let case = Case::new();
    let append = |range: std::ops::Range<u64>, net: u64| {
        for at in range {
            case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.{net}.{at}"));
        }
    };
    append(0..10, 0);
    // There is no fold, which would prove that the log is another.
    let checkpoints = Checkpoints::in_memory().with_limits(100, ROOM);
    checkpoints.replay(case.log(), Moment::Time(LogTime::LAST)).unwrap();
    assert_eq!((checkpoints.timeline().next_offset, checkpoints.newest()), (10, None));
    case.memory().recreate(Offsets::WITHOUT_GAPS);
    append(0..4, 0);
    // Offsets 8, 13 and so on: the last one of the old log was 9.
    case.memory().set_step(5);
    append(4..10, 1);
    case.assert_replays(&checkpoints, Moment::Time(LogTime::LAST));
    assert_eq!(checkpoints.timeline().next_offset, 0, "the old log is forgotten");
    case.assert_explains(&checkpoints, "10.0.1.4/30".parse().unwrap(), None);
}

/// A rejected command does not move log time, so it depends on all lists what an explanation has to say.
#[test]
fn a_log_with_too_many_lists_is_explained_exactly() {
    let case = Case::new();
    for at in 0..MAX_NAMED_LISTS {
        case.command(seconds(1_000), seconds(1_000), &format!("ADD 192.0.2.1 list=list-{at}"));
    }
    case.command(seconds(1_005), seconds(1_001), "ADD 192.0.2.1 list=more");
    case.command(seconds(1_002), seconds(1_002), "BLACKLIST 10.0.0.1 ttl=2s");
    case.command(seconds(1_003), seconds(1_003), "ADD 10.0.0.1 list=more");
    let checkpoints = case.in_folder();
    for at in [None, Some(1_001), Some(1_002), Some(1_004), Some(1_005)] {
        case.assert_explains(&checkpoints, "10.0.0.1".parse().unwrap(), at.map(seconds));
        case.assert_explains(&checkpoints, "192.0.2.1".parse().unwrap(), at.map(seconds));
    }
    case.assert_all_replays(&checkpoints);
}

/// A list that skipped commands may have created is too many for the history to know about, whatever comes after them.
#[test]
fn too_many_lists_are_not_forgotten() {
    let case = Case::new();
    let command = |text: &str| case.command(seconds(1_000), seconds(1_000), text);
    (0..MAX_NAMED_LISTS).for_each(|at| command(&format!("ADD 192.0.2.1 list=list-{at}")));
    // These two are skipped with the one before them.
    command("ADD 192.0.2.1 list=more");
    command("ADD 192.0.2.1");
    command("ADD 10.0.0.1 list=more");
    case.assert_explains(&case.in_folder(), "10.0.0.1".parse().unwrap(), None);
}

/// A case whose commands are `(time, received, command)`, of which three at a time are a segment.
fn timed(commands: &[(u64, u64, &str)]) -> Case {
    let case = Case::new();
    commands.iter().for_each(|&(time, received, text)| case.command(seconds(time), seconds(received), text));
    case
}

impl Case {
    /// Explains 10.0.0.1 now and at all moments.
    fn assert_explains_at_all_moments(&self) {
        let checkpoints = self.in_folder();
        for at in [None].into_iter().chain((995..1_060).map(Some)) {
            self.assert_explains(&checkpoints, "10.0.0.1".parse().unwrap(), at.map(seconds));
        }
    }
}

const OTHER: &str = "BLACKLIST 192.0.2.1";

/// The log received a command about other addresses after the moment, and then one that it seems to have received before it.
#[test]
fn what_was_enforced_ends_in_a_segment_about_other_addresses() {
    let case = timed(&[
        (1_000, 1_000, OTHER),
        (1_001, 1_040, OTHER),
        (1_002, 1_002, OTHER),
        (1_003, 1_003, "BLACKLIST 10.0.0.1"),
        (1_004, 1_004, OTHER),
        (1_005, 1_005, OTHER),
    ]);
    case.assert_explains_at_all_moments();
}

/// A block has ended by the time of a command about other addresses, and then comes one that states an earlier time.
#[test]
fn a_segment_about_other_addresses_ends_blocks() {
    let case = timed(&[
        (1_000, 1_000, "BLACKLIST 10.0.0.1 ttl=10s"),
        (1_000, 1_000, OTHER),
        (1_000, 1_000, OTHER),
        (1_020, 1_020, OTHER),
        (1_020, 1_020, OTHER),
        (1_020, 1_020, OTHER),
        (1_002, 1_021, "BLACKLIST 10.0.0.1 ttl=20s"),
        (1_002, 1_021, "BLACKLIST 10.0.0.1 ttl=30s"),
        (1_022, 1_022, OTHER),
    ]);
    case.assert_explains_at_all_moments();
}

/// A command that states a time before the moment comes when both what was enforced and what is dated is over.
#[test]
fn what_came_late_is_found_after_everything_else_is_over() {
    let case = timed(&[
        (1_000, 1_000, "BLACKLIST 10.0.0.1"),
        (1_040, 1_040, OTHER),
        (1_041, 1_041, OTHER),
        (1_045, 1_045, OTHER),
        (1_010, 1_046, "WHITELIST 10.0.0.1"),
        (1_048, 1_048, OTHER),
        (1_050, 1_050, "BLACKLIST 10.0.0.1"),
    ]);
    case.assert_explains_at_all_moments();
}

/// As if a process had written folds of the new log beside segments of the old one, which end at the same offset.
#[test]
fn folds_and_segments_of_two_logs_are_not_mixed() {
    let commands: Vec<(u64, u64, String)> =
        (0..12).map(|at| (1_000 + at, 1_000 + at, format!("BLACKLIST 10.0.0.{at}"))).collect();
    let borrowed: Vec<_> = commands.iter().map(|(time, received, text)| (*time, *received, text.as_str())).collect();
    let mut other = borrowed.clone();
    (other[4].2, other[8].2) = ("BLACKLIST 203.0.113.1", "BLACKLIST 203.0.113.2");
    let (old, new) = (timed(&borrowed[..9]), timed(&other));
    old.in_folder().replay(old.log(), Moment::Offset(9)).unwrap();
    new.in_folder().replay(new.log(), Moment::Offset(9)).unwrap();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "segment");
    for path in old.files().into_iter().filter(is_segment) {
        fs::copy(&path, new.folder().join(path.file_name().unwrap())).unwrap();
    }
    let checkpoints = new.in_folder();
    assert_eq!(checkpoints.timeline().next_offset, 9);
    new.assert_replays(&checkpoints, Moment::Offset(12));
    new.assert_explains(&checkpoints, "203.0.113.0/24".parse().unwrap(), None);
}

/// What is not about the range is not read.
#[test]
fn an_explanation_reads_only_what_is_about_the_range() {
    let case = Case::new();
    for at in 0..99 {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at} list=feed"));
    }
    let checkpoints = case.in_folder();
    checkpoints.replay(case.log(), Moment::Offset(99)).unwrap();
    // Whoever reads these records sees other commands.
    case.memory().rewrite("BLACKLIST 0.0.0.0/0", |offset| offset.is_multiple_of(3));
    let range = "10.0.0.49".parse().unwrap();
    for at in [None, Some(seconds(1_098))] {
        let explained = checkpoints.explain(case.log(), range, at, seconds(2_000)).unwrap();
        assert_eq!(explained.enforced.events().len(), 2, "of the segment from offset 48 on, the first two");
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_done_without() {
    let case = Case::new();
    for at in 0..20 {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at}"));
    }
    fs::write(case.folder(), "a file").unwrap();
    let checkpoints = case.in_folder();
    case.assert_all_replays(&checkpoints);
    assert_eq!(checkpoints.newest().unwrap().position().next_offset, 18, "they are in memory");
    assert_eq!(fs::read(case.folder()).unwrap(), b"a file");
}

#[test]
fn the_folder_is_only_for_its_owner_and_keeps_other_files() {
    use std::os::unix::fs::PermissionsExt;

    let case = Case::new();
    for at in 0..20 {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at}"));
    }
    let checkpoints = case.in_folder();
    assert!(checkpoints.newest().is_none() && !case.folder().exists(), "nothing is written before there is something");
    checkpoints.replay(case.log(), Moment::Offset(20)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&case.folder()), 0o700);
    assert!(case.files().iter().all(|path| mode(path) == 0o600));
    let mine = ["notes.tmp", "notes.txt", "of-gold.fold", "of-history.segment"].map(|name| case.folder().join(name));
    let is_old = std::time::SystemTime::UNIX_EPOCH;
    mine.iter().for_each(|path| fs::File::create(path).unwrap().set_modified(is_old).unwrap());
    case.assert_all_replays(&case.in_folder());
    checkpoints.clear();
    assert_eq!(case.files(), mine);
}

/// What is missing there is read again, although there are folds of later moments.
#[test]
fn a_lost_segment_is_made_up_for() {
    let case = Case::new();
    for at in 0..30 {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at}"));
    }
    case.in_folder().replay(case.log(), Moment::Offset(30)).unwrap();
    let before = case.files();
    let segments = || case.files().into_iter().filter(|path| path.extension().is_some_and(|of| of == "segment"));
    fs::remove_file(segments().nth(3).unwrap()).unwrap();
    let checkpoints = case.in_folder();
    assert_eq!((checkpoints.timeline().next_offset, checkpoints.newest().unwrap().position().next_offset), (9, 9));
    // This begins after the gap, and reads what comes after it.
    case.assert_replays(&checkpoints, Moment::Offset(29));
    assert_eq!(checkpoints.timeline().next_offset, 9);
    case.assert_explains(&checkpoints, "10.0.0.10".parse().unwrap(), None);
    assert_eq!((case.files(), case.in_folder().timeline().next_offset), (before, 30));
}

/// The name of a file is no proof of what is in it.
#[test]
fn a_file_under_the_name_of_another_is_not_believed() {
    let case = Case::new();
    for at in 0..12 {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at}"));
    }
    case.in_folder().replay(case.log(), Moment::Offset(12)).unwrap();
    let files: Vec<(PathBuf, Vec<u8>)> =
        case.files().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for (one, _) in &files {
        for (_, bytes) in &files {
            files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            fs::write(one, bytes).unwrap();
            (0..=12).for_each(|offset| case.assert_replays(&case.in_folder(), Moment::Offset(offset)));
            files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            fs::write(one, bytes).unwrap();
            for at in 0..12 {
                case.assert_explains(&case.in_folder(), format!("10.0.0.{at}").parse().unwrap(), None);
                fs::write(one, bytes).unwrap();
            }
        }
    }
}

/// A process that starts anew begins where the last one was.
#[test]
fn a_replay_begins_at_the_last_checkpoint() {
    let case = Case::new();
    for at in 0..100 {
        case.command(seconds(1_000 + at), seconds(1_000 + at), &format!("BLACKLIST 10.0.0.{at}"));
    }
    case.in_folder().replay(case.log(), Moment::Offset(100)).unwrap();
    let newest = case.in_folder().newest().unwrap();
    assert_eq!(newest, replay(case.log(), Moment::Offset(99)).unwrap());
    // Whoever reads these records sees other commands.
    case.memory().rewrite("BLACKLIST 0.0.0.0/0", |offset| offset < 98);
    let fold = case.in_folder().replay(case.log(), Moment::Offset(100)).unwrap();
    assert_eq!(fold.default_list().len(), 1, "10.0.0.0 to 10.0.0.99");
    let timeline = case.in_folder().timeline();
    assert_eq!((timeline.next_offset, timeline.buckets.iter().map(|(_, commands)| commands).sum::<u64>()), (99, 99));
}
