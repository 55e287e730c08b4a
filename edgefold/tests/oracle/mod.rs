//! A naive oracle of the fold: the end of the block of each single address of a small space. And random logs over that
//! space.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold::{Fold, IpRange, LogTime, Record};
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

fn address(window: usize, at: u8) -> IpAddr {
    match windows()[window] {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(at)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(at)).into(),
    }
}

/// What a command does to its addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Blocks them for that long, or forever.
    Block {
        seconds: Option<u8>,
    },
    Allow,
}

/// A random command.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    /// `None`: the command is invalid.
    action: Option<Action>,
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
        4 => proptest::option::of(1..40_u8).prop_map(|seconds| Some(Action::Block { seconds })),
        3 => Just(Some(Action::Allow)),
        1 => Just(None),
    ];
    let draw = (action, any::<Index>(), any::<Index>(), 0..WINDOW, 0..WINDOW, -5..20_i8).prop_map(
        |(action, window, other, from, to, seconds_later)| Draw { action, window, from, other, to, seconds_later },
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
}

/// The log that `draws` make, and with each record what it means; `None` if it is invalid.
pub(crate) fn log(draws: &[Draw]) -> Vec<(Record, Option<Meaning>)> {
    let mut time = 1_000_i64;
    let mut log = Vec::new();
    for &Draw { action, window, from, other, to, seconds_later } in draws {
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
            Some(Action::Block { seconds: None }) => format!("BLACKLIST {first}-{last}"),
            Some(Action::Block { seconds: Some(ttl) }) => format!("BLACKLIST {first}-{last} ttl={ttl}s"),
            Some(Action::Allow) => format!("WHITELIST {first}-{last}"),
            None => format!("BLACKLIST {first}-{last} junk"),
        };
        let key = LogTime::from_millis(seconds * 1000).unwrap().to_string();
        // In Kafka, transaction markers lie between the records.
        let offset = log.len() as u64 * 2;
        let record = Record { offset, timestamp: None, key: Some(key.into()), value: Some(value.into()) };
        log.push((record, action.map(|action| Meaning { first, last, time: seconds, action })));
    }
    log
}

/// The end of the block of each address of the space.
pub(crate) struct Oracle {
    /// In seconds: 0 if the address was never blocked, or [`FOREVER`].
    ends: Vec<(IpAddr, u64)>,
    /// In seconds.
    pub(crate) log_time: u64,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let within = (0..windows().len()).flat_map(|window| (0..WINDOW).map(move |at| address(window, at)));
        // No range starts or ends between two windows, so one address stands for all that lie there. The IPv4-mapped
        // block has none, because its addresses are IPv4.
        let between = [0, 2, 5].map(|window| address(window, WINDOW));
        Self { ends: within.chain(between).map(|address| (address, 0)).collect(), log_time: 0 }
    }

    pub(crate) fn apply(&mut self, Meaning { first, last, time, action }: Meaning) {
        self.log_time = self.log_time.max(time);
        for (_, end) in self.ends.iter_mut().filter(|(ip, _)| (first..=last).contains(ip)) {
            *end = match action {
                Action::Allow => 0,
                Action::Block { seconds: None } => FOREVER,
                Action::Block { seconds: Some(ttl) } => (*end).max(time + u64::from(ttl)),
            };
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
        let blocked: Vec<IpRange> = fold.blocked_at(time).collect();
        for &(ip, end) in &self.ends {
            let expected = end > seconds;
            assert_eq!(fold.find(ip, time).is_some(), expected, "find {ip} at {time}");
            assert_eq!(blocked.iter().any(|range| range.contains(ip)), expected, "{ip} in the snapshot at {time}");
            if let Some(block) = fold.find(ip, time) {
                assert!(block.range.contains(ip), "{ip} was found in {}", block.range);
                let found = block.until.time().map_or(FOREVER, |time| time.millis() / 1000);
                assert_eq!(found, end, "the end of the block of {ip}");
            }
        }
        // A table takes these ranges only if they are sorted, disjoint and do not touch.
        edgefold_table::encode(blocked, &mut Vec::new()).unwrap();
        let ends = self.ends.iter().map(|&(_, end)| end).filter(|&end| end != FOREVER);
        let next = ends.filter(|&end| end > seconds).min();
        assert_eq!(fold.next_expiry(time).map(|time| time.millis() / 1000), next, "the next expiry after {time}");
    }
}
