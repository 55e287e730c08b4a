//! The oracle: for each list and each single address, until when the address is on the list. It says what the view must contain after
//! each command.

use std::collections::BTreeMap;

use edgefold::LogTime;
use edgefold::view::OFFSET_KEY;
use edgefold_tests::TopicRecord;

use crate::history::{ADDRESSES, LISTS, Meaning, Sent, Verb, address};

/// The end of a block that has no end.
const FOREVER: u64 = u64::MAX;

/// What is on each list, and what it does.
pub(crate) struct Blocked {
    lists: [List; LISTS.len()],
    log_time: u64,
}

#[derive(Clone, Copy)]
struct List {
    /// The end of the block of each address, in milliseconds; 0 if it is not blocked.
    until: [u64; 2 * ADDRESSES],
    /// `None` if no command says so.
    action: Option<&'static str>,
}

impl Default for Blocked {
    fn default() -> Self {
        Self { lists: [List { until: [0; 2 * ADDRESSES], action: None }; LISTS.len()], log_time: 0 }
    }
}

impl Blocked {
    pub(crate) fn apply(&mut self, sent: &Sent) {
        let Some(Meaning { list, range, verb }) = &sent.meaning else { return };
        let time = sent.time.millis();
        self.log_time = self.log_time.max(time);
        let mut set = |list: usize, new: &dyn Fn(u64) -> u64| {
            self.lists[list].until[range.clone()].iter_mut().for_each(|until| *until = new(*until));
        };
        match verb {
            Verb::Whitelist => set(*list, &|_| 0),
            Verb::WhitelistEverywhere => (0..LISTS.len()).for_each(|list| set(list, &|_| 0)),
            Verb::Blacklist => set(*list, &|_| FOREVER),
            Verb::BlacklistFor(ttl) => set(*list, &|until| until.max(time + u64::try_from(ttl.as_millis()).unwrap())),
            Verb::List(action) => self.lists[*list].action = Some(action),
            Verb::Unlist => self.lists[*list] = List { until: [0; 2 * ADDRESSES], action: None },
        }
        // What has ended by log time is gone, even if time goes back.
        let log_time = self.log_time;
        self.lists
            .iter_mut()
            .flat_map(|list| &mut list.until)
            .filter(|until| **until <= log_time)
            .for_each(|until| *until = 0);
    }

    /// The records that the view must have, without `@offset`.
    pub(crate) fn view(&self) -> BTreeMap<String, String> {
        let mut view = BTreeMap::new();
        for (name, list) in LISTS.iter().zip(&self.lists) {
            if let Some(action) = list.action {
                view.insert(format!("@list {name}"), action.to_owned());
            }
            let of_list = if *name == "default" { String::new() } else { format!("{name} ") };
            let until = |index: usize| Some(list.until[index]).filter(|&until| until > 0);
            for family in [0..ADDRESSES, ADDRESSES..2 * ADDRESSES] {
                let indexes: Vec<usize> = family.collect();
                for run in indexes.chunk_by(|&one, &next| until(one) == until(next)) {
                    let Some(end) = until(run[0]) else { continue };
                    let end = match end {
                        FOREVER => String::new(),
                        _ => format!(" until={}", LogTime::from_millis(end).unwrap()),
                    };
                    view.insert(
                        format!("{of_list}{}", address(run[0])),
                        format!("{}{end}", address(run[run.len() - 1])),
                    );
                }
            }
        }
        view
    }
}

/// Compares one state of the view after the other with the oracle.
pub(crate) struct Comparison<'a> {
    commands: &'a [&'a Sent],
    next_offset: usize,
    blocked: Blocked,
}

impl<'a> Comparison<'a> {
    pub(crate) fn with(commands: &'a [&'a Sent]) -> Self {
        Self { commands, next_offset: 0, blocked: Blocked::default() }
    }

    /// Asserts that `ranges` are the fold of the commands below `offset`, which is the value of `@offset`, and that
    /// `@offset` has moved on.
    pub(crate) fn assert_next(&mut self, ranges: &BTreeMap<String, String>, offset: &str) {
        let next_offset: usize = offset.split(' ').next().unwrap().parse().unwrap();
        assert!(next_offset > self.next_offset, "{OFFSET_KEY} went from {} to {next_offset}", self.next_offset);
        self.commands[self.next_offset..next_offset].iter().for_each(|sent| self.blocked.apply(sent));
        self.next_offset = next_offset;
        let log_time = LogTime::from_millis(self.blocked.log_time).unwrap();
        assert!(offset.starts_with(&format!("{next_offset} {log_time} format=")), "{offset}");
        assert_eq!(*ranges, self.blocked.view(), "at {OFFSET_KEY} {offset}");
    }

    /// Asserts that the last state had all commands.
    pub(crate) fn assert_at_end(&self) {
        assert_eq!(self.next_offset, self.commands.len(), "the view has all commands");
    }
}

/// Asserts that each transaction ends with `@offset` and leaves the fold of the commands below it, and that no
/// transaction starts before the one before it has ended. `records` are those of a ranges topic that was never
/// compacted.
pub(crate) fn assert_each_transaction_is_right(records: &[TopicRecord], commands: &[&Sent]) {
    let mut comparison = Comparison::with(commands);
    let mut ranges = BTreeMap::new();
    let mut transactions = 0;
    for (index, TopicRecord { offset, key, value }) in records.iter().enumerate() {
        let key = key.clone().unwrap();
        let is_last = key == OFFSET_KEY;
        match value {
            Some(value) if is_last => {
                comparison.assert_next(&ranges, value);
                transactions += 1;
            }
            Some(value) => drop(ranges.insert(key, value.clone())),
            None => drop(ranges.remove(&key)),
        }
        // The marker of a transaction takes the offset after it. A broker that restarts in the middle of a commit may
        // lose the marker. Then the next commit of the same writer makes both transactions visible, each of them whole.
        let ends = records.get(index + 1).is_none_or(|next| next.offset > offset + 1);
        let around = &records[index.saturating_sub(2)..records.len().min(index + 4)];
        assert!(is_last || !ends, "a transaction ends at offset {offset} without {OFFSET_KEY}: {around:?}");
    }
    comparison.assert_at_end();
    println!("each of {transactions} transactions was right");
}
