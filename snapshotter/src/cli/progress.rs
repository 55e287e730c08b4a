//! Shows how far a long job has come: as a bar on a terminal, else as a line in the log every few seconds.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgefold::{Log, Observed, Progress, Reading};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tracing::info;

/// The target of the log lines.
pub(super) const TARGET: &str = "progress";

/// How often a line is logged. A read that ends earlier logs none.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// A log whose readers show their progress.
pub(super) fn observed(log: Box<dyn Log>) -> Box<dyn Log> {
    let shown = Mutex::new(None::<Shown>);
    Box::new(Observed::new(log, move |reading, progress| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get_or_insert_with(|| Shown::new(what(reading))).advance(progress);
        if progress.done >= progress.total {
            *shown = None;
        }
    }))
}

fn what(reading: Reading) -> &'static str {
    match reading {
        Reading::Commands => "reading the commands",
        Reading::View => "reading the view of ranges",
    }
}

/// Whether something else has the terminal.
static IS_HIDDEN: AtomicBool = AtomicBool::new(false);

/// Shows no bars from now on: a pager has the terminal.
pub(super) fn hide() {
    IS_HIDDEN.store(true, Ordering::Relaxed);
}

/// One job that is shown.
pub(super) struct Shown {
    what: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    logged: Instant,
}

impl Shown {
    pub(super) fn new(what: &'static str) -> Self {
        let is_shown = stderr().is_terminal() && !IS_HIDDEN.load(Ordering::Relaxed);
        let bar = is_shown.then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template(
                "{msg} {wide_bar} {human_pos} of {human_len}, {rate} per second, {eta} left",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                let _written = write!(out, "{:.0}", state.per_sec());
            };
            bar.with_style(style.with_key("rate", rate)).with_message(what)
        });
        let now = Instant::now();
        Self { what, bar, started: now, logged: now }
    }

    pub(super) fn advance(&mut self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        } else if !IS_HIDDEN.load(Ordering::Relaxed) && self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            info!(target: TARGET, "{}", line(self.what, progress, self.started.elapsed()));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(what: &str, Progress { done, total }: Progress, elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1000) / millis;
    let left = match total.saturating_sub(done).checked_div(rate) {
        Some(seconds) => format!("{seconds} s left"),
        None => "time left unknown".to_owned(),
    };
    format!("{what}: {done} of {total} records, {rate} per second, {left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_and_the_time_left() {
        let line = |done, seconds| line("reading", Progress { done, total: 1000 }, Duration::from_secs(seconds));
        assert_eq!(line(200, 2), "reading: 200 of 1000 records, 100 per second, 8 s left");
        assert_eq!(line(0, 2), "reading: 0 of 1000 records, 0 per second, time left unknown");
    }
}
