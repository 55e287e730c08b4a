//! Edits: what changed in the ranges, as the ranges topic is to be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{iter, mem};

use edgefold_table::Address;

use crate::blocks::{Block, Blocks};
use crate::fold::Fold;
use crate::record::Until;

/// The changes since the last write.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    pub(crate) v4: Journal<Ipv4Addr>,
    pub(crate) v6: Journal<Ipv6Addr>,
}

/// What the view holds under a range's first address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The range's last address.
    pub last: IpAddr,
    /// The end of the block.
    pub until: Until,
}

impl Edits {
    /// What leads from the ranges of one fold to those of another.
    pub fn between(before: &Fold, after: &Fold) -> Self {
        Self { v4: Journal::between(&before.v4, &after.v4), v6: Journal::between(&before.v6, &after.v6) }
    }

    /// The first address of each range that changed, in order, with what it is now; `None` where it is gone.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, Option<Entry>)> {
        self.v4.entries().chain(self.v6.entries())
    }

    /// Forgets the changes, once they are written; the memory stays for the next ones.
    pub fn clear(&mut self) {
        self.v4.steps.clear();
        self.v6.steps.clear();
    }
}

/// The changes in the blocks of one family, step by step; only when they are read are they put in order.
#[derive(Clone, Debug)]
pub(crate) struct Journal<A> {
    steps: Vec<Step<A>>,
    /// How many steps there may be before those that cancel out are dropped.
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step<A> {
    Removed(Block<A>),
    Added(Block<A>),
}

impl<A: Address> Journal<A> {
    /// Far more than a writer collects between two writes.
    const LEAST_LIMIT: usize = 1 << 16;

    pub(crate) fn removed(&mut self, block: Block<A>) {
        self.push(Step::Removed(block));
    }

    pub(crate) fn added(&mut self, block: Block<A>) {
        self.push(Step::Added(block));
    }

    fn push(&mut self, step: Step<A>) {
        if self.steps.len() >= self.limit {
            self.settle();
        }
        self.steps.push(step);
    }

    /// Drops the steps that cancel out: a long log would fill the memory with them where nobody writes.
    #[cold]
    pub(crate) fn settle(&mut self) {
        let changes = changes(mem::take(&mut self.steps));
        let steps = changes.flat_map(|(_, before, after)| [before.map(Step::Removed), after.map(Step::Added)]);
        self.steps = steps.flatten().collect();
        self.limit = Self::LEAST_LIMIT.max(2 * self.steps.len());
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (IpAddr, Option<Entry>)> {
        let entry = |block: Block<A>| Entry { last: block.range.last().into(), until: block.end.into() };
        changes(self.steps.clone()).map(move |(first, _, after)| (first.into(), after.map(entry)))
    }

    fn between(before: &Blocks<A>, after: &Blocks<A>) -> Self {
        let mut journal = Self::default();
        let (mut before, mut after) = (before.blocks().peekable(), after.blocks().peekable());
        loop {
            match (before.peek(), after.peek()) {
                (None, None) => return journal,
                (Some(old), Some(new)) if old == new => {
                    before.next();
                    after.next();
                }
                (Some(old), new) if new.is_none_or(|new| old.range.first() <= new.range.first()) => {
                    journal.steps.extend(before.next().copied().map(Step::Removed));
                }
                _ => journal.steps.extend(after.next().copied().map(Step::Added)),
            }
        }
    }
}

impl<A> Default for Journal<A> {
    fn default() -> Self {
        Self { steps: Vec::new(), limit: 0 }
    }
}

impl<A: Address> Step<A> {
    fn first(&self) -> A {
        let (Self::Removed(block) | Self::Added(block)) = self;
        block.range.first()
    }
}

/// What `steps` come to, by first address: the block there before them and the one after them, where the two differ.
fn changes<A: Address>(mut steps: Vec<Step<A>>) -> impl Iterator<Item = (A, Option<Block<A>>, Option<Block<A>>)> {
    steps.sort_by_key(Step::first);
    let mut steps = steps.into_iter().peekable();
    let net = iter::from_fn(move || {
        let opening = steps.next()?;
        let mut closing = opening;
        while let Some(step) = steps.next_if(|step| step.first() == opening.first()) {
            closing = step;
        }
        let before = if let Step::Removed(block) = opening { Some(block) } else { None };
        let after = if let Step::Added(block) = closing { Some(block) } else { None };
        Some((opening.first(), before, after))
    });
    net.filter(|(_, before, after)| before != after)
}
