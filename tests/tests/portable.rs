//! The portable module in the hosts that it is for, by their rules, and in a real Envoy.
#![expect(clippy::unwrap_used, reason = "a failed unwrap in a helper is a failed test")]

mod json;
mod worlds;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use edgefold_filter::decision::Reason;
use edgefold_snapshot::{
    ClientAddress, Freshness, Generation, ListAction, ListName, Mode, NewList, NewOverlayList, NewSnapshot, NoAddress,
    Settings, Snapshot, TrustedProxies, WhenStale,
};
use edgefold_snapshotter::modules::{FILTER, PORTABLE_FILTER, RECHECK_FILTER};
use edgefold_snapshotter::replace::replace_file;
use edgefold_snapshotter::ship::ecds::{Code, FailurePolicy, FilterHost, FilterKind, Payload, Resource, snapshot_in};
use edgefold_table::IpRange;
use edgefold_tests::{Edgefold, Envoy, EnvoyOptions, eventually, raw};
use edgefold_wasm_host::{Host, Response, Rules};

use crate::json::{Json, with_json};
use crate::worlds::{World, worlds};

worlds! {
    everywhere {
        requests_are_looked_up_from_their_first_callback_to_their_last,
        a_snapshot_may_be_text_of_any_form,
        what_is_not_a_snapshot_is_refused_with_the_reason,
        in_shadow_mode_everybody_passes,
        what_happens_is_counted_where_there_are_metrics,
        a_stale_snapshot_refuses_where_there_is_a_clock,
        lists_with_long_names_are_looked_up,
        a_client_cannot_hide_the_header_of_its_proxy,
        many_requests_do_not_grow_memory,
    }
    in_envoy {}
}

fn range(text: &str) -> IpRange {
    text.parse().unwrap()
}

fn snapshot(next_offset: u64, settings: &Settings, ranges: &[&str]) -> Vec<u8> {
    let generation = Generation { epoch: 0, next_offset, expiry: None };
    let cut_at = settings.freshness.map_or(0, |freshness| freshness.cut_at);
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings, cut_at };
    new.encode_default_list(ranges.iter().map(|text| range(text))).unwrap()
}

fn small_snapshot() -> Vec<u8> {
    snapshot(2, &Settings::default(), &["10.0.0.0/24", "2001:db8::/32"])
}

fn is_refused(host: &mut Host, source_address: &str) -> bool {
    match host.request_from(Some(source_address.as_bytes())) {
        Response::Passed => false,
        Response::Refused { status, .. } => status == 403,
    }
}

// By the rules of each host

fn requests_are_looked_up_from_their_first_callback_to_their_last(world: World) {
    let mut host = world.configured(&small_snapshot());
    for _ in 0..3 {
        let blocked = world.forbidden("default:10.0.0.0-10.0.0.255");
        assert_eq!(host.request_from(Some(b"10.0.0.7:1234")), blocked);
        assert_eq!(host.request_from(Some(b"10.0.1.7:1234")), Response::Passed);
        assert!(is_refused(&mut host, "[2001:db8::7]:1234") && !is_refused(&mut host, "[2001:db9::7]:1234"));
    }
}

fn a_snapshot_may_be_text_of_any_form(world: World) {
    let base64 = STANDARD.encode(small_snapshot());
    let mut texts = vec![format!("{{\"snapshot\": \"{base64}\"}}"), format!(" {{\"snapshot\":\"{base64}\"}}\n")];
    if world.module == PORTABLE_FILTER {
        texts.extend([base64.clone(), format!("{base64}\n")]);
    }
    for text in texts {
        let mut host = world.start();
        assert!(host.configure(text.as_bytes()), "{:?}", host.log());
        assert!(is_refused(&mut host, "10.0.0.7:1234") && !is_refused(&mut host, "10.0.1.7:1234"), "{text}");
    }
}

/// A host that ignores the refusal sends requests nevertheless. They must not pass unchecked.
fn what_is_not_a_snapshot_is_refused_with_the_reason(world: World) {
    let good = STANDARD.encode(small_snapshot());
    let mut damaged = good.clone();
    damaged.replace_range(good.len() / 2..good.len() / 2 + 4, "++++");
    let of_text = |reason| if world.module == PORTABLE_FILTER { reason } else { "not an edgefold snapshot" };
    for (text, reason) in [
        ("", "no bytes at all"),
        ("on", "not an edgefold snapshot"),
        ("{\"list\": \"edgefold\"}", "starts like JSON"),
        ("{\"snapshot\": \"?\"}", "is not base64"),
        (&good[..good.len() / 4 * 2 + 1], of_text("is not base64")),
        (&damaged, of_text("damaged or truncated")),
    ] {
        let mut host = world.start();
        assert!(!host.configure(text.as_bytes()), "{text}");
        assert!(host.log()[0].contains("snapshot refused") && host.log()[0].contains(reason), "{:?}", host.log());
        let response = host.request_from(Some(b"10.0.1.7:1234"));
        assert!(matches!(response, Response::Refused { status: 503, .. }), "{response:?}");
    }
}

fn in_shadow_mode_everybody_passes(world: World) {
    let shadow = Settings { mode: Mode::Shadow, ..Settings::default() };
    let mut host = world.configured(&snapshot(2, &shadow, &["10.0.0.0/24"]));
    assert_eq!(host.request_from(Some(b"10.0.0.7:1234")), Response::Passed);
    let verdict = "shadow_edgefold_denied[default:10.0.0.0-10.0.0.255]";
    assert_eq!(host.filter_state("edgefold"), Some(verdict).filter(|_| world.has_filter_state()));
}

fn what_happens_is_counted_where_there_are_metrics(world: World) {
    let mut host = world.configured(&small_snapshot());
    assert!(is_refused(&mut host, "10.0.0.7:1") && !is_refused(&mut host, "10.0.1.7:1"));
    assert_eq!(host.request_from(None), Response::Passed);
    if matches!(world.rules, Rules::Envoy | Rules::Nginx) {
        let names = ["denied", "no_address", "generation", "ranges", "unavailable"];
        assert_eq!(names.map(|name| host.metric("edgefold", name)), [1, 1, 2, 2, 0]);
        assert_eq!(host.metric("edgefold", "list.default.denied"), 1);
    }
}

fn a_stale_snapshot_refuses_where_there_is_a_clock(world: World) {
    let freshness = Some(Freshness { cut_at: 50_000, max_age: 10_000, when_stale: WhenStale::Deny });
    let mut host = world.configured(&snapshot(2, &Settings { freshness, ..Settings::default() }, &["10.0.0.0/24"]));
    host.state().now = 60_000;
    assert_eq!(host.request_from(Some(b"10.0.1.7:1")), Response::Passed);
    host.state().now = 60_001;
    let response = host.request_from(Some(b"10.0.1.7:1"));
    let is_refused = matches!(response, Response::Refused { status: 503, .. });
    assert_eq!(is_refused, world.rules != Rules::Apisix, "{response:?}");
}

/// nginx ends the VM at a metric with a long name.
fn lists_with_long_names_are_looked_up(world: World) {
    let name = |byte: char| -> ListName { format!("{byte}{}", ".".repeat(61) + "x").parse().unwrap() };
    let action = ListAction::default();
    let settings = Settings::default();
    let generation = Generation { epoch: 0, next_offset: 1, expiry: None };
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    let lists =
        [ListName::DEFAULT, name('a'), name('b')].into_iter().zip(["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]);
    let lists = lists.map(|(name, text)| NewList { name, action: &action, ranges: [range(text)].into_iter() });
    let mut host = world.configured(&new.encode(lists).unwrap());
    for network in 0..4 {
        assert_eq!(is_refused(&mut host, &format!("10.0.{network}.7:1")), network < 3);
    }
}

/// The client sends the header too, once or more often than a host passes headers. The entry of the proxy counts, which is the
/// last.
fn a_client_cannot_hide_the_header_of_its_proxy(world: World) {
    let client_address = ClientAddress::Header {
        name: "X-Real-IP".to_owned(),
        trusted_hops: 1,
        trusted_proxies: TrustedProxies(vec![range("192.0.2.0/24")]),
    };
    let settings = Settings { client_address, ..Settings::default() };
    let mut host = world.configured(&snapshot(2, &settings, &["10.0.0.0/24"]));
    let header = |value: &str| ("x-real-ip".to_owned(), value.to_owned());
    for forged in [0, 1, 200] {
        for (client, expected) in [("10.0.0.7", true), ("10.0.1.7", false)] {
            host.state().headers = vec![header("10.0.1.1"); forged];
            host.state().headers.push(header(client));
            assert_eq!(is_refused(&mut host, "192.0.2.1:80"), expected, "{forged} forged, {client}");
        }
    }
    // Another peer cannot pass for somebody else.
    assert!(is_refused(&mut host, "10.0.0.8:80") && !is_refused(&mut host, "10.0.1.8:80"));
}

fn many_requests_do_not_grow_memory(world: World) {
    let mut host = world.configured(&small_snapshot());
    let mut round = |requests| {
        for _ in 0..requests {
            assert!(is_refused(&mut host, "10.0.0.7:1") && !is_refused(&mut host, "10.0.1.7:1"));
        }
        host.memory_bytes()
    };
    let before = round(100);
    assert_eq!(round(2_000), before);
}

#[test]
fn the_command_line_writes_it() {
    let edgefold = Edgefold::uninitialized();
    let file = edgefold.path("module.wasm");
    edgefold.run(&["module", "--portable", "-o", &file]);
    assert!(std::fs::read(&file).unwrap() == PORTABLE_FILTER);
    edgefold.outcome(&["module", "--portable", "--recheck", "-o", &file]).assert_failed(64, "--recheck");
}

/// Where the modules of Envoy are refused is what the portable one is for.
#[test]
fn each_host_takes_the_modules_that_its_rules_allow() {
    let takes = |rules, module: &[u8]| Host::start_by(rules, module).err();
    for module in [FILTER, RECHECK_FILTER] {
        assert_eq!(takes(Rules::Envoy, module), None);
        assert_eq!(takes(Rules::Google, module), None);
        assert_eq!(takes(Rules::Nginx, module).unwrap(), "the module does not export proxy_on_context_create");
        // It takes them, but they ask it for what it does not have.
        assert_eq!(takes(Rules::Apisix, module), None);
    }
    for rules in [Rules::Envoy, Rules::Google, Rules::Nginx, Rules::Apisix] {
        assert_eq!(takes(rules, PORTABLE_FILTER), None);
    }
    for module in [FILTER, RECHECK_FILTER, PORTABLE_FILTER] {
        let refusal = takes(Rules::Mosn, module).unwrap();
        assert_eq!(refusal, "the module has neither proxy_abi_version_0_1_0 nor proxy_abi_version_0_2_0");
    }
}

/// A route of APISIX with another configuration is another plugin in the same VM, as is a filter of nginx. There is no name to
/// tell them apart.
#[test]
fn plugins_in_one_vm_have_snapshots_of_their_own() {
    for world in [World::NGINX, World::APISIX, World::GOOGLE] {
        let mut host = world.configured(&snapshot(9, &Settings::default(), &["10.0.0.0/24"]));
        let first = host.start_plugin();
        // It is older, but not of the same plugin.
        assert!(host.configure(&snapshot(3, &Settings::default(), &["10.0.1.0/24"])), "{:?}", host.log());
        assert!(!is_refused(&mut host, "10.0.0.7:1") && is_refused(&mut host, "10.0.1.7:1"), "{world:?}");
        let second = host.choose(first);
        assert!(is_refused(&mut host, "10.0.0.7:1") && !is_refused(&mut host, "10.0.1.7:1"), "{world:?}");
        host.end(second);
        assert!(is_refused(&mut host, "10.0.0.7:1") && !is_refused(&mut host, "10.0.1.7:1"), "{world:?}");
    }
}

/// In Envoy another configuration is another root context. Requests of the one before are served by the newest.
#[test]
fn in_envoys_rules_plugins_with_one_name_share_the_newest_snapshot() {
    for world in [World::LEAN, World::PORTABLE] {
        let mut host = world.configured(&snapshot(2, &Settings::default(), &["10.0.0.0/24"]));
        let first = host.start_plugin();
        assert!(host.configure(&snapshot(3, &Settings::default(), &["10.0.1.0/24"])), "{:?}", host.log());
        assert!(!is_refused(&mut host, "10.0.0.7:1") && is_refused(&mut host, "10.0.1.7:1"), "{world:?}");
        let second = host.choose(first);
        assert!(!is_refused(&mut host, "10.0.0.7:1") && is_refused(&mut host, "10.0.1.7:1"), "{world:?}");
        // What is older keeps it in force, in a root context that is new.
        host.start_plugin();
        assert!(host.configure(&snapshot(2, &Settings::default(), &["10.0.0.0/24"])), "{:?}", host.log());
        assert!(!is_refused(&mut host, "10.0.0.7:1") && is_refused(&mut host, "10.0.1.7:1"), "{world:?}");
        host.end(second);
        assert!(is_refused(&mut host, "10.0.1.7:1"), "{world:?}");
    }
}

/// Where there is no canary, what serves requests is configured only once. So it cannot do anything later.
#[test]
fn without_a_canary_gauges_are_set_before_the_first_request() {
    let host = World::NGINX.configured(&small_snapshot());
    assert_eq!(["generation", "ranges"].map(|name| host.metric("edgefold", name)), [2, 2]);
}

/// There, nothing would bring the other half.
#[test]
fn without_shared_snapshots_half_of_a_pair_is_refused_with_the_reason() {
    let generation = Generation { epoch: 0, next_offset: 2, expiry: None };
    let settings = &Settings::default();
    let new = || NewSnapshot { name: "edgefold", generation, as_of: 0, settings, cut_at: 0 };
    let (name, action) = (ListName::DEFAULT, &ListAction::default());
    let list = |text| NewList { name, action, ranges: vec![range(text)] };
    let base = new().encode_base([list("10.0.0.0/24")]).unwrap();
    let below = Snapshot::open(base.clone()).unwrap().fingerprint();
    let overlay = new().encode_overlay(below, [NewOverlayList { added: list("10.0.1.0/24"), removed: None }]).unwrap();
    for world in [World::NGINX, World::APISIX, World::GOOGLE] {
        for half in [&base, &overlay] {
            let mut host = world.start();
            assert!(!host.configure(half), "{world:?}");
            assert!(host.log()[0].contains("takes only whole snapshots"), "{:?}", host.log());
        }
    }
}

/// Its Service Extensions may. The others start another plugin.
#[test]
fn a_host_without_a_canary_is_told_that_an_update_is_refused() {
    let mut host = World::GOOGLE.configured(&small_snapshot());
    assert!(!host.configure(b"hello"));
    // What was in force still is.
    assert!(is_refused(&mut host, "10.0.0.7:1") && !is_refused(&mut host, "10.0.1.7:1"));
    assert!(host.configure(&snapshot(3, &Settings::default(), &["10.0.1.0/24"])), "{:?}", host.log());
    assert!(!is_refused(&mut host, "10.0.0.7:1") && is_refused(&mut host, "10.0.1.7:1"));
}

/// A route that changes is another plugin, and the one before it ends.
#[test]
fn plugins_that_come_and_go_do_not_grow_memory() {
    let ranges: Vec<String> = (0..200).map(|i| format!("10.{i}.0.0/24")).collect();
    let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
    let mut host = World::APISIX.start();
    let mut round = |plugins| {
        for _ in 0..plugins {
            let before = host.start_plugin();
            host.end(before);
            assert!(host.configure(&snapshot(1, &Settings::default(), &ranges)));
            assert!(is_refused(&mut host, "10.7.0.7:1") && !is_refused(&mut host, "11.0.0.7:1"));
        }
        host.memory_bytes()
    };
    let before = round(20);
    assert_eq!(round(500), before);
}

/// The peer that opened the connection, whatever the host makes of X-Forwarded-For.
#[test]
fn nginx_knows_who_opened_the_connection() {
    let settings =
        Settings { client_address: ClientAddress::Connection, no_address: NoAddress::Deny, ..Settings::default() };
    for world in [World::NGINX, World::APISIX] {
        let mut host = world.configured(&snapshot(2, &settings, &["10.0.0.0/24"]));
        // Without the realip module.
        assert!(is_refused(&mut host, "10.0.0.7:1") && !is_refused(&mut host, "192.0.2.1:1"), "{world:?}");
        for (peer, expected) in [("10.0.0.7:1", true), ("192.0.2.1:1", false)] {
            host.set("filter_state.edgefold.connection_address", Some(peer.as_bytes()));
            assert_eq!(is_refused(&mut host, "192.0.2.1:1"), expected, "{world:?}, {peer}");
        }
    }
}

/// With `underscores_in_headers on`, as in APISIX, `$http_x_real_ip` also has the headers `X_Real_IP`, which the client may have sent.
#[test]
fn a_header_with_underscores_is_another_header() {
    let client_address = ClientAddress::Header {
        name: "X-Real-IP".to_owned(),
        trusted_hops: 1,
        trusted_proxies: TrustedProxies(vec![range("192.0.2.0/24")]),
    };
    let settings = Settings { client_address, no_address: NoAddress::Deny, ..Settings::default() };
    for world in [World::NGINX, World::APISIX] {
        let mut host = world.configured(&snapshot(2, &settings, &["10.0.0.0/24"]));
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for forged_name in ["X_Real_IP", "X_Real-IP", "x-real_ip"] {
            let forged = header(forged_name, "10.0.1.1");
            for (client, expected) in [("10.0.0.7", true), ("10.0.1.7", false)] {
                let real = header("X-Real-IP", client);
                for headers in [
                    vec![real.clone(), forged.clone()],
                    vec![forged.clone(), real.clone()],
                    vec![forged.clone(), header("X-Real-IP", "10.0.1.9"), real.clone(), forged.clone()],
                ] {
                    host.state().headers = headers;
                    assert_eq!(is_refused(&mut host, "192.0.2.1:80"), expected, "{world:?}, {forged_name}, {client}");
                }
            }
            // Without the header, it is the address of the proxy.
            host.state().headers = vec![header(forged_name, "10.0.0.7")];
            assert!(!is_refused(&mut host, "192.0.2.1:80"), "{world:?}, {forged_name}");
            // With more headers than the host passes, nobody knows which entry is whose.
            host.state().headers = vec![header("X-Real-IP", "10.0.1.7"); 100];
            assert!(!is_refused(&mut host, "192.0.2.1:80"), "{world:?}");
            host.state().headers.push(forged);
            assert_eq!(host.request_from(Some(b"192.0.2.1:80")), world.forbidden("no_address"));
        }
    }
}

/// Whatever a client sends, the VM goes on.
#[test]
fn hostile_headers_do_not_end_the_vm() {
    let client_address = ClientAddress::Header {
        name: "x-real-ip".to_owned(),
        trusted_hops: u16::MAX,
        trusted_proxies: TrustedProxies::default(),
    };
    let settings = Settings { client_address, ..Settings::default() };
    for world in [World::PORTABLE, World::NGINX, World::APISIX, World::GOOGLE] {
        let mut host = world.configured(&snapshot(2, &settings, &["10.0.0.0/24"]));
        for value in ["", ",", "\u{fffd}\u{0}", "::::", "[", "%", &"9".repeat(60_000), &",".repeat(1 << 20)] {
            host.state().headers = vec![("X-Real-Ip".to_owned(), value.to_owned())];
            host.request_from(Some(b"192.0.2.1:1"));
            assert!(host.calls().iter().any(|call| call == "proxy_get_property"));
        }
        host.state().headers.clear();
        assert!(is_refused(&mut host, "10.0.0.7:1"));
    }
}

/// The reason that a verdict is called by is the same as in Envoy.
#[test]
fn the_details_are_those_of_the_lean_module() {
    let reason = Reason::List { index: 0, name: ListName::DEFAULT, range: range("10.0.0.0/24") };
    for world in [World::LEAN, World::PORTABLE] {
        let mut host = world.configured(&small_snapshot());
        assert_eq!(host.request_from(Some(b"10.0.0.7:1")), world.forbidden(&reason.to_string()));
    }
}

// In a real Envoy

/// What `serve` ships, with the portable module in place of its own.
fn with_portable_module(edgefold: &Edgefold) {
    let file = edgefold.ecds_file();
    let shipped = std::fs::read(&file).unwrap();
    let snapshot = snapshot_in(&shipped.into()).unwrap();
    replace_file(&file, &resource("portable", snapshot)).unwrap();
}

fn resource(shipment: &str, snapshot: Bytes) -> Vec<u8> {
    let (kind, name, code) = (FilterKind::Http, "edgefold", Code::Inline(PORTABLE_FILTER));
    let host = FilterHost::Wasm(FailurePolicy::Reload);
    Resource { kind, name, version: shipment, shipment, host, code, snapshot: Payload::Inline(snapshot) }.encode()
}

fn with_envoy(args: &[&str], check: impl FnOnce(&Edgefold, &Envoy)) {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24", "2001:db8::/32"]);
    drop(edgefold.serve(args));
    with_portable_module(&edgefold);
    check(&edgefold, &edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY));
}

#[test]
fn envoy_refuses_blocked_clients_and_lets_others_pass() {
    with_envoy(&[], |_, envoy| {
        let client = envoy.client("127.0.0.1");
        for (address, status) in [("10.0.0.7", 403), ("10.0.1.7", 200), ("2001:db8::7", 403), ("2001:db9::7", 200)] {
            assert_eq!(client.status_for(address), status, "{address}");
        }
        envoy.wait_for_log_line("10.0.0.7 \"GET /\" 403 edgefold_denied[default:10.0.0.0-10.0.0.255]");
        let counted = |name| envoy.metric(name, "edgefold");
        assert_eq!((counted("denied"), counted("generation")), (Some(2), Some(2)));
        assert_eq!(envoy.list_metric("denied", "default"), Some(2));
    });
}

#[test]
fn envoy_takes_the_next_snapshot_and_keeps_it_when_the_one_after_is_bad() {
    with_envoy(&[], |edgefold, envoy| {
        let client = envoy.client("127.0.0.1");
        assert_eq!((client.status_for("10.0.0.7"), client.status_for("10.0.1.7")), (403, 200));
        let next = snapshot(100, &Settings::default(), &["10.0.1.0/24"]);
        replace_file(&edgefold.ecds_file(), &resource("next", next.clone().into())).unwrap();
        eventually("the next snapshot", || (client.status_for("10.0.1.7") == 403).then_some(()));
        assert_eq!(client.status_for("10.0.0.7"), 200);
        replace_file(&edgefold.ecds_file(), &resource("bad", next[..next.len() - 1].to_vec().into())).unwrap();
        eventually("the refusal", || (envoy.metric("snapshot_rejected", "edgefold") > Some(0)).then_some(()));
        assert_eq!((client.status_for("10.0.0.7"), client.status_for("10.0.1.7")), (200, 403));
    });
}

#[test]
fn in_envoy_a_refusal_is_what_the_settings_say() {
    let args = ["--status", "429", "--body", "Later", "--content-type", "text/x-why", "--header", "retry-after: 60"];
    with_envoy(&args, |_, envoy| {
        let answer = envoy.client("127.0.0.1").get_with(&[("x-forwarded-for", "10.0.0.7")]);
        assert_eq!((answer.status, answer.body.as_str()), (429, "Later"));
        assert_eq!((answer.header("content-type"), answer.header("retry-after")), (vec!["text/x-why"], vec!["60"]));
    });
}

#[test]
fn in_envoy_the_upstream_is_told_the_lists_that_tag() {
    let edgefold = Edgefold::sqlite();
    edgefold.run(&["lists", "set", "seen", "--action", "tag"]);
    edgefold.run(&["add", "10.0.0.0/24", "--list", "seen"]);
    drop(edgefold.serve(&[]));
    with_portable_module(&edgefold);
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    for (client, expected) in [("10.0.0.7", &["x-edgefold-lists: seen"][..]), ("10.0.1.7", &[])] {
        let request = format!(
            "GET /headers HTTP/1.1\r\nhost: edge\r\nx-forwarded-for: {client}\r\nx-edgefold-lists: forged\r\n\
             X-Edgefold-Lists: forged, too\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(envoy.address(), request.as_bytes());
        let (_, headers) = answer.split_once("\r\n\r\n").unwrap();
        let found: Vec<_> = headers.lines().filter(|line| line.starts_with("x-edgefold-lists")).collect();
        assert_eq!(found, expected, "{client}: {answer}");
    }
}

#[test]
fn in_envoy_a_snapshot_may_be_json() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
    drop(edgefold.serve(&[]));
    with_portable_module(&edgefold);
    let file = edgefold.ecds_file();
    let shipped = std::fs::read(&file).unwrap();
    let snapshot = snapshot_in(&shipped.clone().into()).unwrap();
    for json in [Json::Struct, Json::Text] {
        replace_file(&file, &with_json(&shipped, json, &snapshot)).unwrap();
        let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
        let client = envoy.client("127.0.0.1");
        assert_eq!((client.status_for("10.0.0.7"), client.status_for("10.0.1.7")), (403, 200), "{json:?}");
    }
}
