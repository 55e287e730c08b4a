//! The blocks of one family: disjoint ranges of addresses, each with its end, in an order that is cheap to change.
//!
//! They are sorted and cut into chunks. A command searches for its chunk, then for its place there, and moves what comes after
//! it in that chunk. A tree would take one descent for every block that the command touches. `docs/benchmarks.md` compares
//! the two.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Bound;

use edgefold_table::{Address, AddressRange, IpRange};
use xxhash_rust::xxh3::xxh3_64;

use super::block::{Block, Until};
use super::edits::FamilyEdits;
use super::time::LogTime;

/// The blocks of one family, sorted and disjoint. Blocks that touch have different ends.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<A, const CAPACITY: usize = 64> {
    /// The first address of each chunk, apart from the chunks, so that the search among them stays in the cache.
    firsts: Vec<A>,
    /// Each chunk has 1 to `CAPACITY` blocks, or to twice as many once there are [`Blocks::MANY`] chunks. Of two neighbours, at least one
    /// has a quarter of `CAPACITY`.
    chunks: Vec<Vec<Block<AddressRange<A>>>>,
    /// The blocks that end, by their end.
    expiries: BTreeSet<(LogTime, A)>,
    /// The sum of [`block_hash`] over all blocks.
    hash: u64,
}

/// The blocks from `index` in `chunk` up to, but not including, `end_index` in `end_chunk`.
#[derive(Clone, Copy)]
struct Span {
    chunk: usize,
    index: usize,
    end_chunk: usize,
    end_index: usize,
}

impl<A: Address, const CAPACITY: usize> Blocks<A, CAPACITY>
where
    IpRange: From<AddressRange<A>>,
{
    /// How many blocks a new chunk gets: not all it could take, so that the next few do not split it again.
    const FILL: usize = CAPACITY * 3 / 4;
    /// With more chunks than this, chunks may be larger: a new chunk moves all those after it, which for ten million blocks was most of the
    /// time.
    const MANY: usize = CAPACITY * 16;
    /// How much larger.
    const LARGER: usize = 2;

    /// Restores the blocks that [`Blocks::iter`] returned, in any order.
    ///
    /// # Errors
    /// The first range that overlaps the one before it, or that touches it and has the same end.
    pub(crate) fn restore(mut blocks: Vec<Block<AddressRange<A>>>) -> Result<Self, AddressRange<A>> {
        blocks.sort_by_key(|block| block.range.first());
        let count = blocks.len();
        Self::restore_sorted(blocks.into_iter(), count)
    }

    /// Restores the blocks that [`Blocks::iter`] returned, in that order. There are about `count`.
    ///
    /// # Errors
    /// The first range that does not start after the one before it, or that touches it and has the same end.
    pub(crate) fn restore_sorted(
        mut blocks: impl Iterator<Item = Block<AddressRange<A>>>,
        count: usize,
    ) -> Result<Self, AddressRange<A>> {
        let mut this = Self::default();
        let (fill, mut expiries, mut before) = (Self::fill(count), Vec::new(), None);
        loop {
            let mut chunk = Vec::new();
            for block in blocks.by_ref().take(fill) {
                if before
                    .replace(block)
                    .is_some_and(|before| before.range.last() >= block.range.first() || continues(before, block))
                {
                    return Err(block.range);
                }
                if chunk.is_empty() {
                    chunk.reserve_exact(fill);
                }
                expiries.extend(expiry(&block));
                this.hash = this.hash.wrapping_add(block_hash(&block));
                chunk.push(block);
            }
            let Some(first) = chunk.first() else { break };
            this.firsts.push(first.range.first());
            chunk.shrink_to_fit();
            this.chunks.push(chunk);
        }
        this.expiries = expiries.into_iter().collect();
        Ok(this)
    }

    /// Blocks `range` until `until`; addresses that are blocked for longer stay so.
    pub(crate) fn block(&mut self, range: AddressRange<A>, until: Until, edits: &mut FamilyEdits<A>) {
        let (first, last) = (range.first(), range.last());
        // The neighbours too: a block with the same end is joined with them.
        let span = self.span(first.predecessor().unwrap_or(first), last.successor().unwrap_or(last));
        let mut new = Pieces(Vec::new());
        // The first address of the range that no piece contains yet; `None` at the end.
        let mut open = Some(first);
        for old in within(&self.chunks, span) {
            let (old_first, old_last) = (old.range.first(), old.range.last());
            if let Some(before) = first.predecessor() {
                new.push(old_first, old_last.min(before), old.until);
            }
            let (inner_first, inner_last) = (old_first.max(first), old_last.min(last));
            if inner_first <= inner_last {
                if let (Some(open), Some(before)) = (open, inner_first.predecessor()) {
                    new.push(open, before, until);
                }
                new.push(inner_first, inner_last, old.until.max(until));
                open = inner_last.successor();
            }
            if let Some(after) = last.successor().filter(|after| old_last >= *after) {
                if let Some(open) = open.take() {
                    new.push(open, last, until);
                }
                new.push(old_first.max(after), old_last, old.until);
            }
        }
        if let Some(open) = open {
            new.push(open, last, until);
        }
        self.replace(span, &new.0, edits);
    }

    /// Ends all blocks within `range`.
    pub(crate) fn allow(&mut self, range: AddressRange<A>, edits: &mut FamilyEdits<A>) {
        let span = self.span(range.first(), range.last());
        let mut rest = Pieces(Vec::new());
        for old in within(&self.chunks, span) {
            if let Some(before) = range.first().predecessor() {
                rest.push(old.range.first(), old.range.last().min(before), old.until);
            }
            if let Some(after) = range.last().successor() {
                rest.push(old.range.first().max(after), old.range.last(), old.until);
            }
        }
        self.replace(span, &rest.0, edits);
    }

    /// Drops the blocks that have expired by `time`.
    pub(crate) fn expire(&mut self, time: LogTime, edits: &mut FamilyEdits<A>) {
        // One by one, each moves the chunks after it when its own gets empty. If there are many, one pass over all is cheaper.
        if self.expiries.range(..=(time, A::LAST)).nth(self.chunks.len()).is_some() {
            return self.expire_many(time, edits);
        }
        while self.expiries.first().is_some_and(|&(end, _)| end <= time)
            && let Some((_, first)) = self.expiries.pop_first()
        {
            self.replace(self.span(first, first), &[], edits);
        }
    }

    #[cold]
    fn expire_many(&mut self, time: LogTime, edits: &mut FamilyEdits<A>) {
        while self.expiries.first().is_some_and(|&(end, _)| end <= time) {
            self.expiries.pop_first();
        }
        let mut rest = Vec::new();
        for block in self.chunks.drain(..).flatten() {
            if block.until.holds_at(time) {
                rest.push(block);
            } else {
                self.hash = self.hash.wrapping_sub(block_hash(&block));
                edits.removed(block);
            }
        }
        let fill = Self::fill(rest.len());
        self.firsts = rest.chunks(fill).map(|chunk| chunk[0].range.first()).collect();
        self.chunks = rest.chunks(fill).map(<[_]>::to_vec).collect();
    }

    /// How many blocks each new chunk gets, of this number.
    fn fill(blocks: usize) -> usize {
        if blocks > Self::MANY * Self::FILL { Self::FILL * Self::LARGER } else { Self::FILL }
    }

    /// All blocks, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Block<AddressRange<A>>> {
        self.chunks.iter().flatten()
    }

    /// The number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// A hash of the set of blocks, however they came about.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The block that contains `address`.
    pub(crate) fn find(&self, address: A) -> Option<&Block<AddressRange<A>>> {
        let chunk = self.firsts.partition_point(|first| *first <= address).checked_sub(1)?;
        let blocks = self.chunks.get(chunk)?;
        let index = blocks.partition_point(|block| block.range.first() <= address).checked_sub(1)?;
        blocks.get(index).filter(|block| block.range.contains(address))
    }

    /// The blocks with an address in `range`, sorted.
    pub(crate) fn in_range(&self, range: AddressRange<A>) -> impl Iterator<Item = &Block<AddressRange<A>>> {
        within(&self.chunks, self.span(range.first(), range.last()))
    }

    /// The first moment at which a block expires.
    pub(crate) fn first_expiry(&self) -> Option<LogTime> {
        self.expiries.first().map(|&(end, _)| end)
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

    /// The first addresses of the blocks that expire after `then`, and at `now` at the latest.
    pub(crate) fn expired_between(&self, then: LogTime, now: LogTime) -> impl Iterator<Item = A> {
        let ends = (Bound::Excluded((then, A::LAST)), Bound::Included((now.max(then), A::LAST)));
        self.expiries.range(ends).map(|&(_, first)| first)
    }

    /// The blocks that contain an address from `from` to `to`; if there are none, the place where they would be.
    fn span(&self, from: A, to: A) -> Span {
        let chunk = self.firsts.partition_point(|first| *first <= from).saturating_sub(1);
        let blocks = self.chunks.get(chunk).map_or(&[][..], Vec::as_slice);
        // A binary search would wait for one cache miss after the other. Here they overlap.
        let index = blocks.iter().filter(|block| block.range.last() < from).count();
        let mut span = Span { chunk, index, end_chunk: chunk, end_index: index };
        // Of a chunk that another one within the range follows, all blocks are in it.
        while self.firsts.get(span.end_chunk + 1).is_some_and(|first| *first <= to) {
            (span.end_chunk, span.end_index) = (span.end_chunk + 1, 0);
        }
        // One by one, because most commands touch only a block or two.
        let blocks = self.chunks.get(span.end_chunk).map_or(&[][..], Vec::as_slice);
        span.end_index += blocks[span.end_index..].iter().take_while(|block| block.range.first() <= to).count();
        span
    }

    /// Replaces the blocks of `span` with `new`.
    fn replace(&mut self, span: Span, new: &[Block<AddressRange<A>>], edits: &mut FamilyEdits<A>) {
        let Self { firsts, chunks, expiries, hash } = self;
        if within(chunks, span).eq(new) {
            return;
        }
        for old in within(chunks, span) {
            if let Some(expiry) = expiry(old) {
                expiries.remove(&expiry);
            }
            *hash = hash.wrapping_sub(block_hash(old));
            edits.removed(*old);
        }
        for block in new {
            expiries.extend(expiry(block));
            *hash = hash.wrapping_add(block_hash(block));
            edits.added(*block);
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
            // Only a little more: a chunk never doubles, because a full one is split.
            chunk.reserve_exact(new.len().max(CAPACITY / 8));
        }
        chunk.splice(span.index..end_index, new.iter().copied());
        self.balance(span.chunk);
    }

    /// Brings the chunk at `at` back within its limits after a change.
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
        let larger = if chunks.len() > Self::MANY { Self::LARGER } else { 1 };
        if len > CAPACITY * larger {
            let size = len.div_ceil(len.div_ceil(Self::FILL * larger));
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

fn within<B>(chunks: &[Vec<B>], span: Span) -> impl Iterator<Item = &B> {
    (span.chunk..=span.end_chunk).flat_map(move |chunk| {
        let blocks = chunks.get(chunk).map_or(&[][..], Vec::as_slice);
        let from = if chunk == span.chunk { span.index } else { 0 };
        let to = if chunk == span.end_chunk { span.end_index } else { blocks.len() };
        &blocks[from..to]
    })
}

impl<A, const CAPACITY: usize> Default for Blocks<A, CAPACITY> {
    fn default() -> Self {
        Self { firsts: Vec::new(), chunks: Vec::new(), expiries: BTreeSet::new(), hash: 0 }
    }
}

/// Blocks are equal however they are cut into chunks.
impl<A: Address, const CAPACITY: usize> PartialEq for Blocks<A, CAPACITY> {
    fn eq(&self, other: &Self) -> bool {
        self.chunks.iter().flatten().eq(other.chunks.iter().flatten())
    }
}

impl<A: Address, const CAPACITY: usize> Eq for Blocks<A, CAPACITY> {}

/// Whether `next` starts where `before` ends and has the same end, so that the two must be one block.
#[inline]
fn continues<A: Address>(before: Block<AddressRange<A>>, next: Block<AddressRange<A>>) -> bool {
    before.until == next.until && before.range.touches(next.range)
}

#[inline]
fn expiry<A: Address>(block: &Block<AddressRange<A>>) -> Option<(LogTime, A)> {
    block.until.time().map(|end| (end, block.range.first()))
}

/// XXH3 of the block's first and last address and its end, so that the sum over a set of blocks is cheap to change. `docs/semantics.md`
/// is the authority: it is stored in the ranges topic.
#[inline]
fn block_hash<A: Address>(block: &Block<AddressRange<A>>) -> u64 {
    let bits = |address: A| match address.into() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&bits(block.range.first()).to_be_bytes());
    bytes[16..32].copy_from_slice(&bits(block.range.last()).to_be_bytes());
    bytes[32..].copy_from_slice(&block.until.time().map_or(u64::MAX, LogTime::millis).to_be_bytes());
    xxh3_64(&bytes)
}

/// Blocks in order, joined where one continues another.
struct Pieces<A>(Vec<Block<AddressRange<A>>>);

impl<A: Address> Pieces<A> {
    /// Adds the addresses from `first` to `last`, if there are any.
    #[inline]
    fn push(&mut self, first: A, last: A, until: Until) {
        let Ok(mut range) = AddressRange::new(first, last) else { return };
        let next = Block { range, until };
        if let Some(before) = self.0.pop_if(|before| continues(*before, next)) {
            range = AddressRange::new(before.range.first(), last).unwrap_or(range);
        }
        self.0.push(Block { range, until });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    /// The number of addresses in the space: enough for single addresses to fill dozens of chunks of 4.
    const SPACE: u32 = 400;
    const NOW: u64 = 1000;

    /// First address, number of addresses, and what happens to them: `None` allows them, else it is the end of a block.
    type Command = (u32, u32, Option<Until>);

    fn time(millis: u64) -> LogTime {
        LogTime::from_millis(millis).unwrap()
    }

    fn commands() -> impl Strategy<Value = Vec<Command>> {
        // Mostly single addresses, which fragment the space; now and then nearly all of it, which joins it.
        let length = prop_oneof![20 => 1..3_u32, 4 => 1..30_u32, 1 => 1..SPACE];
        let end = (NOW + 1..NOW + 60).prop_map(|end| Some(Until::from(time(end))));
        let until = prop_oneof![4 => end, 3 => Just(Some(Until::FOREVER)), 2 => Just(None)];
        proptest::collection::vec((0..SPACE, length, until), 0..600)
    }

    fn range(first: u32, length: u32) -> AddressRange<Ipv4Addr> {
        let last = SPACE.min(first + length) - 1;
        AddressRange::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).unwrap()
    }

    /// The blocks of single addresses, joined to the longest ranges.
    fn joined(model: &BTreeMap<u32, Until>) -> Vec<Block<AddressRange<Ipv4Addr>>> {
        let mut joined: Vec<(u32, u32, Until)> = Vec::new();
        for (&address, &until) in model {
            match joined.last_mut() {
                Some((first, length, end)) if *first + *length == address && *end == until => *length += 1,
                _ => joined.push((address, 1, until)),
            }
        }
        joined.into_iter().map(|(first, length, until)| Block { range: range(first, length), until }).collect()
    }

    fn assert_limits<const CAPACITY: usize>(blocks: &Blocks<Ipv4Addr, CAPACITY>) {
        let firsts: Vec<_> = blocks.chunks.iter().map(|chunk| chunk[0].range.first()).collect();
        assert_eq!(blocks.firsts, firsts);
        // Chunks that were larger while there were many may still be so. Of large ones there are never many here.
        let is_ever_many = Blocks::<Ipv4Addr, CAPACITY>::MANY < SPACE as usize / 2;
        let most = if is_ever_many { CAPACITY * Blocks::<Ipv4Addr, CAPACITY>::LARGER } else { CAPACITY };
        assert!(blocks.chunks.iter().all(|chunk| (1..=most).contains(&chunk.len())));
        let sparse = |pair: &[Vec<_>]| pair.iter().all(|chunk| chunk.len() < CAPACITY / 4);
        assert!(!blocks.chunks.windows(2).any(sparse), "two neighbours that should be one chunk");
        let expiries: BTreeSet<_> = blocks.iter().filter_map(expiry).collect();
        assert_eq!(blocks.expiries, expiries);
        assert_eq!(blocks.hash, blocks.iter().fold(0_u64, |hash, block| hash.wrapping_add(block_hash(block))));
    }

    /// Plays `commands`, ten of them in `millis` milliseconds, over chunks of `CAPACITY` and over single addresses.
    fn play<const CAPACITY: usize>(commands: &[Command], millis: u64) {
        let (mut blocks, mut model) = (Blocks::<Ipv4Addr, CAPACITY>::default(), BTreeMap::new());
        let mut edits = FamilyEdits::default();
        for (at, &(first, length, until)) in (0..).zip(commands) {
            let now = time(NOW + at * millis / 10);
            blocks.expire(now, &mut edits);
            model.retain(|_, until: &mut Until| until.holds_at(now));
            let range = range(first, length);
            let addresses = range.first().to_bits()..=range.last().to_bits();
            match until.map(|until| until.max(time(now.millis() + 1).into())) {
                None => {
                    blocks.allow(range, &mut edits);
                    model.retain(|address, _| !addresses.contains(address));
                }
                Some(until) => {
                    blocks.block(range, until, &mut edits);
                    for address in addresses {
                        model.entry(address).and_modify(|old| *old = until.max(*old)).or_insert(until);
                    }
                }
            }
            assert_limits(&blocks);
        }
        let net: Vec<_> = edits.net().collect();
        edits.compact();
        assert_eq!(edits.net().collect::<Vec<_>>(), net);
        let added: Vec<Block> = blocks.iter().map(|&block| block.into()).collect();
        let from_nothing: Vec<_> = added.iter().map(|block| (block.range.first(), Some(*block))).collect();
        assert_eq!(net, from_nothing, "the edits lead from nothing to the blocks");
        assert_eq!(blocks.iter().copied().collect::<Vec<_>>(), joined(&model));
        for address in 0..SPACE {
            let found = blocks.find(Ipv4Addr::from_bits(address)).map(|block| block.until);
            assert_eq!(found, model.get(&address).copied());
        }
        let mut all: Vec<_> = blocks.iter().copied().collect();
        all.reverse();
        let restored = Blocks::<Ipv4Addr, CAPACITY>::restore(all).unwrap();
        assert_eq!(restored, blocks);
        assert_eq!(blocks == Blocks::default(), model.is_empty());
        assert_limits(&restored);
        // Chunks that become sparse beside each other are joined.
        for address in (0..SPACE).filter(|address| address % 8 != 0) {
            blocks.allow(range(address, 1), &mut edits);
            assert_limits(&blocks);
        }
        let everything = range(0, SPACE);
        blocks.allow(everything, &mut edits);
        assert!(blocks.chunks.is_empty() && blocks.firsts.is_empty() && blocks.expiries.is_empty());
        assert_eq!(edits.net().next(), None, "from nothing to nothing there is no change");
    }

    proptest! {
        #[test]
        fn the_blocks_are_those_of_single_addresses(commands in commands(), millis in 0..3_u64) {
            play::<2>(&commands, millis);
            play::<4>(&commands, millis);
            play::<32>(&commands, millis);
        }
    }
}
