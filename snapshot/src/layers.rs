//! What a reader answers from: one snapshot, or an overlay over its base.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter;
use core::net::IpAddr;

use edgefold_table::{IpRange, Table};

use crate::{EncodeError, Header, ListKind, NewList, NewSnapshot, Role, Snapshot};

/// One snapshot, or an overlay over the base that it names. Lists are those of the overlay, which also has the settings.
///
/// A range is either one of the overlay, as a whole, or one of the base. So the range that an address is in is found by one search,
/// however many ranges beside it have changed.
///
/// ```
/// use std::sync::Arc;
/// use edgefold_snapshot::{
///     Fingerprint, Generation, Layers, ListAction, ListName, NewList, NewOverlayList, NewSnapshot, Settings, Snapshot,
/// };
///
/// let settings = Settings::default();
/// let generation = Generation { epoch: 0, next_offset: 1, expiry: None };
/// let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
/// let (name, action) = (ListName::DEFAULT, &ListAction::default());
/// let base = new.encode_base([NewList { name, action, ranges: ["10.0.0.0-10.0.0.255".parse()?] }])?;
/// let base = Arc::new(Snapshot::open(base)?);
///
/// // 10.0.0.7 was allowed, so one range became two.
/// let added = NewList { name, action, ranges: vec!["10.0.0.0-10.0.0.6".parse()?, "10.0.0.8-10.0.0.255".parse()?] };
/// let removed = Some(vec!["10.0.0.0-10.0.0.255".parse()?]);
/// let overlay = new.encode_overlay(base.fingerprint(), [NewOverlayList { added, removed }])?;
/// let layers = Layers::over(Arc::new(Snapshot::open(overlay)?), &base).expect("its base");
/// assert!(layers.contains(0, "10.0.0.8".parse()?) && !layers.contains(0, "10.0.0.7".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Layers<B> {
    top: Arc<Snapshot<B>>,
    below: Option<Below<B>>,
}

/// The base, and which of its lists each list extends.
#[derive(Clone, Debug)]
struct Below<B> {
    base: Arc<Snapshot<B>>,
    lists: Vec<Option<usize>>,
}

impl<B: AsRef<[u8]>> Layers<B> {
    /// One snapshot, which must not be an overlay: of that there are only the ranges that it adds.
    pub fn alone(snapshot: Arc<Snapshot<B>>) -> Self {
        Self { top: snapshot, below: None }
    }

    /// An overlay over its base; `None` if `overlay` is no overlay, or `base` is not the base that it names.
    pub fn over(overlay: Arc<Snapshot<B>>, base: &Arc<Snapshot<B>>) -> Option<Self> {
        let Role::Overlay(changes) = &overlay.header().role else { return None };
        if changes.base != base.fingerprint() || base.header().role != Role::Base {
            return None;
        }
        let lists = &base.header().lists;
        let extended = overlay.header().lists.iter().zip(&changes.lists).map(|(list, changes)| {
            lists.iter().position(|below| below.name == list.name).filter(|_| changes.extends_base)
        });
        let below = Below { base: Arc::clone(base), lists: extended.collect() };
        Some(Self { top: overlay, below: Some(below) })
    }

    /// The snapshot, or the overlay.
    pub fn top(&self) -> &Snapshot<B> {
        &self.top
    }

    /// The base of the overlay; `None` if this is one snapshot.
    pub fn base(&self) -> Option<&Arc<Snapshot<B>>> {
        Some(&self.below.as_ref()?.base)
    }

    /// What the snapshot or the overlay says about itself.
    #[inline]
    pub fn header(&self) -> &Header {
        self.top.header()
    }

    /// The kinds of the lists, in their order.
    #[inline]
    pub fn kinds(&self) -> &[ListKind] {
        self.top.kinds()
    }

    /// Whether the address may be on a list. If not, it is on none: see [`Snapshot::prepare`].
    #[inline]
    pub fn may_have(&self, ip: IpAddr) -> bool {
        let may_be_below = || self.below.as_ref().is_some_and(|below| below.base.may_have(ip));
        may_be_below() || self.top.may_have(ip)
    }

    /// Whether the address is on the list at this index of [`Header::lists`].
    #[inline]
    pub fn contains(&self, list: usize, ip: IpAddr) -> bool {
        self.top.contains(list, ip) || self.below.as_ref().is_some_and(|below| self.is_below(below, list, ip))
    }

    /// Whether a range of the base contains the address, and is not removed.
    #[inline]
    fn is_below(&self, below: &Below<B>, list: usize, ip: IpAddr) -> bool {
        // Most addresses are on no list, so what is removed is asked last.
        let Some(Some(extended)) = below.lists.get(list) else { return false };
        below.base.contains(*extended, ip) && !self.is_removed(list, ip)
    }

    #[cold]
    fn is_removed(&self, list: usize, ip: IpAddr) -> bool {
        self.top.removed(list).is_some_and(|removed| removed.contains(ip))
    }

    /// The range of the list that contains the address.
    pub fn range(&self, list: usize, ip: IpAddr) -> Option<IpRange> {
        let added = self.top.table(list).and_then(|table| table.range(ip));
        added.or_else(|| self.base_table(list)?.range(ip).filter(|_| !self.is_removed(list, ip)))
    }

    /// The table of the list of the base that the list extends.
    fn base_table(&self, list: usize) -> Option<Table<&[u8]>> {
        let below = self.below.as_ref()?;
        below.base.table((*below.lists.get(list)?)?)
    }

    /// The number of IPv4 and of IPv6 ranges on all lists.
    pub fn ranges(&self) -> (u64, u64) {
        let counts = (0..self.header().lists.len()).map(|list| self.ranges_of(list));
        counts.fold((0, 0), |sum, of| (sum.0.saturating_add(of.0), sum.1.saturating_add(of.1)))
    }

    /// The number of IPv4 and of IPv6 ranges on the list.
    pub fn ranges_of(&self, list: usize) -> (u64, u64) {
        let count = |table: Option<Table<&[u8]>>| {
            table.map_or((0, 0), |table| (table.ipv4_ranges() as u64, table.ipv6_ranges() as u64))
        };
        let (top, base, removed) =
            (count(self.top.table(list)), count(self.base_table(list)), count(self.top.removed(list)));
        let of = |top: u64, base: u64, removed: u64| top.saturating_add(base.saturating_sub(removed));
        (of(top.0, base.0, removed.0), of(top.1, base.1, removed.1))
    }

    /// The ranges of the list, in order. Those of a base and an overlay that do not fit each other may overlap.
    pub fn iter(&self, list: usize) -> impl Iterator<Item = IpRange> {
        let is_removed = move |range: &IpRange| self.is_removed(list, range.first());
        let base =
            self.base_table(list).into_iter().flat_map(Table::into_ranges).filter(move |range| !is_removed(range));
        let (mut base, mut added) =
            (base.peekable(), self.top.table(list).into_iter().flat_map(Table::into_ranges).peekable());
        iter::from_fn(move || match (base.peek(), added.peek()) {
            (Some(below), Some(range)) if below < range => base.next(),
            (_, Some(_)) => added.next(),
            (_, None) => base.next(),
        })
    }

    /// Encodes the base that has everything that is on the lists, for later overlays.
    ///
    /// # Errors
    /// [`EncodeError`] if it is too long, or if the overlay does not fit its base.
    pub fn to_base(&self) -> Result<Vec<u8>, EncodeError> {
        let Header { name, generation, as_of, settings, lists, .. } = self.header();
        let cut_at = settings.freshness.map_or(0, |freshness| freshness.cut_at);
        let new = NewSnapshot { name, generation: *generation, as_of: *as_of, settings, cut_at };
        new.encode_base(lists.iter().enumerate().map(|(index, list)| NewList {
            name: list.name,
            action: &list.action,
            ranges: self.iter(index),
        }))
    }
}
