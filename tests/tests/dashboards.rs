//! The dashboard and the alerts in `deploy/` name metrics and labels that exist, and promtool finds nothing wrong with them.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use edgefold_tests::{Edgefold, EnvoyOptions, eventually, tool, workspace};
use serde_json::{Value, json};

/// Prometheus itself adds these to every metric.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// What text in the syntax of PromQL names. An exposition has the same syntax, apart from its comments.
#[derive(Debug, Default)]
struct Names {
    metrics: BTreeSet<String>,
    /// Each label in braces, with its metric.
    selected: BTreeSet<(String, String)>,
    /// The labels of `by`, `on` and the like.
    grouped: BTreeSet<String>,
}

impl Names {
    /// Adds those in `text`. promtool checks that it is valid; what matters here is what each name is.
    fn add(&mut self, text: &str) {
        const CLAUSES: [&str; 6] = ["by", "group_left", "group_right", "ignoring", "on", "without"];
        const OPERATORS: [&str; 5] = ["and", "bool", "offset", "or", "unless"];
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_:.".contains(c);
        let (mut metric, mut in_braces, mut in_clause) = (String::new(), false, false);
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '"' => quoted(rest),
                '[' => rest.find(']').unwrap() + 1,
                first if is_part(first) => rest.find(|c| !is_part(c)).unwrap_or(rest.len()),
                first => first.len_utf8(),
            };
            let (token, after) = rest.split_at(length);
            rest = after;
            match token {
                "{" => in_braces = true,
                "}" => in_braces = false,
                ")" => in_clause = false,
                token if CLAUSES.contains(&token) => in_clause = true,
                token if !token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {}
                label if in_braces => drop(self.selected.insert((metric.clone(), label.to_owned()))),
                label if in_clause => drop(self.grouped.insert(label.to_owned())),
                function if OPERATORS.contains(&function) || is_called(after) => {}
                name => {
                    name.clone_into(&mut metric);
                    self.metrics.insert(metric.clone());
                }
            }
        }
    }

    /// Those of all these expressions.
    fn of<'a>(expressions: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names = Self::default();
        expressions.into_iter().for_each(|expression| names.add(expression));
        names
    }

    /// Whether some metric has this label.
    fn has_label(&self, label: &str) -> bool {
        TARGET_LABELS.contains(&label) || self.selected.iter().any(|(_, of_metric)| of_metric == label)
    }

    /// Asserts that everything that is named here also exists in `known`.
    fn assert_all_in(&self, known: &Self) {
        let unknown: Vec<_> = self.metrics.difference(&known.metrics).collect();
        assert!(unknown.is_empty(), "there are no such metrics: {unknown:?}");
        let is_known = |pair: &&(String, String)| known.selected.contains(pair) || TARGET_LABELS.contains(&&*pair.1);
        let unknown: Vec<_> = self.selected.iter().filter(|pair| !is_known(pair)).collect();
        assert!(unknown.is_empty(), "these metrics do not have these labels: {unknown:?}");
        let unknown: Vec<_> = self.grouped.iter().filter(|label| !known.has_label(label)).collect();
        assert!(unknown.is_empty(), "no metric has these labels: {unknown:?}");
    }
}

/// The length of the quoted string that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text[1..].find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.unwrap() + 2
}

/// Whether the name before `after` is that of a function or an aggregation.
fn is_called(after: &str) -> bool {
    let after = after.trim_start();
    ["(", "by ", "without "].iter().any(|start| after.starts_with(start))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana-dashboard.json")).unwrap()
}

/// All strings with this key, wherever they are.
fn strings<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    let nested = match value {
        Value::Array(values) => values.iter().flat_map(|value| strings(value, key)).collect(),
        Value::Object(fields) => fields.values().flat_map(|value| strings(value, key)).collect(),
        _ => Vec::new(),
    };
    nested.into_iter().chain(value.get(key).and_then(Value::as_str)).collect()
}

/// The expressions of the dashboard's panels, with values for the variables of Grafana that are not in quotes.
fn dashboard_expressions() -> Vec<String> {
    let fill = |expression: &str| expression.replace("$__rate_interval", "1m").replace("$__range", "3h");
    strings(&dashboard(), "expr").into_iter().map(fill).collect()
}

/// The alert rules, each as the lines of its block of YAML.
fn alerts() -> Vec<String> {
    read("deploy/prometheus-alerts.yaml").split("\n  - alert: ").skip(1).map(str::to_owned).collect()
}

/// The expression of an alert, on one or more lines.
fn alert_expression(alert: &str) -> &str {
    let (_, expression) = alert.split_once("\n    expr: ").unwrap();
    let end = |(at, _): &(usize, &str)| !expression[at + 1..].starts_with("      ");
    let end = expression.match_indices('\n').find(end).map_or(expression.len(), |(at, _)| at);
    expression[..end].trim_start_matches(">-")
}

/// What is in braces of a template, such as `instance` in `{{instance}}`.
fn templates(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0.trim())
}

/// Runs promtool with these arguments, which must find nothing wrong, and returns what it printed.
fn promtool(args: &[&str]) -> String {
    let output = Command::new(tool("bin/promtool")).args(args).current_dir(workspace()).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "promtool {args:?}: {text}");
    text
}

/// The metrics of a real `serve`, and of a real Envoy with both filters.
fn metrics() -> Names {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
    // One metric exists with a limit only.
    let serve = edgefold.serve_both(&["--max-age", "1h"]);
    let envoy = edgefold.envoy(EnvoyOptions::BOTH);
    eventually("the filter's metrics", || {
        envoy.list_metric("denied", "default").and(envoy.metric("ranges", "edgefold"))
    });
    let serve = reqwest::blocking::get(format!("{}/metrics", serve.admin_url())).unwrap().text().unwrap();
    let envoy = envoy.admin("stats/prometheus");
    let samples = serve.lines().chain(envoy.lines()).filter(|line| !line.starts_with('#'));
    let mut names = Names::of(samples);
    // Prometheus makes this one.
    names.metrics.insert("up".to_owned());
    names
}

#[test]
fn every_metric_and_label_of_the_dashboard_and_of_the_alerts_exists() {
    let known = metrics();
    let (dashboard, expressions, alerts) = (dashboard(), dashboard_expressions(), alerts());
    assert!(expressions.len() > 50 && alerts.len() > 20, "{} {}", expressions.len(), alerts.len());
    Names::of(expressions.iter().map(String::as_str)).assert_all_in(&known);
    Names::of(alerts.iter().map(|alert| alert_expression(alert))).assert_all_in(&known);
    for label in strings(&dashboard, "legendFormat").into_iter().flat_map(templates) {
        assert!(known.has_label(label), "{label} in the legend");
    }
    for label in alerts.iter().flat_map(|alert| templates(alert)).filter_map(|text| text.strip_prefix("$labels.")) {
        assert!(known.has_label(label), "{label} in an alert");
    }
    // The choices of the dashboard's variables.
    for definition in strings(&dashboard, "definition") {
        let choices = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (metric, label) = choices.split_once(", ").unwrap();
        Names::of([format!("{metric}{{{label}=\"\"}}").as_str()]).assert_all_in(&known);
    }
}

#[test]
fn every_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do() {
    for alert in alerts() {
        for field in ["labels: { severity: ", "summary: ", "description: "] {
            assert_eq!(alert.matches(field).count(), 1, "{field:?} in {alert}");
        }
        assert!(["critical", "warning"].iter().any(|word| alert.contains(&format!("severity: {word} }}"))), "{alert}");
    }
}

#[test]
fn the_dashboard_names_no_data_source_and_no_place() {
    let dashboard = dashboard();
    assert!(dashboard.get("id").is_none() && dashboard.get("uid").is_none(), "these are of one Grafana");
    for uid in strings(&dashboard, "uid") {
        assert_eq!(uid, "${datasource}");
    }
}

#[test]
fn promtool_accepts_the_alerts() {
    let said = promtool(&["check", "rules", "deploy/prometheus-alerts.yaml"]);
    // It has read as many as the tests above.
    assert!(said.contains(&format!("{} rules found", alerts().len())), "{said}");
}

#[test]
fn the_alerts_fire_when_they_should() {
    promtool(&["test", "rules", "tests/alerts-test.yaml"]);
}

#[test]
fn promtool_accepts_the_expressions_of_the_dashboard() {
    // It checks rules only.
    let rule = |(index, expression)| json!({ "record": format!("panel_{index}"), "expr": expression });
    let rules: Vec<Value> = dashboard_expressions().into_iter().enumerate().map(rule).collect();
    let count = rules.len();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dashboard.yaml");
    write_json(&file, &json!({ "groups": [{ "name": "dashboard", "rules": rules }] }));
    let said = promtool(&["check", "rules", file.to_str().unwrap()]);
    assert!(said.contains(&format!("{count} rules found")), "{said}");
}

/// JSON is YAML too.
fn write_json(file: &Path, value: &Value) {
    std::fs::write(file, value.to_string()).unwrap();
}

#[test]
fn names_are_told_apart() {
    let names = Names::of([
        r#"sum by (job, le) (rate(a_total{list="b \" c{d=", x!~"e"}[5m])) > 2e3 and on (job) f:g offset 1h"#,
        "max without (x) (h) or time() - i > bool 1h2m unless on () (j / k{})",
    ]);
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names.metrics, set(&["a_total", "f:g", "h", "i", "j", "k"]));
    assert_eq!(names.selected, ["list", "x"].map(|label| ("a_total".to_owned(), label.to_owned())).into());
    assert_eq!(names.grouped, set(&["job", "le", "x"]));
}
