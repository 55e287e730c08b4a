//! The time machine against the oracle: at every offset and every time of random logs, with blocks that end.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod oracle;

use edgefold::{Log, LogTime, MAX_NAMED_LISTS, Moment, NewCommand, Record, SqliteLog, replay};
use proptest::prelude::*;

use crate::oracle::{Oracle, draws, log};

fn seconds(seconds: u64) -> LogTime {
    LogTime::from_millis(seconds * 1000).unwrap()
}

fn command(record: &Record) -> NewCommand {
    NewCommand { time: record.time().unwrap(), text: String::from_utf8(record.value.clone().unwrap()).unwrap() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_replay_to_any_moment_is_the_state_of_that_moment(draws in draws()) {
        let directory = tempfile::tempdir().unwrap();
        let sqlite = SqliteLog::new(directory.path().join("log.db"));
        sqlite.init().unwrap();
        let (records, meanings): (Vec<_>, Vec<_>) = log(&draws).into_iter().unzip();
        let commands: Vec<NewCommand> = records.iter().map(command).collect();
        sqlite.append(&commands).unwrap();

        let mut oracle = Oracle::new();
        for (next_offset, meaning) in (0..).zip(meanings.iter().copied().chain([None])) {
            let fold = replay(&sqlite, Moment::Offset(next_offset)).unwrap();
            prop_assert_eq!(fold.position().next_offset, next_offset);
            prop_assert_eq!(fold.position().log_time, seconds(oracle.log_time));
            oracle.assert_agrees(&fold);
            meaning.into_iter().for_each(|meaning| oracle.apply(meaning));
        }
        prop_assert!(replay(&sqlite, Moment::Offset(meanings.len() as u64 + 1)).is_err());

        // Every third second from before the first command to after the last block has ended.
        let last = meanings.iter().flatten().map(|meaning| meaning.time).max().unwrap_or(1000);
        for at in (999..last + 45).step_by(3) {
            let mut oracle = Oracle::new();
            let until_then = meanings.iter().flatten().take_while(|meaning| meaning.time <= at);
            until_then.for_each(|&meaning| oracle.apply(meaning));
            let fold = replay(&sqlite, Moment::Time(seconds(at))).unwrap();
            prop_assert!(fold.position().log_time <= seconds(at));
            oracle.assert_agrees_at(&fold, at);
        }
    }
}

/// Found by a review: a rejected record does not move log time, and so must not end the replay to a time before its own.
#[test]
fn a_record_that_creates_one_list_too_many_does_not_end_a_replay() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteLog::new(directory.path().join("log.db"));
    sqlite.init().unwrap();
    let mut commands: Vec<NewCommand> = (0..MAX_NAMED_LISTS)
        .map(|at| NewCommand { time: seconds(1_000), text: format!("LIST list-{at} action=tag") })
        .collect();
    commands.push(NewCommand { time: seconds(1_060), text: "ADD 10.0.0.2 list=more".to_owned() });
    commands.push(NewCommand { time: seconds(1_030), text: "BLACKLIST 10.0.0.1".to_owned() });
    sqlite.append(&commands).unwrap();
    let fold = replay(&sqlite, Moment::Time(seconds(1_040))).unwrap();
    assert_eq!(fold.position().next_offset, 66);
    assert!(fold.verdict("10.0.0.1".parse().unwrap(), seconds(1_040)).denied().is_some());
}
