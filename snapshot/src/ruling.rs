//! Which list wins: one rule for the filter and for every other reader of a log.

use crate::ListKind;

/// What is to happen to a client, given what each list does. Lists are named by their index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ruling {
    /// It passes.
    Pass,
    /// It passes because this list exempts it. Another one would have refused it.
    Exempt(usize),
    /// This list refuses it.
    Deny(usize),
    /// It passes, and is on at least one of these lists.
    Mark {
        /// Lists that report it.
        shadow: ListSet,
        /// Lists that tell the upstream about it.
        tag: ListSet,
    },
}

impl Ruling {
    /// Rules on a client. `kinds` are those of all lists, and `contains` says whether its address is on the list with an index.
    /// `applies` says whether a list that contains the address is about this client: see [`crate::ListAction::applies_to`].
    ///
    /// An exemption wins over everything, then a refusal, then the rest. Of several lists of the same kind, the first wins. For a
    /// client that is on no list, each list is asked once, except those that exempt, which are not asked at all.
    ///
    /// ```
    /// use edgefold_snapshot::{ListKind, Ruling};
    ///
    /// let kinds = || [ListKind::Deny, ListKind::Exempt].into_iter();
    /// assert_eq!(Ruling::new(kinds(), |list| list == 0, |_| true), Ruling::Deny(0));
    /// assert_eq!(Ruling::new(kinds(), |_| true, |_| true), Ruling::Exempt(1));
    /// assert_eq!(Ruling::new(kinds(), |_| true, |_| false), Ruling::Pass, "it is not in the share of the first");
    /// assert_eq!(Ruling::new(kinds(), |list| list == 1, |_| true), Ruling::Pass);
    /// ```
    pub fn new(
        kinds: impl Iterator<Item = ListKind> + Clone,
        contains: impl Fn(usize) -> bool,
        applies: impl Fn(usize) -> bool,
    ) -> Self {
        let exemption = || Self::exemption(kinds.clone(), &contains);
        for (list, kind) in kinds.clone().enumerate() {
            if kind == ListKind::Deny && contains(list) && applies(list) {
                return exemption().map_or(Self::Deny(list), Self::Exempt);
            }
        }
        let (mut shadow, mut tag) = (ListSet::default(), ListSet::default());
        for (list, kind) in kinds.clone().enumerate() {
            match kind {
                ListKind::Shadow if contains(list) => shadow.insert(list),
                ListKind::Tag if contains(list) => tag.insert(list),
                _ => {}
            }
        }
        if shadow.is_empty() && tag.is_empty() || exemption().is_some() {
            Self::Pass
        } else {
            Self::Mark { shadow, tag }
        }
    }

    /// The first list that exempts the client.
    pub fn exemption(kinds: impl Iterator<Item = ListKind>, contains: impl Fn(usize) -> bool) -> Option<usize> {
        kinds.enumerate().find(|(list, kind)| *kind == ListKind::Exempt && contains(*list)).map(|(list, _)| list)
    }
}

/// Some of up to 128 lists, by their index.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListSet(u128);

impl ListSet {
    /// Adds a list. Indexes above 127 are ignored; a log has [fewer](crate::MAX_NAMED_LISTS) lists.
    fn insert(&mut self, list: usize) {
        self.0 |= u32::try_from(list).ok().and_then(|list| 1_u128.checked_shl(list)).unwrap_or(0);
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their indexes, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..128).filter(move |list| self.0 >> list & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Every combination of four lists of every kind, and of the lists that the address is on. The second kind refuses nobody, because
    /// of its share.
    #[test]
    fn an_exemption_wins_then_a_refusal_then_the_rest() {
        let all = [ListKind::Deny, ListKind::Deny, ListKind::Shadow, ListKind::Exempt, ListKind::Tag];
        let drawn = |combination: usize, list: usize| combination / 5_usize.pow(u32::try_from(list).unwrap()) % 5;
        for combination in 0..5_usize.pow(4) {
            let kinds = (0..4).map(|list| all[drawn(combination, list)]);
            for on in 0..16_usize {
                let is_on = |list: usize| on >> list & 1 == 1;
                let with = |wanted: usize| -> Vec<usize> {
                    (0..4).filter(|list| is_on(*list) && drawn(combination, *list) == wanted).collect()
                };
                let (deny, shadow, exempt, tag) = (with(0), with(2), with(3), with(4));
                let ruling = Ruling::new(kinds.clone(), is_on, |list| drawn(combination, list) != 1);
                match (deny.first(), exempt.first()) {
                    (Some(_), Some(exempt)) => assert_eq!(ruling, Ruling::Exempt(*exempt)),
                    (Some(deny), None) => assert_eq!(ruling, Ruling::Deny(*deny)),
                    (None, Some(_)) => assert_eq!(ruling, Ruling::Pass),
                    (None, None) if shadow.is_empty() && tag.is_empty() => assert_eq!(ruling, Ruling::Pass),
                    (None, None) => {
                        let Ruling::Mark { shadow: found, tag: tags } = ruling else { panic!("{ruling:?}") };
                        assert_eq!((found.iter().collect::<Vec<_>>(), tags.iter().collect::<Vec<_>>()), (shadow, tag));
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_possible_list_fits_into_a_set() {
        let mut set = ListSet::default();
        [0, crate::MAX_NAMED_LISTS, 127, 128, usize::MAX].into_iter().for_each(|list| set.insert(list));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 127]);
    }
}
