//! The built module in wasmtime, with random configurations and attributes of every kind. It never traps, accepts what native
//! code accepts, and keeps its memory small.
//!
//! This runs for a few seconds, or for as many as `FUZZ_SECONDS` says. `EDGEFOLD_SEED=N` repeats one run, on a new host.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgefold_filter::configuration;
use edgefold_format_tests::samples::samples;
use edgefold_snapshot::{
    ClientAddress, Fingerprint, Freshness, Generation, ListAction, Mode, NewList, NewOverlayList, NewSnapshot,
    NoAddress, OpenConnections, OpenError, Refusal, Role, Settings, Snapshot, TrustedProxies, WhenStale,
};
use edgefold_snapshotter::modules::{FILTER, RECHECK_FILTER};
use edgefold_table::IpRange;
use edgefold_wasm_host::Host;
use fastrand::Rng;

/// More than a few small configurations or a header of 64 KiB need, and far less than a forged length may claim.
const MEMORY_LIMIT: usize = 8 << 20;
/// How many runs share a host.
const RUNS_PER_HOST: usize = 100;

#[test]
fn no_configuration_or_attribute_makes_the_module_trap() {
    let tables: Vec<Vec<IpRange>> =
        samples().into_iter().map(|sample| sample.ranges).filter(|ranges| ranges.len() < 2_000).collect();
    if let Ok(seed) = std::env::var("EDGEFOLD_SEED") {
        let seed = seed.parse().expect("EDGEFOLD_SEED must be a number");
        for module in [FILTER, RECHECK_FILTER] {
            run(seed, module, &mut Host::start(module), &tables);
        }
        return;
    }
    let seconds = std::env::var("FUZZ_SECONDS").map_or(5, |text| text.parse().expect("FUZZ_SECONDS must be a number"));
    let (duration, started) = (Duration::from_secs(seconds), Instant::now());
    let mut seeds = Rng::new();
    let (mut accepted, mut refused) = (0, 0);
    for module in [FILTER, RECHECK_FILTER].into_iter().cycle() {
        let mut host = Host::start(module);
        for _ in 0..RUNS_PER_HOST {
            match run(seeds.u64(..), module, &mut host, &tables) {
                true => accepted += 1,
                false => refused += 1,
            }
        }
        if started.elapsed() >= duration && accepted >= 100 && refused >= 100 {
            break;
        }
    }
}

/// Configures the host, and lets it decide on a few clients. Returns whether the configuration was accepted.
fn run(seed: u64, module: &[u8], host: &mut Host, tables: &[Vec<IpRange>]) -> bool {
    let failed = Failed(seed);
    let mut random = Rng::with_seed(seed);
    let base = host.state().shared.get(&key("base")).and_then(|base| Fingerprint::of(base));
    let (configuration, snapshot) = any_configuration(&mut random, tables, base);
    // Another VM in Envoy may claim that it has validated anything.
    let known = (random.u8(..4) == 0).then(|| Fingerprint::of(&snapshot)).flatten();
    match known {
        Some(known) => {
            let of = if Role::is_base(&snapshot) { "validated_base" } else { "validated" };
            host.state().shared.insert(key(of), known.to_bytes().to_vec());
        }
        None => host.state().shared.clear(),
    }
    let snapshot = configuration::snapshot_in(configuration.clone());
    let accepted = snapshot.is_ok_and(|snapshot| Snapshot::open_known(snapshot, known).is_ok());
    let mut canary = Host::start(module);
    canary.state().shared.clone_from(&host.state().shared);
    canary.state().shared.retain(|key, _| key.starts_with("edgefold.validated"));
    assert_eq!(canary.configure(&configuration), accepted, "{:?}", canary.log().last());
    let is_serving = host.log().iter().any(|line| line.contains("edgefold: snapshot of "));
    assert!(host.configure(&configuration) || !is_serving, "a worker that serves must not reject anything");
    for _ in 0..random.usize(..8) {
        for path in ["source.address", "request.headers.x-real-ip", "filter_state.edgefold.connection_address"] {
            let value = any_attribute(&mut random);
            host.set(path, value.as_deref());
        }
        host.request();
        let source = String::from_utf8_lossy(&any_attribute(&mut random).unwrap_or_default()).into_owned();
        if let Some(connection) = host.connect(&source) {
            host.data(connection);
        }
        host.request_data();
        host.state().now = random.u64(..) / 1_000_000;
    }
    assert!(host.memory_bytes() <= MEMORY_LIMIT, "{} bytes", host.memory_bytes());
    std::mem::forget(failed);
    accepted
}

/// A key under which VMs share something.
fn key(of: &str) -> String {
    format!("edgefold.{of}.{}", env!("CARGO_PKG_VERSION"))
}

/// Prints the seed of a run that fails.
struct Failed(u64);

impl Drop for Failed {
    #[allow(clippy::print_stderr, reason = "whoever reads the test's output needs the seed")]
    fn drop(&mut self) {
        eprintln!("this run failed: EDGEFOLD_SEED={}", self.0);
    }
}

/// A configuration, and the snapshot that it is or contains.
fn any_configuration(random: &mut Rng, tables: &[Vec<IpRange>], base: Option<Fingerprint>) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = if random.u8(..8) == 0 { any_bytes(random, 200) } else { any_snapshot(random, tables, base) };
    match random.u8(..8) {
        0..3 => {}
        3..7 => {
            for _ in 0..random.usize(1..4) {
                mutate(random, &mut bytes);
            }
            if random.u8(..8) != 0 {
                seal(&mut bytes);
            }
        }
        _ => bytes.truncate(random.usize(..=bytes.len())),
    }
    let mut configuration = bytes.clone();
    if random.u8(..4) == 0 {
        configuration = format!("{{\"snapshot\": \"{}\"}}", STANDARD.encode(&bytes)).into_bytes();
        if random.bool() {
            mutate(random, &mut configuration);
        }
    }
    (configuration, bytes)
}

/// A whole snapshot, a base, or an overlay, sometimes over `base`.
fn any_snapshot(random: &mut Rng, tables: &[Vec<IpRange>], base: Option<Fingerprint>) -> Vec<u8> {
    let text =
        |random: &mut Rng, most| -> String { (0..random.usize(..most)).map(|_| random.alphanumeric()).collect() };
    let client_address = match random.u8(..3) {
        0 => ClientAddress::Envoy,
        1 => ClientAddress::Connection,
        _ => ClientAddress::Header {
            name: "X-Real-IP".to_owned(),
            trusted_hops: random.u16(1..4),
            trusted_proxies: TrustedProxies(
                tables[random.usize(..tables.len())].iter().copied().take(random.usize(..4)).collect(),
            ),
        },
    };
    let when_stale = if random.bool() { WhenStale::Keep } else { WhenStale::Deny };
    let cut_at = random.u64(..);
    let settings = Settings {
        mode: if random.bool() { Mode::Enforce } else { Mode::Shadow },
        refusal: Refusal {
            status: random.u16(200..204),
            body: text(random, 2_000),
            content_type: "text/plain".to_owned(),
            headers: (0..random.usize(..4)).map(|_| ("x".to_owned(), text(random, 200))).collect(),
        },
        client_address,
        no_address: if random.bool() { NoAddress::Allow } else { NoAddress::Deny },
        freshness: random.bool().then(|| Freshness { cut_at, max_age: random.u64(1000..), when_stale }),
        open_connections: if random.bool() { OpenConnections::Keep } else { OpenConnections::Recheck },
        tag_header: "x-lists".to_owned(),
    };
    let generation = Generation {
        epoch: random.u32(..),
        next_offset: random.u64(..),
        expiry: random.bool().then(|| random.u64(..)),
    };
    let (name, as_of) = (text(random, 100), random.u64(..));
    let names = ["default", "a", "b.c", "d"].into_iter().take(random.usize(1..=4));
    let lists: Vec<(&str, ListAction, usize)> = names
        .map(|name| {
            let refusal = random.bool().then(|| settings.refusal.clone());
            let action = match random.u8(..4) {
                0 => ListAction::Deny { share: format!("{}%", random.u8(..=100)).parse().unwrap(), refusal },
                1 => ListAction::Shadow,
                2 => ListAction::Exempt,
                _ => ListAction::Tag,
            };
            (name, action, random.usize(..tables.len()))
        })
        .collect();
    let lists = lists.iter().map(|(name, action, table)| NewList {
        name: name.parse().unwrap(),
        action,
        ranges: tables[*table].iter().copied(),
    });
    let new = NewSnapshot { name: &name, generation, as_of, settings: &settings, cut_at };
    match random.u8(..4) {
        0 | 1 => new.encode(lists),
        2 => new.encode_base(lists),
        _ => {
            let any = Fingerprint::from_bytes(&any_bytes(random, 40)).or(base).or_else(|| Fingerprint::of(&[7; 40]));
            let lists = lists.map(|added| {
                let removed = random.bool().then(|| added.ranges.clone());
                NewOverlayList { added, removed }
            });
            new.encode_overlay(any.unwrap(), lists)
        }
    }
    .unwrap()
}

fn any_bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    (0..random.usize(..most)).map(|_| random.u8(..)).collect()
}

fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    // Most is decided by the header and the start of the table.
    let most = if random.bool() { bytes.len() } else { bytes.len().min(150) };
    let at = random.usize(..most);
    match random.u8(..5) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at] = [0, 1, 250, 251, 252, 253, 254, 255][random.usize(..8)],
        2 => bytes.insert(at, random.u8(..)),
        3 => drop(bytes.remove(at)),
        _ => bytes[at] = random.u8(..),
    }
}

/// Gives `bytes` a valid checksum, so that what is after it is checked too.
fn seal(bytes: &mut [u8]) {
    if let Err(OpenError::Checksum { computed, .. }) = Snapshot::open(&*bytes)
        && let Some((_, checksum)) = bytes.split_last_chunk_mut()
    {
        *checksum = computed.to_le_bytes();
    }
}

fn any_attribute(random: &mut Rng) -> Option<Vec<u8>> {
    let mut text = match random.u8(..8) {
        0 => return None,
        1 => any_bytes(random, 600),
        2 => format!("{}:{}", Ipv4Addr::from_bits(random.u32(..)), random.u16(..)).into_bytes(),
        3 => format!("[{}]:{}", Ipv6Addr::from_bits(random.u128(..)), random.u16(..)).into_bytes(),
        4 => Ipv6Addr::from_bits(random.u128(..)).to_string().into_bytes(),
        5 => b"10.0.0.7, 192.0.2.1,,x, [2001:db8::1%eth0]:80".to_vec(),
        6 => vec![b",:[]%.0a"[random.usize(..8)]; random.usize(..100_000)],
        _ => b"/var/run/envoy.sock".to_vec(),
    };
    if random.bool() {
        mutate(random, &mut text);
    }
    Some(text)
}
