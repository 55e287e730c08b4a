//! A rolling upgrade to a version with a newer grammar, with two real binaries. The newer one knows an attribute more, `next`.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod commands;

use edgefold_tests::{Edgefold, Serve, eventually};
use rusqlite::Connection;

use crate::commands::append;

/// The grammar that the view is written in, and the next offset that it states.
fn view(edgefold: &Edgefold) -> Option<(u32, u64)> {
    let database = Connection::open(edgefold.log().strip_prefix("sqlite:").unwrap()).unwrap();
    let value: String =
        database.query_row("SELECT value FROM ranges WHERE key = '@offset'", [], |row| row.get(0)).ok()?;
    let grammar = value.split(' ').find_map(|word| word.strip_prefix("grammar="))?.parse().ok()?;
    Some((grammar, value.split(' ').next()?.parse().ok()?))
}

/// What a snapshotter has shipped to its file.
fn shipped(edgefold: &Edgefold) -> Vec<String> {
    let ranges = edgefold.run(&["inspect", "-o", "raw", edgefold.ecds_file().to_str().unwrap()]);
    ranges.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

/// Each must have shipped the same addresses.
fn assert_shipped(replicas: [&Edgefold; 2], expected: &[&str]) {
    for replica in replicas {
        eventually("what is shipped", || (shipped(replica) == expected).then_some(()));
    }
}

#[test]
fn in_a_rolling_upgrade_no_block_is_lost_and_no_two_versions_rewrite_the_view_in_turns() {
    let old = Edgefold::sqlite();
    let other = Edgefold::over(old.log());
    let (new, other_new) = (old.next_version(), old.next_version());
    let current = edgefold::GRAMMAR;
    append(&old, ["BLACKLIST 10.0.0.1"]);
    let writer = old.serve(&[]);
    writer.wait_until_writer(); // Before there is another: either would do, and this test knows which is which.
    let standby = other.serve(&[]);
    append(&old, ["ADD 10.0.0.2 list=feed"]);
    eventually("a view by the old writer", || (view(&old) == Some((current, 2))).then_some(()));

    // First the standby. It folds what it can read, and does not touch the view while that is written.
    drop(standby);
    let upgraded = new.serve(&[]);
    assert_shipped([&old, &new], &["10.0.0.1", "10.0.0.2"]);
    append(&old, ["BLACKLIST 10.0.0.3 next=1"]);
    append(&old, ["BLACKLIST 10.0.0.4"]);
    let has_new = |replica: &Edgefold| shipped(replica).contains(&"10.0.0.3".to_owned());
    eventually("the new version to take the new attribute", || has_new(&new).then_some(()));
    eventually("the old version to take the next command", || {
        shipped(&old).contains(&"10.0.0.4".to_owned()).then_some(())
    });
    assert!(!has_new(&old), "the old version rejects it");

    // Then the writer. The new version rewrites the view, once, with the block that the old one did not know.
    let rewritten = |serve: &Serve| serve.metric("edgefold_unusable_views_total");
    eventually("a view in the new grammar", || {
        view(&old).filter(|(grammar, next_offset)| *grammar == current + 1 && *next_offset == 4)
    });
    let before = rewritten(&upgraded).unwrap();
    for host in 5..9 {
        // The old one still runs, and must leave the view alone.
        append(&old, [format!("BLACKLIST 10.0.0.{host}")]);
        eventually("the view to follow in the new grammar", || {
            let (grammar, next_offset) = view(&old).unwrap();
            assert_eq!(grammar, current + 1, "the old version has written the view again");
            (next_offset == host).then_some(())
        });
    }
    writer.wait_until_shipped(8);
    let all = ["10.0.0.1", "10.0.0.3-10.0.0.8", "10.0.0.2"];
    eventually("all blocks but one with the old version", || (shipped(&old).len() == 3).then_some(()));
    assert_eq!(rewritten(&upgraded).unwrap(), before, "it was rewritten once");
    let error = old.outcome(&["verify"]);
    assert!(error.status == 2 && error.stderr.contains("a newer edgefold has written the view"), "{}", error.stderr);
    drop(writer);
    let second = other_new.serve(&[]);
    assert_shipped([&new, &other_new], &all.map(|range| range.split('-').next().unwrap()));
    new.run(&["verify"]); // It fails unless the view is a replay of the commands.
    assert_eq!(rewritten(&second), Some(0), "the view is as it needs it");
    assert_eq!(new.run(&["rejects", "-o", "raw"]), "");
    assert!(old.run(&["rejects", "-o", "raw"]).contains("unknown attribute"));
}
