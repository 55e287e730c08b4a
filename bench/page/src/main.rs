//! Measures the page with a large list: `cargo build --release --package edgefold-snapshotter`, then
//! `cargo run --release --package edgefold-bench-page`.
//!
//! The list has single addresses, evenly spread: the worst there is for a map. The browser runs on the same cores.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]
#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::net::Ipv4Addr;
use std::time::Instant;

use clap::Parser;
use edgefold_tests::{Browser, Edgefold, Ui, eventually};
use reqwest::blocking::Client;
use rusqlite::Connection;

/// Bytes of a tile.
const TILE: usize = 2 * 256 * 256;
/// What the colours can stand for.
const COLOURINGS: [&str; 5] = ["refused", "list", "action", "left", "age"];
const MINUTE: u64 = 60_000;
/// When the first command was: 2026-11-01T00:00:00Z.
const START: u64 = 1_793_491_200_000;

#[derive(Parser)]
struct Arguments {
    /// Ranges on the list
    #[arg(long, default_value_t = 1_000_000)]
    ranges: u64,
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

fn main() {
    let Arguments { ranges, rounds } = Arguments::parse();
    let edgefold = Edgefold::sqlite();
    fill(&edgefold, ranges);
    let started = Instant::now();
    let ui = edgefold.ui(&[]);
    let client = Client::new();
    let question = |question: &str| client.get(format!("http://{}/ui/{question}", ui.address)).send().unwrap();
    eventually("the log", || question("area?range=10.0.0.0/8").status().is_success().then_some(()));
    println!("| {ranges} ranges | ms |\n|---|--:|");
    println!("| reading the log, once | {} |", started.elapsed().as_millis());

    // A zoom step asks for all tiles at once: the whole map, and then two steps in. Further in, for some of them.
    println!("| zoom | tiles | {} |", COLOURINGS.join(" | "));
    for zoom in 0..=8 {
        let all = 1_u32 << zoom;
        let step = |colour: &str| match zoom {
            0..3 => (0..all * all).map(|place| tile(&ui, &client, zoom, place % all, place / all, colour)).sum::<f64>(),
            _ => tile(&ui, &client, zoom, fastrand::u32(..all), fastrand::u32(..all), colour),
        };
        let row = COLOURINGS.map(|colour| format!("{:.1}", median((0..rounds).map(|_| step(colour)))));
        println!("| {zoom} | {} | {} |", if zoom < 3 { all * all } else { 1 }, row.join(" | "));
    }
    let at = |minutes: u64| format!("2026-11-{:02}T12:{:02}:00Z", 2 + minutes / 60 % 20, minutes % 60);
    let past = (0..rounds as u64).map(|round| {
        let moment = at(round * 61);
        millis(|| assert!(question(&format!("area?range=10.0.0.0/8&at={moment}")).status().is_success()))
    });
    println!("| another moment, and what is in 10.0.0.0/8 then | {:.0} |", median(past));
    println!(
        "| what is in 0.0.0.0/0 | {:.1} |",
        median((0..rounds).map(|_| millis(|| drop(question("area?range=0.0.0.0/0").bytes().unwrap()))))
    );

    let browser = Browser::start();
    let paint = |_| {
        browser.open("about:blank");
        browser.open(&format!("http://{}/", ui.address));
        browser.wait_until("the map is painted", "document.getElementById('canvas').dataset.isComplete === 'true'");
        let tile = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/ui/tile')).map((one) => one.responseEnd).sort((a, b) => b - a)[0]";
        let loaded = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd";
        browser.eval(&format!("{tile} - {loaded}")).as_f64().unwrap()
    };
    println!("| from the loaded page to the last tile of the map | {:.0} |", median((0..rounds).map(paint)));
}

/// How long a tile takes, in milliseconds.
fn tile(ui: &Ui, client: &Client, zoom: u8, x: u32, y: u32, colour: &str) -> f64 {
    let url = format!("http://{}/ui/tile?zoom={zoom}&x={x}&y={y}&colour={colour}", ui.address);
    millis(|| assert_eq!(client.get(url).send().unwrap().bytes().unwrap().len(), TILE))
}

fn millis(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64() * 1_000.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.map(|value| (value * 10.0).round() / 10.0).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// As many commands as there are ranges, over three weeks. A third of them ends.
fn fill(edgefold: &Edgefold, ranges: u64) {
    let mut log = Connection::open(edgefold.log().strip_prefix("sqlite:").unwrap()).unwrap();
    let transaction = log.transaction().unwrap();
    let step = 21 * 86_400_000 / ranges;
    for offset in 0..ranges {
        // Every so many addresses, in an order that looks random: no two are neighbours.
        let place = (offset.wrapping_mul(2_654_435_761)) % ranges;
        let address = Ipv4Addr::from_bits(u32::try_from(place * ((1 << 32) / ranges)).unwrap());
        let text =
            if offset % 3 == 0 { format!("BLACKLIST {address} ttl=52w") } else { format!("BLACKLIST {address}") };
        let insert = "INSERT INTO commands VALUES (?1, ?2, NULL, CAST(?3 AS BLOB))";
        let time = START + offset * step / MINUTE * MINUTE;
        transaction.prepare_cached(insert).unwrap().execute(rusqlite::params![offset, time, text]).unwrap();
    }
    transaction.commit().unwrap();
}
