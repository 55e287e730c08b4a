//! The built filter modules, as they are shipped, in a proxy-wasm host that follows the rules of several.
#![expect(clippy::unwrap_used, reason = "a failed unwrap in a helper is a failed test")]

mod worlds;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgefold_filter::decision::{Reason, Verdict, decide};
use edgefold_snapshot::{
    ClientAddress, Freshness, Generation, Layers, ListAction, ListName, ListSet, Mode, NewList, NewSnapshot, NoAddress,
    OpenError, Refusal, Settings, Share, Snapshot, TrustedProxies, VERSION, WhenStale,
};
use edgefold_snapshotter::modules::{FILTER, RECHECK_FILTER};
use edgefold_table::IpRange;
use edgefold_wasm_host::{Host, Response, Rules};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::worlds::{World, worlds};

worlds! {
    everywhere {
        blocked_addresses_are_refused_and_others_pass,
        every_form_of_an_address_is_looked_up,
        blocking_all_ipv6_addresses_blocks_no_ipv4_address,
        a_client_without_an_address_follows_the_setting,
        with_an_empty_table_everybody_passes,
        a_refusal_is_what_the_settings_say,
        the_client_of_a_request_is_where_the_settings_say,
        the_worked_example_of_the_format_is_a_snapshot,
        a_client_cannot_send_tags_itself,
        all_lists_together_ask_the_host_for_one_address,
        wasm_and_native_code_and_a_plain_search_agree_on_lists,
        wasm_and_native_code_and_a_plain_search_agree,
    }
    in_envoy {
        a_truncated_snapshot_is_rejected_and_the_old_one_keeps_serving,
        a_damaged_snapshot_is_rejected_and_the_old_one_keeps_serving,
        an_altered_snapshot_with_a_valid_checksum_is_accepted_only_if_native_code_accepts_it,
        another_format_version_is_rejected_with_its_number,
        without_a_snapshot_no_request_passes,
        a_good_snapshot_replaces_the_one_before_it,
        reloads_and_requests_do_not_grow_memory,
        a_snapshot_whose_header_contains_a_line_break_is_rejected,
        each_list_in_a_vm_has_its_own_snapshot,
        a_snapshot_may_be_in_json,
        a_snapshot_that_another_vm_has_validated_serves,
        the_filter_keeps_working_when_the_host_refuses_a_call,
    }
}

fn range(text: &str) -> IpRange {
    text.parse().unwrap()
}

fn snapshot(settings: &Settings, ranges: &[IpRange]) -> Vec<u8> {
    // The time of the worked example in docs/format.md: 2016-09-12T15:32:00Z.
    snapshot_as_of(1_473_694_320_000, 2, settings, ranges)
}

fn snapshot_as_of(as_of: u64, next_offset: u64, settings: &Settings, ranges: &[IpRange]) -> Vec<u8> {
    let generation = Generation { epoch: 0, next_offset, expiry: None };
    let cut_at = settings.freshness.map_or(0, |freshness| freshness.cut_at);
    let new = NewSnapshot { name: "edgefold", generation, as_of, settings, cut_at };
    new.encode_default_list(ranges.iter().copied()).unwrap()
}

fn small_snapshot() -> Vec<u8> {
    small_snapshot_with(&Settings::default())
}

fn small_snapshot_with(settings: &Settings) -> Vec<u8> {
    snapshot(settings, &["10.0.0.1-10.0.0.99", "10.0.0.101-10.0.0.255", "2001:db8::-2001:db8::ffff"].map(range))
}

/// A worker of Envoy, after a canary has validated the snapshot.
fn configured(snapshot: &[u8]) -> Host {
    World::LEAN.configured(snapshot)
}

#[track_caller]
fn assert_refuses(host: &mut Host, source_address: &str) {
    let response = host.request_from(Some(source_address.as_bytes()));
    assert!(matches!(response, Response::Refused { status: 403, .. }), "{source_address}: {response:?}");
}

#[track_caller]
fn assert_passes(host: &mut Host, source_address: &str) {
    assert_eq!(host.request_from(Some(source_address.as_bytes())), Response::Passed, "{source_address}");
}

/// `bytes` are rejected by a canary, for a reason that the log states. A worker, which `host` is, keeps the small snapshot: after
/// a rejection Envoy would let everything pass.
#[track_caller]
fn assert_rejected(world: World, host: &mut Host, bytes: &[u8], words: &str) {
    let reason = Snapshot::open(bytes).unwrap_err().to_string();
    assert!(reason.contains(words), "{reason:?} does not say {words:?}");
    let mut canary = world.start();
    canary.state().shared.clone_from(&host.state().shared);
    assert!(!canary.configure(bytes), "accepted: {bytes:02x?}");
    assert!(canary.log()[0].ends_with(&format!("snapshot refused: {reason}")), "{:?}", canary.log());
    assert_eq!(canary.metric("edgefold", "snapshot_rejected"), 1);
    let (lines, kept) = (host.log().len(), host.metric("edgefold", "snapshot_kept"));
    assert!(host.configure(bytes));
    assert_eq!(host.metric("edgefold", "snapshot_kept"), kept + 1);
    let logged = &host.log()[lines..];
    assert!(logged.len() == 1 && logged[0].contains(&reason), "{logged:?} does not say {reason:?}");
    assert_refuses(host, "10.0.0.99:1234");
    assert_passes(host, "10.0.0.100:1234");
}

/// `bytes` with a valid checksum, so that everything else is checked too.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Err(OpenError::Checksum { computed, .. }) = Snapshot::open(&bytes) {
        let (_, checksum) = bytes.split_last_chunk_mut().unwrap();
        *checksum = computed.to_le_bytes();
    }
    bytes
}

fn blocked_addresses_are_refused_and_others_pass(world: World) {
    let mut host = world.configured(&small_snapshot());
    for blocked in ["10.0.0.1:1234", "10.0.0.99:0", "10.0.0.101:65535", "10.0.0.255:1"] {
        assert_refuses(&mut host, blocked);
    }
    for free in ["10.0.0.0:1234", "10.0.0.100:1234", "10.0.1.0:1234", "0.0.0.0:1", "255.255.255.255:1"] {
        assert_passes(&mut host, free);
    }
    assert_eq!(host.log(), ["edgefold: snapshot of \"edgefold\" at offset 2: 2 IPv4 and 1 IPv6 ranges"]);
}

fn every_form_of_an_address_is_looked_up(world: World) {
    let mut host = world.configured(&small_snapshot());
    for blocked in [
        "[2001:db8::]:1234",
        "[2001:db8::ffff]:1234",
        "[::ffff:10.0.0.7]:1234",
        "::ffff:10.0.0.7",
        "10.0.0.7",
        "[2001:db8::7]",
        "2001:db8::7",
    ] {
        assert_refuses(&mut host, blocked);
    }
    for free in ["[2001:db8::1:0]:1234", "[::ffff:10.0.0.100]:1234", "[::10.0.0.7]:1234", "10.0.0.100", "2001:db8::1:0"]
    {
        assert_passes(&mut host, free);
    }
}

fn blocking_all_ipv6_addresses_blocks_no_ipv4_address(world: World) {
    let mut host =
        world.configured(&snapshot(&Settings::default(), &[range("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]));
    for blocked in ["[::]:1", "[::fffe:ffff:ffff]:1", "[::1:0:0:0]:1", "[2001:db8::1]:1234"] {
        assert_refuses(&mut host, blocked);
    }
    for free in ["10.0.0.7:1234", "[::ffff:10.0.0.7]:1234", "[::ffff:0.0.0.0]:1", "[::ffff:255.255.255.255]:1"] {
        assert_passes(&mut host, free);
    }
}

fn a_client_without_an_address_follows_the_setting(world: World) {
    for (no_address, expected) in
        [(NoAddress::Allow, Response::Passed), (NoAddress::Deny, world.forbidden("no_address"))]
    {
        let mut host = world
            .configured(&snapshot(&Settings { no_address, ..Settings::default() }, &[range("10.0.0.0-10.0.0.255")]));
        for source_address in [None, Some(&b""[..]), Some(b"/var/run/envoy.sock"), Some(b"\xff\xfe")] {
            assert_eq!(host.request_from(source_address), expected, "{no_address:?}, {source_address:?}");
        }
        assert_refuses(&mut host, "10.0.0.7:1234");
        assert_passes(&mut host, "10.0.1.7:1234");
    }
}

fn with_an_empty_table_everybody_passes(world: World) {
    let mut host = world.configured(&snapshot(&Settings::default(), &[]));
    for free in ["0.0.0.0:1", "10.0.0.1:1234", "255.255.255.255:1", "[::]:1", "[2001:db8::1]:1234"] {
        assert_passes(&mut host, free);
    }
}

fn a_truncated_snapshot_is_rejected_and_the_old_one_keeps_serving(world: World) {
    let good = small_snapshot();
    let mut host = world.configured(&good);
    for length in 0..good.len() {
        let words = match length {
            0 => "no bytes at all",
            1..24 => "truncated: ",
            _ => "damaged or truncated: the checksum is",
        };
        assert_rejected(world, &mut host, &good[..length], words);
    }
}

fn a_damaged_snapshot_is_rejected_and_the_old_one_keeps_serving(world: World) {
    let good = small_snapshot();
    let mut host = world.configured(&good);
    for (offset, flip) in (0..good.len()).flat_map(|offset| [(offset, 0x01), (offset, 0xff)]) {
        let mut damaged = good.clone();
        damaged[offset] ^= flip;
        let words = match offset {
            0..8 => "not an edgefold snapshot",
            8..12 => &format!("this build reads version {VERSION}"),
            _ => "damaged or truncated: the checksum is",
        };
        assert_rejected(world, &mut host, &damaged, words);
    }
}

/// A checksum detects accidents. Whoever alters a snapshot on purpose also corrects the checksum.
fn an_altered_snapshot_with_a_valid_checksum_is_accepted_only_if_native_code_accepts_it(world: World) {
    let good = small_snapshot();
    let mut host = world.configured(&good);
    let (mut accepted, mut rejected) = (0, 0);
    for (offset, flip) in (12..good.len() - 8).flat_map(|offset| [(offset, 0x01), (offset, 0x80), (offset, 0xff)]) {
        let mut altered = good.clone();
        altered[offset] ^= flip;
        let altered = sealed(altered);
        if Snapshot::open(&altered).is_ok() {
            assert!(host.configure(&altered), "offset {offset}: {:?}", host.log().last());
            // It may be of a newer generation, which the next one could not replace.
            host = world.configured(&good);
            accepted += 1;
        } else {
            assert_rejected(world, &mut host, &altered, "");
            rejected += 1;
        }
    }
    assert!(accepted > 20 && rejected > 20, "{accepted} accepted, {rejected} rejected");
}

fn another_format_version_is_rejected_with_its_number(world: World) {
    let mut host = world.configured(&small_snapshot());
    for version in [0, VERSION - 1, VERSION + 1, u32::MAX] {
        let mut other = small_snapshot();
        other[8..12].copy_from_slice(&version.to_le_bytes());
        let words = format!("format version {version}, but this build reads version {VERSION}");
        assert_rejected(world, &mut host, &other, &words);
        // Everything after the version may differ: a wrong version is reported first.
        assert_rejected(world, &mut host, &other[..12], &words);
    }
}

fn without_a_snapshot_no_request_passes(world: World) {
    let mut host = world.start();
    assert!(!host.configure(b""));
    assert_eq!(host.log().len(), 1);
    assert!(host.log()[0].contains("no bytes at all"), "{:?}", host.log());
    let response = host.request_from(Some(b"10.0.0.100:1234"));
    let unready = "edgefold_denied[no_snapshot]";
    assert!(matches!(response, Response::Refused { status: 503, details, .. } if details == unready));
    if world.has_network() {
        assert_eq!(host.connect("10.0.0.100:1234"), None);
    }
    assert!(host.configure(&small_snapshot()));
    assert_passes(&mut host, "10.0.0.100:1234");
}

fn a_good_snapshot_replaces_the_one_before_it(world: World) {
    let mut host = world.configured(&small_snapshot());
    assert_refuses(&mut host, "10.0.0.7:1234");
    assert!(host.configure(b"EDGEFOLD"), "it keeps what it has");
    assert!(host.configure(&snapshot(&Settings::default(), &[range("192.0.2.0-192.0.2.255")])));
    assert_passes(&mut host, "10.0.0.7:1234");
    assert_refuses(&mut host, "192.0.2.7:1234");
}

/// Envoy reloads for months: neither a snapshot nor a request may leak memory.
fn reloads_and_requests_do_not_grow_memory(world: World) {
    let singles: Vec<_> = (0..20_000).map(|i| Ipv4Addr::from_bits(2 * i).into()).collect();
    let ranges: Vec<_> = singles.iter().map(|&ip| IpRange::new(ip, ip).unwrap()).collect();
    let large = snapshot(&Settings::default(), &ranges);
    let mut host = world.configured(&large);
    let mut round = |rounds| {
        for _ in 0..rounds {
            assert!(host.configure(&large));
            assert!(host.configure(&large[1..]), "it keeps what it has");
            for _ in 0..20 {
                assert_refuses(&mut host, "0.0.0.2:1234");
                assert_passes(&mut host, "0.0.0.3:1234");
            }
        }
        host.memory_bytes()
    };
    let before = round(10);
    assert_eq!(round(100), before);
}

/// Each call between the host and the VM takes time. A request that passes takes two calls into the VM and one out of it.
#[test]
fn an_allowed_request_takes_three_calls() {
    let mut host = configured(&small_snapshot());
    assert_passes(&mut host, "10.0.0.100:1234"); // The first one sets the gauges.
    assert_passes(&mut host, "10.0.0.100:1234");
    assert_eq!(host.calls(), ["proxy_on_request_headers", "proxy_get_property", "proxy_on_memory_allocate"]);
    assert!(host.connect("10.0.0.100:1234").is_some_and(|connection| host.data(connection)));
}

fn a_refusal_is_what_the_settings_say(world: World) {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let refusal = Refusal {
        status: 429,
        body: "<p>é</p>".to_owned(),
        content_type: "text/html; charset=utf-8".to_owned(),
        headers: vec![pair("retry-after", "60"), pair("x-empty", "")],
    };
    let mut host = world.configured(&small_snapshot_with(&Settings { refusal, ..Settings::default() }));
    let expected = Response::Refused {
        status: 429,
        headers: vec![pair("content-type", "text/html; charset=utf-8"), pair("retry-after", "60"), pair("x-empty", "")],
        body: "<p>é</p>".into(),
        details: world.details("edgefold_denied[default:2001:db8::-2001:db8::ffff]"),
    };
    assert_eq!(host.request_from(Some(b"[2001:db8::7]:1")), expected);
    let refusal = Refusal { status: 204, body: String::new(), ..Refusal::default() };
    let mut host = world.configured(&small_snapshot_with(&Settings { refusal, ..Settings::default() }));
    let details = world.details("edgefold_denied[default:10.0.0.1-10.0.0.99]");
    let expected = Response::Refused { status: 204, headers: Vec::new(), body: Vec::new(), details };
    assert_eq!(host.request_from(Some(b"10.0.0.7:1")), expected);
}

/// A line break would start another header, or another response.
fn a_snapshot_whose_header_contains_a_line_break_is_rejected(world: World) {
    let headers = vec![("x-why".to_owned(), "blocked@set-cookie: a=b".to_owned())];
    let refusal = Refusal { headers, ..Refusal::default() };
    let mut bytes = small_snapshot_with(&Settings { refusal, ..Settings::default() });
    let mut host = world.configured(&bytes);
    let at = bytes.windows(8).position(|bytes| bytes == b"blocked@").unwrap() + 7;
    bytes[at] = b'\n';
    assert_rejected(world, &mut host, &sealed(bytes), "header \"x-why\" cannot be used");
}

#[test]
fn in_shadow_mode_everybody_passes_and_the_filter_state_says_who_would_not() {
    let shadow = Settings { mode: Mode::Shadow, no_address: NoAddress::Deny, ..Settings::default() };
    let mut host = configured(&small_snapshot_with(&shadow));
    assert!(host.log()[0].ends_with("in shadow mode"), "{:?}", host.log());
    assert_passes(&mut host, "10.0.0.7:1234");
    assert_eq!(host.filter_state("edgefold"), Some("shadow_edgefold_denied[default:10.0.0.1-10.0.0.99]"));
    assert_passes(&mut host, "10.0.0.100:1234");
    assert_eq!(host.filter_state("edgefold"), None);
    assert_eq!(host.request_from(None), Response::Passed);
    assert_eq!(host.filter_state("edgefold"), Some("shadow_edgefold_denied[no_address]"));
    assert!(host.connect("10.0.0.7:1234").is_some());
    assert_eq!(host.filter_state("edgefold_connection"), Some("shadow_edgefold_denied[default:10.0.0.1-10.0.0.99]"));
    let counters = ["shadow_denied", "shadow_denied_connections", "denied", "denied_connections", "no_address"];
    assert_eq!(counters.map(|name| host.metric("edgefold", name)), [2, 1, 0, 0, 1]);
}

#[test]
fn what_happens_is_counted() {
    let mut host = configured(&small_snapshot());
    assert_refuses(&mut host, "10.0.0.7:1234");
    assert_passes(&mut host, "10.0.0.100:1234");
    assert_eq!(host.request_from(None), Response::Passed);
    assert_eq!(host.connect("10.0.0.7:1234"), None);
    assert_eq!(host.filter_state("edgefold_connection"), Some("edgefold_denied[default:10.0.0.1-10.0.0.99]"));
    assert!(host.configure(b"EDGEFOLD") && host.configure(b""));
    let counters = ["denied", "denied_connections", "no_address", "snapshot_kept", "stale", "generation", "ranges"];
    assert_eq!(counters.map(|name| host.metric("edgefold", name)), [1, 1, 1, 2, 0, 2, 3]);
    assert_eq!(host.metric("edgefold", "as_of_timestamp_seconds"), 1_473_694_320);
    assert!(host.configure(&small_snapshot()));
    assert_eq!(host.metric("edgefold", "denied"), 1, "a reload does not reset the counters");
    // It is older, and is refused.
    assert!(host.configure(&snapshot_as_of(0, 0, &Settings::default(), &[])));
    assert_eq!((host.metric("edgefold", "snapshot_kept"), host.metric("edgefold", "generation")), (3, 2));
    let expected =
        "edgefold: snapshot refused: it is older than the one in force: raise the epoch to go back on purpose";
    assert_eq!(host.log().last().unwrap(), expected);
}

#[test]
fn a_stale_snapshot_keeps_serving_or_refuses_everything() {
    for when_stale in [WhenStale::Keep, WhenStale::Deny] {
        let freshness = Some(Freshness { cut_at: 50_000, max_age: 10_000, when_stale });
        // The headers of a refusal must not be sent to everybody.
        let refusal = Refusal { headers: vec![("location".to_owned(), "/why".to_owned())], ..Refusal::default() };
        let fresh = small_snapshot_with(&Settings { freshness, refusal, ..Settings::default() });
        let mut host = configured(&fresh);
        host.state().now = 60_000;
        assert_passes(&mut host, "10.0.0.100:1234");
        assert_eq!(host.metric("edgefold", "fresh_from_timestamp_seconds"), 50);
        host.state().now = 60_001;
        let response = host.request_from(Some(b"10.0.0.100:1234"));
        let connection = host.connect("10.0.0.100:1234");
        match when_stale {
            WhenStale::Keep => {
                assert_eq!((response, connection.is_some()), (Response::Passed, true));
                assert_refuses(&mut host, "10.0.0.7:1234");
                assert_eq!(host.metric("edgefold", "stale"), 3);
            }
            WhenStale::Deny => {
                assert!(
                    matches!(response, Response::Refused { status: 503, headers, details, .. } if headers.is_empty() && details == "edgefold_denied[stale]")
                );
                assert_eq!(connection, None);
                assert_eq!(host.metric("edgefold", "stale"), 2);
            }
        }
        let freshness = Some(Freshness { cut_at: 60_000, max_age: 10_000, when_stale });
        assert!(host.configure(&small_snapshot_with(&Settings { freshness, ..Settings::default() })));
        assert_passes(&mut host, "10.0.0.100:1234");
        // A snapshot that arrives late is stale from the start.
        assert!(host.configure(&fresh));
        let response = host.request_from(Some(b"10.0.0.100:1234"));
        assert_eq!(response == Response::Passed, when_stale == WhenStale::Keep);
    }
}

/// All headers of the name are read, but only from trusted peers.
fn the_client_of_a_request_is_where_the_settings_say(world: World) {
    let (blocked, free, peer) = ("10.0.0.7", "192.0.2.1", "127.0.0.1:5");
    let header = |trusted_hops, trusted_proxies| ClientAddress::Header {
        name: "X-Real-IP".to_owned(),
        trusted_hops,
        trusted_proxies,
    };
    let any = || header(1, TrustedProxies::default());
    let second = || header(2, TrustedProxies::default());
    let trusted = || header(1, TrustedProxies(vec![range("127.0.0.0/8")]));
    for (client_address, peer, value, expected) in [
        (any(), peer, Some(blocked.to_owned()), Some(blocked)),
        (any(), peer, Some(format!("{blocked}, {free}")), None),
        (any(), peer, Some(format!("{free} ,\t{blocked}:80")), Some(blocked)),
        (any(), peer, Some(format!("{free},::ffff:{blocked}")), Some(blocked)),
        (any(), peer, Some(format!("{free},[::FFFF:10.0.0.7]:1")), Some(blocked)),
        (any(), peer, Some("2001:DB8:0:0:0:0:0:7".to_owned()), Some("2001:db8::7")),
        // Not an address: the client has none.
        (any(), peer, Some(format!("{blocked},")), None),
        (any(), peer, Some("unknown".to_owned()), None),
        (any(), peer, Some(String::new()), None),
        (any(), peer, Some(format!("{},{blocked}", "x".repeat(100_000))), Some(blocked)),
        (any(), peer, Some(",".repeat(100_000)), None),
        // Too few entries, or no header: the request bypassed the proxies.
        (any(), "10.0.0.8:5", None, Some("10.0.0.8")),
        (second(), "10.0.0.8:5", Some(free.to_owned()), Some("10.0.0.8")),
        (second(), peer, Some(format!("{blocked}, {free}")), Some(blocked)),
        (second(), peer, Some(format!("{free}, {blocked}, {free}")), Some(blocked)),
        (trusted(), peer, Some(blocked.to_owned()), Some(blocked)),
        (trusted(), "10.0.0.8:5", Some(free.to_owned()), Some("10.0.0.8")),
        (trusted(), "192.0.2.9:5", Some(blocked.to_owned()), None),
        (trusted(), "[::ffff:127.0.0.1]:5", Some(blocked.to_owned()), Some(blocked)),
        (trusted(), "/var/run/envoy.sock", Some(blocked.to_owned()), None),
        (ClientAddress::Envoy, "10.0.0.8:5", Some(free.to_owned()), Some("10.0.0.8")),
    ] {
        let settings = Settings { client_address: client_address.clone(), ..Settings::default() };
        let mut host = world.configured(&small_snapshot_with(&settings));
        // That of the client, and that of its proxies.
        let values = value.iter().flat_map(|value| value.splitn(2, ','));
        host.state().headers = values.map(|value| ("X-Real-IP".to_owned(), value.to_owned())).collect();
        let response = host.request_from(Some(peer.as_bytes()));
        let is_refused = response != Response::Passed;
        let value = value.map(|value| value[..value.len().min(60)].to_owned());
        assert_eq!(is_refused, expected.is_some(), "{client_address:?}, {peer}, {value:?}");
        if world.has_network() {
            let is_closed = host.connect(peer).is_none();
            assert_eq!(is_closed, peer.starts_with("10."), "the header does not count for a connection: {peer}");
        }
    }
    // Google's host does not say who opened the connection.
    if world.rules == Rules::Google {
        return;
    }
    let mut host = world.configured(&small_snapshot_with(&Settings {
        client_address: ClientAddress::Connection,
        no_address: NoAddress::Deny,
        ..Settings::default()
    }));
    if world.rules == Rules::Envoy {
        assert_eq!(
            host.request_from(Some(free.as_bytes())),
            world.forbidden("no_address"),
            "Envoy does not provide it"
        );
    }
    host.set("filter_state.edgefold.connection_address", Some(b"192.0.2.1:1234"));
    assert_eq!(host.request_from(Some(blocked.as_bytes())), Response::Passed);
    host.set("filter_state.edgefold.connection_address", Some(b"10.0.0.7:1234"));
    assert_refuses(&mut host, free);
}

#[test]
fn an_open_connection_is_kept_or_rechecked() {
    for recheck in [false, true] {
        let mut host = Host::start(if recheck { RECHECK_FILTER } else { FILTER });
        assert!(host.configure(&snapshot(&Settings::default(), &[])));
        let connection = host.connect("10.0.0.7:1234").unwrap();
        assert!(host.data(connection));
        let shadow = Settings { mode: Mode::Shadow, ..Settings::default() };
        assert!(host.configure(&small_snapshot_with(&shadow)));
        assert!(host.data(connection) && host.data(connection));
        assert_eq!(host.metric("edgefold", "shadow_denied_connections"), 0, "only connections are counted, not bytes");
        assert!(host.configure(&small_snapshot()));
        assert_eq!(host.data(connection), !recheck);
        assert_eq!(host.connect("10.0.0.7:1234"), None);
        assert_eq!(host.metric("edgefold", "denied_connections"), 1 + u64::from(recheck));
    }
}

/// A WebSocket, or a gRPC call that lasts for days, is one request.
#[test]
fn an_open_request_is_kept_or_rechecked() {
    for recheck in [false, true] {
        let mut host = Host::start(if recheck { RECHECK_FILTER } else { FILTER });
        assert!(host.configure(&snapshot(&Settings::default(), &[])));
        assert_passes(&mut host, "10.0.0.7:1234");
        assert!(host.request_data());
        let shadow = Settings { mode: Mode::Shadow, ..Settings::default() };
        assert!(host.configure(&small_snapshot_with(&shadow)));
        assert!(host.request_data());
        assert!(host.configure(&small_snapshot()));
        assert_eq!(host.request_data(), !recheck);
        assert_eq!(host.metric("edgefold", "denied"), u64::from(recheck));
        assert_passes(&mut host, "10.0.0.100:1234");
        assert!(host.request_data());
    }
}

fn each_list_in_a_vm_has_its_own_snapshot(world: World) {
    let mut host = world.configured(&small_snapshot());
    host.set("plugin_name", Some(b"other.list"));
    assert!(host.configure(&snapshot(&Settings::default(), &[range("192.0.2.0-192.0.2.255")])));
    assert_refuses(&mut host, "192.0.2.7:1");
    assert_passes(&mut host, "10.0.0.7:1");
    assert_eq!(host.metric("other%2elist", "denied"), 1);
    host.set("plugin_name", Some(b"edgefold"));
    assert_passes(&mut host, "192.0.2.7:1");
    assert_refuses(&mut host, "10.0.0.7:1");
    host.set("plugin_name", Some(b"third"));
    assert!(matches!(host.request(), Response::Refused { status: 503, .. }));
    if world.has_network() {
        assert_eq!(host.connect("10.0.0.100:1"), None);
    }
}

fn a_snapshot_may_be_in_json(world: World) {
    let mut host = world.start();
    let base64 = STANDARD.encode(small_snapshot());
    assert!(host.configure(format!("{{\"snapshot\": \"{base64}\"}}").as_bytes()), "{:?}", host.log());
    assert_refuses(&mut host, "10.0.0.7:1234");
    assert!(host.configure(b"{\"snapshot\": \"RURHRUZPTEQ=\"}"));
    assert!(host.log().last().unwrap().contains("truncated"), "{:?}", host.log());
    assert!(host.configure(b"{\"snapshots\": \"\"}"));
    assert!(host.log().last().unwrap().contains("is not {\"snapshot\": \"<base64>\"}"), "{:?}", host.log());
    assert_refuses(&mut host, "10.0.0.7:1234");
}

/// A snapshot that one VM has validated need not be validated by others. A claim about other bytes does not count.
fn a_snapshot_that_another_vm_has_validated_serves(world: World) {
    let mut canary = world.configured(&small_snapshot());
    let shared = canary.state().shared.clone();
    assert_eq!(shared.len(), 1);
    let mut worker = world.start();
    worker.state().shared.clone_from(&shared);
    assert!(worker.configure(&small_snapshot()));
    assert_eq!(worker.request_from(Some(b"10.0.0.7:1")), world.forbidden("default:10.0.0.1-10.0.0.99"));
    assert_passes(&mut worker, "10.0.0.100:1");
    assert_eq!(worker.state().shared, shared);
    // A table that no canary would have accepted is still rejected.
    let good = small_snapshot();
    let mut bad = good.clone();
    let at = bad.len() - 100;
    bad[at] ^= 0xff;
    let bad = sealed(bad);
    assert!(Snapshot::open(&*bad).is_err());
    assert_rejected(world, &mut worker, &bad, "");
    for forged in [vec![], vec![0; 15], vec![0; 16], vec![0xff; 17]] {
        worker.state().shared.values_mut().for_each(|value| value.clone_from(&forged));
        assert!(worker.configure(&good));
        assert_rejected(world, &mut worker, &bad, "");
    }
    assert_eq!(worker.state().shared, shared);
}

/// A host may refuse any call, because of a missing capability or memory.
fn the_filter_keeps_working_when_the_host_refuses_a_call(world: World) {
    let calls = [
        "proxy_log",
        "proxy_set_property",
        "proxy_get_shared_data",
        "proxy_set_shared_data",
        "proxy_send_local_response",
        "proxy_close_stream",
        "proxy_define_metric",
        "proxy_increment_metric",
        "proxy_record_metric",
        "proxy_get_current_time_nanoseconds",
    ];
    for mode in [Mode::Enforce, Mode::Shadow] {
        for call in calls {
            for status in [1, 2, 10, 12, u32::MAX] {
                let mut host = world.start();
                host.state().refused_calls.insert(call, status);
                assert!(host.configure(&small_snapshot_with(&Settings { mode, ..Settings::default() })));
                assert_passes(&mut host, "10.0.0.100:1234");
                if !matches!(call, "proxy_send_local_response" | "proxy_close_stream") {
                    assert_eq!(host.request_from(Some(b"10.0.0.7:1")) == Response::Passed, mode == Mode::Shadow);
                    if world.has_network() {
                        assert_eq!(host.connect("10.0.0.7:1").is_some(), mode == Mode::Shadow);
                    }
                }
            }
        }
    }
    // If the host refuses to give the address, the client has none. If it refuses to give the configuration, the old one stays.
    let mut host =
        world.configured(&small_snapshot_with(&Settings { no_address: NoAddress::Deny, ..Settings::default() }));
    host.state().refused_calls.insert("proxy_get_property", 10);
    assert_eq!(host.request_from(Some(b"10.0.0.100:1")), world.forbidden("no_address"));
    host.state().refused_calls.clear();
    host.state().refused_calls.insert("proxy_get_buffer_bytes", 10);
    assert!(host.configure(&small_snapshot()), "it keeps what it has");
    assert!(host.log().last().unwrap().contains("the host does not provide the configuration"), "{:?}", host.log());
    // Asking for more memory than there is does not make the lean module trap. That of the crate does.
    if world.module != FILTER {
        return;
    }
    for asked in [u32::MAX, u32::MAX - 70_000, 0xf000_0000] {
        let mut host = world.configured(&small_snapshot());
        host.state().asked_instead = Some(asked);
        assert!(host.configure(&small_snapshot()), "it keeps what it has");
        assert!(host.log().last().unwrap().contains("there is no memory for it"), "{:?}", host.log());
        host.state().asked_instead = None;
        assert_refuses(&mut host, "10.0.0.7:1");
    }
}

/// Two configurations at a time, and what else the module has, for a list whose size changes by a little. One that halves and
/// doubles leaves holes, and may need one configuration more. What arrives as JSON is decoded where it is.
#[test]
fn memory_is_at_most_three_times_the_configuration() {
    let singles = |count: u32| -> Vec<u8> {
        let address = |i: u32| IpAddr::from(Ipv4Addr::from_bits(i.wrapping_mul(2_654_435_761) | 1));
        let mut addresses: Vec<IpAddr> = (0..count).map(|i| address(2 * i)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let ranges: Vec<_> = addresses.iter().map(|&ip| IpRange::new(ip, ip).unwrap()).collect();
        snapshot(&Settings::default(), &ranges)
    };
    let json = |snapshot: Vec<u8>| format!("{{\"snapshot\": \"{}\"}}", STANDARD.encode(snapshot)).into_bytes();
    for configuration in [|snapshot| snapshot, json] {
        let (mut host, mut most) = (Host::start(FILTER), 0);
        for round in 0..12 {
            // A list that grows a little each time, and sometimes shrinks.
            let bytes = configuration(singles(1_000_000 + 1_500 * round - 4_000 * (round / 4)));
            assert!(host.configure(&bytes));
            most = most.max(bytes.len());
            let memory = host.memory_bytes();
            assert!(memory <= 3 * most, "{memory} bytes of memory for configurations of {most} in round {round}");
        }
    }
}

/// Whoever writes another reader relies on the example.
fn the_worked_example_of_the_format_is_a_snapshot(world: World) {
    let document = include_str!("../../docs/format.md");
    let (_, example) = document.split_once("```hex\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let words =
        example.lines().flat_map(|line| line.split_once('#').map_or(line, |(bytes, _)| bytes).split_whitespace());
    let bytes: Vec<u8> = words.map(|word| u8::from_str_radix(word, 16).unwrap()).collect();
    let sample = include_bytes!("../../snapshot/tests/fixtures/v6.snapshot");
    assert_eq!(bytes, sample, "the document should have: {sample:02x?}");
    let mut host = world.configured(&bytes);
    assert_refuses(&mut host, "10.0.0.99:1234");
    assert_passes(&mut host, "10.0.0.100:1234");
    assert_passes(&mut host, "10.0.0.7:1234");
}

/// The lists of the tests below, each with the ranges on it and what it does.
type Lists = Vec<(&'static str, ListAction, Vec<IpRange>)>;

fn snapshot_of(lists: &Lists) -> Vec<u8> {
    let settings = Settings::default();
    let generation = Generation { epoch: 0, next_offset: 1, expiry: None };
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    let lists = lists.iter().map(|(name, action, ranges)| NewList {
        name: name.parse().unwrap(),
        action,
        ranges: ranges.iter().copied(),
    });
    new.encode(lists).unwrap()
}

/// The tag header of the request that the host passed on, after a client has sent some itself.
fn tags_sent(host: &mut Host, source: &str) -> Vec<String> {
    let sent = ["x-edgefold-lists", "X-Edgefold-Lists", "x-edgefold-lists", "x-other"];
    host.state().headers = sent.map(|name| (name.to_owned(), "forged".to_owned())).into();
    assert_passes(host, source);
    let headers = std::mem::take(&mut host.state().headers);
    assert!(headers.contains(&("x-other".to_owned(), "forged".to_owned())), "{headers:?}");
    headers.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(sent[0])).map(|(_, value)| value).collect()
}

fn a_client_cannot_send_tags_itself(world: World) {
    let lists = vec![
        ("default", ListAction::default(), vec![]),
        ("a", ListAction::Tag, vec![range("10.0.0.0/24")]),
        ("b", ListAction::Tag, vec![range("10.0.0.0/25")]),
    ];
    let mut host = world.configured(&snapshot_of(&lists));
    assert_eq!(tags_sent(&mut host, "10.0.0.200:1"), ["a"]);
    assert_eq!(tags_sent(&mut host, "10.0.0.7:1"), ["a,b"]);
    assert_eq!(tags_sent(&mut host, "192.0.2.1:1"), [""; 0]);
    // A host without these calls: the client passes, without a tag.
    host.state().refused_calls.insert("proxy_add_header_map_value", 12);
    assert_eq!(tags_sent(&mut host, "10.0.0.7:1"), [""; 0]);
}

/// What lists cost is a lookup each: the host is asked for the address once, however many there are.
fn all_lists_together_ask_the_host_for_one_address(world: World) {
    let names = ["default", "l1", "l2", "l3", "l4", "l5", "l6", "l7"];
    let calls = |count: usize| {
        let lists = names.into_iter().take(count);
        let lists = lists.map(|name| (name, ListAction::default(), vec![range("10.0.0.0/24")])).collect();
        let mut host = world.configured(&snapshot_of(&lists));
        assert_passes(&mut host, "192.0.2.1:1");
        // The first request also sets the gauges.
        assert_passes(&mut host, "192.0.2.1:1");
        host.calls().to_vec()
    };
    assert_eq!(calls(8), calls(1));
}

/// Random lists over a few addresses. Native code, the module, and a search that only knows single addresses and the table of
/// `docs/semantics.md` agree.
fn wasm_and_native_code_and_a_plain_search_agree_on_lists(world: World) {
    const NAMES: [&str; 5] = ["default", "a", "b.c", "d-e", "f"];
    let action = prop_oneof![
        Just(ListAction::default()),
        Just(ListAction::Deny { share: Share::NONE, refusal: None }),
        Just(ListAction::Shadow),
        Just(ListAction::Exempt),
        Just(ListAction::Tag),
    ];
    let list = (action, prop::collection::btree_set(0..12_u8, 0..12));
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) });
    let outcome = runner.run(&prop::collection::vec(list, 1..=NAMES.len()), |drawn| {
        let ip = |host: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, host));
        let lists: Lists = NAMES
            .into_iter()
            .zip(&drawn)
            .map(|(name, (action, hosts))| {
                // Runs of addresses are ranges.
                let hosts: Vec<u8> = hosts.iter().copied().collect();
                let runs = hosts.chunk_by(|one, next| one + 1 == *next);
                (
                    name,
                    action.clone(),
                    runs.map(|run| IpRange::new(ip(run[0]), ip(run[run.len() - 1])).unwrap()).collect(),
                )
            })
            .collect();
        let bytes = snapshot_of(&lists);
        let native = Layers::alone(Arc::new(Snapshot::open(&bytes).unwrap()));
        let mut host = world.configured(&bytes);
        for client in 0..13_u8 {
            let on = |wanted: &ListAction| -> Vec<&str> {
                let is_on = |(_, (action, hosts)): &(_, &(ListAction, BTreeSet<u8>))| {
                    action == wanted && hosts.contains(&client)
                };
                NAMES.into_iter().zip(&drawn).filter(is_on).map(|(name, _)| name).collect()
            };
            let (deny, exempt) = (on(&ListAction::default()), on(&ListAction::Exempt));
            let (shadow, tag) = (on(&ListAction::Shadow), on(&ListAction::Tag));
            let names = |set: ListSet| -> Vec<&str> { set.iter().map(|list| NAMES[list]).collect() };
            let source = source_address(ip(client));
            let response = host.request_from(Some(source.as_bytes()));
            let verdict = decide(&native, false, Some(ip(client)));
            let tagged = host.calls().iter().any(|call| call == "proxy_add_header_map_value");
            let reported = host.filter_state("edgefold").map(str::to_owned);
            let (passes, is_tagged) = (response == Response::Passed, tagged);
            let expected = match (deny.first(), exempt.first()) {
                (Some(_), Some(first)) => {
                    prop_assert!(matches!(verdict, Verdict::Exempt(list) if NAMES[list] == *first), "{:?}", verdict);
                    (true, false, false)
                }
                (Some(first), None) => {
                    let Verdict::Deny(Reason::List { name, .. }) = verdict else { panic!("{verdict:?}") };
                    prop_assert_eq!(name.as_str(), *first);
                    (false, false, false)
                }
                (None, None) if !shadow.is_empty() || !tag.is_empty() => {
                    let Verdict::Mark { shadow: found, tag: tags } = verdict else { panic!("{verdict:?}") };
                    prop_assert_eq!((names(found), names(tags)), (shadow.clone(), tag.clone()));
                    (true, !tag.is_empty(), !shadow.is_empty())
                }
                (None, _) => {
                    prop_assert_eq!(verdict, Verdict::Pass);
                    (true, false, false)
                }
            };
            let is_reported = if world.has_filter_state() { reported.is_some() } else { expected.2 };
            prop_assert_eq!((passes, is_tagged, is_reported), expected, "wasm, {}", source);
            seen.borrow_mut().insert(format!("{:?}", std::mem::discriminant(&verdict)));
        }
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(seen.borrow().len(), 4, "not every kind of verdict came up: {seen:?}");
}

/// Ranges after `base`, each given by the gap before it and its length. Those past the end of the family are left out, as are
/// those in the IPv4-mapped block, whose addresses are IPv4.
fn ranges_from(base: u128, shape: &[(u8, u8)], address: impl Fn(u128) -> Option<IpAddr>) -> Vec<IpRange> {
    let mut next = base;
    let mut ranges = Vec::new();
    for &(gap, length) in shape {
        // Ranges that touch would be one range.
        let Some(first) = next.checked_add(u128::from(gap) + 2) else { break };
        let Some(last) = first.checked_add(u128::from(length)) else { break };
        let (Some(first), Some(end)) = (address(first), address(last)) else { break };
        let whole = IpRange::new(first, end).ok();
        ranges.extend(whole.filter(|range| range.first() == first && range.last() == end));
        next = last;
    }
    ranges
}

fn ipv4(bits: u128) -> Option<Ipv4Addr> {
    u32::try_from(bits).ok().map(Ipv4Addr::from_bits)
}

/// An address as Envoy writes it.
fn source_address(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:1234"),
        IpAddr::V6(ip) => format!("[{ip}]:1234"),
    }
}

fn wasm_and_native_code_and_a_plain_search_agree(world: World) {
    let shape = || prop::collection::vec((any::<u8>(), any::<u8>()), 0..40);
    let ipv4_base = prop_oneof![Just(0), any::<u32>().prop_map(u128::from), Just(u128::from(u32::MAX) - 999)];
    // From the second and the third, ranges run into the IPv4-mapped block and out of it.
    let ipv6_base = prop_oneof![
        Just(0),
        Just(0xffff_0000_0000 - 500),
        Just(0x1_0000_0000_0000 - 500),
        any::<u128>(),
        Just(u128::MAX - 999)
    ];
    let lookups = prop::collection::vec((0..5_000_u16, 0..3_u8), 60);
    let (passed, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) });
    let case = (ipv4_base, shape(), ipv6_base, shape(), lookups);
    let outcome = runner.run(&case, |(ipv4_base, ipv4_shape, ipv6_base, ipv6_shape, lookups)| {
        let mut ranges = ranges_from(ipv4_base, &ipv4_shape, |bits| ipv4(bits).map(IpAddr::V4));
        ranges.extend(ranges_from(ipv6_base, &ipv6_shape, |bits| Some(Ipv6Addr::from_bits(bits).into())));
        let bytes = snapshot(&Settings::default(), &ranges);
        let native = Layers::alone(Arc::new(Snapshot::open(&bytes).unwrap()));
        let mut host = world.configured(&bytes);
        for (distance, form) in lookups {
            let near_ipv4 = ipv4(ipv4_base.saturating_add(distance.into())).unwrap_or(Ipv4Addr::BROADCAST);
            let ip: IpAddr = match form {
                0 => near_ipv4.into(),
                1 => near_ipv4.to_ipv6_mapped().into(),
                _ => Ipv6Addr::from_bits(ipv6_base.saturating_add(distance.into())).into(),
            };
            let source_address = source_address(ip);
            let (verdict, response, counter) = match ranges.iter().find(|range| range.contains(ip)) {
                Some(&range) => {
                    let reason = Reason::List { index: 0, name: ListName::DEFAULT, range };
                    (Verdict::Deny(reason), world.forbidden(&reason.to_string()), &refused)
                }
                None => (Verdict::Pass, Response::Passed, &passed),
            };
            prop_assert_eq!(decide(&native, false, Some(ip)), verdict, "native, {}", ip);
            prop_assert_eq!(host.request_from(Some(source_address.as_bytes())), response, "wasm, {}", ip);
            counter.set(counter.get() + 1);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(passed.get() > 500 && refused.get() > 500, "{passed:?} passed, {refused:?} refused: one-sided");
}
