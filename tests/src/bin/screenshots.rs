//! `make screenshots` draws the pictures of the page in `docs/screenshots`.
#![allow(clippy::unwrap_used, reason = "a program for those who work on the page")]

use std::fs;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use edgefold_tests::{Browser, Edgefold, workspace};
use jiff::Timestamp;
use rusqlite::Connection;

/// Commands in the log of the pictures, and over how many milliseconds they are spread.
const COMMANDS: u64 = 30_000;
const SPAN: u64 = 30 * 86_400_000;

fn main() {
    let folder = workspace().join("docs/screenshots");
    fs::create_dir_all(&folder).unwrap();
    let edgefold = Edgefold::sqlite();
    fill(&edgefold);
    let ui = edgefold.ui(&[]);
    let browser = Browser::start();
    let now = millis();
    let week_ago = rfc_3339(now - 7 * 86_400_000);
    let pictures = [
        ("map.png", (1280, 800), false, "#map?colour=left".to_owned()),
        ("address.png", (1280, 800), false, "#map?range=203.0.113.77".to_owned()),
        ("changes.png", (1280, 800), true, format!("#map?range=23.0.0.0/8&since={week_ago}")),
        ("lists.png", (1280, 400), false, "#lists".to_owned()),
        ("phone.png", (390, 844), true, "#map?range=23.0.0.0/8".to_owned()),
    ];
    for (name, (width, height), is_dark, place) in pictures {
        browser.resize(width, height);
        browser.emulate_dark(is_dark);
        browser.open("about:blank");
        browser.open(&format!("http://{}/{place}", ui.address));
        browser.wait_until("the log is read", "document.body.dataset.offset !== undefined");
        let shown = "document.getElementById('canvas').dataset.isComplete === 'true' || location.hash === '#lists'";
        browser.wait_until("the map is painted", shown);
        if place == "#lists" {
            browser.wait_until("the growth", "document.querySelectorAll('.spark').length > 2");
        } else {
            browser.wait_until("the panel", "document.getElementById('here').dataset.shown !== undefined");
        }
        browser.screenshot(folder.join(name));
    }
}

fn millis() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

fn rfc_3339(millis: u64) -> String {
    Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap().to_string()
}

/// The network of this prefix length around an address.
fn network(address: Ipv4Addr, length: u32) -> String {
    format!("{}/{length}", Ipv4Addr::from_bits(address.to_bits() >> (32 - length) << (32 - length)))
}

/// A month of a WAF, of feeds, and of people who make mistakes.
fn fill(edgefold: &Edgefold) {
    fastrand::seed(7);
    let hot: Vec<u8> = (0..30).map(|_| fastrand::u8(1..224)).chain([23]).collect();
    let start = millis() - SPAN;
    let mut texts: Vec<String> = [
        "LIST monitoring action=exempt reason=\"our own probes\"",
        "ADD 198.51.100.0/28 list=monitoring",
        "LIST tor action=shadow",
        "LIST partners action=tag",
        "ADD 192.0.2.0/24 list=partners",
    ]
    .map(str::to_owned)
    .into();
    while texts.len() < usize::try_from(COMMANDS).unwrap() {
        let first = *fastrand::choice(&hot).unwrap();
        // Where attacks come from is not spread evenly.
        let near = (0..3).map(|_| fastrand::u32(..80)).sum::<u32>();
        let address = Ipv4Addr::new(first, u8::try_from(near).unwrap(), fastrand::u8(..), fastrand::u8(..));
        let ttl = fastrand::choice(["1h", "12h", "3d", "2w", "4w"]).unwrap();
        texts.push(match fastrand::u32(..100) {
            0..70 => format!("BLACKLIST {address} ttl={ttl} origin=waf"),
            70..80 => {
                format!("BLACKLIST {} origin=ops reason=\"abuse report\"", network(address, fastrand::u32(18..25)))
            }
            80..88 => format!("ADD {address} list=tor ttl=2w"),
            88..94 => format!("WHITELIST {}", network(address, 20)),
            _ => format!("BLACKLIST 2001:db8:{:x}::/48 origin=waf", fastrand::u16(..400)),
        });
    }
    let mut log = Connection::open(edgefold.log().strip_prefix("sqlite:").unwrap()).unwrap();
    let transaction = log.transaction().unwrap();
    let count = texts.len() as u64;
    for (offset, text) in (0..).zip(&texts) {
        // More on some days than on others, as whole numbers.
        let even = SPAN * (offset + 1) / (count + 1);
        let hours = even / 3_600_000 % 48;
        let at = start + even.saturating_sub(hours.abs_diff(24) * 900_000);
        let insert = "INSERT INTO commands VALUES (?1, ?2, CAST(?3 AS BLOB), CAST(?4 AS BLOB))";
        transaction.execute(insert, rusqlite::params![offset, at, rfc_3339(at), text]).unwrap();
    }
    transaction.commit().unwrap();
    let ago = |minutes: u64| rfc_3339(millis() - minutes * 60_000);
    let (first, then, last) = (ago(90), ago(60), ago(20));
    let waf = ["--origin", "waf", "--reason", "credential stuffing"];
    edgefold.run(&[&["block", "203.0.113.0/24", "--ttl", "2d", "--at", &first], waf.as_slice()].concat());
    edgefold.run(&[
        "allow",
        "203.0.113.77",
        "--at",
        &then,
        "--origin",
        "ops",
        "--reason",
        "ticket 4711: a customer's gateway",
    ]);
    edgefold.run(&[&["block", "203.0.113.77", "--ttl", "4h", "--at", &last], waf.as_slice()].concat());
}
