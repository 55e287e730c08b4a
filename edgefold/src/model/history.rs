//! What each command did to a range of addresses: the answer to "why?".

use std::collections::{BTreeMap, BTreeSet};

use edgefold_snapshot::{ListKind, ListName, MAX_NAMED_LISTS};
use edgefold_table::IpRange;

use super::block::{Block, Until};
use super::command::Command;
use super::difference::Difference;
use super::edits::Edits;
use super::fold::Fold;
use super::list::List;
use super::record::{Change, Effect, Record};
use super::time::LogTime;
use super::verdict::Verdict;

/// The history of a range of addresses, from the first command on.
///
/// It folds only what commands say about the range, so it takes no more memory than they do.
///
/// ```
/// use edgefold::{History, LogTime, Record, What};
///
/// let mut history = History::new("10.0.0.7".parse()?);
/// for (offset, text) in (0..).zip(["BLACKLIST 10.0.0.0/24 ttl=4h", "BLACKLIST 192.0.2.1", "WHITELIST 10.0.0.7"]) {
///     let key = Some(b"2016-09-12T15:32:00Z".to_vec());
///     let record = Record { offset, timestamp: None, key, value: Some(text.into()) };
///     history.apply(&record, &record.effect()?)?;
/// }
/// history.finish("2016-09-12T16:00:00Z".parse()?);
/// let what: Vec<What> = history.events().iter().map(|event| event.effects[0].what).collect();
/// assert_eq!(what, [What::Put, What::Taken]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct History {
    range: IpRange,
    /// Only what is in the range.
    fold: Fold,
    edits: Edits,
    names: Names,
    events: Vec<Event>,
    /// The weight of all events, of which about `most_events` are kept.
    weight: usize,
    most_events: usize,
    /// How many events are not kept.
    dropped: u64,
    /// The last command that says what a list does, for lists that nothing of the range is on yet.
    said: BTreeMap<ListName, Event>,
}

/// Something that a command or an end did to the range, or a command that is about it and did nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Why it happened.
    pub cause: Cause,
    /// What happened on each list. It is empty for a command about all lists, none of which has any of the range.
    pub effects: Vec<ListEffect>,
}

/// Why something happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A command.
    Command(Box<AppendedCommand>),
    /// A block ended at this time.
    End(LogTime),
}

/// A command in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppendedCommand {
    /// The offset of its record.
    pub offset: u64,
    /// Its time.
    pub time: LogTime,
    /// When the log received it, if that is known.
    pub received: Option<LogTime>,
    /// What it says.
    pub command: Command,
}

/// What happened to the range on one list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListEffect {
    /// The list.
    pub list: ListName,
    /// What the list does with the addresses on it, after the event.
    pub kind: ListKind,
    /// What happened.
    pub what: What,
    /// The addresses of the range that it happened to, in order. None for [`What::Nothing`] and [`What::Does`].
    pub ranges: Vec<IpRange>,
    /// Whether it happened to each address of the range, or is not about addresses.
    pub is_whole: bool,
}

/// What happened to addresses on a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// They were put on it. Others of the range may have been on it, and stay longer.
    Put,
    /// They were on it, and stay longer.
    Extended,
    /// They were taken off it.
    Taken,
    /// They were on it until then.
    Ended,
    /// The list does something else with them.
    Does,
    /// Nothing.
    Nothing,
}

/// How a history knows which records are rejected because they would create one list too many.
#[derive(Clone, Debug)]
enum Names {
    /// No record is rejected as long as there are only so many names, whether such a list still exists or not.
    Created(BTreeSet<ListName>),
    /// All that is on all lists: it depends on when a list gets empty.
    All(Box<Fold>),
}

/// The log names so many lists that some of its records may be rejected. [`History::exact`] finds out which.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the log names more than {MAX_NAMED_LISTS} lists: which of them exist takes a full replay")]
pub struct ManyLists;

impl AppendedCommand {
    /// The command in a record, if it is one. It may be rejected all the same: see [`Record::effect`].
    pub fn new(record: &Record) -> Option<Self> {
        let command = Command::parse(str::from_utf8(record.value.as_deref()?).ok()?).ok()?;
        Some(Self { offset: record.offset, time: record.time()?, received: record.timestamp, command })
    }
}

impl Event {
    /// How much room it takes, in events that are about a few ranges.
    fn weight(&self) -> usize {
        const RANGES: usize = 64;
        1 + self.effects.iter().map(|effect| effect.ranges.len()).sum::<usize>() / RANGES
    }
}

impl History {
    /// A history of `range`, for a log that never names more than [`MAX_NAMED_LISTS`] lists.
    pub fn new(range: IpRange) -> Self {
        Self {
            range,
            fold: Fold::default(),
            edits: Edits::default(),
            names: Names::Created(BTreeSet::new()),
            events: Vec::new(),
            weight: 0,
            most_events: usize::MAX,
            dropped: 0,
            said: BTreeMap::new(),
        }
    }

    /// The same for any log. It folds all lists, not only what they say about the range.
    pub fn exact(range: IpRange) -> Self {
        Self { names: Names::All(Box::default()), ..Self::new(range) }
    }

    /// The same, but it keeps only about this many events: those that decide, and then the last. An event about many ranges counts as
    /// several. A log may have any number of commands about one address.
    #[must_use]
    pub fn keeping(self, most_events: usize) -> Self {
        Self { most_events, ..self }
    }

    /// Whether a record with this effect, which comes next, is rejected because it would create one list too many.
    ///
    /// # Errors
    /// [`ManyLists`], except for [`History::exact`]: it is not known.
    pub fn rejects(&self, effect: &Effect) -> Result<bool, ManyLists> {
        match &self.names {
            Names::All(fold) => Ok(fold.check(effect).is_err()),
            Names::Created(names) => match &effect.change {
                Change::Block { list, .. } | Change::List { list, .. }
                    if !list.is_default() && names.len() >= MAX_NAMED_LISTS && !names.contains(list) =>
                {
                    Err(ManyLists)
                }
                _ => Ok(false),
            },
        }
    }

    /// Adds the next record that is a command, with its effect. Offsets must rise.
    ///
    /// # Errors
    /// [`ManyLists`], except for [`History::exact`].
    pub fn apply(&mut self, record: &Record, effect: &Effect) -> Result<(), ManyLists> {
        if self.rejects(effect)? {
            return Ok(());
        }
        match (&mut self.names, &effect.change) {
            (Names::All(fold), _) => {
                let _is_accepted = fold.apply_effect(effect, &mut self.edits);
                self.edits.clear();
            }
            (Names::Created(names), Change::Block { list, .. } | Change::List { list, .. }) if !list.is_default() => {
                names.insert(*list);
            }
            (Names::Created(names), Change::Unlist { list }) => {
                names.remove(list);
            }
            _ => {}
        }
        self.move_to(effect.time);
        if let Some(change) = self.within_range(&effect.change)
            && let Some(command) = AppendedCommand::new(record)
        {
            self.change(&change, command);
        }
        Ok(())
    }

    /// Moves past commands that are not about the range, and of which none says what a list does or removes one. `names` are the lists
    /// that they put something on, and `log_time` is the log time after them.
    ///
    /// # Errors
    /// [`ManyLists`], also of [`History::exact`], which needs all commands.
    pub(crate) fn skip(&mut self, names: &[ListName], log_time: LogTime) -> Result<(), ManyLists> {
        let Names::Created(created) = &mut self.names else { return Err(ManyLists) };
        created.extend(names.iter().filter(|name| !name.is_default()));
        if created.len() > MAX_NAMED_LISTS {
            return Err(ManyLists);
        }
        self.move_to(log_time);
        Ok(())
    }

    /// Looks at the range at `time`, after all commands: what has ended by then is added to the events, and so are the commands that say
    /// what the lists do that the range is on.
    pub fn finish(&mut self, time: LogTime) {
        self.move_to(time);
        let on: Vec<ListName> = self.lists_at(time).collect();
        let missing: Vec<Event> = on.iter().filter_map(|list| self.said.remove(list)).collect();
        for event in missing {
            let at = self.events.partition_point(|other| match (&other.cause, &event.cause) {
                (Cause::Command(other), Cause::Command(event)) => other.offset < event.offset,
                (Cause::End(end), Cause::Command(event)) => *end < event.time,
                (_, Cause::End(_)) => true,
            });
            self.events.insert(at, event);
        }
    }

    /// The range.
    pub fn range(&self) -> IpRange {
        self.range
    }

    /// What is left of the lists within the range. Outside of it they are empty.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// What happened, in order; without [`History::dropped`].
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many events are not kept: see [`History::keeping`].
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn most_events(&self) -> usize {
        self.most_events
    }

    fn push(&mut self, event: Event) {
        // Not each time, so that it costs little.
        if self.weight / 2 >= self.most_events {
            self.drop_events();
        }
        self.weight = self.weight.saturating_add(event.weight());
        self.events.push(event);
    }

    /// Keeps the last events that may still decide something, and if there is room, the last others.
    fn drop_events(&mut self) {
        let deciding = self.deciding(self.fold.position().log_time, self.fold.lists().iter().map(List::name).collect());
        let others = (0..self.events.len()).rev().filter(|index| !deciding.contains(index));
        let (mut kept, mut weight) = (BTreeSet::new(), 0_usize);
        for index in deciding.iter().rev().copied().chain(others) {
            let more = weight.saturating_add(self.events[index].weight());
            if more > self.most_events && !kept.is_empty() {
                break;
            }
            weight = more;
            kept.insert(index);
        }
        self.weight = weight;
        self.dropped += (self.events.len() - kept.len()) as u64;
        let mut index = 0..;
        self.events.retain(|_| index.next().is_some_and(|index| kept.contains(&index)));
    }

    /// The events that count at `time`, by their index, in order. For each address of the range, and each list that the verdict depends on,
    /// these are the last event that put it there, or if it is on none, the last one that took it off a list; and what the list was last
    /// told to do.
    pub fn decided_by(&self, time: LogTime) -> Vec<usize> {
        let lists = match self.verdict(time) {
            Some(Verdict::Deny(by) | Verdict::Exempt(by)) => vec![by.list],
            _ => self.lists_at(time).collect(),
        };
        self.deciding(time, lists).into_iter().collect()
    }

    /// As [`History::decided_by`], for these lists.
    fn deciding(&self, time: LogTime, lists: Vec<ListName>) -> BTreeSet<usize> {
        let mut decided = BTreeSet::new();
        // The addresses that are on no list.
        let mut free = List::new(ListName::DEFAULT);
        free.put(Block { range: self.range, until: Until::FOREVER });
        for list in self.fold.lists() {
            list.ranges_at(time).for_each(|range| free.take(range));
        }
        for name in lists {
            let mut open = List::new(name);
            for range in self.fold.list(&name).into_iter().flat_map(|list| list.ranges_at(time)) {
                open.put(Block { range, until: Until::FOREVER });
            }
            let is_put = |effect: &ListEffect| effect.list == name && matches!(effect.what, What::Put | What::Extended);
            self.decide(open, is_put, &mut decided);
            let says =
                |event: &Event| event.effects.iter().any(|effect| effect.list == name && effect.what == What::Does);
            // Otherwise it was said before the list was removed.
            if self.fold.list(&name).is_some_and(|list| list.stated_action().is_some()) {
                decided.extend(self.events.iter().rposition(says));
            }
        }
        self.decide(free, |effect| matches!(effect.what, What::Taken | What::Ended), &mut decided);
        decided
    }

    /// Finds the last events that `wanted` chooses about the addresses that are `open`.
    fn decide(&self, mut open: List, wanted: impl Fn(&ListEffect) -> bool, decided: &mut BTreeSet<usize>) {
        for (index, event) in self.events.iter().enumerate().rev() {
            if open.is_empty() {
                return;
            }
            for effect in event.effects.iter().filter(|effect| wanted(effect)) {
                if effect.ranges.iter().any(|range| !open.blocks_within(*range).is_empty()) {
                    decided.insert(index);
                }
                effect.ranges.iter().for_each(|range| open.take(*range));
            }
        }
    }

    /// The verdict on the range at `time`, if it is one address.
    pub fn verdict(&self, time: LogTime) -> Option<Verdict> {
        let ip = self.range.first();
        (ip == self.range.last()).then(|| self.fold.verdict(ip, time))
    }

    fn lists_at(&self, time: LogTime) -> impl Iterator<Item = ListName> {
        let on = self.fold.lists().iter().filter(move |list| list.blocks().any(|block| block.until.holds_at(time)));
        on.map(List::name)
    }

    /// Moves log time on, and adds what has ended by then.
    fn move_to(&mut self, time: LogTime) {
        if time <= self.fold.position().log_time {
            return;
        }
        if !self.fold.lists().iter().any(|list| list.has_expired(time)) {
            self.fold.move_log_time(time, &mut self.edits);
            return;
        }
        let kinds = self.kinds();
        self.fold.move_log_time(time, &mut self.edits);
        let mut ended: BTreeMap<LogTime, BTreeMap<ListName, Vec<Difference>>> = BTreeMap::new();
        for (list, edits) in self.edits.lists() {
            for change in edits.differences() {
                if let Some(end) = change.before.and_then(Until::time) {
                    ended.entry(end).or_default().entry(list).or_default().push(change);
                }
            }
        }
        self.edits.clear();
        for (end, lists) in ended {
            let effects = lists.into_iter().map(|(list, changes)| ListEffect {
                list,
                kind: kinds.get(&list).copied().unwrap_or(ListKind::Deny),
                what: What::Ended,
                is_whole: covers(&changes, self.range),
                ranges: changes.iter().map(|change| change.range).collect(),
            });
            self.push(Event { cause: Cause::End(end), effects: effects.collect() });
        }
    }

    /// What the change says about the range; `None` if it says nothing.
    fn within_range(&self, change: &Change) -> Option<Change> {
        Some(match change {
            Change::Block { list, range, until } => {
                Change::Block { list: *list, range: range.common(self.range)?, until: *until }
            }
            Change::Allow { list, range } => Change::Allow { list: *list, range: range.common(self.range)? },
            Change::List { .. } | Change::Unlist { .. } => change.clone(),
        })
    }

    fn change(&mut self, change: &Change, command: AppendedCommand) {
        let kinds = self.kinds();
        self.fold.change(change, &mut self.edits);
        let kind = |list: &ListName| {
            let now = self.fold.list(list).map(|list| list.action().kind());
            now.or_else(|| kinds.get(list).copied()).unwrap_or(ListKind::Deny)
        };
        let mut effects: Vec<ListEffect> = Vec::new();
        for (list, edits) in self.edits.lists() {
            let changes: Vec<Difference> = edits.differences().collect();
            let what = match change {
                _ if changes.iter().any(|change| change.before.is_none()) => What::Put,
                _ if changes.iter().any(|change| change.after.is_none()) => What::Taken,
                _ if !changes.is_empty() => What::Extended,
                _ => continue,
            };
            let is_whole = covers(&changes, self.range);
            let ranges = changes.iter().map(|change| change.range).collect();
            effects.push(ListEffect { list, kind: kind(&list), what, ranges, is_whole });
        }
        let about = match change {
            Change::List { list, .. } | Change::Unlist { list } => Some((*list, What::Does)),
            Change::Block { list, .. } | Change::Allow { list: Some(list), .. } => Some((*list, What::Nothing)),
            Change::Allow { list: None, .. } => None,
        };
        if let Some((list, what)) = about
            && effects.is_empty()
        {
            effects.push(ListEffect { list, kind: kind(&list), what, ranges: vec![], is_whole: true });
        }
        self.edits.clear();
        let event = Event { cause: Cause::Command(Box::new(command)), effects };
        match change {
            Change::List { list, .. } => {
                // It is part of the history if the range is on the list now, or is put on it later.
                if self.fold.list(list).is_some_and(|list| list.blocks().next().is_some()) {
                    self.said.remove(list);
                    self.push(event);
                } else {
                    self.said.insert(*list, event);
                }
            }
            Change::Unlist { list } => {
                self.said.remove(list);
                if event.effects.iter().any(|effect| effect.what == What::Taken) {
                    self.push(event);
                }
            }
            Change::Block { .. } | Change::Allow { .. } => self.push(event),
        }
    }

    fn kinds(&self) -> BTreeMap<ListName, ListKind> {
        self.fold.lists().iter().map(|list| (list.name(), list.action().kind())).collect()
    }
}

/// Whether the changes, which are sorted and disjoint, are about each address of `range`.
fn covers(changes: &[Difference], range: IpRange) -> bool {
    changes.first().is_some_and(|first| first.range.first() == range.first())
        && changes.last().is_some_and(|last| last.range.last() == range.last())
        && changes.windows(2).all(|pair| pair[0].range.joined(pair[1].range).is_some())
}
