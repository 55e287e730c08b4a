//! Prints the tables, in Markdown.
#![allow(clippy::print_stdout, reason = "the tables are the output")]

use crate::contenders::{BRANCHY, EDGEFOLD, PARTITION_POINT};
use crate::measure::{Host, List, Measured, Row, Times, WAYS};
use crate::shapes::Shape;
use crate::wasm::Simd;

pub(crate) fn print_head() {
    println!(
        "| contender | host | {} | bytes per range, serialized | resident | encode, ms | open, ms |",
        WAYS.join(" | ")
    );
    println!("|---|---|{}", "--:|".repeat(WAYS.len() + 4));
}

/// Prints one list as a section of the table.
pub(crate) fn print(measured: &Measured) {
    let Measured { list, ranges, rows, .. } = measured;
    println!("| **{ranges} {} ranges, {}** |{}", list.family, list.shape.name(), " |".repeat(WAYS.len() + 5));
    for row in rows {
        let times = match &row.times {
            Ok(times) => times.map(|nanos| format!("{nanos:.1}")).join(" | "),
            Err(why) => {
                println!("| {}, left out: {why} |{}", row.contender, " |".repeat(WAYS.len() + 5));
                continue;
            }
        };
        let bytes = [row.serialized, row.resident].map(|bytes| cell(bytes, 2)).join(" | ");
        let millis = [row.encode, row.open].map(|taken| cell(taken.map(|seconds| seconds * 1e3), 2)).join(" | ");
        println!("| {} | {} | {times} | {bytes} | {millis} |", row.contender, row.host.name());
    }
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

/// All results.
pub(crate) struct Results(pub(crate) Vec<Measured>);

impl Results {
    pub(crate) fn of(&self, family: &str, shape: Shape, size: &str) -> Option<&Measured> {
        self.0.iter().find(|Measured { list, .. }| {
            let &List { family: its, shape: shaped, size: sized, .. } = list;
            its == family && shaped == shape && sized == size
        })
    }
}

impl Measured {
    pub(crate) fn row(&self, contender: &str, host: Host) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender && row.host == host)
    }

    /// Nanoseconds per lookup of a contender.
    pub(crate) fn times(&self, contender: &str, host: Host) -> Option<Times> {
        self.row(contender, host)?.times.clone().ok()
    }

    /// The same for the faster of the two binary searches, for each kind of lookup.
    pub(crate) fn pairs(&self, host: Host) -> Option<Times> {
        let (one, other) = (self.times(PARTITION_POINT, host)?, self.times(BRANCHY, host)?);
        Some(std::array::from_fn(|way| one[way].min(other[way])))
    }

    /// The fastest crate other than edgefold, for each kind of lookup.
    fn fastest_crate(&self) -> Option<[(&'static str, f64); 4]> {
        let crates: Vec<(&str, &Times)> = self
            .rows
            .iter()
            .filter(|row| row.host == Host::Native && ![EDGEFOLD, PARTITION_POINT, BRANCHY].contains(&row.contender))
            .filter_map(|row| Some((row.contender, row.times.as_ref().ok()?)))
            .collect();
        let fastest =
            |way: usize| crates.iter().map(|(name, times)| (*name, times[way])).min_by(|a, b| a.1.total_cmp(&b.1));
        Some([fastest(0)?, fastest(1)?, fastest(2)?, fastest(3)?])
    }
}

const WASMTIME: Host = Host::Wasmtime(Simd::With);
const V8: Host = Host::V8(Simd::With);

/// Prints the targets, and whether they are met. `ten` is the size of a table of ten ranges, in bytes.
pub(crate) fn print_targets(results: &Results, ten: usize) {
    println!("\n| what | measured | target | met |\n|---|--:|--:|---|");
    for (family, shape, size) in [("IPv4", Shape::Blocklist, "1M"), ("IPv4", Shape::Uniform, "1M")] {
        let Some(measured) = results.of(family, shape, size) else { continue };
        if shape == Shape::Blocklist {
            against_crates(measured);
        }
        against_pairs(measured, Host::Native, 12.0);
        against_pairs(measured, WASMTIME, 8.0);
        against_pairs(measured, V8, 8.0);
        wasm_beside_native(measured);
        let name = measured.name();
        if let Some(native) = measured.row(EDGEFOLD, Host::Native) {
            at_most(&format!("open, {name}, ms"), native.open.map(|open| open * 1e3), 5.0);
            at_most(&format!("encode, {name}, ms"), native.encode.map(|encode| encode * 1e3), 15.0);
        }
        let open = measured.row(EDGEFOLD, V8).and_then(|row| row.open);
        at_most(&format!("open in V8, {name}, ms"), open.map(|open| open * 1e3), 8.0);
        at_most(&format!("first open in a new V8, {name}, ms"), measured.first_open.map(|open| open * 1e3), 8.0);
    }
    if let Some(measured) = results.of("IPv6", Shape::Uniform, "1M") {
        against_pairs(measured, Host::Native, 3.0);
    }
    for (family, shape, size, wanted) in [
        ("IPv4", Shape::Uniform, "1k", 6.0),
        ("IPv4", Shape::Blocklist, "1k", 6.0),
        ("IPv4", Shape::Uniform, "1M", 3.3),
        ("IPv4", Shape::Blocklist, "1M", 2.8),
        ("IPv4", Shape::Uniform, "10M", 2.6),
        ("IPv4", Shape::Blocklist, "10M", 2.6),
        ("IPv6", Shape::Uniform, "1M", 11.0),
    ] {
        let Some(measured) = results.of(family, shape, size) else { continue };
        let bytes = measured.row(EDGEFOLD, Host::Native).and_then(|row| row.serialized);
        at_most(&format!("bytes per range, {}", measured.name()), bytes, wanted);
    }
    at_most("bytes of a table of ten IPv4 ranges", Some(ten as f64), 199.0);
}

impl Measured {
    pub(crate) fn name(&self) -> String {
        let List { family, shape, size, .. } = self.list;
        format!("{size} {} {family}", shape.name())
    }
}

fn against_crates(measured: &Measured) {
    let (Some(edgefold), Some(others)) = (measured.times(EDGEFOLD, Host::Native), measured.fastest_crate()) else {
        return;
    };
    for (way, (name, nanos)) in others.into_iter().enumerate() {
        let what = format!("times as fast as the fastest other crate ({name}), {}, {}", measured.name(), WAYS[way]);
        at_least(&what, nanos / edgefold[way], 5.0);
    }
}

fn against_pairs(measured: &Measured, host: Host, wanted: f64) {
    let (Some(edgefold), Some(pairs)) = (measured.times(EDGEFOLD, host), measured.pairs(host)) else { return };
    for (way, name) in WAYS.into_iter().enumerate() {
        let what = format!("times as fast as the faster search of pairs, {}, {}, {name}", measured.name(), host.name());
        at_least(&what, pairs[way] / edgefold[way], wanted);
    }
}

fn wasm_beside_native(measured: &Measured) {
    let Some(native) = measured.times(EDGEFOLD, Host::Native) else { return };
    for host in [WASMTIME, V8] {
        let Some(hosted) = measured.times(EDGEFOLD, host) else { continue };
        for (way, name) in WAYS.into_iter().enumerate() {
            let what = format!("time in {} as a multiple of native, {}, {name}", host.name(), measured.name());
            at_most(&what, Some(hosted[way] / native[way]), 1.3);
        }
    }
}

fn at_least(what: &str, measured: f64, wanted: f64) {
    println!("| {what} | {measured:.2} | ≥ {wanted} | {} |", if measured >= wanted { "yes" } else { "no" });
}

fn at_most(what: &str, measured: Option<f64>, wanted: f64) {
    let Some(measured) = measured else { return };
    println!("| {what} | {measured:.2} | ≤ {wanted} | {} |", if measured <= wanted { "yes" } else { "no" });
}
