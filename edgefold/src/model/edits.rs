//! What changed in the blocks, for whoever keeps a copy of them, such as the ranges topic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{iter, mem};

use edgefold_table::{Address, AddressRange, IpRange};

use super::block::{Block, joined};
use super::time::LogTime;

/// The blocks that were added and removed since the edits were last cleared.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    pub(crate) v4: FamilyEdits<Ipv4Addr>,
    pub(crate) v6: FamilyEdits<Ipv6Addr>,
}

impl Edits {
    /// The net change: the first address of each range that changed, in order, with the block that starts there now, or
    /// `None` if none does any more.
    pub fn net(&self) -> impl Iterator<Item = (IpAddr, Option<Block>)> {
        self.v4.net().chain(self.v6.net())
    }

    /// Forgets the edits, but keeps their memory for the next ones.
    pub fn clear(&mut self) {
        self.v4.edits.clear();
        self.v6.edits.clear();
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

    /// Whether other addresses are blocked at `now`, after the edits, than were at `then`, before them. `expired` are the first
    /// addresses of the blocks that have expired in between and are still there.
    pub(crate) fn change_what_is_blocked(
        &self,
        then: LogTime,
        now: LogTime,
        mut expired: impl Iterator<Item = A>,
    ) -> bool {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (_, removed, added) in net(self.edits.clone()) {
            before.extend(removed);
            after.extend(added);
        }
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

    #[test]
    fn edits_that_cancel_out_do_not_fill_the_memory() {
        let mut edits = Edits::default();
        let range = AddressRange::new(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST).unwrap();
        let block = Block { range, until: Until::FOREVER };
        for _ in 0..200_000 {
            edits.v4.added(block);
            edits.v4.removed(block);
            assert!(edits.v4.edits.len() <= FamilyEdits::<Ipv4Addr>::LEAST_LIMIT);
        }
        assert_eq!(edits.net().next(), None);

        edits.v4.added(block);
        assert_eq!(edits.net().next(), Some((range.first().into(), Some(block.into()))));
        edits.clear();
        assert_eq!(edits.net().next(), None);
    }
}
