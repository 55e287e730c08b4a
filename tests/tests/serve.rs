//! What `edgefold serve` does when somebody tampers with its files or its log, and what it says about itself.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::process::{Command, Stdio};
use std::time::Duration;

use edgefold::view::{FORMAT, OFFSET_KEY, records, watch_view};
use edgefold::{Fold, Follower, GRAMMAR, Log, LogUrl, NewCommand, ViewRecord, now};
use edgefold_snapshot::Snapshot;
use edgefold_snapshotter::ship::ecds::snapshot_in;
use edgefold_tests::{Edgefold, Kafka, Serve, eventually};
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rusqlite::Connection;

const ERROR: i32 = 2;
const TIMEOUT: Duration = Duration::from_secs(30);

fn shipped(edgefold: &Edgefold) -> Vec<u8> {
    std::fs::read(edgefold.ecds_file()).unwrap()
}

/// From when the snapshot in the file counts as fresh.
fn fresh_from(edgefold: &Edgefold) -> u64 {
    let bytes = snapshot_in(&shipped(edgefold).into()).unwrap();
    Snapshot::open(bytes).unwrap().header().settings.freshness.unwrap().cut_at
}

// Its files

#[test]
fn a_file_that_somebody_deletes_or_overwrites_is_shipped_again() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    let serve = edgefold.serve(&[]);
    let snapshot = || snapshot_in(&shipped(&edgefold).into()).unwrap();
    let right = snapshot();
    let damages: [&dyn Fn(); 2] = [&|| std::fs::remove_file(edgefold.ecds_file()).unwrap(), &|| {
        std::fs::write(edgefold.ecds_file(), b"something else").unwrap();
    }];
    for (count, damage) in (1..).zip(damages) {
        damage();
        serve.wait_for("edgefold_files_repaired_total", count);
        assert!(snapshot() == right);
    }
    serve.wait_for_log_line("somebody else has changed or removed what was shipped");
}

#[test]
fn two_do_not_ship_to_one_file() {
    let edgefold = Edgefold::sqlite();
    let serve = edgefold.serve(&[]);
    let second = edgefold.outcome(&["serve", "--ecds-file", &edgefold.path("edgefold.pb")]);
    second.assert_failed(ERROR, "another edgefold serve ships to ");
    assert!(serve.stop().success());
    edgefold.serve(&[]);
}

#[test]
fn with_a_minimal_interval_a_burst_is_one_shipment_more() {
    let edgefold = Edgefold::sqlite();
    let serve = edgefold.serve(&["--min-interval", "3s"]);
    for host in 0..5 {
        edgefold.block(&[&format!("10.0.0.{}", 2 * host)]);
    }
    serve.wait_until_shipped(5);
    let shipments = serve.metric("edgefold_snapshots_shipped_total").unwrap();
    assert!((2..=3).contains(&shipments), "{shipments} shipments");
}

#[test]
fn without_the_view_nothing_is_written_to_the_log() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    let serve = edgefold.serve(&["--no-view"]);
    edgefold.block(&["10.0.0.3"]);
    serve.wait_until_shipped(2);
    assert_eq!(serve.metric("edgefold_view_next_offset"), Some(0));
    assert!(serve.stop().success());
    let database = Connection::open(edgefold.path("edgefold.db")).unwrap();
    let ranges: u32 = database.query_one("SELECT count(*) FROM ranges", [], |row| row.get(0)).unwrap();
    let writers: u32 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!((ranges, writers), (0, 0));
}

/// The verdict does not depend on whether somebody reads the output.
#[test]
fn a_closed_pipe_does_not_change_a_verdict() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    edgefold.run(&["rebuild"]);
    let database = Connection::open(edgefold.path("edgefold.db")).unwrap();
    database.execute("DELETE FROM ranges WHERE key = '10.0.0.1'", []).unwrap();
    for args in [&["verify"][..], &["check", "10.0.0.1"]] {
        let mut command = Command::new(edgefold.binary());
        command.env("EDGEFOLD_LOG", edgefold.log()).args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{args:?}");
    }
}

// Its log

fn append(log: &dyn Log, commands: &[&str]) {
    let command = |text: &&str| NewCommand { time: now(), text: (*text).to_owned() };
    log.append(&commands.iter().map(command).collect::<Vec<_>>()).unwrap();
}

/// A paused `serve` goes on after its log has become another one, which is longer. It ends, ships nothing of it, and does not start
/// again before the operator has accepted it.
fn another_log_is_never_mixed_with_the_one_before(edgefold: &Edgefold, replace: impl FnOnce()) {
    edgefold.block(&["10.0.0.1", "10.0.0.3"]);
    let serve = edgefold.serve(&[]);
    serve_has_view(&serve, 2);
    let before = shipped(edgefold);
    serve.hang();
    replace();
    serve.go_on();
    let (status, output) = serve.wait_to_end();
    assert_eq!(status.code(), Some(ERROR), "{output}");
    assert!(output.contains("this is another log of the same name"), "{output}");
    let again = edgefold.outcome(&["serve", "--ecds-file", &edgefold.path("edgefold.pb")]);
    again.assert_failed(ERROR, "`edgefold rebuild`");
    assert!(shipped(edgefold) == before);
    let verify = edgefold.outcome(&["verify"]);
    assert_eq!(verify.status, 1, "{}", verify.stdout);
    edgefold.run(&["rebuild"]);
    edgefold.run(&["verify"]);
    let serve = edgefold.serve(&["--epoch", "1"]);
    serve.wait_until_shipped(3);
    assert_eq!(edgefold.run(&["list", "-o", "raw"]).lines().count(), 3);
}

fn serve_has_view(serve: &Serve, next_offset: u64) {
    serve.wait_until_writer();
    serve.wait_for_view(next_offset);
}

#[test]
fn a_sqlite_log_that_was_replaced_is_another_log() {
    let edgefold = Edgefold::sqlite();
    another_log_is_never_mixed_with_the_one_before(&edgefold, || {
        let database = Connection::open(edgefold.path("edgefold.db")).unwrap();
        database.execute("DELETE FROM commands", []).unwrap();
        edgefold.block(&["192.0.2.1", "192.0.2.3", "192.0.2.5"]);
    });
}

#[test]
fn a_kafka_topic_that_was_created_anew_is_another_log() {
    let kafka = Kafka::shared();
    let edgefold = Edgefold::kafka(&kafka, "anew");
    another_log_is_never_mixed_with_the_one_before(&edgefold, || {
        create_anew(&kafka, &edgefold, "anew.commands");
        edgefold.block(&["192.0.2.1", "192.0.2.3", "192.0.2.5"]);
    });
}

fn create_anew(kafka: &Kafka, edgefold: &Edgefold, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let deleted = block_on(admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
    deleted.into_iter().for_each(|result| drop(result.unwrap()));
    eventually("the topic to be created anew", || {
        edgefold.run(&["init"]).contains(&format!("created topic {topic}")).then_some(())
    });
}

/// Found by a review: then a start had no command to read, `check` answered from the old log, and `serve` shipped it as fresh.
#[test]
fn a_start_recognizes_another_log_even_if_it_is_as_long_as_the_one_before() {
    let kafka = Kafka::shared();
    let edgefold = Edgefold::kafka(&kafka, "as-long").block(&["10.0.0.1", "10.0.0.3"]);
    edgefold.run(&["rebuild"]);
    create_anew(&kafka, &edgefold, "as-long.commands");
    edgefold.block(&["192.0.2.1", "192.0.2.3"]);
    let file = edgefold.path("edgefold.pb");
    for args in [&["check", "192.0.2.1"][..], &["list"], &["serve", "--ecds-file", &file]] {
        edgefold.outcome(args).assert_failed(ERROR, "this is another log of the same name");
    }
    assert!(!edgefold.ecds_file().exists(), "nothing is shipped");
}

#[test]
fn a_database_file_that_was_replaced_is_another_log() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    let serve = edgefold.serve(&[]);
    for suffix in ["", "-wal", "-shm"] {
        let _may_be_missing = std::fs::remove_file(edgefold.path(&format!("edgefold.db{suffix}")));
    }
    edgefold.init().block(&["192.0.2.1", "192.0.2.3"]);
    let (status, output) = serve.wait_to_end();
    assert_eq!(status.code(), Some(ERROR), "{output}");
    assert!(output.contains("this is another log of the same name"), "{output}");
}

// Another version of edgefold

/// Writes the view of all commands as an edgefold with another grammar would.
fn write_view(log: &dyn Log, grammar: u32) {
    let mut writer = log.view_writer().unwrap();
    let fold = Follower::load(log).unwrap_or_else(|_| newest(log)).fold;
    let as_written = |(key, value): ViewRecord| {
        let value = value.map(|value| value.replace(&format!(" grammar={GRAMMAR} "), &format!(" grammar={grammar} ")));
        (key, value)
    };
    writer.write(&mut records(&fold.edits_since(&Fold::default()), &fold).map(as_written)).unwrap();
}

/// All commands, whatever the view holds.
fn newest(log: &dyn Log) -> Follower {
    let mut follower = Follower::resume(log, Fold::default()).unwrap();
    follower.catch_up().unwrap();
    follower
}

/// The value of `@offset`.
fn stated(log: &dyn Log) -> String {
    let mut stated = String::new();
    let read = watch_view(log, |key, value| {
        if key == Some(OFFSET_KEY.as_bytes()) {
            stated = String::from_utf8(value.unwrap().to_vec()).unwrap();
        }
    });
    drop(read.unwrap());
    stated
}

/// An upgrade: a newer edgefold takes over the view while this one runs. No block is lost, this one does not write the view any
/// more, and does not start from it.
#[test]
fn a_view_of_a_newer_edgefold_is_left_alone() {
    let kafka = Kafka::shared();
    for edgefold in [Edgefold::sqlite(), Edgefold::kafka(&kafka, "newer")] {
        edgefold.block(&["10.0.0.1"]);
        let serve = edgefold.serve(&[]);
        serve_has_view(&serve, 1);
        let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
        write_view(&*log, GRAMMAR + 1);
        let newer = stated(&*log);
        assert!(newer.contains(&format!(" grammar={} ", GRAMMAR + 1)), "{newer}");
        // The newer one is gone, and this one notices that nobody writes the view.
        edgefold.block(&["10.0.0.3"]);
        serve.wait_until_shipped(2);
        let version = format!("(format {FORMAT}, grammar {})", GRAMMAR + 1);
        serve.wait_for_log_line(&format!("a newer edgefold has written the view of ranges {version}"));
        edgefold.block(&["10.0.0.5"]);
        serve.wait_until_shipped(3);
        assert_eq!(stated(&*log), newer, "it must not be written");
        assert_eq!(serve.metric("edgefold_writer"), Some(0));
        assert!(serve.stop().success());
        let file = edgefold.path("other.pb");
        for args in [&["serve", "--ecds-file", &file][..], &["rebuild"], &["verify"], &["list"]] {
            edgefold.outcome(args).assert_failed(ERROR, "a newer edgefold has written the view of ranges");
        }
        assert_eq!(stated(&*log), newer);
    }
}

/// The other side of an upgrade: this edgefold finds a view of an older one, and rewrites it once.
#[test]
fn a_view_of_an_older_edgefold_is_rewritten_once() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
    write_view(&*log, GRAMMAR - 1);
    let serve = edgefold.serve(&[]);
    let version = format!("(format {FORMAT}, grammar {})", GRAMMAR - 1);
    serve.wait_for_log_line(&format!("an older edgefold has written it {version}"));
    serve_has_view(&serve, 1);
    assert_eq!(serve.metric("edgefold_unusable_views_total"), Some(2), "at the start, and by the keeper");
    edgefold.run(&["verify"]);
    let other = Edgefold::over(edgefold.log());
    let serve = other.serve(&[]);
    assert_eq!(serve.metric("edgefold_unusable_views_total"), Some(0));
}

/// Cut off, or in front of a broker that hangs: what is shipped gets stale, although the clock goes on.
#[test]
fn a_serve_without_contact_to_its_log_does_not_certify_freshness() {
    let (kafka, relay) = Kafka::start_with_relay();
    let edgefold = Edgefold::over(&relay.log("cut-off")).init();
    let serve = edgefold.serve(&["--max-age", "4s", "--when-stale", "deny"]);
    let before = fresh_from(&edgefold);
    eventually("a fresh snapshot though nothing happens", || (fresh_from(&edgefold) > before).then_some(()));
    let cuts: [&dyn Fn(); 2] = [&|| relay.hold(), &|| relay.cut()];
    for cut in cuts {
        cut();
        eventually("no contact", || (serve.metric("edgefold_log_connected") == Some(0)).then_some(()));
        let last = serve.metric("edgefold_last_contact_timestamp_seconds").unwrap();
        eventually("ten seconds to pass", || (now().millis() / 1000 > last + 10).then_some(()));
        assert_eq!(serve.metric("edgefold_last_contact_timestamp_seconds"), Some(last));
        assert!(fresh_from(&edgefold) <= (last + 1) * 1000, "fresher than the last contact");
        relay.mend();
        eventually("a fresh snapshot", || (fresh_from(&edgefold) > (last + 10) * 1000).then_some(()));
        eventually("contact", || (serve.metric("edgefold_log_connected") == Some(1)).then_some(()));
    }
    drop(kafka);
}

/// Found by a review: librdkafka reports no error for a fetch that is never answered, and another connection still says how far the
/// log goes.
#[test]
fn a_serve_whose_fetches_are_not_answered_does_not_certify_freshness() {
    let (kafka, relay) = Kafka::start_with_relay();
    let direct = Edgefold::kafka(&kafka, "no-fetch").block(&["10.0.0.1"]);
    let edgefold = Edgefold::over(&relay.log("no-fetch"));
    let serve = edgefold.serve(&["--max-age", "4s", "--when-stale", "deny"]);
    relay.hold_fetches();
    direct.block(&["10.0.0.3"]);
    let acknowledged = now().millis() / 1000;
    // librdkafka waits up to a minute for an answer before it reports an error, so nothing is reported yet.
    eventually("twenty seconds to pass", || (now().millis() / 1000 > acknowledged + 20).then_some(()));
    assert_eq!(serve.metric("edgefold_next_offset"), Some(1));
    let contact = serve.metric("edgefold_last_contact_timestamp_seconds").unwrap();
    assert!(contact <= acknowledged, "{contact} is after {acknowledged}");
    assert!(fresh_from(&edgefold) / 1000 <= acknowledged);
    assert_eq!(serve.metric("edgefold_log_connected"), Some(0));
    relay.mend();
    serve.wait_until_shipped(2);
    serve.wait_for("edgefold_last_contact_timestamp_seconds", acknowledged + 20);
    eventually("contact", || (serve.metric("edgefold_log_connected") == Some(1)).then_some(()));
}

/// A producer that writes commands in a transaction, and hangs.
#[test]
fn an_open_transaction_that_hides_commands_is_named() {
    let kafka = Kafka::shared();
    let edgefold = Edgefold::kafka(&kafka, "held");
    let serve = edgefold.serve(&[]);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).set("transactional.id", "held").create().unwrap();
    producer.init_transactions(TIMEOUT).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to("held.commands").payload("BLACKLIST 10.0.0.1")).unwrap();
    producer.flush(TIMEOUT).unwrap();
    edgefold.block(&["10.0.0.3"]);
    let acknowledged = now().millis() / 1000;
    serve.wait_for_log_line(
        "a producer has a transaction open on held.commands at offset 0, which hides the commands up to offset 2",
    );
    assert_eq!(serve.metric("edgefold_next_offset"), Some(0));
    assert_eq!(serve.metric("edgefold_log_connected"), Some(0));
    // Found by a review: what was acknowledged is missing, and still the end counted as confirmed. A start did not even ask.
    let contact = serve.metric("edgefold_last_contact_timestamp_seconds").unwrap();
    assert!(contact <= acknowledged, "{contact} is after {acknowledged}");
    let other = Edgefold::over(edgefold.log());
    let late = other.serve(&["--max-age", "1m"]);
    assert_eq!(fresh_from(&other), 0, "it was never in contact");
    producer.abort_transaction(TIMEOUT).unwrap();
    serve.wait_until_shipped(2);
    late.wait_until_shipped(2);
    eventually("a fresh snapshot", || (fresh_from(&other) > 0).then_some(()));
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.3\t10.0.0.3\t-\n");
}

/// Retention, or an administrator, has deleted records at the start of the ranges topic.
#[test]
fn a_view_whose_start_was_deleted_is_rebuilt() {
    let kafka = Kafka::shared();
    let edgefold = Edgefold::kafka(&kafka, "shortened").block(&["10.0.0.1", "10.0.0.3"]);
    edgefold.run(&["rebuild"]);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    // A broker deletes records on request only if a topic is not just compacted.
    let set_policy = |policy| {
        let config = AlterConfig::new(ResourceSpecifier::Topic("shortened.ranges")).set("cleanup.policy", policy);
        let altered = block_on(admin.alter_configs([&config], &AdminOptions::new())).unwrap();
        altered.into_iter().for_each(|result| drop(result.unwrap()));
    };
    set_policy("compact,delete");
    let mut offsets = TopicPartitionList::new();
    // After the writer's abort marker and the first range.
    offsets.add_partition_offset("shortened.ranges", 0, Offset::Offset(3)).unwrap();
    // The new policy takes a moment to reach the broker, which refuses until then.
    eventually("the records to be deleted", || {
        let deleted = block_on(admin.delete_records(&offsets, &AdminOptions::new())).ok()?;
        deleted.elements().iter().all(|partition| partition.error().is_ok()).then_some(())
    });
    set_policy("compact");
    let serve = edgefold.serve(&[]);
    serve.wait_for_log_line("a range was lost, added or changed");
    serve.wait_for("edgefold_unusable_views_total", 2);
    serve_has_view(&serve, 2);
    edgefold.run(&["verify"]);
    // It is used again, although the topic still does not start at offset 0.
    let other = Edgefold::over(edgefold.log());
    let serve = other.serve(&[]);
    assert_eq!(serve.metric("edgefold_unusable_views_total"), Some(0));
}

#[test]
fn the_admin_server_says_whether_it_is_alive_and_ready() {
    let edgefold = Edgefold::uninitialized();
    let log: LogUrl = edgefold.log().parse().unwrap();
    log.open().unwrap().init().unwrap();
    append(&*log.open().unwrap(), &["BLACKLIST 10.0.0.1"]);
    let serve = edgefold.serve(&[]);
    assert_eq!((serve.probe("live"), serve.probe("ready")), (Some(200), Some(200)));
    serve.hang();
    // A signal takes a moment to stop all threads.
    eventually("no answer", || serve.probe("live").is_none().then_some(()));
    serve.go_on();
    eventually("an answer", || (serve.probe("live") == Some(200)).then_some(()));
}
