//! The contenders that also run in wasm.

use edgefold_table::{AddressRange, IpRange, Table};

use crate::{Bits, Lookup};

/// Encodes edgefold's table of `ranges`, which are pairs of first and last address.
pub fn encode<A: Bits>(ranges: &[[A; 2]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    edgefold_table::encode(ranges.iter().map(|&[first, last]| range(first, last)), &mut bytes).unwrap();
    bytes
}

fn range<A: Bits>(first: A, last: A) -> IpRange {
    // Not `IpRange::new`, which would turn a mapped address into IPv4.
    match (first.ip(), last.ip()) {
        (std::net::IpAddr::V4(first), std::net::IpAddr::V4(last)) => AddressRange::new(first, last).unwrap().into(),
        (std::net::IpAddr::V6(first), std::net::IpAddr::V6(last)) => AddressRange::new(first, last).unwrap().into(),
        _ => unreachable!("both ends are of one type"),
    }
}

/// Edgefold's table.
pub struct Edgefold<B>(Table<B>);

impl<B: AsRef<[u8]>> Edgefold<B> {
    /// Opens, and thereby validates, the result of [`encode`].
    pub fn open(bytes: B) -> Self {
        Self(Table::open(bytes).unwrap())
    }
}

impl<A: Bits, B: AsRef<[u8]>> Lookup<A> for Edgefold<B> {
    fn contains(&self, address: A) -> bool {
        self.0.contains(address.ip())
    }
}

/// Encodes sorted pairs.
pub fn pairs_to_bytes<A: Bits>(ranges: &[[A; 2]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(ranges));
    ranges.iter().flatten().for_each(|address| address.write(&mut bytes));
    bytes
}

/// Reads pairs, and checks that they are sorted and disjoint, as a search requires.
fn open_pairs<A: Bits>(bytes: &[u8]) -> Vec<[A; 2]> {
    let pairs: Vec<[A; 2]> =
        bytes.chunks_exact(2 * A::BYTES).map(|pair| [A::read(pair), A::read(&pair[A::BYTES..])]).collect();
    assert!(pairs.iter().all(|[first, last]| first <= last));
    assert!(pairs.is_sorted_by(|[_, last], [first, _]| last < first));
    pairs
}

/// Sorted pairs with the standard library's binary search, which has no branches.
pub struct PartitionPoint<A>(Vec<[A; 2]>);

impl<A: Bits> PartitionPoint<A> {
    /// Reads and checks the result of [`pairs_to_bytes`].
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

/// Sorted pairs with the textbook binary search. Its branches let the processor speculate, and it ends as soon as it
/// finds the range.
pub struct Branchy<A>(Vec<[A; 2]>);

impl<A: Bits> Branchy<A> {
    /// Reads and checks the result of [`pairs_to_bytes`].
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

/// Looks up nothing: measures the overhead of the loop and the call.
pub struct Nothing;

impl<A: Bits> Lookup<A> for Nothing {
    fn contains(&self, address: A) -> bool {
        address & A::from(true) == A::from(true)
    }
}
