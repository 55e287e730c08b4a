//! Entries of maps in which the innermost entry around an address decides, as the longest prefix does.

use std::net::{Ipv4Addr, Ipv6Addr};

use edgefold::{Block, Until};
use edgefold_table::{Address, AddressRange, IpRange};

use crate::EachEntry;
use crate::error::BadEntry;

/// Which of several entries with the same range is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Valid {
    First,
    Last,
}

/// What an entry says of its addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Says {
    Listed,
    Unlisted,
    /// What the entry around it says: it was deleted.
    Nothing,
}

/// The entries of a map.
#[derive(Debug)]
pub(crate) struct Nested {
    v4: Vec<Entry<Ipv4Addr>>,
    v6: Vec<Entry<Ipv6Addr>>,
    valid: Valid,
}

#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    range: AddressRange<A>,
    says: Says,
    line: u32,
}

impl Nested {
    pub(crate) fn new(valid: Valid) -> Self {
        Self { v4: Vec::new(), v6: Vec::new(), valid }
    }

    pub(crate) fn add(&mut self, range: IpRange, says: Says, line: u64) {
        // Only messages name lines, and a file that is read whole does not have more than this.
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        match range {
            IpRange::V4(range) => self.v4.push(Entry { range, says, line }),
            IpRange::V6(range) => self.v6.push(Entry { range, says, line }),
        }
    }

    /// Passes on the ranges that are listed, in order, and an error for each entry that lies partly inside another. Returns whether to read
    /// on.
    pub(crate) fn finish(self, each: &mut EachEntry<'_>) -> bool {
        finish(self.v4, self.valid, each) && finish(self.v6, self.valid, each)
    }
}

fn finish<A: Address + std::fmt::Display>(mut entries: Vec<Entry<A>>, valid: Valid, each: &mut EachEntry<'_>) -> bool
where
    IpRange: From<AddressRange<A>>,
{
    // The sort is stable: of entries with the same range, the first comes first.
    if valid == Valid::Last {
        entries.reverse();
    }
    entries.sort_by_key(|entry| (entry.range.first(), std::cmp::Reverse(entry.range.last())));
    entries.dedup_by_key(|entry| entry.range);

    let mut listed = Listed { run: None, each, goes_on: true };
    let mut around: Vec<Entry<A>> = Vec::new();
    // The first address that nothing was said about; `None` after the last address.
    let mut at = Some(A::FIRST);
    for entry in entries.into_iter().filter(|entry| entry.says != Says::Nothing) {
        while let Some(outer) = around.pop_if(|outer| outer.range.last() < entry.range.first()) {
            listed.add(at, outer.range.last(), outer.says);
            at = outer.range.last().successor();
        }
        if let Some(outer) = around.last() {
            if entry.range.last() > outer.range.last() {
                let why = format!(
                    "it overlaps line {} without being inside it: write ranges that do not overlap",
                    outer.line
                );
                listed.bad(BadEntry::in_line(entry.line.into(), &IpRange::from(entry.range).to_string(), why));
                continue;
            }
            if let Some(before) = entry.range.first().predecessor() {
                listed.add(at, before, outer.says);
            }
        }
        at = Some(entry.range.first());
        around.push(entry);
        if !listed.goes_on {
            return false;
        }
    }
    while let (Some(outer), Some(_)) = (around.pop(), at) {
        listed.add(at, outer.range.last(), outer.says);
        at = outer.range.last().successor();
    }
    listed.finish()
}

/// Joins what is listed, so that an entry with the same value inside another does not cut that in pieces.
struct Listed<'a, 'b, A> {
    run: Option<AddressRange<A>>,
    each: &'a mut EachEntry<'b>,
    goes_on: bool,
}

impl<A: Address> Listed<'_, '_, A>
where
    IpRange: From<AddressRange<A>>,
{
    fn add(&mut self, first: Option<A>, last: A, says: Says) {
        let Some(range) = first.and_then(|first| AddressRange::new(first, last).ok()) else { return };
        if says != Says::Listed {
            return;
        }
        match self.run {
            Some(run) if run.touches(range) => self.run = AddressRange::new(run.first(), last).ok(),
            _ => {
                self.pass_on();
                self.run = Some(range);
            }
        }
    }

    fn bad(&mut self, bad: BadEntry) {
        self.goes_on = self.goes_on && (self.each)(Err(bad));
    }

    fn pass_on(&mut self) {
        if let Some(run) = self.run.take().filter(|_| self.goes_on) {
            self.goes_on = (self.each)(Ok(Block { range: run.into(), until: Until::FOREVER }));
        }
    }

    fn finish(mut self) -> bool {
        self.pass_on();
        self.goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(valid: Valid, entries: &[(&str, Says)]) -> Vec<String> {
        let mut nested = Nested::new(valid);
        for (number, (range, says)) in (1..).zip(entries) {
            nested.add(range.parse().unwrap(), *says, number);
        }
        let mut found = Vec::new();
        nested.finish(&mut |entry| {
            found.push(entry.map_or_else(|bad| bad.to_string(), |block| block.range.to_string()));
            true
        });
        found
    }

    #[test]
    fn the_innermost_entry_decides() {
        use Says::{Listed, Nothing, Unlisted};
        let entries = [("192.0.2.7", Unlisted), ("192.0.2.0/24", Listed), ("192.0.2.128/25", Listed)];
        assert_eq!(listed(Valid::Last, &entries), ["192.0.2.0-192.0.2.6", "192.0.2.8-192.0.2.255"]);

        let entries = [("0.0.0.0/0", Listed), ("255.255.255.0/24", Unlisted), ("255.255.255.255", Listed)];
        assert_eq!(listed(Valid::Last, &entries), ["0.0.0.0-255.255.254.255", "255.255.255.255"]);

        let entries = [("::/0", Unlisted), ("2001:db8::/32", Listed), ("2001:db8::/128", Nothing)];
        assert_eq!(listed(Valid::Last, &entries), ["2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn of_the_same_range_the_first_or_the_last_is_valid() {
        let entries = [("192.0.2.0/24", Says::Listed), ("192.0.2.0/24", Says::Unlisted)];
        assert_eq!(listed(Valid::First, &entries), ["192.0.2.0-192.0.2.255"]);
        assert!(listed(Valid::Last, &entries).is_empty());
    }

    #[test]
    fn an_entry_that_crosses_the_end_of_another_is_bad() {
        let entries = [("192.0.2.0-192.0.2.9", Says::Listed), ("192.0.2.5-192.0.2.20", Says::Listed)];
        let found = listed(Valid::Last, &entries);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("line 2: \"192.0.2.5-192.0.2.20\": it overlaps line 1"), "{found:?}");
        assert_eq!(found[1], "192.0.2.0-192.0.2.9");
    }

    proptest::proptest! {
        #[test]
        fn each_address_has_what_its_longest_prefix_says(
            entries in proptest::collection::vec((0_u32..256, 24_u8..=32, 0..3), 0..40),
        ) {
            let says = [Says::Listed, Says::Unlisted, Says::Nothing];
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(bits, length, kind)| {
                    let first = bits & !(u32::MAX.checked_shr(length.into()).unwrap_or(0));
                    (first, length, says[usize::try_from(kind).unwrap()])
                })
                .collect();
            let mut nested = Nested::new(Valid::Last);
            for (first, length, says) in &entries {
                let range = format!("{}/{length}", Ipv4Addr::from_bits(*first)).parse().unwrap();
                nested.add(range, *says, 1);
            }
            let mut found = Vec::new();
            nested.finish(&mut |entry| {
                found.push(entry.unwrap().range);
                true
            });
            for bits in 0..256_u32 {
                // The longest prefix that says anything, of which the last entry is valid.
                let mut expected = false;
                for length in 24..=32 {
                    let first = bits & !(u32::MAX.checked_shr(length).unwrap_or(0));
                    let same = entries.iter().rfind(|entry| entry.0 == first && u32::from(entry.1) == length);
                    match same.map(|entry| entry.2) {
                        Some(Says::Listed) => expected = true,
                        Some(Says::Unlisted) => expected = false,
                        Some(Says::Nothing) | None => {}
                    }
                }
                let address = Ipv4Addr::from_bits(bits).into();
                proptest::prop_assert_eq!(found.iter().any(|range| range.contains(address)), expected);
            }
        }
    }
}
