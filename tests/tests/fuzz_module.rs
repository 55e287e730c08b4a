//! The built module under wasmtime, with configurations and attributes of every kind that chance gives: it never traps, takes
//! what native code takes, and keeps its memory small. For a few seconds, or for as many as `FUZZ_SECONDS` says.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "../../table/tests/samples/mod.rs"]
mod samples;
#[allow(dead_code, reason = "the cases of the module itself use more of it")]
mod wasm_host;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgefold_filter::configuration;
use edgefold_table::{
    ClientAddress, Fingerprint, Freshness, Generation, IpRange, Mode, NoAddress, OpenConnections, Refusal, Settings,
    Snapshot, SnapshotError, WhenStale,
};
use fastrand::Rng;
use samples::samples;
use wasm_host::Host;

/// More than a few small configurations take, or a header of 64 KiB; far less than a length that lies would.
const MOST_MEMORY: usize = 8 << 20;

#[test]
fn nothing_that_the_module_is_given_makes_it_trap() {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(5, |text| text.parse().expect("FUZZ_SECONDS is a number"));
    let (end, started) = (Duration::from_secs(seconds), Instant::now());
    let tables: Vec<Vec<IpRange>> =
        samples().into_iter().map(|sample| sample.ranges).filter(|ranges| ranges.len() < 2_000).collect();
    let mut seeds = Rng::new();
    let (mut runs, mut taken, mut refused) = (0, 0, 0);
    let mut host = Host::start();
    while started.elapsed() < end || taken < 100 || refused < 100 {
        if runs % 100 == 0 {
            host = if runs % 200 == 0 { Host::start() } else { Host::start_recheck() };
        }
        runs += 1;
        let seed = seeds.u64(..);
        let failed = Failed(seed);
        let mut random = Rng::with_seed(seed);
        let (configuration, snapshot) = any_configuration(&mut random, &tables);
        // A neighbour in Envoy may say that anything was validated.
        let known = (random.u8(..4) == 0).then(|| fingerprint(&snapshot)).flatten();
        match known {
            Some(known) => drop(host.state().shared.insert("edgefold.validated".to_owned(), known.as_bytes().to_vec())),
            None => host.state().shared.clear(),
        }
        let native = configuration::open(configuration.clone(), known).is_ok();
        assert_eq!(host.configure(&configuration), native, "{:?}", host.log().last());
        if native {
            taken += 1
        } else {
            refused += 1
        }
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
            if native {
                host.tick(random.u64(..) / 1_000_000);
            }
        }
        assert!(host.memory_bytes() <= MOST_MEMORY, "{} bytes", host.memory_bytes());
        std::mem::forget(failed);
    }
}

/// Says which seed it was when a run fails.
struct Failed(u64);

impl Drop for Failed {
    #[allow(clippy::print_stderr, reason = "for whoever reads the test's output")]
    fn drop(&mut self) {
        eprintln!("the seed of the run that failed: {}", self.0);
    }
}

/// A configuration, and the snapshot that is all of it or in it.
fn any_configuration(random: &mut Rng, tables: &[Vec<IpRange>]) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = if random.u8(..8) == 0 { any_bytes(random, 200) } else { any_snapshot(random, tables) };
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

fn any_snapshot(random: &mut Rng, tables: &[Vec<IpRange>]) -> Vec<u8> {
    let text =
        |random: &mut Rng, most| -> String { (0..random.usize(..most)).map(|_| random.alphanumeric()).collect() };
    let client_address = match random.u8(..3) {
        0 => ClientAddress::Envoy,
        1 => ClientAddress::Connection,
        _ => ClientAddress::Header {
            name: "X-Real-IP".to_owned(),
            trusted_hops: random.u16(1..4),
            trusted_proxies: tables[random.usize(..tables.len())].iter().copied().take(random.usize(..4)).collect(),
        },
    };
    let when_stale = if random.bool() { WhenStale::Keep } else { WhenStale::Deny };
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
        freshness: random.bool().then(|| Freshness { cut_at: random.u64(..), max_age: random.u64(1000..), when_stale }),
        open_connections: if random.bool() { OpenConnections::Keep } else { OpenConnections::Recheck },
    };
    let generation = Generation { next_offset: random.u64(..), expiry: random.bool().then(|| random.u64(..)) };
    let table = tables[random.usize(..tables.len())].iter().copied();
    Snapshot::build(&text(random, 100), generation, random.u64(..), settings, table).unwrap()
}

fn any_bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    (0..random.usize(..most)).map(|_| random.u8(..)).collect()
}

fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    // The header and the start of the table decide most.
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

/// Gives `bytes` a right checksum, and often a right length of the header, so that what lies behind them is tried.
fn seal(bytes: &mut [u8]) {
    if let Err(SnapshotError::Checksum { computed, .. }) = Snapshot::open(&*bytes)
        && let Some((_, checksum)) = bytes.split_last_chunk_mut()
    {
        *checksum = computed.to_le_bytes();
    }
}

/// That of bytes that have a right checksum and nothing else right.
fn fingerprint(bytes: &[u8]) -> Option<Fingerprint> {
    let checksum = bytes.last_chunk::<8>()?;
    let len = (bytes.len() as u64).to_le_bytes();
    Fingerprint::from_bytes(&[len, *checksum].concat())
}

fn any_attribute(random: &mut Rng) -> Option<Vec<u8>> {
    let mut text = match random.u8(..8) {
        0 => return None,
        1 => any_bytes(random, 600),
        2 => format!("{}:{}", std::net::Ipv4Addr::from_bits(random.u32(..)), random.u16(..)).into_bytes(),
        3 => format!("[{}]:{}", std::net::Ipv6Addr::from_bits(random.u128(..)), random.u16(..)).into_bytes(),
        4 => std::net::Ipv6Addr::from_bits(random.u128(..)).to_string().into_bytes(),
        5 => b"10.0.0.7, 192.0.2.1,,x, [2001:db8::1%eth0]:80".to_vec(),
        6 => vec![b",:[]%.0a"[random.usize(..8)]; random.usize(..100_000)],
        _ => b"/var/run/envoy.sock".to_vec(),
    };
    if random.bool() {
        mutate(random, &mut text);
    }
    Some(text)
}
