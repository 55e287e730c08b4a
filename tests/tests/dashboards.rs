//! dump
#![allow(clippy::unwrap_used, reason = "x")]
use edgefold_tests::{Edgefold, EnvoyOptions, eventually};

#[test]
fn dump() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
    let serve = edgefold.serve_both(&["--max-age", "1h"]);
    let envoy = edgefold.envoy(EnvoyOptions::BOTH);
    eventually("x", || envoy.metric("ranges", "edgefold"));
    let text = reqwest::blocking::get(format!("{}/metrics", serve.admin_url())).unwrap().text().unwrap();
    std::fs::write("/tmp/serve.txt", text).unwrap();
    std::fs::write("/tmp/envoy.txt", envoy.admin("stats/prometheus")).unwrap();
}
