//! What the lists refuse, and how much of a range of addresses that is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold::{Block, Fold, IpRange, List, ListAction, ListName, LogTime, Share, Until};

/// The most addresses of a range that are asked one by one. Of a larger one, a share is not worked out.
const MOST_ASKED: u128 = 1 << 16;

/// How much of a range is refused, or is on a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extent {
    All,
    Some,
    None,
}

impl Extent {
    /// How much of `range` is on `list` at `time`.
    pub(crate) fn on(list: &List, range: IpRange, time: LogTime) -> Self {
        match list.ranges_within(range, time)[..] {
            [] => Self::None,
            [all] if all == range => Self::All,
            _ => Self::Some,
        }
    }

    /// For programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some => "some",
            Self::None => "none",
        }
    }
}

/// How much of `range` is refused at `time`. Of a range of more than 65536 addresses, a list that refuses a share of its clients is
/// taken to refuse some.
pub(crate) fn refused(fold: &Fold, range: IpRange, time: LogTime) -> Extent {
    if let Some(addresses) = addresses(range) {
        let (mut asked, mut refused) = (0_u64, 0_u64);
        for ip in addresses {
            asked += 1;
            refused += u64::from(fold.verdict(ip, time).denied().is_some());
        }
        return match refused {
            0 => Extent::None,
            refused if refused == asked => Extent::All,
            _ => Extent::Some,
        };
    }
    let mut within = List::new(ListName::DEFAULT);
    within.put(Block { range, until: Until::FOREVER });
    let part = fold.within(&within);
    let extent = |counts: fn(Share) -> bool| Extent::on(&refused_by(&part, time, counts), range, time);
    match (extent(|share| share == Share::ALL), extent(|share| share != Share::NONE)) {
        (Extent::All, _) => Extent::All,
        (Extent::None, Extent::None) => Extent::None,
        _ => Extent::Some,
    }
}

/// What is refused at `time` by lists that refuse a share of the clients that `counts`, without what lists exempt then.
pub(crate) fn refused_by(fold: &Fold, time: LogTime, counts: impl Fn(Share) -> bool) -> List {
    let mut refused = List::new(ListName::DEFAULT);
    for list in fold.lists() {
        if let ListAction::Deny { share, .. } = list.action()
            && counts(*share)
        {
            list.blocks().filter(|block| block.until.holds_at(time)).for_each(|block| refused.put(block));
        }
    }
    for list in fold.lists().iter().filter(|list| *list.action() == ListAction::Exempt) {
        list.ranges_at(time).for_each(|range| refused.take(range));
    }
    refused
}

/// Whether `list` refuses an address of `range` at `time`, as far as [`refused`] works that out.
pub(crate) fn refuses(fold: &Fold, list: &List, range: IpRange, time: LogTime) -> bool {
    let ListAction::Deny { share, .. } = list.action() else { return false };
    let is_exempt = |ip| {
        let mut exempting = fold.lists().iter().filter(|list| *list.action() == ListAction::Exempt);
        exempting.any(|list| list.find(ip, time).is_some())
    };
    match addresses(range) {
        Some(mut addresses) => {
            addresses.any(|ip| list.find(ip, time).is_some() && share.contains(ip) && !is_exempt(ip))
        }
        None => *share != Share::NONE && !blocks_in(list, range, time).is_empty(),
    }
}

/// The blocks of a list in force at `time` that have an address in common with `range`, in order.
pub(crate) fn blocks_in(list: &List, range: IpRange, time: LogTime) -> Vec<Block> {
    let mut blocks = list.blocks_in(range);
    blocks.retain(|block| block.until.holds_at(time));
    blocks
}

/// The addresses of a range; `None` if there are too many.
fn addresses(range: IpRange) -> Option<impl Iterator<Item = IpAddr>> {
    let (first, last) = bounds(range);
    let is_v4 = range.first().is_ipv4();
    let ip = move |bits: u128| match u32::try_from(bits) {
        Ok(bits) if is_v4 => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    (last - first < MOST_ASKED).then(|| (first..=last).map(ip))
}

fn bounds(range: IpRange) -> (u128, u128) {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    (bits(range.first()), bits(range.last()))
}

#[cfg(test)]
mod tests {
    use edgefold::{Edits, Record};

    use super::*;

    fn fold(texts: &[&str]) -> Fold {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(texts) {
            let record = Record { offset, timestamp: LogTime::from_millis(0), key: None, value: Some((*text).into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        fold
    }

    fn now() -> LogTime {
        LogTime::from_millis(1).unwrap()
    }

    fn refused(fold: &Fold, text: &str) -> Extent {
        super::refused(fold, text.parse().unwrap(), now())
    }

    #[test]
    fn a_range_is_blocked_wholly_partly_or_not() {
        let fold =
            fold(&["BLOCK 10.0.0.0/25", "BLOCK 10.0.0.128-10.0.0.200 ttl=1h", "BLOCK ::/0", "BLOCK 255.255.255.255"]);
        for (text, expected) in [
            ("10.0.0.0/25", Extent::All),
            ("10.0.0.7", Extent::All),
            ("10.0.0.0-10.0.0.200", Extent::All),
            ("10.0.0.0/24", Extent::Some),
            ("9.255.255.255-10.0.0.0", Extent::Some),
            ("0.0.0.0/0", Extent::Some),
            ("255.255.255.255", Extent::All),
            ("10.0.0.201", Extent::None),
            ("2001:db8::/32", Extent::All),
            ("::ffff:10.0.0.201", Extent::None),
        ] {
            assert_eq!(refused(&fold, text), expected, "{text}");
        }
    }

    #[test]
    fn lists_add_up_and_exemptions_are_left_out() {
        // The same for a few addresses, which are asked one by one, and for many.
        for scale in [0, 17] {
            let at = |first: u32, count: u32| {
                let [first, last] = [first << scale, ((first + count) << scale) - 1].map(Ipv4Addr::from_bits);
                format!("{first}-{last}")
            };
            let (low, high, tip, end) = (at(0, 128), at(128, 128), at(0, 16), at(255, 1));
            let fold = fold(&[
                &format!("BLOCK {low}"),
                &format!("ADD {high} list=feed"),
                "LIST monitoring action=exempt",
                &format!("ADD {tip} list=monitoring"),
                &format!("ADD {end} list=monitoring"),
                "LIST seen action=shadow",
                &format!("ADD {} list=seen", at(256, 16)),
            ]);
            for (text, expected) in [
                (at(16, 239), Extent::All),
                (at(0, 256), Extent::Some),
                (tip, Extent::None),
                (at(254, 2), Extent::Some),
                (end, Extent::None),
                (at(256, 16), Extent::None),
            ] {
                assert_eq!(refused(&fold, &text), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_share_is_worked_out_for_a_few_addresses() {
        let fold = fold(&[
            "LIST trial action=deny share=1%",
            "ADD 10.1.0.0/24 list=trial",
            "ADD 11.0.0.0/8 list=trial",
            "LIST off action=deny share=0%",
            "ADD 12.0.0.0/8 list=off",
        ]);
        let share: Share = "1%".parse().unwrap();
        let hosts: Vec<IpAddr> = (0..=255).map(|host| IpAddr::V4(Ipv4Addr::new(10, 1, 0, host))).collect();
        for ip in &hosts {
            let expected = if share.contains(*ip) { Extent::All } else { Extent::None };
            assert_eq!(refused(&fold, &ip.to_string()), expected);
        }
        let free = hosts.windows(2).find(|pair| pair.iter().all(|ip| !share.contains(*ip))).unwrap();
        assert_eq!(refused(&fold, &format!("{}-{}", free[0], free[1])), Extent::None);
        assert_eq!(refused(&fold, "10.1.0.0/24"), Extent::Some);
        assert_eq!(refused(&fold, "11.0.0.0/8"), Extent::Some, "too many to ask");
        assert_eq!(refused(&fold, "12.0.0.0/8"), Extent::None);
        let list = |name: &str| fold.list(&name.parse().unwrap()).unwrap();
        let refuses = |name, text: &str| super::refuses(&fold, list(name), text.parse().unwrap(), now());
        assert!(refuses("trial", "10.1.0.0/24") && refuses("trial", "11.0.0.0/8"));
        assert!(!refuses("trial", &format!("{}-{}", free[0], free[1])) && !refuses("off", "12.0.0.0/8"));
    }

    #[test]
    fn what_is_refused_ends_at_the_last_address() {
        let refused = |texts: &[&str]| -> Vec<String> {
            let refused = refused_by(&fold(&[&["LIST free action=exempt"], texts].concat()), now(), |_| true);
            refused.blocks().map(|block| block.range.to_string()).collect()
        };
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let before_last = "1::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe";
        assert_eq!(
            refused(&["BLOCK 1::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &format!("ADD {last} list=free")]),
            [before_last]
        );
        assert_eq!(refused(&["BLOCK ::/0", "ADD ::/0 list=free"]), [""; 0]);
        let cut = ["BLOCK ::5-::9", "ADD ::1-::6 list=free", "ADD ::8 list=free"];
        assert_eq!(refused(&cut), ["::7", "::9"]);
        assert_eq!(refused(&["BLOCK ::1", "ADD ::2-::3 list=other", "BLOCK ::9"]), ["::1-::3", "::9"]);
    }
}
