//! A naive oracle of the fold: for each list and each single address of a small space, until when the address is on the list. And
//! random logs over that space.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold::{Fold, IpRange, LogTime, Record, Verdict};
use proptest::prelude::*;
use proptest::sample::Index;

/// The number of addresses in each window of the space.
const WINDOW: u8 = 24;
/// The end of a block that has no end, in seconds.
const FOREVER: u64 = u64::MAX;

/// The first addresses of the windows: both edges of both families, and both edges of the IPv4-mapped block, which IPv6
/// does not have.
fn windows() -> [IpAddr; 6] {
    let v4 = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
    let v6 = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
    let width = u128::from(WINDOW) - 1;
    [
        v4(0),
        v4(u32::MAX - u32::from(WINDOW) + 1),
        v6(0),
        v6(u128::MAX - width),
        v6(0xffff_0000_0000 - 1 - width),
        v6(0x1_0000_0000_0000),
    ]
}

pub(crate) fn address(window: usize, at: u8) -> IpAddr {
    match windows()[window] {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(at)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(at)).into(),
    }
}

/// The lists of the random logs. The name of the second is an address, and that of the third begins like it.
const LISTS: [&str; 3] = ["default", "0.0.0.3", "0.0.0.3-feed"];
/// What they may do, as it is written.
const ACTIONS: [&str; 5] = ["deny", "shadow", "exempt", "tag", "deny share=0% status=429"];

/// What a command does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Blocks its addresses for that long, or forever.
    Block {
        seconds: Option<u8>,
    },
    Allow,
    /// On all lists.
    AllowEverywhere,
    /// The list does one of [`ACTIONS`].
    List(usize),
    Unlist,
}

/// A random command.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    /// `None`: the command is invalid.
    action: Option<Action>,
    list: Index,
    /// The window of one end of the range, and the place in it.
    window: Index,
    from: u8,
    /// The same for the other end.
    other: Index,
    to: u8,
    /// How far time moves before the command, in seconds. It may go back.
    seconds_later: i8,
}

/// Up to 30 commands.
pub(crate) fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let action = prop_oneof![
        12 => proptest::option::of(1..40_u8).prop_map(|seconds| Some(Action::Block { seconds })),
        8 => Just(Some(Action::Allow)),
        2 => Just(Some(Action::AllowEverywhere)),
        4 => (0..ACTIONS.len()).prop_map(|action| Some(Action::List(action))),
        2 => Just(Some(Action::Unlist)),
        3 => Just(None),
    ];
    let place = (any::<Index>(), any::<Index>(), 0..WINDOW, 0..WINDOW);
    let draw = (action, any::<Index>(), place, -5..20_i8).prop_map(
        |(action, list, (window, other, from, to), seconds_later)| Draw {
            action,
            list,
            window,
            from,
            other,
            to,
            seconds_later,
        },
    );
    proptest::collection::vec(draw, 0..30)
}

/// What a valid command means in the oracle's terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meaning {
    first: IpAddr,
    last: IpAddr,
    /// In seconds.
    pub(crate) time: u64,
    action: Action,
    list: &'static str,
}

/// The log that `draws` make, and with each record what it means; `None` if it is invalid.
pub(crate) fn log(draws: &[Draw]) -> Vec<(Record, Option<Meaning>)> {
    let mut time = 1_000_i64;
    let mut log = Vec::new();
    for &Draw { action, list, window, from, other, to, seconds_later } in draws {
        let list = LISTS[list.index(LISTS.len())];
        let of_list = if list == "default" { String::new() } else { format!(" list={list}") };
        time += i64::from(seconds_later);
        let seconds = u64::try_from(time).unwrap();
        let window = window.index(windows().len());
        // Most ranges lie within one window, the others reach into another one of the same family.
        let is_v4 = windows()[window].is_ipv4();
        let same_family: Vec<_> = (0..windows().len()).filter(|&other| windows()[other].is_ipv4() == is_v4).collect();
        let other = if other.index(3) == 0 { same_family[other.index(same_family.len())] } else { window };
        let ends = [address(window, from), address(other, to)];
        let (first, last) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let value = match action {
            Some(Action::Block { seconds: None }) => format!("BLACKLIST {first}-{last}{of_list}"),
            Some(Action::Block { seconds: Some(ttl) }) => format!("BLACKLIST {first}-{last} ttl={ttl}s{of_list}"),
            Some(Action::Allow) => format!("WHITELIST {first}-{last}{of_list}"),
            Some(Action::AllowEverywhere) => format!("WHITELIST {first}-{last} list=*"),
            Some(Action::List(action)) => format!("LIST {list} action={}", ACTIONS[action]),
            Some(Action::Unlist) => format!("UNLIST {list}"),
            None => format!("BLACKLIST {first}-{last} junk"),
        };
        // The default list cannot be removed.
        let action = action.filter(|action| !matches!(action, Action::Unlist) || list != "default");
        let key = LogTime::from_millis(seconds * 1000).unwrap().to_string();
        // In Kafka, transaction markers lie between the records.
        let offset = log.len() as u64 * 2;
        let record = Record { offset, timestamp: None, key: Some(key.into()), value: Some(value.into()) };
        log.push((record, action.map(|action| Meaning { first, last, time: seconds, action, list })));
    }
    log
}

/// The end of the block of each address of the space on each list, and what each list does.
pub(crate) struct Oracle {
    /// In seconds: 0 if the address was never blocked, or [`FOREVER`].
    ends: BTreeMap<&'static str, Vec<(IpAddr, u64)>>,
    /// What the lists do about which a command says something.
    actions: BTreeMap<&'static str, &'static str>,
    /// In seconds.
    pub(crate) log_time: u64,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let within = (0..windows().len()).flat_map(|window| (0..WINDOW).map(move |at| address(window, at)));
        // No range starts or ends between two windows, so one address stands for all that lie there. The IPv4-mapped
        // block has none, because its addresses are IPv4.
        let between = [0, 2, 5].map(|window| address(window, WINDOW));
        let ends: Vec<(IpAddr, u64)> = within.chain(between).map(|address| (address, 0)).collect();
        Self { ends: LISTS.map(|list| (list, ends.clone())).into(), actions: BTreeMap::new(), log_time: 0 }
    }

    pub(crate) fn apply(&mut self, Meaning { first, last, time, action, list }: Meaning) {
        self.log_time = self.log_time.max(time);
        let mut set = |list: &str, new: &dyn Fn(u64) -> u64| {
            for (ip, end) in self.ends.get_mut(list).unwrap() {
                if (first..=last).contains(ip) || matches!(action, Action::Unlist) {
                    *end = new(*end);
                }
            }
        };
        match action {
            Action::Allow => set(list, &|_| 0),
            Action::AllowEverywhere => LISTS.iter().for_each(|list| set(list, &|_| 0)),
            Action::Block { seconds: None } => set(list, &|_| FOREVER),
            Action::Block { seconds: Some(ttl) } => set(list, &|end| end.max(time + u64::from(ttl))),
            Action::List(action) => drop(self.actions.insert(list, ACTIONS[action])),
            Action::Unlist => {
                set(list, &|_| 0);
                self.actions.remove(list);
            }
        }
        // A block that has ended by log time is gone: it must not come back to life when time goes back.
        for (_, end) in self.ends.values_mut().flatten().filter(|(_, end)| *end <= self.log_time) {
            *end = 0;
        }
    }

    /// Asserts that `fold` is right at log time and at some times after it.
    pub(crate) fn assert_agrees(&self, fold: &Fold) {
        for later in [0, 1, 5, 50] {
            self.assert_agrees_at(fold, self.log_time + later);
        }
    }

    /// Asserts that `fold` is right at `seconds`, which must not lie before log time.
    pub(crate) fn assert_agrees_at(&self, fold: &Fold, seconds: u64) {
        let time = LogTime::from_millis(seconds * 1000).unwrap();
        let exists = |list: &&str| {
            *list == "default"
                || self.actions.contains_key(list)
                || self.ends[list].iter().any(|(_, end)| *end > self.log_time)
        };
        let expected: Vec<&str> = LISTS.into_iter().filter(exists).collect();
        let found: Vec<String> = fold.lists().iter().map(|list| list.name().to_string()).collect();
        assert_eq!(found, expected, "the lists that exist");
        for &list in &expected {
            self.assert_list_agrees_at(fold, list, seconds);
            let action = self.actions.get(list).unwrap_or(&"deny");
            assert!(action.starts_with(fold.list(&list.parse().unwrap()).unwrap().action().name()), "{list}");
        }
        for index in 0..self.ends["default"].len() {
            let ip = self.ends["default"][index].0;
            let verdict = match fold.verdict(ip, time) {
                Verdict::Pass => "pass".to_owned(),
                Verdict::Exempt(on) => format!("exempt by {}", on.list),
                Verdict::Deny(on) => format!("denied by {}", on.list),
                Verdict::Mark { shadow, tag } => {
                    let names = |listings: &[edgefold::Listing]| {
                        listings.iter().map(|on| on.list.to_string()).collect::<Vec<_>>().join(",")
                    };
                    format!("shadow {} tag {}", names(&shadow), names(&tag))
                }
            };
            assert_eq!(verdict, self.verdict(index, seconds), "{ip} at {time}");
        }
        let ends = self.ends.values().flatten().map(|&(_, end)| end).filter(|&end| end != FOREVER);
        let next = ends.filter(|&end| end > seconds).min();
        assert_eq!(fold.next_expiry(time).map(|time| time.millis() / 1000), next, "the next expiry after {time}");
    }

    fn assert_list_agrees_at(&self, fold: &Fold, list: &str, seconds: u64) {
        let time = LogTime::from_millis(seconds * 1000).unwrap();
        let (name, ends) = (list, &self.ends[list]);
        let list = fold.list(&list.parse().unwrap()).unwrap();
        let ranges: Vec<IpRange> = list.ranges_at(time).collect();
        for &(ip, end) in ends {
            let expected = end > seconds;
            assert_eq!(list.find(ip, time).is_some(), expected, "find {ip} on {name} at {time}");
            let in_snapshot = ranges.iter().any(|range| range.contains(ip));
            assert_eq!(in_snapshot, expected, "{ip} of {name} in the snapshot at {time}");
            if let Some(block) = list.find(ip, time) {
                assert!(block.range.contains(ip), "{ip} was found in {}", block.range);
                let found = block.until.time().map_or(FOREVER, |time| time.millis() / 1000);
                assert_eq!(found, end, "the end of the block of {ip} on {name}");
            }
        }
        // A table takes these ranges only if they are sorted, disjoint and do not touch.
        edgefold_table::encode(ranges, &mut Vec::new()).unwrap();
    }

    /// What is to happen to an address, by the table of `docs/semantics.md`.
    fn verdict(&self, index: usize, seconds: u64) -> String {
        let on = |action: &str| -> Vec<&str> {
            let does = |list: &str| *self.actions.get(list).unwrap_or(&"deny") == action;
            LISTS.into_iter().filter(|list| does(list) && self.ends[list][index].1 > seconds).collect()
        };
        // Nobody is in a share of 0%.
        let (deny, shadow, exempt, tag) = (on("deny"), on("shadow"), on("exempt"), on("tag"));
        match (deny.first(), exempt.first()) {
            (Some(_), Some(exempt)) => format!("exempt by {exempt}"),
            (Some(deny), None) => format!("denied by {deny}"),
            (None, Some(_)) => "pass".to_owned(),
            (None, None) if shadow.is_empty() && tag.is_empty() => "pass".to_owned(),
            (None, None) => format!("shadow {} tag {}", shadow.join(","), tag.join(",")),
        }
    }
}
