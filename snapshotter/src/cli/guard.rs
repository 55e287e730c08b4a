//! What is refused without `--force`: commands that are more likely a mistake than meant.

use std::env;
use std::net::IpAddr;

use edgefold::{Action, Block, Fold, IpRange, List, ListAction, ListKind, ListName, LogTime, Until};

use super::difference::action_of;
use super::output;
use crate::addresses::Addresses;

/// More IPv4 addresses than a /8 has are refused.
const MOST_IPV4: u64 = 1 << 24;
/// More IPv6 addresses than a /16 has are refused.
const MOST_IPV6: u128 = 1 << 112;
/// How many ranges of lists that exempt are looked for.
const MOST_NAMED: usize = 2;

/// Why commands are refused without `--force`; `None` if they are not. Without the fold, it is not known which lists refuse: then all that
/// are not known are taken to refuse.
pub(super) fn objection(fold: Option<&Fold>, actions: &[Action], now: LogTime) -> Option<String> {
    let blocked = blocked(fold, actions, now);
    let ranges = || blocked.blocks().map(|block| block.range);
    let addresses = Addresses::of(ranges());
    let blocks = format!("it would block {}", output::addresses(addresses));
    if addresses.ipv4 > MOST_IPV4 {
        return Some(format!("{blocks}, more than a /8 of IPv4 has"));
    }
    if addresses.ipv6 > MOST_IPV6 {
        return Some(format!("{blocks}, more than a /16 of IPv6 has"));
    }
    let ip = your_address().filter(|ip| ranges().any(|range| range.contains(*ip)))?;
    Some(format!("{blocks}, among them {ip}, from which you are connected (SSH_CLIENT)"))
}

/// Which addresses would be blocked in vain, because a list exempts them; `None` if there are none. For a feed that is how it should be.
pub(super) fn in_vain(fold: Option<&Fold>, actions: &[Action], now: LogTime) -> Option<String> {
    let blocked = blocked(fold, actions, now);
    let exempt = exempt_parts(fold?, &blocked, now);
    let (list, range) = exempt.first()?;
    let more = if exempt.len() > 1 { " and others" } else { "" };
    let blocks = output::addresses(Addresses::of(blocked.blocks().map(|block| block.range)));
    Some(format!(
        "it would block {blocks}, among them {}{more} on list {list}, which exempts them: they would pass all the same",
        range.shortest_text()
    ))
}

/// All that commands would refuse.
fn blocked(fold: Option<&Fold>, actions: &[Action], now: LogTime) -> List {
    let mut blocked = List::new(ListName::DEFAULT);
    for range in actions.iter().flat_map(|action| would_block(fold, action, now)) {
        blocked.put(Block { range, until: Until::FOREVER });
    }
    blocked
}

/// The ranges that a command would refuse.
fn would_block(fold: Option<&Fold>, action: &Action, now: LogTime) -> Vec<IpRange> {
    match action {
        Action::Blacklist { list, range, .. } if action_of(fold, list).kind() == ListKind::Deny => vec![*range],
        Action::List { list, action: ListAction::Deny { .. } } if action_of(fold, list).kind() != ListKind::Deny => {
            fold.and_then(|fold| fold.list(list)).map(|list| list.ranges_at(now).collect()).unwrap_or_default()
        }
        _ => vec![],
    }
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

/// The address that an operator is connected from over SSH.
fn your_address() -> Option<IpAddr> {
    env::var("SSH_CLIENT").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use edgefold::{Command, Edits, Record};

    use super::*;

    fn objection(state: &[&str], text: &str) -> Option<String> {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(state) {
            let record = Record { offset, timestamp: LogTime::from_millis(0), key: None, value: Some((*text).into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        let (actions, now) = ([Command::parse(text).unwrap().action], LogTime::from_millis(1).unwrap());
        super::objection(Some(&fold), &actions, now).or_else(|| in_vain(Some(&fold), &actions, now))
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
                Some("it would block 256 addresses, among them 10.0.0.7 on list probes, which exempts them"),
            ),
            ("BLACKLIST 10.0.1.0/24", None),
            ("ADD 0.0.0.0/0 list=seen", None),
            ("ADD 0.0.0.0/0 list=new", Some("4,294,967,296 addresses")),
            ("WHITELIST 0.0.0.0/0", None),
            ("LIST seen action=deny", Some("33,554,432 addresses")),
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
}
