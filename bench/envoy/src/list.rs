//! The ranges to block, and addresses for requests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use edgefold_bench_lists::family::Range;
use edgefold_bench_lists::shapes::{self, Shape};
use edgefold_snapshot::{
    Fingerprint, Generation, ListAction, ListName, NewList, NewOverlayList, NewSnapshot, Settings,
};
use edgefold_table::IpRange;
use fastrand::Rng;

/// The first of the addresses that no generated list blocks.
const CANARIES: u32 = 240 << 24;

/// Blocklist-like IPv4 ranges.
#[derive(Clone)]
pub(crate) struct List(Rc<[Range<u32>]>);

/// All lists in use, by their number of ranges. Kept because making a large one takes seconds.
#[derive(Default)]
pub(crate) struct Lists(BTreeMap<usize, List>);

impl Lists {
    pub(crate) fn of(&mut self, ranges: usize) -> List {
        let make = || List(shapes::ranges(Shape::Blocklist, ranges).into());
        self.0.entry(ranges).or_insert_with(make).clone()
    }
}

impl List {
    /// The ranges of one version: those of the list, and an address that no other version blocks.
    pub(crate) fn version(&self, version: u32) -> Vec<Range<u32>> {
        let canary = canary(version);
        self.0.iter().copied().chain([[canary; 2]]).collect()
    }

    /// The snapshot of one version.
    pub(crate) fn snapshot(&self, version: u32) -> Vec<u8> {
        self.snapshot_of_lists(version, 1)
    }

    /// A base, and the overlay of one version over it, which has this many ranges from all over the list, and the address that only this
    /// version blocks.
    pub(crate) fn snapshot_as_pair(&self, version: u32, overlay: usize) -> (Vec<u8>, Vec<u8>) {
        let settings = Settings::default();
        let new = |version: u32| {
            let generation = Generation { epoch: 0, next_offset: version.into(), expiry: None };
            NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 }
        };
        let (name, action, step) = (ListName::DEFAULT, &ListAction::default(), self.0.len() / overlay);
        let part = |is_above: bool| {
            let part = self.ranges().enumerate().filter(move |(at, _)| (at % step == 0) == is_above);
            part.map(|(_, range)| range)
        };
        let base = new(0).encode_base([NewList { name, action, ranges: part(false) }]).unwrap();
        let ranges: Vec<IpRange> = part(true).chain([ip_range([canary(version); 2])]).collect();
        let overlay = NewOverlayList { added: NewList { name, action, ranges }, removed: Some(Vec::new()) };
        let overlay = new(version).encode_overlay(Fingerprint::of(&base).unwrap(), [overlay]).unwrap();
        (base, overlay)
    }

    /// All ranges.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = IpRange> {
        self.0.iter().copied().map(ip_range)
    }

    /// The snapshot of one version, with its ranges dealt out to this many lists, which all refuse.
    pub(crate) fn snapshot_of_lists(&self, version: u32, count: usize) -> Vec<u8> {
        let generation = Generation { epoch: 0, next_offset: version.into(), expiry: None };
        let settings = Settings::default();
        let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
        let (ranges, action) = (self.version(version), ListAction::default());
        let lists = (0..count).map(|list| NewList {
            name: if list == 0 { ListName::DEFAULT } else { format!("list-{list}").parse().unwrap() },
            action: &action,
            ranges: ranges.iter().skip(list).step_by(count).copied().map(ip_range),
        });
        new.encode(lists).unwrap()
    }

    /// Random addresses that are not blocked.
    pub(crate) fn passing(&self, count: usize, random: &mut Rng) -> Vec<u32> {
        let mut draw = || random.u32(1 << 24..224 << 24);
        std::iter::from_fn(|| Some(draw())).filter(|&address| !self.blocks(address)).take(count).collect()
    }

    /// Random addresses that are blocked, each in a random range.
    pub(crate) fn blocked(&self, count: usize, random: &mut Rng) -> Vec<u32> {
        let mut draw = || {
            let [first, last] = self.0[random.usize(..self.0.len())];
            random.u32(first..=last)
        };
        (0..count).map(|_| draw()).collect()
    }

    fn blocks(&self, address: u32) -> bool {
        let at = self.0.partition_point(|&[first, _]| first <= address);
        at > 0 && address <= self.0[at - 1][1]
    }
}

fn ip_range(range: Range<u32>) -> IpRange {
    let [first, last] = range.map(|number| Ipv4Addr::from_bits(number).into());
    IpRange::new(first, last).unwrap()
}

/// The address that only this version of a list blocks.
pub(crate) fn canary(version: u32) -> u32 {
    CANARIES + version
}
