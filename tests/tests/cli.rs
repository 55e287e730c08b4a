//! The command line as a user sees it: output, errors and exit statuses, over SQLite logs.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod commands;

use std::path::Path;

use edgefold_tests::{Edgefold, Outcome};
use envoy_types::pb::envoy::config::core::v3::{TypedExtensionConfig, async_data_source, data_source};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::{FailurePolicy, plugin_config};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::commands::append;

/// The verdict of `check` on a blocked address, and of `verify` on a wrong view.
const VERDICT: i32 = 1;
const ERROR: i32 = 2;
const USAGE_ERROR: i32 = 64;

/// The database of a log.
fn database(edgefold: &Edgefold) -> Connection {
    Connection::open(edgefold.path("edgefold.db")).unwrap()
}

#[test]
fn commands_print_data_and_nothing_else_on_stdout() {
    let edgefold = Edgefold::uninitialized();
    assert!(edgefold.run(&["init"]).starts_with("created "));
    assert!(edgefold.run(&["init"]).ends_with("edgefold.db exists already\n"));
    let until = "2090-01-01T04:00:00Z";
    let block =
        ["block", "10.0.0.0/24", "2001:DB8::/48", "--until", until, "--origin", "waf", "--reason", "a \"test\""];
    let expected = "0\tBLACKLIST 10.0.0.0/24 until=2090-01-01T04:00:00Z origin=\"waf\" reason=\"a \\\"test\\\"\"\n\
                    1\tBLACKLIST 2001:db8::/48 until=2090-01-01T04:00:00Z origin=\"waf\" reason=\"a \\\"test\\\"\"\n";
    assert_eq!(edgefold.run(&[&block[..], &["--at", "2016-01-01T00:00:00Z"]].concat()), expected);
    edgefold.allow(&["10.0.0.100", "--at", "2016-01-01T00:00:01Z"]).block(&["9.0.0.0-9.0.0.1"]);
    assert_eq!(
        edgefold.run(&["list", "-o", "raw"]),
        format!(
            "9.0.0.0\t9.0.0.1\t-\n10.0.0.0\t10.0.0.99\t{until}\n10.0.0.101\t10.0.0.255\t{until}\n\
             2001:db8::\t2001:db8:0:ffff:ffff:ffff:ffff:ffff\t{until}\n"
        )
    );
    let list: Value = serde_json::from_str(&edgefold.run(&["list", "-o", "json"])).unwrap();
    assert_eq!(list[1], json!({ "first": "10.0.0.0", "last": "10.0.0.99", "until": until, "list": "default" }));
    let list = edgefold.run(&["list"]);
    assert!(list.lines().any(|line| line.starts_with("9.0.0.0/31 ") && line.ends_with(" forever")), "{list}");

    let file = edgefold.path("snapshot");
    edgefold.run(&["snapshot", "-o", &file, "--name", "mine", "--no-address", "deny"]);
    let snapshot = edgefold.inspect(&file);
    assert_eq!(snapshot["name"], "mine");
    assert_eq!(snapshot["generation"], "4");
    let settings = json!({
        "mode": "enforce", "status": 403, "body": "Forbidden\n", "content_type": "text/plain", "headers": {},
        "client_address": "envoy", "no_address": "deny", "open_connections": "keep",
        "tag_header": "x-edgefold-lists",
    });
    assert_eq!(snapshot["settings"], settings);
    let list = &snapshot["lists"][0];
    assert_eq!((&list["name"], &list["does"]), (&"default".into(), &"action=deny".into()));
    assert_eq!((&list["ipv4_ranges"], &list["ipv6_ranges"]), (&3.into(), &1.into()));
    let ranges = edgefold.run(&["inspect", &file, "-o", "raw"]);
    assert!(ranges.starts_with("9.0.0.0\t9.0.0.1\tdefault\n10.0.0.0\t10.0.0.99\tdefault\n"), "{ranges}");
}

#[test]
fn serve_gives_the_resource_its_name_version_and_failure_policy() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
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
        let snapshot = edgefold.inspect(edgefold.ecds_file());
        assert_eq!((&snapshot["name"], &snapshot["lists"][0]["ipv4_ranges"]), (&name.into(), &1.into()));
    }
}

/// The path of the module in a resource of the HTTP or the network filter.
fn code_file(resource: &Path) -> String {
    let response = DiscoveryResponse::decode(&*std::fs::read(resource).unwrap()).unwrap();
    let resource = TypedExtensionConfig::decode(&*response.resources[0].value).unwrap();
    // The two have the same fields.
    let plugin = Wasm::decode(&*resource.typed_config.unwrap().value).unwrap().config.unwrap();
    let Some(plugin_config::Vm::VmConfig(vm)) = plugin.vm else { panic!("no VM") };
    let Some(async_data_source::Specifier::Local(code)) = vm.code.unwrap().specifier else { panic!("not local") };
    let Some(data_source::Specifier::Filename(path)) = code.specifier else { panic!("not in a file") };
    path
}

#[test]
fn serve_ships_both_filters_with_the_module_for_its_settings() {
    let edgefold = Edgefold::sqlite();
    let file = edgefold.path("module.wasm");
    for (policy, args) in [("keep", &["module", "-o", &file][..]), ("recheck", &["module", "-o", &file, "--recheck"])] {
        edgefold.run(args);
        let module = std::fs::read(&file).unwrap();
        assert!(module.starts_with(b"\0asm"));
        drop(edgefold.serve_both(&["--open-connections", policy]));
        for shipped in [edgefold.ecds_file(), edgefold.network_ecds_file()] {
            assert_eq!(std::fs::read(code_file(&shipped)).unwrap(), module, "{policy}");
            assert_eq!(edgefold.inspect(&shipped)["settings"]["open_connections"], policy);
            let human = edgefold.run(&["inspect", shipped.to_str().unwrap()]);
            assert!(human.contains(&format!("open connections   \"{policy}\"\n")), "{human}");
        }
    }
}

#[test]
fn serve_refuses_settings_that_no_filter_applies() {
    let edgefold = Edgefold::sqlite();
    let file = &edgefold.path("edgefold.pb");
    for (args, words) in [
        (&["serve"][..], "--network-ecds-file"),
        (&["serve", "--ecds-file", file, "--network-ecds-file", file], "must be different files"),
        (&["serve", "--ecds-file", file, "--base-ecds-file", file], "must be different files"),
        (&["serve", "--ecds-file", file, "--envoy-folder", "/etc"], "--base-ecds-file: add that"),
        (&["serve", "--ecds-file", file, "--filter", "lua"], "[possible values: wasm, native]"),
        (&["serve", "--ecds-file", file, "--filter", "native", "--failure-policy", "fail-open"], "always answers 503"),
        (&["serve", "--xds", "127.0.0.1:0", "--filter", "native"], "--filter native needs --xds-module PATH"),
        (&["serve", "--xds", "127.0.0.1:0", "--filter", "native", "--xds-module", "/filter.so"], "must have the name"),
        (&["serve", "--xds", "127.0.0.1:0", "--envoy-folder", "/etc"], "--network-ecds-file: add one"),
        (&["module", "--native", "--recheck", "-o", file], "cannot be used with"),
        (&["serve", "--network-ecds-file", file, "--status", "429"], "apply to the HTTP filter: add --ecds-file"),
        (&["serve", "--network-ecds-file", file, "--tag-header", "x-on"], "apply to the HTTP filter: add --ecds-file"),
        (&["serve", "--ecds-file", file, "--admin-address-path", "address"], "--admin <"),
        (&["serve", "--ecds-file", file, "--max-age", "4s", "--min-interval", "1001ms"], "a quarter of --max-age"),
        (&["serve", "--ecds-file", file, "--min-interval", "1x"], "write whole numbers with ms, s,"),
    ] {
        edgefold.outcome(args).assert_failed(USAGE_ERROR, words);
    }
}

#[test]
fn check_reports_by_its_exit_status() {
    let edgefold = Edgefold::uninitialized();
    edgefold.outcome(&["check", "10.0.0.1"]).assert_failed(ERROR, "there is no log at ");
    edgefold.outcome(&["check", "10.0.0.1"]).assert_failed(ERROR, "edgefold.db: create it with `edgefold init`\n");
    edgefold.init().block(&["10.0.0.0/24"]).block(&["192.0.2.1", "--until", "2090-01-01T00:00:00Z"]);
    for (ip, expected, words) in [
        ("10.0.1.1", 0, "10.0.1.1 is not blocked\n"),
        ("10.0.0.1", VERDICT, "10.0.0.1 is blocked forever, by 10.0.0.0-10.0.0.255\n"),
        ("::ffff:10.0.0.1", VERDICT, "10.0.0.1 is blocked forever, by 10.0.0.0-10.0.0.255\n"),
        ("10.0.0.0/24", VERDICT, "10.0.0.0/24 is blocked forever, by 10.0.0.0-10.0.0.255\n"),
        ("10.0.0.0/23", VERDICT, "10.0.0.0/23 is partly blocked:\n  10.0.0.0-10.0.0.255 forever\n"),
        ("2001:db8::/32", 0, "2001:db8::/32 is not blocked\n"),
        ("192.0.2.1", VERDICT, "192.0.2.1 is blocked until 2090-01-01T00:00:00Z, by 192.0.2.1\n"),
    ] {
        let Outcome { status, stdout, stderr } = edgefold.outcome(&["check", ip]);
        assert_eq!((status, stdout.as_str(), stderr.as_str()), (expected, words, ""));
    }
    assert_eq!(edgefold.outcome(&["check", "10.0.1.1", "10.0.0.1"]).status, VERDICT, "one of several");
    let json = edgefold.outcome(&["check", "10.0.0.0/23", "10.0.1.1", "-o", "json"]).stdout;
    let until = Value::Null;
    let block =
        json!({ "first": "10.0.0.0", "last": "10.0.0.255", "until": until, "list": "default", "does": "action=deny" });
    let pass = json!({ "action": "pass", "list": null, "shadow": [], "tag": [] });
    let expected = json!([
        { "range": "10.0.0.0/23", "blocked": "some", "verdict": null, "entries": [block] },
        { "range": "10.0.1.1", "blocked": "none", "verdict": pass, "entries": [] },
    ]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
}

/// A small incident with three lists: a feed on trial, an exception that lasts, and a tag.
#[test]
fn an_incident_is_played_with_three_lists() {
    let edgefold = Edgefold::sqlite();
    edgefold.run(&["lists", "set", "feed", "--action", "deny", "--status", "429", "--header", "retry-after: 60"]);
    edgefold.run(&["add", "203.0.113.0/24", "--list", "feed", "--until", "2090-01-01T00:00:00Z", "--origin", "feed"]);
    edgefold.run(&["lists", "set", "monitoring", "--action", "exempt"]);
    edgefold.run(&["lists", "set", "cloud", "--action", "tag"]);
    edgefold.run(&["add", "203.0.112.0/22", "--list", "cloud"]);
    edgefold.block(&["203.0.113.7"]);
    assert_eq!(
        edgefold.run(&["list"]),
        "default    203.0.113.7                              forever\n\
         cloud      203.0.112.0/22                           forever\n\
         feed       203.0.113.0/24                           until 2090-01-01T00:00:00Z\n"
    );
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "203.0.113.7\t203.0.113.7\t-\n", "the default list alone");
    assert_eq!(edgefold.run(&["list", "--list", "cloud", "-o", "raw"]), "203.0.112.0\t203.0.115.255\t-\n");

    // Our own probe is in the feed. Taking it off the default list is not enough.
    let check = |args: &[&str]| edgefold.outcome(&[&["check"], args].concat());
    let blocked = "203.0.113.7 is blocked, by list default:\n  \
                   list default, action=deny: 203.0.113.7 forever\n  \
                   list cloud, action=tag: 203.0.112.0-203.0.115.255 forever\n  \
                   list feed, action=deny status=429 header=\"retry-after: 60\": 203.0.113.0-203.0.113.255 until 2090-01-01T00:00:00Z\n";
    assert_eq!((check(&["203.0.113.7"]).status, check(&["203.0.113.7"]).stdout), (VERDICT, blocked.to_owned()));
    let Outcome { status, stdout, stderr } = edgefold.outcome(&["allow", "203.0.113.7"]);
    assert_eq!((status, stdout.as_str()), (0, "6\tWHITELIST 203.0.113.7\n"));
    assert!(stderr.contains("203.0.113.7 is still refused by list feed") && !stderr.contains("cloud"), "{stderr}");
    assert!(stderr.contains("`edgefold allow 203.0.113.7 --list feed`"), "{stderr}");
    edgefold.run(&["add", "203.0.113.7", "--list", "monitoring", "--reason", "our probe"]);
    assert_eq!(edgefold.outcome(&["allow", "203.0.113.7"]).stderr, "", "it is exempt");
    let exempt = check(&["203.0.113.7"]);
    assert!(
        exempt.stdout.starts_with("203.0.113.7 is not blocked, because list monitoring exempts it:\n"),
        "{exempt:?}"
    );
    assert_eq!(exempt.status, 0);
    let on_feed = check(&["203.0.113.7", "--list", "feed"]);
    assert_eq!(on_feed.status, VERDICT, "it is on that list");
    let expected = "203.0.113.7 is on list feed until 2090-01-01T00:00:00Z, by 203.0.113.0-203.0.113.255\n";
    assert_eq!(on_feed.stdout, expected);
    assert_eq!(check(&["192.0.2.1", "--list", "feed"]).stdout, "192.0.2.1 is not on list feed\n");
    assert_eq!(check(&["203.0.113.0/24"]).stdout.lines().next(), Some("203.0.113.0/24 is partly blocked:"));
    assert_eq!(check(&["203.0.112.1"]).status, 0, "a tag blocks nobody");
    let json: Value = serde_json::from_str(&check(&["203.0.113.8", "203.0.112.1", "-o", "json"]).stdout).unwrap();
    assert_eq!(json[0]["verdict"], json!({ "action": "deny", "list": "feed", "shadow": [], "tag": [] }));
    assert_eq!(json[1]["verdict"], json!({ "action": "pass", "list": null, "shadow": [], "tag": ["cloud"] }));
    check(&["10.0.0.1", "--list", "nobody"])
        .assert_failed(ERROR, "there is no list nobody: there are default, cloud, feed, monitoring");

    assert_eq!(
        edgefold.run(&["lists"]),
        "default     action=deny  0 ranges\n\
         cloud       action=tag  1 range, 1,024 IPv4 addresses\n\
         feed        action=deny status=429 header=\"retry-after: 60\"  1 range, 256 IPv4 addresses, the first ends at 2090-01-01T00:00:00Z\n\
         monitoring  action=exempt  1 range, 1 IPv4 address\n"
    );
    let lists: Value = serde_json::from_str(&edgefold.run(&["lists", "-o", "json"])).unwrap();
    let cloud = json!({
        "name": "cloud", "action": "tag", "share": null, "does": "action=tag", "ranges": 1, "ipv4_addresses": 1024,
        "ipv6_addresses": "0", "next_expiry": null,
    });
    assert_eq!(lists[1], cloud);
    let feed = edgefold.run(&["lists", "-o", "raw"]).lines().nth(2).unwrap().to_owned();
    assert!(feed.starts_with("feed\taction=deny status=429 ") && feed.ends_with("\t1\t256\t0\t2090-01-01T00:00:00Z"));

    // A typo: a list that is new refuses, which is not what an exception is for.
    let typo = edgefold.outcome(&["add", "203.0.113.9", "--list", "monitorng", "--ttl", "1h"]);
    assert!(typo.status == 0 && typo.stderr.contains("list monitorng is new, and refuses"), "{}", typo.stderr);
    assert_eq!(edgefold.outcome(&["lists", "drop", "monitorng"]).stderr, "");
    let all = edgefold.outcome(&["allow", "192.0.2.9", "--list", "*"]);
    assert!(all.stderr.contains("no longer exempt"), "{}", all.stderr);
    let switch = edgefold.outcome(&["lists", "set", "default", "--action", "tag"]);
    assert!(switch.stderr.contains("all blocks that name no list"), "{}", switch.stderr);
    edgefold.run(&["lists", "set", "default", "--action", "DENY"]);

    // The incident is over.
    edgefold.run(&["lists", "set", "feed", "--action", "deny", "--share", "10%"]);
    edgefold.run(&["remove", "203.0.113.0/24", "--list", "*"]);
    edgefold.run(&["lists", "drop", "cloud"]);
    edgefold.run(&["lists", "drop", "monitoring"]);
    assert_eq!(
        edgefold.run(&["lists", "-o", "raw"]),
        "default\taction=deny\t0\t0\t0\t-\nfeed\taction=deny share=10%\t0\t0\t0\t-\n"
    );
    assert_eq!(edgefold.run(&["rejects", "-o", "raw"]), "");
    let file = edgefold.path("snapshot");
    edgefold.run(&["snapshot", "-o", &file, "--until-offset", "8", "--list", "monitoring"]);
    assert_eq!(edgefold.run(&["inspect", &file, "-o", "raw"]), "203.0.113.7\t203.0.113.7\tmonitoring\n");
}

#[test]
fn one_list_too_many_is_listed_as_a_reject() {
    let edgefold = Edgefold::sqlite();
    for at in 0..64 {
        edgefold.run(&["lists", "set", &format!("list-{at}"), "--action", "tag"]);
    }
    for args in [&["lists", "set", "more", "--action", "tag"][..], &["add", "10.0.0.1", "--list", "more"]] {
        edgefold
            .outcome(args)
            .assert_failed(ERROR, "nothing was appended: list more does not exist, and there are 64 lists");
    }
    // Another producer does not look.
    append(&edgefold, ["ADD 10.0.0.1 list=more"]);
    assert_eq!(edgefold.run(&["lists", "-o", "raw"]).lines().count(), 65, "with the default list");
    let rejects: Value = serde_json::from_str(&edgefold.run(&["rejects", "-o", "json"])).unwrap();
    assert_eq!((&rejects[0]["offset"], &rejects[0]["rejected"]), (&64.into(), &true.into()));
    assert!(rejects[0]["reason"].as_str().unwrap().starts_with("there are 64 lists already"), "{rejects}");
    edgefold.run(&["verify"]);
}

#[test]
fn the_time_machine_shows_every_moment() {
    let edgefold = Edgefold::sqlite();
    edgefold.block(&["10.0.0.0/24", "--ttl", "1h", "--at", "2026-01-01T00:00:00Z"]);
    edgefold.block(&["192.0.2.1", "--at", "2026-01-01T00:30:00Z"]);
    edgefold.allow(&["10.0.0.0/25", "--at", "2026-01-01T00:40:00Z"]);
    edgefold.block(&["192.0.2.2", "--at", "2026-01-01T02:00:00Z"]);
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
    let check = |args: &[&str]| edgefold.outcome(&[&["check", "10.0.0.7"], args].concat()).status;
    assert_eq!(check(&[]), 0);
    assert_eq!(check(&["--until-offset", "2"]), VERDICT);
    assert_eq!(check(&["--as-of", "2026-01-01T00:40:00Z"]), 0);
    let file = edgefold.path("snapshot");
    for (args, generation, as_of) in [
        (["--until-offset", "3"], "3", "2026-01-01T00:40:00Z"),
        (["--as-of", "2026-01-01T01:30:00Z"], "3@2026-01-01T01:00:00Z", end),
    ] {
        edgefold.run(&[&["snapshot", "-o", &file][..], &args].concat());
        let snapshot = edgefold.inspect(&file);
        assert_eq!((&snapshot["generation"], &snapshot["as_of"]), (&generation.into(), &as_of.into()));
    }
    let too_late = edgefold.outcome(&["list", "--until-offset", "5"]);
    too_late.assert_failed(ERROR, "the log ends at offset 4: offset 5 is still to come");
    edgefold.outcome(&["list", "--until-offset", "1", "--as-of", end]).assert_failed(USAGE_ERROR, "--as-of");
}

#[test]
fn rejects_are_listed_with_their_reasons() {
    for format in ["human", "raw", "json"] {
        let outcome = Edgefold::uninitialized().outcome(&["rejects", "-o", format]);
        outcome.assert_failed(ERROR, "there is no log at "); // And it prints nothing that looks like a result.
    }
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    assert_eq!(edgefold.run(&["rejects", "-o", "raw"]), "");
    assert_eq!(edgefold.run(&["rejects", "-o", "json"]), "[]\n");
    assert_eq!(edgefold.run(&["rejects"]), "every record of the log is a valid command\n");
    let database = database(&edgefold);
    let insert = |offset: i64, key: Option<&[u8]>, value: Option<&[u8]>| {
        let row = rusqlite::params![offset, 1000, key, value];
        database.execute("INSERT INTO commands VALUES (?, ?, ?, ?)", row).unwrap();
    };
    insert(1, Some(b"2026-11-23T00:00:00Z"), Some(b"BLACKLIST 10.0.0.5/24"));
    insert(2, Some(b"no time"), Some(b"\xffhello\n\x1b[31m"));
    insert(3, None, None);
    insert(4, None, Some(&[b'x'; 100_000]));
    insert(5, Some(b"yesterday"), Some(b"WHITELIST 10.0.0.9"));
    let raw = edgefold.run(&["rejects", "-o", "raw"]);
    let lines: Vec<&str> = raw.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0].starts_with("1\t2026-11-23T00:00:00Z\tBLACKLIST 10.0.0.5/24\t10.0.0.5/24 has host bits set"));
    assert_eq!(lines[1], "2\t1970-01-01T00:00:01Z\t\u{fffd}hello\\n\\u{1b}[31m\tthe value is not UTF-8 text");
    assert!(lines[2].contains("the record has no value"), "{}", lines[2]);
    assert!(lines[3].len() < 5000, "only as much is shown as a command may have");
    let not_rejected = "not rejected, but its key \"yesterday\" is not a time: its timestamp is used";
    assert_eq!(lines[4], format!("5\t1970-01-01T00:00:01Z\tWHITELIST 10.0.0.9\t{not_rejected}"));
    let rejects: Value = serde_json::from_str(&edgefold.run(&["rejects", "-o", "json"])).unwrap();
    assert_eq!((&rejects[0]["offset"], &rejects[0]["text"]), (&1.into(), &"BLACKLIST 10.0.0.5/24".into()));
    assert_eq!((&rejects[0]["rejected"], &rejects[4]["rejected"]), (&true.into(), &false.into()));
    assert!(edgefold.run(&["rejects"]).contains("1  2026-11-23T00:00:00Z  BLACKLIST 10.0.0.5/24\n    10.0.0.5/24 has"));
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "10.0.0.1\t10.0.0.1\t-\n", "they change nothing");
}

#[test]
fn a_view_that_differs_is_found_and_rebuilt() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24", "192.0.2.1"]);
    let rebuilt = "the view now has 2 ranges, from the commands below offset 2\n";
    assert_eq!(edgefold.run(&["rebuild"]), rebuilt);
    assert_eq!(edgefold.run(&["verify"]), "the view is a replay of the commands below offset 2: 2 ranges\n");
    let database = database(&edgefold);
    for (sql, words) in [
        (
            "UPDATE ranges SET value = '10.0.0.99' WHERE key = '10.0.0.0'",
            "it has 10.0.0.0-10.0.0.99 forever, and the replay has 10.0.0.0-10.0.0.255 forever",
        ),
        ("DELETE FROM ranges WHERE key = '192.0.2.1'", "it has no further range, and the replay has 192.0.2.1 forever"),
        (
            "INSERT INTO ranges VALUES ('hello', 'world')",
            "the view cannot be read: edgefold did not write the record with key \"hello\" and value \"world\"",
        ),
        ("DELETE FROM ranges WHERE key = '@offset'", "there are 2 ranges, but no record with the key @offset"),
    ] {
        database.execute(sql, []).unwrap();
        let Outcome { status, stdout, .. } = edgefold.outcome(&["verify"]);
        assert_eq!(status, VERDICT, "{stdout}");
        assert!(stdout.contains(words) && stdout.contains("`edgefold rebuild` rewrites it"), "{stdout}");
        assert_eq!(edgefold.run(&["rebuild"]), rebuilt);
        edgefold.run(&["verify"]);
    }
}

#[test]
fn commands_that_are_gone_are_an_error_for_whoever_needs_them() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24", "192.0.2.1"]);
    edgefold.run(&["rebuild"]);
    let database = database(&edgefold);
    database.execute("DELETE FROM commands WHERE offset = 0", []).unwrap();
    for command in ["verify", "rebuild"] {
        edgefold.outcome(&[command]).assert_failed(ERROR, "commands from offset 0 on are needed, but the log has");
    }
    let ranges = "10.0.0.0\t10.0.0.255\t-\n192.0.2.1\t192.0.2.1\t-\n";
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), ranges, "the view, and the commands after it, are enough");
    database.execute("DELETE FROM commands", []).unwrap();
    let serve = edgefold.outcome(&["serve", "--ecds-file", &edgefold.path("edgefold.pb")]);
    serve.assert_failed(ERROR, "commands from offset 2 on are needed, but the log has");
}

#[test]
fn a_usage_error_names_the_flag_and_the_value_and_appends_nothing() {
    let edgefold = Edgefold::sqlite();
    for (args, words) in [
        (&["block", "10.0.0.1", "10.0.0.5/24"][..], &["10.0.0.5/24", "RANGE", "has host bits set"][..]),
        (&["block", "10.0.0.1", "--ttl", "0s"], &["--ttl", "0s", "a ttl of zero blocks nothing"]),
        (&["block", "10.0.0.1", "--ttl", "1h", "--until", "2090-01-01T00:00:00Z"], &["--ttl", "--until"]),
        (&["block", "10.0.0.1", "--until", "2020-01-01T00:00:00Z"], &["--until", "it would change nothing"]),
        (&["block", "10.0.0.1", "--at", "2090-01-01T00:00:00Z"], &["--at", "every reader would reject the command"]),
        (&["list", "--log", "sqlite://edgefold.db"], &["--log", "without two slashes"]),
        (&["block", "10.0.0.1", "--at", "yesterday"], &["--at", "yesterday", "write RFC 3339"]),
        (&["block", "10.0.0.1", "--reason", ""], &["reason has no value"]),
        (&["block", "10.0.0.1", "--list", "Tor"], &["--list", "Tor", "is not the name of a list"]),
        (&["block", "10.0.0.1", "--list", "*"], &["--list", "is not the name of a list"]),
        (&["add", "10.0.0.1"], &["--list"]),
        (&["remove", "10.0.0.1"], &["--list"]),
        (&["lists", "set", "a"], &["--action"]),
        (&["lists", "set", "a", "--action", "drop"], &["--action", "drop", "deny, shadow, exempt, tag"]),
        (
            &["lists", "set", "a", "--action", "deny", "--share", "25"],
            &["--share", "write a whole number from 0 to 100"],
        ),
        (&["lists", "set", "a", "--action", "tag", "--share", "25%"], &["--share", "belongs to --action deny"]),
        (&["lists", "set", "a", "--action", "deny", "--status", "99"], &["status 99 is not the status of a final"]),
        (&["lists", "drop", "default"], &["default", "it always exists"]),
        (&["block", "10.0.0.1", "--reason", "a\nb"], &["control character"]),
        (&["block"], &["RANGE"]),
        (&["list", "-o", "xml"], &["--output", "xml"]),
        (&["serve", "--ecds-file", "edgefold.json"], &["--ecds-file", "edgefold.json", "ends in .pb"]),
        (&["list", "--log", "edgefold.db"], &["--log", "edgefold.db", "write sqlite:PATH or kafka://"]),
        (&["list", "-X", "novalue"], &["--property", "novalue", "write KEY=VALUE"]),
        (&["serve", "--ecds-file", "edgefold.pb", "--name", ""], &["--name", "1 to 255 bytes"]),
        (&["nonsense"], &["nonsense"]),
    ] {
        let outcome = edgefold.outcome(args);
        words.iter().for_each(|word| outcome.assert_failed(USAGE_ERROR, word));
    }
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "");
}

#[test]
fn version_and_help_are_not_errors() {
    let edgefold = Edgefold::uninitialized();
    assert!(edgefold.run(&["--version"]).starts_with("edgefold "));
    assert!(edgefold.run(&["--help"]).contains("Exit status:"));
    assert!(edgefold.run(&["block", "--help"]).contains("Examples:"));
}

#[test]
fn inspect_prints_an_overlay_and_what_it_and_its_base_add_up_to() {
    let edgefold = Edgefold::sqlite();
    let singles = (0..30_000_u32).map(|place| std::net::Ipv4Addr::from((20 << 24) + 3 * place));
    append(&edgefold, singles.map(|ip| format!("BLACKLIST {ip}")));
    let serve = edgefold.serve(&[]);
    let edgefold = edgefold.block(&["20.0.0.1", "2001:db8::/32"]).allow(&["20.0.0.6"]);
    serve.wait_until_shipped(30_003);
    let [file, base, other] = [edgefold.ecds_file(), edgefold.base_ecds_file(), edgefold.path("other.bin").into()];
    let [file, base, other] = [&file, &base, &other].map(|path| path.to_str().unwrap());
    let overlay = edgefold.inspect(file);
    assert_eq!((&overlay["role"], &overlay["base"]), (&"overlay".into(), &edgefold.inspect(base)["fingerprint"]));
    let list = &overlay["lists"][0];
    let counts = ["ipv4_ranges", "ipv6_ranges", "removed_ipv4_ranges", "removed_ipv6_ranges"].map(|key| &list[key]);
    assert_eq!(
        counts,
        [1, 1, 2, 0].map(Value::from).each_ref(),
        "20.0.0.0-20.0.0.1 was 20.0.0.0, and 20.0.0.6 is gone"
    );
    let human = edgefold.run(&["inspect", file]);
    assert!(human.contains(" over ") && human.contains("2 IPv4 and 0 IPv6 ranges of the base removed"), "{human}");
    edgefold.outcome(&["inspect", file, "-o", "raw"]).assert_failed(USAGE_ERROR, "add --base FILE");
    let ranges = |text: String| -> Vec<String> {
        text.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>().join("-")).collect()
    };
    let raw = ranges(edgefold.run(&["inspect", file, "--base", base, "-o", "raw"]));
    assert_eq!(raw, ranges(edgefold.run(&["list", "-o", "raw"])));
    assert_eq!(raw.len(), 30_000);
    let human = edgefold.run(&["inspect", file, "--base", base]);
    assert!(human.contains("29999 IPv4 and 1 IPv6 ranges"), "{human}");
    edgefold.run(&["snapshot", "-o", other]);
    edgefold.outcome(&["inspect", file, "--base", other]).assert_failed(ERROR, "is not over the base in");
}

/// The length of a snapshot is not stored, so damage and truncation look alike where only the checksum is wrong.
#[test]
fn inspect_says_that_a_file_is_cut_off() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
    let (snapshot, cut) = (edgefold.path("snapshot.bin"), edgefold.path("cut"));
    edgefold.run(&["snapshot", "-o", &snapshot]);
    drop(edgefold.serve(&[]));
    let snapshot = std::fs::read(snapshot).unwrap();
    let resource = std::fs::read(edgefold.ecds_file()).unwrap();
    let of_snapshot: fn(usize) -> &'static str =
        |length| if length < 24 { "cut: truncated: " } else { "cut: damaged or truncated: " };
    let of_resource: fn(usize) -> &'static str =
        |_| "cut: the file is truncated or damaged: it begins like an ECDS file";
    for (bytes, words) in [(&snapshot, of_snapshot), (&resource, of_resource)] {
        let all = bytes.len();
        for length in [1, 4, 7, 8, 10, 23, 24, 40, 100, all / 2, all - 9, all - 1] {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            edgefold.outcome(&["inspect", &cut]).assert_failed(ERROR, words(length));
        }
    }
    std::fs::write(&cut, []).unwrap();
    edgefold.outcome(&["inspect", &cut]).assert_failed(ERROR, "cut: the file is empty");
}

#[test]
fn a_file_of_another_program_is_neither_a_log_nor_a_snapshot() {
    let edgefold = Edgefold::uninitialized();
    let file = edgefold.path("edgefold.db");
    std::fs::write(&file, "not a database, but long enough to look like something else ".repeat(20)).unwrap();
    edgefold.outcome(&["init"]).assert_failed(ERROR, &format!("SQLite log {file}: "));
    edgefold.outcome(&["inspect", &file]).assert_failed(ERROR, &format!("{file}: not an edgefold snapshot"));
    std::fs::remove_file(&file).unwrap();
    database(&edgefold).execute("CREATE TABLE something (other TEXT)", []).unwrap();
    edgefold.outcome(&["init"]).assert_failed(ERROR, "edgefold.db is a database, but not an edgefold log");
}

#[test]
fn a_kafka_that_cannot_be_reached_is_an_error() {
    // Nothing listens on port 1.
    let edgefold = Edgefold::over("kafka://127.0.0.1:1/edgefold");
    let outcome = edgefold.outcome(&["block", "10.0.0.1"]);
    outcome.assert_failed(ERROR, "Kafka at 127.0.0.1:1: cannot ask for the topics");
    outcome.assert_failed(ERROR, "; nothing was appended\n");
}

#[test]
fn a_property_that_cannot_be_set_is_a_usage_error() {
    let edgefold = Edgefold::over("kafka://127.0.0.1:1/edgefold");
    let fixed = "-X acks: edgefold's guarantees depend on its own value";
    edgefold.outcome(&["list", "-X", "acks=0"]).assert_failed(USAGE_ERROR, fixed);
    let rack = "-X client.rack: edgefold reads from the leader of a partition";
    edgefold.outcome(&["list", "-X", "client.rack=a"]).assert_failed(USAGE_ERROR, rack);
    let unknown = "-X no.such.property: No such configuration property";
    edgefold.outcome(&["list", "-X", "no.such.property=1"]).assert_failed(USAGE_ERROR, unknown);
    let mistyped = edgefold.outcome(&["list", "-X", "sasl.pasword=secret"]);
    mistyped.assert_failed(USAGE_ERROR, "-X sasl.pasword: ");
    assert!(!mistyped.stderr.contains("secret"), "{}", mistyped.stderr);
    let brokers = "-X bootstrap.servers: the URL of the log names the brokers";
    edgefold.outcome(&["list", "-X", "bootstrap.servers=other:9092"]).assert_failed(USAGE_ERROR, brokers);
    edgefold
        .outcome(&["block", "10.0.0.1", "-X", "delivery.timeout.ms=1"])
        .assert_failed(USAGE_ERROR, "-X delivery.timeout.ms: ");
    let file = edgefold.path("properties");
    std::fs::write(&file, "# a comment\n\nacks = 0\n").unwrap();
    edgefold.outcome(&["list", "-F", &file]).assert_failed(USAGE_ERROR, fixed);
    let over_sqlite = Edgefold::sqlite().outcome(&["list", "-X", "acks=0"]);
    over_sqlite.assert_failed(USAGE_ERROR, "librdkafka's properties apply only to kafka:// logs");
}
