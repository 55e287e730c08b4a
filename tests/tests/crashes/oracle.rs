//! The oracle: the end of the block of each single address. It says what the view must contain after each command.

use std::collections::BTreeMap;

use edgefold::LogTime;
use edgefold::view::OFFSET_KEY;
use edgefold_tests::TopicRecord;

use crate::history::{ADDRESSES, Sent, Verb, address};

/// The end of a block that has no end.
const FOREVER: u64 = u64::MAX;

/// The end of the block of each address, in milliseconds; 0 if it is not blocked.
pub(crate) struct Blocked {
    until: [u64; 2 * ADDRESSES],
    log_time: u64,
}

impl Default for Blocked {
    fn default() -> Self {
        Self { until: [0; 2 * ADDRESSES], log_time: 0 }
    }
}

impl Blocked {
    pub(crate) fn apply(&mut self, sent: &Sent) {
        let Some((range, verb)) = &sent.meaning else { return };
        let time = sent.time.millis();
        self.log_time = self.log_time.max(time);
        for until in &mut self.until[range.clone()] {
            *until = match verb {
                Verb::Whitelist => 0,
                Verb::Blacklist => FOREVER,
                Verb::BlacklistFor(ttl) => (*until).max(time + u64::try_from(ttl.as_millis()).unwrap()),
            };
        }
    }

    /// The records that the view must have, without `@offset`.
    pub(crate) fn view(&self) -> BTreeMap<String, String> {
        let until = |index: usize| Some(self.until[index]).filter(|&until| until > self.log_time);
        let mut view = BTreeMap::new();
        for family in [0..ADDRESSES, ADDRESSES..2 * ADDRESSES] {
            let indexes: Vec<usize> = family.collect();
            for run in indexes.chunk_by(|&one, &next| until(one) == until(next)) {
                let Some(end) = until(run[0]) else { continue };
                let end = match end {
                    FOREVER => String::new(),
                    _ => format!(" until={}", LogTime::from_millis(end).unwrap()),
                };
                view.insert(address(run[0]), format!("{}{end}", address(run[run.len() - 1])));
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
