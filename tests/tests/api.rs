//! The admin server, and commands over HTTP.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::io::{BufRead, BufReader};
use std::time::Duration;

use edgefold_tests::{Edgefold, FleetOptions, Kafka, Serve, Xds, eventually, sha256};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

const SECRET: &str = "a secret";

/// A `serve` that takes commands. The token `waf` may block on two lists, and `ops` may do everything.
struct Api {
    edgefold: Edgefold,
    serve: Serve,
}

impl Api {
    fn start(edgefold: &Edgefold) -> Self {
        let tokens = edgefold.path("tokens.toml");
        Self::write_tokens(&tokens, SECRET);
        let serve = edgefold.serve_xds(&["--api", "127.0.0.1:0", "--api-tokens", &tokens]);
        Self { edgefold: edgefold.clone(), serve }
    }

    fn write_tokens(path: &str, waf: &str) {
        let (waf, ops) = (sha256(waf), sha256("another"));
        let text = format!(
            "[waf]\nsha256 = \"{waf}\"\nlists = [\"default\", \"waf\"]\nverbs = [\"BLACKLIST\"]\n\n\
             [ops]\nsha256 = \"{ops}\"\nlists = [\"*\"]\nverbs = [\"BLACKLIST\", \"WHITELIST\", \"LIST\", \"UNLIST\"]\n"
        );
        // Whole, as an operator replaces it.
        std::fs::write(format!("{path}.new"), text).unwrap();
        std::fs::rename(format!("{path}.new"), path).unwrap();
    }

    fn post(&self, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
        let request = Client::new().post(format!("http://{}{path}", self.serve.api_address())).body(body.to_owned());
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        answer(request.timeout(Duration::from_secs(60)).send().unwrap())
    }

    fn commands(&self, body: &str) -> (u16, Value) {
        self.post("/commands", Some(SECRET), body)
    }

    /// The text of a command in the log.
    fn in_log(&self) -> Vec<String> {
        let log = rusqlite::Connection::open(self.edgefold.log().strip_prefix("sqlite:").unwrap()).unwrap();
        let mut rows = log.prepare("SELECT CAST(value AS TEXT) FROM commands ORDER BY \"offset\"").unwrap();
        rows.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

fn answer(response: Response) -> (u16, Value) {
    (response.status().as_u16(), serde_json::from_str(&response.text().unwrap()).unwrap())
}

#[test]
fn commands_are_appended_with_the_name_of_the_token() {
    let api = Api::start(&Edgefold::sqlite());
    let body = "BLACKLIST 10.0.0.0/24 ttl=4h reason=\"credential stuffing\"\n\nADD 10.1.0.0/24 list=waf\n";
    assert_eq!(api.commands(body), (200, json!({ "offsets": [0, 1], "next_offset": 2 })));
    let log = api.in_log();
    assert!(log[0].contains("origin=\"waf\"") && log[0].contains("credential stuffing"), "{log:?}");
    assert!(log[1].contains("origin=\"waf\"") && log[1].contains("list=waf"), "{log:?}");
    api.serve.wait_until_shipped(2);
    let check = api.serve.admin("/check?ip=10.0.0.7");
    assert_eq!(check["verdict"]["list"], "default", "{check:#}");
    // Many at once, from many clients.
    std::thread::scope(|scope| {
        for client in 0..20 {
            let api = &api;
            scope.spawn(move || assert_eq!(api.commands(&format!("BLACKLIST 10.2.{client}.0/24")).0, 200));
        }
    });
    assert_eq!(api.in_log().len(), 22);
}

#[test]
fn what_is_not_valid_or_not_allowed_is_refused_as_a_whole() {
    let api = Api::start(&Edgefold::sqlite());
    let refused = |body: &str| {
        let (status, json) = api.commands(body);
        (status, json["error"].as_str().unwrap().to_owned())
    };
    for (body, status, words) in [
        ("", 400, "the body has no command"),
        ("BLACKLIST 10.0.0.1\nBLOK 10.0.0.2", 400, "line 2: unknown verb \"BLOK\""),
        ("BLACKLIST 10.0.0.1/24", 400, "line 1: "),
        ("BLACKLIST 10.0.0.1 list=monitoring", 403, "only default and waf"),
        ("WHITELIST 10.0.0.1", 403, "may not append WHITELIST"),
        ("WHITELIST 10.0.0.1 list=*", 403, "may not append WHITELIST"),
        ("LIST waf action=exempt", 403, "may not append LIST"),
        ("BLACKLIST 10.0.0.1 origin=ops", 403, "leave origin=ops out"),
        // Found by a review: every reader would reject it.
        ("BLACKLIST 10.0.0.1 ttl=253000000000s", 400, "line 1"),
        (&"BLACKLIST 10.0.0.1\n".repeat(10_001), 413, "more than 10000 commands"),
        (&"x".repeat(5 << 20), 413, "longer than"),
    ] {
        let (found, error) = refused(body);
        let start = &body[..body.len().min(50)];
        assert!(found == status && error.contains(words), "{start:?}: {found} {error}");
    }
    let (status, json) = api.post("/commands?wiat=3s", Some(SECRET), "BLACKLIST 10.0.0.1");
    assert!(status == 400 && json["error"].as_str().unwrap().contains("wait"), "{json}");
    let lists: String = (0..100).map(|number| format!("ADD 10.0.0.1 list=l{number}\n")).collect();
    let (status, json) = api.post("/commands", Some("another"), &lists);
    assert!(status == 409 && json["error"].as_str().unwrap().starts_with("line "), "{status} {json}");
    assert_eq!(api.in_log(), Vec::<String>::new());
    // The other token may do all of that.
    for text in ["ADD 10.0.0.1 list=monitoring", "LIST monitoring action=exempt", "WHITELIST 10.0.0.1 list=*"] {
        assert_eq!(api.post("/commands", Some("another"), text).0, 200, "{text}");
    }
}

#[test]
fn nobody_without_a_token_learns_or_changes_anything() {
    let api = Api::start(&Edgefold::sqlite());
    for token in [None, Some("wrong"), Some("")] {
        let (status, json) = api.post("/commands", token, "BLOK");
        assert!(status == 401 && json["error"].as_str().unwrap().contains("token"), "{token:?}: {status} {json}");
    }
    assert!(api.in_log().is_empty());
    // A new token takes the place of the old one.
    let tokens = api.edgefold.path("tokens.toml");
    Api::write_tokens(&tokens, "new");
    assert_eq!(api.post("/commands", Some("new"), "BLACKLIST 10.0.0.1").0, 200);
    assert_eq!(api.commands("BLACKLIST 10.0.0.2").0, 401);
    // A file that is not valid changes nothing.
    std::fs::write(&tokens, "[waf").unwrap();
    assert_eq!(api.post("/commands", Some("new"), "BLACKLIST 10.0.0.3").0, 200);
    api.serve.wait_for_log_line("the old tokens stay in use");
    let refused = |args: &[&str], words: &str, status: i32| {
        api.edgefold.outcome(&[&["serve", "--xds", "127.0.0.1:0"], args].concat()).assert_failed(status, words);
    };
    refused(&["--api", "127.0.0.1:0"], "--api-tokens", 64);
    refused(&["--api", "0.0.0.0:0", "--api-tokens", &tokens], "--tls-cert", 64);
    refused(&["--api", "127.0.0.1:0", "--api-tokens", &tokens], "tokens.toml", 2);
}

/// From a client without a Kafka library to the proxies, over Kafka.
#[test]
fn a_command_over_http_is_enforced_when_its_answer_comes() {
    let kafka = Kafka::start();
    let api = Api::start(&Edgefold::kafka(&kafka, "api"));
    let (status, json) = api.post("/commands?wait=1s", Some(SECRET), "BLACKLIST 10.0.0.1");
    assert_eq!((status, &json["enforced"], &json["proxies"]), (202, &false.into(), &0.into()), "{json}");
    let replicas = [api.serve.xds_address()];
    let envoy =
        api.edgefold.envoy_over_xds(FleetOptions { id: "edge-1", xds: Xds::DeltaAds, replicas: &replicas, tls: None });
    let (status, json) = api.post("/commands?wait=30s", Some(SECRET), "BLACKLIST 10.0.0.2");
    assert_eq!((status, &json["enforced"], &json["proxies"]), (200, &true.into(), &1.into()), "{json}");
    assert_eq!(envoy.client("127.0.0.1").status_for("10.0.0.2"), 403);
}

#[test]
fn the_admin_server_answers_what_was_shipped() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24", "2001:db8::/64"]);
    edgefold.run(&["add", "10.0.0.7", "--list", "monitoring"]);
    edgefold.run(&["lists", "set", "monitoring", "--action", "exempt"]);
    let serve = edgefold.serve(&[]);
    serve.wait_until_shipped(4);
    let lists = serve.admin("/lists");
    let expected = json!([
        { "name": "default", "action": "deny", "does": "action=deny", "ranges": 2, "ipv4_addresses": 256,
          "ipv6_addresses": "18446744073709551616" },
        { "name": "monitoring", "action": "exempt", "does": "action=exempt", "ranges": 1, "ipv4_addresses": 1,
          "ipv6_addresses": "0" },
    ]);
    assert_eq!(lists["lists"], expected, "{lists:#}");
    let verdict = |ip: &str| {
        let check = serve.admin(&format!("/check?ip={ip}"));
        (check["verdict"]["action"].clone(), check["entries"].as_array().unwrap().len())
    };
    assert_eq!(verdict("10.0.0.1"), ("deny".into(), 1));
    assert_eq!(verdict("10.0.0.7"), ("exempt".into(), 2));
    assert_eq!(verdict("::ffff:10.0.0.1"), ("deny".into(), 1));
    assert_eq!(verdict("10.0.1.1"), ("pass".into(), 0));
    let text = reqwest::blocking::get(format!("{}/metrics", serve.admin_url())).unwrap().text().unwrap();
    for line in [
        "edgefold_list_ranges{list=\"default\"} 2",
        "edgefold_list_ipv4_addresses{list=\"monitoring\"} 1",
        "edgefold_list_ipv6_addresses{list=\"default\"} 1844674407370955",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    for (path, words) in [
        ("/check", "/check?ip="),
        ("/check?ip=10.0.0.0/24", "/check?ip="),
        ("/wait", "/wait?"),
        ("/wait?next_offset=x", "next_offset"),
    ] {
        let response = reqwest::blocking::get(format!("{}{path}", serve.admin_url())).unwrap();
        let (status, json) = answer(response);
        assert!(status == 400 && json["error"].as_str().unwrap().contains(words), "{path}: {status} {json}");
    }
}

#[test]
fn events_tell_what_happens() {
    let edgefold = Edgefold::sqlite();
    let serve = edgefold.serve_xds(&[]);
    let response = Client::builder().timeout(None).build().unwrap().get(format!("{}/events", serve.admin_url())).send();
    let mut lines = BufReader::new(response.unwrap()).lines().map(Result::unwrap);
    let mut next = |event: &str| {
        let data = lines.find_map(|line| {
            let json: Value = serde_json::from_str(line.strip_prefix("data: ")?).unwrap();
            (json["event"] == event).then_some(json)
        });
        data.unwrap()
    };
    edgefold.block(&["10.0.0.1"]);
    assert_eq!(next("shipped")["version"], "1");
    assert_eq!(next("folded")["next_offset"], 1);
    let replicas = [serve.xds_address()];
    let envoy =
        edgefold.envoy_over_xds(FleetOptions { id: "edge-9", xds: Xds::DeltaAds, replicas: &replicas, tls: None });
    assert_eq!(next("connected")["node"], "edge-9");
    assert_eq!(next("ack")["node"], "edge-9");
    drop(envoy);
    assert_eq!(next("disconnected")["node"], "edge-9");
    eventually("nobody", || (serve.admin("/fleet")["proxies"] == json!([])).then_some(()));
}
