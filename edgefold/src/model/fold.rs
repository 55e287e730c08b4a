//! The fold: what the commands below an offset add up to.
//!
//! The fold knows for every list and address until when the address is on the list. It keeps that as disjoint ranges, each as long
//! as possible. `docs/semantics.md` is the authority for what a command means.

use std::fmt;

use edgefold_snapshot::{ListName, MAX_NAMED_LISTS};
use edgefold_table::IpRange;

use super::edits::Edits;
use super::list::{List, SavedList};
use super::record::{Change, Effect, Record, RecordHash, Reject};
use super::time::LogTime;

/// How far a log is folded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// All commands below this offset are folded.
    pub next_offset: u64,
    /// The latest command time among them; [`LogTime::EPOCH`] before the first.
    pub log_time: LogTime,
    /// The hash of the last record that was folded, at offset `next_offset` - 1, by which a reader that comes back recognizes
    /// the log. `None` before the first.
    pub last_record: Option<RecordHash>,
}

/// `offset 1042 (log time 2026-11-23T03:00:00Z)`
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} (log time {})", self.next_offset, self.log_time)
    }
}

/// The lists that the commands so far add up to.
///
/// ```
/// use edgefold::{Edits, Fold, LogTime, Record, Verdict};
///
/// let mut fold = Fold::default();
/// let mut edits = Edits::default();
/// let commands = [
///     "BLACKLIST 10.0.0.0/24 ttl=4h",
///     "WHITELIST 10.0.0.100",
///     "LIST monitoring action=exempt",
///     "ADD 10.0.0.7 list=monitoring",
/// ];
/// for (offset, text) in (0..).zip(commands) {
///     let key = Some(b"2016-09-12T15:32:00Z".to_vec());
///     fold.apply(&Record { offset, timestamp: None, key, value: Some(text.into()) }, &mut edits)?;
/// }
/// let ranges: Vec<String> = fold.default_list().blocks().map(|block| block.range.to_string()).collect();
/// assert_eq!(ranges, ["10.0.0.0-10.0.0.99", "10.0.0.101-10.0.0.255"]);
///
/// let at: LogTime = "2016-09-12T19:31:59Z".parse()?;
/// assert!(matches!(fold.verdict("10.0.0.8".parse()?, at), Verdict::Deny(_)));
/// assert!(matches!(fold.verdict("10.0.0.7".parse()?, at), Verdict::Exempt(_)));
/// assert_eq!(fold.next_expiry(at), Some("2016-09-12T19:32:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fold {
    position: Position,
    /// Sorted by name. The default list is always there, and is the first.
    lists: Vec<List>,
}

impl Default for Fold {
    fn default() -> Self {
        Self { position: Position::default(), lists: vec![List::new(ListName::DEFAULT)] }
    }
}

impl Fold {
    /// Restores a fold from what its lists were at `position`, in any order.
    ///
    /// # Errors
    /// [`ResumeError`]: lists that a fold never has.
    pub fn resume(position: Position, lists: impl IntoIterator<Item = SavedList>) -> Result<Self, ResumeError> {
        let list = |saved: SavedList| {
            let name = saved.name;
            List::restore(saved).map_err(|range| ResumeError::Overlap { list: name, range })
        };
        Self::of_lists(position, lists.into_iter().map(list).collect::<Result<Vec<_>, _>>()?)
    }

    /// As [`Fold::resume`], from lists that are restored already.
    ///
    /// # Errors
    /// [`ResumeError`]: lists that a fold never has.
    pub(crate) fn of_lists(position: Position, lists: Vec<List>) -> Result<Self, ResumeError> {
        let mut this = Self { position, ..Self::default() };
        for list in lists {
            let name = list.name();
            match this.index(&name) {
                // The default list is there already, and empty.
                Ok(0) if this.lists[0] == List::new(name) => this.lists[0] = list,
                Ok(_) => return Err(ResumeError::Twice { list: name }),
                Err(index) => this.lists.insert(index, list),
            }
        }
        this.lists.retain(|list| !list.is_gone());
        if this.lists.len() > MAX_NAMED_LISTS + 1 { Err(ResumeError::TooManyLists) } else { Ok(this) }
    }

    /// Folds the next record, and adds what changes to `edits`. Offsets must rise, but may have gaps.
    ///
    /// # Errors
    /// [`Reject`] if the record cannot be read, or would create one list too many. It is skipped, but the position still advances.
    pub fn apply(&mut self, record: &Record, edits: &mut Edits) -> Result<(), Reject> {
        self.advance(record.offset, record.hash());
        self.apply_effect(&record.effect()?, edits)
    }

    /// Folds the [`Record::effect`] of a record, for callers that know it already. [`Fold::advance`] moves the position.
    ///
    /// # Errors
    /// [`Reject::TooManyLists`]: the record is skipped.
    pub fn apply_effect(&mut self, effect: &Effect, edits: &mut Edits) -> Result<(), Reject> {
        self.check(effect)?;
        self.move_log_time(effect.time, edits);
        self.change(&effect.change, edits);
        Ok(())
    }

    /// Moves log time on, if `time` is later, and drops the blocks that have ended by then.
    pub(super) fn move_log_time(&mut self, time: LogTime, edits: &mut Edits) {
        if time > self.position.log_time {
            self.position.log_time = time;
            self.expire(time, edits);
        }
    }

    /// Changes the lists at the log time reached.
    pub(super) fn change(&mut self, change: &Change, edits: &mut Edits) {
        match change {
            Change::Block { until, .. } if !until.holds_at(self.position.log_time) => {}
            Change::Block { list, range, until } => self.list_mut(list).block(*range, *until, edits.of(list)),
            Change::Allow { list: Some(list), range } => {
                if let Ok(index) = self.index(list) {
                    self.lists[index].allow(*range, edits.of(list));
                    self.remove_if_gone(index);
                }
            }
            Change::Allow { list: None, range } => {
                self.lists.iter_mut().for_each(|list| list.allow(*range, edits.of(&list.name())));
                self.lists.retain(|list| !list.is_gone());
            }
            Change::List { list, action } => self.list_mut(list).set_action(Some(action.clone()), edits.of(list)),
            Change::Unlist { list } => {
                if let Ok(index) = self.index(list) {
                    self.lists[index].clear(edits.of(list));
                    self.lists[index].set_action(None, edits.of(list));
                    self.remove_if_gone(index);
                }
            }
        }
    }

    /// Checks that there is room for the list that an effect creates, if it does.
    ///
    /// # Errors
    /// [`Reject::TooManyLists`].
    pub fn check(&self, effect: &Effect) -> Result<(), Reject> {
        let Effect { time, change } = effect;
        // What the lists are before blocks expire: a rejected record changes nothing.
        let creates = match change {
            Change::Block { list, until, .. } if until.holds_at(self.position.log_time.max(*time)) => list,
            Change::List { list, .. } => list,
            _ => return Ok(()),
        };
        if self.lists.len() <= MAX_NAMED_LISTS || self.index(creates).is_ok() {
            return Ok(());
        }
        Err(Reject::TooManyLists { list: self.lists.last().map_or(ListName::DEFAULT, List::name) })
    }

    fn expire(&mut self, time: LogTime, edits: &mut Edits) {
        let mut is_any_gone = false;
        for list in &mut self.lists {
            if list.has_expired(time) {
                list.expire(time, edits.of(&list.name()));
                is_any_gone |= list.is_gone();
            }
        }
        if is_any_gone {
            self.lists.retain(|list| !list.is_gone());
        }
    }

    fn remove_if_gone(&mut self, index: usize) {
        if self.lists[index].is_gone() {
            self.lists.remove(index);
        }
    }

    /// The list with this name, which is created if it does not exist.
    fn list_mut(&mut self, name: &ListName) -> &mut List {
        let index = self.index(name).unwrap_or_else(|index| {
            self.lists.insert(index, List::new(*name));
            index
        });
        &mut self.lists[index]
    }

    /// Where the list with this name is, or where it would be.
    fn index(&self, name: &ListName) -> Result<usize, usize> {
        if name.is_default() { Ok(0) } else { self.lists.binary_search_by(|list| list.name().cmp(name)) }
    }

    /// Moves the position past the record at `offset` with this hash. Whoever does not call [`Fold::apply`] calls this for every
    /// record, rejected or not.
    pub fn advance(&mut self, offset: u64, hash: RecordHash) {
        debug_assert!(offset >= self.position.next_offset, "offsets rise");
        self.position.next_offset = offset + 1;
        self.position.last_record = Some(hash);
    }

    /// How far the log is folded.
    pub fn position(&self) -> Position {
        self.position
    }

    /// A hash of all lists. It does not depend on how they came about.
    pub fn hash(&self) -> u64 {
        self.lists.iter().fold(0, |hash, list| hash.wrapping_add(list.hash()))
    }

    /// All lists that exist, the default list first, and the others by name.
    ///
    /// A list exists from the first command that puts a range on it or says what it does. It is gone once it is removed, or when
    /// nothing is on it and no command says what it does.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// The list with this name, if it exists.
    pub fn list(&self, name: &ListName) -> Option<&List> {
        self.lists.get(self.index(name).ok()?)
    }

    /// The list of commands that name none.
    pub fn default_list(&self) -> &List {
        &self.lists[0]
    }

    /// Keeps only the lists for which `keep` returns true. Of the default list, which always exists, nothing is kept otherwise.
    pub fn retain_lists(&mut self, keep: impl Fn(&ListName) -> bool) {
        self.lists.retain(|list| keep(&list.name()));
        if self.lists.first().is_none_or(|list| !list.name().is_default()) {
            self.lists.insert(0, List::new(ListName::DEFAULT));
        }
    }

    /// The same lists, with only what is on them within `ranges`. It takes as long as there are blocks there, however many there are
    /// elsewhere.
    pub fn within(&self, ranges: &List) -> Self {
        let lists = self.lists.iter().map(|list| list.within(ranges)).filter(|list| !list.is_gone());
        Self { position: self.position, lists: lists.collect() }
    }

    /// The edits that lead from the lists of `before` to those of this fold.
    pub fn edits_since(&self, before: &Self) -> Edits {
        let mut edits = Edits::default();
        for name in before.lists.iter().chain(&self.lists).map(List::name) {
            *edits.of(&name) = List::edits_between(before.list(&name), self.list(&name));
        }
        edits
    }

    /// Whether the lists at `now` differ from those at `then`, before the `edits` that led to this fold: by what they do, or by the
    /// addresses on them. A block can be split, joined or prolonged without that.
    pub fn has_changed(&self, then: LogTime, edits: &Edits, now: LogTime) -> bool {
        self.lists.iter().any(|list| list.has_changed(then, edits.get(&list.name()), now))
            || edits
                .lists()
                .any(|(name, of)| self.list(&name).is_none() && List::new(name).has_changed(then, Some(of), now))
    }

    /// Where the lists at `now` may differ from those at `then`, before the `edits` that led to this fold: for each list that exists and
    /// may differ, the ranges of the blocks that came, went or ended, in any order. Everywhere else the lists are the same.
    pub fn changes(&self, then: LogTime, edits: &Edits, now: LogTime) -> Vec<(ListName, Vec<IpRange>)> {
        let changes = self.lists.iter().map(|list| (list.name(), list.changes(then, edits.get(&list.name()), now)));
        changes.filter(|(_, ranges)| !ranges.is_empty()).collect()
    }

    /// The first moment after `time` at which a block expires.
    pub fn next_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.lists.iter().filter_map(|list| list.next_expiry(time)).min()
    }

    /// The last moment up to `time` at which a block expired that is still among its list's [`List::blocks`], because no command has
    /// come since then.
    pub fn newest_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.lists.iter().filter_map(|list| list.newest_expiry(time)).max()
    }
}

/// Why lists are not those of a fold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResumeError {
    /// A range that a fold does not have.
    #[error("the range {range} of list {list} overlaps the one before it, or should be joined with it")]
    Overlap {
        /// The list.
        list: ListName,
        /// The range.
        range: IpRange,
    },
    /// A list that is there twice.
    #[error("list {list} is there twice")]
    Twice {
        /// The list.
        list: ListName,
    },
    /// More lists than a fold has.
    #[error("there are more than {MAX_NAMED_LISTS} lists")]
    TooManyLists,
}
