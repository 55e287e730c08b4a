//! The time machine against the oracle: at every offset and every time of random logs, with blocks that end.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod oracle;

use edgefold::load::{Moment, replay};
use edgefold::log::sqlite::SqliteLog;
use edgefold::log::{Log, NewCommand};
use edgefold::snapshot::generation;
use edgefold::time::LogTime;
use proptest::prelude::*;

use crate::oracle::{Oracle, commands, log};

fn seconds(seconds: u64) -> LogTime {
    LogTime::from_millis(seconds * 1000).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_moment_is_as_it_was(commands in commands()) {
        let directory = tempfile::tempdir().unwrap();
        let sqlite = SqliteLog::new(directory.path().join("log.db"));
        sqlite.init().unwrap();
        let log = log(&commands);
        let appended: Vec<NewCommand> = log
            .iter()
            .map(|(record, _)| NewCommand { time: record.time().unwrap(), text: text(record.value.as_deref()) })
            .collect();
        sqlite.append(&appended).unwrap();

        let mut oracle = Oracle::new();
        for (next_offset, effect) in (0..).zip(log.iter().map(|(_, effect)| *effect).chain([None])) {
            let fold = replay(&sqlite, Moment::Offset(next_offset)).unwrap();
            prop_assert_eq!(fold.position().next_offset, next_offset);
            prop_assert_eq!(fold.position().log_time, seconds(oracle.log_time));
            oracle.assert_agrees(&fold);
            prop_assert_eq!(generation(&fold, fold.position().log_time).next_offset, next_offset);
            effect.into_iter().for_each(|effect| oracle.apply(effect));
        }
        prop_assert!(replay(&sqlite, Moment::Offset(log.len() as u64 + 1)).is_err());

        // Each second from before the first command to after the last block has ended.
        let last = log.iter().filter_map(|(_, effect)| Some(effect.as_ref()?.2)).max().unwrap_or(1000);
        for at in (999..last + 45).step_by(3) {
            let mut oracle = Oracle::new();
            let before = |effect: &&oracle::Effect| effect.2 <= at;
            let effects: Vec<_> = log.iter().filter_map(|(_, effect)| effect.as_ref()).collect();
            effects.iter().copied().take_while(before).for_each(|effect| oracle.apply(*effect));
            let fold = replay(&sqlite, Moment::Time(seconds(at))).unwrap();
            prop_assert!(fold.position().log_time <= seconds(at));
            oracle.assert_agrees_at(&fold, at);
        }
    }
}

fn text(value: Option<&[u8]>) -> String {
    String::from_utf8(value.unwrap().to_vec()).unwrap()
}
