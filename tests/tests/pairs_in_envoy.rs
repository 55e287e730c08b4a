//! Large lists in a real Envoy: a base that travels rarely, and an overlay that travels with each change.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod commands;
mod load;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use edgefold_tests::{Client, Edgefold, Envoy, EnvoyOptions, Example, Host, Serve, eventually, over_both_hosts, seed};
use fastrand::Rng;

use crate::commands::{MANY, append, large, singles};
use crate::load::under_load;

/// The hosts of the random tests.
const HOSTS: u8 = 30;

/// Waits until Envoy enforces all commands below `next_offset`.
fn wait_for_generation(envoy: &Envoy, next_offset: u64) {
    eventually("the generation in Envoy", || (envoy.metric("generation", "edgefold")? >= next_offset).then_some(()));
}

fn size(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// `serve` removes old ones itself.
fn remove_snapshot_files(edgefold: &Edgefold) {
    for file in snapshot_files(edgefold) {
        let _there = std::fs::remove_file(file);
    }
}

/// The files with large snapshots, which the dynamic module reads itself.
fn snapshot_files(edgefold: &Edgefold) -> Vec<PathBuf> {
    let files = std::fs::read_dir(edgefold.path("")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension() == Some(OsStr::new("snapshot"))).collect()
}

over_both_hosts! {
    each_example_takes_a_change_over_a_base_that_stays,
    a_list_that_grows_and_shrinks_changes_its_form_and_no_request_fails,
    after_any_accident_envoy_enforces_what_the_log_says,
    a_kill_at_any_moment_leaves_files_that_envoy_can_serve,
}

fn each_example_takes_a_change_over_a_base_that_stays(host: Host) {
    const BEHIND_PROXIES: EnvoyOptions = EnvoyOptions { example: Example::BehindProxies, ..EnvoyOptions::HTTP };
    for options in [EnvoyOptions::HTTP, BEHIND_PROXIES, EnvoyOptions::NETWORK, EnvoyOptions::BOTH] {
        let edgefold = large().with_host(host).block(&["127.0.0.64/26"]);
        let serve = edgefold.serve_both(&[]);
        let envoy = edgefold.envoy(options);
        let passes = |client: &str| envoy.client(client).status() == Some(200);
        assert!(!passes("127.0.0.70") && passes("127.0.0.7"), "{options:?}");
        let inode = std::fs::metadata(edgefold.base_ecds_file()).unwrap().ino();
        let next_offset = append(&edgefold, ["BLACKLIST 127.0.0.7", "WHITELIST 127.0.0.70"]);
        serve.wait_until_shipped(next_offset);
        eventually("the change", || (passes("127.0.0.70") && !passes("127.0.0.7")).then_some(()));
        let files = [edgefold.ecds_file(), edgefold.network_ecds_file()];
        assert!(files.iter().all(|file| size(file) < 1024), "{:?}", files.map(|file| size(&file)));
        // The dynamic module reads a large snapshot itself, rather than get it from Envoy.
        let (base, in_files) = (size(&edgefold.base_ecds_file()), snapshot_files(&edgefold));
        match host {
            Host::Wasm => assert!(base > 64 << 10 && in_files.is_empty(), "{base} {in_files:?}"),
            Host::Native => assert!(base < 1024 && in_files.len() == 1 && size(&in_files[0]) > 64 << 10, "{base}"),
        }
        assert_eq!(std::fs::metadata(edgefold.base_ecds_file()).unwrap().ino(), inode, "the base stays");
        drop(envoy);
        let envoy = edgefold.envoy(options);
        let passes = |client: &str| envoy.client(client).status() == Some(200);
        assert!(passes("127.0.0.70") && !passes("127.0.0.7") && !passes("127.0.0.71"), "after a restart");
        assert_eq!(serve.metric("edgefold_bases_shipped_total"), Some(1));
    }
}

fn a_list_that_grows_and_shrinks_changes_its_form_and_no_request_fails(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host).block(&["10.0.0.1"]);
    let serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let is_overlay = || edgefold.inspect(edgefold.ecds_file())["role"] == "overlay";
    let answers = under_load(&envoy, || {
        for _ in 0..3 {
            assert!(!is_overlay());
            let grown = append(&edgefold, singles("BLACKLIST", 0, MANY));
            wait_for_generation(&envoy, grown);
            assert!(is_overlay());
            // So much changes that a new base is due, and another.
            let bases = serve.metric("edgefold_bases_shipped_total").unwrap();
            wait_for_generation(&envoy, append(&edgefold, singles("BLACKLIST", MANY, MANY)));
            serve.wait_for("edgefold_bases_shipped_total", bases + 1);
            wait_for_generation(&envoy, append(&edgefold, singles("WHITELIST", MANY, MANY)));
            wait_for_generation(&envoy, append(&edgefold, ["WHITELIST 20.0.0.0/8"]));
            eventually("a whole snapshot again", || (!is_overlay()).then_some(()));
        }
    });
    assert!(answers > 100, "{answers}");
}

/// What the random tests below are about: some hosts of which each is on either of two lists or not.
struct Random {
    random: Rng,
    edgefold: Edgefold,
    blocked: BTreeSet<u8>,
    /// The list `feed`, and what it does.
    feed: BTreeSet<u8>,
    action: &'static str,
    /// How many of the many addresses are on the list.
    many: u32,
    changes: u32,
}

impl Random {
    fn new(host: Host) -> Self {
        let (blocked, feed) = (BTreeSet::new(), BTreeSet::new());
        Self {
            random: Rng::with_seed(seed()),
            edgefold: large().with_host(host),
            blocked,
            feed,
            action: "deny",
            many: MANY,
            changes: 0,
        }
    }

    /// Appends some commands, and returns the next offset after them.
    fn change(&mut self) -> u64 {
        let mut commands = Vec::new();
        for _ in 0..self.random.u8(1..5) {
            let host = self.random.u8(..HOSTS);
            let (list, name) =
                if self.random.bool() { (&mut self.blocked, "default") } else { (&mut self.feed, "feed") };
            let verb = if list.remove(&host) { "REMOVE" } else { "ADD" };
            if verb == "ADD" {
                list.insert(host);
            }
            commands.push(format!("{verb} 10.0.0.{host} list={name}"));
        }
        match self.random.u8(..6) {
            0 => {
                self.action = ["deny", "exempt", "tag"][self.random.usize(..3)];
                commands.push(format!("LIST feed action={}", self.action));
            }
            1 => {
                self.feed.clear();
                self.action = "deny";
                commands.push("UNLIST feed".to_owned());
            }
            _ => {}
        }
        // Enough for a new base.
        if self.random.u8(..4) == 0 {
            commands.extend(singles("BLACKLIST", self.many, 10_000));
            self.many += 10_000;
        }
        // The others may cancel each other, and then nothing is shipped. This one always changes something.
        self.changes += 1;
        commands.push(format!("ADD {}", std::net::Ipv4Addr::from((30 << 24) + self.changes)));
        append(&self.edgefold, commands)
    }

    /// Waits until the clients that are refused are those that are blocked.
    fn check(&self, client: &Client) {
        for host in 0..HOSTS {
            let ip = format!("10.0.0.{host}");
            let is_fed = self.feed.contains(&host);
            let is_refused = self.blocked.contains(&host) || is_fed && self.action == "deny";
            let status = if is_refused && !(is_fed && self.action == "exempt") { 403 } else { 200 };
            eventually(&format!("{status} for {ip}"), || (client.status_for(&ip) == status).then_some(()));
        }
    }
}

fn after_any_accident_envoy_enforces_what_the_log_says(host: Host) {
    let mut world = Random::new(host);
    let mut serve: Option<Serve> = Some(world.edgefold.serve(&[]));
    let mut envoy = world.edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    for _ in 0..25 {
        let next_offset = world.change();
        match world.random.u8(..10) {
            0 => drop(serve.take()),
            1 => {
                drop(envoy);
                envoy = world.edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
            }
            2 => std::fs::remove_file(world.edgefold.base_ecds_file()).unwrap(),
            3 => std::fs::remove_file(world.edgefold.ecds_file()).unwrap(),
            4 => std::fs::write(world.edgefold.base_ecds_file(), b"something else").unwrap(),
            5 => {
                let module = std::fs::read_dir(world.edgefold.path("")).unwrap().flatten();
                let mut module =
                    module.filter(|entry| entry.file_name().to_string_lossy().starts_with("edgefold-filter-"));
                std::fs::remove_file(module.next().unwrap().path()).unwrap();
            }
            6 => remove_snapshot_files(&world.edgefold),
            7 => {
                // Envoy starts without them, and refuses what names them.
                drop((serve.take(), envoy));
                remove_snapshot_files(&world.edgefold);
                envoy = world.edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
            }
            8 => {
                snapshot_files(&world.edgefold)
                    .iter()
                    .for_each(|file| std::fs::write(file, b"something else").unwrap());
            }
            _ => {}
        }
        // Envoy does not start without its files.
        let serve = serve.get_or_insert_with(|| world.edgefold.serve(&[]));
        serve.wait_until_shipped(next_offset);
        wait_for_generation(&envoy, next_offset);
        world.check(&envoy.client("127.0.0.1"));
    }
}

fn a_kill_at_any_moment_leaves_files_that_envoy_can_serve(host: Host) {
    let mut world = Random::new(host);
    let mut bases = 0;
    for round in 0..12 {
        let serve = world.edgefold.serve(&[]);
        // Not every change is shipped when it is killed, and now and then a base is being encoded or written.
        let offsets: Vec<u64> = (0..world.random.u8(1..5)).map(|_| world.change()).collect();
        let next_offset = offsets[world.random.usize(..offsets.len())];
        serve.wait_until_shipped(next_offset);
        bases += serve.metric("edgefold_bases_shipped_total").unwrap_or(0);
        serve.kill();
        // An Envoy that starts now has something to serve: a client that no command is about passes.
        let envoy = world.edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
        let status = envoy.client("127.0.0.1").status_for("192.0.2.1");
        assert!(status == 200, "round {round}: {status}");
        assert_eq!(envoy.client("127.0.0.1").status_for("20.0.0.0"), 403, "round {round}");
        let serve = world.edgefold.serve(&[]);
        serve.wait_until_shipped(*offsets.last().unwrap());
        world.check(&envoy.client("127.0.0.1"));
    }
    assert!(bases > 0, "no base was shipped");
}
