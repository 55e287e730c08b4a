//! A fold as bytes: pure, and exact. Bytes that no fold was written to are refused.

use std::iter;

use edgefold_table::AddressRange;
use serde::{Deserialize, Serialize};

use super::bytes::{self, Number, PositionBytes, put, put_number, put_range, take, take_range};
use crate::model::blocks::Blocks;
use crate::model::list_action::parse_list_action;
use crate::{Block, Fold, IpRange, List, ListActionText, LogTime, MAX_NAMED_LISTS, Until};

const MAGIC: [u8; 8] = *b"edgefold";

#[derive(Deserialize, Serialize)]
struct FoldHead {
    position: PositionBytes,
    /// [`Fold::hash`].
    hash: u64,
    lists: usize,
}

#[derive(Deserialize, Serialize)]
struct ListHead<'a> {
    name: &'a str,
    /// As in a `LIST` command.
    action: Option<&'a str>,
    /// The number of blocks of either family, which follow, IPv4 before IPv6.
    counts: [usize; 2],
}

/// The fold, in two to three bytes for a single IPv4 address that is blocked forever.
pub(super) fn encode(fold: &Fold) -> Vec<u8> {
    let position = fold.position();
    let head = FoldHead { position: position.into(), hash: fold.hash(), lists: fold.lists().len() };
    let mut bytes = put(&head, bytes::start(MAGIC));
    for list in fold.lists() {
        let action = list.stated_action().map(|action| ListActionText(action).to_string());
        let (name, counts) = (list.name(), [list.v4().len(), list.v6().len()]);
        bytes = put(&ListHead { name: name.as_str(), action: action.as_deref(), counts }, bytes);
        put_blocks(list.v4(), position.log_time, &mut bytes);
        put_blocks(list.v6(), position.log_time, &mut bytes);
    }
    bytes::seal(bytes)
}

/// What [`encode`] has written; `None` for any other bytes. It takes no more memory than some fold of that many bytes.
pub(super) fn decode(bytes: &[u8]) -> Option<Fold> {
    let mut bytes = bytes::open(bytes, MAGIC)?;
    let head: FoldHead = take(&mut bytes)?;
    let position = head.position.position()?;
    if head.lists > MAX_NAMED_LISTS + 1 {
        return None;
    }
    let mut lists = Vec::new();
    for _ in 0..head.lists {
        let ListHead { name, action, counts } = take(&mut bytes)?;
        let action = action.map(parse_list_action).transpose().ok()?;
        let v4 = take_blocks(&mut bytes, counts[0], position.log_time)?;
        let v6 = take_blocks(&mut bytes, counts[1], position.log_time)?;
        lists.push(List::of_blocks(name.parse().ok()?, action, v4, v6));
    }
    let fold = Fold::of_lists(position, lists).ok()?;
    (bytes.is_empty() && fold.hash() == head.hash).then_some(fold)
}

fn put_blocks<A: Number>(blocks: &Blocks<A>, log_time: LogTime, bytes: &mut Vec<u8>)
where
    IpRange: From<AddressRange<A>>,
{
    let mut before = None;
    for block in blocks.iter() {
        let end = block.until.time();
        put_range(block.range, before, end.is_some(), bytes);
        if let Some(end) = end {
            // It is later than log time: what has ended is not in the fold.
            put_number(end.millis().wrapping_sub(log_time.millis()), bytes);
        }
        before = Some(block.range.last());
    }
}

fn take_blocks<A: Number>(bytes: &mut &[u8], count: usize, log_time: LogTime) -> Option<Blocks<A>>
where
    IpRange: From<AddressRange<A>>,
{
    let (mut left, mut before) = (count, None);
    let mut next = || {
        let (range, ends) = take_range(before, bytes)?;
        before = Some(range.last());
        let until = match ends {
            true => LogTime::from_millis(take::<u64>(bytes)?.wrapping_add(log_time.millis()))?.into(),
            false => Until::FOREVER,
        };
        left -= 1;
        Some(Block { range, until })
    };
    let blocks = Blocks::restore_sorted(iter::repeat_with(&mut next).take(count).map_while(|block| block), count);
    blocks.ok().filter(|_| left == 0)
}
