//! Several lists in a real Envoy: which one wins, tags that no client can forge, shares, and exceptions that last.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod commands;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use edgefold::Share;
use edgefold_tests::{Edgefold, Envoy, EnvoyOptions, Host, eventually, over_both_hosts, raw, seed};
use fastrand::Rng;

use crate::commands::append;

const BEHIND_A_PROXY: EnvoyOptions = EnvoyOptions::BEHIND_A_PROXY;
const NETWORK: EnvoyOptions = EnvoyOptions::NETWORK;

fn run(edgefold: &Edgefold, commands: &[&[&str]]) {
    commands.iter().for_each(|args| drop(edgefold.run(args)));
}

/// The headers that the upstream got from a client, after it has sent these lines itself; `None` if the client was refused.
fn headers_from(envoy: &Envoy, client: &str, lines: &str) -> Option<Vec<String>> {
    let request =
        format!("GET /headers HTTP/1.1\r\nhost: edge\r\nx-forwarded-for: {client}\r\n{lines}connection: close\r\n\r\n");
    let answer = raw(envoy.address(), request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    head.starts_with("HTTP/1.1 200").then(|| body.lines().map(str::to_owned).collect())
}

/// The lists that the upstream is told a client is on.
fn tags(envoy: &Envoy, client: &str) -> Option<String> {
    let forged = "x-edgefold-lists: forged\r\nX-Edgefold-Lists: forged, too\r\nX-EDGEFOLD-LISTS:\r\nx-other: kept\r\n";
    let headers = headers_from(envoy, client, forged)?;
    assert!(headers.contains(&"x-other: kept".to_owned()), "{headers:?}");
    let found: Vec<_> = headers.iter().filter_map(|line| line.strip_prefix("x-edgefold-lists: ")).collect();
    assert!(found.len() <= 1 && !headers.iter().any(|line| line.contains("forged")), "{headers:?}");
    Some(found.first().copied().unwrap_or_default().to_owned())
}

over_both_hosts! {
    each_list_does_what_its_command_says_and_changes_at_the_next_one,
    a_list_that_tags_does_not_change_the_route_of_other_requests,
    shadow_mode_turns_every_list_to_shadow,
    without_a_list_that_tags_the_header_is_left_alone_and_another_can_be_chosen,
    the_network_filter_honours_exempt_deny_and_shadow,
    as_many_lists_as_a_log_can_have_all_work,
    a_share_of_clients_is_refused_everywhere_alike,
    an_envoy_and_the_fold_agree_with_the_naive_oracle_on_random_logs,
}

fn each_list_does_what_its_command_says_and_changes_at_the_next_one(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host);
    run(
        &edgefold,
        &[
            &["lists", "set", "feed", "--action", "deny", "--status", "429", "--header", "retry-after: 60"],
            &["add", "10.0.0.0/16", "--list", "feed"],
            &["lists", "set", "monitoring", "--action", "exempt"],
            &["add", "10.0.0.7", "--list", "monitoring"],
            &["lists", "set", "cloud", "--action", "tag"],
            &["lists", "set", "tor.exits", "--action", "tag"],
            &["add", "10.0.0.0/8", "--list", "cloud"],
            &["add", "10.2.0.0/16", "--list", "tor.exits"],
            &["lists", "set", "trial", "--action", "shadow"],
            &["add", "10.2.0.0/24", "--list", "trial"],
            &["block", "10.0.0.0/24", "--force"],
        ],
    );
    let serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    assert_eq!(client.status_for("10.0.0.8"), 403, "the default list is the first");
    let answer = client.get_with(&[("x-forwarded-for", "10.0.9.9")]);
    assert_eq!((answer.status, answer.header("retry-after")), (429, vec!["60"]));
    assert_eq!(tags(&envoy, "10.0.0.7").as_deref(), Some(""), "exempt");
    assert_eq!(tags(&envoy, "10.1.0.1").as_deref(), Some("cloud"));
    assert_eq!(tags(&envoy, "10.2.1.1").as_deref(), Some("cloud,tor.exits"));
    assert_eq!(tags(&envoy, "10.2.0.1").as_deref(), Some("cloud,tor.exits"));
    assert_eq!(tags(&envoy, "192.0.2.1").as_deref(), Some(""));
    envoy.wait_for_log_line("403 edgefold_denied[default:10.0.0.0-10.0.0.255]");
    envoy.wait_for_log_line("429 edgefold_denied[feed:10.0.0.0-10.0.255.255]");
    envoy.wait_for_log_line("200 via_upstream shadow_edgefold_denied[trial:10.2.0.0-10.2.0.255]");
    let counted = |list: &str| ["denied", "shadowed", "exempted", "tagged"].map(|name| envoy.list_metric(name, list));
    for (list, expected) in [
        ("default", [1, 0, 0, 0]),
        ("feed", [1, 0, 0, 0]),
        ("monitoring", [0, 0, 1, 0]),
        ("cloud", [0, 0, 0, 3]),
        ("tor%2eexits", [0, 0, 0, 2]),
        ("trial", [0, 1, 0, 0]),
    ] {
        assert_eq!(counted(list), expected.map(Some), "{list}");
    }
    assert_eq!(envoy.metric("ranges", "edgefold"), Some(6));

    run(&edgefold, &[&["lists", "set", "cloud", "--action", "deny"], &["lists", "drop", "feed"]]);
    client.wait_for_status("10.1.0.1", 403);
    assert_eq!(client.status_for("10.0.9.9"), 403, "by the list cloud now");
    assert_eq!(client.status_for("10.0.0.7"), 200, "still exempt");
    serve.wait_for("edgefold_shipped_next_offset", 13);
}

/// Sets a header before edgefold, as an authentication filter might. There is another route for it, but Envoy has chosen one already.
const SET_HEADER: (&str, &str) = (
    "          http_filters:\n",
    "          http_filters:\n          - name: envoy.filters.http.header_mutation\n            typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation\n              mutations: { request_mutations: [ { append: { header: { key: x-route, value: other } } } ] }\n",
);
const OTHER_ROUTE: (&str, &str) = (
    "              - match: { prefix: \"/\" }\n                route: { cluster: upstream }\n",
    "              - match: { prefix: \"/\", headers: [ { name: x-route, string_match: { exact: other } } ] }\n                direct_response: { status: 418 }\n              - match: { prefix: \"/\" }\n                route: { cluster: upstream }\n",
);

/// Found by a review: Envoy chooses the route again when a filter changes a header. So only requests that need it are changed.
fn a_list_that_tags_does_not_change_the_route_of_other_requests(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host);
    run(&edgefold, &[&["lists", "set", "cloud", "--action", "tag"], &["add", "10.0.0.0/24", "--list", "cloud"]]);
    let _serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(EnvoyOptions { edits: &[SET_HEADER, OTHER_ROUTE], ..BEHIND_A_PROXY });
    let status = |client: &str, sent: &[(&str, &str)]| {
        envoy.client("127.0.0.1").get_with(&[&[("x-forwarded-for", client)], sent].concat()).status
    };
    assert_eq!(status("192.0.2.1", &[]), 200);
    assert_eq!(status("10.0.0.7", &[]), 418, "tagged");
    assert_eq!(status("192.0.2.1", &[("x-edgefold-lists", "")]), 418, "an empty header is removed too");
}

/// The kill switch.
fn shadow_mode_turns_every_list_to_shadow(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host);
    run(
        &edgefold,
        &[
            &["block", "10.0.0.0/24"],
            &["lists", "set", "cloud", "--action", "tag"],
            &["add", "10.1.0.0/24", "--list", "cloud"],
        ],
    );
    let _serve = edgefold.serve(&["--mode", "shadow"]);
    let envoy = edgefold.envoy(BEHIND_A_PROXY);
    assert_eq!(tags(&envoy, "10.0.0.7").as_deref(), Some(""));
    assert_eq!(tags(&envoy, "10.1.0.7").as_deref(), Some(""), "nobody is told, and nobody can lie");
    let shadowed = |list| envoy.list_metric("shadowed", list);
    assert_eq!(
        (shadowed("default"), shadowed("cloud"), envoy.metric("denied", "edgefold")),
        (Some(1), Some(1), Some(0))
    );
}

fn without_a_list_that_tags_the_header_is_left_alone_and_another_can_be_chosen(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host);
    let serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(BEHIND_A_PROXY);
    let sent = |name: &str| {
        let headers = headers_from(&envoy, "192.0.2.1", &format!("{name}: client\r\n")).unwrap();
        headers.contains(&format!("{name}: client"))
    };
    assert!(sent("x-edgefold-lists"));
    drop(serve);
    let _serve = edgefold.serve(&["--tag-header", "X-On-Lists"]);
    run(&edgefold, &[&["lists", "set", "cloud", "--action", "tag"]]);
    eventually("an empty list to take the header away", || (!sent("x-on-lists")).then_some(()));
    assert!(sent("x-edgefold-lists"));
}

fn the_network_filter_honours_exempt_deny_and_shadow(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host);
    run(
        &edgefold,
        &[
            &["block", "127.0.0.64/26"],
            &["lists", "set", "monitoring", "--action", "exempt"],
            &["add", "127.0.0.70", "--list", "monitoring"],
            &["lists", "set", "trial", "--action", "shadow"],
            &["add", "127.0.0.20", "--list", "trial"],
            &["lists", "set", "cloud", "--action", "tag"],
            &["add", "127.0.0.0/8", "--list", "cloud"],
        ],
    );
    let _serve = edgefold.serve_both(&[]);
    let envoy = edgefold.envoy(NETWORK);
    let status = |client: &str| envoy.client(client).status();
    assert_eq!((status("127.0.0.71"), status("127.0.0.70"), status("127.0.0.1")), (None, Some(200), Some(200)));
    assert_eq!(status("127.0.0.20"), Some(200));
    envoy.wait_for_log_line("connection of 127.0.0.20 shadow_edgefold_denied[trial:127.0.0.20]");
    envoy.wait_for_log_line("connection of 127.0.0.71 edgefold_denied[default:127.0.0.64-127.0.0.127]");
    assert_eq!(
        (envoy.list_metric("exempted", "monitoring"), envoy.list_metric("shadowed", "trial")),
        (Some(1), Some(1))
    );
    assert!(envoy.list_metric("denied", "default") >= Some(1));
    assert_eq!(envoy.list_metric("tagged", "cloud"), Some(0), "a connection has no headers");
}

fn as_many_lists_as_a_log_can_have_all_work(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host);
    let commands =
        (0..64).map(|at| format!("ADD 10.0.{at}.1 list=l{at:02}")).chain(["ADD 10.0.64.1 list=more".to_owned()]);
    append(&edgefold, commands);
    let _serve = edgefold.serve(&[]);
    let envoy = edgefold.envoy(BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    for at in 0..65 {
        let status = if at < 64 { 403 } else { 200 };
        assert_eq!(client.status_for(&format!("10.0.{at}.1")), status, "list {at}");
        assert_eq!(client.status_for(&format!("10.0.{at}.2")), 200, "beside list {at}");
    }
    envoy.wait_for_log_line("403 edgefold_denied[l63:10.0.63.1]");
    assert_eq!(envoy.list_metric("denied", "l63"), Some(1));
    assert!(edgefold.run(&["rejects"]).contains("l63"), "the last list is named to whoever has one too many");
}

/// The same clients on every worker, and on a replica that has replayed the log by itself.
fn a_share_of_clients_is_refused_everywhere_alike(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host);
    run(&edgefold, &[&["lists", "set", "default", "--action", "deny", "--share", "30%"], &["block", "10.0.0.0/8"]]);
    let _serve = edgefold.serve(&[]);
    let replica = Edgefold::over(edgefold.log()).with_host(host);
    let _serve_of_the_replica = replica.serve(&["--no-view"]);
    let envoys = [edgefold.envoy(BEHIND_A_PROXY), edgefold.envoy(BEHIND_A_PROXY), replica.envoy(BEHIND_A_PROXY)];
    // Each connection goes to one of two workers.
    let clients: Vec<_> = envoys.iter().flat_map(|envoy| [0; 3].map(|_| envoy.client("127.0.0.1"))).collect();
    let refused = |share: Share| {
        let ips = (0..200_u32).map(|host| Ipv4Addr::from(0x0a00_0000 + host * 77));
        ips.filter(|ip| {
            let statuses: Vec<u16> = clients.iter().map(|client| client.status_for(&ip.to_string())).collect();
            let expected = if share.contains((*ip).into()) { 403 } else { 200 };
            assert!(statuses.iter().all(|status| *status == expected), "{ip}: {statuses:?}");
            expected == 403
        })
        .collect::<Vec<_>>()
    };
    let before = refused("30%".parse().unwrap());
    edgefold.run(&["lists", "set", "default", "--action", "deny", "--share", "60%"]);
    let added = (0..).map(|host| Ipv4Addr::from(0x0b00_0000 - 1 - host));
    let (small, large): (Share, Share) = ("30%".parse().unwrap(), "60%".parse().unwrap());
    let added = added.into_iter().find(|ip| large.contains((*ip).into()) && !small.contains((*ip).into())).unwrap();
    clients.iter().for_each(|client| client.wait_for_status(&added.to_string(), 403));
    let after = refused(large);
    assert!(before.iter().all(|ip| after.contains(ip)) && before.len() < after.len());
}

/// The naive oracle: which addresses are on which list, and what the lists do.
#[derive(Default)]
struct Oracle {
    listed: BTreeSet<(&'static str, u8)>,
    actions: BTreeMap<&'static str, &'static str>,
}

const LISTS: [&str; 4] = ["default", "a", "b", "c"];
/// How many addresses random commands are about.
const ADDRESSES: u8 = 16;

impl Oracle {
    /// A random command, as text.
    fn draw(&mut self, random: &mut Rng) -> String {
        let list = random.choice(LISTS).unwrap();
        let (from, to) = (random.u8(..ADDRESSES), random.u8(..ADDRESSES));
        let range = from.min(to)..=from.max(to);
        let text = format!("10.0.0.{}-10.0.0.{}", range.start(), range.end());
        let of_list = if list == "default" { String::new() } else { format!(" list={list}") };
        match random.u8(..12) {
            0..5 => {
                self.listed.extend(range.map(|host| (list, host)));
                format!("BLACKLIST {text}{of_list}")
            }
            5..7 => {
                // Until far in the future, which is the same for this test, or ended long ago.
                let is_in_force = random.bool();
                if is_in_force {
                    self.listed.extend(range.map(|host| (list, host)));
                }
                format!(
                    "BLACKLIST {text} until={}{of_list}",
                    if is_in_force { "2090-01-01T00:00:00Z" } else { "2020-01-01T00:00:00Z" }
                )
            }
            7..9 => {
                self.listed.retain(|(on, host)| *on != list || !range.contains(host));
                format!("WHITELIST {text}{of_list}")
            }
            9 => {
                self.listed.retain(|(_, host)| !range.contains(host));
                format!("WHITELIST {text} list=*")
            }
            10 => {
                let action = random.choice(["deny", "shadow", "exempt", "tag"]).unwrap();
                self.actions.insert(list, action);
                format!("LIST {list} action={action}")
            }
            _ if list == "default" => "UNLIST default".to_owned(), // It is rejected.
            _ => {
                self.listed.retain(|(on, _)| *on != list);
                self.actions.remove(list);
                format!("UNLIST {list}")
            }
        }
    }

    fn on(&self, host: u8, action: &str) -> Vec<&'static str> {
        let does = |list: &&str| *self.actions.get(list).unwrap_or(&"deny") == action;
        LISTS.into_iter().filter(does).filter(|list| self.listed.contains(&(*list, host))).collect()
    }

    /// What the upstream is told about a client; `None` if it is refused.
    fn expected(&self, host: u8) -> Option<String> {
        match (self.on(host, "exempt").is_empty(), self.on(host, "deny").is_empty()) {
            (false, _) => Some(String::new()),
            (true, false) => None,
            (true, true) => Some(self.on(host, "tag").join(",")),
        }
    }
}

/// Random logs: the naive oracle, the native fold, and a real Envoy agree. An exempt address passes whatever is added afterwards, and
/// after restarts of the snapshotter.
fn an_envoy_and_the_fold_agree_with_the_naive_oracle_on_random_logs(host: Host) {
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let edgefold = Edgefold::sqlite().with_host(host);
    let mut oracle = Oracle::default();
    let append = |text: String| append(&edgefold, [text]);
    append("LIST exceptions action=exempt".to_owned());
    append("ADD 10.0.0.99 list=exceptions".to_owned());
    // So that the header is always looked after.
    append("LIST z action=tag".to_owned());
    let mut serve = Some(edgefold.serve(&[]));
    let envoy = edgefold.envoy(BEHIND_A_PROXY);
    for round in 0..12 {
        let mut end = append("BLACKLIST 10.0.0.99".to_owned());
        for _ in 0..6 {
            end = append(oracle.draw(&mut random));
        }
        // A block that nothing before has: Envoy has the rest once it has this.
        let canary = format!("192.0.2.{round}");
        append(format!("BLACKLIST {canary}"));
        if round % 4 == 3 {
            drop(serve.take());
            serve = Some(edgefold.serve(&[]));
        }
        serve.as_ref().unwrap().wait_until_shipped(end + 1);
        let refuses = |canary: &str| envoy.client("127.0.0.1").status_for(canary) == 403;
        // Unless the default list itself does something else at the moment.
        if *oracle.actions.get("default").unwrap_or(&"deny") == "deny" {
            // Several times in a row, on new connections: each may be accepted by either worker.
            eventually("both workers", || (0..16).all(|_| refuses(&canary)).then_some(()));
        } else {
            append("ADD 198.51.100.1 list=canary".to_owned());
            eventually("both workers", || (0..16).all(|_| refuses("198.51.100.1")).then_some(()));
            append("UNLIST canary".to_owned());
            eventually("both workers again", || (0..16).all(|_| !refuses("198.51.100.1")).then_some(()));
        }
        for host in (0..=ADDRESSES).chain([99]) {
            let expected = if host == 99 { Some(String::new()) } else { oracle.expected(host) };
            let client = format!("10.0.0.{host}");
            assert_eq!(tags(&envoy, &client), expected, "{client} in round {round}, EDGEFOLD_SEED={seed}");
            let blocked = edgefold.outcome(&["check", &client]).status == 1;
            assert_eq!(blocked, expected.is_none(), "check {client} in round {round}, EDGEFOLD_SEED={seed}");
        }
    }
}
