//! What an operator asks and does: explain, log, import, export, diff, undo, guard rails, settings. Over both logs.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::process::Stdio;
use std::sync::Arc;

use edgefold_tests::{Edgefold, EnvoyOptions, Kafka, Outcome, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const ERROR: i32 = 2;
const UNKNOWN: i32 = 3;
const USAGE_ERROR: i32 = 64;

/// One named test for each case and log.
macro_rules! over_both_logs {
    ($($case:ident,)+) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case(&edgefold_tests::Edgefold::sqlite()) })+
        }
        mod kafka {
            $(#[test] fn $case() { super::over_kafka(stringify!($case), super::$case) })+
        }
    };
}

fn over_kafka(name: &str, case: fn(&Edgefold)) {
    let kafka: Arc<Kafka> = Kafka::shared();
    // Topic names are short.
    let prefix: String = name.split('_').filter_map(|word| word.chars().next()).collect();
    case(&Edgefold::kafka(&kafka, &format!("op-{prefix}")));
}

over_both_logs! {
    explain_names_the_command_that_counts_and_how_to_undo_it,
    an_address_on_two_lists_is_blocked_until_the_later_end,
    a_late_command_was_not_enforced_before_it_came,
    the_log_is_filtered_and_followed,
    a_sync_appends_only_what_differs,
    a_sync_that_was_cut_off_is_completed_by_the_next,
    a_feed_with_a_ttl_lapses_and_is_prolonged_when_half_is_left,
    what_is_exported_can_be_imported_again,
    two_points_are_compared,
    undo_restores_what_one_command_decided_alone,
    a_dry_run_says_what_then_happens,
    what_is_probably_a_mistake_takes_force,
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The offsets of the commands in the log.
fn count(edgefold: &Edgefold) -> usize {
    edgefold.run(&["log", "-o", "raw"]).lines().count()
}

/// Writes a file in the folder, and returns its path.
fn file(edgefold: &Edgefold, name: &str, text: &str) -> String {
    let path = edgefold.path(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The ranges of a list, as `FIRST<TAB>LAST<TAB>UNTIL`.
fn ranges(edgefold: &Edgefold, list: &str) -> String {
    edgefold.run(&["list", "--list", list, "-o", "raw"])
}

fn explain_names_the_command_that_counts_and_how_to_undo_it(edgefold: &Edgefold) {
    edgefold.block(&["10.0.0.0/24", "--origin", "waf", "--reason", "credential stuffing"]).allow(&["10.0.0.9"]);
    edgefold.run(&["lists", "set", "probes", "--action", "exempt"]);
    edgefold.run(&["add", "10.0.0.7", "--list", "probes", "--force"]);

    let Outcome { status, stdout, .. } = edgefold.outcome(&["explain", "10.0.0.8", "-o", "json"]);
    let blocked = json(&stdout);
    assert_eq!((status, &blocked["blocked"], &blocked["verdict"]["list"]), (1, &"all".into(), &"default".into()));
    let events = blocked["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{blocked}");
    assert_eq!(
        (&events[0]["origin"], &events[0]["reason"], &events[0]["effects"][0]["effect"], &events[0]["counts"]),
        (&"waf".into(), &"credential stuffing".into(), &"put".into(), &true.into())
    );
    // What is printed to undo it does so.
    let undo = blocked["undo"][0].as_str().unwrap().to_owned();
    edgefold.run(&undo.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(edgefold.outcome(&["explain", "10.0.0.8"]).status, 0);

    let exempt = json(&edgefold.run(&["explain", "10.0.0.7", "-o", "json"]));
    assert_eq!((&exempt["verdict"]["action"], &exempt["verdict"]["list"]), (&"exempt".into(), &"probes".into()));
    let human = edgefold.run(&["explain", "10.0.0.7"]);
    assert!(human.starts_with("10.0.0.7 passes: list probes exempts it, by the command at offset "), "{human}");
    assert!(human.contains("edgefold remove 10.0.0.7 --list probes"), "{human}");
    let freed = edgefold.run(&["explain", "10.0.0.9"]);
    assert!(freed.lines().any(|line| line.starts_with('*') && line.contains(" freed ")), "{freed}");
    assert_eq!(edgefold.run(&["explain", "192.0.2.1"]), "192.0.2.1 passes: no command is about it\n");
    let raw = edgefold.run(&["explain", "10.0.0.9", "-o", "raw"]);
    let fields: Vec<Vec<&str>> = raw.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((fields[0].len(), fields[0][4], fields[1][4], fields[1][5]), (7, "put", "taken", "yes"));
}

/// Found by a newcomer: the end was that of the list that decides, although another one blocks for longer.
fn an_address_on_two_lists_is_blocked_until_the_later_end(edgefold: &Edgefold) {
    edgefold.block(&["10.0.0.0/24", "--ttl", "4h"]);
    edgefold.run(&["lists", "set", "feed", "--action", "deny"]);
    edgefold.run(&["add", "10.0.0.7", "--list", "feed"]);
    let headline = |address| edgefold.outcome(&["explain", address]).stdout.lines().next().unwrap().to_owned();
    let both = headline("10.0.0.7");
    assert!(
        both.starts_with("10.0.0.7 is blocked forever, on lists default, feed; default decides, by the command at "),
        "{both}"
    );
    let one = headline("10.0.0.8");
    assert!(
        one.starts_with("10.0.0.8 is blocked until ") && one.contains(", on list default, by the command at "),
        "{one}"
    );
}

fn a_late_command_was_not_enforced_before_it_came(edgefold: &Edgefold) {
    edgefold.block(&["192.0.2.1", "--at", "2026-01-01T12:00:00Z"]);
    edgefold.block(&["10.0.0.7", "--at", "2026-01-01T11:00:00Z"]);
    // After both times, and before both came.
    let then = json(&edgefold.run(&["explain", "10.0.0.7", "--at", "2026-01-01T13:00:00Z", "-o", "json"]));
    assert_eq!((&then["blocked"], &then["by_command_times"]["blocked"]), (&"none".into(), &"all".into()));
    assert_eq!(then["late"][0]["time"], "2026-01-01T11:00:00Z");
    let human = edgefold.run(&["explain", "10.0.0.7", "--at", "2026-01-01T13:00:00Z"]);
    assert!(human.contains("These arrived later, with an earlier time"), "{human}");
    let Outcome { status, stdout, .. } = edgefold.outcome(&["explain", "10.0.0.7"]);
    assert!(status == 1 && stdout.contains("after its time: it was enforced from then on"), "{stdout}");
    // Enforced as soon as it came.
    let received = json(&edgefold.outcome(&["explain", "10.0.0.7", "-o", "json"]).stdout);
    let received = received["events"][0]["received"].as_str().unwrap();
    assert_eq!(edgefold.outcome(&["explain", "10.0.0.7", "--at", received]).status, 1);
    edgefold.outcome(&["explain", "10.0.0.7", "--at", "2090-01-01T00:00:00Z"]).assert_failed(USAGE_ERROR, "--as-of");
}

fn the_log_is_filtered_and_followed(edgefold: &Edgefold) {
    edgefold.block(&["10.0.0.0/24", "--origin", "waf"]).allow(&["10.0.0.9", "--list", "*"]);
    edgefold.run(&["add", "192.0.2.0/24", "--list", "feed", "--reason", "\\ \"x\""]);
    let texts = |args: &[&str]| -> Vec<String> {
        let raw = edgefold.run(&[&["log", "-o", "raw"], args].concat());
        raw.lines().map(|line| line.split('\t').nth(3).unwrap().to_owned()).collect()
    };
    let all = texts(&[]);
    assert_eq!(all[..2], ["BLACKLIST 10.0.0.0/24 origin=\"waf\"", "WHITELIST 10.0.0.9 list=*"]);
    assert_eq!(texts(&["--origin", "waf"]), all[..1]);
    assert_eq!(texts(&["--list", "feed"]), all[1..], "what is about all lists is about this one");
    assert_eq!(texts(&["--touching", "10.0.0.9"]), all[..2]);
    assert_eq!(texts(&["--touching", "192.0.2.255-192.0.3.0"]), all[2..]);
    assert_eq!((texts(&["--since", "1h"]), texts(&["--until", "1h"])), (all.clone(), vec![]));
    let line = json(edgefold.run(&["log", "-o", "json"]).lines().next().unwrap());
    assert_eq!((&line["origin"], &line["reason"]), (&"waf".into(), &Value::Null));

    let mut follow = edgefold.command(&["log", "-f", "-o", "raw"]);
    let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let stdout = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    for _ in 0..3 {
        eventually("a command that was there", || lines.try_recv().ok());
    }
    edgefold.block(&["203.0.113.7"]);
    let line = eventually("a command that came later", || lines.try_recv().ok());
    assert!(line.ends_with("\tBLACKLIST 203.0.113.7"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_sync_appends_only_what_differs(edgefold: &Edgefold) {
    edgefold.run(&["add", "10.9.9.9", "--list", "other"]);
    let feed = file(edgefold, "feed", "# v1\n192.0.2.0/25\n192.0.2.128/25\n198.51.100.7\n2001:db8::/48\n");
    let sync = ["import", &feed, "--list", "feed", "--sync"];
    let said = edgefold.run(&sync);
    assert!(said.contains("read 4 entries (lines): 3 ranges") && said.contains("3 commands appended"), "{said}");
    let list = "192.0.2.0\t192.0.2.255\t-\n198.51.100.7\t198.51.100.7\t-\n2001:db8::\t2001:db8:0:ffff:ffff:ffff:ffff:ffff\t-\n";
    assert_eq!(ranges(edgefold, "feed"), list);
    let before = count(edgefold);
    // The same in other CIDR blocks, and in another format.
    file(edgefold, "feed", "ip\n192.0.2.0/24\n198.51.100.7\n2001:db8::/49\n2001:db8:0:8000::/49\n");
    assert!(edgefold.run(&sync).contains("(csv)"), "the format is found");
    assert_eq!((count(edgefold), ranges(edgefold, "feed").as_str()), (before, list));
    // One goes, one comes.
    file(edgefold, "feed", "192.0.2.0/24\n198.51.100.8\n2001:db8::/48\n");
    let summary = json(&edgefold.run(&[&sync[..], &["-o", "json"]].concat()));
    assert_eq!(
        (&summary["added"]["ranges"], &summary["removed"]["ranges"], &summary["commands"]),
        (&1.into(), &1.into(), &2.into())
    );
    assert_eq!(summary["next_offset"], before + 2);
    assert_eq!(ranges(edgefold, "other"), "10.9.9.9\t10.9.9.9\t-\n", "other lists are left alone");
    // Without --sync nothing goes.
    file(edgefold, "feed", "203.0.113.1\n");
    edgefold.run(&["import", &feed, "--list", "feed"]);
    assert_eq!(ranges(edgefold, "feed").lines().count(), 4);

    // Bad lines, empty files and too large changes append nothing.
    let appended = count(edgefold);
    file(edgefold, "feed", "203.0.113.1\n<html>\n203.0.113.0/24 # fine\n10.0.0.1/24\n");
    let bad = edgefold.outcome(&[&sync[..], &["--format", "lines"]].concat());
    bad.assert_failed(ERROR, "2 of 4 entries cannot be read, so nothing was appended");
    assert!(bad.stderr.contains("line 2: \"<html>\"") && bad.stderr.contains("line 4: "), "{}", bad.stderr);
    let limits = ["--format", "lines", "--skip-bad", "--max-change", "20%"];
    edgefold.outcome(&[&sync[..], &limits].concat()).assert_failed(ERROR, "and --max-change is 20%");
    let limits = ["--format", "lines", "--skip-bad", "--max-addresses", "255"];
    edgefold.outcome(&[&sync[..], &limits].concat()).assert_failed(ERROR, "--max-addresses is 255");
    let limits = ["--format", "lines", "--skip-bad", "--max-ranges", "0"];
    edgefold.outcome(&[&sync[..], &limits].concat()).assert_failed(ERROR, "more than 0 ranges");
    file(edgefold, "feed", "# nothing\n");
    edgefold.outcome(&[&sync[..], &["--format", "lines"]].concat()).assert_failed(ERROR, "it has no entry");
    assert_eq!(count(edgefold), appended);

    // Good lines beside bad ones, from stdin.
    let from_stdin = ["import", "-", "--list", "feed", "--sync", "--skip-bad", "--format", "lines"];
    let Outcome { status, stderr, .. } = edgefold.outcome_with(&from_stdin, "203.0.113.1\n<html>\n203.0.113.9\n", &[]);
    assert!(status == 0 && stderr.contains("left out: line 2: \"<html>\""), "{stderr}");
    assert_eq!(ranges(edgefold, "feed"), "203.0.113.1\t203.0.113.1\t-\n203.0.113.9\t203.0.113.9\t-\n");
}

fn a_sync_that_was_cut_off_is_completed_by_the_next(edgefold: &Edgefold) {
    // More than are appended at a time.
    let feed: String =
        (0..600_000_u32).map(|at| format!("{}\n", std::net::Ipv4Addr::from_bits((20 << 24) + 2 * at))).collect();
    let feed = file(edgefold, "feed", &feed);
    let mut import = edgefold.command(&["import", &feed, "--list", "feed", "--sync"]);
    let child = import.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the first part", || (log_end(edgefold) > 0).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // It may have been over already.
    if output.status.code() == Some(UNKNOWN) {
        assert!(stderr.contains("of 600,000 commands, ") && stderr.contains("import the same again"), "{stderr}");
    }
    edgefold.run(&["import", &feed, "--list", "feed", "--sync"]);
    assert_eq!(edgefold.run(&["diff", "now", &feed, "--list", "feed"]), "nothing differs\n");
}

fn a_feed_with_a_ttl_lapses_and_is_prolonged_when_half_is_left(edgefold: &Edgefold) {
    let feed = file(edgefold, "feed", "192.0.2.0/24\n198.51.100.7\n");
    let sync = |at: &str| {
        let args = ["import", &feed, "--list", "feed", "--sync", "--ttl", "10d", "--at", at, "-o", "json"];
        json(&edgefold.run(&args))["commands"].as_u64().unwrap()
    };
    assert_eq!(sync("2026-01-01T00:00:00Z"), 2);
    assert_eq!(sync("2026-01-05T23:00:00Z"), 0, "more than half is left");
    assert_eq!(sync("2026-01-06T01:00:00Z"), 2);
    let at = |time| edgefold.outcome(&["check", "192.0.2.7", "--as-of", time]).status;
    assert_eq!((at("2026-01-12T00:00:00Z"), at("2026-01-16T02:00:00Z")), (1, 0), "it lapses if it does not come");
}

fn what_is_exported_can_be_imported_again(edgefold: &Edgefold) {
    edgefold.block(&["10.0.0.1-10.0.0.6", "192.0.2.0/24", "2001:db8::/48"]);
    edgefold.block(&["198.51.100.7", "--until", "2090-01-01T00:00:00Z"]);
    edgefold.run(&["lists", "set", "probes", "--action", "exempt"]);
    edgefold.run(&["add", "192.0.2.128/25", "--list", "probes", "--force"]);
    // What is exempt is not refused, so it is not exported.
    let cidrs = edgefold.run(&["export", "--format", "cidr"]);
    let expected = "10.0.0.1/32\n10.0.0.2/31\n10.0.0.4/31\n10.0.0.6/32\n192.0.2.0/25\n198.51.100.7/32\n2001:db8::/48\n";
    assert_eq!(cidrs, expected);
    let path = edgefold.path("exported");
    for format in ["csv", "json", "ranges", "cidr", "haproxy-map"] {
        edgefold.run(&["export", "--format", format, "--list", "default", "-o", &path]);
        edgefold.run(&["import", &path, "--list", "copy", "--sync", "--format", format]);
        let same = edgefold.outcome(&["diff", "now", &path, "--list", "default", "--format", format]);
        assert_eq!((same.status, same.stdout.as_str()), (0, "nothing differs\n"), "{format}");
    }
    edgefold.outcome(&["export", "--format", "aws"]).assert_failed(USAGE_ERROR, "invalid value 'aws'");
    edgefold.outcome(&["export", "--format", "csv", "--list", "none"]).assert_failed(ERROR, "there is no list none");
}

fn two_points_are_compared(edgefold: &Edgefold) {
    edgefold.block(&["10.0.0.0/24"]).allow(&["10.0.0.9"]).block(&["192.0.2.1", "--until", "2090-01-01T00:00:00Z"]);
    let first = edgefold.path("first");
    edgefold.run(&["snapshot", "-o", &first, "--until-offset", "1"]);
    edgefold.block(&["192.0.2.1"]);
    edgefold.run(&["lists", "set", "default", "--action", "shadow"]);
    // Offsets of Kafka and SQLite are the same here: nothing is in a transaction.
    let Outcome { status, stdout, .. } = edgefold.outcome(&["diff", "1", "now", "-o", "json"]);
    let differences = json(&stdout);
    assert_eq!((status, differences.as_array().unwrap().len()), (1, 1));
    let list = &differences[0];
    assert_eq!((&list["does_before"], &list["does"]), (&"action=deny".into(), &"action=shadow".into()));
    assert_eq!((&list["removed"]["ipv4_addresses"], &list["added"]["ipv4_addresses"]), (&1.into(), &1.into()));
    assert_eq!(
        edgefold.outcome(&["diff", "3", "4", "-o", "raw"]).stdout,
        "until\tdefault\t192.0.2.1\t192.0.2.1\t2090-01-01T00:00:00Z\tforever\n"
    );
    assert_eq!(edgefold.run(&["diff", "now", "now"]), "nothing differs\n");
    assert_eq!(edgefold.run(&["diff", "1", &first]), "nothing differs\n", "a snapshot knows no ends");
    assert_eq!(edgefold.outcome(&["diff", &first, "now"]).status, 1);
    edgefold.outcome(&["diff", "now", "nowhere"]).assert_failed(USAGE_ERROR, "there is no such file");
    edgefold.outcome(&["diff", "now", "99"]).assert_failed(ERROR, "");
}

fn undo_restores_what_one_command_decided_alone(edgefold: &Edgefold) {
    edgefold.block(&["10.0.0.0/24"]).allow(&["10.0.0.0/25"]).block(&["10.0.0.0-10.0.0.9"]);
    let Outcome { status, stdout, stderr } = edgefold.outcome(&["undo", "1"]);
    assert_eq!(status, 0);
    assert!(stdout.contains("BLACKLIST 10.0.0.10-10.0.0.127"), "{stdout}");
    assert!(stderr.contains("not restored: 10.0.0.0-10.0.0.9; later commands are about that: offset 2"), "{stderr}");
    assert_eq!(ranges(edgefold, "default"), "10.0.0.0\t10.0.0.255\t-\n");
    edgefold.outcome(&["undo", "99"]).assert_failed(ERROR, "no command at offset 99");
    let before = count(edgefold);
    assert!(edgefold.outcome(&["undo", "0"]).stderr.contains("not restored"));
    assert!(count(edgefold) >= before);
}

fn a_dry_run_says_what_then_happens(edgefold: &Edgefold) {
    edgefold.block(&["10.0.0.0/24"]);
    let feed = file(edgefold, "feed", "10.0.0.128-10.0.1.5\n");
    for args in [
        &["block", "10.0.0.128/25", "10.0.1.0/24"][..],
        &["allow", "10.0.0.7"],
        &["add", "10.0.0.7", "--list", "new"],
        &["remove", "10.0.0.7", "--list", "new"],
        &["lists", "set", "new", "--action", "tag"],
        &["lists", "drop", "new"],
        &["import", &feed, "--list", "default", "--sync"],
        &["undo", "0"],
    ] {
        let before = count(edgefold);
        let dry = edgefold.run(&[args, &["--dry-run", "-o", "raw"]].concat());
        assert_eq!(count(edgefold), before, "{args:?}");
        edgefold.run(&[args, &["--force"]].concat());
        let after = edgefold.outcome(&["diff", &before.to_string(), "now", "-o", "raw"]).stdout;
        assert_eq!(dry, after, "{args:?}");
    }
    let words = edgefold.run(&["block", "192.0.2.0/24", "--dry-run"]);
    assert!(words.contains("1 range added (256 addresses)"), "{words}");
}

fn what_is_probably_a_mistake_takes_force(edgefold: &Edgefold) {
    edgefold.run(&["lists", "set", "probes", "--action", "exempt"]);
    edgefold.run(&["add", "10.0.0.7", "--list", "probes"]);
    let before = count(edgefold);
    let refused = |args: &[&str], words: &str| {
        edgefold.outcome_with(args, "", &[("SSH_CLIENT", "203.0.113.9 50000 22")]).assert_failed(ERROR, words);
        assert_eq!(count(edgefold), before, "{args:?}");
    };
    refused(&["block", "0.0.0.0/0"], "it would block 4,294,967,295 addresses, more than a /8 of IPv4 has");
    refused(&["block", "12.0.0.0/8", "13.0.0.0"], "more than a /8");
    refused(&["block", "2000::/3"], "more than a /16 of IPv6");
    refused(&["block", "203.0.113.0/24"], "from which you are connected");
    refused(&["block", "10.0.0.0/24"], "10.0.0.7 would pass anyway, because list probes exempts it");
    let feed = file(edgefold, "feed", "0.0.0.0/1\n");
    refused(&["import", &feed, "--list", "feed"], "more than a /8");
    edgefold.run(&["block", "10.0.0.0/24", "--force"]);
    assert_eq!(count(edgefold), before + 1);

    // An exemption that goes blocks, too.
    edgefold.run(&["add", "203.0.113.9", "--list", "probes"]);
    edgefold.run(&["block", "203.0.113.0/24", "--force"]);
    for args in [
        &["lists", "drop", "probes"][..],
        &["lists", "set", "probes", "--action", "shadow"],
        &["remove", "203.0.113.9", "--list", "probes"],
    ] {
        let outcome = edgefold.outcome_with(args, "", &[("SSH_CLIENT", "203.0.113.9 50000 22")]);
        outcome.assert_failed(ERROR, "from which you are connected");
    }
    // A feed that has what is exempt is as it should be.
    let feed = file(edgefold, "feed", "10.0.0.7\n10.0.0.9\n");
    let import = edgefold.outcome(&["import", &feed, "--list", "feed", "--sync"]);
    assert!(import.status == 0 && import.stderr.contains("note: "), "{}", import.stderr);
}

/// What a subcommand prints on a terminal, which script(1) makes.
fn on_a_terminal(edgefold: &Edgefold, subcommand: &str, variables: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new("script");
    // Without the bar that shows progress on stderr.
    command.args(["-qec", &format!("{} {subcommand} 2>/dev/null", edgefold.binary().display()), "/dev/null"]);
    command.env("EDGEFOLD_LOG", edgefold.log()).env("EDGEFOLD_CACHE", edgefold.cache());
    command.env("EDGEFOLD_CONFIG", "").env("TERM", "xterm").env_remove("NO_COLOR");
    command.envs(variables.iter().copied());
    String::from_utf8_lossy(&command.stdin(Stdio::null()).output().unwrap().stdout).into_owned()
}

#[test]
fn there_is_colour_on_a_terminal_unless_no_color_is_set() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.7"]);
    let explain = |variables: &[(&str, &str)]| {
        on_a_terminal(&edgefold, "explain 10.0.0.7", &[&[("EDGEFOLD_PAGER", "cat")], variables].concat())
    };
    let (coloured, plain) = (explain(&[]), explain(&[("NO_COLOR", "1")]));
    assert!(coloured.contains('\u{1b}') && coloured.contains("is blocked forever"), "{coloured}");
    assert!(!plain.contains('\u{1b}') && plain.contains("is blocked forever"), "{plain}");
    assert!(!edgefold.outcome(&["explain", "10.0.0.7"]).stdout.contains('\u{1b}'), "it is not a terminal");
}

#[test]
fn a_pager_that_is_missing_loses_nothing() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.7"]);
    let listing = |pager: &str| on_a_terminal(&edgefold, "log", &[("EDGEFOLD_PAGER", pager)]);
    for pager in ["no-such-program", "cat", "", "sed s/BLACKLIST/PAGED/"] {
        let text = listing(pager);
        let expected = if pager.starts_with("sed") { "PAGED 10.0.0.7" } else { "BLACKLIST 10.0.0.7" };
        assert!(text.contains(expected), "{pager}: {text}");
    }
}

/// The number of commands, without printing them all.
fn log_end(edgefold: &Edgefold) -> u64 {
    use edgefold::{LogUrl, Position};
    let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
    log.commands(Position::default()).unwrap().end()
}

#[test]
fn an_export_replaces_a_file_whole_and_follows_a_link() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.7"]);
    let (target, link) = (file(&edgefold, "target", "before\n"), edgefold.path("link"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    edgefold.run(&["export", "--format", "cidr", "-o", &link]);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "10.0.0.7/32\n");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    edgefold.run(&["export", "--format", "cidr", "-o", "/dev/null"]);
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    edgefold.outcome(&["export", "--format", "cidr", "-o", "json"]).assert_failed(USAGE_ERROR, "write ./json");
}

#[test]
fn ranges_come_from_stdin_and_files() {
    let edgefold = Edgefold::sqlite();
    let from_file = file(&edgefold, "ranges", "# mine\n192.0.2.1 ; one\n192.0.2.8/29\n");
    let outcome =
        edgefold.outcome_with(&["block", "-", "198.51.100.1", "-f", &from_file], "10.0.0.1\n10.0.0.4-10.0.0.6\n", &[]);
    assert_eq!((outcome.status, outcome.stdout.lines().count()), (0, 5), "{}", outcome.stderr);
    let check = edgefold.outcome_with(&["check", "-", "-o", "raw"], "10.0.0.1\n10.0.0.2\n", &[]);
    assert_eq!(check.stdout.lines().map(|line| line.rsplit('\t').next().unwrap()).collect::<Vec<_>>(), ["all", "none"]);
    let bad = edgefold.outcome_with(&["allow", "-"], "10.0.0.1\n10.0.0.1/8\n", &[]);
    bad.assert_failed(USAGE_ERROR, "stdin: line 2: ");
    edgefold.outcome_with(&["block", "-"], "# nothing\n", &[]).assert_failed(USAGE_ERROR, "there is no range");
    edgefold.outcome(&["block"]).assert_failed(USAGE_ERROR, "RANGE");
}

#[test]
fn defaults_come_from_a_file_and_are_overridden() {
    let edgefold = Edgefold::sqlite();
    let log = edgefold.log().to_owned();
    let config = file(
        &edgefold,
        "edgefold.toml",
        &format!(
            "log = \"{log}\"\norigin = \"alice\"\n[import]\nlist = \"feed\"\nmax-change = \"20%\"\n[list]\noutput = \"raw\"\n"
        ),
    );
    let with = |args: &[&str], more: &[(&str, &str)]| {
        let mut command = edgefold.command(args);
        command.env_remove("EDGEFOLD_LOG").env("EDGEFOLD_CONFIG", &config).envs(more.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(with(&["block", "10.0.0.7"], &[]).1, "0\tBLACKLIST 10.0.0.7 origin=\"alice\"\n");
    assert_eq!(with(&["block", "10.0.0.8", "--origin", "bob"], &[]).1, "1\tBLACKLIST 10.0.0.8 origin=\"bob\"\n");
    assert_eq!(with(&["list"], &[]).1, "10.0.0.7\t10.0.0.8\t-\n");
    assert!(with(&["list", "-o", "json"], &[]).1.starts_with('['));
    let feed = file(&edgefold, "feed", "192.0.2.1\n");
    assert_eq!(with(&["import", &feed], &[]).0, 0, "a required flag may come from the file");
    assert_eq!(
        with(&["log", "-o", "raw"], &[]).1.lines().count(),
        3,
        "the filter of `log` is not the origin of commands"
    );
    // A table overrides the top, whatever their order; what conflicts with what was typed is left out.
    let both = format!(
        "log = \"sqlite:/nowhere\"\norigin = \"alice\"\n[add]\nlog = \"{log}\"\norigin = \"cron\"\nttl = \"1h\"\nlist = \"x\"\n"
    );
    file(&edgefold, "edgefold.toml", &both);
    let added = with(&["add", "10.0.0.9", "--until", "2090-01-01T00:00:00Z"], &[]).1;
    assert_eq!(added, "3\tADD 10.0.0.9 until=2090-01-01T00:00:00Z list=x origin=\"cron\"\n");
    // What holds for flags holds for the file.
    file(&edgefold, "edgefold.toml", "[serve]\ntls-cert = \"a\"\ntls-client-ca = \"b\"\n");
    let (status, _, stderr) = with(&["serve", "--xds", "127.0.0.1:0"], &[]);
    assert!(status == USAGE_ERROR && stderr.contains("--tls-key"), "{stderr}");
    file(&edgefold, "edgefold.toml", "property = [\"sasl.password=hunter2\", \"client.id=me\"]\nlog = \n");
    assert!(!with(&["list"], &[]).2.contains("hunter2"));
    assert_eq!(with(&["--version"], &[]).0, 0, "a file that is wrong is in nobody's way");
    file(&edgefold, "edgefold.toml", "property = [\"sasl.password=hunter2\", \"client.id=me\"]\n");
    let shown = with(&["config", "-o", "raw"], &[]).1;
    assert!(shown.contains("property\tsasl.password=(not shown), client.id=me\t"), "{shown}");
    file(
        &edgefold,
        "edgefold.toml",
        &format!("log = \"{log}\"\n[import]\nmax-change = \"20%\"\n[list]\noutput = \"raw\"\n"),
    );
    // The environment overrides the file.
    let other = Edgefold::sqlite();
    assert_eq!(with(&["list"], &[("EDGEFOLD_LOG", other.log())]).1, "");
    let in_force = with(&["config", "-o", "raw"], &[("EDGEFOLD_LOG", other.log())]).1;
    assert!(in_force.contains(&format!("log\t{}\tEDGEFOLD_LOG\n", other.log())), "{in_force}");
    assert!(in_force.contains(&format!("import.max-change\t20%\t{config}\n")), "{in_force}");

    for (text, words) in [
        ("logg = \"x\"", "write logg below the subcommand"),
        ("[import]\nmax-chance = 1", "--max-chance is not a flag of `edgefold import`"),
        ("[imprt]\nlist = \"x\"", "--list is not a flag of `edgefold imprt`"),
        ("[block]\nforce = true", "--force must be typed each time"),
        ("log = ", "edgefold.toml: "),
    ] {
        file(&edgefold, "edgefold.toml", text);
        let (status, _, stderr) = with(&["list"], &[]);
        assert!(status == USAGE_ERROR && stderr.contains(words), "{text}: {stderr}");
    }
    file(&edgefold, "edgefold.toml", "[import]\nmax-change = \"much\"");
    let (status, _, stderr) = with(&["import", &feed, "--list", "feed"], &[]);
    assert!(status == USAGE_ERROR && stderr.contains("some flags come from "), "{stderr}");
}

#[test]
fn completions_and_man_pages_are_written() {
    let edgefold = Edgefold::sqlite();
    for shell in ["bash", "zsh", "fish"] {
        assert!(edgefold.run(&["completions", shell]).contains("max-change"), "{shell}");
    }
    let folder = edgefold.path("man");
    edgefold.run(&["man", &folder]);
    let page = std::fs::read_to_string(format!("{folder}/edgefold-explain.1")).unwrap();
    assert!(page.contains(".TH edgefold"), "{page}");
    // What is typed is not filled.
    assert!(page.contains(".nf\nExamples:\n  edgefold explain 10.0.0.7\n"), "{page}");
}

/// Text in the log is untrusted: escape sequences must not reach a terminal.
#[test]
fn times_are_in_the_zone_of_the_reader_and_nothing_in_the_log_reaches_the_terminal() {
    let edgefold = Edgefold::sqlite();
    edgefold.block(&["10.0.0.7", "--until", "2090-07-01T12:00:00Z", "--reason", "\u{2066}x"]);
    let list = |zone| edgefold.outcome_with(&["list"], "", &[("TZ", zone)]).stdout;
    assert!(list("UTC").ends_with(" until 2090-07-01T12:00:00Z\n"), "{}", list("UTC"));
    assert!(list("Asia/Tokyo").ends_with(" until 2090-07-01T21:00:00+09:00\n"), "{}", list("Asia/Tokyo"));
    for (args, expected) in [(&["log"][..], 0), (&["explain", "10.0.0.7"], 1)] {
        let Outcome { status, stdout, .. } = edgefold.outcome(args);
        assert_eq!(status, expected);
        assert!(stdout.contains(r"\u{2066}x") && !stdout.contains('\u{1b}'), "{stdout}");
    }
}

#[test]
fn the_doctor_names_what_is_wrong() {
    let edgefold = Edgefold::uninitialized();
    let findings = |edgefold: &Edgefold, args: &[&str]| {
        let Outcome { status, stdout, .. } = edgefold.outcome(&[&["doctor", "-o", "json"], args].concat());
        let findings = json(&stdout);
        let of = |about: &str| -> Vec<(String, String)> {
            let findings = findings
                .as_array()
                .unwrap()
                .iter()
                .filter(|finding| finding["about"].as_str().unwrap().contains(about));
            findings
                .map(|finding| (finding["state"].as_str().unwrap().into(), finding["what"].as_str().unwrap().into()))
                .collect()
        };
        (status, of("log"), of("view"), of("serve"), of("edgefold.pb"), of("Envoy"))
    };
    let (status, log, ..) = findings(&edgefold, &[]);
    assert_eq!((status, log[0].0.as_str()), (1, "problem"), "{log:?}");
    edgefold.init().block(&["10.0.0.0/24"]);
    let (status, log, view, serve, ..) = findings(&edgefold, &["--admin-url", "http://127.0.0.1:1"]);
    assert_eq!((status, log[0].0.as_str(), view[0].0.as_str(), serve[0].0.as_str()), (0, "good", "warning", "warning"));

    let database = rusqlite::Connection::open(edgefold.path("edgefold.db")).unwrap();
    let move_clock = |seconds: i64| {
        database.execute("UPDATE commands SET timestamp = timestamp + ?1", [seconds * 1000]).unwrap();
    };
    move_clock(3600);
    let Outcome { status, stdout, .. } = edgefold.outcome(&["doctor"]);
    assert!(status == 1 && stdout.contains("PROBLEM  clock: this machine's clock is at least 59m"), "{stdout}");
    move_clock(-3600);

    let serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions::HTTP);
    envoy.client("127.0.0.7").get();
    let file = edgefold.ecds_file();
    let admin = envoy.admin_url();
    let args = ["--admin-url", &serve.admin_url(), "--ecds-file", file.to_str().unwrap(), "--envoy-admin", &admin];
    eventually("the view is written", || (findings(&edgefold, &args).2[0].0 == "good").then_some(()));
    let (status, _, _, of_serve, of_file, of_envoy) = findings(&edgefold, &args);
    let all_good =
        |findings: &[(String, String)]| !findings.is_empty() && findings.iter().all(|(state, _)| state == "good");
    assert!(
        status == 0 && all_good(&of_serve) && all_good(&of_file) && all_good(&of_envoy),
        "{of_serve:?} {of_file:?} {of_envoy:?}"
    );
}
