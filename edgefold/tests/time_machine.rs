//! The time machine against the oracle: at every offset and every time of random logs, with blocks that end.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod oracle;

use edgefold::{Log, LogTime, Moment, NewCommand, Record, SqliteLog, replay};
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
