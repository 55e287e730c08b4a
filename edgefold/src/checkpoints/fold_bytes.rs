//! A fold as bytes: pure, and exact. Bytes that [`encode`] did not write are refused.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::{Edits, Record};

    /// Single addresses and ranges of both families, on lists that do something and end at some time or never.
    fn fold(commands: &[(u8, u8, u8)]) -> Fold {
        let mut fold = Fold::default();
        for (offset, &(kind, at, length)) in (0..).zip(commands) {
            let last = at.saturating_add(length);
            let range = match kind % 4 {
                0 => format!("10.0.0.{at}"),
                1 => format!("255.255.255.{at}-255.255.255.{last}"),
                2 => format!("2001:db8::{at:x}-2001:db8::{last:x}"),
                _ => format!("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff{at:02x}"),
            };
            let list = ["", " list=feed", " list=a-very.long_name-0123456789"][usize::from(kind) / 4 % 3];
            let text = match kind / 12 % 6 {
                0 | 1 => format!("BLACKLIST {range}{list}"),
                2 | 3 => format!("BLACKLIST {range} ttl={}s{list}", u64::from(at) * 977 + 1),
                4 => format!("WHITELIST {range}{list}"),
                _ => r#"LIST feed action=deny share=25% status=429 body="slow \"down\"" header="retry-after: 60""#
                    .to_owned(),
            };
            let key = Some(format!("2026-01-01T00:{:02}:00Z", offset % 60).into_bytes());
            let record =
                Record { offset: offset * 3, timestamp: LogTime::from_millis(offset), key, value: Some(text.into()) };
            // Of a record without a timestamp, the time cannot be too late.
            fold.apply(&Record { timestamp: None, ..record }, &mut Edits::default()).unwrap();
        }
        fold
    }

    fn commands() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
        proptest::collection::vec((0..72_u8, any::<u8>(), 0..20_u8), 0..60)
    }

    /// What the body says, with the checksum that it should have.
    fn forged(sealed: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut body = sealed[..sealed.len() - 8].to_vec();
        change(&mut body);
        bytes::seal(body)
    }

    proptest! {
        #[test]
        fn a_fold_comes_back(commands in commands()) {
            let fold = fold(&commands);
            prop_assert_eq!(decode(&encode(&fold)), Some(fold));
        }

        /// Also bytes whose checksum is right lead to no panic.
        #[test]
        fn hostile_bytes_are_refused(
            commands in commands(),
            flips in proptest::collection::vec((any::<Index>(), 0..8_u32), 1..4),
            cut in any::<Index>(),
            junk in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let fold = fold(&commands);
            let sealed = encode(&fold);
            let flip = |bytes: &mut Vec<u8>| {
                for (at, bit) in &flips {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1 << bit;
                }
            };
            let mut flipped = sealed.clone();
            flip(&mut flipped);
            prop_assert!(flipped == sealed || decode(&flipped).is_none());
            let forgeries = [
                forged(&sealed, flip),
                forged(&sealed, |body| body.truncate(cut.index(body.len() + 1))),
                forged(&sealed, |body| body.extend(&junk)),
                forged(&sealed, |body| body.splice(12.min(body.len()).., junk.clone()).for_each(drop)),
            ];
            // Its checksum is right, so it may even be another fold. The log proves the position.
            forgeries.iter().for_each(|forgery| drop(decode(forgery)));
            prop_assert!(decode(&junk).is_none());
        }
    }

    /// A number that promises more than there is must not allocate it.
    #[test]
    fn lengths_are_not_trusted() {
        let body = bytes::start(MAGIC);
        let head = FoldHead { position: crate::Position::default().into(), hash: 0, lists: 1 };
        let list = ListHead { name: "default", action: None, counts: [usize::MAX, usize::MAX] };
        assert_eq!(decode(&bytes::seal(put(&list, put(&head, body.clone())))), None);
        let many = FoldHead { lists: usize::MAX, ..head };
        assert_eq!(decode(&bytes::seal(put(&many, body))), None);
    }

    /// Without the last record, the log's reader would not prove that it is the same log.
    #[test]
    fn a_position_without_its_record_is_refused() {
        let fold = |last_record| {
            let position = crate::Position { next_offset: 1, log_time: LogTime::EPOCH, last_record };
            Fold::of_lists(position, Vec::new()).unwrap()
        };
        assert_eq!(decode(&encode(&fold(None))), None);
        let proved = fold(Some(crate::RecordHash::from_bits(1)));
        assert_eq!(decode(&encode(&proved)), Some(proved));
    }

    #[test]
    fn another_version_is_not_read() {
        let sealed = encode(&Fold::default());
        assert_eq!(decode(&sealed), Some(Fold::default()));
        // The format, and the grammar.
        for at in [8, 9] {
            assert_eq!(decode(&forged(&sealed, |body| body[at] += 1)), None);
        }
    }
}
