//! Shows how far a long job has come: a bar on a terminal, a line in the log now and then otherwise.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tracing::info;

/// How often a line is logged; a job that is done before it says nothing.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// One job.
pub(crate) struct Shown {
    what: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    logged: Instant,
}

impl Shown {
    /// A job of `total` records.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template(
                "{msg} {wide_bar} {human_pos} of {human_len}, {rate} a second, {eta} left",
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

    /// It has come to `done` of `total` records.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            info!("{}", line(self.what, done, total, self.started.elapsed()));
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

fn line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1000) / millis;
    let left = match total.saturating_sub(done).checked_div(rate) {
        Some(seconds) => format!("{seconds} s left"),
        None => "no telling how long".to_owned(),
    };
    format!("{what}: {done} of {total} records, {rate} a second, {left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_and_the_time_left() {
        let line = |done, seconds| line("reading", done, 1000, Duration::from_secs(seconds));
        assert_eq!(line(200, 2), "reading: 200 of 1000 records, 100 a second, 8 s left");
        assert_eq!(line(0, 2), "reading: 0 of 1000 records, 0 a second, no telling how long");
    }
}
