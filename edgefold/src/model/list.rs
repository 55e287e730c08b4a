//! One list: its blocks, and what it does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold_snapshot::{ListAction, ListName};
use edgefold_table::{Address, AddressRange, IPV4_MAPPED, IpRange};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::block::{Block, Until, joined};
use super::blocks::Blocks;
use super::edits::{FamilyEdits, ListEdits};
use super::list_action::ListActionText;
use super::time::LogTime;

/// What a list does that no command says anything about.
static DEFAULT_ACTION: ListAction = ListAction::DEFAULT;

/// A list: until when each address is on it, and what it does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct List {
    name: ListName,
    /// `None` if no command says so.
    action: Option<ListAction>,
    pub(super) v4: Blocks<Ipv4Addr>,
    pub(super) v6: Blocks<Ipv6Addr>,
}

/// What a [`List`] is restored from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SavedList {
    /// Its name.
    pub name: ListName,
    /// What it does, if a command says so.
    pub action: Option<ListAction>,
    /// Its blocks, in any order.
    pub blocks: Vec<Block>,
}

impl List {
    /// A list with nothing on it.
    pub fn new(name: ListName) -> Self {
        Self { name, action: None, v4: Blocks::default(), v6: Blocks::default() }
    }

    /// Puts addresses on the list: each of the block's range is on it until the later of the block's end and the end that it has.
    pub fn put(&mut self, block: Block) {
        self.block(block.range, block.until, &mut ListEdits::default());
    }

    /// Takes addresses off the list.
    pub fn take(&mut self, range: IpRange) {
        self.allow(range, &mut ListEdits::default());
    }

    /// As for [`Fold::resume`](super::fold::Fold::resume).
    pub(super) fn restore(SavedList { name, action, blocks }: SavedList) -> Result<Self, IpRange> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Block { range, until } in blocks {
            match range {
                IpRange::V4(range) => v4.push(Block { range, until }),
                IpRange::V6(range) => v6.push(Block { range, until }),
            }
        }
        let (v4, v6) = (Blocks::restore(v4).map_err(IpRange::V4)?, Blocks::restore(v6).map_err(IpRange::V6)?);
        Ok(Self { name, action, v4, v6 })
    }

    /// The list with these blocks.
    pub(crate) fn of_blocks(
        name: ListName,
        action: Option<ListAction>,
        v4: Blocks<Ipv4Addr>,
        v6: Blocks<Ipv6Addr>,
    ) -> Self {
        Self { name, action, v4, v6 }
    }

    /// Its blocks of IPv4.
    pub(crate) fn v4(&self) -> &Blocks<Ipv4Addr> {
        &self.v4
    }

    /// Its blocks of IPv6.
    pub(crate) fn v6(&self) -> &Blocks<Ipv6Addr> {
        &self.v6
    }

    /// Its name.
    pub fn name(&self) -> ListName {
        self.name
    }

    /// What it does. A list that no command says anything about refuses.
    pub fn action(&self) -> &ListAction {
        self.action.as_ref().unwrap_or(&DEFAULT_ACTION)
    }

    /// What it does, if a command says so.
    pub fn stated_action(&self) -> Option<&ListAction> {
        self.action.as_ref()
    }

    /// All blocks, IPv4 before IPv6, sorted and disjoint. Neighbours that touch have different ends. Blocks that have expired
    /// since the last command are still among them.
    pub fn blocks(&self) -> impl Iterator<Item = Block> {
        self.v4.iter().map(|&block| block.into()).chain(self.v6.iter().map(|&block| block.into()))
    }

    /// The number of [`List::blocks`].
    pub fn len(&self) -> u64 {
        (self.v4.len() + self.v6.len()) as u64
    }

    /// Whether there are no [`List::blocks`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ranges that are on the list at `time`, sorted, with ranges that touch joined: what [`edgefold_table::encode`] needs.
    pub fn ranges_at(&self, time: LogTime) -> impl Iterator<Item = IpRange> {
        let v4 = joined(self.v4.iter().filter(move |block| block.until.holds_at(time)).map(|block| block.range));
        let v6 = joined(self.v6.iter().filter(move |block| block.until.holds_at(time)).map(|block| block.range));
        v4.map(IpRange::V4).chain(v6.map(IpRange::V6))
    }

    /// The blocks with an address in `range`, sorted. It takes as long as there are blocks in the range.
    pub fn blocks_in(&self, range: IpRange) -> Vec<Block> {
        match range {
            IpRange::V4(range) => self.v4.in_range(range).map(|&block| block.into()).collect(),
            IpRange::V6(range) => self.v6.in_range(range).map(|&block| block.into()).collect(),
        }
    }

    /// The IPv4 blocks with an address in `range`, sorted.
    pub fn v4_blocks_in(&self, range: AddressRange<Ipv4Addr>) -> impl Iterator<Item = Block<AddressRange<Ipv4Addr>>> {
        self.v4.in_range(range).copied()
    }

    /// The IPv6 blocks with an address in `range`, sorted.
    pub fn v6_blocks_in(&self, range: AddressRange<Ipv6Addr>) -> impl Iterator<Item = Block<AddressRange<Ipv6Addr>>> {
        self.v6.in_range(range).copied()
    }

    /// As [`List::blocks_in`], with each block cut to `range`.
    pub fn blocks_within(&self, range: IpRange) -> Vec<Block> {
        let cut = |block: Block| Some(Block { range: block.range.common(range)?, ..block });
        self.blocks_in(range).into_iter().filter_map(cut).collect()
    }

    /// As for [`Fold::within`](super::fold::Fold::within).
    pub(super) fn within(&self, ranges: &Self) -> Self {
        let mut part = Self { action: self.action.clone(), ..Self::new(self.name) };
        for range in ranges.blocks() {
            self.blocks_within(range.range).into_iter().for_each(|block| part.put(block));
        }
        part
    }

    /// The parts of `range` that are on the list at `time`, sorted, with those that touch joined. It takes as long as there are blocks
    /// in the range, however many there are elsewhere.
    pub fn ranges_within(&self, range: IpRange, time: LogTime) -> Vec<IpRange> {
        match range {
            IpRange::V4(range) => parts_within(&self.v4, range, time),
            IpRange::V6(range) => parts_within(&self.v6, range, time),
        }
    }

    /// The ranges of the blocks that came or went by `edits`, and of those that ended between `then` and `now`, in any order.
    pub(super) fn changes(&self, then: LogTime, edits: Option<&ListEdits>, now: LogTime) -> Vec<IpRange> {
        fn of<A: Address>(blocks: &Blocks<A>, edits: Option<&FamilyEdits<A>>, [from, to]: [LogTime; 2]) -> Vec<IpRange>
        where
            IpRange: From<AddressRange<A>>,
        {
            let ended = blocks.expired_between(from, to).filter_map(|first| Some(blocks.find(first)?.range));
            edits.into_iter().flat_map(FamilyEdits::ranges).chain(ended).map(IpRange::from).collect()
        }
        // If the clock has gone back, blocks that had ended have not.
        let between = [then.min(now), then.max(now)];
        let mut changes = of(&self.v4, edits.map(|edits| &edits.v4), between);
        changes.extend(of(&self.v6, edits.map(|edits| &edits.v6), between));
        changes
    }

    /// The block that contains `ip` and is in force at `time`. An IPv4-mapped IPv6 address is looked up as the IPv4 address
    /// in it.
    pub fn find(&self, ip: IpAddr, time: LogTime) -> Option<Block> {
        let found: Option<Block> = match ip.to_canonical() {
            IpAddr::V4(address) => self.v4.find(address).map(|&block| block.into()),
            IpAddr::V6(address) => self.v6.find(address).map(|&block| block.into()),
        };
        found.filter(|block| block.until.holds_at(time))
    }

    /// The first moment after `time` at which a block expires.
    pub fn next_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.v4.next_expiry(time).into_iter().chain(self.v6.next_expiry(time)).min()
    }

    /// The last moment up to `time` at which a block expired that is still among [`List::blocks`], because no command has
    /// come since then.
    pub fn newest_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.v4.newest_expiry(time).into_iter().chain(self.v6.newest_expiry(time)).max()
    }

    /// A hash of its name, of what it does and of the set of its blocks. `docs/semantics.md` is the authority: it is stored in the
    /// ranges topic.
    pub(super) fn hash(&self) -> u64 {
        let blocks = self.v4.hash().wrapping_add(self.v6.hash());
        let name = xxh3_64(self.name.as_str().as_bytes());
        let blocks = if self.name.is_default() { blocks } else { xxh3_64_with_seed(&blocks.to_be_bytes(), name) };
        let action = self.action.as_ref().map(|action| ListActionText(action).to_string());
        blocks.wrapping_add(action.map_or(0, |action| xxh3_64_with_seed(action.as_bytes(), name)))
    }

    /// Whether there is nothing that tells it from a list that never was.
    pub(super) fn is_gone(&self) -> bool {
        !self.name.is_default() && self.action.is_none() && self.blocks().next().is_none()
    }

    pub(super) fn block(&mut self, range: IpRange, until: Until, edits: &mut ListEdits) {
        match range {
            IpRange::V4(range) => self.v4.block(range, until, &mut edits.v4),
            IpRange::V6(range) => {
                for range in without_ipv4_mapped(range).into_iter().flatten() {
                    self.v6.block(range, until, &mut edits.v6);
                }
            }
        }
    }

    pub(super) fn allow(&mut self, range: IpRange, edits: &mut ListEdits) {
        match range {
            IpRange::V4(range) => self.v4.allow(range, &mut edits.v4),
            IpRange::V6(range) => self.v6.allow(range, &mut edits.v6),
        }
    }

    /// Ends all blocks.
    pub(super) fn clear(&mut self, edits: &mut ListEdits) {
        if let Ok(all) = AddressRange::new(Ipv4Addr::FIRST, Ipv4Addr::LAST) {
            self.v4.allow(all, &mut edits.v4);
        }
        if let Ok(all) = AddressRange::new(Ipv6Addr::FIRST, Ipv6Addr::LAST) {
            self.v6.allow(all, &mut edits.v6);
        }
    }

    pub(super) fn set_action(&mut self, action: Option<ListAction>, edits: &mut ListEdits) {
        if self.action != action {
            edits.action_changed(self.action.clone(), action.clone());
            self.action = action;
        }
    }

    /// Whether a block has expired by `time`.
    pub(super) fn has_expired(&self, time: LogTime) -> bool {
        self.v4.first_expiry().into_iter().chain(self.v6.first_expiry()).any(|end| end <= time)
    }

    /// Drops the blocks that have expired by `time`.
    pub(super) fn expire(&mut self, time: LogTime, edits: &mut ListEdits) {
        self.v4.expire(time, &mut edits.v4);
        self.v6.expire(time, &mut edits.v6);
    }

    /// The edits that lead from `before` to `after`; one of them may not exist.
    pub(super) fn edits_between(before: Option<&Self>, after: Option<&Self>) -> ListEdits {
        fn v4(list: Option<&List>) -> impl Iterator<Item = &Block<AddressRange<Ipv4Addr>>> {
            list.into_iter().flat_map(|list| list.v4.iter())
        }
        fn v6(list: Option<&List>) -> impl Iterator<Item = &Block<AddressRange<Ipv6Addr>>> {
            list.into_iter().flat_map(|list| list.v6.iter())
        }
        let mut edits = ListEdits {
            v4: FamilyEdits::between(v4(before), v4(after)),
            v6: FamilyEdits::between(v6(before), v6(after)),
            ..ListEdits::default()
        };
        let action = |list: Option<&Self>| list.and_then(|list| list.action.clone());
        edits.action_changed(action(before), action(after));
        edits
    }

    /// Whether it does something else at `now` than at `then`, before the `edits` that led to it, or for other addresses.
    pub(super) fn has_changed(&self, then: LogTime, edits: Option<&ListEdits>, now: LogTime) -> bool {
        let none = ListEdits::default();
        let edits = edits.unwrap_or(&none);
        self.does_something_else(edits, now)
            || edits.v4.change_what_is_blocked(then, now, self.v4.expired_between(then, now))
            || edits.v6.change_what_is_blocked(then, now, self.v6.expired_between(then, now))
    }

    fn does_something_else(&self, edits: &ListEdits, now: LogTime) -> bool {
        let Some((before, after)) = &edits.action else { return false };
        let of = |stated: &Option<ListAction>| stated.clone().unwrap_or_default();
        // An empty list only exists as long as a command says what it does.
        let comes_or_goes =
            !self.name.is_default() && before.is_some() != after.is_some() && self.ranges_at(now).next().is_none();
        of(before) != of(after) || comes_or_goes
    }
}

fn parts_within<A: Address>(blocks: &Blocks<A>, range: AddressRange<A>, time: LogTime) -> Vec<IpRange>
where
    IpRange: From<AddressRange<A>>,
{
    let held = blocks.in_range(range).filter(|block| block.until.holds_at(time)).map(|block| block.range);
    joined(held.filter_map(|held| held.common(range))).map(IpRange::from).collect()
}

/// The parts of `range` outside the IPv4-mapped block, whose addresses are IPv4.
fn without_ipv4_mapped(range: AddressRange<Ipv6Addr>) -> [Option<AddressRange<Ipv6Addr>>; 2] {
    let before = IPV4_MAPPED.first().predecessor().filter(|_| range.first() < IPV4_MAPPED.first());
    let after = IPV4_MAPPED.last().successor().filter(|_| range.last() > IPV4_MAPPED.last());
    [
        before.and_then(|before| AddressRange::new(range.first(), range.last().min(before)).ok()),
        after.and_then(|after| AddressRange::new(range.first().max(after), range.last()).ok()),
    ]
}
