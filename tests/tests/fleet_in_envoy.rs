//! A fleet of real Envoys that get their snapshots over gRPC.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod certificates;
mod commands;
mod load;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use edgefold_tests::{Edgefold, Envoy, FleetOptions, Relay, Serve, Xds, eventually};
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::certificates::Certificates;
use crate::commands::{MANY, append, large, singles};
use crate::load::under_load;

const ALL: [Xds; 4] = [Xds::DeltaEcds, Xds::SotwEcds, Xds::DeltaAds, Xds::SotwAds];
const NOT_CONFIRMED: i32 = 4;

fn envoy(edgefold: &Edgefold, id: &str, xds: Xds, replicas: &[SocketAddr]) -> Envoy {
    edgefold.envoy_over_xds(FleetOptions { id, xds, replicas, tls: None })
}

/// Waits until a client gets this status.
#[track_caller]
fn wait_for_status(envoy: &Envoy, client: &str, status: u16) {
    let connection = envoy.client("127.0.0.1");
    eventually(&format!("{status} for {client}"), || (connection.status_for(client) == status).then_some(()));
}

/// Waits until every proxy that is connected to `serve` has said that it enforces all commands below this offset.
#[track_caller]
fn wait_until_enforced(serve: &Serve, next_offset: u64) {
    let waited = serve.admin(&format!("/wait?next_offset={next_offset}"));
    assert_eq!(waited["enforced"], true, "{waited:#}");
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
        // It listens only once it has both.
        let client = envoy.client("127.0.0.1");
        assert_eq!(["10.0.0.1", "20.0.0.3", "10.0.0.2"].map(|ip| client.status_for(ip)), [403, 403, 200], "{xds:?}");
        let next_offset = append(&edgefold, ["BLACKLIST 10.0.0.2", "WHITELIST 20.0.0.3"]);
        wait_until_enforced(&serve, next_offset);
        wait_for_status(&envoy, "10.0.0.2", 403);
        wait_for_status(&envoy, "20.0.0.3", 200);
        let proxy = proxy(&serve, "edge-7").unwrap();
        assert_eq!((&proxy["cluster"], &proxy["address"]), (&"edge".into(), &"127.0.0.1".into()));
        assert_eq!(proxy["enforces_below"], next_offset, "{proxy:#}");
        assert_eq!(serve.metric("edgefold_xds_connected_proxies"), Some(1));
        assert_eq!(serve.metric("edgefold_xds_proxies_behind"), Some(0));
        for histogram in ["edgefold_command_to_shipped_seconds_count", "edgefold_command_to_ack_seconds_count"] {
            serve.wait_for(histogram, 1);
        }
    }
}

#[test]
fn the_module_comes_with_the_resources_or_from_a_file() {
    let edgefold = large().block(&["10.0.0.1"]);
    let module = edgefold.path("filter.wasm");
    edgefold.run(&["module", "-o", &module]);
    for module in ["inline", &module] {
        let serve = edgefold.serve_xds(&["--xds-module", module]);
        let envoy = envoy(&edgefold, "edge-1", Xds::DeltaAds, &[serve.xds_address()]);
        assert_eq!(envoy.client("127.0.0.1").status_for("10.0.0.1"), 403, "{module}");
        assert_eq!(serve.metric("edgefold_xds_nacks_total"), Some(0), "{module}");
    }
}

/// Everything that can happen to a proxy and its replicas, one after the other. Each time it goes on from what it has, and no request
/// fails.
#[test]
fn no_accident_lets_a_request_fail_or_a_command_get_lost() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, client_ca] = issue(folder.path(), &Certificates::new("a"), &Certificates::new("b"));
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &client_ca];
    for xds in [Xds::DeltaEcds, Xds::DeltaAds, Xds::SotwAds] {
        let edgefold = large().block(&["10.0.0.1"]);
        let behind = edgefold.copy_of_log();
        let first = edgefold.serve_xds(&tls);
        let address = first.xds_address();
        let relay = Relay::start(address.port());
        // The second replica is not there yet.
        let other = edgefold.replica();
        let second = other.serve_xds(&tls);
        let other_address = second.xds_address();
        drop(second);
        let replicas = [relay.address(), other_address];
        let options = FleetOptions { id: "edge-1", xds, replicas: &replicas, tls: Some(folder.path()) };
        let envoy = edgefold.envoy_over_xds(options);
        let mut host = 0_u8;
        let mut block_another = || {
            host += 1;
            let next_offset = append(&edgefold, [format!("BLACKLIST 10.0.1.{host}")]);
            (format!("10.0.1.{host}"), next_offset)
        };
        let (port, other_port) = (address.to_string(), other_address.to_string());
        let same_port = [&tls[..], &["--xds", &port]].concat();
        let other_port = [&tls[..], &["--xds", &other_port]].concat();
        let answers = under_load(&envoy, || {
            // A restart, and commands in the meantime.
            assert!(first.stop().success());
            let (blocked, next_offset) = block_another();
            let first = edgefold.serve_xds(&same_port);
            wait_until_enforced(&first, next_offset);
            wait_for_status(&envoy, &blocked, 403);

            // A kill, and the other replica takes its place.
            first.kill();
            let second = other.serve_xds(&other_port);
            let (blocked, next_offset) = block_another();
            wait_until_enforced(&second, next_offset);
            wait_for_status(&envoy, &blocked, 403);

            // A replica that is behind takes the place of that one. What is enforced stays.
            assert!(second.stop().success());
            let late = behind.serve_xds(&other_port);
            eventually("the proxy at the replica that is behind", || proxy(&late, "edge-1"));
            for host in 1..=2 {
                assert_eq!(envoy.client("127.0.0.1").status_for(&format!("10.0.1.{host}")), 403);
            }
            drop(late);
            let second = other.serve_xds(&other_port);

            // A new base, and changes while it is made.
            let bases = second.metric("edgefold_bases_shipped_total").unwrap();
            append(&edgefold, singles("BLACKLIST", MANY, MANY / 2));
            let (blocked, _) = block_another();
            second.wait_for("edgefold_bases_shipped_total", bases + 1);
            let (another, next_offset) = block_another();
            wait_until_enforced(&second, next_offset);
            wait_for_status(&envoy, &blocked, 403);
            wait_for_status(&envoy, &another, 403);

            // Resources that it refuses: the module is not there.
            drop(second);
            let broken = other.serve_xds(&[&other_port[..], &["--xds-module", "/nowhere.wasm"]].concat());
            let (blocked, next_offset) = block_another();
            broken.wait_for("edgefold_xds_nacks_total", 3);
            let nack = proxy(&broken, "edge-1").unwrap();
            assert_ne!(nack["enforces_below"], next_offset, "{nack:#}");
            drop(broken);
            let second = other.serve_xds(&other_port);
            wait_until_enforced(&second, next_offset);
            wait_for_status(&envoy, &blocked, 403);
            drop(second);

            // The network between them is cut, and nobody says so.
            let first = edgefold.serve_xds(&same_port);
            let (_, next_offset) = block_another();
            wait_until_enforced(&first, next_offset);
            relay.hold();
            let second = other.serve_xds(&other_port);
            let (blocked, next_offset) = block_another();
            eventually("the proxy at the other replica", || proxy(&second, "edge-1"));
            wait_until_enforced(&second, next_offset);
            wait_for_status(&envoy, &blocked, 403);
            relay.mend();

            // Very many changes, one after the other.
            for text in (0..500).flat_map(|_| ["BLACKLIST 10.0.2.1", "WHITELIST 10.0.2.1"]) {
                append(&edgefold, [text]);
            }
            let (blocked, next_offset) = block_another();
            wait_until_enforced(&second, next_offset);
            wait_for_status(&envoy, &blocked, 403);
        });
        assert!(answers > 100, "{answers}");
    }
}

#[test]
fn with_every_replica_down_proxies_keep_enforcing_and_the_first_one_back_serves_a_restarted_one() {
    let edgefold = large().block(&["10.0.0.1"]);
    let serve = edgefold.serve_xds(&[]);
    let address = serve.xds_address();
    // Another one listens nowhere.
    let replicas = [address, ([127, 0, 0, 1], 1).into()];
    let old = envoy(&edgefold, "edge-1", Xds::DeltaAds, &replicas);
    serve.kill();
    assert_eq!(old.client("127.0.0.1").status_for("10.0.0.1"), 403);
    let restarted = std::thread::spawn({
        let edgefold = edgefold.clone();
        move || envoy(&edgefold, "edge-2", Xds::DeltaAds, &replicas)
    });
    let serve = edgefold.serve_xds(&["--xds", &address.to_string()]);
    let restarted = restarted.join().unwrap();
    wait_for_status(&restarted, "10.0.0.1", 403);
    eventually("both proxies", || proxy(&serve, "edge-1").and(proxy(&serve, "edge-2")));
    wait_until_enforced(&serve, append(&edgefold, ["BLACKLIST 10.0.0.2"]));
}

#[test]
fn a_command_can_be_waited_for() {
    let edgefold = large();
    let serve = edgefold.serve_xds(&[]);
    let url = serve.admin_url();
    let wait = |command: &[&str]| edgefold.outcome(&[command, &["--admin-url", &url]].concat());
    // Nobody is there.
    let alone = wait(&["block", "10.0.0.1", "--wait=1s"]);
    assert_eq!((alone.status, alone.stdout.lines().count()), (NOT_CONFIRMED, 1), "{}", alone.stderr);
    assert!(alone.stderr.contains("no proxy is connected"), "{}", alone.stderr);
    let envoys = ["edge-1", "edge-2"].map(|id| envoy(&edgefold, id, Xds::DeltaAds, &[serve.xds_address()]));
    let statuses = |client: &str| envoys.each_ref().map(|envoy| envoy.client("127.0.0.1").status_for(client));
    let blocked = wait(&["block", "10.0.0.2", "--wait"]);
    assert_eq!(blocked.status, 0, "{}", blocked.stderr);
    assert!(blocked.stderr.contains("2 proxies enforce it"), "{}", blocked.stderr);
    assert_eq!(statuses("10.0.0.2"), [403, 403]);
    // What changes nothing is enforced already.
    assert_eq!(wait(&["block", "10.0.0.2", "--wait"]).status, 0);
    assert_eq!(wait(&["allow", "10.0.0.2", "--wait"]).status, 0);
    assert_eq!(statuses("10.0.0.2"), [200, 200]);
    assert_eq!(wait(&["add", "10.0.0.2", "--list", "feed", "--wait"]).status, 0);
    assert_eq!(wait(&["lists", "set", "feed", "--action", "tag", "--wait"]).status, 0);
    assert_eq!(statuses("10.0.0.2"), [200, 200]);
    let feed = edgefold.path("imported");
    std::fs::write(&feed, "10.0.0.2\n").unwrap();
    let imported = wait(&["import", &feed, "--list", "imported", "--sync", "--wait"]);
    assert_eq!((imported.status, statuses("10.0.0.2")), (0, [403, 403]), "{}", imported.stderr);
    let offset = edgefold.run(&["log", "-o", "raw"]).lines().last().unwrap().split('\t').next().unwrap().to_owned();
    assert_eq!(wait(&["undo", &offset, "--wait"]).status, 0);
    assert_eq!(statuses("10.0.0.2"), [200, 200]);
    let fleet = edgefold.run(&["fleet", "--admin-url", &url]);
    assert_eq!(fleet.matches("enforces all").count(), 2, "{fleet}");
    let raw = edgefold.run(&["fleet", "--admin-url", &url, "-o", "raw"]);
    assert!(raw.lines().all(|line| line.split('\t').count() == 6) && raw.lines().count() == 2, "{raw}");

    // One of them is cut off, and does not notice.
    let relay = Relay::start(serve.xds_address().port());
    let cut_off = envoy(&edgefold, "edge-3", Xds::DeltaAds, &[relay.address()]);
    assert_eq!(wait(&["block", "10.0.0.3", "--wait"]).status, 0);
    relay.hold();
    let late = wait(&["block", "10.0.0.4", "--wait=1s"]);
    assert_eq!(late.status, NOT_CONFIRMED, "{}", late.stderr);
    assert!(late.stderr.contains("edge-3 at 127.0.0.1: behind") && !late.stderr.contains("edge-1"), "{}", late.stderr);
    assert_eq!(edgefold.outcome(&["fleet", "--admin-url", &url]).status, 1);
    let json: Value =
        serde_json::from_str(&edgefold.outcome(&["fleet", "--admin-url", &url, "-o", "json"]).stdout).unwrap();
    assert_eq!(json[0]["proxies"].as_array().unwrap().len(), 3, "{json:#}");
    relay.mend();
    assert_eq!(wait(&["block", "10.0.0.5", "--wait"]).status, 0);
    assert_eq!(cut_off.client("127.0.0.1").status_for("10.0.0.5"), 403);

    // One of two servers is not there: what the other knows is printed all the same.
    let two = edgefold.outcome(&["fleet", "--admin-url", &format!("http://127.0.0.1:1,{url}"), "-o", "raw"]);
    assert_eq!((two.status, two.stdout.lines().count()), (2, 3), "{}", two.stderr);
    assert!(two.stderr.contains("http://127.0.0.1:1"), "{}", two.stderr);

    // The server is not there.
    drop(serve);
    let unknown = wait(&["block", "10.0.0.6", "--wait"]);
    assert_eq!((unknown.status, unknown.stdout.lines().count()), (NOT_CONFIRMED, 1), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("--admin-url"), "{}", unknown.stderr);
    assert_eq!(edgefold.outcome(&["fleet", "--admin-url", &url]).status, 2);
}

/// The files of TLS in a folder, under the names of the example.
fn issue(folder: &Path, ca: &Certificates, server: &Certificates) -> [String; 3] {
    let [certificate, key] = server.issue_for("edgefold", folder, "server");
    ca.issue(folder, "client");
    ca.ca_file(folder, "client-ca.crt");
    server.ca_file(folder, "ca.crt");
    [certificate, key, folder.join("client-ca.crt").to_str().unwrap().to_owned()]
}

#[test]
fn over_tls_with_client_certificates_and_a_new_certificate_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (old_ca, new_ca) = (Certificates::new("old"), Certificates::new("new"));
    let edgefold = large().block(&["10.0.0.1"]);
    let [certificate, key, client_ca] = issue(folder.path(), &old_ca, &old_ca);
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &client_ca];
    let serve = edgefold.serve_xds(&tls);
    let start = |id| {
        let replicas = [serve.xds_address()];
        edgefold.envoy_over_xds(FleetOptions { id, xds: Xds::DeltaAds, replicas: &replicas, tls: Some(folder.path()) })
    };
    let before = start("edge-1");
    assert_eq!(before.client("127.0.0.1").status_for("10.0.0.1"), 403);

    // Who may connect.
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let connect = |identity: Option<[Vec<u8>; 2]>, ca: &[u8]| -> std::io::Result<usize> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some([certificate, key]) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
                    PrivateKeyDer::from_pem_slice(&key).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let session = ClientConnection::new(Arc::new(config), "edgefold".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(session, TcpStream::connect(serve.xds_address())?);
        // The preface of HTTP/2 and empty settings, to which the server answers with its own.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")?;
        stream.read(&mut [0; 64])
    };
    let ca = read("ca.crt");
    assert!(connect(Some([read("client.crt"), read("client.key")]), &ca).unwrap() > 0);
    assert!(connect(None, &ca).is_err(), "without a certificate");
    let [forged, forged_key] = new_ca.issue(folder.path(), "forged").map(|file| std::fs::read(file).unwrap());
    assert!(connect(Some([forged, forged_key]), &ca).is_err(), "with one of somebody else");
    let plain = reqwest::blocking::Client::builder().http2_prior_knowledge().build().unwrap();
    assert!(plain.get(format!("http://{}/", serve.xds_address())).send().is_err(), "without TLS");

    // A new certificate of another authority, while proxies are connected.
    issue(folder.path(), &old_ca, &new_ca);
    let identity = || Some([read("client.crt"), read("client.key")]);
    eventually("the new certificate", || connect(identity(), &read("ca.crt")).ok());
    let after = start("edge-2");
    wait_until_enforced(&serve, append(&edgefold, ["BLACKLIST 10.0.0.2"]));
    for envoy in [&before, &after] {
        wait_for_status(envoy, "10.0.0.2", 403);
    }
    // A file that is damaged changes nothing.
    std::fs::write(&certificate, "damaged").unwrap();
    serve.wait_for_log_line("the old certificate stays in use");
    assert!(connect(identity(), &read("ca.crt")).unwrap() > 0);
}

#[test]
fn replicas_share_their_base_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other_ca) = (Certificates::new("right"), Certificates::new("other"));
    let [certificate, key] = ca.issue(folder.path(), "replica");
    let client_ca = ca.ca_file(folder.path(), "ca.crt");
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &client_ca];
    let edgefold = large();
    let first = edgefold.serve_xds(&tls);
    let shipped = |serve: &Serve| serve.admin("/check?ip=192.0.2.1")["version"].clone();
    // Something changes, so that a replica that starts now would make another base.
    first.wait_until_shipped(append(&edgefold, ["BLACKLIST 10.0.0.1"]));
    let peer = format!("https://{}", first.xds_address());
    let start = |tls: &[&str]| edgefold.replica().serve_xds(&[tls, &["--xds-peer", &peer]].concat());
    assert_eq!(shipped(&start(&tls)), shipped(&first));
    // Found by a trial: the key of another certificate ended the process with a panic.
    let [_, other_key] = ca.issue(folder.path(), "another");
    let mismatch = ["serve", "--xds", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &other_key];
    let mismatch = [&mismatch[..], &["--tls-client-ca", &client_ca, "--xds-peer", &peer]].concat();
    edgefold.outcome(&mismatch).assert_failed(2, "replica.crt and ");
    // One that the peer does not let in makes its own.
    let [forged, forged_key] = other_ca.issue(folder.path(), "forged");
    let stranger = start(&["--tls-cert", &forged, "--tls-key", &forged_key, "--tls-client-ca", &client_ca]);
    assert_ne!(shipped(&stranger), shipped(&first));
    stranger.wait_for_log_line("cannot ask the replica at https://");
    first.wait_for_log_line("the TLS handshake failed");
}

#[test]
fn nobody_listens_to_the_world_by_accident() {
    let edgefold = Edgefold::sqlite();
    let refused = edgefold.outcome(&["serve", "--xds", "0.0.0.0:0"]);
    refused.assert_failed(64, "--tls-cert");
    let serve = edgefold.serve_xds(&["--xds", "0.0.0.0:0", "--plaintext"]);
    assert!(serve.xds_address().ip().is_unspecified());
    let missing = edgefold.outcome(&["serve", "--xds", "127.0.0.1:0", "--tls-cert", "no.crt", "--tls-key", "no.key"]);
    missing.assert_failed(2, "no.crt");
    let both = edgefold.outcome(&["serve", "--xds", "127.0.0.1:0", "--ecds-file", &edgefold.path("edgefold.pb")]);
    both.assert_failed(64, "--base-ecds-file");
    let refused = |args: &[&str], words: &str| {
        edgefold.outcome(&[&["serve", "--xds", "127.0.0.1:0"], args].concat()).assert_failed(64, words);
    };
    refused(&["--xds-module", "inlne"], "write remote, inline");
    refused(&["--xds-peer", "edgefold-2:18000"], "write a URL without a path");
    refused(&["--xds-peer", "http://edgefold-2:18000/base"], "write a URL without a path");
    refused(&["--xds-peer", "https://edgefold-2:18000"], "--tls-client-ca");
    for url in ["https://127.0.0.1:9464", "localhost:9464"] {
        edgefold.outcome(&["fleet", "--admin-url", url]).assert_failed(64, "write http://");
    }
}
