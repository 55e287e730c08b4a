//! A fleet of real Envoys that get their snapshots over gRPC.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod commands;

use std::net::SocketAddr;

use edgefold_tests::{Edgefold, Envoy, FleetOptions, Serve, Xds, eventually};
use serde_json::Value;

use crate::commands::append;

/// So many single addresses, none beside another, that their table takes more than 64 KiB.
const MANY: u32 = 30_000;
const ALL: [Xds; 4] = [Xds::DeltaEcds, Xds::SotwEcds, Xds::DeltaAds, Xds::SotwAds];

/// Every third address of 20.0.0.0/8, from the place `from` on.
fn singles(verb: &str, from: u32, count: u32) -> impl Iterator<Item = String> {
    (from..from + count).map(move |place| format!("{verb} {}", std::net::Ipv4Addr::from((20 << 24) + 3 * place)))
}

fn large() -> Edgefold {
    let edgefold = Edgefold::sqlite();
    append(&edgefold, singles("BLACKLIST", 0, MANY));
    edgefold
}

fn envoy(edgefold: &Edgefold, id: &str, xds: Xds, replicas: &[SocketAddr]) -> Envoy {
    edgefold.envoy_over_xds(FleetOptions { id, xds, replicas, tls: None })
}

fn wait_for_status(envoy: &Envoy, client: &str, status: u16) {
    let connection = envoy.client("127.0.0.1");
    eventually(&format!("{status} for {client}"), || (connection.status_for(client) == status).then_some(()));
}

/// What `serve` says about the proxy with this id.
fn proxy(serve: &Serve, id: &str) -> Option<Value> {
    serve.admin("/fleet")["proxies"].as_array()?.iter().find(|proxy| proxy["node"] == id).cloned()
}

#[test]
fn each_protocol_takes_a_base_and_changes_over_it() {
    for xds in ALL {
        let edgefold = large().block(&["10.0.0.1"]);
        let serve = edgefold.serve_xds(&[]);
        let envoy = envoy(&edgefold, "edge-7", xds, &[serve.xds_address()]);
        wait_for_status(&envoy, "10.0.0.1", 403);
        wait_for_status(&envoy, "20.0.0.3", 403);
        wait_for_status(&envoy, "10.0.0.2", 200);
        let next_offset = append(&edgefold, ["BLACKLIST 10.0.0.2", "WHITELIST 20.0.0.3"]);
        let waited = serve.admin(&format!("/wait?next_offset={next_offset}"));
        assert_eq!(waited["enforced"], true, "{xds:?}: {waited}");
        let client = envoy.client("127.0.0.1");
        assert_eq!((client.status_for("10.0.0.2"), client.status_for("20.0.0.3")), (403, 200), "{xds:?}");
        let proxy = proxy(&serve, "edge-7").unwrap();
        assert_eq!(proxy["enforces_below"], next_offset, "{proxy}");
        println!("{xds:?} {proxy:#}");
        println!("{}", serve.output());
        println!(
            "{}",
            envoy
                .output()
                .lines()
                .filter(|line| line.contains("warn") || line.contains("reject"))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
}
