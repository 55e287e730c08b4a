//! What the map shows of the lists: layers of addresses, each in a colour of its own.

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use edgefold::{AddressRange, Fold, List, ListAction, ListKind, ListName, LogTime, Share, Until};

use super::ranges::{Family, Ranges, stretches};
use super::tile::{Layer, Layers};

/// What the colours stand for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Colouring {
    /// Only what is refused.
    Refused,
    /// A colour for each list: its place in [`Fold::lists`].
    List,
    /// What happens to the addresses: refused, exempt, reported, tagged.
    Action,
    /// How long addresses stay refused if no further command comes: less than each of [`SPANS`], longer, or forever.
    Left,
    /// Since when addresses are refused: not longer than each of [`SPANS`], or longer.
    Age,
}

/// How many [`SPANS`] there are.
const SPANS_COUNT: u8 = 4;

/// The limits between the colours of times.
pub(super) const SPANS: [Duration; SPANS_COUNT as usize] = [
    Duration::from_secs(3_600),
    Duration::from_secs(24 * 3_600),
    Duration::from_secs(7 * 24 * 3_600),
    Duration::from_secs(30 * 24 * 3_600),
];

impl FromStr for Colouring {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "refused" => Self::Refused,
            "list" => Self::List,
            "action" => Self::Action,
            "left" => Self::Left,
            "age" => Self::Age,
            _ => return Err("colour must be refused, list, action, left or age".to_owned()),
        })
    }
}

/// The lists at a moment, and which of them to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    pub(super) fold: &'a Fold,
    pub(super) time: LogTime,
    /// Only this list, as if nothing exempted addresses from it; `None` for all of them.
    pub(super) only: Option<ListName>,
}

impl Look<'_> {
    /// What the lists refuse of the addresses within `bounds`. If it is about one list, what is on that.
    pub(super) fn refused<A: Family>(&self, bounds: AddressRange<A>) -> Ranges<A> {
        self.on(|list| self.only.is_some() || refuses(list), bounds).without(&self.exempt(bounds))
    }

    /// The layers of one colouring. For [`Colouring::Age`] there is [`by_age`].
    pub(super) fn layers(&self, colouring: Colouring, bounds: AddressRange<Ipv4Addr>) -> Layers {
        match colouring {
            Colouring::Refused | Colouring::Age => Layers::disjoint([self.refused(bounds)]),
            Colouring::List => {
                let lists = (0..).zip(self.fold.lists());
                let layer = |(colour, list): (u8, &List)| {
                    let name = list.name();
                    Layer { colour, ranges: self.on(|list| list.name() == name, bounds) }
                };
                Layers::Overlapping(lists.map(layer).collect())
            }
            Colouring::Action => self.by_action(bounds),
            Colouring::Left => self.by_time_left(bounds),
        }
    }

    /// What has come since `before`, in colour 0, and what has gone, in colour 1.
    pub(super) fn changes(&self, before: &Look<'_>, bounds: AddressRange<Ipv4Addr>) -> Layers {
        let (old, new) = (before.refused(bounds), self.refused(bounds));
        Layers::disjoint([new.clone().without(&old), old.without(&new)])
    }

    fn by_action(&self, bounds: AddressRange<Ipv4Addr>) -> Layers {
        let of = |kind: ListKind| self.on(|list| list.action().kind() == kind, bounds);
        let refused = self.on(refuses, bounds).without(&self.exempt(bounds));
        let layers = [refused, of(ListKind::Exempt), of(ListKind::Shadow), of(ListKind::Tag)];
        Layers::Overlapping((0..).zip(layers).map(|(colour, ranges)| Layer { colour, ranges }).collect())
    }

    fn by_time_left(&self, bounds: AddressRange<Ipv4Addr>) -> Layers {
        let mut ends: [Vec<_>; FOREVER as usize + 1] = Default::default();
        for list in self.lists().filter(|list| self.only.is_some() || refuses(list)) {
            let mut on: [Ranges<_>; FOREVER as usize + 1] = Default::default();
            list.v4_blocks_in(bounds).filter(|block| block.until.holds_at(self.time)).for_each(|block| {
                on[usize::from(self.colour_of_end(block.until))].push(block.range.first(), block.range.last());
            });
            ends.iter_mut().zip(on).for_each(|(ends, on)| ends.push(on));
        }
        let [hour, day, week, month, longer, forever] = ends.map(|sets| Ranges::any(sets).cut(bounds));
        // The longest first: an address that two lists refuse is refused for as long as the later of them says.
        let exempt = self.exempt(bounds);
        let sets = [&exempt, &forever, &longer, &month, &week, &day, &hour].map(Ranges::as_slice);
        let mut layers: [Ranges<Ipv4Addr>; FOREVER as usize + 1] = Default::default();
        stretches(sets, |is_in, first, last| match is_in.iter().position(|is_in| *is_in) {
            None | Some(0) => {}
            Some(set) => layers[set - 1].push(first, last),
        });
        let layers = (0..=FOREVER).rev().zip(layers);
        Layers::Disjoint(layers.map(|(colour, ranges)| Layer { colour, ranges }).collect())
    }

    fn colour_of_end(&self, until: Until) -> u8 {
        let Some(end) = until.time() else { return FOREVER };
        let left = u128::from(end.millis().saturating_sub(self.time.millis()));
        (0..).zip(SPANS).find(|(_, span)| left < span.as_millis()).map_or(FOREVER - 1, |(colour, _)| colour)
    }

    /// What no list refuses, whatever it says. Nothing if it is about one list.
    fn exempt<A: Family>(&self, bounds: AddressRange<A>) -> Ranges<A> {
        if self.only.is_some() {
            return Ranges::default();
        }
        self.on(|list| *list.action() == ListAction::Exempt, bounds)
    }

    /// What is on the lists that are `wanted`.
    fn on<A: Family>(&self, wanted: impl Fn(&List) -> bool, bounds: AddressRange<A>) -> Ranges<A> {
        let on = |list| {
            let blocks = A::blocks(list, bounds).filter(|block| block.until.holds_at(self.time));
            Ranges::sorted(blocks.map(|block| (block.range.first(), block.range.last())))
        };
        Ranges::any(self.lists().filter(|list| wanted(list)).map(on).collect()).cut(bounds)
    }

    fn lists(&self) -> impl Iterator<Item = &List> {
        self.fold.lists().iter().filter(|list| self.only.is_none_or(|only| only == list.name()))
    }
}

/// [`Colouring::Age`]: what is refused, and what was refused as long ago as each of [`SPANS`], there and elsewhere. Whoever was let pass in
/// between is as old as the last block.
pub(super) fn by_age(refused: &Ranges<Ipv4Addr>, then: [&[(Ipv4Addr, Ipv4Addr)]; SPANS.len()]) -> Layers {
    let [hour, day, week, month] = then;
    let mut layers: [Ranges<Ipv4Addr>; SPANS.len() + 1] = Default::default();
    stretches([refused.as_slice(), hour, day, week, month], |was_in, first, last| {
        let since = was_in.iter().take_while(|was_in| **was_in).count();
        if let Some(layer) = since.checked_sub(1) {
            layers[layer].push(first, last);
        }
    });
    Layers::disjoint(layers)
}

/// The colour of what does not end, in [`Colouring::Left`].
const FOREVER: u8 = SPANS_COUNT + 1;

/// Whether the list refuses at least some clients.
fn refuses(list: &List) -> bool {
    matches!(list.action(), ListAction::Deny { share, .. } if *share != Share::NONE)
}

#[cfg(test)]
mod tests {
    use edgefold::{Edits, Record};
    use edgefold_table::Address;

    use super::*;

    const HOUR: u64 = 3_600_000;
    /// Nothing expires before the last command.
    const START: u64 = 1_000 * 24 * HOUR;
    const ACTIONS: [&str; 5] = ["deny", "deny share=0%", "exempt", "shadow", "tag"];

    fn time(millis: u64) -> LogTime {
        LogTime::from_millis(millis).unwrap()
    }

    /// The fold after some random commands about 64 addresses.
    fn random(seed: u64) -> Fold {
        fastrand::seed(seed);
        let mut fold = Fold::default();
        for (offset, list) in (0..).zip(["default", "one", "two", "three"]) {
            let action = fastrand::choice(ACTIONS).unwrap();
            apply(&mut fold, offset, &format!("LIST {list} action={action}"));
        }
        for offset in 4..24 {
            let (first, list) = (fastrand::u8(..64), fastrand::choice(["default", "one", "two", "three"]).unwrap());
            let range = format!("10.0.0.{first}-10.0.0.{}", fastrand::u8(first..64));
            let hours = fastrand::choice([1, 3, 40, 300, 2_000]).unwrap();
            let text = match fastrand::u8(..4) {
                0 => format!("WHITELIST {range} list={list}"),
                1 => format!("BLACKLIST {range} list={list}"),
                _ => format!("BLACKLIST {range} list={list} ttl={hours}h"),
            };
            apply(&mut fold, offset, &text);
        }
        fold
    }

    fn apply(fold: &mut Fold, offset: u64, text: &str) {
        let record = Record { offset, timestamp: Some(time(START)), key: None, value: Some(text.into()) };
        fold.apply(&record, &mut Edits::default()).unwrap();
    }

    /// Some of the 64 addresses: blocks go beyond.
    fn bounds() -> AddressRange<Ipv4Addr> {
        AddressRange::new(Ipv4Addr::new(10, 0, 0, 8), Ipv4Addr::new(10, 0, 0, 55)).unwrap()
    }

    fn addresses() -> impl Iterator<Item = Ipv4Addr> {
        (8..56).map(|at| Ipv4Addr::new(10, 0, 0, at))
    }

    /// The colours of an address: one at most, but for layers that can overlap.
    fn colours(layers: &Layers, address: Ipv4Addr) -> Vec<u8> {
        let mut ends = layers.iter().flat_map(|layer| layer.ranges.iter()).flat_map(|(first, last)| [first, last]);
        assert!(ends.all(|end| bounds().contains(end)), "cut to the bounds");
        let has = |layer: &&Layer| layer.ranges.iter().any(|(first, last)| (first..=last).contains(&address));
        layers.iter().filter(has).map(|layer| layer.colour).collect()
    }

    #[test]
    fn an_address_has_the_colours_of_what_the_lists_say_about_it() {
        for seed in 0..400 {
            let (fold, now) = (random(seed), time(START + fastrand::u64(..400 * HOUR)));
            let look = Look { fold: &fold, time: now, only: None };
            let layers = |colouring| look.layers(colouring, bounds());
            let (refused, actions) = (layers(Colouring::Refused), layers(Colouring::Action));
            let (left, lists) = (layers(Colouring::Left), layers(Colouring::List));
            for address in addresses() {
                let is_refused = fold.verdict(address.into(), now).denied().is_some();
                assert_eq!(colours(&refused, address).is_empty(), !is_refused, "seed {seed}, {address}");
                let on = |kind| {
                    fold.lists()
                        .iter()
                        .any(|list| list.action().kind() == kind && list.find(address.into(), now).is_some())
                };
                let kinds = [is_refused, on(ListKind::Exempt), on(ListKind::Shadow), on(ListKind::Tag)];
                let expected: Vec<u8> = (0..).zip(kinds).filter(|(_, is)| *is).map(|(colour, _)| colour).collect();
                assert_eq!(colours(&actions, address), expected, "seed {seed}, {address}");
                let all = fold.lists().iter().map(|list| list.find(address.into(), now).is_some());
                let expected: Vec<u8> = (0..).zip(all).filter(|(_, is)| *is).map(|(colour, _)| colour).collect();
                assert_eq!(colours(&lists, address), expected, "seed {seed}, {address}");
                // How long it stays refused is what the verdicts of later moments say.
                let refused_after = |hours: u64| {
                    let then = now.checked_add(Duration::from_secs(3_600 * hours)).unwrap();
                    fold.verdict(address.into(), then).denied().is_some()
                };
                let may_be_exempt = fold.lists().iter().any(|list| *list.action() == ListAction::Exempt);
                if is_refused && !may_be_exempt {
                    let longest = [1, 24, 7 * 24, 30 * 24, 300 * 24].map(refused_after);
                    let expected = u8::try_from(longest.iter().filter(|is| **is).count()).unwrap();
                    assert_eq!(colours(&left, address), [expected], "seed {seed}, {address}");
                }
                if !is_refused {
                    assert_eq!(colours(&left, address), [0; 0], "seed {seed}, {address}");
                }
            }
        }
    }

    #[test]
    fn what_changed_and_how_old_it_is_are_what_other_moments_say() {
        for seed in 0..200 {
            let folds: Vec<Fold> = (0..5).map(|at| random(5 * seed + at)).collect();
            let [now, hour, day, week, month] =
                std::array::from_fn(|at| Look { fold: &folds[at], time: time(START), only: None });
            let is_refused =
                |look: &Look<'_>, address: Ipv4Addr| look.fold.verdict(address.into(), look.time).denied().is_some();
            let all = AddressRange::new(Ipv4Addr::FIRST, Ipv4Addr::LAST).unwrap();
            let then = [hour, day, week, month].map(|look| look.refused(all));
            let ages = by_age(&now.refused(bounds()), then.each_ref().map(|then| then.in_range(bounds())));
            let changes = now.changes(&hour, bounds());
            for address in addresses() {
                let youngest = [hour, day, week, month].iter().position(|look| !is_refused(look, address));
                let expected = is_refused(&now, address).then(|| youngest.map_or(4, |at| u8::try_from(at).unwrap()));
                assert_eq!(colours(&ages, address), Vec::from_iter(expected), "seed {seed}, {address}");
                let expected = match (is_refused(&hour, address), is_refused(&now, address)) {
                    (false, true) => vec![0],
                    (true, false) => vec![1],
                    _ => vec![],
                };
                assert_eq!(colours(&changes, address), expected, "seed {seed}, {address}");
            }
        }
    }

    #[test]
    fn a_look_at_one_list_shows_what_is_on_it_whatever_others_say() {
        for seed in 0..200 {
            let (fold, name) = (random(seed), "one".parse().unwrap());
            let look = Look { fold: &fold, time: time(START), only: Some(name) };
            let layers = look.layers(Colouring::Refused, bounds());
            for address in addresses() {
                let is_on = fold.list(&name).unwrap().find(address.into(), look.time).is_some();
                assert_eq!(colours(&layers, address), vec![0; usize::from(is_on)], "seed {seed}, {address}");
            }
        }
    }
}
