//! What a history says each command did, against the full fold before and after it; and explanations of earlier moments.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

#[allow(dead_code, reason = "only the random logs are needed")]
mod oracle;

use std::net::IpAddr;

use edgefold::{
    Cause, Edits, Event, Fold, History, ListName, LogTime, LogUrl, MAX_NAMED_LISTS, NewCommand, Record, Until, Verdict,
    What, explain,
};
use proptest::prelude::*;

use crate::oracle::{draws, log};

/// Until when `ip` is on each list.
fn ends(fold: &Fold, ip: IpAddr) -> Vec<(ListName, Until)> {
    let time = fold.position().log_time;
    fold.lists().iter().filter_map(|list| Some((list.name(), list.find(ip, time)?.until))).collect()
}

/// What a verdict says, and by which lists. Its ranges are cut to the address in a history.
fn names(verdict: Verdict) -> (&'static str, Vec<ListName>) {
    match verdict {
        Verdict::Pass => ("pass", vec![]),
        Verdict::Exempt(by) => ("exempt", vec![by.list]),
        Verdict::Deny(by) => ("deny", vec![by.list]),
        Verdict::Mark { shadow, tag } => ("mark", shadow.iter().chain(&tag).map(|on| on.list).collect()),
    }
}

fn end(ends: &[(ListName, Until)], list: ListName) -> Option<Until> {
    ends.iter().find(|(name, _)| *name == list).map(|(_, until)| *until)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_history_says_what_each_command_did(draws in draws(), window in 0..6_usize, at in 0..24_u8) {
        let ip = oracle::address(window, at);
        let range = edgefold::IpRange::new(ip, ip).unwrap();
        let (mut fold, mut history, mut exact) = (Fold::default(), History::new(range), History::exact(range));
        for (record, _) in log(&draws) {
            let before = ends(&fold, ip);
            let seen = history.events().len();
            let applied = fold.apply(&record, &mut Edits::default());
            if let Ok(effect) = record.effect() {
                history.apply(&record, &effect).unwrap();
                exact.apply(&record, &effect).unwrap();
            }
            prop_assert_eq!(history.events(), exact.events());
            let (time, after) = (fold.position().log_time, ends(&fold, ip));
            prop_assert_eq!(ends(history.fold(), ip), after.clone());
            prop_assert_eq!(history.verdict(time).map(names), Some(names(fold.verdict(ip, time))));
            prop_assert!(applied.is_ok() || history.events().len() == seen);
            // The end that each list had just before the command.
            let mut had = before.clone();
            for event in &history.events()[seen..] {
                for effect in &event.effects {
                    prop_assert!(effect.is_whole);
                    let (was, is) = (end(&had, effect.list), end(&after, effect.list));
                    match (&event.cause, effect.what) {
                        (Cause::End(ended), What::Ended) => {
                            prop_assert_eq!(was, Some(Until::from(*ended)));
                            had.retain(|(list, _)| *list != effect.list);
                        }
                        (Cause::Command(_), What::Put) => prop_assert!(was.is_none() && is.is_some()),
                        (Cause::Command(_), What::Extended) => prop_assert!(was.is_some() && is > was),
                        (Cause::Command(_), What::Taken) => prop_assert!(was.is_some() && is.is_none()),
                        (Cause::Command(_), What::Nothing | What::Does) => prop_assert_eq!(was, is),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            // Whatever changed has an event.
            let changed = |list: &ListName| end(&before, *list) != end(&after, *list);
            let has_event = |list: &ListName| {
                history.events()[seen..].iter().any(|event| event.effects.iter().any(|effect| effect.list == *list))
            };
            for (list, _) in before.iter().chain(&after).filter(|(list, _)| changed(list)) {
                prop_assert!(has_event(list), "{} changed without an event", list);
            }
        }
        let time = fold.position().log_time;
        history.finish(time);
        let decided: Vec<usize> = history.decided_by(time);
        let says_what_it_does = |index: &usize| {
            history.events()[*index].effects.iter().all(|effect| effect.what == What::Does)
        };
        let decided: Vec<usize> = decided.into_iter().filter(|index| !says_what_it_does(index)).collect();
        match fold.verdict(ip, time) {
            Verdict::Deny(by) | Verdict::Exempt(by) => {
                let effects = &history.events()[decided[0]].effects;
                let mut put = effects.iter().filter(|effect| matches!(effect.what, What::Put | What::Extended));
                prop_assert!(put.any(|effect| effect.list == by.list));
            }
            Verdict::Pass | Verdict::Mark { .. } => {}
        }
    }
}

fn record(offset: u64, key: &str, text: &str) -> Record {
    Record { offset, timestamp: None, key: Some(key.into()), value: Some(text.into()) }
}

fn history(range: &str, texts: &[&str], at: &str) -> Vec<String> {
    let mut history = History::new(range.parse().unwrap());
    for (offset, text) in (0..).zip(texts) {
        let (key, text) = text.split_once(' ').unwrap();
        let record = record(offset, key, text);
        history.apply(&record, &record.effect().unwrap()).unwrap();
    }
    history.finish(at.parse().unwrap());
    let events = history.events().iter().map(|event| {
        let cause = match &event.cause {
            Cause::Command(command) => command.offset.to_string(),
            Cause::End(end) => end.to_string(),
        };
        let effects = event.effects.iter().map(|effect| {
            let part = if effect.is_whole { "" } else { " in part" };
            format!(" {}:{:?}{part}", effect.list, effect.what)
        });
        cause + &effects.collect::<String>()
    });
    events.collect()
}

#[test]
fn a_range_can_be_touched_in_part() {
    let events = history(
        "10.0.0.0/24",
        &[
            "2026-01-01T00:00:00Z BLACKLIST 10.0.0.0/25 ttl=1h",
            "2026-01-01T00:00:00Z BLACKLIST 192.0.2.1",
            "2026-01-01T00:00:00Z BLACKLIST 10.0.0.0-10.0.0.1",
            "2026-01-01T00:00:01Z BLACKLIST 10.0.0.0/8",
            "2026-01-01T00:00:02Z WHITELIST 10.0.0.0/7 list=*",
            "2026-01-01T00:00:02Z WHITELIST 10.0.0.0/7 list=*",
            "2026-01-01T00:00:02Z WHITELIST 10.0.0.7",
        ],
        "2026-01-02T00:00:00Z",
    );
    let expected = [
        "0 default:Put in part",
        "2 default:Extended in part",
        "3 default:Put in part",
        "4 default:Taken",
        "5",
        "6 default:Nothing",
    ];
    assert_eq!(events, expected);
}

#[test]
fn ends_come_where_they_happened_and_what_a_list_does_is_part_of_the_history() {
    let events = history(
        "10.0.0.7",
        &[
            "2026-01-01T00:00:00Z LIST probes action=exempt",
            "2026-01-01T00:00:00Z LIST other action=tag",
            "2026-01-01T00:00:00Z BLACKLIST 10.0.0.0/24 ttl=1h",
            "2026-01-01T03:00:00Z BLACKLIST 10.0.0.7 ttl=1h",
            "2026-01-01T03:30:00Z ADD 10.0.0.7 list=probes",
        ],
        "2026-01-02T00:00:00Z",
    );
    let expected = [
        "0 probes:Does",
        "2 default:Put",
        "2026-01-01T01:00:00Z default:Ended",
        "3 default:Put",
        "4 probes:Put",
        "2026-01-01T04:00:00Z default:Ended",
    ];
    assert_eq!(events, expected);
}

/// The last command need not be the one that counts.
#[test]
fn each_part_of_a_range_is_decided_by_the_last_event_about_it() {
    let mut history = History::new("10.0.0.0/24".parse().unwrap());
    let texts = ["BLACKLIST 10.0.0.1", "BLACKLIST 10.0.0.2", "BLACKLIST 10.0.0.9", "WHITELIST 10.0.0.2"];
    for (offset, text) in (0..).zip(texts) {
        let record = record(offset, "2026-01-01T00:00:00Z", text);
        history.apply(&record, &record.effect().unwrap()).unwrap();
    }
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    history.finish(now);
    assert_eq!(history.decided_by(now), [0, 2, 3]);
}

#[test]
fn a_log_with_more_names_than_lists_takes_an_exact_history() {
    let texts: Vec<String> = (0..=MAX_NAMED_LISTS).map(|at| format!("ADD 10.0.0.7 list=list-{at}")).collect();
    let range = "10.0.0.7".parse().unwrap();
    let (mut history, mut exact) = (History::new(range), History::exact(range));
    for (offset, text) in (0..).zip(&texts) {
        let record = record(offset, "2026-01-01T00:00:00Z", text);
        let effect = record.effect().unwrap();
        assert_eq!(history.apply(&record, &effect).is_err(), offset == MAX_NAMED_LISTS as u64);
        exact.apply(&record, &effect).unwrap();
    }
    assert_eq!(exact.events().len(), MAX_NAMED_LISTS, "the last one is rejected, and is no event");
}

/// A log whose commands were received at these times.
fn received(commands: &[(&str, &str, &str)]) -> (tempfile::TempDir, LogUrl) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let url: LogUrl = format!("sqlite:{}", path.display()).parse().unwrap();
    let log = url.open().unwrap();
    log.init().unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    for (received, time, text) in commands {
        let command = NewCommand { time: time.parse().unwrap(), text: (*text).to_owned() };
        let offset = log.append(&[command]).unwrap()[0];
        let millis = received.parse::<LogTime>().unwrap().millis();
        connection.execute("UPDATE commands SET timestamp = ?1 WHERE offset = ?2", (millis, offset)).unwrap();
    }
    (directory, url)
}

/// The log's clock may be ahead of that of whoever asks.
#[test]
fn of_the_present_all_that_is_in_the_log_counts() {
    let (_directory, url) = received(&[("2026-01-01T12:00:05Z", "2026-01-01T12:00:00Z", "BLACKLIST 10.0.0.7")]);
    let log = url.open().unwrap();
    let now: LogTime = "2026-01-01T12:00:00Z".parse().unwrap();
    let denies = |at| {
        let explained = explain(&*log, "10.0.0.7".parse().unwrap(), at, now).unwrap();
        explained.enforced.verdict(now).unwrap().denied().is_some()
    };
    assert!(denies(None) && !denies(Some(now)));
}

/// It does not move log time either, as in a replay.
#[test]
fn a_rejected_command_is_no_part_of_an_explanation() {
    let mut commands: Vec<(String, &str, String)> = (0..MAX_NAMED_LISTS)
        .map(|at| ("2026-01-01T10:00:00Z".to_owned(), "2026-01-01T10:00:00Z", format!("LIST list-{at} action=tag")))
        .collect();
    commands.push(("2026-01-01T10:00:01Z".to_owned(), "2026-01-01T10:05:00Z", "LIST extra action=tag".to_owned()));
    commands.push(("2026-01-01T10:00:02Z".to_owned(), "2026-01-01T10:00:02Z", "BLACKLIST 10.0.0.1".to_owned()));
    let borrowed: Vec<(&str, &str, &str)> =
        commands.iter().map(|(received, time, text)| (received.as_str(), *time, text.as_str())).collect();
    let (_directory, url) = received(&borrowed);
    let at = "2026-01-01T10:01:00Z".parse().unwrap();
    let explained = explain(&*url.open().unwrap(), "10.0.0.1".parse().unwrap(), Some(at), LogTime::LAST).unwrap();
    let denies = |history: &History| history.verdict(at).unwrap().denied().is_some();
    assert!(denies(&explained.enforced) && denies(explained.dated.as_ref().unwrap()));
}

#[test]
fn what_was_enforced_is_what_had_arrived() {
    let (_directory, url) = received(&[
        ("2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z", "BLACKLIST 192.0.2.1"),
        ("2026-01-01T13:00:00Z", "2026-01-01T09:00:00Z", "BLACKLIST 10.0.0.7"),
    ]);
    let log = url.open().unwrap();
    let explain = |range: &str, at: &str| {
        let at: LogTime = at.parse().unwrap();
        let explanation = explain(&*log, range.parse().unwrap(), Some(at), LogTime::LAST).unwrap();
        let dated = explanation.dated.as_ref().unwrap();
        let denies = |verdict: Option<Verdict>| verdict.unwrap().denied().is_some();
        let late: Vec<u64> = explanation.late.iter().map(|command| command.offset).collect();
        (denies(explanation.enforced.verdict(at)), denies(dated.verdict(at)), late)
    };
    assert_eq!(explain("10.0.0.7", "2026-01-01T10:00:00Z"), (false, false, vec![1]), "before both");
    assert_eq!(explain("10.0.0.7", "2026-01-01T12:30:00Z"), (false, true, vec![1]), "dated, but not received");
    assert_eq!(explain("10.0.0.7", "2026-01-01T13:00:00Z"), (true, true, vec![]), "received");
    assert_eq!(explain("192.0.2.1", "2026-01-01T11:59:59Z"), (false, false, vec![]), "neither dated nor received");
}

#[test]
fn a_history_can_keep_only_the_last_events() {
    let range = "10.0.0.7".parse().unwrap();
    let (mut all, mut last) = (History::new(range), History::new(range).keeping(10));
    for offset in 0..1_000 {
        let text = if offset % 3 == 0 { "WHITELIST 10.0.0.7" } else { "BLACKLIST 10.0.0.7" };
        let record = record(offset, "2016-09-12T15:32:00Z", text);
        let effect = record.effect().unwrap();
        all.apply(&record, &effect).unwrap();
        last.apply(&record, &effect).unwrap();
        assert!(last.events().len() <= 21, "no more are ever in memory");
        assert!(all.events().ends_with(last.events()));
        assert_eq!(last.dropped() + last.events().len() as u64, all.events().len() as u64);
    }
    assert!(last.events().len() >= 10);
    assert_eq!(all.fold(), last.fold());
}

/// Keeps 10 events of the commands at these times, and compares what decides at the end with what decides if all are kept.
fn assert_deciding_events_are_kept(range: &str, texts: impl Iterator<Item = String>) -> History {
    let range = range.parse().unwrap();
    let (mut all, mut last) = (History::new(range), History::new(range).keeping(10));
    for (offset, text) in (0..).zip(texts) {
        let record = record(offset, "2016-09-12T15:32:00Z", &text);
        let effect = record.effect().unwrap();
        all.apply(&record, &effect).unwrap();
        last.apply(&record, &effect).unwrap();
    }
    let now = "2016-09-12T15:33:00Z".parse().unwrap();
    let deciding = |history: &mut History| {
        history.finish(now);
        let events = history.decided_by(now).into_iter().map(|index| history.events()[index].clone());
        events.collect::<Vec<_>>()
    };
    assert_eq!(deciding(&mut last), deciding(&mut all));
    assert!(!deciding(&mut last).is_empty());
    last
}

/// Otherwise nobody could tell which command to undo.
#[test]
fn an_event_that_decides_is_kept() {
    let repeated = |first: [&str; 3], again: &str| {
        let first = first.map(str::to_owned).into_iter();
        let last = assert_deciding_events_are_kept("10.0.0.7", first.chain((0..1_000).map(|_| again.to_owned())));
        assert!(last.events().len() <= 24 && last.dropped() > 900);
    };
    repeated(["BLACKLIST 10.0.0.0/24", "BLACKLIST 10.0.0.7 ttl=1h", "WHITELIST 192.0.2.1"], "BLACKLIST 10.0.0.7");
    repeated(
        ["LIST feed action=exempt", "ADD 10.0.0.7 list=feed", "BLACKLIST 10.0.0.7"],
        "ADD 10.0.0.7 list=feed ttl=1h",
    );
    repeated(["ADD 10.0.0.7 list=feed", "LIST feed action=tag", "BLACKLIST 10.0.0.7"], "LIST default action=deny");
    repeated(["BLACKLIST 10.0.0.7", "WHITELIST 10.0.0.7", "ADD 192.0.2.1"], "WHITELIST 10.0.0.7");
}

/// Each of the events is about a thousand ranges.
#[test]
fn events_about_many_ranges_count_as_several() {
    let single = (0..1_000).map(|at| format!("BLACKLIST 10.0.{}.{}", at / 100, at % 100 * 2));
    let all = (1..200).map(|minutes| format!("BLACKLIST 10.0.0.0/8 ttl={minutes}m"));
    let mut history = History::new("10.0.0.0/8".parse().unwrap()).keeping(10);
    for (offset, text) in (0..).zip(single.chain(all)) {
        let record = record(offset, "2016-09-12T15:32:00Z", &text);
        history.apply(&record, &record.effect().unwrap()).unwrap();
        let ranges = |event: &Event| event.effects.iter().map(|effect| effect.ranges.len()).sum::<usize>();
        let kept: usize = history.events().iter().map(ranges).sum();
        assert!(kept <= 4_000, "{kept} ranges");
    }
}

proptest! {
    /// One address on three lists, whose events are at most seven that decide.
    #[test]
    fn the_events_that_decide_are_always_kept(
        commands in proptest::collection::vec((0..12_u8, 0..3_usize, 0..4_u64), 0..120),
        later in 0..20_u64,
    ) {
        let range = "10.0.0.7".parse().unwrap();
        let (mut all, mut last) = (History::new(range), History::new(range).keeping(7));
        let time = |seconds: u64| LogTime::from_millis(seconds * 1_000).unwrap();
        let mut now = 1_000;
        for (offset, (kind, list, later)) in (0..).zip(commands) {
            now += later;
            let list = ["default", "feed", "other"][list];
            let text = match kind {
                0..4 => format!("ADD 10.0.0.0/24 list={list}"),
                4 | 5 => format!("ADD 10.0.0.7 list={list} ttl=9s"),
                6 | 7 => format!("REMOVE 10.0.0.7 list={list}"),
                8 => "REMOVE 10.0.0.7 list=*".to_owned(),
                9 => format!("UNLIST {list}"),
                10 => format!("LIST {list} action=tag"),
                _ => format!("LIST {list} action=exempt"),
            };
            let record = record(offset, &time(now).to_string(), &text);
            let Ok(effect) = record.effect() else { continue };
            all.apply(&record, &effect).unwrap();
            last.apply(&record, &effect).unwrap();
        }
        let now = time(now + later);
        let deciding = |history: &mut History| {
            history.finish(now);
            let events = history.decided_by(now).into_iter().map(|index| history.events()[index].clone());
            events.collect::<Vec<_>>()
        };
        prop_assert_eq!(deciding(&mut last), deciding(&mut all));
        prop_assert!(last.events().len() <= 15 + 3);
    }
}

/// Only the list that was removed did what that command says.
#[test]
fn what_a_removed_list_did_decides_nothing() {
    let mut history = History::new("10.0.0.7".parse().unwrap());
    let texts = [
        "ADD 10.0.0.7 list=feed",
        "LIST feed action=tag",
        "REMOVE 10.0.0.7 list=feed",
        "UNLIST feed",
        "ADD 10.0.0.7 list=feed",
    ];
    for (offset, text) in (0..).zip(texts) {
        let record = record(offset, "2016-09-12T15:32:00Z", text);
        history.apply(&record, &record.effect().unwrap()).unwrap();
    }
    let decided = history.decided_by("2016-09-12T15:32:00Z".parse().unwrap());
    assert_eq!(decided, [history.events().len() - 1]);
}
