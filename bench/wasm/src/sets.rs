//! The contenders that run in wasm too.

use edgefold_table::{AddressRange, IpRange, Table};

use crate::{Bits, Lookup};

/// The bytes of edgefold's table of `ranges`, which are first and last addresses.
pub fn encode<A: Bits>(ranges: &[[A; 2]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    edgefold_table::encode(ranges.iter().map(|&[first, last]| range(first, last)), &mut bytes).unwrap();
    bytes
}

fn range<A: Bits>(first: A, last: A) -> IpRange {
    // By hand, not by `IpRange::new`: a mapped address would change its family.
    match (first.ip(), last.ip()) {
        (std::net::IpAddr::V4(first), std::net::IpAddr::V4(last)) => AddressRange::new(first, last).unwrap().into(),
        (std::net::IpAddr::V6(first), std::net::IpAddr::V6(last)) => AddressRange::new(first, last).unwrap().into(),
        _ => unreachable!("both ends are of one type"),
    }
}

/// Edgefold's table.
pub struct Edgefold<B>(Table<B>);

impl<B: AsRef<[u8]>> Edgefold<B> {
    /// Validates what [`encode`] made.
    pub fn open(bytes: B) -> Self {
        Self(Table::open(bytes).unwrap())
    }
}

impl<A: Bits, B: AsRef<[u8]>> Lookup<A> for Edgefold<B> {
    fn contains(&self, address: A) -> bool {
        self.0.contains(address.ip())
    }
}

/// The bytes of sorted pairs.
pub fn pairs_to_bytes<A: Bits>(ranges: &[[A; 2]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(ranges));
    ranges.iter().flatten().for_each(|address| address.write(&mut bytes));
    bytes
}

/// Reads pairs and checks what a search in them relies on: that they are sorted and disjoint.
fn open_pairs<A: Bits>(bytes: &[u8]) -> Vec<[A; 2]> {
    let pairs: Vec<[A; 2]> =
        bytes.chunks_exact(2 * A::BYTES).map(|pair| [A::read(pair), A::read(&pair[A::BYTES..])]).collect();
    assert!(pairs.iter().all(|[first, last]| first <= last));
    assert!(pairs.is_sorted_by(|[_, last], [first, _]| last < first));
    pairs
}

/// Sorted pairs, searched by the standard library's binary search, which has no branches.
pub struct PartitionPoint<A>(Vec<[A; 2]>);

impl<A: Bits> PartitionPoint<A> {
    /// Reads and checks what [`pairs_to_bytes`] made.
    pub fn open(bytes: &[u8]) -> Self {
        Self(open_pairs(bytes))
    }
}

impl<A: Bits> Lookup<A> for PartitionPoint<A> {
    fn contains(&self, address: A) -> bool {
        let after = self.0.partition_point(|&[first, _]| first <= address);
        after > 0 && address <= self.0[after - 1][1]
    }
}

/// Sorted pairs, searched by the binary search of the textbooks: its branches let the processor guess ahead, and it ends
/// as soon as it is in a range.
pub struct Branchy<A>(Vec<[A; 2]>);

impl<A: Bits> Branchy<A> {
    /// Reads and checks what [`pairs_to_bytes`] made.
    pub fn open(bytes: &[u8]) -> Self {
        Self(open_pairs(bytes))
    }
}

impl<A: Bits> Lookup<A> for Branchy<A> {
    fn contains(&self, address: A) -> bool {
        let (mut low, mut high) = (0, self.0.len());
        while low < high {
            let middle = low.midpoint(high);
            let [first, last] = self.0[middle];
            if address < first {
                high = middle;
            } else if address > last {
                low = middle + 1;
            } else {
                return true;
            }
        }
        false
    }
}

/// Looks nothing up: what the loop and the call take by themselves.
pub struct Nothing;

impl<A: Bits> Lookup<A> for Nothing {
    fn contains(&self, address: A) -> bool {
        address & A::from(true) == A::from(true)
    }
}
