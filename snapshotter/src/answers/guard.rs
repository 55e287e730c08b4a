//! What is not appended: commands that every reader would reject, and, unless they are forced, commands that are more likely a mistake
//! than meant.

use std::collections::BTreeSet;
use std::net::IpAddr;

use edgefold::{
    Action, Block, Fold, IpRange, List, ListAction, ListName, LogTime, MAX_NAMED_LISTS, Share, Until, differences,
};

use super::difference::{self, action_of};
use super::refused::refused_by;
use super::words;
use crate::addresses::Addresses;

/// More IPv4 addresses than a /8 has are refused.
const MOST_IPV4: u64 = 1 << 24;
/// More IPv6 addresses than a /16 has are refused.
const MOST_IPV6: u128 = 1 << 112;
/// How many ranges of lists that exempt are looked for.
const MOST_NAMED: usize = 2;

/// The person who appends the commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct You {
    pub(crate) address: IpAddr,
    /// How a sentence goes on after the address: `from which you are connected`.
    pub(crate) connected: &'static str,
}

/// Why commands are refused unless they are forced; `None` if they are not. `before` is what the log says now; if it is not known, all that
/// they are about is taken to pass now, and lists to refuse. `you` is who must not block themselves, if that is known.
///
/// What counts is what would be refused in the end that is not refused now, by whatever way: also if an exemption goes.
pub(crate) fn objection(before: Option<&Fold>, actions: &[Action], now: LogTime, you: Option<You>) -> Option<String> {
    let added = newly_refused(before, actions, now);
    let addresses = Addresses::of(added.iter().copied());
    let blocks = format!("it would block {}", words::addresses(addresses));
    if addresses.ipv4 > MOST_IPV4 {
        return Some(format!("{blocks}, more than a /8 of IPv4 has"));
    }
    if addresses.ipv6 > MOST_IPV6 {
        return Some(format!("{blocks}, more than a /16 of IPv6 has"));
    }
    let You { address, connected } = you.filter(|you| added.iter().any(|range| range.contains(you.address)))?;
    Some(format!("{blocks}, among them {address}, {connected}"))
}

/// Which addresses would be put on lists that refuse in vain, because a list exempts them; `None` if there are none. For a feed that is
/// how it should be.
pub(crate) fn in_vain(before: Option<&Fold>, actions: &[Action], now: LogTime) -> Option<String> {
    let before = before?;
    let mut put = List::new(ListName::DEFAULT);
    for action in actions {
        if let Action::Blacklist { list, range, .. } = action
            && matches!(action_of(Some(before), list), ListAction::Deny { share, .. } if share != Share::NONE)
        {
            put.put(Block { range: *range, until: Until::FOREVER });
        }
    }
    let exempt = exempt_parts(before, &put, now);
    let (list, range) = exempt.first()?;
    let (range, more) = (range.shortest_text(), if exempt.len() > 1 { ", and others," } else { "" });
    let blocks = words::addresses(Addresses::of(put.blocks().map(|block| block.range)));
    Some(format!("of {blocks}, {range}{more} would pass anyway, because list {list} exempts it"))
}

/// Checks that commands do not create one list too many, as far as it is known which lists there are.
///
/// # Errors
/// The name of the list that there is no room for: every reader would reject the command that creates it.
pub(crate) fn check_room(before: Option<&Fold>, actions: &[Action]) -> Result<(), ListName> {
    let Some(before) = before else { return Ok(()) };
    let mut names: BTreeSet<ListName> = before.lists().iter().map(List::name).collect();
    for action in actions {
        match action {
            Action::Blacklist { list, .. } | Action::List { list, .. } => {
                // The default list is among the names, and is not counted.
                if names.insert(*list) && names.len() > MAX_NAMED_LISTS + 1 {
                    return Err(*list);
                }
            }
            Action::Unlist { list } => {
                names.remove(list);
            }
            Action::Whitelist { .. } => {}
        }
    }
    Ok(())
}

/// Whether a list does not exist, as far as that is known.
pub(crate) fn is_new(before: Option<&Fold>, list: &ListName) -> bool {
    before.is_some_and(|fold| fold.list(list).is_none())
}

/// The ranges that are refused after the actions, and not before.
fn newly_refused(before: Option<&Fold>, actions: &[Action], now: LogTime) -> Vec<IpRange> {
    let none = Fold::default();
    let before = before.unwrap_or(&none);
    // Only what the actions are about, so that the cost is that of the actions, however large the lists are.
    let before = before.within(&affected(before, actions));
    let after = difference::after(&before, actions, now);
    let [refused, refuses] = [&before, &after].map(|fold| refused_by(fold, now, |share| share != Share::NONE));
    let added = differences((&refused, now), (&refuses, now)).filter(|change| change.before.is_none());
    added.map(|change| change.range).collect()
}

/// The addresses that actions are about.
pub(crate) fn affected(before: &Fold, actions: &[Action]) -> List {
    let mut affected = List::new(ListName::DEFAULT);
    let mut put = |range| affected.put(Block { range, until: Until::FOREVER });
    for action in actions {
        match action {
            Action::Blacklist { range, .. } | Action::Whitelist { range, .. } => put(*range),
            Action::List { list, .. } | Action::Unlist { list } => {
                before.list(list).into_iter().flat_map(List::blocks).for_each(|block| put(block.range));
            }
        }
    }
    affected
}

/// Some of the ranges that lists exempt, although they would be blocked.
fn exempt_parts(fold: &Fold, blocked: &List, now: LogTime) -> Vec<(ListName, IpRange)> {
    let exempting = fold.lists().iter().filter(|list| *list.action() == ListAction::Exempt);
    let parts = exempting.flat_map(|list| {
        let parts = list.ranges_at(now).flat_map(|range| blocked.blocks_within(range));
        parts.map(|block| (list.name(), block.range))
    });
    parts.take(MOST_NAMED).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use edgefold::{Command, Edits, Record};

    use super::*;

    fn objection(state: &[&str], text: &str) -> Option<String> {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(state) {
            let record = Record { offset, timestamp: LogTime::from_millis(0), key: None, value: Some((*text).into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        let (actions, now) = ([Command::parse(text).unwrap().action], LogTime::from_millis(1).unwrap());
        super::objection(Some(&fold), &actions, now, None).or_else(|| in_vain(Some(&fold), &actions, now))
    }

    #[test]
    fn what_is_probably_a_mistake_is_refused() {
        let state = [
            "LIST probes action=exempt",
            "ADD 10.0.0.7 list=probes",
            "LIST seen action=shadow",
            "ADD 8.0.0.0/7 list=seen",
        ];
        for (text, expected) in [
            ("BLACKLIST 11.0.0.0/8", None),
            ("BLACKLIST 12.0.0.0/7", Some("it would block 33,554,432 addresses, more than a /8 of IPv4 has")),
            ("BLACKLIST 2000::/16", None),
            ("BLACKLIST 2000::/3", Some("more than a /16 of IPv6 has")),
            (
                "BLACKLIST 10.0.0.0/24",
                Some("of 256 addresses, 10.0.0.7 would pass anyway, because list probes exempts it"),
            ),
            ("BLACKLIST 10.0.1.0/24", None),
            ("ADD 0.0.0.0/0 list=seen", None),
            ("ADD 0.0.0.0/0 list=new", Some("4,294,967,295 addresses")),
            ("WHITELIST 0.0.0.0/0", None),
            ("LIST seen action=deny", Some("33,554,432 addresses")),
            ("LIST seen action=deny share=0%", None),
            ("LIST seen action=tag", None),
        ] {
            let found = objection(&state, text);
            match expected {
                None => assert_eq!(found, None, "{text}"),
                Some(expected) => {
                    assert!(found.as_ref().is_some_and(|found| found.contains(expected)), "{text}: {found:?}")
                }
            }
        }
    }

    #[test]
    fn what_counts_is_what_would_be_refused_in_the_end() {
        let state = [
            "LIST none action=deny share=0%",
            "ADD 0.0.0.0/1 list=none",
            "BLACKLIST 128.0.0.0/1",
            "LIST wide action=exempt",
            "ADD 128.0.0.0/1 list=wide",
        ];
        for (text, is_refused) in [
            ("ADD 0.0.0.0/0 list=none", false),
            ("LIST none action=deny", true),
            ("UNLIST wide", true),
            ("LIST wide action=shadow", true),
            ("REMOVE 128.0.0.0/2 list=wide", true),
            ("WHITELIST 0.0.0.0/0 list=*", false),
            ("ADD 0.0.0.0/1 list=wide", false),
            ("LIST default action=shadow", false),
        ] {
            assert_eq!(objection(&state, text).is_some(), is_refused, "{text}");
        }
    }

    #[test]
    fn nobody_blocks_their_own_address_by_mistake() {
        let address = Ipv4Addr::new(10, 0, 0, 9).into();
        let you = Some(You { address, connected: "from which you look" });
        let objection = |text: &str| {
            super::objection(None, &[Command::parse(text).unwrap().action], LogTime::from_millis(1).unwrap(), you)
        };
        let expected = "it would block 256 addresses, among them 10.0.0.9, from which you look";
        assert_eq!(objection("BLACKLIST 10.0.0.0/24").as_deref(), Some(expected));
        assert_eq!(objection("BLACKLIST 10.0.1.0/24"), None);
        assert_eq!(objection("WHITELIST 10.0.0.0/24"), None);
    }
}
