//! From a command in the log to an answer of a real Envoy.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[allow(dead_code, reason = "the cases of the module itself use more of it")]
mod wasm_host;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use edgefold::ecds::{Filter, discovery_response, replace_file, snapshot_in};
use edgefold_filter::decision::{Verdict, decide};
use edgefold_table::{OpenConnections, Snapshot};
use edgefold_tests::{Client, Edgefold, Envoy, EnvoyOptions, Kafka, eventually, tool};
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// One trusted proxy in front, so that X-Forwarded-For says who the client is.
const BEHIND_A_PROXY: EnvoyOptions =
    EnvoyOptions { example: "envoy.yaml", trusted_hops: Some(1), port: 0, admin_port: 0, edits: &[] };

/// The resource of the HTTP filter with these bytes in place of a snapshot.
fn http_resource(version: &str, snapshot: &[u8]) -> Vec<u8> {
    let policy = FailurePolicy::FailReload;
    discovery_response(Filter::Http, "edgefold", version, version, snapshot, OpenConnections::Keep, policy)
}

fn expect(client: &Client, ip: &str, status: u16) {
    eventually(&format!("{status} for {ip}"), || (client.status_for(ip) == status).then_some(()));
}

#[test]
fn the_story_over_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    story(&Edgefold::sqlite(directory.path()), directory.path());
}

#[test]
fn the_story_over_kafka() {
    let directory = tempfile::tempdir().unwrap();
    let kafka = Kafka::start();
    story(&Edgefold::new(&kafka.log("story"), directory.path()), directory.path());
}

/// By the addresses of the connections themselves: no X-Forwarded-For is believed.
fn story(edgefold: &Edgefold, directory: &std::path::Path) {
    edgefold.run(&["init"]);
    let serve = edgefold.serve(&[]);
    let envoy = Envoy::start(directory, &edgefold.ecds_file(), EnvoyOptions::default());
    let (client, neighbour) = (envoy.client("127.0.0.100"), envoy.client("127.0.0.101"));
    assert_eq!(client.get(), (200, "hello from upstream\n".to_owned()));
    edgefold.run(&["block", "127.0.0.64/26"]);
    eventually("403 for the blocked client", || (client.get() == (403, "Forbidden\n".to_owned())).then_some(()));
    assert_eq!(client.status_for("192.0.2.1"), 403, "a forged X-Forwarded-For does not help");
    edgefold.run(&["allow", "127.0.0.100"]);
    eventually("200 for the allowed client", || (client.get().0 == 200).then_some(()));
    assert_eq!(neighbour.get().0, 403);
    assert!(serve.stop().success(), "serve stops cleanly");
    assert_eq!((client.get().0, neighbour.get().0), (200, 403), "what was shipped serves on");

    // A restart finds all of it again, and does not send Envoy what it has.
    let shipped = std::fs::metadata(edgefold.ecds_file()).unwrap().modified().unwrap();
    let serve = edgefold.serve(&[]);
    assert_eq!(std::fs::metadata(edgefold.ecds_file()).unwrap().modified().unwrap(), shipped);
    assert!(serve.output().contains("caught up at offset 2"), "{}", serve.output());
    edgefold.run(&["allow", "127.0.0.0/8"]);
    eventually("200 for the neighbour", || (neighbour.get().0 == 200).then_some(()));
}

#[test]
fn the_example_that_edgefold_comes_from() {
    let directory = tempfile::tempdir().unwrap();
    let kafka = Kafka::start();
    for (prefix, range) in [("block", "10.0.0.0/24"), ("range", "10.0.0.1-10.0.0.255")] {
        let edgefold = Edgefold::new(&kafka.log(prefix), directory.path());
        edgefold.run(&["init"]);
        let _serve = edgefold.serve(&[]);
        let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), BEHIND_A_PROXY);
        let client = envoy.client("127.0.0.1");
        assert_eq!(client.status_for("10.0.0.99"), 200);
        edgefold.run(&["block", range, "--at", "2016-09-12 15:32:00"]);
        expect(&client, "10.0.0.99", 403);
        let first = ["10.0.0.1 → 10.0.0.255", "@offset → 1 2016-09-12T15:32:00Z"];
        if prefix == "range" {
            eventually("the first transaction", || (topic(&kafka, "range.ranges") == first).then_some(()));
        }
        edgefold.run(&["allow", "10.0.0.100/32", "--at", "2016-09-12 16:01:13"]);
        expect(&client, "10.0.0.100", 200);
        for (ip, status) in [("10.0.0.99", 403), ("10.0.0.101", 403), ("10.0.0.100", 200), ("::ffff:10.0.0.99", 403)] {
            assert_eq!(client.status_for(ip), status, "{ip}");
        }
        let check = edgefold.output(&["check", "10.0.0.99", "10.0.0.100", "10.0.0.101", "-o", "raw"]);
        assert_eq!(check.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&check.stdout).contains("\n10.0.0.100\t-\t-\t-\n"));
        if prefix == "range" {
            let second = ["10.0.0.1 → 10.0.0.99", "10.0.0.101 → 10.0.0.255", "@offset → 2 2016-09-12T16:01:13Z"];
            let both: Vec<_> = first.into_iter().chain(second).collect();
            eventually("the second transaction", || (topic(&kafka, "range.ranges") == both).then_some(()));
            assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.1\t10.0.0.99\t-\n10.0.0.101\t10.0.0.255\t-\n");
        }
    }
}

/// All committed records of a topic, as the design writes them.
fn topic(kafka: &Kafka, name: &str) -> Vec<String> {
    let text = |text: Option<String>| text.unwrap_or("-".to_owned());
    kafka.records(name).into_iter().map(|record| format!("{} → {}", text(record.key), text(record.value))).collect()
}

#[test]
fn records_that_cannot_be_read_never_stop_the_fold() {
    let directory = tempfile::tempdir().unwrap();
    let kafka = Kafka::start();
    let edgefold = Edgefold::new(&kafka.log("rejects"), directory.path());
    edgefold.run(&["init"]);
    let serve = edgefold.serve(&[]);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let send = |key: Option<&[u8]>, value: Option<&[u8]>| {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to("rejects.commands").partition(0);
        (record.key, record.payload) = (key, value);
        producer.send(record).unwrap();
    };
    let key = Some(&b"2026-11-23T00:00:00Z"[..]);
    send(key, None);
    send(None, None);
    send(key, Some(b"\xff\xfe"));
    send(key, Some(b"BLACKLIST 10.0.0.5/24"));
    send(key, Some(&[b'x'; 100_000]));
    send(Some(b"\xff"), Some(b"BLACKLIST 10.0.0.7"));
    producer.flush(Duration::from_secs(20)).unwrap();
    eventually("the good record behind the bad ones", || serve.output().contains("shipped generation 6").then_some(()));
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.7\t10.0.0.7\t-\n", "whose time is the record's timestamp");
    assert!(serve.output().contains("skipped the record at offset 3: 10.0.0.5/24 has host bits set"));
    assert_eq!(serve.output().matches("skipped the record").count(), 5);
}

#[test]
fn of_two_snapshotters_both_ship_and_one_keeps_the_view() {
    let kafka = Kafka::start();
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = directories.each_ref().map(|directory| Edgefold::new(&kafka.log("two"), directory.path()));
    one.run(&["init"]);
    let serves = [one.serve(&[]), other.serve(&[])];
    one.run(&["block", "10.0.0.0/24", "--at", "2026-11-23T00:00:00Z"]);
    for serve in &serves {
        eventually("both to ship", || serve.output().contains("shipped generation 1").then_some(()));
    }
    let view = ["10.0.0.0 → 10.0.0.255", "@offset → 1 2026-11-23T00:00:00Z"];
    eventually("the view, written once", || (topic(&kafka, "two.ranges") == view).then_some(()));
    let [one, other] = [one, other].map(|edgefold| snapshot_in(&std::fs::read(edgefold.ecds_file()).unwrap()).unwrap());
    assert!(one == other, "replicas ship the same snapshot");
}

#[test]
fn topics_that_would_lose_data_are_refused() {
    use edgefold::log::{Log, LogError};
    let kafka = Kafka::start();
    let admin: rdkafka::admin::AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let create = |name: &str, partitions, settings: &[(&str, &str)]| {
        let topic = rdkafka::admin::NewTopic::new(name, partitions, rdkafka::admin::TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let created = futures_executor::block_on(admin.create_topics([&topic], &Default::default())).unwrap();
        created.into_iter().for_each(|result| drop(result.unwrap()));
    };
    create("many.commands", 2, &[("retention.ms", "-1")]);
    create("short.commands", 1, &[("retention.ms", "3600000")]);
    create("short.ranges", 1, &[("cleanup.policy", "delete")]);
    create("compacted.commands", 1, &[("cleanup.policy", "compact"), ("retention.bytes", "1000000")]);
    create("risky.commands", 1, &[("retention.ms", "-1"), ("unclean.leader.election.enable", "true")]);
    create("risky.ranges", 1, &[("cleanup.policy", "compact"), ("delete.retention.ms", "60000")]);
    let log = |prefix| edgefold::log::kafka::KafkaLog::new(&kafka.brokers(), prefix, &[]).unwrap();
    let error = log("many").init().unwrap_err().to_string();
    assert!(error.contains("topic many.commands has 2 partitions, but must have 1"), "{error}");
    let error = log("many").commands(0).map(drop).unwrap_err();
    assert!(matches!(error, LogError::Settings(_)), "{error}");
    let error = log("short").init().unwrap_err().to_string();
    assert!(error.contains("topic short.commands has retention.ms=3600000, but must have retention.ms=-1"), "{error}");
    assert!(
        error.contains("topic short.ranges has cleanup.policy=delete, but must have cleanup.policy=compact"),
        "{error}"
    );
    let error = log("compacted").init().unwrap_err().to_string();
    for words in ["cleanup.policy=compact, but must have cleanup.policy=delete", "retention.bytes=1000000, but must"] {
        assert!(error.contains(words), "{error}");
    }
    // A command that is too large for its topic is refused, and nobody need wonder whether it is in.
    create("tiny.commands", 1, &[("retention.ms", "-1"), ("max.message.bytes", "450")]);
    create("tiny.ranges", 1, &[("cleanup.policy", "compact"), ("max.message.bytes", "150")]);
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::new(&kafka.log("tiny"), directory.path());
    let serve = edgefold.serve(&[]);
    let output = edgefold.output(&["block", "10.0.0.1", "--reason", &"x".repeat(500)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && stderr.ends_with("; nothing was appended\n"), "{stderr}");
    // And a view that takes no transaction does not keep a block from its way to Envoy.
    edgefold.run(&["block", "10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.7"]);
    eventually("the blocks to be shipped", || serve.output().contains("shipped generation 4").then_some(()));
    eventually("the trouble", || serve.output().contains("cannot keep the view of ranges").then_some(()));
    edgefold.run(&["allow", "10.0.0.3"]);
    eventually("the next one to be shipped", || serve.output().contains("shipped generation 5").then_some(()));
    drop(serve);
    // `serve` refuses what loses data, and warns of the rest.
    let serve = |prefix: &str| {
        let file = directory.path().join("edgefold.pb");
        Edgefold::new(&kafka.log(prefix), directory.path()).output(&["serve", "--ecds-file", file.to_str().unwrap()])
    };
    for (prefix, words) in [
        ("many", "topic many.commands has 2 partitions, but must have 1"),
        (
            "short",
            "topic short.commands has retention.ms=3600000, but must have retention.ms=-1: old commands are deleted",
        ),
        ("compacted", "topic compacted.commands has cleanup.policy=compact, but must have cleanup.policy=delete"),
        ("nowhere", "there is no log at topic nowhere.commands: create it with `edgefold init`"),
    ] {
        let output = serve(prefix);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(words), "{prefix}: {stderr}");
    }
    let risks = log("risky").init().unwrap();
    assert_eq!(risks.len(), 3, "{risks:?}");
    let serve = Edgefold::new(&kafka.log("risky"), directory.path()).serve(&[]);
    for words in [
        "topic risky.commands has unclean.leader.election.enable=true, but should have unclean.leader.election.enable=false",
        "topic risky.ranges has delete.retention.ms=60000, but should have delete.retention.ms of at least 3600000",
        "topic risky.ranges has min.compaction.lag.ms=0, but should have min.compaction.lag.ms of at least 3600000",
    ] {
        assert!(serve.output().contains(words) && risks.iter().any(|risk| risk.contains(words)), "{words}");
    }
}

#[test]
fn credentials_that_are_refused_are_told_and_tried_again() {
    let kafka = Kafka::start();
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::new(&kafka.secured_log("secured"), directory.path());
    let with = |password: &str| -> Vec<String> {
        let password = format!("sasl.password={password}");
        let properties =
            ["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=edgefold", &password];
        properties.iter().flat_map(|property| ["-X".to_owned(), (*property).to_owned()]).collect()
    };
    let (right, wrong) = (with("right"), with("wrong"));
    let args = |args: &[&str], with: &[String]| -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).chain(with.iter().cloned()).collect()
    };
    let run = |args: Vec<String>| edgefold.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(run(args(&["init"], &right)).status.success());
    assert!(run(args(&["block", "10.0.0.1"], &right)).status.success());
    let output = run(args(&["block", "10.0.0.2"], &wrong));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("Authentication failed") && stderr.contains("nothing was appended"), "{stderr}");
    let serve = edgefold.start_serve(&wrong.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("its words", || {
        let output = serve.output();
        (output.contains("Authentication failed") && output.contains("trying again in")).then_some(())
    });
    drop(serve);
    let output = run(args(&["list", "-o", "raw"], &right));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10.0.0.1\t10.0.0.1\t-\n");
}

#[test]
fn a_missing_ranges_topic_is_created_and_rebuilt() {
    let kafka = Kafka::start();
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::new(&kafka.log("lost"), directory.path());
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.0/24", "--at", "2026-11-23T00:00:00Z"]);
    let admin: rdkafka::admin::AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let delete = || {
        let deleted = futures_executor::block_on(admin.delete_topics(&["lost.ranges"], &Default::default())).unwrap();
        deleted.into_iter().for_each(|result| drop(result.unwrap()));
        eventually("the topic to be gone", || (edgefold.output(&["verify"]).status.code() == Some(1)).then_some(()));
    };
    delete();
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.0\t10.0.0.255\t-\n", "the commands are enough");
    let serve = edgefold.serve(&["--admin", "127.0.0.1:0"]);
    assert!(serve.output().contains("replaying all commands, since the view of ranges is of no use"));
    eventually("the rebuild", || serve.output().contains("keeping the view of ranges now").then_some(()));
    assert!(serve.output().contains("created topic lost.ranges"));
    let view = ["10.0.0.0 → 10.0.0.255", "@offset → 1 2026-11-23T00:00:00Z"];
    eventually("the view", || (topic(&kafka, "lost.ranges") == view).then_some(()));
    // And the metrics say who it is and how far it has come.
    let output = serve.output();
    let address = output.split("metrics at http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let metrics = || reqwest::blocking::get(format!("http://{address}/metrics")).unwrap().text().unwrap();
    eventually("the writer's metrics", || metrics().contains("\nedgefold_writer 1\n").then_some(()));
    for line in
        ["edgefold_next_offset 1", "edgefold_view_next_offset 1", "edgefold_ranges 1", "edgefold_rejected_records 0"]
    {
        assert!(metrics().contains(&format!("\n{line}\n")), "{line} in {}", metrics());
    }
    // Gone and created anew behind the back of its writer: the edits of the next command alone would be no view.
    delete();
    edgefold.run(&["init"]);
    edgefold.run(&["block", "192.0.2.1", "--at", "2026-11-23T00:00:01Z"]);
    let both = ["10.0.0.0 → 10.0.0.255", "192.0.2.1 → 192.0.2.1", "@offset → 2 2026-11-23T00:00:01Z"];
    eventually("the whole view", || (topic(&kafka, "lost.ranges") == both).then_some(()));
    assert!(serve.output().contains("cannot keep the view of ranges"));
}

#[test]
fn a_bad_snapshot_is_refused_and_the_last_good_one_serves() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.0/24"]);
    let serve = edgefold.serve(&[]);
    let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    let good = snapshot_in(&std::fs::read(edgefold.ecds_file()).unwrap()).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut other_version = good.clone();
    other_version[8] = 99;
    for (round, (bad, reason)) in [
        (flipped, "damaged or truncated"),
        (good[..good.len() - 9].to_vec(), "damaged or truncated"),
        (other_version, "format version 99, but this build reads version 3"),
        (b"hello".to_vec(), "not an edgefold snapshot"),
        (Vec::new(), "no bytes at all"),
    ]
    .into_iter()
    .enumerate()
    {
        let response = http_resource(&format!("bad-{round}"), &bad);
        let refusals = || envoy.output().matches("snapshot refused").count();
        let before = refusals();
        replace_file(&edgefold.ecds_file(), &response).unwrap();
        eventually("the refusal", || (refusals() > before).then_some(()));
        assert!(envoy.output().contains(reason), "Envoy's log says why: {reason}");
        assert_eq!((client.status_for("10.0.0.7"), client.status_for("10.0.1.7")), (403, 200), "{reason}");
    }
    // And the next good one is taken.
    edgefold.run(&["block", "10.0.1.0/24"]);
    expect(&client, "10.0.1.7", 403);
    drop(serve);
}

#[test]
fn before_the_first_good_snapshot_requests_pass_as_the_configuration_says() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.0/24"]);
    let bad = http_resource("bad", b"no snapshot");
    replace_file(&edgefold.ecds_file(), &bad).unwrap();
    let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    assert_eq!(client.status_for("10.0.0.7"), 200);
    let _serve = edgefold.serve(&[]);
    expect(&client, "10.0.0.7", 403);
}

#[test]
fn a_client_without_an_address_follows_the_policy() {
    for (policy, status) in [("allow", 200), ("deny", 403)] {
        let directory = tempfile::tempdir().unwrap();
        let edgefold = Edgefold::sqlite(directory.path());
        edgefold.run(&["init"]);
        edgefold.run(&["block", "0.0.0.0/0", "::/0"]);
        edgefold.run(&["allow", "127.0.0.1"]);
        let _serve = edgefold.serve(&["--no-address", policy]);
        let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), EnvoyOptions::default());
        assert_eq!(envoy.client_without_address().get().0, status, "{policy}");
        assert_eq!((envoy.client("127.0.0.1").get().0, envoy.client("127.0.0.2").get().0), (200, 403), "{policy}");
    }
}

#[test]
fn a_block_ends_without_a_command() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    let serve = edgefold.serve(&[]);
    let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    edgefold.run(&["block", "10.0.0.0/24", "--ttl", "3s"]);
    expect(&client, "10.0.0.7", 403);
    expect(&client, "10.0.0.7", 200);
    assert!(serve.output().contains("shipped generation 1@"), "the generation names the expiry: {}", serve.output());
}

/// Random ranges, and addresses in and around them: native, as wasm in wasmtime, and in a real Envoy.
#[test]
fn native_wasmtime_and_envoy_agree() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    let mut runner = TestRunner::default();
    let pairs = proptest::collection::vec((any::<u16>(), any::<u16>(), any::<bool>()), 200);
    let pairs = pairs.new_tree(&mut runner).unwrap().current();
    // Both families squeezed into a small space, so that ranges split and join.
    let ip = |low: u16, six: bool| -> IpAddr {
        match six {
            false => Ipv4Addr::from_bits(0xcb00_0000 | u32::from(low)).into(),
            true => Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(low)).into(),
        }
    };
    let range = |&(low, length, six): &(u16, u16, bool)| {
        format!("{}-{}", ip(low, six), ip(low.saturating_add(length / 64), six))
    };
    let (blocks, allows) = pairs.split_at(150);
    let args = |verb: &str, ranges: &[(u16, u16, bool)]| -> Vec<String> {
        [verb.to_owned()].into_iter().chain(ranges.iter().map(range)).collect()
    };
    for args in [args("block", blocks), args("allow", allows)] {
        edgefold.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let _serve = edgefold.serve(&[]);
    let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    let bytes = snapshot_in(&std::fs::read(edgefold.ecds_file()).unwrap()).unwrap();
    let mut host = wasm_host::Host::start();
    assert!(host.configure(&bytes));
    let snapshot = Snapshot::open(bytes).unwrap();
    let mut verdicts = [0, 0];
    for (low, length, six) in pairs {
        for at in
            [low.wrapping_sub(1), low, low.saturating_add(length / 64), low.saturating_add(length / 64).wrapping_add(1)]
        {
            let ip = ip(at, six);
            let source = if six { format!("[{ip}]:80") } else { format!("{ip}:80") };
            let native = decide(&snapshot, false, Some(ip)) != Verdict::Pass;
            let wasm = host.request_from(Some(source.as_bytes())) != wasm_host::Response::Passed;
            let envoy = client.status_for(&ip.to_string()) == 403;
            assert_eq!((native, wasm), (envoy, envoy), "{ip}");
            verdicts[usize::from(native)] += 1;
        }
    }
    assert!(verdicts.iter().all(|&count| count > 100), "both verdicts were met: {verdicts:?}");
}

/// The networks with the most ranges, out of a real list, against a plain scan of it.
#[test]
fn real_networks_are_blocked_as_a_scan_of_their_list_says() {
    const NETWORKS: [u32; 3] = [174, 16509, 4134];
    struct Row {
        first: IpAddr,
        last: IpAddr,
        network: u32,
    }
    let mut rows = Vec::new();
    for file in ["asn/asn-ipv4.csv", "asn/asn-ipv6.csv"] {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(tool(file)).unwrap();
        for row in reader.records().map(Result::unwrap) {
            let ip = |field: usize| row[field].parse::<IpAddr>().unwrap();
            rows.push(Row { first: ip(0), last: ip(1), network: row[2].parse().unwrap() });
        }
    }
    assert!(rows.len() > 400_000, "a real list");
    let blocked: Vec<&Row> = rows.iter().filter(|row| NETWORKS.contains(&row.network)).collect();
    assert!(blocked.len() > 10_000 && blocked.iter().any(|row| row.first.is_ipv6()));

    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    let ranges: Vec<String> = blocked.iter().map(|row| format!("{}-{}", row.first, row.last)).collect();
    for ranges in ranges.chunks(2000) {
        let args: Vec<&str> = ["block"].into_iter().chain(ranges.iter().map(String::as_str)).collect();
        edgefold.run(&args);
    }
    let _serve = edgefold.serve(&[]);
    let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");

    // Evenly over the whole list, and over what is blocked; at the edges of each range and one beyond.
    let neighbours = |ip: IpAddr| -> [IpAddr; 3] {
        match ip {
            IpAddr::V4(ip) => [-1, 0, 1].map(|step| Ipv4Addr::from_bits(ip.to_bits().wrapping_add_signed(step)).into()),
            IpAddr::V6(ip) => [-1, 0, 1].map(|step| Ipv6Addr::from_bits(ip.to_bits().wrapping_add_signed(step)).into()),
        }
    };
    let some = rows.iter().step_by(1500).chain(blocked.iter().copied().step_by(50));
    let ips: BTreeSet<IpAddr> = some.flat_map(|row| [neighbours(row.first), neighbours(row.last)]).flatten().collect();
    let mut verdicts = [0, 0];
    for &ip in &ips {
        let expected = blocked.iter().any(|row| row.first <= ip && ip <= row.last);
        assert_eq!(client.status_for(&ip.to_string()), if expected { 403 } else { 200 }, "{ip}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(ips.len() > 3000 && verdicts.iter().all(|&count| count > 500), "{verdicts:?} of {}", ips.len());
}
