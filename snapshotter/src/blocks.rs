//! The blocks of one family: disjoint ranges of addresses, each with its end, in an order that is cheap to change.
//!
//! They lie sorted in chunks. A command searches its chunk, then its place there, and moves what lies behind it in that
//! chunk; in a tree it would cost a descent for every block that it touches. `docs/benchmarks.md` compares the two.

use std::collections::BTreeSet;
use std::ops::Bound;

use edgefold_table::{Address, AddressRange};

use crate::edits::Journal;
use crate::record::Until;
use crate::time::LogTime;

/// A range and the end of its block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Block<A> {
    pub(crate) range: AddressRange<A>,
    pub(crate) end: End,
}

/// [`Until`] in 8 bytes instead of 16: milliseconds, or a number that no [`LogTime`] has for ever.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct End(u64);

/// The blocks of one family: sorted and disjoint, and no two with the same end touch.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<A, const CAPACITY: usize = 64> {
    /// The first address of each chunk: apart from the chunks, so that the search among them stays in the cache.
    firsts: Vec<A>,
    /// From 1 to `CAPACITY` blocks each; of two neighbours, at least one is a quarter full.
    chunks: Vec<Vec<Block<A>>>,
    /// The blocks that end, by their end.
    expiries: BTreeSet<(LogTime, A)>,
}

/// The blocks from `index` in `chunk` up to, and without, `end_index` in `end_chunk`.
#[derive(Clone, Copy)]
struct Span {
    chunk: usize,
    index: usize,
    end_chunk: usize,
    end_index: usize,
}

impl<A: Address, const CAPACITY: usize> Blocks<A, CAPACITY> {
    /// How full a new chunk is, so that the next few blocks do not split it again.
    const FILL: usize = CAPACITY * 3 / 4;

    /// The blocks that [`Blocks::iter`] gave, in any order.
    ///
    /// # Errors
    /// The first range that overlaps the one before it, or should be one with it.
    pub(crate) fn restore(mut blocks: Vec<Block<A>>) -> Result<Self, AddressRange<A>> {
        blocks.sort_by_key(|block| block.range.first());
        let wrong = blocks.windows(2).find(|pair| {
            let [before, block] = [pair[0], pair[1]].map(|block| block.range);
            let touch = before.last().successor() == Some(block.first());
            before.last() >= block.first() || (touch && pair[0].end == pair[1].end)
        });
        if let Some(pair) = wrong {
            return Err(pair[1].range);
        }
        Ok(Self {
            firsts: blocks.chunks(Self::FILL).map(|chunk| chunk[0].range.first()).collect(),
            chunks: blocks.chunks(Self::FILL).map(<[_]>::to_vec).collect(),
            expiries: blocks.iter().filter_map(Block::expiry).collect(),
        })
    }

    /// Blocks `range` until `until`, where it is not blocked for longer.
    pub(crate) fn block(&mut self, range: AddressRange<A>, until: Until, journal: &mut Journal<A>) {
        let (first, last, end) = (range.first(), range.last(), End::from(until));
        // Neighbours too, since a block with the same end becomes one with them.
        let span = self.span(first.predecessor().unwrap_or(first), last.successor().unwrap_or(last));
        let mut new = Pieces(Vec::new());
        // The first address of the range that no piece holds yet; none at the end.
        let mut open = Some(first);
        for old in within(&self.chunks, span) {
            let (old_first, old_last) = (old.range.first(), old.range.last());
            if let Some(before) = first.predecessor() {
                new.push(old_first, old_last.min(before), old.end);
            }
            let (inner_first, inner_last) = (old_first.max(first), old_last.min(last));
            if inner_first <= inner_last {
                if let (Some(open), Some(before)) = (open, inner_first.predecessor()) {
                    new.push(open, before, end);
                }
                new.push(inner_first, inner_last, old.end.max(end));
                open = inner_last.successor();
            }
            if let Some(after) = last.successor().filter(|after| old_last >= *after) {
                if let Some(open) = open.take() {
                    new.push(open, last, end);
                }
                new.push(old_first.max(after), old_last, old.end);
            }
        }
        if let Some(open) = open {
            new.push(open, last, end);
        }
        self.replace(span, &new.0, journal);
    }

    /// Ends all blocks within `range`.
    pub(crate) fn allow(&mut self, range: AddressRange<A>, journal: &mut Journal<A>) {
        let span = self.span(range.first(), range.last());
        let mut rest = Pieces(Vec::new());
        for old in within(&self.chunks, span) {
            if let Some(before) = range.first().predecessor() {
                rest.push(old.range.first(), old.range.last().min(before), old.end);
            }
            if let Some(after) = range.last().successor() {
                rest.push(old.range.first().max(after), old.range.last(), old.end);
            }
        }
        self.replace(span, &rest.0, journal);
    }

    /// Drops what has expired by `time`.
    pub(crate) fn expire(&mut self, time: LogTime, journal: &mut Journal<A>) {
        while self.expiries.first().is_some_and(|&(end, _)| end <= time)
            && let Some((_, first)) = self.expiries.pop_first()
        {
            self.replace(self.span(first, first), &[], journal);
        }
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block<A>> {
        self.chunks.iter().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AddressRange<A>, Until)> {
        self.blocks().map(|block| (block.range, block.end.into()))
    }

    /// The block that holds `address`.
    pub(crate) fn find(&self, address: A) -> Option<(AddressRange<A>, Until)> {
        let found = within(&self.chunks, self.span(address, address)).next()?;
        Some((found.range, found.end.into()))
    }

    /// The first moment after `time` at which a block expires.
    pub(crate) fn next_expiry(&self, time: LogTime) -> Option<LogTime> {
        let after = (Bound::Excluded((time, A::LAST)), Bound::Unbounded);
        self.expiries.range(after).next().map(|&(end, _)| end)
    }

    /// The last moment up to `time` at which a block expired.
    pub(crate) fn newest_expiry(&self, time: LogTime) -> Option<LogTime> {
        self.expiries.range(..=(time, A::LAST)).next_back().map(|&(end, _)| end)
    }

    /// The blocks that hold an address from `from` to `to`; if there are none, the place where they would be.
    fn span(&self, from: A, to: A) -> Span {
        let chunk = self.firsts.partition_point(|first| *first <= from).saturating_sub(1);
        let blocks = self.chunks.get(chunk).map_or(&[][..], Vec::as_slice);
        // Not a binary search, which waits for one cache miss after the other: these all come at once.
        let index = blocks.iter().filter(|block| block.range.last() < from).count();
        let mut span = Span { chunk, index, end_chunk: chunk, end_index: index };
        // Step by step, since most commands touch a block or two.
        while let Some(blocks) = self.chunks.get(span.end_chunk) {
            span.end_index += blocks[span.end_index..].iter().take_while(|block| block.range.first() <= to).count();
            if span.end_index < blocks.len() || self.firsts.get(span.end_chunk + 1).is_none_or(|first| *first > to) {
                break;
            }
            (span.end_chunk, span.end_index) = (span.end_chunk + 1, 0);
        }
        span
    }

    /// Puts `new` in the place of the blocks of `span`.
    fn replace(&mut self, span: Span, new: &[Block<A>], journal: &mut Journal<A>) {
        let Self { firsts, chunks, expiries } = self;
        if within(chunks, span).eq(new) {
            return;
        }
        for old in within(chunks, span) {
            if let Some(expiry) = old.expiry() {
                expiries.remove(&expiry);
            }
            journal.removed(*old);
        }
        for block in new {
            expiries.extend(block.expiry());
            journal.added(*block);
        }
        if chunks.is_empty() {
            firsts.push(A::FIRST);
            chunks.push(Vec::new());
        }
        let mut end_index = span.end_index;
        if span.end_chunk > span.chunk {
            let rest = chunks[span.end_chunk].split_off(span.end_index);
            firsts.drain(span.chunk + 1..=span.end_chunk);
            chunks.drain(span.chunk + 1..=span.end_chunk);
            end_index = chunks[span.chunk].len();
            chunks[span.chunk].extend(rest);
        }
        let chunk = &mut chunks[span.chunk];
        if chunk.capacity() < chunk.len() + new.len() {
            // A little: a chunk never doubles, since a full one is split.
            chunk.reserve_exact(new.len().max(CAPACITY / 8));
        }
        chunk.splice(span.index..end_index, new.iter().copied());
        self.balance(span.chunk);
    }

    /// Brings the chunk at `at`, which has changed, back to its limits.
    fn balance(&mut self, at: usize) {
        let Self { firsts, chunks, .. } = self;
        let len = chunks[at].len();
        match chunks[at].first() {
            Some(block) => firsts[at] = block.range.first(),
            None => {
                firsts.remove(at);
                chunks.remove(at);
            }
        }
        if len > CAPACITY {
            let size = len.div_ceil(len.div_ceil(Self::FILL));
            let rest = chunks[at].split_off(size);
            chunks[at].shrink_to_fit();
            firsts.splice(at + 1..at + 1, rest.chunks(size).map(|chunk| chunk[0].range.first()));
            chunks.splice(at + 1..at + 1, rest.chunks(size).map(<[_]>::to_vec));
        } else if (1..CAPACITY / 4).contains(&len) {
            let fits = |left: &usize| {
                chunks.get(left + 1).is_some_and(|right| chunks[*left].len() + right.len() <= Self::FILL)
            };
            if let Some(left) = [Some(at), at.checked_sub(1)].into_iter().flatten().find(fits) {
                firsts.remove(left + 1);
                let right = chunks.remove(left + 1);
                chunks[left].extend(right);
            }
        }
    }
}

fn within<A>(chunks: &[Vec<Block<A>>], span: Span) -> impl Iterator<Item = &Block<A>> {
    (span.chunk..=span.end_chunk).flat_map(move |chunk| {
        let blocks = chunks.get(chunk).map_or(&[][..], Vec::as_slice);
        let from = if chunk == span.chunk { span.index } else { 0 };
        let to = if chunk == span.end_chunk { span.end_index } else { blocks.len() };
        &blocks[from..to]
    })
}

impl<A, const CAPACITY: usize> Default for Blocks<A, CAPACITY> {
    fn default() -> Self {
        Self { firsts: Vec::new(), chunks: Vec::new(), expiries: BTreeSet::new() }
    }
}

/// Two are equal if their blocks are, however those are cut into chunks.
impl<A: Address, const CAPACITY: usize> PartialEq for Blocks<A, CAPACITY> {
    fn eq(&self, other: &Self) -> bool {
        self.blocks().eq(other.blocks())
    }
}

impl<A: Address, const CAPACITY: usize> Eq for Blocks<A, CAPACITY> {}

impl<A: Address> Block<A> {
    pub(crate) fn new(range: AddressRange<A>, until: Until) -> Self {
        Self { range, end: until.into() }
    }

    fn expiry(&self) -> Option<(LogTime, A)> {
        LogTime::from_millis(self.end.0).map(|end| (end, self.range.first()))
    }
}

impl From<Until> for End {
    fn from(until: Until) -> Self {
        match until {
            Until::Time(time) => Self(time.millis()),
            Until::Forever => Self(u64::MAX),
        }
    }
}

impl From<End> for Until {
    fn from(End(millis): End) -> Self {
        LogTime::from_millis(millis).map_or(Self::Forever, Self::Time)
    }
}

/// Blocks in order, those that touch and have the same end made one.
struct Pieces<A>(Vec<Block<A>>);

impl<A: Address> Pieces<A> {
    /// Adds the addresses from `first` to `last`, if there are any.
    fn push(&mut self, first: A, last: A, end: End) {
        let Ok(mut range) = AddressRange::new(first, last) else { return };
        let touches = |before: &mut Block<A>| before.end == end && before.range.last().successor() == Some(first);
        if let Some(before) = self.0.pop_if(touches) {
            range = AddressRange::new(before.range.first(), last).unwrap_or(range);
        }
        self.0.push(Block { range, end });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    /// Addresses in the space: so many that single addresses fill dozens of chunks of 4.
    const SPACE: u32 = 400;
    const NOW: u64 = 1000;

    /// First address, how many addresses, and what happens to them: `None` is allowed, else the end of a block.
    type Command = (u32, u32, Option<Until>);

    fn time(millis: u64) -> LogTime {
        LogTime::from_millis(millis).unwrap()
    }

    fn commands() -> impl Strategy<Value = Vec<Command>> {
        // Mostly single addresses, which fragment; now and then nearly everything, which joins.
        let length = prop_oneof![20 => 1..3_u32, 4 => 1..30_u32, 1 => 1..SPACE];
        let end = (NOW + 1..NOW + 60).prop_map(|end| Some(Until::Time(time(end))));
        let until = prop_oneof![4 => end, 3 => Just(Some(Until::Forever)), 2 => Just(None)];
        proptest::collection::vec((0..SPACE, length, until), 0..600)
    }

    fn range(first: u32, length: u32) -> AddressRange<Ipv4Addr> {
        let last = SPACE.min(first + length) - 1;
        AddressRange::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).unwrap()
    }

    /// The blocks of single addresses as the longest ranges.
    fn joined(model: &BTreeMap<u32, Until>) -> Vec<(AddressRange<Ipv4Addr>, Until)> {
        let mut joined: Vec<(u32, u32, Until)> = Vec::new();
        for (&address, &until) in model {
            match joined.last_mut() {
                Some((first, length, end)) if *first + *length == address && *end == until => *length += 1,
                _ => joined.push((address, 1, until)),
            }
        }
        joined.into_iter().map(|(first, length, until)| (range(first, length), until)).collect()
    }

    fn assert_limits<const CAPACITY: usize>(blocks: &Blocks<Ipv4Addr, CAPACITY>) {
        let firsts: Vec<_> = blocks.chunks.iter().map(|chunk| chunk[0].range.first()).collect();
        assert_eq!(blocks.firsts, firsts);
        assert!(blocks.chunks.iter().all(|chunk| (1..=CAPACITY).contains(&chunk.len())));
        let sparse = |pair: &[Vec<_>]| pair.iter().all(|chunk| chunk.len() < CAPACITY / 4);
        assert!(!blocks.chunks.windows(2).any(sparse), "two neighbours that should be one chunk");
        let expiries: BTreeSet<_> = blocks.blocks().filter_map(Block::expiry).collect();
        assert_eq!(blocks.expiries, expiries);
    }

    /// Plays `commands`, ten of them in `millis` milliseconds, over chunks of `CAPACITY` and over single addresses.
    fn play<const CAPACITY: usize>(commands: &[Command], millis: u64) {
        let (mut blocks, mut model) = (Blocks::<Ipv4Addr, CAPACITY>::default(), BTreeMap::new());
        let mut journal = Journal::default();
        for (at, &(first, length, until)) in (0..).zip(commands) {
            let now = time(NOW + at * millis / 10);
            blocks.expire(now, &mut journal);
            model.retain(|_, until: &mut Until| until.holds_at(now));
            let range = range(first, length);
            let addresses = range.first().to_bits()..=range.last().to_bits();
            match until.map(|until| until.max(Until::Time(time(now.millis() + 1)))) {
                None => {
                    blocks.allow(range, &mut journal);
                    model.retain(|address, _| !addresses.contains(address));
                }
                Some(until) => {
                    blocks.block(range, until, &mut journal);
                    for address in addresses {
                        model.entry(address).and_modify(|old| *old = until.max(*old)).or_insert(until);
                    }
                }
            }
            assert_limits(&blocks);
        }
        let entries: Vec<_> = journal.entries().collect();
        journal.settle();
        assert_eq!(journal.entries().collect::<Vec<_>>(), entries);
        assert_eq!(journal.entries().count(), blocks.blocks().count(), "all that is there was added");
        assert_eq!(blocks.iter().collect::<Vec<_>>(), joined(&model));
        for address in 0..SPACE {
            let found = blocks.find(Ipv4Addr::from_bits(address)).map(|(_, until)| until);
            assert_eq!(found, model.get(&address).copied());
        }
        let mut all: Vec<_> = blocks.blocks().copied().collect();
        all.reverse();
        let restored = Blocks::<Ipv4Addr, CAPACITY>::restore(all).unwrap();
        assert_eq!(restored, blocks);
        assert_limits(&restored);
        let everything = range(0, SPACE);
        blocks.allow(everything, &mut journal);
        assert!(blocks.chunks.is_empty() && blocks.firsts.is_empty() && blocks.expiries.is_empty());
        assert_eq!(journal.entries().next(), None, "from nothing to nothing is no change");
    }

    proptest! {
        #[test]
        fn the_blocks_are_those_of_single_addresses(commands in commands(), millis in 0..3_u64) {
            play::<4>(&commands, millis);
            play::<16>(&commands, millis);
        }
    }
}
