//! What taking a command back leads to, for each address of a small space.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

#[allow(dead_code, reason = "only the random logs are needed")]
mod oracle;

use std::net::IpAddr;

use edgefold::{Action, Command, Edits, Fold, ListName, LogTime, Record, Undo, UndoPlan, Until};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::oracle::{draws, log};

fn lists() -> [ListName; 3] {
    ["default", "0.0.0.3", "0.0.0.3-feed"].map(|name| name.parse().unwrap())
}

fn end(fold: &Fold, list: ListName, ip: IpAddr, now: LogTime) -> Option<Until> {
    Some(fold.list(&list)?.find(ip, now)?.until)
}

/// Whether a valid record is about an address of a list.
fn is_about(record: &Record, list: ListName, ip: IpAddr) -> bool {
    match Command::parse(str::from_utf8(record.value.as_ref().unwrap()).unwrap()).map(|command| command.action) {
        Ok(Action::Blacklist { list: of, range, .. }) => of == list && range.contains(ip),
        Ok(Action::Whitelist { list: of, range }) => of.is_none_or(|of| of == list) && range.contains(ip),
        Ok(Action::Unlist { list: of }) => of == list,
        Ok(Action::List { .. }) | Err(_) => false,
    }
}

fn says_what_it_does(record: &Record, list: ListName) -> bool {
    let text = str::from_utf8(record.value.as_ref().unwrap()).unwrap();
    matches!(Command::parse(text).map(|command| command.action), Ok(Action::List { list: of, .. }) if of == list)
}

fn is_unlist(record: &Record) -> bool {
    record.value.as_ref().unwrap().starts_with(b"UNLIST")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_no_later_command_is_about_is_as_before(draws in draws(), chosen in any::<Index>(), later in 0..20_u64) {
        let records: Vec<Record> = log(&draws).into_iter().map(|(record, _)| record).collect();
        prop_assume!(!records.is_empty());
        let chosen = chosen.index(records.len());
        let (mut fold, mut before, mut undo) = (Fold::default(), Fold::default(), Undo::new(records[chosen].offset));
        for (index, record) in records.iter().enumerate() {
            if index == chosen {
                before = fold.clone();
            }
            let _rejected = fold.apply(record, &mut Edits::default());
            undo.apply(record);
        }
        let now = LogTime::from_millis(fold.position().log_time.millis() + later * 1000).unwrap();
        prop_assert_eq!(undo.has_come().is_ok(), records[chosen].effect().is_ok());
        let plan = undo.plan(now);
        let mut after = fold.clone();
        for action in &plan.actions {
            let value = Some(action.to_string().into_bytes());
            let key = Some(now.to_string().into_bytes());
            let record = Record { offset: after.position().next_offset, timestamp: None, key, value };
            after.apply(&record, &mut Edits::default()).unwrap();
        }
        for list in lists() {
            for (window, at) in (0..6).flat_map(|window| (0..24).map(move |at| (window, at))) {
                let ip = oracle::address(window, at);
                let is_dropped = is_unlist(&records[chosen]);
                let is_decided_later = records[chosen + 1..]
                    .iter()
                    .any(|record| is_about(record, list, ip) || is_dropped && says_what_it_does(record, list));
                let is_this_about = records[chosen].effect().is_ok() && is_about(&records[chosen], list, ip);
                // A block that had ended by the command's time was gone before it.
                let time = records[chosen].effect().map_or(now, |effect| effect.time.max(before.position().log_time));
                let was = end(&before, list, ip, time).filter(|until| until.holds_at(now));
                let expected = if is_this_about && !is_decided_later { was } else { end(&fold, list, ip, now) };
                prop_assert_eq!(end(&after, list, ip, now), expected, "{} on {}: {:?}", ip, list, plan);
            }
        }
    }
}

fn plan(texts: &[&str], offset: u64) -> UndoPlan {
    let mut undo = Undo::new(offset);
    for (offset, text) in (0..).zip(texts) {
        let key = Some("2026-01-01T00:00:00Z".into());
        undo.apply(&Record { offset, timestamp: None, key, value: Some((*text).into()) });
    }
    undo.plan("2026-01-01T00:00:01Z".parse().unwrap())
}

fn actions(plan: &UndoPlan) -> Vec<String> {
    plan.actions.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_list_does_is_restored() {
    let texts = ["LIST a action=tag", "LIST a action=exempt", "LIST b action=shadow", "ADD 10.0.0.7 list=b"];
    assert_eq!(actions(&plan(&texts, 1)), ["LIST a action=tag"]);
    let counted_on = plan(&texts, 2);
    assert_eq!((actions(&counted_on), counted_on.later), (vec![], vec![3]), "something was put on it since");
    let had = ["ADD 10.0.0.7 list=b", "LIST b action=shadow"];
    assert_eq!(actions(&plan(&had, 1)), ["LIST b action=deny"]);
    assert_eq!(actions(&plan(&texts[..3], 2)), ["UNLIST b"]);
    let later = plan(&["LIST a action=tag", "LIST a action=exempt"], 0);
    assert_eq!((actions(&later), later.action_later.len(), later.later), (vec![], 1, vec![1]));
}

#[test]
fn a_list_that_was_dropped_comes_back() {
    let texts = [
        "LIST a action=exempt",
        "ADD 10.0.0.0/24 list=a",
        "ADD 192.0.2.1 list=a until=2026-02-01T00:00:00Z",
        "UNLIST a",
    ];
    let expected =
        ["LIST a action=exempt", "ADD 10.0.0.0/24 list=a", "ADD 192.0.2.1 until=2026-02-01T00:00:00Z list=a"];
    assert_eq!(actions(&plan(&texts, 3)), expected);
}

/// It would do something else with what was on it.
#[test]
fn a_list_that_was_dropped_does_not_come_back_as_another_one() {
    let plan = plan(&["ADD 10.0.0.7 list=a", "UNLIST a", "LIST a action=exempt"], 1);
    assert_eq!((actions(&plan), plan.later, plan.decided_later.len()), (vec![], vec![2], 1));
}

#[test]
fn a_block_that_was_prolonged_is_shortened_in_two_steps() {
    let plan = plan(&["BLACKLIST 10.0.0.7 ttl=1h", "BLACKLIST 10.0.0.7"], 1);
    assert_eq!(actions(&plan), ["WHITELIST 10.0.0.7", "BLACKLIST 10.0.0.7 until=2026-01-01T01:00:00Z"]);
}

#[test]
fn what_has_ended_is_not_restored() {
    let plan = plan(&["BLACKLIST 10.0.0.7 ttl=1s"], 0);
    assert_eq!((actions(&plan), plan.ended.len(), plan.decided_later.len()), (vec![], 1, 0));
}
