//! The fewest changes that bring a list in step with another source, such as a feed.

use edgefold_table::IpRange;

use super::block::Until;
use super::difference::differences;
use super::list::List;
use super::time::LogTime;

/// A change that brings a list in step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Put addresses on the list until then: they are not on it, or not for that long.
    Put(IpRange, Until),
    /// Take addresses off the list.
    Take(IpRange),
}

/// How to bring a list in step.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncOptions {
    /// Whether to take off the list what is not wanted, or not for that long. Otherwise it is only added to.
    pub removes: bool,
    /// Addresses that stay on the list until this moment or longer are not prolonged, so that a source that is read every hour does not
    /// prolong all of them every hour.
    pub renew_before: Option<LogTime>,
}

/// The steps that lead from `list` to `wanted` at `time`: sorted, and few, because ranges rather than entries are compared. A source that
/// says the same in other CIDR blocks takes no step.
///
/// An address whose end is to come earlier takes two steps, because a command never shortens a block: it is taken off, and put on again.
///
/// ```
/// use edgefold::{Block, List, ListName, LogTime, Step, SyncOptions, Until, steps};
///
/// let list = |texts: &[&str]| -> Result<List, Box<dyn std::error::Error>> {
///     let mut list = List::new(ListName::DEFAULT);
///     for text in texts {
///         list.put(Block { range: text.parse()?, until: Until::FOREVER });
///     }
///     Ok(list)
/// };
/// let (has, wanted) = (list(&["10.0.0.0/24", "192.0.2.1"])?, list(&["10.0.0.0/25", "10.0.0.128/25", "198.51.100.0/24"])?);
/// let sync = SyncOptions { removes: true, ..SyncOptions::default() };
/// let expected = [Step::Take("192.0.2.1".parse()?), Step::Put("198.51.100.0/24".parse()?, Until::FOREVER)];
/// assert_eq!(steps(&has, &wanted, LogTime::EPOCH, sync), expected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn steps(list: &List, wanted: &List, time: LogTime, sync: SyncOptions) -> Vec<Step> {
    let stays = |until: Until| sync.renew_before.is_some_and(|moment| until >= Until::from(moment));
    let mut steps: Vec<Step> = Vec::new();
    for change in differences((list, time), (wanted, time)) {
        let range = change.range;
        match (change.before, change.after) {
            (Some(before), Some(after)) if after > before && stays(before) => {}
            (before, Some(after)) if before.is_none_or(|before| after > before) => {
                join(&mut steps, Step::Put(range, after));
            }
            (Some(_), Some(after)) if sync.removes => shorten(&mut steps, range, after),
            (Some(_), None) if sync.removes => join(&mut steps, Step::Take(range)),
            _ => {}
        }
    }
    steps
}

/// Adds the two steps that let addresses end earlier. They come one after the other, so that whoever sees only a part of all steps never
/// sees more than one range off the list that both sides have.
fn shorten(steps: &mut Vec<Step>, range: IpRange, until: Until) {
    if let [.., Step::Take(taken), Step::Put(put, same)] = steps.as_mut_slice()
        && taken == put
        && *same == until
        && let Some(joined) = put.joined(range)
    {
        (*taken, *put) = (joined, joined);
    } else {
        steps.extend([Step::Take(range), Step::Put(range, until)]);
    }
}

/// Adds a step, as part of the one before it if that goes on where it ends.
fn join(steps: &mut Vec<Step>, step: Step) {
    // The second of two steps is about the same range as the first.
    let is_pair = matches!(steps.as_slice(), [.., Step::Take(taken), Step::Put(put, _)] if taken == put);
    let joined = match (steps.last().filter(|_| !is_pair), step) {
        (Some(Step::Put(before, until)), Step::Put(next, same)) if *until == same => {
            before.joined(next).map(|range| Step::Put(range, same))
        }
        (Some(Step::Take(before)), Step::Take(next)) => before.joined(next).map(Step::Take),
        _ => None,
    };
    match (joined, steps.last_mut()) {
        (Some(joined), Some(last)) => *last = joined,
        _ => steps.push(step),
    }
}

#[cfg(test)]
mod tests {
    use edgefold_snapshot::ListName;

    use super::super::block::Block;
    use super::*;

    fn until(millis: u64) -> Until {
        LogTime::from_millis(millis).unwrap().into()
    }

    fn list(blocks: &[(u32, u32, Until)]) -> List {
        let mut list = List::new(ListName::DEFAULT);
        for &(first, last, until) in blocks {
            let ip = |at: u32| std::net::Ipv4Addr::from_bits(at).into();
            list.put(Block { range: IpRange::new(ip(first), ip(last)).unwrap(), until });
        }
        list
    }

    fn after(list: &List, steps: &[Step]) -> List {
        let mut list = list.clone();
        for step in steps {
            match *step {
                Step::Put(range, until) => list.put(Block { range, until }),
                Step::Take(range) => list.take(range),
            }
        }
        list
    }

    #[test]
    fn the_steps_lead_from_any_list_to_any_other() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut random = || {
            let blocks: Vec<_> = (0..rng.u32(0..8))
                .map(|_| {
                    let first = rng.u32(0..40);
                    let until = [Until::FOREVER, until(2), until(3)][rng.usize(0..3)];
                    (first, first + rng.u32(0..10), until)
                })
                .collect();
            list(&blocks)
        };
        let now = LogTime::from_millis(1).unwrap();
        for _ in 0..2_000 {
            let (has, wanted) = (random(), random());
            let steps = steps(&has, &wanted, now, SyncOptions { removes: true, renew_before: None });
            assert_eq!(after(&has, &steps), wanted, "{steps:?}");
            // Whoever sees only the first steps misses one range at the most.
            for seen in 0..steps.len() {
                let partly = after(&has, &steps[..seen]);
                let both = |at: u32| {
                    let ip = std::net::Ipv4Addr::from_bits(at).into();
                    has.find(ip, now).is_some() && wanted.find(ip, now).is_some() && partly.find(ip, now).is_none()
                };
                let missing: Vec<u32> = (0..50).filter(|at| both(*at)).collect();
                let is_one = missing.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                assert!(is_one, "{missing:?} after {seen} of {steps:?}");
            }
            assert_eq!(super::steps(&wanted, &wanted, now, SyncOptions { removes: true, renew_before: None }), []);
            // Without removals, each address is on the list for as long as either says.
            let mut both = has.clone();
            wanted.blocks().for_each(|block| both.put(block));
            let added = super::steps(&has, &wanted, now, SyncOptions::default());
            assert_eq!(after(&has, &added), both, "{added:?}");
        }
    }

    #[test]
    fn what_lasts_long_enough_is_not_prolonged() {
        let now = LogTime::from_millis(1).unwrap();
        let sync = SyncOptions { removes: true, renew_before: LogTime::from_millis(50) };
        let has = list(&[(1, 10, until(49)), (11, 20, until(50)), (21, 30, until(70)), (31, 40, Until::FOREVER)]);
        let wanted = list(&[(1, 40, until(101))]);
        let put = |first, last| Step::Put(list(&[(first, last, until(1))]).blocks().next().unwrap().range, until(101));
        let range = |first, last| list(&[(first, last, until(1))]).blocks().next().unwrap().range;
        // What has no end gets one.
        assert_eq!(steps(&has, &wanted, now, sync), [put(1, 10), Step::Take(range(31, 40)), put(31, 40)]);
    }

    #[test]
    fn steps_that_touch_are_one() {
        let now = LogTime::EPOCH;
        let has = list(&[(1, 10, until(5)), (11, 20, until(6)), (21, 30, until(7))]);
        let all = list(&[(1, 30, Until::FOREVER)]);
        assert_eq!(steps(&has, &all, now, SyncOptions::default()).len(), 1);
        assert_eq!(steps(&has, &list(&[]), now, SyncOptions { removes: true, renew_before: None }).len(), 1);
    }
}
