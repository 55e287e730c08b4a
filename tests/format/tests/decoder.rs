//! A second decoder, written in Python from `docs/format.md` only, reads what edgefold writes. Native only.
#![allow(clippy::unwrap_used, reason = "a test helper may panic, like the test")]
#![cfg(not(target_arch = "wasm32"))]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use edgefold_format_tests::samples::{Sample, samples};
use edgefold_snapshot::{
    ClientAddress, Fingerprint, Freshness, Generation, ListAction, Mode, NewList, NewOverlayList, NewSnapshot,
    NoAddress, OpenConnections, Refusal, Settings, TrustedProxies, WhenStale,
};
use edgefold_table::IpRange;

/// No setting has its default value.
fn settings() -> Settings {
    Settings {
        mode: Mode::Shadow,
        refusal: Refusal {
            status: 429,
            body: "é".repeat(200),
            content_type: "text/html".to_owned(),
            headers: vec![("x-why".to_owned(), "blocked".to_owned()), ("x-empty".to_owned(), String::new())],
        },
        client_address: ClientAddress::Header {
            name: "x-real-ip".to_owned(),
            trusted_hops: 300,
            trusted_proxies: TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/127".parse().unwrap()]),
        },
        no_address: NoAddress::Deny,
        freshness: Some(Freshness { cut_at: 0, max_age: 60_000, when_stale: WhenStale::Deny }),
        open_connections: OpenConnections::Recheck,
        tag_header: "x-lists".to_owned(),
    }
}

fn decoded(snapshot: &Path) -> String {
    let decoder = concat!(env!("CARGO_MANIFEST_DIR"), "/decode_snapshot.py");
    let output = Command::new("python3").arg(decoder).arg(snapshot).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_same_decoder_reads_a_base_and_an_overlay() {
    let settings = Settings::default();
    let generation = Generation { epoch: 0, next_offset: 300, expiry: None };
    let new = NewSnapshot { name: "edgefold", generation, as_of: 7, settings: &settings, cut_at: 0 };
    let actions = [("default", ListAction::default()), ("a", ListAction::Tag), ("b", ListAction::Shadow)];
    let list = |at: usize, ranges: &[&str]| {
        let (name, action): (_, &ListAction) = (actions[at].0.parse().unwrap(), &actions[at].1);
        NewList { name, action, ranges: ranges.iter().map(|range| range.parse().unwrap()).collect::<Vec<IpRange>>() }
    };
    let removed = |range: &str| Some(vec![range.parse().unwrap()]);
    let base = new.encode_base([list(0, &["10.0.0.0/24", "2001:db8::/32"])]).unwrap();
    let fingerprint = Fingerprint::of(&base).unwrap();
    let overlay = new
        .encode_overlay(
            fingerprint,
            [
                NewOverlayList { added: list(0, &["10.0.0.1-10.0.0.255"]), removed: removed("10.0.0.0/24") },
                NewOverlayList { added: list(1, &["192.0.2.1"]), removed: None },
                NewOverlayList { added: list(2, &[]), removed: removed("2001:db8::/32") },
            ],
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot");
    let lines = |snapshot: &[u8]| {
        std::fs::write(&file, snapshot).unwrap();
        // Without the settings, which are as in a whole snapshot.
        decoded(&file).lines().filter(|line| !line.starts_with("# {")).map(str::to_owned).collect::<Vec<_>>()
    };
    let header = "name=edgefold epoch=0 next_offset=300 expiry=none as_of=7";
    let of_base = [
        &format!("# base {header}"),
        "# list default: deny 100%, ipv4=1 ipv6=1",
        "10.0.0.0\t10.0.0.255",
        "2001:db8::\t2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    assert_eq!(lines(&base), of_base);
    let of_overlay = [
        &format!("# overlay over {fingerprint} of {} bytes {header}", base.len()),
        "# list default: deny 100%, ipv4=1 ipv6=0",
        "10.0.0.1\t10.0.0.255",
        "# list a: tag, ipv4=1 ipv6=0",
        "192.0.2.1\t192.0.2.1",
        "# list b: shadow, ipv4=0 ipv6=0",
        "# removed from list default: some, ipv4=1 ipv6=0",
        "10.0.0.0\t10.0.0.255",
        "# removed from list a: all, ipv4=0 ipv6=0",
        "# removed from list b: some, ipv4=0 ipv6=1",
        "2001:db8::\t2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    assert_eq!(lines(&overlay), of_overlay);
}

#[test]
fn a_decoder_written_from_the_document_only_reads_every_kind_of_chunk() {
    let settings = settings();
    let folder = tempfile::tempdir().unwrap();
    for Sample { name, ranges } in samples() {
        let generation = Generation { epoch: 5, next_offset: 300, expiry: Some(70_000) };
        let new = NewSnapshot { name: "edgefold", generation, as_of: 70_000, settings: &settings, cut_at: 1 << 40 };
        // The same ranges on lists of every action.
        let refusal = Refusal { status: 503, body: "later".to_owned(), ..settings.refusal.clone() };
        let actions = [
            ("default", ListAction::Deny { share: "25%".parse().unwrap(), refusal: Some(refusal) }),
            ("a", ListAction::Shadow),
            ("b", ListAction::Exempt),
            ("c.d", ListAction::Tag),
            ("e", ListAction::default()),
        ];
        let lists = actions.iter().map(|(name, action)| {
            // One of them is empty.
            let ranges = if *name == "b" { &[][..] } else { &ranges };
            NewList { name: name.parse().unwrap(), action, ranges: ranges.iter().copied() }
        });
        let snapshot = new.encode(lists).unwrap();
        let file = folder.path().join("snapshot");
        std::fs::write(&file, snapshot).unwrap();
        let decoded = decoded(&file);

        let mut expected = "# whole name=edgefold epoch=5 next_offset=300 expiry=70000 as_of=70000\n".to_owned();
        let body = "\\u00e9".repeat(200);
        writeln!(
            expected,
            r##"# {{"mode": "shadow", "status": 429, "body": "{body}", "content_type": "text/html", "headers": ["x-why: blocked", "x-empty: "], "client_address": "header", "name": "x-real-ip", "trusted_hops": 300, "trusted_proxies": ["10.0.0.0-10.255.255.255", "2001:db8::-2001:db8::1"], "no_address": "deny", "cut_at": 1099511627776, "max_age": 60000, "when_stale": "deny", "open_connections": "recheck", "tag_header": "x-lists"}}"##
        )
        .unwrap();
        let v4 = ranges.iter().filter(|range| range.first().is_ipv4()).count();
        let v6 = ranges.len() - v4;
        for (list, does) in [
            (
                "default",
                r##"deny 25% {"status": 503, "body": "later", "content_type": "text/html", "headers": ["x-why: blocked", "x-empty: "]}"##.to_owned(),
            ),
            ("a", "shadow".to_owned()),
            ("b", "exempt".to_owned()),
            ("c.d", "tag".to_owned()),
            ("e", "deny 100%".to_owned()),
        ] {
            let (v4, v6) = if list == "b" { (0, 0) } else { (v4, v6) };
            writeln!(expected, "# list {list}: {does}, ipv4={v4} ipv6={v6}").unwrap();
            for range in ranges.iter().filter(|_| list != "b") {
                writeln!(expected, "{}\t{}", range.first(), range.last()).unwrap();
            }
        }
        for (line, (decoded, expected)) in decoded.lines().zip(expected.lines()).enumerate() {
            assert_eq!(decoded, expected, "{name}, line {}", line + 1);
        }
        assert_eq!(decoded.len(), expected.len(), "{name}");
    }
}
