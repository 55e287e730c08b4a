//! From a command in the log to an answer of a real Envoy.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgefold::{Error, KafkaLog, Log, Position};
use edgefold_filter::decision::{Verdict, decide};
use edgefold_snapshot::{Layers, Snapshot, VERSION};
use edgefold_snapshotter::modules::FILTER;
use edgefold_snapshotter::replace::replace_file;
use edgefold_snapshotter::ship::ecds::{Code, FailurePolicy, FilterHost, FilterKind, Payload, Resource, snapshot_in};
use edgefold_tests::{Edgefold, EnvoyOptions, Kafka, eventually, seed, tool};
use edgefold_wasm_host::{Host, Response};
use fastrand::Rng;
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// The snapshot that was shipped last.
fn shipped(edgefold: &Edgefold) -> Bytes {
    snapshot_in(&std::fs::read(edgefold.ecds_file()).unwrap().into()).unwrap()
}

/// Ships these bytes to the HTTP filter, in place of a snapshot.
fn ship(edgefold: &Edgefold, version: &str, bytes: Bytes) {
    let (kind, host) = (FilterKind::Http, FilterHost::Wasm(FailurePolicy::Reload));
    let (name, shipment, code) = ("edgefold", version, Code::Inline(FILTER));
    let resource = Resource { kind, name, version, shipment, host, code, snapshot: Payload::Inline(bytes) };
    replace_file(&edgefold.ecds_file(), &resource.encode()).unwrap();
}

fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap()
}

/// All committed records of a topic, as `KEY → VALUE`.
fn topic(kafka: &Kafka, name: &str) -> Vec<String> {
    let text = |text: Option<String>| text.unwrap_or("-".to_owned());
    kafka.records(name).into_iter().map(|record| format!("{} → {}", text(record.key), text(record.value))).collect()
}

fn await_topic(kafka: &Kafka, name: &str, records: &[&str]) {
    // What comes after the position in @offset is tested in the library.
    let shortened = |record: String| record.split(" format=").next().map(ToOwned::to_owned);
    let found = || topic(kafka, name).into_iter().filter_map(shortened).collect::<Vec<_>>();
    eventually(&format!("{records:?} in {name}"), || (found() == records).then_some(()));
}

// The way of a command

#[test]
fn a_blocked_client_is_refused_and_an_allowed_one_passes_over_sqlite() {
    block_and_allow(&Edgefold::sqlite());
}

#[test]
fn a_blocked_client_is_refused_and_an_allowed_one_passes_over_kafka() {
    block_and_allow(&Edgefold::kafka(&Kafka::shared(), "block-and-allow"));
}

/// Clients are known by the addresses of their connections: X-Forwarded-For is not believed.
fn block_and_allow(edgefold: &Edgefold) {
    let serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions::HTTP);
    let (client, neighbour) = (envoy.client("127.0.0.100"), envoy.client("127.0.0.101"));
    assert_eq!(client.get(), (200, "hello from upstream\n".to_owned()));
    edgefold.block(&["127.0.0.64/26"]);
    eventually("403 for the blocked client", || (client.get() == (403, "Forbidden\n".to_owned())).then_some(()));
    assert_eq!(client.status_for("192.0.2.1"), 403, "a forged X-Forwarded-For does not help");
    edgefold.allow(&["127.0.0.100"]);
    eventually("200 for the allowed client", || (client.get().0 == 200).then_some(()));
    assert_eq!(neighbour.get().0, 403);
    assert!(serve.stop().success(), "serve stops cleanly");
    assert_eq!((client.get().0, neighbour.get().0), (200, 403), "what was shipped keeps serving");

    // A restart finds everything again, and does not send Envoy what it has.
    let shipped_at = || std::fs::metadata(edgefold.ecds_file()).unwrap().modified().unwrap();
    let before = shipped_at();
    let serve = edgefold.serve(&[]);
    serve.wait_until_shipped(2);
    assert_eq!(shipped_at(), before);
    edgefold.allow(&["127.0.0.0/8"]);
    eventually("200 for the neighbour", || (neighbour.get().0 == 200).then_some(()));
}

/// The example in the design, down to the records in the ranges topic.
#[test]
fn one_address_of_a_blocked_range_is_allowed() {
    let kafka = Kafka::shared();
    for (prefix, range) in [("block", "10.0.0.0/24"), ("range", "10.0.0.1-10.0.0.255")] {
        let edgefold = Edgefold::kafka(&kafka, prefix);
        let _serve = edgefold.serve(&[]);
        let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
        let client = envoy.client("127.0.0.1");
        assert_eq!(client.status_for("10.0.0.99"), 200);
        edgefold.block(&[range, "--at", "2016-09-12 15:32:00"]);
        client.wait_for_status("10.0.0.99", 403);
        let first = ["10.0.0.1 → 10.0.0.255", "@offset → 1 2016-09-12T15:32:00Z"];
        if prefix == "range" {
            await_topic(&kafka, "range.ranges", &first);
        }
        edgefold.allow(&["10.0.0.100/32", "--at", "2016-09-12 16:01:13"]);
        client.wait_for_status("10.0.0.100", 200);
        for (ip, status) in [("10.0.0.99", 403), ("10.0.0.101", 403), ("10.0.0.100", 200), ("::ffff:10.0.0.99", 403)] {
            assert_eq!(client.status_for(ip), status, "{ip}");
        }
        let check = edgefold.outcome(&["check", "10.0.0.99", "10.0.0.100", "10.0.0.101", "-o", "raw"]);
        assert_eq!(check.status, 1);
        assert!(check.stdout.contains("\n10.0.0.100\t-\t-\t-\t-\t-\tnone\n"), "{}", check.stdout);
        if prefix == "range" {
            let second = ["10.0.0.1 → 10.0.0.99", "10.0.0.101 → 10.0.0.255", "@offset → 2 2016-09-12T16:01:13Z"];
            await_topic(&kafka, "range.ranges", &[&first[..], &second].concat());
            assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.1\t10.0.0.99\t-\n10.0.0.101\t10.0.0.255\t-\n");
        }
    }
}

#[test]
fn a_block_ends_without_a_command() {
    let edgefold = Edgefold::sqlite();
    let _serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    edgefold.block(&["10.0.0.0/24", "--ttl", "3s"]);
    client.wait_for_status("10.0.0.7", 403);
    client.wait_for_status("10.0.0.7", 200);
    let generation = edgefold.inspect(edgefold.ecds_file())["generation"].clone();
    assert!(generation.as_str().unwrap().starts_with("1@"), "the generation contains the expiry: {generation}");
}

#[test]
fn a_client_without_an_address_follows_the_policy() {
    let edgefold = Edgefold::sqlite().block(&["0.0.0.0/0", "::/0", "--force"]).allow(&["127.0.0.1"]);
    for (policy, status) in [("allow", 200), ("deny", 403)] {
        let _serve = edgefold.serve(&["--no-address", policy]);
        let envoy = edgefold.envoy(EnvoyOptions::HTTP);
        assert_eq!(envoy.client_without_address().get().0, status, "{policy}");
        assert_eq!((envoy.client("127.0.0.1").get().0, envoy.client("127.0.0.2").get().0), (200, 403), "{policy}");
    }
}

// Bad snapshots

#[test]
fn a_bad_snapshot_is_refused_and_the_last_good_one_keeps_serving() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
    let _serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    let refused = || envoy.metric("snapshot_rejected", "edgefold").unwrap();
    let good = shipped(&edgefold);
    let flipped = [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat();
    let other_version = [&good[..8], &[99], &good[9..]].concat();
    for (round, (bad, reason)) in [
        (flipped, "damaged or truncated"),
        (good[..good.len() - 9].to_vec(), "damaged or truncated"),
        (other_version, &format!("format version 99, but this build reads version {VERSION}")),
        (b"hello".to_vec(), "not an edgefold snapshot"),
        (Vec::new(), "no bytes at all"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = refused();
        ship(&edgefold, &format!("bad-{round}"), bad.into());
        eventually("the refusal", || (refused() > before).then_some(()));
        envoy.wait_for_log_line(&format!("edgefold: snapshot refused: {reason}"));
        assert_eq!((client.status_for("10.0.0.7"), client.status_for("10.0.1.7")), (403, 200), "{reason}");
    }
    // The next good one is accepted.
    edgefold.block(&["10.0.1.0/24"]);
    client.wait_for_status("10.0.1.7", 403);
}

#[test]
fn before_the_first_good_snapshot_requests_pass_as_the_configuration_says() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
    ship(&edgefold, "bad", Bytes::from_static(b"not a snapshot"));
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    assert_eq!(client.status_for("10.0.0.7"), 200);
    let _serve = edgefold.serve(&[]);
    client.wait_for_status("10.0.0.7", 403);
}

// Kafka

#[test]
fn records_that_cannot_be_read_never_stop_the_fold() {
    let kafka = Kafka::shared();
    let edgefold = Edgefold::kafka(&kafka, "rejects");
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
    serve.wait_until_shipped(6);
    assert_eq!(serve.metric("edgefold_rejected_records"), Some(5));
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.7\t10.0.0.7\t-\n", "its time is the record's timestamp");
    serve.wait_for_log_line("skipped the record at offset 3: 10.0.0.5/24 has host bits set");
}

#[test]
fn of_two_snapshotters_both_ship_and_one_writes_the_view() {
    let kafka = Kafka::shared();
    let one = Edgefold::kafka(&kafka, "two");
    let other = Edgefold::over(one.log());
    let serves = [one.serve(&[]), other.serve(&[])];
    one.block(&["10.0.0.0/24", "--at", "2026-11-23T00:00:00Z"]);
    serves.iter().for_each(|serve| serve.wait_until_shipped(1));
    await_topic(&kafka, "two.ranges", &["10.0.0.0 → 10.0.0.255", "@offset → 1 2026-11-23T00:00:00Z"]);
    assert!(shipped(&one) == shipped(&other), "replicas ship the same snapshot");
}

fn create_topic(kafka: &Kafka, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let created = block_on(admin(kafka).create_topics([&topic], &AdminOptions::new())).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}

fn kafka_log(kafka: &Kafka, prefix: &str) -> KafkaLog {
    KafkaLog::new(&kafka.brokers(), prefix, &[]).unwrap()
}

#[test]
fn topics_that_would_lose_data_are_refused() {
    let kafka = Kafka::shared();
    create_topic(&kafka, "many.commands", 2, &[("retention.ms", "-1")]);
    create_topic(&kafka, "short.commands", 1, &[("retention.ms", "3600000")]);
    create_topic(&kafka, "short.ranges", 1, &[("cleanup.policy", "delete")]);
    let compacted = [("cleanup.policy", "compact"), ("retention.bytes", "1000000")];
    create_topic(&kafka, "compacted.commands", 1, &compacted);
    for (prefix, words) in [
        ("many", &["topic many.commands has 2 partitions, but must have 1"][..]),
        (
            "short",
            &[
                "topic short.commands has retention.ms=3600000, but must have retention.ms=-1: old commands are deleted",
                "topic short.ranges has cleanup.policy=delete, but must have cleanup.policy=compact",
            ],
        ),
        (
            "compacted",
            &[
                "topic compacted.commands has cleanup.policy=compact, but must have cleanup.policy=delete",
                "topic compacted.commands has retention.bytes=1000000, but must have retention.bytes=-1",
            ],
        ),
    ] {
        let edgefold = Edgefold::over(&kafka.log(prefix));
        let file = edgefold.path("edgefold.pb");
        for args in [&["init"][..], &["serve", "--ecds-file", &file]] {
            let outcome = edgefold.outcome(args);
            words.iter().for_each(|words| outcome.assert_failed(2, words));
        }
    }
    let error = kafka_log(&kafka, "many").commands(Position::default()).map(drop).unwrap_err();
    assert!(matches!(error, Error::Settings(_)), "{error}");
    let nowhere = Edgefold::over(&kafka.log("nowhere"));
    let serve = nowhere.outcome(&["serve", "--ecds-file", &nowhere.path("edgefold.pb")]);
    serve.assert_failed(2, "there is no log at topic nowhere.commands: create it with `edgefold init`");
}

#[test]
fn topics_that_risk_data_are_used_with_a_warning() {
    let kafka = Kafka::shared();
    let risky = [("retention.ms", "-1"), ("unclean.leader.election.enable", "true")];
    create_topic(&kafka, "risky.commands", 1, &risky);
    create_topic(&kafka, "risky.ranges", 1, &[("cleanup.policy", "compact"), ("delete.retention.ms", "60000")]);
    let edgefold = Edgefold::over(&kafka.log("risky"));
    let init = edgefold.run(&["init"]);
    let serve = edgefold.serve(&[]);
    for warning in [
        "topic risky.commands has unclean.leader.election.enable=true, but should have unclean.leader.election.enable=false",
        "topic risky.ranges has delete.retention.ms=60000, but should have delete.retention.ms of at least 3600000",
        "topic risky.ranges has min.compaction.lag.ms=0, but should have min.compaction.lag.ms of at least 3600000",
        "topic risky.commands has message.timestamp.type=CreateTime, but should have message.timestamp.type=LogAppendTime",
        "topic risky.ranges has segment.ms=604800000, but should have segment.ms of at most 86400000",
        "topic risky.ranges has segment.bytes=1073741824, but should have segment.bytes of at most 67108864",
        "topic risky.commands has min.insync.replicas=1, but should have min.insync.replicas of at least 2",
        "topic risky.ranges has min.insync.replicas=1, but should have min.insync.replicas of at least 2",
        "topic risky.commands has one replica: it is lost with its broker",
        "topic risky.ranges has one replica: it is lost with its broker",
    ] {
        assert!(init.contains(warning), "{init}");
        serve.wait_for_log_line(warning);
    }
    assert_eq!(init.lines().count(), 10, "{init}");
}

#[test]
fn a_view_that_cannot_be_written_delays_no_block() {
    let kafka = Kafka::shared();
    create_topic(&kafka, "tiny.commands", 1, &[("retention.ms", "-1"), ("max.message.bytes", "450")]);
    create_topic(&kafka, "tiny.ranges", 1, &[("cleanup.policy", "compact"), ("max.message.bytes", "150")]);
    let edgefold = Edgefold::over(&kafka.log("tiny"));
    let serve = edgefold.serve(&[]);
    let too_large = edgefold.outcome(&["block", "10.0.0.1", "--reason", &"x".repeat(500)]);
    too_large.assert_failed(2, "; nothing was appended\n");
    edgefold.block(&["10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.7"]);
    serve.wait_until_shipped(4);
    serve.wait_for_log_line("cannot write the view of ranges: ");
    edgefold.allow(&["10.0.0.3"]);
    serve.wait_until_shipped(5);
    assert_eq!(serve.metric("edgefold_view_next_offset"), Some(0));
}

#[test]
fn refused_credentials_are_reported_and_tried_again() {
    let kafka = Kafka::shared();
    let edgefold = Edgefold::over(&kafka.secured_log("secured"));
    let properties = |password: &str| {
        let login = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=edgefold";
        let file = edgefold.path(password);
        std::fs::write(&file, format!("{login}\nsasl.password={password}\n")).unwrap();
        file
    };
    let (right, wrong) = (properties("right"), properties("wrong"));
    edgefold.run(&["init", "-F", &right]);
    edgefold.block(&["10.0.0.1", "-F", &right]);
    let refused = edgefold.outcome(&["block", "10.0.0.2", "-F", &wrong]);
    refused.assert_failed(2, "Authentication failed");
    refused.assert_failed(2, "nothing was appended");
    let serve = edgefold.start_serve(&["-F", &wrong]);
    serve.wait_for_log_line("Authentication failed");
    serve.wait_for_log_line("trying again in");
    assert_eq!(serve.metric("edgefold_snapshots_shipped_total"), Some(0));
    assert_eq!(edgefold.run(&["list", "-o", "raw", "-F", &right]), "10.0.0.1\t10.0.0.1\t-\n");
}

#[test]
fn a_missing_ranges_topic_is_created_and_rebuilt() {
    let kafka = Kafka::shared();
    let edgefold = Edgefold::kafka(&kafka, "lost").block(&["10.0.0.0/24", "--at", "2026-11-23T00:00:00Z"]);
    let delete_ranges = || {
        let deleted = block_on(admin(&kafka).delete_topics(&["lost.ranges"], &AdminOptions::new())).unwrap();
        deleted.into_iter().for_each(|result| drop(result.unwrap()));
        eventually("the topic to be gone", || (edgefold.outcome(&["verify"]).status == 1).then_some(()));
    };
    delete_ranges();
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.0\t10.0.0.255\t-\n", "the commands are enough");
    let serve = edgefold.serve(&[]);
    serve.wait_for_log_line("replaying all commands, because the view of ranges cannot be used");
    serve.wait_until_writer();
    serve.wait_for_view(1);
    await_topic(&kafka, "lost.ranges", &["10.0.0.0 → 10.0.0.255", "@offset → 1 2026-11-23T00:00:00Z"]);
    for (name, value) in [("next_offset", 1), ("view_next_offset", 1), ("ranges", 1), ("rejected_records", 0)] {
        assert_eq!(serve.metric(&format!("edgefold_{name}")), Some(value), "{name}");
    }
    // Deleted and created anew while it has a writer. The edits of the next command alone would not be a view.
    delete_ranges();
    edgefold.init().block(&["192.0.2.1", "--at", "2026-11-23T00:00:01Z"]);
    let both = ["10.0.0.0 → 10.0.0.255", "192.0.2.1 → 192.0.2.1", "@offset → 2 2026-11-23T00:00:01Z"];
    await_topic(&kafka, "lost.ranges", &both);
}

// Agreement

/// Random ranges, and addresses in and around them: in native code, in the module in wasmtime, and in a real Envoy.
#[test]
fn native_code_wasmtime_and_envoy_agree() {
    let edgefold = Edgefold::sqlite();
    let mut random = Rng::with_seed(seed());
    let draws = (0..200).map(|_| (random.u16(..), random.u16(..), random.bool()));
    let draws: Vec<(u16, u16, bool)> = draws.collect();
    // Both families are squeezed into a small space, so that ranges split and join.
    let ip = |low: u16, six: bool| -> IpAddr {
        match six {
            false => Ipv4Addr::from_bits(0xcb00_0000 | u32::from(low)).into(),
            true => Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(low)).into(),
        }
    };
    let ranges = |draws: &[(u16, u16, bool)]| -> Vec<String> {
        let range = |&(low, length, six): &(u16, u16, bool)| {
            format!("{}-{}", ip(low, six), ip(low.saturating_add(length / 64), six))
        };
        draws.iter().map(range).collect()
    };
    let (blocked, allowed) = draws.split_at(150);
    edgefold.block(&ranges(blocked).iter().map(String::as_str).collect::<Vec<_>>());
    edgefold.allow(&ranges(allowed).iter().map(String::as_str).collect::<Vec<_>>());
    let _serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    let bytes = shipped(&edgefold);
    let mut host = Host::start(FILTER);
    assert!(host.configure(&bytes));
    let snapshot = Layers::alone(Arc::new(Snapshot::open(bytes).unwrap()));
    let mut verdicts = [0, 0];
    for (low, length, six) in draws {
        let high = low.saturating_add(length / 64);
        for at in [low.wrapping_sub(1), low, high, high.wrapping_add(1)] {
            let ip = ip(at, six);
            let source = if six { format!("[{ip}]:80") } else { format!("{ip}:80") };
            let native = decide(&snapshot, false, Some(ip)) != Verdict::Pass;
            let wasm = host.request_from(Some(source.as_bytes())) != Response::Passed;
            let envoy = client.status_for(&ip.to_string()) == 403;
            assert_eq!((native, wasm), (envoy, envoy), "{ip}");
            verdicts[usize::from(native)] += 1;
        }
    }
    assert!(verdicts.iter().all(|&count| count > 100), "both verdicts occurred: {verdicts:?}");
}

/// The networks with the most ranges, from a real list, compared with a plain scan of it.
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

    let edgefold = Edgefold::sqlite();
    let ranges: Vec<String> = blocked.iter().map(|row| format!("{}-{}", row.first, row.last)).collect();
    for ranges in ranges.chunks(2000) {
        // They are more than a /8.
        edgefold.block(&ranges.iter().map(String::as_str).chain(["--force"]).collect::<Vec<_>>());
    }
    let _serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");

    // A sample of the whole list and one of what is blocked: the ends of each range, and their neighbours.
    let neighbours = |ip: IpAddr| -> [IpAddr; 3] {
        match ip {
            IpAddr::V4(ip) => [-1, 0, 1].map(|step| Ipv4Addr::from_bits(ip.to_bits().wrapping_add_signed(step)).into()),
            IpAddr::V6(ip) => [-1, 0, 1].map(|step| Ipv6Addr::from_bits(ip.to_bits().wrapping_add_signed(step)).into()),
        }
    };
    let sample = rows.iter().step_by(1500).chain(blocked.iter().copied().step_by(50));
    let ips = sample.flat_map(|row| [neighbours(row.first), neighbours(row.last)]).flatten();
    let ips: BTreeSet<IpAddr> = ips.collect();
    let mut verdicts = [0, 0];
    for &ip in &ips {
        let expected = blocked.iter().any(|row| row.first <= ip && ip <= row.last);
        assert_eq!(client.status_for(&ip.to_string()), if expected { 403 } else { 200 }, "{ip}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(ips.len() > 3000 && verdicts.iter().all(|&count| count > 500), "{verdicts:?} of {}", ips.len());
}
