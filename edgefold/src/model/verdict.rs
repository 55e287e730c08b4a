//! What all lists together say about an address.

use std::net::IpAddr;

use edgefold_snapshot::{ListName, ListSet, Ruling};

use super::block::Block;
use super::fold::Fold;
use super::time::LogTime;

/// What is to happen to a client. `docs/semantics.md` says which list wins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It passes because this list exempts it. Another one would have refused it.
    Exempt(Listing),
    /// This list refuses it.
    Deny(Listing),
    /// It passes, and is on at least one of these lists.
    Mark {
        /// Lists that only report it.
        shadow: Vec<Listing>,
        /// Lists whose names are passed on to the upstream.
        tag: Vec<Listing>,
    },
}

/// An address on a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listing {
    /// The list.
    pub list: ListName,
    /// The range that the address is in, and when it leaves the list.
    pub block: Block,
}

impl Verdict {
    /// Why the client is refused; `None` if it passes.
    pub fn denied(&self) -> Option<Listing> {
        if let Self::Deny(listing) = self { Some(*listing) } else { None }
    }
}

impl Fold {
    /// What all lists say about `ip` at `time`. An IPv4-mapped IPv6 address is looked up as the IPv4 address in it.
    pub fn verdict(&self, ip: IpAddr, time: LogTime) -> Verdict {
        let lists = self.lists();
        let listing = |index: usize| {
            let list = lists.get(index)?;
            Some(Listing { list: list.name(), block: list.find(ip, time)? })
        };
        let listings = |set: ListSet| set.iter().filter_map(listing).collect();
        let kinds = lists.iter().map(|list| list.action().kind());
        let applies = |index: usize| lists.get(index).is_some_and(|list| list.action().applies_to(ip));
        let ruling = Ruling::new(kinds, |index| listing(index).is_some(), applies);
        match ruling {
            Ruling::Pass => Verdict::Pass,
            Ruling::Exempt(list) => listing(list).map_or(Verdict::Pass, Verdict::Exempt),
            Ruling::Deny(list) => listing(list).map_or(Verdict::Pass, Verdict::Deny),
            Ruling::Mark { shadow, tag } => Verdict::Mark { shadow: listings(shadow), tag: listings(tag) },
        }
    }
}
