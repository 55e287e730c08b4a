//! A second reader of the format, in Python and written from docs/format.md alone, reads what edgefold writes.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "../../table/tests/samples/mod.rs"]
mod samples;

use std::fmt::Write as _;
use std::process::Command;

use edgefold_table::{
    ClientAddress, Freshness, Generation, IpRange, Mode, NoAddress, OpenConnections, Refusal, Settings, Snapshot,
    WhenStale,
};
use samples::{Sample, samples};

/// As little of what is there by default as can be.
fn settings() -> Settings {
    let range = |first: &str, last: &str| IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
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
            trusted_proxies: vec![range("10.0.0.0", "10.255.255.255"), range("2001:db8::", "2001:db8::1")],
        },
        no_address: NoAddress::Deny,
        freshness: Some(Freshness { cut_at: 1 << 40, max_age: 60_000, when_stale: WhenStale::Deny }),
        open_connections: OpenConnections::Recheck,
    }
}

#[test]
fn a_decoder_from_the_document_alone_reads_every_kind_of_chunk() {
    let decoder = concat!(env!("CARGO_MANIFEST_DIR"), "/decode_snapshot.py");
    let folder = tempfile::tempdir().unwrap();
    for Sample { name, ranges } in samples() {
        let generation = Generation { next_offset: 300, expiry: Some(70_000) };
        let snapshot = Snapshot::build("edgefold", generation, 70_000, settings(), ranges.clone()).unwrap();
        let file = folder.path().join("snapshot");
        std::fs::write(&file, snapshot).unwrap();
        let output = Command::new("python3").arg(decoder).arg(&file).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));

        let v4 = ranges.iter().filter(|range| range.first().is_ipv4()).count();
        let mut expected =
            format!("# list=edgefold next_offset=300 expiry=70000 as_of=70000 ipv4={v4} ipv6={}\n", ranges.len() - v4);
        let body = "\\u00e9".repeat(200);
        writeln!(
            expected,
            r##"# {{"mode": "shadow", "status": 429, "body": "{body}", "content_type": "text/html", "headers": ["x-why: blocked", "x-empty: "], "client_address": "header", "name": "x-real-ip", "trusted_hops": 300, "trusted_proxies": ["10.0.0.0-10.255.255.255", "2001:db8::-2001:db8::1"], "no_address": "deny", "cut_at": 1099511627776, "max_age": 60000, "when_stale": "deny", "open_connections": "recheck"}}"##
        )
        .unwrap();
        for range in &ranges {
            writeln!(expected, "{}\t{}", range.first(), range.last()).unwrap();
        }
        let decoded = String::from_utf8(output.stdout).unwrap();
        for (line, (decoded, expected)) in decoded.lines().zip(expected.lines()).enumerate() {
            assert_eq!(decoded, expected, "{name}, line {}", line + 1);
        }
        assert_eq!(decoded.len(), expected.len(), "{name}");
    }
}
