//! Taking back what one command did, as far as no later command is about it.

use std::collections::BTreeMap;

use edgefold_snapshot::{ListAction, ListName};
use edgefold_table::IpRange;

use super::block::{Block, Until};
use super::command::{Action, Term};
use super::difference::Difference;
use super::edits::Edits;
use super::fold::Fold;
use super::list::List;
use super::record::{Change, Effect, Record, Reject};
use super::time::LogTime;

/// What a command did, and what has become of it since.
///
/// ```
/// use edgefold::{Record, Undo};
///
/// let mut undo = Undo::new(1);
/// let commands = ["BLACKLIST 10.0.0.0/24", "WHITELIST 10.0.0.0/25", "BLACKLIST 10.0.0.0-10.0.0.9"];
/// for (offset, text) in (0..).zip(commands) {
///     let key = Some(b"2016-09-12T15:32:00Z".to_vec());
///     undo.apply(&Record { offset, timestamp: None, key, value: Some(text.into()) });
/// }
/// let plan = undo.plan("2016-09-12T16:00:00Z".parse()?);
/// let texts: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
/// assert_eq!(texts, ["BLACKLIST 10.0.0.10-10.0.0.127"], "the command at offset 2 has decided about the others");
/// assert_eq!(plan.decided_later[0].range, "10.0.0.0-10.0.0.9".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Undo {
    offset: u64,
    fold: Fold,
    edits: Edits,
    outcome: Option<Result<Done, Reject>>,
}

/// What the command did.
#[derive(Clone, Debug)]
struct Done {
    lists: BTreeMap<ListName, DoneToList>,
    /// The offsets of later commands about what it changed.
    later: Vec<u64>,
}

#[derive(Clone, Debug)]
struct DoneToList {
    changes: Vec<Difference>,
    /// The changed addresses that no later command is about.
    alone: List,
    /// What the list did before and after, if that changed, and no later command says what it does.
    action: Option<(Option<ListAction>, Option<ListAction>)>,
    /// Whether a later command says what it does.
    is_action_later: bool,
    /// Whether the list existed before.
    existed: bool,
    /// Whether the command removed it.
    was_dropped: bool,
}

/// How to take a command back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UndoPlan {
    /// What restores the state before the command.
    pub actions: Vec<Action>,
    /// What the command changed that later commands have decided about since: it stays as it is. The list is that of `range`.
    pub decided_later: Vec<OnList>,
    /// Lists of which a later command says what they do, or counts on it: that stays as it is.
    pub action_later: Vec<ListName>,
    /// The offsets of those later commands, at most [`UndoPlan::MOST_LATER`].
    pub later: Vec<u64>,
    /// Addresses that the command took off a list or put on it, and whose end has come since, so that there is nothing to restore.
    pub ended: Vec<OnList>,
}

/// Addresses of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OnList {
    /// The list.
    pub list: ListName,
    /// The addresses.
    pub range: IpRange,
}

impl UndoPlan {
    /// How many later commands are named.
    pub const MOST_LATER: usize = 20;
}

impl Undo {
    /// Takes back the command at `offset`.
    pub fn new(offset: u64) -> Self {
        Self { offset, fold: Fold::default(), edits: Edits::default(), outcome: None }
    }

    /// Reads the next record. Start at offset 0, and pass all.
    pub fn apply(&mut self, record: &Record) {
        let effect = record.effect();
        if record.offset == self.offset {
            let lists_before: Vec<ListName> = self.fold.lists().iter().map(List::name).collect();
            let done = effect.and_then(|effect| {
                self.fold.check(&effect)?;
                // What ends by the time of the command is not its doing.
                self.fold.move_log_time(effect.time, &mut self.edits);
                self.edits.clear();
                self.fold.change(&effect.change, &mut self.edits);
                let was_dropped = matches!(effect.change, Change::Unlist { .. });
                Ok(Done { lists: done_to_lists(&self.edits, &lists_before, was_dropped), later: Vec::new() })
            });
            self.edits.clear();
            self.outcome = Some(done);
        } else if let Ok(effect) = effect
            && self.fold.apply_effect(&effect, &mut self.edits).is_ok()
        {
            self.edits.clear();
            if let Some(Ok(done)) = &mut self.outcome {
                done.decided_later(record.offset, &effect);
            }
        }
    }

    /// Why the record at the offset was rejected; `Ok(false)` if it has not come.
    ///
    /// # Errors
    /// The [`Reject`].
    pub fn has_come(&self) -> Result<bool, Reject> {
        match &self.outcome {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(reject)) => Err(reject.clone()),
        }
    }

    /// How to take the command back at `now`.
    pub fn plan(&self, now: LogTime) -> UndoPlan {
        let Some(Ok(done)) = &self.outcome else { return UndoPlan::default() };
        let mut plan = UndoPlan { later: done.later.clone(), ..UndoPlan::default() };
        for (&list, to_list) in &done.lists {
            to_list.plan_action(list, self.fold.list(&list), &mut plan);
            to_list.plan_addresses(list, now, &mut plan);
        }
        plan
    }
}

fn done_to_lists(edits: &Edits, lists_before: &[ListName], was_dropped: bool) -> BTreeMap<ListName, DoneToList> {
    let of_list = |(list, edits): (ListName, &super::edits::ListEdits)| {
        let changes: Vec<Difference> = edits.differences().collect();
        let action = edits.action.clone().filter(|(before, after)| before != after);
        if changes.is_empty() && action.is_none() {
            return None;
        }
        let mut alone = List::new(list);
        changes.iter().for_each(|change| alone.put(Block { range: change.range, until: Until::FOREVER }));
        let existed = lists_before.contains(&list);
        Some((list, DoneToList { changes, alone, action, is_action_later: false, existed, was_dropped }))
    };
    edits.lists().filter_map(of_list).collect()
}

impl Done {
    /// Notes what a later command is about.
    fn decided_later(&mut self, offset: u64, Effect { change, .. }: &Effect) {
        let mut is_about = false;
        let mut decide = |to_list: &mut DoneToList, range: IpRange| {
            is_about |= !to_list.alone.blocks_within(range).is_empty();
            to_list.alone.take(range);
        };
        match change {
            Change::Block { list, range, .. } => {
                if let Some(to_list) = self.lists.get_mut(list) {
                    decide(to_list, *range);
                    // Whoever put that on the list counts on what it does.
                    if matches!(to_list.action, Some((None, Some(_)))) {
                        to_list.action = None;
                        (to_list.is_action_later, is_about) = (true, true);
                    }
                }
            }
            Change::Allow { list: Some(list), range } => {
                if let Some(to_list) = self.lists.get_mut(list) {
                    decide(to_list, *range);
                }
            }
            Change::Allow { list: None, range } => self.lists.values_mut().for_each(|to_list| decide(to_list, *range)),
            Change::List { list, .. } | Change::Unlist { list } => {
                if let Some(to_list) = self.lists.get_mut(list) {
                    if to_list.action.take().is_some() {
                        is_about = true;
                        to_list.is_action_later = true;
                    }
                    // What was on a list that was removed must not come back on one that does something else.
                    if matches!(change, Change::Unlist { .. }) || to_list.was_dropped {
                        is_about |= to_list.alone.blocks().next().is_some();
                        to_list.alone = List::new(*list);
                    }
                }
            }
        }
        if is_about && self.later.len() < UndoPlan::MOST_LATER {
            self.later.push(offset);
        }
    }
}

impl DoneToList {
    fn plan_action(&self, list: ListName, now: Option<&List>, plan: &mut UndoPlan) {
        if self.is_action_later {
            plan.action_later.push(list);
        }
        match &self.action {
            Some((Some(before), _)) => plan.actions.push(Action::List { list, action: before.clone() }),
            // Nothing can be on it, or it would be gone with all that is.
            Some((None, _)) if !self.existed && now.is_some_and(|list| list.blocks().next().is_none()) => {
                plan.actions.push(Action::Unlist { list });
            }
            Some((None, _)) => plan.actions.push(Action::List { list, action: ListAction::default() }),
            None => {}
        }
    }

    fn plan_addresses(&self, list: ListName, now: LogTime, plan: &mut UndoPlan) {
        let holds = |until: Option<Until>| until.filter(|until| until.holds_at(now));
        let mut later = List::new(list);
        for change in &self.changes {
            later.put(Block { range: change.range, until: Until::FOREVER });
            for Block { range, .. } in self.alone.blocks_within(change.range) {
                later.take(range);
                let put = |until: Until| Action::Blacklist {
                    list,
                    range,
                    term: until.time().map_or(Term::Forever, Term::Until),
                };
                let take = Action::Whitelist { list: Some(list), range };
                match (holds(change.before), holds(change.after)) {
                    (None, None) => plan.ended.push(OnList { list, range }),
                    (None, Some(_)) => plan.actions.push(take),
                    (Some(before), None) => plan.actions.push(put(before)),
                    // A command never shortens a block.
                    (Some(before), Some(_)) => plan.actions.extend([take, put(before)]),
                }
            }
        }
        plan.decided_later.extend(later.blocks().map(|block| OnList { list, range: block.range }));
    }
}
