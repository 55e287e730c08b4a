//! The command line as a user meets it: output, errors and exit statuses, over the SQLite log.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use edgefold_tests::Edgefold;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;

/// Exit status, stdout and stderr.
fn run(edgefold: &Edgefold, args: &[&str]) -> (i32, String, String) {
    let output = edgefold.output(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn commands_print_data_and_nothing_else_on_stdout() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    assert!(edgefold.run(&["init"]).starts_with("created "));
    let block = ["block", "10.0.0.0/24", "2001:DB8::/48", "--ttl", "4h", "--origin", "waf", "--reason", "a \"test\""];
    let expected = "0\tBLACKLIST 10.0.0.0/24 ttl=14400s origin=\"waf\" reason=\"a \\\"test\\\"\"\n\
                    1\tBLACKLIST 2001:db8::/48 ttl=14400s origin=\"waf\" reason=\"a \\\"test\\\"\"\n";
    assert_eq!(edgefold.run(&[&block[..], &["--at", "2090-01-01T00:00:00Z"]].concat()), expected);
    edgefold.run(&["allow", "10.0.0.100", "--at", "2090-01-01T00:00:01Z"]);
    edgefold.run(&["block", "9.0.0.0-9.0.0.1"]);
    let until = "2090-01-01T04:00:00Z";
    assert_eq!(
        edgefold.run(&["list", "-o", "raw"]),
        format!(
            "9.0.0.0\t9.0.0.1\t-\n10.0.0.0\t10.0.0.99\t{until}\n10.0.0.101\t10.0.0.255\t{until}\n\
             2001:db8::\t2001:db8:0:ffff:ffff:ffff:ffff:ffff\t{until}\n"
        )
    );
    let json: serde_json::Value = serde_json::from_str(&edgefold.run(&["list", "-o", "json"])).unwrap();
    assert_eq!(json[1], serde_json::json!({ "first": "10.0.0.0", "last": "10.0.0.99", "until": until }));
    assert!(edgefold.run(&["list"]).contains("9.0.0.0/31"));

    let file = directory.path().join("snapshot");
    let file = file.to_str().unwrap();
    edgefold.run(&["snapshot", "-o", file, "--name", "mine", "--no-address", "deny"]);
    let json: serde_json::Value = serde_json::from_str(&edgefold.run(&["inspect", file, "-o", "json"])).unwrap();
    assert_eq!(json["list"], "mine");
    assert_eq!(json["generation"], "4");
    assert_eq!(json["no_address"], "deny");
    assert_eq!((&json["ipv4_ranges"], &json["ipv6_ranges"]), (&3.into(), &1.into()));
    assert!(edgefold.run(&["inspect", file, "-o", "raw"]).starts_with("9.0.0.0\t9.0.0.1\n10.0.0.0\t10.0.0.99\n"));
}

#[test]
fn serve_gives_the_resource_its_name_version_and_failure_policy() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.0/24"]);
    for (args, name, policy) in [
        (&[][..], "edgefold", FailurePolicy::FailReload),
        (&["--name", "mine", "--failure-policy", "fail-open"], "mine", FailurePolicy::FailOpen),
        (&["--failure-policy", "fail-closed"], "edgefold", FailurePolicy::FailClosed),
    ] {
        drop(edgefold.serve(args));
        let response = DiscoveryResponse::decode(&*std::fs::read(edgefold.ecds_file()).unwrap()).unwrap();
        assert_eq!(response.version_info, "1");
        let resource = TypedExtensionConfig::decode(&*response.resources[0].value).unwrap();
        assert_eq!(resource.name, name);
        let plugin = Wasm::decode(&*resource.typed_config.unwrap().value).unwrap().config.unwrap();
        assert_eq!((plugin.name.as_str(), plugin.failure_policy()), (name, policy));
        let file = edgefold.ecds_file();
        let json: serde_json::Value =
            serde_json::from_str(&edgefold.run(&["inspect", file.to_str().unwrap(), "-o", "json"])).unwrap();
        assert_eq!((&json["list"], &json["ipv4_ranges"]), (&name.into(), &1.into()), "inspect reads an ECDS file too");
    }
}

#[test]
fn check_tells_by_its_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    let (status, _, stderr) = run(&edgefold, &["check", "10.0.0.1"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("there is no log at") && stderr.contains("edgefold init"), "{stderr}");
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.0/24"]);
    assert_eq!(run(&edgefold, &["check", "10.0.1.1"]), (0, "10.0.1.1 is not blocked\n".into(), String::new()));
    let blocked = "10.0.0.1 is blocked for ever, by 10.0.0.0-10.0.0.255\n";
    assert_eq!(run(&edgefold, &["check", "10.0.0.1"]), (1, blocked.into(), String::new()));
    assert_eq!(run(&edgefold, &["check", "10.0.1.1", "::ffff:10.0.0.1"]).0, 1);
}

#[test]
fn a_usage_error_names_the_flag_and_the_value_and_appends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    for (args, words) in [
        (&["block", "10.0.0.1", "10.0.0.5/24"][..], &["10.0.0.5/24", "RANGE", "has host bits set"][..]),
        (&["block", "10.0.0.1", "--ttl", "0s"], &["--ttl", "0s", "a ttl of zero blocks nothing"]),
        (&["block", "10.0.0.1", "--ttl", "1h", "--until", "2090-01-01T00:00:00Z"], &["--ttl", "--until"]),
        (&["block", "10.0.0.1", "--until", "2020-01-01T00:00:00Z"], &["--until", "would block nothing"]),
        (&["block", "10.0.0.1", "--at", "yesterday"], &["--at", "yesterday", "write RFC 3339"]),
        (&["block", "10.0.0.1", "--reason", ""], &["reason has no value"]),
        (&["block", "10.0.0.1", "--reason", "a\nb"], &["control character"]),
        (&["block"], &["RANGE"]),
        (&["list", "-o", "xml"], &["--output", "xml"]),
        (&["serve", "--ecds-file", "edgefold.json"], &["--ecds-file", "edgefold.json", "ends in .pb"]),
        (&["list", "--log", "edgefold.db"], &["--log", "edgefold.db", "write sqlite:PATH or kafka://"]),
        (&["list", "-X", "novalue"], &["-X", "novalue", "write KEY=VALUE"]),
        (&["serve", "--ecds-file", "edgefold.pb", "--name", ""], &["--name", "1 to 255 bytes"]),
        (&["nonsense"], &["nonsense"]),
    ] {
        let (status, stdout, stderr) = run(&edgefold, args);
        assert_eq!((status, stdout.as_str()), (64, ""), "{args:?}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{args:?}: {stderr}");
    }
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "");
    assert_eq!(run(&edgefold, &["--version"]).0, 0);
}

#[test]
fn another_file_is_no_log_and_no_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edgefold.db");
    std::fs::write(&path, "not a database, but long enough to look like something else ".repeat(20)).unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    let (status, _, stderr) = run(&edgefold, &["init"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("edgefold.db"), "{stderr}");
    let (status, _, stderr) = run(&edgefold, &["inspect", path.to_str().unwrap()]);
    assert_eq!(status, 2);
    assert!(stderr.contains("not an edgefold snapshot"), "{stderr}");
}

#[test]
fn kafka_that_is_not_there_is_an_error_and_a_fixed_property_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing listens on port 1.
    let edgefold = Edgefold::new("kafka://127.0.0.1:1/edgefold", directory.path());
    let (status, _, stderr) = run(&edgefold, &["block", "10.0.0.1"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("Kafka at 127.0.0.1:1: cannot ask for the topics"), "{stderr}");
    for (property, words) in [("acks=0", "it cannot be set"), ("no.such.property=1", "No such configuration property")]
    {
        let (status, _, stderr) = run(&edgefold, &["list", "-X", property]);
        assert_eq!(status, 64);
        assert!(stderr.contains(&format!("-X {property}: {words}")), "{stderr}");
    }
    let (status, _, stderr) = run(&Edgefold::sqlite(directory.path()), &["list", "-X", "acks=0"]);
    assert!(status == 64 && stderr.contains("are for a kafka:// log"), "{stderr}");
    let file = directory.path().join("properties");
    std::fs::write(&file, "# a comment\n\nacks = 0\n").unwrap();
    let (_, _, stderr) = run(&edgefold, &["list", "-F", file.to_str().unwrap()]);
    assert!(stderr.contains("-X acks=0: it cannot be set"), "{stderr}");
}
