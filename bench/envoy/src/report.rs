//! Prints the tables, in Markdown.
#![allow(clippy::print_stdout, reason = "the tables are the output")]

use std::path::Path;

use crate::change::{Changes, Pinned, Stream};
use crate::contenders::{EMPTY, MATCHER, PORTABLE, WASM};
use crate::cost::{Cost, quantile, quartiles};
use crate::instructions::{Counts, Instructions};
use crate::plots::{self, Bar};
use crate::reload::{Reloads, Soak};

pub(crate) fn print_cost(costs: &[Cost]) {
    let of = |name| costs.iter().find(|cost| cost.contender == name);
    let empty = of(EMPTY).unwrap();
    let others = [MATCHER, WASM, PORTABLE].map(|name| Some(of(name)?.quietly_over(empty)));
    let times = |over: f64, other: Option<f64>| other.map_or("–".into(), |other| format!("{:.2}", over / other));
    println!(
        "\n| allowed | µs per request | over the empty chain | quartiles | over the empty chain, quiet | \
         multiple of `{MATCHER}`, quiet | multiple of `{WASM}`, quiet | multiple of `{PORTABLE}`, quiet |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for cost in costs {
        let (name, micros) = (&cost.contender, quantile(&cost.passed, 0.5));
        if name == EMPTY {
            println!("| {name} | {micros:.2} | | | | | | |");
            continue;
        }
        let ([low, over, high], quiet) = (cost.over(empty), cost.quietly_over(empty));
        let multiples = others.map(|other| times(quiet, other)).join(" | ");
        println!("| {name} | {micros:.2} | {over:.2} | {low:.2} to {high:.2} | {quiet:.2} | {multiples} |");
    }
    println!("\n| denied | µs per request | quartiles |\n|---|--:|--:|");
    for cost in costs.iter().filter(|cost| !cost.denied.is_empty()) {
        let [low, micros, high] = quartiles(&cost.denied);
        println!("| {} | {micros:.2} | {low:.2} to {high:.2} |", cost.contender);
    }
}

pub(crate) fn print_instructions(all: &[Instructions]) {
    print_counts("instructions", all, |counts| counts.instructions);
    print_counts("misses of the first caches", all, |counts| counts.misses);
}

fn print_counts(what: &str, all: &[Instructions], of: fn(&Counts) -> f64) {
    let passed = |name| all.iter().find(|counted| counted.contender == name).map(|counted| of(&counted.passed));
    let empty = passed(EMPTY).unwrap();
    println!(
        "\n| {what} per request | allowed | over the empty chain | multiple of `{MATCHER}` | multiple of `{WASM}` | denied |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for Instructions { contender, passed: of_this, denied } in all {
        let (of_this, over) = (of(of_this), of(of_this) - empty);
        let times =
            |other| passed(other).map_or_else(|| "–".to_owned(), |other| format!("{:.2}", over / (other - empty)));
        let columns = if contender == EMPTY {
            " | |".to_owned()
        } else {
            format!("{over:.0} | {} | {}", times(MATCHER), times(WASM))
        };
        let denied = denied.as_ref().map(|denied| format!("{:.0}", of(denied))).unwrap_or_default();
        println!("| {contender} | {of_this:.0} | {columns} | {denied} |");
    }
}

pub(crate) fn draw_cost(costs: &[Cost], directory: &Path) {
    let empty = costs.iter().find(|cost| cost.contender == EMPTY).unwrap();
    let filters = costs.iter().filter(|cost| cost.contender != EMPTY);
    let bars: Vec<Bar<'_>> = filters
        .map(|cost| {
            let [low, _, high] = cost.over(empty);
            Bar { name: &cost.contender, value: cost.quietly_over(empty), spread: [low, high] }
        })
        .collect();
    let caption = "CPU microseconds per allowed request, over the empty chain";
    plots::bars(directory, "envoy-cost.svg", caption, &bars).unwrap();
}

/// Resident megabytes of an Envoy.
pub(crate) struct Memory {
    pub(crate) contender: String,
    pub(crate) started: f64,
    pub(crate) loaded: f64,
    /// After the reloads, and the peak; only for HTTP filters.
    pub(crate) reloaded: Option<[f64; 2]>,
}

pub(crate) fn print_memory(rows: &[Memory], reloads: usize) {
    println!("\n| MB resident | after the start | after the requests | after {reloads} reloads | peak |");
    println!("|---|--:|--:|--:|--:|");
    for Memory { contender, started, loaded, reloaded } in rows {
        let reloaded = reloaded.map_or("– | –".into(), |[end, most]| format!("{end:.0} | {most:.0}"));
        println!("| {contender} | {started:.0} | {loaded:.0} | {reloaded} |");
    }
}

/// Resident megabytes of an Envoy with several workers, and of the snapshot that it has.
pub(crate) struct Shared {
    pub(crate) contender: String,
    pub(crate) snapshot: f64,
    pub(crate) started: f64,
    pub(crate) reloaded: f64,
}

pub(crate) fn print_shared(rows: &[Shared], reloads: usize, workers: usize) {
    println!(
        "\n| MB with {workers} workers | the snapshot | resident after the start | after {reloads} reloads | over the empty chain, as a multiple of the snapshot |"
    );
    println!("|---|--:|--:|--:|--:|");
    let Some(empty) = rows.iter().find(|row| row.contender == EMPTY) else { return };
    for Shared { contender, snapshot, started, reloaded } in rows {
        let multiple =
            if *snapshot == 0.0 { String::new() } else { format!("{:.2}", (reloaded - empty.reloaded) / snapshot) };
        println!("| {contender} | {snapshot:.0} | {started:.0} | {reloaded:.0} | {multiple} |");
    }
}

pub(crate) fn print_reloads(all: &[Reloads]) {
    println!(
        "\n| ms | reloads | to the first 403: median | p90 | longest delay of another request in a reload: median | \
         max | delay of other requests: p99.9 | the same before a reload: median | max | p99.9 |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for reloads in all {
        let columns = [
            quantile(&reloads.latencies, 0.5),
            quantile(&reloads.latencies, 0.9),
            quantile(&reloads.longest, 0.5),
            quantile(&reloads.longest, 1.0),
            quantile(&reloads.delays, 0.999),
            quantile(&reloads.longest_quiet, 0.5),
            quantile(&reloads.longest_quiet, 1.0),
            quantile(&reloads.quiet, 0.999),
        ];
        let columns = columns.map(|millis| format!("{millis:.1}")).join(" | ");
        println!("| {} | {} | {columns} |", reloads.contender, reloads.latencies.len());
    }
}

pub(crate) fn draw_reloads(all: &[Reloads], directory: &Path) {
    let bars: Vec<Bar<'_>> = all
        .iter()
        .map(|Reloads { contender, latencies, .. }| {
            let value = quantile(latencies, 0.5);
            Bar { name: contender, value, spread: [value, quantile(latencies, 0.9)] }
        })
        .collect();
    let caption = "Milliseconds from the new file to the first 403: median and p90";
    plots::bars(directory, "envoy-reload.svg", caption, &bars).unwrap();
}

pub(crate) fn print_changes(all: &[Changes]) {
    println!(
        "\n| ranges | bytes shipped a change: median | mean | ms from the log to the 403: median | p99 | \
         the same as a multiple of the first row | p99 | CPU of `serve` a change, ms | CPU of Envoy a change, ms |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    let Some(first) = all.first().map(Changes::columns) else { return };
    for changes in all {
        let [bytes, mean, median, p99, serve, envoy] = changes.columns();
        let (times, times_p99) = (median / first[2], p99 / first[3]);
        println!(
            "| {} | {bytes:.0} | {mean:.0} | {median:.1} | {p99:.1} | {times:.2} | {times_p99:.2} | {serve:.2} | {envoy:.2} |",
            changes.name
        );
    }
}

pub(crate) fn print_pinned(pinned: &Pinned) {
    let Pinned { changes, bases, open, control } = pinned;
    println!(
        "\n| connections, each opened after a change | new bases | MB resident more | the same without the changes |"
    );
    println!("|--:|--:|--:|--:|\n| {changes} | {bases} | {open:.1} | {control:.1} |");
}

pub(crate) fn print_stream(stream: &Stream) {
    let Stream { changes, seconds, shipments, bases, staleness, requests, failed, megabytes, idle } = stream;
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(staleness, share));
    println!(
        "\n| changes | in seconds | shipments | bases | ms from the log to the 403: median | p99 | max | requests | failed | \
         MB resident after a tenth | at the end | CPU of an idle Envoy before, ms a second | afterwards |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    println!(
        "| {changes} | {seconds:.1} | {shipments} | {bases} | {p50:.1} | {p99:.1} | {most:.1} | {requests} | {failed} | {:.0} | {:.0} | \
         {:.1} | {:.1} |",
        megabytes[0], megabytes[1], idle[0], idle[1]
    );
}

pub(crate) fn print_soak(contender: &str, soak: &Soak) {
    let Soak { reloads, requests, failed, after_a_tenth, at_the_end } = soak;
    println!("\n| soak | reloads | requests | failed | MB resident after a tenth | at the end |");
    println!("|---|--:|--:|--:|--:|--:|");
    println!("| {contender} | {reloads} | {requests} | {failed} | {after_a_tenth:.0} | {at_the_end:.0} |");
}
