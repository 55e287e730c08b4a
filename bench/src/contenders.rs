//! The contenders, and how each of them is built.
//!
//! Considered and left out: `range-set-blaze` and `nodit` (each a `BTreeMap`), `iprange` (a trie of single bits),
//! `treebitmap` (`ip_network_table` is a fork of it), `sux` (Elias-Fano like `sucds`, with many more dependencies), and
//! `pgm-extra` 1.3.0 (a learned index that answers wrong for a few addresses in a million).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use edgefold_bench_wasm::{Bits, Branchy, Edgefold, Lookup, Lookups, PartitionPoint};
use ip_network::IpNetwork;
use ip_network_table::IpNetworkTable;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use iptrie::set::{LCTrieSet, RTrieSet};
use iptrie::{IpPrefix, Ipv4Prefix, Ipv6Prefix};
use ordsearch::OrderedCollection;
use poptrie::Poptrie;
use prefix_trie::PrefixSet;
use rangemap::{RangeInclusiveSet, StepLite};
use roaring::RoaringBitmap;
use sucds::mii_sequences::{EliasFano, EliasFanoBuilder};
use ts_bart::{RoutingTable, SimpleTable};

use crate::family::{Family, Range, prefixes};

/// Edgefold's table.
pub(crate) const EDGEFOLD: &str = "edgefold";
/// Binary search without branches.
pub(crate) const PARTITION_POINT: &str = "pairs, `partition_point`";
/// Binary search with branches.
pub(crate) const BRANCHY: &str = "pairs, branches";

/// A contender, which may not support every family.
pub(crate) struct Candidate<A> {
    pub(crate) name: &'static str,
    pub(crate) make: Make<A>,
}

type Boxed<A> = Box<dyn Lookups<A>>;

/// How a contender is made.
pub(crate) enum Make<A> {
    /// It has a serialized format.
    Format { encode: fn(&[Range<A>]) -> Vec<u8>, open: fn(Vec<u8>) -> Boxed<A> },
    /// It is built in memory from the ranges.
    Memory(fn(&[Range<A>]) -> Boxed<A>),
    /// It does not support this family, for this reason.
    Never(&'static str),
}

/// A family, with its contenders.
pub(crate) trait Contended: Family {
    fn candidates() -> Vec<Candidate<Self>>;
}

impl Contended for u32 {
    fn candidates() -> Vec<Candidate<Self>> {
        v4()
    }
}

impl Contended for u128 {
    fn candidates() -> Vec<Candidate<Self>> {
        v6()
    }
}

fn v4() -> Vec<Candidate<u32>> {
    let encode = |ranges: &[Range<u32>]| {
        let mut bytes = Vec::new();
        Roaring::build(ranges).0.serialize_into(&mut bytes).unwrap();
        bytes
    };
    let open = |bytes: Vec<u8>| Box::new(Roaring(RoaringBitmap::deserialize_from(&bytes[..]).unwrap())) as Boxed<u32>;
    let mut candidates = all();
    candidates.extend([
        Candidate { name: "`roaring`", make: Make::Format { encode, open } },
        Candidate { name: "`prefix-trie`", make: memory::<PrefixTrie<Ipv4Net>, _>() },
        Candidate { name: "`iptrie`", make: memory::<IpTrie<Ipv4Prefix>, _>() },
        Candidate { name: "`sucds`", make: memory::<Sucds, _>() },
    ]);
    candidates
}

fn v6() -> Vec<Candidate<u128>> {
    let mut candidates = all();
    candidates.extend([
        Candidate { name: "`roaring`", make: Make::Never("only holds 32-bit numbers") },
        Candidate { name: "`prefix-trie`", make: memory::<PrefixTrie<Ipv6Net>, _>() },
        Candidate { name: "`iptrie`", make: memory::<IpTrie<Ipv6Prefix>, _>() },
        Candidate { name: "`sucds`", make: Make::Never("only holds numbers of up to 64 bits") },
    ]);
    candidates
}

/// The contenders that are the same for both families.
fn all<A>() -> Vec<Candidate<A>>
where
    A: Family + StepLite + poptrie::Address,
{
    let pairs = edgefold_bench_wasm::pairs_to_bytes::<A>;
    let edgefold =
        Make::Format { encode: edgefold_bench_wasm::encode::<A>, open: |bytes| Box::new(Edgefold::open(bytes)) };
    vec![
        Candidate { name: EDGEFOLD, make: edgefold },
        Candidate {
            name: PARTITION_POINT,
            make: Make::Format { encode: pairs, open: |bytes| Box::new(PartitionPoint::<A>::open(&bytes)) },
        },
        Candidate {
            name: BRANCHY,
            make: Make::Format { encode: pairs, open: |bytes| Box::new(Branchy::<A>::open(&bytes)) },
        },
        Candidate { name: "`BTreeMap`", make: memory::<Tree<A>, A>() },
        Candidate { name: "`rangemap`", make: memory::<RangeSet<A>, A>() },
        Candidate { name: "`ordsearch`", make: memory::<Ordsearch<A>, A>() },
        Candidate { name: "`ip_network_table`", make: memory::<NetworkTable, A>() },
        Candidate { name: "`poptrie`", make: memory::<PopTrie<A>, A>() },
        Candidate { name: "`ts_bart`", make: memory::<Bart, A>() },
    ]
}

/// A contender without a serialized format.
trait Build<A> {
    fn build(ranges: &[Range<A>]) -> Self;
}

fn memory<T: Build<A> + Lookup<A> + 'static, A: Bits>() -> Make<A> {
    Make::Memory(|ranges| Box::new(T::build(ranges)))
}

/// The first address of each range, and the first address after it. A range at the very end of the family lacks the
/// latter.
fn bounds<A: Family>(ranges: &[Range<A>]) -> impl Iterator<Item = A> {
    ranges.iter().flat_map(|&[first, last]| [Some(first), A::try_from(last.into() + 1).ok()]).flatten()
}

/// By first address.
struct Tree<A>(BTreeMap<A, A>);

impl<A: Bits> Build<A> for Tree<A> {
    fn build(ranges: &[Range<A>]) -> Self {
        Self(ranges.iter().map(|&[first, last]| (first, last)).collect())
    }
}

impl<A: Bits> Lookup<A> for Tree<A> {
    fn contains(&self, address: A) -> bool {
        self.0.range(..=address).next_back().is_some_and(|(_, &last)| address <= last)
    }
}

struct RangeSet<A>(RangeInclusiveSet<A>);

impl<A: Bits + StepLite> Build<A> for RangeSet<A> {
    fn build(ranges: &[Range<A>]) -> Self {
        Self(ranges.iter().map(|&[first, last]| first..=last).collect())
    }
}

impl<A: Bits + StepLite> Lookup<A> for RangeSet<A> {
    fn contains(&self, address: A) -> bool {
        self.0.contains(&address)
    }
}

/// By last address, in Eytzinger's order.
struct Ordsearch<A>(OrderedCollection<ByLast<A>>);

#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct ByLast<A> {
    last: A,
    first: A,
}

impl<A> std::borrow::Borrow<A> for ByLast<A> {
    fn borrow(&self) -> &A {
        &self.last
    }
}

impl<A: Bits> Build<A> for Ordsearch<A> {
    fn build(ranges: &[Range<A>]) -> Self {
        Self(OrderedCollection::from_sorted_iter(ranges.iter().map(|&[first, last]| ByLast { last, first })))
    }
}

impl<A: Bits> Lookup<A> for Ordsearch<A> {
    fn contains(&self, address: A) -> bool {
        self.0.find_gte(address).is_some_and(|range| range.first <= address)
    }
}

struct NetworkTable(IpNetworkTable<()>);

impl<A: Family> Build<A> for NetworkTable {
    fn build(ranges: &[Range<A>]) -> Self {
        let mut table = IpNetworkTable::new();
        for (network, length) in prefixes(ranges) {
            table.insert(IpNetwork::new(network.ip(), length).unwrap(), ());
        }
        Self(table)
    }
}

impl<A: Family> Lookup<A> for NetworkTable {
    fn contains(&self, address: A) -> bool {
        self.0.longest_match(address.ip()).is_some()
    }
}

struct PopTrie<A: poptrie::Address>(Poptrie<(A, u8), ()>);

impl<A: Family + poptrie::Address> Build<A> for PopTrie<A> {
    fn build(ranges: &[Range<A>]) -> Self {
        Self(prefixes(ranges).map(|prefix| (prefix, ())).collect())
    }
}

impl<A: Family + poptrie::Address> Lookup<A> for PopTrie<A> {
    fn contains(&self, address: A) -> bool {
        self.0.lookup(address).is_some()
    }
}

struct Bart(SimpleTable<()>);

impl<A: Family> Build<A> for Bart {
    fn build(ranges: &[Range<A>]) -> Self {
        let mut table = SimpleTable::default();
        for (network, length) in prefixes(ranges) {
            table.insert(IpNet::new(network.ip(), length).unwrap(), ());
        }
        Self(table)
    }
}

impl<A: Family> Lookup<A> for Bart {
    fn contains(&self, address: A) -> bool {
        self.0.contains(address.ip())
    }
}

struct Roaring(RoaringBitmap);

impl Build<u32> for Roaring {
    fn build(ranges: &[Range<u32>]) -> Self {
        let mut bitmap = RoaringBitmap::new();
        for &[first, last] in ranges {
            bitmap.insert_range(first..=last);
        }
        bitmap.optimize();
        Self(bitmap)
    }
}

impl Lookup<u32> for Roaring {
    fn contains(&self, address: u32) -> bool {
        self.0.contains(address)
    }
}

struct PrefixTrie<N>(PrefixSet<N>);

impl Build<u32> for PrefixTrie<Ipv4Net> {
    fn build(ranges: &[Range<u32>]) -> Self {
        let net = |(network, length)| Ipv4Net::new(Ipv4Addr::from_bits(network), length).unwrap();
        Self(prefixes(ranges).map(net).collect())
    }
}

impl Lookup<u32> for PrefixTrie<Ipv4Net> {
    fn contains(&self, address: u32) -> bool {
        self.0.is_covered(&Ipv4Addr::from_bits(address).into())
    }
}

impl Build<u128> for PrefixTrie<Ipv6Net> {
    fn build(ranges: &[Range<u128>]) -> Self {
        let net = |(network, length)| Ipv6Net::new(Ipv6Addr::from_bits(network), length).unwrap();
        Self(prefixes(ranges).map(net).collect())
    }
}

impl Lookup<u128> for PrefixTrie<Ipv6Net> {
    fn contains(&self, address: u128) -> bool {
        self.0.is_covered(&Ipv6Addr::from_bits(address).into())
    }
}

/// The crate's level-compressed trie. It is made from the crate's other trie and only supports lookup.
struct IpTrie<P: IpPrefix>(LCTrieSet<P>);

impl Build<u32> for IpTrie<Ipv4Prefix> {
    fn build(ranges: &[Range<u32>]) -> Self {
        let prefix = |(network, length)| Ipv4Prefix::new(Ipv4Addr::from_bits(network), length).unwrap();
        Self(prefixes(ranges).map(prefix).collect::<RTrieSet<_>>().compress())
    }
}

impl Lookup<u32> for IpTrie<Ipv4Prefix> {
    fn contains(&self, address: u32) -> bool {
        // An address without a match gets the root, whose length is 0.
        self.0.lookup(&Ipv4Addr::from_bits(address)).len() > 0
    }
}

impl Build<u128> for IpTrie<Ipv6Prefix> {
    fn build(ranges: &[Range<u128>]) -> Self {
        let prefix = |(network, length)| Ipv6Prefix::new(Ipv6Addr::from_bits(network), length).unwrap();
        Self(prefixes(ranges).map(prefix).collect::<RTrieSet<_>>().compress())
    }
}

impl Lookup<u128> for IpTrie<Ipv6Prefix> {
    fn contains(&self, address: u128) -> bool {
        self.0.lookup(&Ipv6Addr::from_bits(address)).len() > 0
    }
}

/// The bounds of the ranges as one Elias-Fano sequence.
struct Sucds(EliasFano);

impl Build<u32> for Sucds {
    fn build(ranges: &[Range<u32>]) -> Self {
        let mut bounds = EliasFanoBuilder::new(1 << 32, bounds(ranges).count()).unwrap();
        bounds.extend(self::bounds(ranges).map(u64::from)).unwrap();
        Self(bounds.build().enable_rank())
    }
}

impl Lookup<u32> for Sucds {
    fn contains(&self, address: u32) -> bool {
        self.0.rank(u64::from(address) + 1).unwrap() % 2 == 1
    }
}
