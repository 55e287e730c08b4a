//! What changed in the blocks, for whoever keeps a copy of them, such as the ranges topic.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{iter, mem};

use edgefold_snapshot::{ListAction, ListName, MAX_NAMED_LISTS};
use edgefold_table::{Address, AddressRange, IpRange};

use super::block::{Block, joined};
use super::time::LogTime;

/// What was added to and removed from each list since the edits were last cleared.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Apart from the others, because most logs have no other list.
    default: ListEdits,
    named: BTreeMap<ListName, ListEdits>,
}

impl Edits {
    /// How many lists may have edits before those are dropped that cancel out: twice as many as can have a net change, which are
    /// those that existed before, and those that exist now.
    const MOST_LISTS: usize = 4 * MAX_NAMED_LISTS;

    /// The edits of each list that may have some.
    pub fn lists(&self) -> impl Iterator<Item = (ListName, &ListEdits)> {
        iter::once((ListName::DEFAULT, &self.default)).chain(self.named.iter().map(|(name, edits)| (*name, edits)))
    }

    pub(super) fn get(&self, list: &ListName) -> Option<&ListEdits> {
        if list.is_default() { Some(&self.default) } else { self.named.get(list) }
    }

    pub(super) fn of(&mut self, list: &ListName) -> &mut ListEdits {
        if list.is_default() {
            return &mut self.default;
        }
        if self.named.len() >= Self::MOST_LISTS && !self.named.contains_key(list) {
            self.named.retain(|_, edits| edits.changes_action() || edits.net().next().is_some());
        }
        self.named.entry(*list).or_default()
    }

    /// Forgets the edits, but keeps the memory of the default list for the next ones.
    pub fn clear(&mut self) {
        self.default.v4.edits.clear();
        self.default.v6.edits.clear();
        self.default.action = None;
        self.named.clear();
    }
}

/// What was added to and removed from a list.
#[derive(Clone, Debug, Default)]
pub struct ListEdits {
    pub(super) v4: FamilyEdits<Ipv4Addr>,
    pub(super) v6: FamilyEdits<Ipv6Addr>,
    /// What the list did before, and what it does after the edits, as far as commands say so. `None` without such edits.
    pub(super) action: Option<(Option<ListAction>, Option<ListAction>)>,
}

impl ListEdits {
    /// The net change: the first address of each range that changed, in order, with the block that starts there now, or
    /// `None` if none does any more.
    pub fn net(&self) -> impl Iterator<Item = (IpAddr, Option<Block>)> {
        self.v4.net().chain(self.v6.net())
    }

    /// What the list does now, if that has changed; the inner `None` if no command says so any more.
    pub fn action(&self) -> Option<Option<&ListAction>> {
        self.action.as_ref().filter(|_| self.changes_action()).map(|(_, after)| after.as_ref())
    }

    pub(super) fn changes_action(&self) -> bool {
        self.action.as_ref().is_some_and(|(before, after)| before != after)
    }

    pub(super) fn action_changed(&mut self, before: Option<ListAction>, after: Option<ListAction>) {
        let first = self.action.take().map_or(before, |(first, _)| first);
        self.action = Some((first, after));
    }
}

/// The edits of one family in the order in which they happened. They are only sorted when they are read.
#[derive(Clone, Debug)]
pub(crate) struct FamilyEdits<A> {
    edits: Vec<Edit<A>>,
    /// How many edits there may be before those that cancel out are dropped.
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
enum Edit<A> {
    Removed(Block<AddressRange<A>>),
    Added(Block<AddressRange<A>>),
}

impl<A: Address> FamilyEdits<A>
where
    IpRange: From<AddressRange<A>>,
{
    /// Far more than a writer collects between two writes.
    const LEAST_LIMIT: usize = 1 << 16;

    #[inline]
    pub(crate) fn removed(&mut self, block: Block<AddressRange<A>>) {
        self.push(Edit::Removed(block));
    }

    #[inline]
    pub(crate) fn added(&mut self, block: Block<AddressRange<A>>) {
        self.push(Edit::Added(block));
    }

    #[inline]
    fn push(&mut self, edit: Edit<A>) {
        if self.edits.len() >= self.limit {
            self.compact();
        }
        self.edits.push(edit);
    }

    /// Drops the edits that cancel out: without it, a long log would fill the memory where nobody writes them.
    #[cold]
    pub(crate) fn compact(&mut self) {
        let net = net(mem::take(&mut self.edits));
        let edits = net.flat_map(|(_, before, after)| [before.map(Edit::Removed), after.map(Edit::Added)]);
        self.edits = edits.flatten().collect();
        self.limit = Self::LEAST_LIMIT.max(2 * self.edits.len());
    }

    pub(crate) fn net(&self) -> impl Iterator<Item = (IpAddr, Option<Block>)> {
        net(self.edits.clone()).map(|(first, _, after)| (first.into(), after.map(Block::from)))
    }

    /// The blocks that went, and those that came, both sorted.
    pub(crate) fn net_blocks(&self) -> [Vec<Block<AddressRange<A>>>; 2] {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (_, removed, added) in net(self.edits.clone()) {
            before.extend(removed);
            after.extend(added);
        }
        [before, after]
    }

    /// The ranges of the blocks that came or went, in any order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = AddressRange<A>> {
        net(self.edits.clone()).flat_map(|(_, before, after)| before.into_iter().chain(after)).map(|block| block.range)
    }

    /// Whether other addresses are blocked at `now`, after the edits, than were at `then`, before them. `expired` are the first
    /// addresses of the blocks that have expired in between and are still there.
    pub(crate) fn change_what_is_blocked(
        &self,
        then: LogTime,
        now: LogTime,
        mut expired: impl Iterator<Item = A>,
    ) -> bool {
        let [before, after] = self.net_blocks();
        // A block that was not edited is apart from all others, before and after.
        let is_new = |first: A| after.binary_search_by_key(&first, |block| block.range.first()).is_ok();
        if expired.any(|first| !is_new(first)) {
            return true;
        }
        let blocked = |blocks: Vec<Block<AddressRange<A>>>, time| {
            let blocks = blocks.into_iter().filter(move |block| block.until.holds_at(time));
            joined(blocks.map(|block| block.range))
        };
        !blocked(before, then).eq(blocked(after, now))
    }

    /// The edits that lead from `before` to `after`, both sorted.
    pub(crate) fn between<'a>(
        before: impl Iterator<Item = &'a Block<AddressRange<A>>>,
        after: impl Iterator<Item = &'a Block<AddressRange<A>>>,
    ) -> Self
    where
        A: 'a,
    {
        let mut this = Self::default();
        let (mut before, mut after) = (before.peekable(), after.peekable());
        loop {
            match (before.peek(), after.peek()) {
                (None, None) => return this,
                (Some(old), Some(new)) if old == new => {
                    before.next();
                    after.next();
                }
                (Some(old), new) if new.is_none_or(|new| old.range.first() <= new.range.first()) => {
                    this.edits.extend(before.next().copied().map(Edit::Removed));
                }
                _ => this.edits.extend(after.next().copied().map(Edit::Added)),
            }
        }
    }
}

impl<A> Default for FamilyEdits<A> {
    fn default() -> Self {
        Self { edits: Vec::new(), limit: 0 }
    }
}

impl<A: Address> Edit<A> {
    fn first(&self) -> A {
        let (Self::Removed(block) | Self::Added(block)) = self;
        block.range.first()
    }
}

/// A first address, the block that started there before the edits, and the one that does after them.
type NetEdit<A> = (A, Option<Block<AddressRange<A>>>, Option<Block<AddressRange<A>>>);

/// The net change of `edits`, by first address. Blocks that end up as they were are left out.
fn net<A: Address>(mut edits: Vec<Edit<A>>) -> impl Iterator<Item = NetEdit<A>> {
    edits.sort_by_key(Edit::first);
    let mut edits = edits.into_iter().peekable();
    let net = iter::from_fn(move || {
        let opening = edits.next()?;
        let mut closing = opening;
        while let Some(edit) = edits.next_if(|edit| edit.first() == opening.first()) {
            closing = edit;
        }
        let before = if let Edit::Removed(block) = opening { Some(block) } else { None };
        let after = if let Edit::Added(block) = closing { Some(block) } else { None };
        Some((opening.first(), before, after))
    });
    net.filter(|(_, before, after)| before != after)
}

#[cfg(test)]
mod tests {
    use super::super::block::Until;
    use super::*;

    fn block() -> Block<AddressRange<Ipv4Addr>> {
        Block { range: AddressRange::new(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST).unwrap(), until: Until::FOREVER }
    }

    #[test]
    fn edits_that_cancel_out_do_not_fill_the_memory() {
        let mut edits = Edits::default();
        for _ in 0..200_000 {
            edits.default.v4.added(block());
            edits.default.v4.removed(block());
            assert!(edits.default.v4.edits.len() <= FamilyEdits::<Ipv4Addr>::LEAST_LIMIT);
        }
        assert_eq!(edits.default.net().next(), None);

        edits.default.v4.added(block());
        assert_eq!(edits.default.net().next(), Some((Ipv4Addr::LOCALHOST.into(), Some(block().into()))));
        edits.clear();
        assert_eq!(edits.default.net().next(), None);
    }

    #[test]
    fn lists_that_come_and_go_do_not_fill_the_memory() {
        let mut edits = Edits::default();
        edits.of(&"kept".parse().unwrap()).v4.added(block());
        edits.of(&"tagged".parse().unwrap()).action_changed(None, Some(ListAction::Tag));
        for at in 0..10_000 {
            let of = edits.of(&format!("list-{at}").parse().unwrap());
            of.v4.added(block());
            of.v4.removed(block());
            of.action_changed(None, Some(ListAction::Tag));
            of.action_changed(Some(ListAction::Tag), None);
            assert!(edits.named.len() <= Edits::MOST_LISTS);
        }
        let kept: Vec<_> = edits.lists().filter(|(_, of)| of.net().next().is_some()).map(|(name, _)| name).collect();
        assert_eq!(kept, ["kept".parse().unwrap()]);
        let tagged: Vec<_> = edits.lists().filter_map(|(name, of)| Some((name, of.action()?))).collect();
        assert_eq!(tagged, [("tagged".parse().unwrap(), Some(&ListAction::Tag))]);
    }
}
