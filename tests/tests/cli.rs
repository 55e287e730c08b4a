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
    let settings = serde_json::json!({
        "mode": "enforce", "status": 403, "body": "Forbidden\n", "content_type": "text/plain", "headers": {},
        "client_address": "envoy", "no_address": "deny", "open_connections": "keep",
    });
    assert_eq!(json["settings"], settings);
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
fn serve_ships_both_filters_with_the_module_for_its_settings() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    let (file, network) = (directory.path().join("module.wasm"), edgefold.network_ecds_file());
    let (file, network) = (file.to_str().unwrap(), network.to_str().unwrap());
    for (policy, args) in [("keep", &["module", "-o", file][..]), ("recheck", &["module", "-o", file, "--recheck"])] {
        edgefold.run(args);
        let module = std::fs::read(file).unwrap();
        assert!(module.starts_with(b"\0asm"));
        drop(edgefold.serve(&["--network-ecds-file", network, "--open-connections", policy]));
        for shipped in [edgefold.ecds_file(), edgefold.network_ecds_file()] {
            let shipped = std::fs::read(shipped).unwrap();
            assert!(shipped.windows(module.len()).any(|bytes| bytes == module), "{policy}");
        }
        let human = edgefold.run(&["inspect", network]);
        assert!(human.contains(&format!("open connections   \"{policy}\"\n")), "{human}");
    }
    for (args, words) in [
        (&["serve"][..], "--network-ecds-file"),
        (&["serve", "--ecds-file", network, "--network-ecds-file", network], "take a file each"),
        (&["serve", "--ecds-file", network, "--open-connections", "recheck"], "goes with --network-ecds-file"),
        (&["serve", "--network-ecds-file", network, "--status", "429"], "are for the HTTP filter"),
    ] {
        let output = edgefold.output(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && stderr.contains(words), "{args:?}: {stderr}");
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
fn the_time_machine_shows_every_moment() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.0/24", "--ttl", "1h", "--at", "2026-01-01T00:00:00Z"]);
    edgefold.run(&["block", "192.0.2.1", "--at", "2026-01-01T00:30:00Z"]);
    edgefold.run(&["allow", "10.0.0.0/25", "--at", "2026-01-01T00:40:00Z"]);
    edgefold.run(&["block", "192.0.2.2", "--at", "2026-01-01T02:00:00Z"]);
    let list = |args: &[&str]| edgefold.run(&[&["list", "-o", "raw"], args].concat());
    let end = "2026-01-01T01:00:00Z";
    let (both, one) = ("192.0.2.1\t192.0.2.2\t-\n", "192.0.2.1\t192.0.2.1\t-\n");
    let (whole, half) = (format!("10.0.0.0\t10.0.0.255\t{end}\n"), format!("10.0.0.128\t10.0.0.255\t{end}\n"));
    for (args, expected) in [
        (&[][..], both.to_owned()),
        (&["--until-offset", "0"], String::new()),
        (&["--until-offset", "1"], whole.clone()),
        (&["--until-offset", "2"], format!("{whole}{one}")),
        (&["--until-offset", "3"], format!("{half}{one}")),
        (&["--until-offset", "4"], both.to_owned()),
        (&["--as-of", "2025-12-31T23:59:59Z"], String::new()),
        (&["--as-of", "2026-01-01T00:00:00Z"], whole),
        (&["--as-of", "2026-01-01T00:59:59Z"], format!("{half}{one}")),
        (&["--as-of", end], one.to_owned()),
        (&["--as-of", "2090-01-01T00:00:00Z"], both.to_owned()),
    ] {
        assert_eq!(list(args), expected, "{args:?}");
    }
    assert_eq!(run(&edgefold, &["check", "10.0.0.7"]).0, 0);
    assert_eq!(run(&edgefold, &["check", "10.0.0.7", "--until-offset", "2"]).0, 1);
    assert_eq!(run(&edgefold, &["check", "10.0.0.7", "--as-of", "2026-01-01T00:40:00Z"]).0, 0);
    let file = directory.path().join("snapshot");
    let file = file.to_str().unwrap();
    for (args, generation, as_of) in [
        (["--until-offset", "3"], "3", "2026-01-01T00:40:00Z"),
        (["--as-of", "2026-01-01T01:30:00Z"], "3@2026-01-01T01:00:00Z", end),
    ] {
        edgefold.run(&[&["snapshot", "-o", file][..], &args].concat());
        let json: serde_json::Value = serde_json::from_str(&edgefold.run(&["inspect", file, "-o", "json"])).unwrap();
        assert_eq!((&json["generation"], &json["as_of"]), (&generation.into(), &as_of.into()));
    }
    let (status, _, stderr) = run(&edgefold, &["list", "--until-offset", "5"]);
    assert!(status == 2 && stderr.contains("the log ends at offset 4: offset 5 is still to come"), "{stderr}");
    let (status, _, stderr) = run(&edgefold, &["list", "--until-offset", "1", "--as-of", end]);
    assert!(status == 64 && stderr.contains("--as-of"), "{stderr}");
}

#[test]
fn rejects_are_listed_with_their_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.1"]);
    assert_eq!(edgefold.run(&["rejects", "-o", "raw"]), "");
    let database = rusqlite::Connection::open(directory.path().join("edgefold.db")).unwrap();
    let insert = |offset: i64, key: Option<&[u8]>, value: Option<&[u8]>| {
        let row = rusqlite::params![offset, 1000, key, value];
        database.execute("INSERT INTO commands VALUES (?, ?, ?, ?)", row).unwrap();
    };
    insert(1, Some(b"2026-11-23T00:00:00Z"), Some(b"BLACKLIST 10.0.0.5/24"));
    insert(2, Some(b"no time"), Some(b"\xffhello\n\x1b[31m"));
    insert(3, None, None);
    insert(4, None, Some(&[b'x'; 100_000]));
    let raw = edgefold.run(&["rejects", "-o", "raw"]);
    let lines: Vec<&str> = raw.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("1\t2026-11-23T00:00:00Z\tBLACKLIST 10.0.0.5/24\t10.0.0.5/24 has host bits set"));
    assert_eq!(lines[1], "2\t1970-01-01T00:00:01Z\t\u{fffd}hello\\n\\u{1b}[31m\tthe value is not UTF-8 text");
    assert!(lines[2].contains("the record has no value"));
    assert!(lines[3].len() < 5000, "no more of it is shown than a command could have");
    let json: serde_json::Value = serde_json::from_str(&edgefold.run(&["rejects", "-o", "json"])).unwrap();
    assert_eq!((&json[0]["offset"], &json[0]["text"]), (&1.into(), &"BLACKLIST 10.0.0.5/24".into()));
    assert!(edgefold.run(&["rejects"]).contains("1  2026-11-23T00:00:00Z  BLACKLIST 10.0.0.5/24\n    10.0.0.5/24 has"));
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.1\t10.0.0.1\t-\n", "they change nothing");
}

#[test]
fn a_view_that_differs_is_found_and_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let edgefold = Edgefold::sqlite(directory.path());
    edgefold.run(&["init"]);
    edgefold.run(&["block", "10.0.0.0/24", "192.0.2.1"]);
    assert!(edgefold.run(&["rebuild"]).starts_with("the view holds 2 ranges now, from the commands below offset 2"));
    assert_eq!(edgefold.run(&["verify"]), "the view is a replay of the commands below offset 2: 2 ranges\n");
    let database = rusqlite::Connection::open(directory.path().join("edgefold.db")).unwrap();
    for (sql, words) in [
        (
            "UPDATE ranges SET value = '10.0.0.99' WHERE key = '10.0.0.0'",
            "it has 10.0.0.0-10.0.0.99 for ever, and the replay has 10.0.0.0-10.0.0.255 for ever",
        ),
        (
            "DELETE FROM ranges WHERE key = '192.0.2.1'",
            "it has no further range, and the replay has 192.0.2.1 for ever",
        ),
        ("INSERT INTO ranges VALUES ('hello', 'world')", "the view cannot be read: the record with key \"hello\""),
        ("DELETE FROM ranges WHERE key = '@offset'", "no record with the key @offset"),
    ] {
        database.execute(sql, []).unwrap();
        let (status, stdout, _) = run(&edgefold, &["verify"]);
        assert_eq!(status, 1, "{stdout}");
        assert!(stdout.contains(words) && stdout.contains("edgefold rebuild"), "{stdout}");
        edgefold.run(&["rebuild"]);
        assert_eq!(run(&edgefold, &["verify"]).0, 0);
    }
    // Commands that the view has seen are gone: neither can replay.
    database.execute("DELETE FROM commands WHERE offset = 0", []).unwrap();
    for command in ["verify", "rebuild"] {
        let (status, _, stderr) = run(&edgefold, &[command]);
        assert!(status == 2 && stderr.contains("commands from offset 0 on are needed"), "{stderr}");
    }
    edgefold.run(&["list"]); // The view and what follows it are enough.
    database.execute("DELETE FROM commands", []).unwrap();
    let (status, _, stderr) = run(&edgefold, &["serve", "--ecds-file", "edgefold.pb"]);
    assert!(status == 2 && stderr.contains("commands from offset 2 on are needed"), "{stderr}");
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
