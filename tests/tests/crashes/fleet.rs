//! Snapshotters of one log, which a test starts, kills, hangs and resumes. What they do is read from their metrics.

use std::collections::BTreeMap;
use std::time::Instant;

use edgefold::view::read_view;
use edgefold::{Block, IpRange, ListActionText, Moment, now, replay};
use edgefold_tests::{Edgefold, Serve, eventually};

use crate::history::{Appending, History};
use crate::log::open;
use crate::oracle::Blocked;

/// The metric that says how far the view has come, as far as the snapshotter knows.
const VIEW_OFFSET: &str = "edgefold_view_next_offset";

/// What a snapshotter does, in the order in which it gets there.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    /// It has not shipped anything yet.
    Starting,
    Standby,
    TakingOver,
    Writing,
}

/// Snapshotters, each with a folder of its own.
pub(crate) struct Fleet(Vec<Member>);

struct Member {
    serve: Option<Serve>,
    edgefold: Edgefold,
}

impl Fleet {
    /// One snapshotter for each URL. None of them runs yet.
    pub(crate) fn over<const N: usize>(urls: [&str; N]) -> Self {
        Self(urls.map(|url| Member { serve: None, edgefold: Edgefold::over(url) }).into())
    }

    pub(crate) fn edgefold(&self, member: usize) -> &Edgefold {
        &self.0[member].edgefold
    }

    pub(crate) fn start(&mut self, member: usize) {
        let Member { serve, edgefold } = &mut self.0[member];
        *serve = Some(edgefold.start_serve(&[]));
    }

    pub(crate) fn start_all(&mut self) {
        (0..self.0.len()).for_each(|member| self.start(member));
    }

    pub(crate) fn serve(&self, member: usize) -> &Serve {
        self.0[member].serve.as_ref().unwrap()
    }

    pub(crate) fn kill(&mut self, member: usize) {
        self.0[member].serve.take().unwrap().kill();
    }

    /// `None` if it does not run, or does not answer.
    fn metric(&self, member: usize, name: &str) -> Option<u64> {
        self.0[member].serve.as_ref()?.metric(name)
    }

    /// Whether it is the writer, as far as it knows.
    pub(crate) fn writes(&self, member: usize) -> bool {
        self.metric(member, "edgefold_writer") == Some(1)
    }

    pub(crate) fn phase(&self, member: usize) -> Phase {
        if self.writes(member) {
            Phase::Writing
        } else if self.metric(member, "edgefold_taking_over") == Some(1) {
            Phase::TakingOver
        } else if self.metric(member, "edgefold_snapshots_shipped_total") > Some(0) {
            Phase::Standby
        } else {
            Phase::Starting
        }
    }

    /// Waits until a member has reached `phase` or a later one, and returns it.
    pub(crate) fn await_phase(&self, phase: Phase) -> usize {
        let what = format!("a snapshotter in the phase {phase:?}");
        eventually(&what, || (0..self.0.len()).find(|&member| self.phase(member) >= phase))
    }

    /// Waits until one member is the writer and no other is or becomes one, and returns it. There may be two for a
    /// while: a writer that was fenced only finds out when it writes. So commands must be coming in.
    pub(crate) fn writer(&self) -> usize {
        eventually("a single writer", || {
            let phases: Vec<Phase> = (0..self.0.len()).map(|member| self.phase(member)).collect();
            let is_single = phases.iter().filter(|&&phase| phase >= Phase::TakingOver).count() == 1;
            phases.iter().position(|&phase| phase == Phase::Writing).filter(|_| is_single)
        })
    }

    /// Waits until another member is the writer instead of `old`, and the view advances. Returns the new writer.
    pub(crate) fn another_takes_over(&self, old: usize, why: &str) -> usize {
        let since = Instant::now();
        let others = || (0..self.0.len()).filter(|&member| member != old);
        let writer = eventually("another writer", || others().find(|&member| self.writes(member)));
        let offset = eventually("the offset of the view", || self.metric(writer, VIEW_OFFSET));
        eventually("the view to advance", || others().find(|&member| self.metric(member, VIEW_OFFSET) > Some(offset)));
        println!("{why}: the view advances after {:.1?}", since.elapsed());
        writer
    }

    /// Waits until the view advances.
    pub(crate) fn assert_view_advances(&self) {
        let furthest = || (0..self.0.len()).filter_map(|member| self.metric(member, VIEW_OFFSET)).max();
        let offset = eventually("the offset of the view", furthest);
        eventually("the view to advance", || (furthest() > Some(offset)).then_some(()));
    }

    /// Makes the writer hang, until another member is the writer.
    pub(crate) fn hang_until_another_takes_over(&self, writer: usize, why: &str) {
        self.serve(writer).hang();
        self.another_takes_over(writer, why);
    }

    /// Resumes a writer that hung while another one took over. It still believes that it is the writer, until it is
    /// fenced.
    pub(crate) fn resume_and_stand_by(&self, old: usize) {
        self.serve(old).go_on();
        self.await_stand_by(old);
    }

    /// Waits until a member that was the writer knows that it no longer is.
    pub(crate) fn await_stand_by(&self, old: usize) {
        let stands_by = || self.metric(old, "edgefold_writer") == Some(0);
        eventually("the old writer to stand by", || stands_by().then_some(()));
    }

    /// Waits until `members` have shipped all commands that are acknowledged by now.
    pub(crate) fn assert_ships(&self, members: &[usize], appending: &Appending) {
        let end = appending.end();
        members.iter().for_each(|&member| self.serve(member).wait_until_shipped(end));
    }

    /// Asserts that the view is what it must be, and that all members that run have shipped it and stop as they should.
    pub(crate) fn assert_right_at_the_end(mut self, url: &str, history: &History) {
        history.await_view(url);
        let log = open(url);
        let commands = history.in_the_log(url);
        let end = commands.len() as u64;
        let view = read_view(&*log).unwrap();
        assert!(view == replay(&*log, Moment::Offset(end)).unwrap(), "the view is not a replay of the commands");
        let mut blocked = Blocked::default();
        commands.iter().for_each(|sent| blocked.apply(sent));
        let mut records = BTreeMap::new();
        for list in view.lists() {
            let name = list.name();
            records
                .extend(list.stated_action().map(|does| (format!("@list {name}"), ListActionText(does).to_string())));
            let of_list = if name.is_default() { String::new() } else { format!("{name} ") };
            records.extend(list.blocks().map(|Block { range, until }| {
                let until = until.time().map(|time| format!(" until={time}")).unwrap_or_default();
                (format!("{of_list}{}", range.first()), format!("{}{until}", range.last()))
            }));
        }
        assert_eq!(records, blocked.view());
        for Member { serve, edgefold } in &mut self.0 {
            edgefold.run(&["verify"]); // It fails unless the view is a replay of the commands.
            let serve = serve.take().unwrap();
            serve.wait_until_shipped(end);
            // Blocks end by the clock, and what changes nothing ships nothing.
            eventually("what is shipped to be what is blocked now", || {
                let shipped = edgefold.run(&["inspect", "-o", "raw", &edgefold.ecds_file().display().to_string()]);
                let listed = view.lists().iter().flat_map(|list| {
                    let line = |range: IpRange| format!("{}\t{}\t{}\n", range.first(), range.last(), list.name());
                    list.ranges_at(now()).map(line).collect::<Vec<_>>()
                });
                (shipped == listed.collect::<String>()).then_some(())
            });
            assert!(serve.stop().success());
        }
    }
}
