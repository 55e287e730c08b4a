//! Envoy's own view: whether the filter is there, what it enforces, and whose address it sees.

use std::collections::HashSet;
use std::iter;

use serde_json::Value;
use ureq::Agent;

use super::{Findings, PATIENCE};
use crate::answers::words;
use crate::ship::ecds::{HTTP_FILTERS, NETWORK_FILTERS};

/// The most bytes of an answer.
const MOST_BYTES: u64 = 64 << 20;
/// What Envoy's configuration calls an HTTP connection manager.
const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// What the names of the filter's metrics begin with, in Envoy's own form; the name of the filter and that of the metric follow.
const METRICS: &str = "edgefold_filter.";

/// Asks the admin server of an Envoy.
pub(super) fn check(url: &str, end: Option<u64>, uses_its_address: bool, findings: &mut Findings) {
    let agent: Agent = Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let url = url.trim_end_matches('/');
    let about = format!("Envoy at {url}");
    let get = |path: &str| -> Result<Value, ureq::Error> {
        agent.get(format!("{url}{path}")).call()?.body_mut().with_config().limit(MOST_BYTES).read_json()
    };
    let (config, stats) = match get("/config_dump").and_then(|config| Ok((config, get("/stats?format=json")?))) {
        Ok(answers) => answers,
        Err(error) => {
            let todo = "--envoy-admin is the address of Envoy's admin server, as in its `admin:` section";
            findings.problem(&about, error.to_string(), todo);
            return;
        }
    };
    check_config(&about, &config, uses_its_address, findings);
    check_stats(&about, &stats, end, findings);
    check_refusals(&about, &config, &stats, findings);
}

/// Each object in `value`, at any depth.
fn objects(value: &Value) -> impl Iterator<Item = &Value> {
    let mut open = vec![value];
    iter::from_fn(move || {
        let value = open.pop()?;
        match value {
            Value::Object(fields) => open.extend(fields.values()),
            Value::Array(values) => open.extend(values),
            _ => {}
        }
        Some(value)
    })
    .filter(|value| value.is_object())
}

/// Each of them with one of these types.
fn of_type<'a>(value: &'a Value, wanted: &[&str]) -> Vec<&'a Value> {
    let is_wanted = |value: &&Value| value.get("@type").and_then(Value::as_str).is_some_and(|of| wanted.contains(&of));
    objects(value).filter(is_wanted).collect()
}

fn http_filters(manager: &Value) -> impl Iterator<Item = &Value> {
    manager.get("http_filters").and_then(Value::as_array).into_iter().flatten()
}

/// Whether a filter is of a type that `serve` ships, or may become one.
fn is_shipped(filter: &Value) -> bool {
    let text = filter.to_string();
    HTTP_FILTERS.iter().chain(&NETWORK_FILTERS).any(|of| text.contains(of))
}

/// Whether this is not a filter, but a base that travels as one. `serve` gives bases names that end in `-base`.
fn is_base(filter: &Value) -> bool {
    filter.get("name").and_then(Value::as_str).is_some_and(|name| name.ends_with("-base"))
}

fn has_filter(manager: &Value) -> bool {
    http_filters(manager).any(|filter| is_shipped(filter) && !is_base(filter))
}

fn carries_a_base(manager: &Value) -> bool {
    !has_filter(manager) && http_filters(manager).any(|filter| is_shipped(filter) && is_base(filter))
}

/// Whose address the filter sees depends on the connection manager.
fn check_config(about: &str, config: &Value, uses_its_address: bool, findings: &mut Findings) {
    let mut managers = of_type(config, &[MANAGER]);
    // A listener can be there several times: as it was given, and as it is in force.
    let mut seen = HashSet::new();
    managers.retain(|manager| seen.insert(manager.to_string()));
    // One that only carries a base has no other filter, and judges nothing.
    managers.retain(|manager| !carries_a_base(manager));
    let with_filter: Vec<&&Value> = managers.iter().filter(|manager| has_filter(manager)).collect();
    let shipped = of_type(config, &[HTTP_FILTERS, NETWORK_FILTERS].concat());
    if with_filter.is_empty() && shipped.is_empty() {
        let todo = "add the filter to `http_filters`, as in envoy/envoy.yaml";
        findings.problem(about, "no listener has the filter", todo);
        return;
    }
    let without = managers.len() - with_filter.len();
    if without > 0 {
        let what = format!("{without} of {} HTTP connection managers do not have the filter", managers.len());
        findings.warn(about, what, "that is right for listeners that only operators reach");
    }
    if !uses_its_address {
        findings.good(about, "a listener has the filter, whose own settings say whose address is looked up");
        return;
    }
    for manager in with_filter {
        let name = manager.get("stat_prefix").and_then(Value::as_str).unwrap_or("without a stat_prefix");
        let uses_remote_address = manager.get("use_remote_address").and_then(Value::as_bool).unwrap_or(false);
        let hops = manager.get("xff_num_trusted_hops").and_then(Value::as_u64).unwrap_or(0);
        let detects = manager.get("original_ip_detection_extensions").and_then(Value::as_array);
        let is_detecting = detects.is_some_and(|extensions| !extensions.is_empty());
        let of = format!("the HTTP connection manager {name:?}");
        if hops > 0 {
            let what = format!(
                "{of} has xff_num_trusted_hops: {hops}, whoever connects: a client that reaches Envoy directly chooses its address"
            );
            findings.problem(about, what, "name your proxies instead, as in envoy/envoy-behind-proxies.yaml");
        } else if is_detecting || uses_remote_address {
            let whose = if is_detecting {
                "finds the client's address by an extension"
            } else {
                "uses the address of the connection"
            };
            findings.good(about, format!("{of} has the filter, and {whose}"));
        } else {
            let what = format!(
                "{of} takes the client's address from X-Forwarded-For, whoever connects: a client chooses its address"
            );
            let todo = "set use_remote_address: true, or behind proxies original_ip_detection_extensions, as in envoy/envoy-behind-proxies.yaml";
            findings.problem(about, what, todo);
        }
    }
}

/// What is in force, by the gauge that a worker sets.
fn check_stats(about: &str, stats: &Value, end: Option<u64>, findings: &mut Findings) {
    let generations = values(stats, ".generation");
    if generations.is_empty() {
        findings.warn(
            about,
            "no worker has put a snapshot in force yet",
            "the first request does that; if it stays so, look for edgefold in Envoy's log",
        );
    }
    for (filter, below) in generations {
        match end {
            Some(end) if below < end => {
                let what = format!(
                    "filter {filter} enforces the commands below offset {below}, and {} came after that",
                    end - below
                );
                let todo = "that is right if they change nothing; else check that its files or its xDS server are those of this log";
                findings.warn(about, what, todo);
            }
            _ => findings.good(about, format!("filter {filter} enforces the commands below offset {below}")),
        }
    }
    let rejected: u64 = values(stats, ".snapshot_rejected").into_iter().map(|(_, times)| times).sum();
    if rejected > 0 {
        let what = format!("it has refused {rejected} snapshots since it started");
        findings.warn(about, what, "the reason is in its log, and the snapshot before is still in force");
    }
}

/// Whether Envoy has refused a resource of the filter before the filter saw it, or on what the filter said.
fn check_refusals(about: &str, config: &Value, stats: &Value, findings: &mut Findings) {
    let resources: HashSet<&str> = objects(config)
        .filter(|filter| filter.get("config_discovery").is_some_and(is_shipped))
        .filter_map(|filter| filter.get("name")?.as_str())
        .collect();
    let mut refused: Vec<(&str, u64)> = all(stats)
        .filter_map(|(stat, times)| {
            let (kind_and_name, _) =
                stat.strip_prefix("extension_config_discovery.")?.split_once(".update_rejected")?;
            Some((kind_and_name.split_once('.')?.1, times))
        })
        .filter(|(resource, times)| resources.contains(resource) && *times > 0)
        .collect();
    refused.sort_unstable();
    for (resource, times) in refused {
        let what =
            format!("it has refused {} of the resource {resource} since it started", words::count(times, "version"));
        let todo = "its log has the reason, as a file that the resource names and that is not there, or another type (`serve --filter`). What was in \
                    force before still is";
        findings.warn(about, what, todo);
    }
}

/// The values of a metric, by filter.
fn values<'a>(stats: &'a Value, metric: &str) -> Vec<(&'a str, u64)> {
    let of_filter = |(name, value): (&'a str, u64)| Some((name.split_once(METRICS)?.1.strip_suffix(metric)?, value));
    all(stats).filter_map(of_filter).collect()
}

/// The names and values of all metrics that are numbers.
fn all(stats: &Value) -> impl Iterator<Item = (&str, u64)> {
    let stats = stats.get("stats").and_then(Value::as_array).into_iter().flatten();
    stats.filter_map(|stat| Some((stat.get("name")?.as_str()?, stat.get("value")?.as_u64()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    /// The states and texts of what is said about a connection manager with these fields.
    fn findings(fields: Value, has_filter: bool) -> Vec<(State, String)> {
        let mut manager = fields;
        manager["@type"] = MANAGER.into();
        manager["stat_prefix"] = "ingress".into();
        if has_filter {
            manager["http_filters"] =
                json!([{ "name": "edgefold", "config_discovery": { "type_urls": [HTTP_FILTERS[0]] } }]);
        }
        let config = json!({ "configs": [{ "listeners": [{ "filters": [{ "typed_config": manager }] }] }] });
        let mut findings = Findings::default();
        check_config("Envoy", &config, true, &mut findings);
        findings.0.into_iter().map(|finding| (finding.state, finding.what)).collect()
    }

    #[test]
    fn whose_address_is_looked_up_is_checked() {
        for (fields, expected) in [
            (json!({ "use_remote_address": true }), State::Good),
            (json!({ "use_remote_address": true, "xff_num_trusted_hops": 1 }), State::Problem),
            (json!({}), State::Problem),
            (json!({ "original_ip_detection_extensions": [{ "name": "xff" }] }), State::Good),
        ] {
            let found = findings(fields.clone(), true);
            assert_eq!((found.len(), found[0].0), (1, expected), "{fields}: {found:?}");
        }
        let found = findings(json!({ "use_remote_address": true }), false);
        assert_eq!((found[0].0, found[0].1.as_str()), (State::Problem, "no listener has the filter"));
    }

    #[test]
    fn what_is_in_force_is_compared_with_the_log() {
        let of = |value: u64, end| {
            let name = format!("wasmcustom.{METRICS}edgefold.generation");
            let mut findings = Findings::default();
            check_stats("Envoy", &json!({ "stats": [{ "name": name, "value": value }] }), end, &mut findings);
            findings.0[0].state
        };
        assert_eq!((of(7, Some(7)), of(7, Some(9)), of(7, None)), (State::Good, State::Warning, State::Good));
        let mut findings = Findings::default();
        check_stats("Envoy", &json!({ "stats": [] }), Some(1), &mut findings);
        assert_eq!(findings.0[0].state, State::Warning);
    }
}
