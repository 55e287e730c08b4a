//! What is where, as a table: the networks within a range, and how much of each is on lists. It is the map for those who do not see it, and
//! the only one of IPv6, of which next to nothing is ever used.

use std::cmp::Reverse;

use edgefold::{AddressRange, IpRange};

use super::ranges::{Family, Ranges, ip_range};

/// The most rows of a table.
const MOST: usize = 64;
/// With this many networks a range is cut finely enough.
const ENOUGH: usize = 8;
/// Prefix lengths are multiples of this, as they are for IPv6 in reverse DNS.
const STEP: u32 = 4;

/// A row of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) range: IpRange,
    /// Ranges with an address in it.
    pub(super) ranges: u64,
    /// How many of its addresses are on lists.
    pub(super) addresses: u128,
}

/// What is listed within `range`, which is a network, those with the most addresses first. Up to 64 ranges are listed one by one. Of more,
/// it is the networks of one prefix length that have some of them: the longest with at most 64 networks, or less if 8 of them tell enough.
pub(super) fn rows<A: Family>(range: AddressRange<A>, listed: &Ranges<A>) -> Vec<Row> {
    let mut rows = if listed.len() <= MOST { single(listed) } else { networks(range, listed) };
    rows.sort_by_key(|row| (Reverse(row.addresses), row.range.first()));
    rows
}

fn single<A: Family>(listed: &Ranges<A>) -> Vec<Row> {
    let row = |(first, last): (A, A)| {
        let addresses = (last.number() - first.number()).saturating_add(1);
        Some(Row { range: ip_range(first, last)?, ranges: 1, addresses })
    };
    listed.iter().filter_map(row).collect()
}

fn networks<A: Family>(range: AddressRange<A>, listed: &Ranges<A>) -> Vec<Row> {
    let (Some(first), Some(last)) = (listed.iter().next(), listed.iter().last()) else { return Vec::new() };
    let same = |first: A, last: A| A::BITS - (u128::BITS - (first.number() ^ last.number()).leading_zeros());
    // As long as all that is listed has the same prefix, there is only one network.
    let common = same(range.first(), range.last()).max(same(first.0, last.1));
    let mut length = (common + 1).next_multiple_of(STEP).min(A::BITS);
    let mut found = cut(listed, length);
    while found.len() < ENOUGH && length < A::BITS {
        length += STEP;
        let finer = cut(listed, length);
        if finer.len() > MOST {
            break;
        }
        found = finer;
    }
    found
}

/// The networks with this prefix length.
fn cut<A: Family>(listed: &Ranges<A>, length: u32) -> Vec<Row> {
    let mask = 1_u128.checked_shl(A::BITS - length).map_or(u128::MAX, |size| size - 1);
    // The first address of each, the ranges in it, and how many addresses they have in it.
    let mut found: Vec<(u128, u64, u128)> = Vec::new();
    for (first, last) in listed.iter() {
        let (mut first, last) = (first.number(), last.number());
        loop {
            let (end, network) = (last.min(first | mask), first & !mask);
            if found.last().is_none_or(|(last, _, _)| *last != network) {
                found.push((network, 0, 0));
            }
            if let Some((_, ranges, addresses)) = found.last_mut() {
                (*ranges, *addresses) = (*ranges + 1, addresses.saturating_add((end - first).saturating_add(1)));
            }
            match end.checked_add(1).filter(|next| *next <= last) {
                Some(next) => first = next,
                None => break,
            }
        }
    }
    let row = |(first, ranges, addresses)| {
        Some(Row { range: ip_range(A::at(first), A::at(first | mask))?, ranges, addresses })
    };
    found.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    fn rows<A: Family>(range: &str, listed: &[String]) -> Vec<(String, u64, u128)> {
        let number = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.number(),
            IpAddr::V6(ip) => ip.number(),
        };
        let of = |text: &str| {
            let range: IpRange = text.parse().unwrap();
            (A::at(number(range.first())), A::at(number(range.last())))
        };
        let (first, last) = of(range);
        let listed = listed.iter().map(|text| of(text)).collect();
        let rows = super::rows(AddressRange::new(first, last).unwrap(), &Ranges::union(listed));
        rows.into_iter().map(|row| (row.range.shortest_text(), row.ranges, row.addresses)).collect()
    }

    fn row(range: &str, ranges: u64, addresses: u128) -> (String, u64, u128) {
        (range.to_owned(), ranges, addresses)
    }

    #[test]
    fn a_few_ranges_are_listed_one_by_one_and_many_by_network() {
        assert_eq!(rows::<Ipv4Addr>("0.0.0.0/0", &[]), []);
        assert_eq!(rows::<Ipv6Addr>("::/0", &["::/0", "ffff::"].map(str::to_owned)[..1]), [row("::/0", 1, u128::MAX)],);
        assert_eq!(
            rows::<Ipv6Addr>("2001:db8::/32", &["2001:db8:1::/64", "2001:db8:2::-2001:db8:2::2"].map(str::to_owned)),
            [row("2001:db8:1::/64", 1, 1 << 64), row("2001:db8:2::-2001:db8:2::2", 1, 3)],
        );
        let many: Vec<String> = (0..100).map(|at| format!("10.{}.0.{}", at % 20, 2 * at)).collect();
        let found = rows::<Ipv4Addr>("0.0.0.0/0", &many);
        assert_eq!((found.len(), &found[0]), (20, &row("10.0.0.0/16", 5, 5)), "{found:?}");
        let many: Vec<String> = (0..100).map(|at| format!("2001:db8:{at:x}::/64")).collect();
        let found = rows::<Ipv6Addr>("::/0", &many);
        assert_eq!((found.len(), &found[0]), (7, &row("2001:db8::/44", 16, 16 << 64)), "{found:?}");
    }

    #[test]
    fn the_sums_are_those_of_what_is_listed() {
        for seed in 0..300 {
            fastrand::seed(seed);
            let range = |_| {
                let first = fastrand::u32(..);
                (first.into(), first.saturating_add(fastrand::u32(..1 << fastrand::u32(..31))).into())
            };
            let listed: Ranges<Ipv4Addr> = Ranges::union((0..fastrand::usize(1..300)).map(range).collect());
            let all = AddressRange::new(Ipv4Addr::from_bits(0), Ipv4Addr::from_bits(u32::MAX)).unwrap();
            let found = super::rows(all, &listed);
            assert!((1..=MOST).contains(&found.len()), "seed {seed}");
            assert_eq!(found.iter().map(|row| row.addresses).sum::<u128>(), listed.addresses(), "seed {seed}");
            assert!(found.iter().map(|row| row.ranges).sum::<u64>() >= listed.len() as u64);
        }
    }
}
